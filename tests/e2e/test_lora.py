"""Adapters from outside: the contract of the commands, from training to a merged model."""
import json
import math
import os
import pathlib
import random
import shutil
import signal
import time

from e2e import SHAPE, SLOW, TINY, Skip, case, check, done, finish, journal, main, refused, run
from e2e import start, tiny_run, write_text

HOW = TINY[TINY.index("--seq"):]                         # without what the base decides
RUN = ["--budget", "40steps", "--checkpoint-every", "20steps", "--eval-every", "20steps",
       "--log-every", "1steps", "--keep", "0", "--lr", "0.01"]
VALID = ["--data", "text.txt", "--part", "valid", "--seq", "32", "--compute", "f32", "--json"]


def base():
    if not os.path.exists("base"):
        done(*tiny_run("base", "--budget", "60steps"))
    return "base"


def adapted(out, *more, model=None):
    if not os.path.exists(out):
        done("train", "--base", model or base(), "--adapter", "lora", "--data", "text.txt",
             "--out", out, *HOW, *RUN, *more)
    return out


def weights(run_dir, link="last", name="adapter_model.safetensors"):
    return pathlib.Path(run_dir, link, name).read_bytes()


def same(a, b, *links):
    for link in links or ["last"]:
        for name in ("adapter_model.safetensors", "train_state.safetensors"):
            check(weights(a, link, name) == weights(b, link, name), f"{a} and {b}: {link}/{name}")


def header(run_dir):
    data = weights(run_dir)
    return json.loads(data[8:8 + int.from_bytes(data[:8], "little")])


def config(run_dir):
    return json.loads(pathlib.Path(run_dir, "last/adapter_config.json").read_text())


@case
def last_and_best_are_peft_directories():
    a = adapted("plain")
    for link in "last", "best":
        names = sorted(os.listdir(f"{a}/{link}"))
        check(names == ["adapter_config.json", "adapter_model.safetensors", "run.json",
                        "train_state.safetensors"], f"{link}: {names}")
    c = config(a)
    check(c["peft_type"] == "LORA" and c["r"] == 8 and c["lora_alpha"] == 16, f"{c}")
    check(sorted(c["target_modules"]) == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj",
                                          "up_proj", "v_proj"], f"{c}")
    check(c["base_model_name_or_path"] == os.path.realpath("base"), f"{c}")
    check(len(header(a)) == 2 * 7 * 2 + 1, f"{sorted(header(a))}")
    losses = [e["loss"] for e in journal(a) if e["event"] == "eval"]
    check(losses[-1] < losses[0], f"{losses}")


@case
def what_trains_is_what_was_asked_for():
    c = config(adapted("some", "--targets", "q,down", "--rank", "4", "--alpha", "4", "--rslora",
                       "--rank-pattern", "down=2,0.q=0"))
    check(c["use_rslora"] and c["r"] in (2, 4), f"{c}")
    rows = header("some")
    check(not any("layers.0.self_attn" in name for name in rows), f"{sorted(rows)}")
    shapes = {name.split(".")[-3]: t["shape"] for name, t in rows.items() if "lora_A" in name}
    check(shapes == {"q_proj": [4, 32], "down_proj": [2, 64]}, f"{shapes}")
    check(any("norm" in n for n in header(adapted("norms", "--train-norms"))), "no norms")
    rows = header(adapted("tables", "--train-tables", "embedding"))
    check(any("embed_tokens" in name for name in rows), f"{sorted(rows)}")


@case
def rates_differ_where_asked():
    """LoRA-FA leaves A at its start, LoRA+ changes B alone in the first update."""
    runs = {"one": [], "plus": ["--lora-plus", "4"], "fa": ["--freeze-a"]}
    plain, plus, frozen = (header_tensors(adapted(out, "--budget", "1steps", *more))
                           for out, more in runs.items())
    start_of = header_tensors("one", "step-0")
    for name, data in plain.items():
        is_a = "lora_A" in name
        check((frozen[name] == start_of[name]) == is_a, f"LoRA-FA: {name}")
        check((plus[name] == data) == is_a or not any(data), f"LoRA+: {name}")


def header_tensors(run_dir, link="last"):
    data = weights(run_dir, link)
    n = 8 + int.from_bytes(data[:8], "little")
    return {name: data[n + t["data_offsets"][0]:n + t["data_offsets"][1]]
            for name, t in json.loads(data[8:n]).items() if name != "__metadata__"}


@case
def threads_and_cuts_change_nothing():
    whole = adapted("whole", "--lora-dropout", "0.1", "--threads", "1")
    same(whole, adapted("two", "--lora-dropout", "0.1", "--threads", "2"), "last", "best")
    same(whole, adapted("cut", "--lora-dropout", "0.1", "--micro-batch", "32"))
    same(whole, adapted("twice", "--lora-dropout", "0.1", "--checkpointing", "yes"))


@case
def killed_and_resumed():
    """Killed at random moments until it is done: the bits of the undisturbed run."""
    calm = adapted("calm", "--checkpoint-every", "5steps")
    draw = random.Random(3)
    words = ["train", "--base", base(), "--adapter", "lora", "--data", "text.txt", "--out", "torn",
             *HOW, *RUN, "--checkpoint-every", "5steps"]
    for _ in range(40):
        process = start(*words)
        time.sleep(draw.uniform(0, 0.15) * (8 if SLOW else 1))
        os.kill(process.pid, signal.SIGKILL)
        result = finish(process)
        if result.status == 0:
            break
        if os.path.exists("torn/last"):
            words = ["train", "--resume", "torn"]
    else:
        done(*words)
    same(calm, "torn", "last", "best")
    check(journal(calm) == journal("torn"), "the journals differ")


