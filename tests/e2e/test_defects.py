"""What the first AutoANE did wrong with files, one case each: it would fail every one of them.

BLZT and token files of its own are in test_flat.py, damaged checkpoints in test_damage.py. Files
are read here by files.py, which has nothing of the program.
"""
import json
import os
import pathlib
import random
import shutil
import struct

from files import KINDS, Gguf, floats, pairs, tensors, with_keys
from e2e import case, check, done, journal, main, refused, run, tiny_run, write_text

SCALE, THETA, SEQ = 0.5, 20000, 48


def trained():
    """From scratch with a residual scale, in the shape of most of its models: grouped heads."""
    if not os.path.exists("run"):
        done(*tiny_run("run", "--budget", "8steps", "--arch", "llama", "--heads", "4", "--kv-heads",
                       "2", "--tied", "--residual-scale", SCALE, "--rope-theta", THETA, "--seq",
                       SEQ, "--batch-tokens", "96", "--eval-every", "4steps"))
    return "run"


def converted(dtype="f32"):
    path = f"run-{dtype}.gguf"
    if not os.path.exists(path):
        done("convert", trained(), path, "--dtype", dtype)
    return path


def greedy(model):
    return done("generate", model, "--prompt", "Ann saw", "--tokens", "24", "--greedy",
                "--ignore-eos", "--compute", "f32", "--json").json()["ids"]


@case
def queries_and_keys_in_pairs():
    """Arch llama has rotary neighbours in neighbouring rows; it took the pairs apart instead."""
    weights, c = tensors(f"{trained()}/last")
    found = Gguf(converted()).tensors
    for i in range(c["num_hidden_layers"]):
        for ours, theirs, heads in (("q", "attn_q", c["num_attention_heads"]),
                                    ("k", "attn_k", c["num_key_value_heads"])):
            data = weights[f"model.layers.{i}.self_attn.{ours}_proj.weight"]
            want = pairs(data, heads, c["head_dim"])
            check(want != data, "nothing to put in order")
            check(found[f"blk.{i}.{theirs}.weight"][2] == want, f"{theirs} of block {i}")
        same = weights[f"model.layers.{i}.self_attn.v_proj.weight"]
        check(found[f"blk.{i}.attn_v.weight"][2] == same, "values need no order")


@case
def residual_scale_is_folded_in():
    """Other programs know no such scale: they read weights that have it."""
    data = pathlib.Path(trained(), "last/train_state.safetensors").read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    table = json.loads(data[8:8 + n])
    found = Gguf(converted()).tensors
    for ours, theirs in (("self_attn.o_proj", "attn_output"), ("mlp.down_proj", "ffn_down")):
        for i in range(2):
            begin, end = table[f"master.model.layers.{i}.{ours}.weight"]["data_offsets"]
            master = floats(data[8 + n + begin:8 + n + end])
            folded = floats(found[f"blk.{i}.{theirs}.weight"][2])
            check(all(SCALE * x == y for x, y in zip(master, folded)), f"{theirs} of block {i}")


@case
def rotary_base_and_window_are_those_of_the_model():
    """It wrote 10000 and 128 into every file, and no name of a pre-tokenizer."""
    done("tokenizer", "train", "--data", write_text("text.txt"), "--vocab", "300", "--out",
         "t.json")
    done(*tiny_run("bpe", "--budget", "2steps", "--arch", "llama", "--tokenizer", "t.json",
                   "--rope-theta", THETA, "--seq", SEQ, "--batch-tokens", "96"))
    done("convert", "bpe", "bpe.gguf")
    keys = Gguf("bpe.gguf").keys
    for key, value in (("llama.rope.freq_base", THETA), ("llama.context_length", SEQ),
                       ("tokenizer.ggml.pre", "smollm")):
        check(keys.get(key) == value, f"{key} is {keys.get(key)}")
    check(len(keys["tokenizer.ggml.merges"]) > 20, "no merges")


@case
def text_needs_no_option():
    """Generation took another residual scale than training unless told: the files say it."""
    loss = [e for e in journal(trained()) if e["event"] == "eval"][-1]
    for model in ("run", converted()):
        value = done("eval", model, "--data", "text.txt", "--part", "valid", "--seq", SEQ,
                     "--tokens", str(loss["eval_tokens"]), "--json").json()
        check(abs(value["loss"] - loss["loss"]) < 1e-4, f"{model}: {value['loss']}, the run said "
              f"{loss['loss']}")
    check(greedy("run") == greedy(converted()), "the same weights say something else")


@case
def bfloat16_is_type_30():
    """It read and wrote type 29, which is one of llama.cpp's small integers."""
    path = converted("bf16")
    kinds = {t[0] for t in Gguf(path).tensors.values()}
    check(kinds == {0, 30}, f"types {kinds}")
    done("convert", path, "halves", "--dtype", "bf16")
    table = tensors("halves")[0]["model.embed_tokens.weight"]
    check(table == Gguf(path).tensors["token_embd.weight"][2], "bits")
    data = bytearray(pathlib.Path(path).read_bytes())
    at = data.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 2 * 8
    check(data[at] == 30, "where the type is")
    data[at] = 29
    pathlib.Path("bad.gguf").write_bytes(data)
    refused(run("info", "bad.gguf"), 1, "bad.gguf")


