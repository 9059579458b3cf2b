"""Kills, interruptions, resumes: nothing is lost, and the bits are those of an undisturbed run."""
import os
import pathlib
import random
import shutil
import signal
import time

from e2e import DEEP, SLOW, case, check, done, finish, journal, main, refused, run, same_run
from e2e import start, tiny_run

STEPS = 300
RUN = ["--budget", f"{STEPS}steps", "--checkpoint-every", "25steps", "--eval-every", "100steps",
       "--log-every", "1steps", "--keep", "2"]
KILLS = 30 if DEEP else 6


def reference():
    """The undisturbed run, made once, and how long it takes."""
    began = time.time()
    if not os.path.exists("whole"):
        done(*tiny_run("whole", *RUN, "--threads", "2"), timeout=120)
        pathlib.Path("whole/seconds").write_text(str(time.time() - began))
    return float(pathlib.Path("whole/seconds").read_text())


def end_after(process, delay, with_signal):
    """Sends the signal after the delay; returns the result of the process."""
    time.sleep(delay)
    os.kill(process.pid, with_signal)       # not yet waited for, so the number is still its own
    return finish(process, 120)


def go_on(run_dir, *more):
    """Arguments that continue a run; killed before its first checkpoint, it is begun again."""
    if os.path.exists(f"{run_dir}/last"):
        return ["train", "--resume", run_dir, *more]
    return tiny_run(run_dir, *RUN, *more)


def whole_checkpoints(run_dir):
    """Whatever is named step-N is complete."""
    for step in pathlib.Path(run_dir).glob("step-*"):
        if step.name.endswith(".tmp"):
            continue
        for name in ("model.safetensors", "train_state.safetensors", "run.json", "config.json"):
            check((step / name).exists(), f"{step} is not whole: {name} is missing")


