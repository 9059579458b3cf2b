"""Too little disk, too little memory, too large a job: a message, the right status, no loss."""
import os
import pathlib
import random
import resource
import shutil
import subprocess

from e2e import DEEP, SHAPE, SLOW, Skip, case, check, done, main, refused, run, same_run, tiny_run
from e2e import write_text

RUN = ["--budget", "40steps", "--checkpoint-every", "5steps", "--log-every", "1steps",
       "--keep", "0"]


@case
def disk_fills_up():
    """Training on a small disk of its own; when there is room again, the run goes on."""
    os.makedirs("disk", exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "disk"],
                             capture_output=True).returncode == 0
    if not mounted:
        raise Skip("a small disk can only be mounted by root")
    try:
        done(*tiny_run("roomy", *RUN))
        result = run(*tiny_run("disk/run", *RUN))
        refused(result, 1, "full", "disk/run")
        subprocess.run(["mount", "-o", "remount,size=64m", "disk"], check=True)
        check(os.path.exists("disk/run/last"), "no checkpoint fitted on the disk: make it larger")
        done("train", "--resume", "disk/run")
        same_run("roomy", "disk/run")
    finally:
        subprocess.run(["umount", "disk"], check=False)


@case
def files_cannot_grow():
    """The system refuses to write beyond a size, at many sizes: every writer says so."""
    write_text("text.txt")
    done(*tiny_run("model", "--budget", "5steps"))
    commands = {
        "train": lambda out: tiny_run(out, *RUN),
        "tokenizer": lambda out: ["tokenizer", "train", "--data", "text.txt", "--vocab", "400",
                                   "--out", out],
        "stories": lambda out: ["data", "stories", "--count", "2000", "--out", out],
        "csv": lambda out: ["report", "model", "--csv", out],
    }
    for name, words in commands.items():
        for size in (0, 100, 1000, 5000, 20000, 100000):
            out = f"limited-{name}-{size}"
            result = run(*words(out), limits={resource.RLIMIT_FSIZE: size})
            check(result.status in (0, 1), f"{name}, {size} bytes: status 0 or 1", result)
            if result.status == 0:
                continue
            refused(result, 1, "large")
            check(name == "train" or not os.path.exists(out), f"half of {out} was left", result)
            check(not list(pathlib.Path(".").glob(f"{out}.*")), "a temporary was left", result)
            if os.path.exists(f"{out}/last"):
                done("eval", out, "--data", "text.txt")


def allocation_commands():
    write_text("text.txt", 20000)
    if not os.path.exists("model"):
        done(*tiny_run("model", "--budget", "5steps"))
    if not os.path.exists("half"):
        done(*tiny_run("half", "--budget", "8steps", "--checkpoint-every", "4steps", "--keep", "0"))
        os.remove("half/last")
        os.symlink("step-4", "half/last")
    return {
        "train": tiny_run("fresh", "--budget", "2steps", "--threads", "1"),
        "resume": ["train", "--resume", "fresh"],
        "generate": ["generate", "model", "--prompt", "Ann", "--tokens", "4", "--threads", "1"],
        "eval": ["eval", "model", "--data", "text.txt", "--threads", "1"],
        "info": ["info", "model"],
        "info-all": ["info", "model/last", "--all"],
        "report": ["report", "model"],
        "plan": ["plan", "--data", "text.txt", *SHAPE],
        "tokenizer": ["tokenizer", "train", "--data", "text.txt", "--vocab", "300",
                      "--out", "t.json"],
        "stories": ["data", "stories", "--count", "5", "--out", "s.txt"],
    }


def fail_at(words, n):
    shutil.rmtree("fresh", ignore_errors=True)
    if "--resume" in words:
        shutil.copytree("half", "fresh", symlinks=True)
    elif words[0] == "train":
        shutil.rmtree("cache", ignore_errors=True)      # tokenizing belongs to it
    return run(*words, env={"AA_FAIL_ALLOC_AT": str(n)})


def allocations(words):
    """How many allocations the command makes: one more succeeds, for it is never reached. This
    holds where each failure shows, which no_memory requires."""
    low, high = 0, 16
    while (result := fail_at(words, high)).status:
        check(high < 2 ** 22, "it fails however late the failing allocation comes", result)
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fail_at(words, middle).status else (low, middle)
    return low


