"""Adapters with magnitudes (DoRA) and with dropout: resumed, cut and merged, the same."""
import json
import math
import os
import pathlib
import shutil

from e2e import TINY, case, check, done, journal, main, refused, run, tiny_run, write_text

RUN = ["--budget", "40steps", "--checkpoint-every", "20steps", "--eval-every", "20steps",
       "--log-every", "1steps", "--keep", "0", "--rank", "3", "--lr", "0.01", "--train-norms"]
KINDS = {"dora": ["--adapter", "dora"],
         "dora-again": ["--adapter", "dora", "--checkpointing", "yes", "--rank-pattern", "q=0"],
         "dropping": ["--adapter", "lora", "--lora-dropout", "0.2"]}


def base():
    if not os.path.exists("base"):
        done(*tiny_run("base", "--budget", "60steps"))
    return "base"


def adapted(out, kind, *more, model=None):
    """A run of that kind; TINY without what the base decides."""
    options = TINY[TINY.index("--seq"):]
    if not os.path.exists(out):
        done("train", "--base", model or base(), "--data", "text.txt", "--out", out, *options, *RUN,
             *KINDS[kind], *more)
    return out


def values(path):
    """A safetensors file without its metadata, which names the base."""
    data = pathlib.Path(path).read_bytes()
    n = 8 + int.from_bytes(data[:8], "little")
    tensors = json.loads(data[8:n])
    tensors.pop("__metadata__")
    return tensors, data[n:]


def same_adapters(a, b):
    for name in ("adapter_model.safetensors", "train_state.safetensors"):
        check(values(f"{a}/last/{name}") == values(f"{b}/last/{name}"), f"{a} and {b}: {name}")


@case
def resumed_from_the_middle():
    """From a checkpoint in the middle, with other threads: the bits of the undisturbed run."""
    for kind in KINDS:
        whole, cut = adapted(kind, kind), f"{kind}-cut"
        shutil.copytree(whole, cut, symlinks=True)
        shutil.rmtree(f"{cut}/step-40")
        for link in ("last", "best"):
            os.remove(f"{cut}/{link}")
            os.symlink("step-20", f"{cut}/{link}")
        done("train", "--resume", cut, "--threads", "1")
        same_adapters(whole, cut)
        check(journal(whole) == journal(cut), f"{kind}: the journals differ")


@case
def cut_into_micro_batches():
    for kind in KINDS:
        same_adapters(adapted(kind, kind),
                      adapted(f"{kind}-parts", kind, "--micro-batch", "32", "--threads", "2"))


@case
def on_a_quantised_base():
    """QLoRA and QDoRA: a base in blocks trains as its exact values do, in floats."""
    for dtype in "q8_0", "q4_0", "bf16":
        done("convert", base(), f"{dtype}.gguf", "--dtype", dtype)
        done("convert", f"{dtype}.gguf", f"{dtype}-exact", "--dtype", "f32")
        for kind in "dora", "dropping":
            same_adapters(*(adapted(f"{kind}-on-{model}", kind, model=model)
                            for model in (f"{dtype}.gguf", f"{dtype}-exact")))


@case
def it_learns_and_says_what_it_is():
    for kind in KINDS:
        run_dir = adapted(kind, kind)
        config = json.loads(pathlib.Path(run_dir, "last/adapter_config.json").read_text())
        check(config["use_dora"] == (kind != "dropping"), f"{config}")
        check(config["lora_dropout"] == (0.2 if kind == "dropping" else 0), f"{config}")
        losses = [e["loss"] for e in journal(run_dir) if e["event"] == "eval"]
        check(losses[-1] < losses[0], f"{kind}: {losses}")


@case
def beside_the_base_as_merged():
    adapter = adapted("dora", "dora") + "/last"
    done("convert", base(), "merged", "--merge", adapter)
    how = ["--data", "text.txt", "--part", "valid", "--seq", "32", "--compute", "f32", "--json"]
    beside = done("eval", base(), "--adapter", adapter, *how).json()
    merged, alone = (done("eval", m, *how).json() for m in ("merged", base()))
    check(math.isclose(beside["loss"], merged["loss"], rel_tol=1e-6), f"{beside} {merged}")
    check(beside["loss"] < alone["loss"], f"{beside} {alone}")
    said = [done("generate", *m, "--prompt", "Ann saw", "--tokens", "20", "--greedy", "--json",
                 "--compute", "f32").json()["text"]
            for m in ([base(), "--adapter", adapter], ["merged"])]
    check(said[0] == said[1], f"{said}")


@case
def dropout_is_for_lora():
    write_text("text.txt")
    refused(run("train", "--base", base(), "--data", "text.txt", "--out", "no", "--adapter", "dora",
                "--lora-dropout", "0.1"), 2, "--lora-dropout", "--adapter lora")
    check(not os.path.exists("no"), "left behind")


if __name__ == "__main__":
    main()
