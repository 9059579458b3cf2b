"""BLZT and llama2.c's model.bin, and token files of others, from outside.

What `convert` writes is compared byte by byte with files packed here from the checkpoint's
safetensors, by the layouts as their authors describe them: nothing of the program is used for that.
"""
import json
import math
import os
import pathlib
import random
import struct

from files import pairs, tensors
from e2e import case, check, done, main, refused, run, tiny_run, write_text

SHAPE = ["--arch", "llama", "--tied", "yes", "--heads", "4", "--kv-heads", "2"]


def trained(name="run", *more):
    if not os.path.exists(name):
        done(*tiny_run(name, "--budget", "3steps", *SHAPE, *more))
    return f"{name}/last"


class Parts:
    """A checkpoint's tensors as these formats have them."""

    def __init__(self, folder):
        self.t, c = tensors(folder)
        self.C, self.F, self.L = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
        self.H, self.K, self.D = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        self.V, self.T = c["vocab_size"], c["max_position_embeddings"]
        self.tied = c["tie_word_embeddings"]

    def layer(self, i, name):
        data = self.t[f"model.layers.{i}.{name}.weight"]
        heads = {"self_attn.q_proj": self.H, "self_attn.k_proj": self.K}.get(name)
        return pairs(data, heads, self.D) if heads else data

    def all(self, name):
        return b"".join(self.layer(i, name) for i in range(self.L))

    def end(self):
        return b"" if self.tied else self.t["lm_head.weight"]


A, N1, N2 = "self_attn.{}_proj", "input_layernorm", "post_attention_layernorm"
ATTENTION = [A.format(x) for x in "qkvo"]
FEED = ["mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"]


def pack_blzt(p):
    out = struct.pack("<10i2f3d6i", 0x424C5A54, 4, 0, 10000, p.L, p.V, p.C, p.F, p.H,
                      min(p.T, 256), 3e-4, 0, 0, 0, 0, 0, 0, 0, p.K, p.D, p.H * p.D)
    for i in range(p.L):
        w = b"".join(p.layer(i, name) for name in ATTENTION + FEED + [N1, N2])
        out += w + bytes(2 * len(w))
    for name in ("model.norm.weight", "model.embed_tokens.weight"):
        out += p.t[name] + bytes(2 * len(p.t[name]))
    return out