@case
def no_memory():
    """The n-th allocation fails, for every n (a sample of them without AA_DEEP)."""
    draw = random.Random(5)
    for name, words in allocation_commands().items():
        total = allocations(words)
        check(total > 16, f"{name}: no allocation can be made to fail")
        picks = range(1, total + 1)
        if not DEEP:
            picks = sorted(draw.sample(picks, min(total, 12)))
        for n in picks:
            result = fail_at(words, n)
            check(result.status == 1, f"{name}, allocation {n} of {total}", result)
            refused(result, 1, "memory")


@case
def plan_predicts_memory():
    if SLOW:
        raise Skip("sanitizers need memory of their own")
    write_text("text.txt", 200000)
    for shape in (["--dim", "384", "--layers", "6", "--heads", "6", "--ffn", "1024", "--seq", "128",
                   "--batch-tokens", "2048"],
                  ["--dim", "256", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--seq",
                   "512", "--batch-tokens", "4096", "--vocab", "8192", "--tied"],
                  ["--dim", "320", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--seq",
                   "128", "--batch-tokens", "2048", "--vocab", "30000", "--tied", "--head-rank",
                   "64"]):
        words = ["--data", "text.txt", "--tokenizer", "bytes", "--eval-tokens", "1024",
                 "--budget", "2steps", *shape]
        predicted = done("plan", *words, "--json").json()["peak_bytes"]
        measured = done("train", *words, "--out", f"plan{shape[1]}", timeout=120).peak_bytes
        off = predicted / measured - 1
        check(abs(off) <= 0.05, f"plan says {predicted / 1e6:.1f} MB, the run took "
              f"{measured / 1e6:.1f} MB ({off:+.1%}) for {' '.join(shape)}")


@case
def impossible_job():
    write_text("text.txt")
    huge = ["--data", "text.txt", "--tokenizer", "bytes", "--dim", "16384", "--layers", "200",
            "--heads", "128", "--seq", "4096", "--batch-tokens", "4096", "--budget", "10steps"]
    for words in (["plan", *huge], ["train", *huge, "--out", "huge"]):
        result = run(*words)
        refused(result, 2, "GiB", "available")
        check(any(word in result.err for word in ("--dim", "--layers", "dim", "layers", "preset")),
              "no advice", result)
        check(result.wall_s < (60 if SLOW else 10), f"it took {result.wall_s:.2f} s", result)
    check(not os.path.exists("huge"), "the refused job left a directory")


@case
def absurd_sizes():
    """However large the numbers, sizes do not wrap around: a refusal at once, with advice."""
    write_text("text.txt")
    if not os.path.exists("model"):
        done(*tiny_run("model", "--budget", "5steps"))
    data = ["--data", "text.txt", "--tokenizer", "bytes"]
    largest = ["--layers", "1024", "--dim", "65536", "--ffn", "262144", "--heads", "1024",
               "--head-dim", "1024", "--vocab", "4194304", "--seq", "1048576"]
    for words, advice in (
            (["plan", *data, *largest], "--layers"),
            (["plan", *data, *largest, "--batch-tokens", "1e9"], "smaller"),
            (["train", *data, *largest, "--batch-tokens", "1e9", "--out", "never"], "smaller"),
            (["plan", *data, "--layers", "1024", "--dim", "65536", "--heads", "1024"], "--dim"),
            (["bench", "step", *largest], "smaller"),
            (["bench", "decode", *largest, "--context", "1e6"], "--context"),
            (["bench", "gemm", "--tokens", "1e6", "--rows", "1e6", "--cols", "1e6"], "--rows"),
            (["generate", "model", "--context", "1e9"], "at most")):
        result = run(*words)
        refused(result, 2, "GiB", "available", advice)
        if words[1] == "gemm":
            continue                    # it measures the machine first
        check(result.wall_s < (60 if SLOW else 10), f"it took {result.wall_s:.2f} s", result)
    check(not os.path.exists("never"), "the refused job left a directory")
    refused(run("generate", "model", "--tokens", "1e12"), 2, "--tokens", "1000000000")


@case
def largest_context():
    """The context named in the refusal is one that is accepted; one much larger is not."""
    if not os.path.exists("model"):
        done(*tiny_run("model", "--budget", "5steps"))
    refusal = run("generate", "model", "--context", "1e9").err
    fits = int(refusal.split("at most ")[1].split()[0])
    check(10 ** 5 < fits < 10 ** 9, f"{fits} positions cannot be right")
    refused(run("generate", "model", "--context", int(fits * 1.3)), 2, "at most")


if __name__ == "__main__":
    main()
