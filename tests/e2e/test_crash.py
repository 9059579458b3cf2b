"""Kills, interruptions, resumes: nothing is lost, and the bits are those of an undisturbed run."""
import os
import pathlib
import random
import shutil
import signal
import time

from e2e import DEEP, SLOW, case, check, done, finish, journal, main, option, refused, run
from e2e import same_run, start, tiny_run, write_text

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
    for i in range(4 * KILLS):
        if hit == KILLS:
            break
        shutil.rmtree("killed", ignore_errors=True)
        threads = 1 + i % 3
        process = start(*tiny_run("killed", *RUN, "--threads", threads))
        result = end_after(process, draw.uniform(0.02, seconds), signal.SIGKILL)
        hit += result.status == -signal.SIGKILL
        if not result.status:
            seconds *= 0.8                # the machine has become faster than it was
        whole_checkpoints("killed")
        if result.status:
            done(*go_on("killed", "--threads", 1 + (i + 1) % 3), timeout=120)
        same_run("whole", "killed")
    check(hit == KILLS, f"only {hit} kills came before the end of a run")


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


def temporaries():
    return set(pathlib.Path("cache").rglob("*.tmp"))


def tokenizing():
    """A training run that has begun to write its token file, and that file."""
    if not os.path.exists("long.txt"):
        text = pathlib.Path(write_text("piece.txt", 1 << 20)).read_bytes()
        pathlib.Path("long.txt").write_bytes(text * 24)     # two batches of the tokenizer
        done("tokenizer", "train", "--data", "piece.txt", "--vocab", "400", "--out", "tok.json")
    before, deadline = temporaries(), time.time() + 30
    process = start(*tiny_run("early", "--budget", "1steps", "--threads", "1", "--tokenizer",
                              "tok.json", data="long.txt"))
    while not (new := temporaries() - before):
        check(time.time() < deadline, "no token file was begun")
        time.sleep(0.002)
    return process, new.pop()


@case
def interrupted_while_tokenizing():
    """The half-written token file goes: at once, or with the next use of the cache."""
    for number in (signal.SIGINT, signal.SIGTERM):
        process, _ = tokenizing()
        result = end_after(process, 0, number)
        check(result.status == 130, f"signal {number}: status 130", result)
        check("tokenizing" in result.err, "the message does not say when", result)
        check(not temporaries(), "the cache holds half a file", result)
    process, killed = tokenizing()
    end_after(process, 0, signal.SIGKILL)
    check(killed.exists(), "a killed process cannot clean up")
    process, alive = tokenizing()
    check(temporaries() == {alive}, "what the killed process left is still there")
    os.kill(process.pid, signal.SIGSTOP)
    done(*tiny_run("beside", "--budget", "1steps"))
    check(temporaries() == {alive}, "the file of a live process was removed")
    os.kill(process.pid, signal.SIGCONT)
    check(finish(process).status == 0, "the stopped process could not go on")
    check(not temporaries() and not list(pathlib.Path(".").glob("early/*.tmp")),
          "temporaries were left behind")


@case
def diverged():
    """Status 3; the journal says so, and the last checkpoint is whole: before the first evaluation
    (no best), by an evaluation, and by the guard on the smoothed loss."""
    reckless = ["--budget", "200steps", "--lr", "10", "--clip", "0", "--warmup", "0", "--schedule",
                "constant", "--log-every", "1steps", "--weight-decay", "0", "--arch",
                "llama"]
    sgd = ["--optimizer", "sgd", "--checkpoint-every", "1steps"]
    for more, words, best, loss in (
            ([*sgd, "--eval-every", "0"], ["not finite", "--lr"], False, False),
            ([*sgd, "--eval-every", "1steps"], ["validation loss", "--lr"], True, False),
            (["--eval-every", "20steps"], ["rose from", "--lr"], True, True)):
        shutil.rmtree("wild", ignore_errors=True)
        refused(run(*tiny_run("wild", *reckless, *more)), 3, *words)
        whole_checkpoints("wild")
        events = journal("wild")
        end = events[-1]
        check(end["event"] == "end" and end["reason"] == "diverged", f"the journal ends: {end}")
        check((end["loss"] is not None) == loss, f"the loss at the end: {end['loss']}")
        check(os.path.exists("wild/best") == best, "best is a link to what was evaluated")
        check("<svg" in pathlib.Path("wild/report.html").read_text(), "no report")
        for command in (["generate", "wild/last", "--prompt", "Ann", "--tokens", "3"],
                        ["eval", "wild/last", "--data", "text.txt"], ["info", "wild"],
                        ["info", "wild/last"], ["report", "wild"]):
            done(*command)
        refused(run("train", "--resume", "wild"), 3, *words)
        check(journal("wild") == events, "a resume diverged otherwise")


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
    ids, a low-rank head."""
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
            "half": ["--compute", "auto"],      # bfloat16 where the processor has it
            "ranked": ["--head-rank", "8", "--head-full", "20"],
            "few-ranked": ["--head-rank", "8", "--head-full", "20", "--compact-vocab", "--no-tied",
                           "--sample-every", "11steps"],
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