def rotations(p):
    angle = [t / 10000 ** (2 * i / p.D) for t in range(p.T) for i in range(p.D // 2)]
    return struct.pack(f"<{2 * len(angle)}f", *map(math.cos, angle), *map(math.sin, angle))


def pack_v0(p):
    out = struct.pack("<7i", p.C, p.F, p.L, p.H, p.K, p.V if p.tied else -p.V, p.T)
    out += p.t["model.embed_tokens.weight"] + p.all(N1) + b"".join(map(p.all, ATTENTION))
    out += p.all(N2) + b"".join(map(p.all, FEED)) + p.t["model.norm.weight"]
    return out, rotations(p), p.end()


def pack_v1(p):
    out = struct.pack("<Ii7iB", 0x616B3432, 1, p.C, p.F, p.L, p.H, p.K, p.V, p.T, p.tied)
    out = out.ljust(256, b"\0") + p.all(N1) + p.all(N2) + p.t["model.norm.weight"]
    return out + p.t["model.embed_tokens.weight"] + b"".join(map(p.all, ATTENTION + FEED)) + p.end()


def converted(source, kind, folder):
    done("convert", source, f"{folder}/m.bin", "--to", kind)
    return pathlib.Path(folder, "m.bin").read_bytes()


def same_model(a, b):
    x, y = tensors(a)[0], tensors(b)[0]
    check(x.keys() == y.keys() and all(x[k] == y[k] for k in x), f"{a} and {b} differ")


@case
def byte_for_byte():
    for name, more in (("run", ()), ("untied", ("--tied", "no", "--head-dim", "8"))):
        p = Parts(trained(name, *more))
        check(converted(name, "llama2c-v1", f"{name}-v1") == pack_v1(p), f"{name}: v1 differs")
        head, table, end = pack_v0(p)
        got = converted(name, "llama2c", f"{name}-v0")
        check(got[:len(head)] == head, f"{name}: v0 differs")
        check(got[len(head) + len(table):] == end, f"{name}: the end of v0 differs")
        n = len(table) // 4
        mine, its = (struct.unpack(f"<{n}f", x) for x in (table, got[len(head):][:len(table)]))
        check(max(abs(x - y) for x, y in zip(mine, its)) < 1e-6, f"{name}: rotations differ")
    check(converted("run", "blzt", "run-blzt") == pack_blzt(Parts("run/last")), "BLZT differs")


@case
def there_and_back():
    byte_for_byte()
    for kind in ("blzt", "v0", "v1"):
        done("convert", f"run-{kind}/m.bin", f"back-{kind}")
        same_model("run/last", f"back-{kind}")
        what = done("info", f"run-{kind}/m.bin", "--json").json()
        check(what["format"] == {"blzt": "blzt", "v0": "llama2c", "v1": "llama2c-v1"}[kind], what)
        check(what["dim"] == 32 and what["residual_scale"] == 1, what)
    for kind in ("v0", "v1"):
        done("convert", f"untied-{kind}/m.bin", f"unback-{kind}")
        same_model("untied/last", f"unback-{kind}")
    says = {done("generate", m, "--prompt", "Ann saw", "--tokens", "12", "--temperature", "0").out
            for m in ("run/last", "run-blzt/m.bin", "run-v0/m.bin", "run-v1/m.bin")}
    check(len(says) == 1, f"they speak differently: {says}")


@case
def what_training_does_differently():
    """A residual scale and a compact vocabulary are written away, and the file has all rows."""
    trained("scaled", "--residual-scale", "0.5", "--compact-vocab")
    check(converted("scaled", "blzt", "scaled-blzt") == pack_blzt(Parts("scaled/last")), "BLZT")
    done("convert", "scaled-blzt/m.bin", "scaled-back")
    same_model("scaled/last", "scaled-back")


@case
def a_start_for_training():
    trained()
    converted("run", "blzt", "run-blzt")
    converted("run", "llama2c", "run-v0")
    for base in ("run-blzt/m.bin", "run-v0/m.bin"):
        out = f"more-{base[4:6]}"
        done("train", "--data", "text.txt", "--base", base, "--out", out, "--budget", "2steps",
             "--batch-tokens", "128", "--eval-tokens", "256")
        same_model(f"{out}/step-0", "run/last")


@case
def from_scratch_by_the_first_program():
    """No config.json, and steps in the header: 1/sqrt(2 layers) is folded in."""
    trained()
    data = bytearray(converted("run", "blzt", "run-blzt"))
    data[8:12] = struct.pack("<i", 500)
    os.makedirs("old", exist_ok=True)
    pathlib.Path("old/m.bin").write_bytes(data)
    check(done("info", "old/m.bin", "--json").json()["residual_scale"] == 0.5, "scale")
    check("residual scale 0.5" in done("info", "old/m.bin").out, "info does not say so")
    done("convert", "old/m.bin", "old-hf")
    x, y = tensors("run/last")[0], tensors("old-hf")[0]
    for name in x:
        scale = 0.5 if "o_proj" in name or "down_proj" in name else 1
        n = len(x[name]) // 4
        a, b = (struct.unpack(f"<{n}f", t[name]) for t in (x, y))
        check(all(v * scale == w for v, w in zip(a, b)), f"{name} is not scaled by {scale}")


@case
def damage():
    """The first AutoANE loaded any of these that is long enough for its weights, or shorter."""
    trained()
    draw = random.Random(5)
    for kind in ("blzt", "llama2c", "llama2c-v1"):
        good = converted("run", kind, f"run-{kind}")
        for n in {len(good) - 1, len(good) - 4, len(good) // 2, len(good) * 2 // 3, 300, 97}:
            pathlib.Path("bad.bin").write_bytes(good[:n])
            refused(run("convert", "bad.bin", "never"), 1, "bad.bin")
            check(not os.path.exists("never"), "something was written")
        pathlib.Path("bad.bin").write_bytes(good + b"\0")
        refused(run("convert", "bad.bin", "never"), 1, "asks for")
        for _ in range(20):
            bad = bytearray(good)
            bad[draw.randrange(4, 96)] ^= 1 << draw.randrange(8)
            pathlib.Path("bad.bin").write_bytes(bad)
            check(run("info", "bad.bin").status in (0, 1), "info of a damaged header")


@case
def what_they_cannot_say():
    done(*tiny_run("qwen", "--budget", "2steps", "--arch", "qwen3"))
    for kind in ("blzt", "llama2c", "llama2c-v1"):
        refused(run("convert", "qwen", f"qwen.{kind}", "--to", kind), 1, "norms of queries", "GGUF")
        check(not os.path.exists(f"qwen.{kind}"), "something was written")
    trained()
    refused(run("convert", "run", "x.bin", "--to", "blzt", "--dtype", "q8_0"), 1, "F32")
    refused(run("convert", "run", "x.bin", "--to", "blzt", "--shard-size", "1M"), 1, "one file")
    os.makedirs("taken", exist_ok=True)
    pathlib.Path("taken/tokenizer.json").write_text("{}")
    refused(run("convert", "run", "taken/m.bin", "--to", "llama2c"), 2, "another model")
    check(os.listdir("taken") == ["tokenizer.json"], "something was written")


def sentencepiece(path):
    """A tokenizer.bin: <unk>, <s>, </s>, the bytes, and pieces with falling scores."""
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n"] + [b"<0x%02X>" % b for b in range(256)]
    pieces += [b" ", b"a", b"e", b"n", b"t", b"o", b" a", b"an", b"to"]
    out = struct.pack("<i", max(map(len, pieces)))
    for i, piece in enumerate(pieces):
        out += struct.pack("<fi", 0 if i < 259 else 259 - i, len(piece)) + piece
    pathlib.Path(path).write_bytes(out)
    return out


def pieces_of(data):
    pieces, at = [], 4
    while at < len(data):
        n = struct.unpack("<i", data[at + 4:at + 8])[0]
        pieces.append(data[at + 8:at + 8 + n])
        at += 8 + n
    return pieces


@case
def tokenizer_beside():
    """llama2.c's own tokenizer.bin goes out as it came in (by way of a tokenizer.json, which has no
    scores, with others of the same order), and is what the model speaks with."""
    want = sentencepiece("tokenizer.bin")
    check("SentencePiece" in done("info", "tokenizer.bin").out, "info tokenizer.bin")
    trained("spm", "--tokenizer", "tokenizer.bin")
    converted("spm", "llama2c", "spm-v0")
    check(sorted(os.listdir("spm-v0")) == ["m.bin", "tokenizer.bin"], os.listdir("spm-v0"))
    beside = pathlib.Path("spm-v0/tokenizer.bin")
    check(pieces_of(beside.read_bytes()) == pieces_of(want), "tokenizer.bin has other pieces")
    beside.write_bytes(want)
    converted("spm-v0/m.bin", "llama2c-v1", "spm-v1")
    check(pathlib.Path("spm-v1/tokenizer.bin").read_bytes() == want, "tokenizer.bin differs")
    words = ["--prompt", "Ann", "--tokens", "8", "--temperature", "0"]
    check(done("generate", "spm", *words).out == done("generate", "spm-v0/m.bin", *words).out,
          "the text differs")


@case
def token_files_of_others():
    """Raw 16-bit ids (the first AutoANE, nanoGPT, llama2.c) and both kinds of llm.c."""
    write_text("text.txt")
    data = pathlib.Path("text.txt").read_bytes()
    ids = [i for d in data.split(b"\n\n") for i in [*d, 256]]
    n = len(ids)
    raw = struct.pack(f"<{n}H", *ids)
    files = {"raw.bin": raw,
             "llmc16.bin": struct.pack("<3i", 20240520, 1, n).ljust(1024, b"\0") + raw,
             "llmc32.bin": struct.pack("<3i", 20240801, 7, n).ljust(1024, b"\0") +
             struct.pack(f"<{n}I", *ids)}
    for name, content in files.items():
        pathlib.Path(name).write_bytes(content)
        check(done("info", name, "--json").json()["tokens"] == n, f"info {name}")
        run_dir = f"run-{name}"
        done(*tiny_run(run_dir, "--budget", "2steps", data=name))
        bad = bytearray(content)
        bad[-4:] = b"\x2c\x01\0\0" if "32" in name else b"\x2c\x01" * 2          # 300
        pathlib.Path("bad.bin").write_bytes(bad)
        refused(run(*tiny_run("never", data="bad.bin")), 1, "is 300", "token", str(n - 1)[:3])
    a, b = (tensors(f"run-{name}/last")[0] for name in ("raw.bin", "llmc16.bin"))
    check(a == b, "the same tokens give another model")
    for cut in (raw[:-1], b""):
        pathlib.Path("bad.bin").write_bytes(cut)
        refused(run(*tiny_run("never", data="bad.bin")), 1, "16-bit")
    pathlib.Path("bad.bin").write_bytes(files["llmc16.bin"][:-2])
    refused(run(*tiny_run("never", data="bad.bin")), 1, f"claims {n}")
    trained()
    converted("run", "blzt", "run-blzt")
    refused(run(*tiny_run("never", data="run-blzt/m.bin")), 2, "--base")


if __name__ == "__main__":
    main()
