"""Optimizers in little memory, from outside: BAdam and APOLLO-Mini."""
import json
import os
import pathlib
import random
import signal
import time

from e2e import SLOW, TINY, Skip, case, check, done, finish, journal, main, refused, run, same_run
from e2e import start, tiny_run

RUN = ["--budget", "60steps", "--checkpoint-every", "7steps", "--eval-every", "20steps",
       "--log-every", "1steps", "--keep", "0", "--lr", "0.005"]
KINDS = {"badam": ["--optimizer", "badam", "--block-updates", "5"],
         "apollo": ["--optimizer", "apollo-mini"]}


def base():
    if not os.path.exists("base"):
        done(*tiny_run("base", "--budget", "60steps"))
    return "base"


def tuned(out, kind, *more, model=None):
    if not os.path.exists(out):
        done("train", "--base", model or base(), "--data", "text.txt", "--out", out,
             *TINY[TINY.index("--seq"):], *RUN, *KINDS[kind], *more)
    return out


@case
def they_learn():
    for kind in KINDS:
        losses = [e["loss"] for e in journal(tuned(kind, kind)) if e["event"] == "eval"]
        check(losses[-1] < losses[0], f"{kind}: {losses}")
        done(*tiny_run(f"{kind}-anew", *RUN, *KINDS[kind]))


@case
def one_block_moves_at_a_time():
    """In the first five updates the rows of one layer (or of none) change, in the next others."""
    tuned("moves", "badam", "--checkpoint-every", "5steps")
    order = []
    for step in range(0, 15, 5):
        before, after = (tensors(f"moves/step-{s}") for s in (step, step + 5))
        moved = {".".join(name.split(".")[:3]) if ".layers." in name else "rest"
                 for name in before if before[name] != after[name]}
        check(len(moved) == 1, f"updates {step} to {step + 5} moved {moved}")
        order += moved
    check(len(set(order)) == 3, f"the first cycle was {order}")


def tensors(path):
    data = pathlib.Path(path, "model.safetensors").read_bytes()
    n = 8 + int.from_bytes(data[:8], "little")
    return {name: data[n + t["data_offsets"][0]:n + t["data_offsets"][1]]
            for name, t in json.loads(data[8:n]).items() if name != "__metadata__"}


@case
def threads_and_cuts_change_nothing():
    for kind in KINDS:
        whole = tuned(kind, kind)
        same_run(whole, tuned(f"{kind}-one", kind, "--threads", "1"))
        for name, more in (("cut", ["--micro-batch", "32"]), ("again", ["--checkpointing", "yes"])):
            other = tuned(f"{kind}-{name}", kind, *more)
            check(tensors(f"{whole}/last") == tensors(f"{other}/last"), f"{kind}, {name}")


@case
def killed_and_resumed():
    draw = random.Random(5)
    for kind in KINDS:
        words = ["train", "--base", base(), "--data", "text.txt", "--out", f"{kind}-torn",
                 *TINY[TINY.index("--seq"):], *RUN, *KINDS[kind]]
        for _ in range(40):
            process = start(*words)
            time.sleep(draw.uniform(0, 0.15) * (8 if SLOW else 1))
            os.kill(process.pid, signal.SIGKILL)
            if finish(process).status == 0:
                break
            if os.path.exists(f"{kind}-torn/last"):
                words = ["train", "--resume", f"{kind}-torn"]
        else:
            done(*words)
        same_run(tuned(kind, kind), f"{kind}-torn")


@case
def plan_predicts_memory():
    if SLOW:
        raise Skip("sanitizers take memory of their own")
    peaks = {}
    for kind in ("adamw", "apollo-mini", "badam"):
        words = ["--data", "text.txt", "--dim", "512", "--layers", "5", "--heads", "8",
                 "--kv-heads", "2", "--ffn", "1408", "--seq", "64", "--tokenizer", "bytes",
                 "--batch-tokens", "128", "--budget", "3steps", "--threads", "2",
                 "--optimizer", kind, "--block-updates", "1"]
        predicted = done("plan", *words, "--json").json()["peak_bytes"]
        peaks[kind] = done("train", *words, "--out", f"large-{kind}").peak_bytes
        check(abs(peaks[kind] / predicted - 1) <= 0.05, f"{kind}: plan says {predicted / 1e6} MB, "
              f"the run took {peaks[kind] / 1e6} MB")
    check(peaks["badam"] < peaks["apollo-mini"] < peaks["adamw"], f"{peaks}")


@case
def badam_is_for_the_whole_model():
    refused(run("train", "--base", base(), "--adapter", "lora", "--optimizer", "badam", "--data",
                "text.txt", "--out", "no"), 2, "badam", "adapter")


if __name__ == "__main__":
    main()