@case
def every_kind_of_value():
    """Its reader knew seven kinds of thirteen, one at the wrong size, and lost its place."""
    values = {"u8": 200, "i8": -100, "u16": 60000, "i16": -30000, "u32": 4000000000,
              "i32": -2000000000, "f32": 0.1, "bool": True, "string": "Zoë\n\"x\"", "u64": 2 ** 60,
              "i64": -2 ** 60, "f64": 0.1}
    more = [(f"x.{kind}", kind, value) for kind, value in values.items()]
    more += [(f"y.{kind}", "array", (kind, [value] * 3)) for kind, value in values.items()]
    more += [("z.none", "array", ("u8", [])), ("z.many", "array", ("f64", [0.5] * 1000))]
    check(len(values) == len(KINDS) - 1, "a kind is missing")
    pathlib.Path("keys.gguf").write_bytes(with_keys(converted(), more))
    found = done("info", "keys.gguf", "--all", "--json").json()
    for kind, value in values.items():
        check(found["metadata"][f"x.{kind}"] == value, f"{kind}: {found['metadata']}")
        check(found["metadata"][f"y.{kind}"] == [value] * 3, f"{kind}: {found['metadata']}")
    check(found["metadata"]["z.none"] == [], "an empty array")
    check(found["metadata"]["z.many"] == {"array": "f64", "n": 1000}, "a long array")
    check(greedy("keys.gguf") == greedy(converted()), "another model")
    done("convert", "keys.gguf", "kept.gguf")
    check(Gguf("kept.gguf").keys == Gguf("keys.gguf").keys, "keys are lost on the way")


@case
def files_cut_short():
    """Missing weights became zeros, or what was in memory."""
    data, draw = pathlib.Path(converted()).read_bytes(), random.Random(3)
    weights = pathlib.Path("run/last/model.safetensors").read_bytes()
    shutil.copytree("run/last", "cut", dirs_exist_ok=True)
    for _ in range(25):
        pathlib.Path("cut.gguf").write_bytes(data[:draw.randrange(4, len(data))])
        refused(run("convert", "cut.gguf", "never"), 1, "cut.gguf")
        pathlib.Path("cut/model.safetensors").write_bytes(weights[:draw.randrange(len(weights))])
        refused(run("convert", "cut", "never"), 1, "cut")
    check(not os.path.exists("never"), "something was written")


@case
def what_is_there_stays():
    """Its training saved over the model it began from, its converters over whatever was there."""
    base = {p.name: p.read_bytes() for p in pathlib.Path(trained(), "last").resolve().iterdir()}
    gguf = pathlib.Path(converted()).read_bytes()
    for model, out in (("run/last", "on1"), (converted(), "on2")):
        done("train", "--data", "text.txt", "--base", model, "--out", out, "--budget", "2steps",
             "--batch-tokens", "96", "--eval-tokens", "96")
    refused(run("convert", converted(), "run/last"), 2, "there already")
    check(base == {p.name: p.read_bytes() for p in pathlib.Path("run/last").resolve().iterdir()},
          "the base was written to")
    check(gguf == pathlib.Path(converted()).read_bytes(), "the base was written to")


@case
def resume_goes_on_or_stops():
    """A checkpoint it could not read it replaced by a new model; what was asked for it ignored."""
    trained()
    shutil.copytree("run", "again", symlinks=True, dirs_exist_ok=True)
    state = pathlib.Path("again/last/train_state.safetensors")
    whole, before = state.read_bytes(), sorted(p.name for p in pathlib.Path("again").iterdir())
    state.write_bytes(whole[:len(whole) // 2])
    refused(run("train", "--resume", "again", "--budget", "10steps"), 1, "train_state")
    check(sorted(p.name for p in pathlib.Path("again").iterdir()) == before, "it went on")
    state.write_bytes(whole)
    done("train", "--resume", "again", "--budget", "11steps")
    check(journal("again")[-1]["step"] == 11, "the budget that was asked for")


@case
def ids_of_sixteen_bits():
    """It compared ids of 16 bits with a vocabulary of more, which says nothing."""
    pathlib.Path("ids.bin").write_bytes(struct.pack("<4000H", *[i % 300 for i in range(4000)]))
    words = ["train", "--data", "ids.bin", "--dim", "32", "--layers", "1", "--heads", "2", "--seq",
             "32", "--budget", "2steps", "--out", "never"]
    refused(run(*words, "--vocab", "70000"), 1, "16 bits", "70000")
    refused(run(*words, "--vocab", "299"), 1, "is 299")
    check(not os.path.exists("never"), "a refused command line left a run directory")


@case
def ids_that_were_never_trained():
    """They had rows that only weight decay had touched, and could be chosen."""
    done(*tiny_run("few", "--compact-vocab", "--budget", "20steps", "--arch", "llama", "--tied"))
    ids = set(json.loads(pathlib.Path("few/last/active_vocabulary.json").read_text())["active_ids"])
    check(len(ids) < 100, f"{len(ids)} active ids")
    done("convert", "few", "few.gguf")                   # which has no list of them
    for prompt in ("Ann", "Bob took his hat.\n", "Zoë"):
        done("generate", "few.gguf", "--prompt", prompt, "--tokens", "1", "--compute", "f32",
             "--logits", "l.safetensors")
        data = pathlib.Path("l.safetensors").read_bytes()
        n = struct.unpack("<Q", data[:8])[0]
        begin, end = json.loads(data[8:8 + n])["logits"]["data_offsets"]
        logits = floats(data[8 + n + begin:8 + n + end])
        check(len(logits) == 257, f"{len(logits)} logits")
        check(max(logits[i] for i in range(257) if i not in ids) <= max(logits[i] for i in ids),
              "an id that was never trained wins")


if __name__ == "__main__":
    main()