@case
def the_base_stays_where_it_is():
    """Every type of base trains as its exact values do in floats, and is not copied."""
    for dtype in "f16", "bf16", "q8_0", "q4_0":
        done("convert", base(), f"{dtype}.gguf", "--dtype", dtype)
        done("convert", f"{dtype}.gguf", f"{dtype}-exact", "--dtype", "f32")
        same_values(*(adapted(f"on-{m}", model=m) for m in (f"{dtype}.gguf", f"{dtype}-exact")))


def same_values(a, b):
    check(header_tensors(a) == header_tensors(b), f"{a} and {b} differ")


@case
def a_run_finds_its_base():
    """generate, eval and convert take the run, from any folder; beside = merged."""
    a = os.path.abspath(adapted("plain"))
    want = done("eval", base(), "--adapter", f"{a}/best", *VALID).json()["loss"]
    for path in a, f"{a}/best", os.path.relpath(f"{a}/best"):
        got = done("eval", path, *VALID).json()["loss"]
        check(got == want, f"{path}: {got}, beside its base {want}")
    check(done("eval", base(), "--adapter", a, *VALID).json()["loss"] == want, "--adapter RUN")
    done("convert", base(), "merged", "--merge", a)
    check(math.isclose(done("eval", "merged", *VALID).json()["loss"], want, rel_tol=1e-6), "merged")
    os.makedirs("elsewhere", exist_ok=True)
    greedy = ["--prompt", "Ann saw", "--tokens", "20", "--greedy", "--json", "--compute", "f32"]
    texts = [done("generate", *m, *greedy, cwd="elsewhere").json()["text"]
             for m in ([a], ["../base", "--adapter", f"{a}/best"], ["../merged"])]
    check(len(set(texts)) == 1, f"{texts}")
    done("convert", a, "elsewhere/adapter.gguf", "--to", "gguf")
    got = done("eval", base(), "--adapter", "elsewhere/adapter.gguf", *VALID).json()["loss"]
    check(math.isclose(got, want, rel_tol=1e-6), f"through GGUF: {got}, not {want}")
    check("adapter (peft" in done("info", f"{a}/best").out, "info")


@case
def another_base_is_refused():
    """By the digest of its weights, whatever it is called; the one that moved is taken."""
    shutil.copytree("base", "own", symlinks=True)
    adapted("moved", model="own")
    cut = "moved/step-40"
    for link in "last", "best":
        os.remove(f"moved/{link}")
        os.symlink("step-20", f"moved/{link}")
    shutil.rmtree(cut)
    os.rename("own", "away")
    refused(run("generate", "moved", "--prompt", "A", "--tokens", "2"), 1, "own", "moved", "base")
    done(*tiny_run("own", "--budget", "60steps", "--seed", "8"))
    refused(run("generate", "moved", "--prompt", "A", "--tokens", "2"), 1, "own", "weights")
    refused(run("train", "--resume", "moved"), 2, "own", "--base")
    done("generate", "away", "--adapter", "moved", "--prompt", "A", "--tokens", "2")
    done("train", "--resume", "moved", "--base", "away")
    check(header_tensors("moved") == header_tensors(adapted("plain")), "other weights")


@case
def plan_predicts_memory():
    if SLOW:
        raise Skip("sanitizers take memory of their own")
    shape = ["--dim", "256", "--layers", "6", "--heads", "4", "--kv-heads", "2", "--ffn", "704",
             "--seq", "128", "--tokenizer", "bytes"]
    write_text("text.txt")
    done("train", "--data", "text.txt", *shape, "--batch-tokens", "128", "--budget", "1steps",
         "--out", "large")
    done("convert", "large", "large.gguf", "--dtype", "q4_0")
    for model, more in (("large", []), ("large", ["--checkpointing", "yes"]), ("large.gguf", []),
                        ("large.gguf", ["--adapter", "dora"])):
        words = ["--base", model, "--adapter", "lora", "--data", "text.txt", "--seq", "128",
                 "--batch-tokens", "2048", "--budget", "2steps", "--threads", "2", *more]
        shutil.rmtree("large-lora", ignore_errors=True)
        predicted = done("plan", *words, "--json").json()["peak_bytes"]
        measured = done("train", *words, "--out", "large-lora").peak_bytes
        check(abs(measured / predicted - 1) <= 0.05, f"{model} {more}: plan says {predicted / 1e6} "
              f"MB, the run took {measured / 1e6} MB")


@case
def mistakes_are_explained():
    words = ["train", "--data", "text.txt", "--out", "no"]
    on_base = [*words, "--base", base(), "--adapter", "lora"]
    for more, told in (([*words, *SHAPE, "--adapter", "lora"], ["--base"]),
                       ([*on_base, "--targets", "q,x"], ["--targets", "'x'", "gate"]),
                       ([*on_base, "--rank", "0"], ["--rank"]),
                       ([*on_base, "--rank-pattern", "9.q=4"], ["--rank-pattern", "0..1"]),
                       ([*on_base, "--targets", ""], ["--targets"]),
                       ([*on_base, "--train-tables", "norms"], ["--train-tables", "embedding"]),
                       ([*on_base, "--device", "blas"], ["--device"])):
        refused(run(*more), 2, *told)
    check(not os.path.exists("no"), "a refused command line left a directory")
    refused(run("generate", base(), "--adapter", "base/best", "--prompt", "A"), 1, "adapter_config")


if __name__ == "__main__":
    main()
