#!/usr/bin/env python3
"""Our recipe in two minutes against the original system's recipe in ten.

The opponent is the published from-scratch recipe of the original AutoANE, run in PyTorch fp32 with
torch.compile where that is faster: 512 wide, 4 layers, 8 heads (2 kv), ffn 1408, windows of 128,
1280 tokens per update, AdamW (0.9, 0.95) with decay 0.1 and clip 1, rate 4e-4 after 10 warm-up
updates and constant from there, branches scaled by 1/sqrt(2L), a tokenizer of 16384 ids. It starts
from weights that autoane writes and sees the windows that autoane would train on; only the seconds
of its steps count, compilation does not. Ours is `autoane train --preset auto --budget 120s` on the
wall clock. Both are judged by `autoane eval` on the validation documents of the same text, in bits
per byte, which does not depend on the tokenizer.

    bench/original.py --data stories --data FILE [--seeds 1,2,3] [--seconds 600] [--ours 120]

On a machine that is busy with other things the seconds of the original's recipe can be given as
updates (--updates N): N = seconds x the tokens/s of R-1280 in docs/performance.md / 1280.

Results go to bench/original.json, one object per run; bench/recipes.py makes tables of them.
"""
import argparse
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file

from llama import Llama, adamw

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "original.json"
LAYERS, HEADS, KV, SEQ, BATCH = 4, 8, 2, 128, 1280
SCALE = (2 * LAYERS) ** -0.5
LR, WARMUP, CLIP = 4e-4, 10, 1.0
SHARED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def autoane(program, *words):
    result = subprocess.run([program, *map(str, words)], check=False, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if result.returncode:
        sys.exit(f"autoane {' '.join(map(str, words))}: {result.stderr.strip()}")
    return result.stdout


def rows(model):
    """(Hugging Face name, parameter, factor that turns the parameter into the stored tensor)."""
    yield "model.embed_tokens.weight", model.table.weight, 1.0
    yield "model.norm.weight", model.norm.weight, 1.0
    for i, b in enumerate(model.blocks):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", b.norms[0].weight, 1.0
        yield at + "post_attention_layernorm.weight", b.norms[1].weight, 1.0
        for name in "qkvo":
            yield (at + f"self_attn.{name}_proj.weight", getattr(b, name).weight,
                   SCALE if name == "o" else 1.0)
        for name in ("gate", "up", "down"):
            yield (at + f"mlp.{name}_proj.weight", getattr(b, name).weight,
                   SCALE if name == "down" else 1.0)


def load(directory):
    config = json.loads((directory / "config.json").read_text())
    model = Llama(config["vocab_size"], config["hidden_size"], LAYERS, HEADS, KV,
                  config["intermediate_size"], SEQ, SCALE)
    stored = load_file(directory / "model.safetensors")
    with torch.no_grad():
        for name, parameter, factor in rows(model):
            parameter.copy_(stored.pop(name).float() / factor)
    if stored.keys() - {"lm_head.weight"}:
        sys.exit(f"tensors without a place in the opponent: {sorted(stored)}")
    return model


def save(model, start, directory):
    directory.mkdir()
    for name in SHARED:
        if (start / name).exists():
            shutil.copy(start / name, directory / name)
    tensors = {name: (parameter.detach() * factor).contiguous()
               for name, parameter, factor in rows(model)}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def train(start, batches, seconds, updates):
    """So many updates, or seconds of them, of whichever of eager and compiled is faster."""
    model = load(start)
    optimizer = adamw(model, LR)
    ids, targets = batches["ids"].long(), batches["targets"].long()

    def update(forward, i):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (i + 1) / WARMUP)
        loss = forward(ids[i], targets[i])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    def fastest(forward):
        update(forward, 0)
        update(forward, 0)
        return min(update(forward, 0) for _ in range(3))

    eager, compiled = model, torch.compile(model)
    times = {"eager": fastest(eager), "compiled": fastest(compiled)}
    how = min(times, key=times.get)
    fresh = load(start)                     # the trials have moved the weights: begin again
    with torch.no_grad():
        for p, q in zip(model.parameters(), fresh.parameters()):
            p.copy_(q)
    optimizer = adamw(model, LR)
    spent, i = 0.0, 0
    while i < updates if updates else spent < seconds:
        if i == len(ids):
            sys.exit(f"{len(ids)} batches are too few for {seconds} s")
        spent += update({"eager": eager, "compiled": compiled}[how], i)
        i += 1
    return model, {"how": how, "updates": i, "tokens_per_s": i * BATCH / spent}


def validation(program, model, data, threads):
    out = autoane(program, "eval", model, "--data", data, "--part", "valid", "--tokens", 200000,
                  "--threads", threads, "--json")
    return json.loads(out)["bits_per_byte"]


def record(**row):
    """In the place of an earlier run of the same."""
    def what(r):
        return [r["who"], r["text"], r["seconds"], r["seed"]]
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    done = sorted([r for r in done if what(r) != what(row)] + [row], key=what)
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(r) for r in done) + "\n]\n")
    print(json.dumps(row), flush=True)


def opponent(a, work, data, text, seed):
    run = work / "start"
    autoane(a.program, "train", "--data", data, "--preset", "reference", "--tokenizer",
            "train:16384", "--init", "scaled", "--batch-tokens", BATCH, "--budget", "1steps",
            "--seed", seed, "--keep", 0, "--quiet", "--out", run)
    windows = work / "batches.safetensors"
    n = a.updates or math.ceil(a.seconds * 6000 / BATCH)   # 6000 tokens a second at most
    autoane(a.program, "data", "batches", "--run", run, "--steps", n, "--out", windows)
    model, facts = train(run / "step-0", load_file(windows), a.seconds, a.updates)
    save(model, run / "step-0", work / "trained")
    record(who="original", text=text, seed=seed, seconds=a.seconds, **facts,
           bits_per_byte=validation(a.program, work / "trained", data, a.threads))


def ours(a, work, data, text, seed):
    run = work / "ours"
    autoane(a.program, "train", "--data", data, "--preset", "auto", "--budget", f"{a.ours}s",
            "--seed", seed, "--threads", a.threads, "--quiet", "--out", run)
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    steps = [e for e in events if e["event"] == "step"]
    record(who="autoane", text=text, seed=seed, seconds=a.ours, updates=steps[-1]["step"],
           tokens_per_s=steps[-1]["tokens"] / a.ours,
           bits_per_byte=validation(a.program, run, data, a.threads))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--data", action="append", required=True, help="'stories' or a text file")
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--seconds", type=float, default=600, help="of the original's recipe")
    p.add_argument("--updates", type=int, default=0, help="of the original's recipe, not --seconds")
    p.add_argument("--ours", type=int, default=120, help="seconds of ours")
    p.add_argument("--who", choices=("both", "original", "autoane"), default="both")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--program", default=str(ROOT / "build" / "autoane"))
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    for data in a.data:
        text = pathlib.Path(data).stem
        for seed in map(int, a.seeds.split(",")):
            with tempfile.TemporaryDirectory() as work:
                torch.manual_seed(seed)
                if a.who != "autoane":
                    opponent(a, pathlib.Path(work), data, text, seed)
                if a.who != "original":
                    ours(a, pathlib.Path(work), data, text, seed)


if __name__ == "__main__":
    main()