@case
def killed_at_random_moments():
    """One run after the other is killed once, and continued with another number of threads."""
    seconds, draw, hit = reference(), random.Random(11), 0
    for i in range(KILLS):
        shutil.rmtree("killed", ignore_errors=True)
        threads = 1 + i % 3
        process = start(*tiny_run("killed", *RUN, "--threads", threads))
        result = end_after(process, draw.uniform(0.02, seconds), signal.SIGKILL)
        hit += result.status == -signal.SIGKILL
        whole_checkpoints("killed")
        if result.status:
            done(*go_on("killed", "--threads", 1 + (i + 1) % 3), timeout=120)
        same_run("whole", "killed")
    check(hit >= KILLS // 2, f"only {hit} of {KILLS} kills came before the end of the run")


@case
def killed_again_and_again():
    """One run, killed until it is through."""
    seconds, draw = reference(), random.Random(12)
    shutil.rmtree("hunted", ignore_errors=True)
    for i in range(60):
        delay = draw.uniform(0.2, 1.0) * seconds
        process = start(*go_on("hunted", "--threads", 1 + i % 3))
        result = end_after(process, delay, signal.SIGKILL)
        if result.status == 0:
            break
    check(result.status == 0, "the run did not end in 60 attempts", result)
    same_run("whole", "hunted")


@case
def interrupted():
    for number in (signal.SIGINT, signal.SIGTERM):
        seconds = reference()
        shutil.rmtree("stopped", ignore_errors=True)
        process = start(*tiny_run("stopped", *RUN))
        deadline = time.time() + 30 * (8 if SLOW else 1)
        log = pathlib.Path("stopped/journal.jsonl")
        while time.time() < deadline and not (log.exists() and log.stat().st_size > 4000):
            time.sleep(0.01)
        result = end_after(process, 0.1 * seconds, number)
        check(result.status == 130, f"signal {number}: status 130", result)
        check("resume" in result.err, "the message says how to go on", result)
        check("interrupted" in log.read_text(), "the journal does not say 'interrupted'")
        done("train", "--resume", "stopped", timeout=120)
        same_run("whole", "stopped")


@case
def leftovers_are_swept():
    """A temporary checkpoint of a killed run does not stop the next one."""
    reference()
    shutil.rmtree("left", ignore_errors=True)
    process = start(*tiny_run("left", *RUN))
    end_after(process, 0.5 * reference(), signal.SIGKILL)
    if not os.path.exists("left/last"):
        return
    for name in ("step-40.tmp", f"step-{STEPS}.tmp"):
        os.makedirs(f"left/{name}", exist_ok=True)
        pathlib.Path(f"left/{name}/model.safetensors").write_bytes(b"half")
    done("train", "--resume", "left", timeout=120)
    same_run("whole", "left")
    check(not list(pathlib.Path("left").glob("*.tmp")), "temporary checkpoints were left behind")


@case
def resume_of_a_finished_run():
    reference()
    shutil.copytree("whole", "finished", symlinks=True)
    result = run("train", "--resume", "finished")
    said = any(word in result.err for word in ("finished", "complete", "budget"))
    check(result.status == 0 or said, "it does not say that nothing is left to do", result)
    same_run("whole", "finished")


@case
def resume_refuses_other_mathematics():
    reference()
    refused(run("train", "--resume", "whole", "--lr", "0.5"), 2, "lr")
    refused(run("train", "--resume", "whole", "--layers", "3"), 2, "layers")


def option(run_dir, key):
    """The value of an option in config.ini."""
    for line in pathlib.Path(run_dir, "config.ini").read_text().splitlines():
        if line.startswith(f"{key} = "):
            return line.split(" = ", 1)[1]
    return None


def back_to(step, run_dir):
    """A copy of a run as it is after a kill: its last checkpoint is an earlier one."""
    copy = f"{run_dir}-at-{step}"
    shutil.copytree(run_dir, copy, symlinks=True)
    for link in ("last", "best"):
        os.remove(f"{copy}/{link}")
    os.symlink(f"step-{step}", f"{copy}/last")
    return copy


@case
def every_kind_of_run_resumes():
    """Options that change what a checkpoint holds: a base, a scale, other or no moments, fewer
    ids."""
    done(*tiny_run("origin", "--budget", "5steps"))
    steps = ["--budget", "40steps", "--checkpoint-every", "10steps", "--log-every", "7steps",
             "--keep", "0"]
    for name, more in {
            "based": ["--base", "origin"],
            "scaled": ["--residual-scale", "0.5", "--eval-every", "0"],
            "plain": ["--optimizer", "sgd", "--beta1", "0", "--lr", "0.1"],
            "muon": ["--optimizer", "muon", "--embed-lr", "2", "--budget", "2e8flop",
                     "--checkpoint-every", "5e7flop"],
            "compact": ["--compact-vocab", "--sample-every", "11steps"],
            "tokens": ["--budget", "5000tok", "--checkpoint-every", "1280tok"],
            "work": ["--budget", "1e9flop", "--checkpoint-every", "3e8flop"]}.items():
        done(*tiny_run(name, *steps, *more))
        last = int(os.readlink(f"{name}/last").split("-")[1])
        at = sorted(int(p.name.split("-")[1]) for p in pathlib.Path(name).glob("step-*"))[1]
        check(0 < at < last, f"{name}: there is a checkpoint between, not {at} of {last}")
        copy = back_to(at, name)
        done("train", "--resume", copy, "--threads", "2")
        same_run(name, copy)
        check(os.readlink(f"{name}/best") == os.readlink(f"{copy}/best"), f"{name}: best differs")


@case
def best_is_marked_again():
    """Killed after `last` was set and before `best` was."""
    reference()
    copy = back_to(STEPS, "whole")
    done("train", "--resume", copy)
    check(os.path.exists(f"{copy}/best"), "the best checkpoint has no link")


@case
def resume_keeps_what_it_was_told():
    """A longer budget is that of the next resume too; a new interval counts in its own unit."""
    done(*tiny_run("longer", "--budget", "20steps", "--eval-every", "10steps"))
    done("train", "--resume", "longer", "--budget", "40steps", "--eval-every", "640tok")
    check(option("longer", "budget") == "40steps", "config.ini has the old budget")
    at = [e["step"] for e in journal("longer") if e["event"] == "eval"]
    check(at == [10, 20, 25, 30, 35, 40], f"validated at {at}")


@case
def two_at_once():
    """A second process must not write into a run directory that is in use."""
    shutil.rmtree("busy", ignore_errors=True)
    first = start(*tiny_run("busy", "--budget", "100000steps", "--checkpoint-every", "50steps"))
    deadline = time.time() + 30
    while time.time() < deadline and not os.path.exists("busy/last"):
        time.sleep(0.01)
    second = run("train", "--resume", "busy", timeout=30)
    end_after(first, 0, signal.SIGTERM)
    refused(second, 1, "busy")


if __name__ == "__main__":
    main()
