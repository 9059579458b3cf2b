#!/usr/bin/env python3
"""What each ingredient of the recipe is worth: small runs in pairs that differ in one thing.

    bench/recipes.py --text FILE [--seeds 1,2,3] [--only NAME,...] [--jobs 2]

Every run gets the same matrix FLOP, so that an ingredient pays for what it costs and a busy machine
changes nothing; baseline and variant share seed, text and order of windows. Texts are the generated
stories and FILE (the prose behind docs/recipes.md is the text of Debian's dict-gcide). Results go
to bench/recipes.json, one line each, finished ones are not run again; docs/recipes.md is made
from it (`--tables` alone makes it).
"""
import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("AUTOANE") or str(ROOT / "build" / "autoane")
RESULTS = ROOT / "bench" / "recipes.json"
BASE = {"preset": "nano", "tokenizer": "train:2048", "budget": "1e12flop", "eval-tokens": 65536}
# name: (variant, what the other side of the pair has); what neither names is BASE and defaults
INGREDIENTS = {
    "zero output projections": ({}, {"init": "scaled"}),
    "norms of q and k": ({"arch": "qwen3"}, {"arch": "llama"}),
    "embedding rate x4": ({"embed-lr": 4}, {"embed-lr": 1}),
    "batch of 256": ({"batch-tokens": 256}, {}),
    "windows of 256": ({"seq": 256}, {"seq": 128}),
    "beta2 0.95": ({"beta2": 0.95}, {"beta2": 0.99}),
    "linear cooldown": ({"schedule": "wsd"}, {"schedule": "constant"}),
    "cosine": ({"schedule": "cosine"}, {"schedule": "wsd"}),
    "cooldown over 0.25": ({"cooldown": 0.25}, {"cooldown": 0.5}),
    "Muon": ({"optimizer": "muon"}, {}),
    "untied head": ({"no-tied": None}, {}),
    "low-rank head": ({"head-rank": 16, "head-full": 512}, {}),
    "1024 ids": ({"tokenizer": "train:1024"}, {"tokenizer": "train:2048"}),
    "4096 ids": ({"tokenizer": "train:4096"}, {"tokenizer": "train:2048"}),
    "bfloat16 products": ({"compute": "bf16"}, {"compute": "f32"}),
}
# The ladder at growing numbers of tokens: what --preset auto's rule is read from (one seed)
SIZES = [(preset, tokens) for tokens in (1, 3, 6) for preset in ("pico", "nano", "tiny", "micro")]

# What a careful hand would try, at equal seconds: sizes, vocabularies, batches (prose)
GRID_SECONDS = 60
GRID = [{"preset": preset, "tokenizer": f"train:{ids}", "batch-tokens": batch, "compute": "auto"}
        for preset in ("pico", "nano", "tiny") for ids in (1024, 2048) for batch in (256, 512)]


def size_options(preset, tokens):
    return {"preset": preset, "tokenizer": "train:2048", "budget": f"{tokens}Mtok",
            "eval-tokens": 65536, "compute": "auto"}


def words(options):
    out = []
    for key, value in sorted(options.items()):
        out += [f"--{key}"] + ([] if value is None else [str(value)])
    return out


def key_of(text, seed, options):
    return " ".join([text, f"--seed {seed}", *words(options)])


def journal(data, seed, options, threads):
    with tempfile.TemporaryDirectory() as work:
        run = pathlib.Path(work) / "run"
        result = subprocess.run(
            [PROGRAM, "train", "--data", data, "--out", run, "--seed", str(seed),
             "--threads", str(threads), "--eval-every", "0", "--checkpoint-every", "0", "--quiet",
             *words(options)],
            check=False, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if result.returncode:
            sys.exit(f"{data} {words(options)}: {result.stderr.strip()}")
        return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def train(data, text, seed, options):
    last = [e for e in journal(data, seed, options, 1) if e["event"] == "eval"][-1]
    return {"run": key_of(text, seed, options), "bits_per_byte": last["bits_per_byte"],
            "tokens": last["tokens"]}


def in_seconds(done, data, text, options):
    """The options with a budget of the tokens that they see in GRID_SECONDS of a quiet machine:
    from then on the machine may be busy."""
    key = "speed of " + key_of(text, 1, options)
    if key not in done:
        rates = []
        for _ in range(3):
            steps = [e for e in journal(data, 1, options | {"budget": "6s"}, os.cpu_count())
                     if e["event"] == "step"]
            rates.append((steps[-1]["tokens"] - steps[0]["tokens"]) /
                         (steps[-1]["wall_s"] - steps[0]["wall_s"]))
        done[key] = {"run": key, "tokens_per_s": max(rates)}
        store(done)
        print(f"{done[key]['tokens_per_s']:.0f} tokens/s {key}", flush=True)
    return options | {"budget": f"{done[key]['tokens_per_s'] * GRID_SECONDS / 1e6:.3f}Mtok"}


def load():
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return {row["run"]: row for row in rows}


def store(done):
    rows = sorted(done.values(), key=lambda row: row["run"])
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


# Student's t, 97.5 %, by degrees of freedom
T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def interval(values):
    if len(values) < 2:
        return math.nan
    return T[min(len(values) - 1, 9)] * statistics.stdev(values) / math.sqrt(len(values))


def judge(mean, half):
    if not abs(mean) > half:
        return "no difference shown"
    return "better" if mean < 0 else "worse"


def table(done):
    texts = sorted({run.split(" ", 1)[0] for run in done})
    lines = ["| ingredient | against | " + " | ".join(f"{t} | " for t in texts) + "|",
             "|---|---|" + "---|---|" * len(texts)]
    for name, (variant, instead) in INGREDIENTS.items():
        cells = []
        for text in texts:
            gains = []
            for seed in range(1, 10):
                a, b = key_of(text, seed, BASE | instead), key_of(text, seed, BASE | variant)
                if a in done and b in done:
                    gains.append(done[b]["bits_per_byte"] - done[a]["bits_per_byte"])
            if not gains:
                cells.append(" | ")
                continue
            mean, half = statistics.mean(gains), interval(gains)
            cells.append(f"{mean:+.4f} ± {half:.4f} ({len(gains)}) | {judge(mean, half)}")
        against = " ".join(words(instead)) or "the default"
        lines.append(f"| {name}: `{' '.join(words(variant)) or 'the default'}` | `{against}` | " +
                     " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def size_table(done):
    texts = sorted({run.split(" ", 1)[0] for run in done})
    lines = ["| preset | text | " + " | ".join(f"{t} M tokens" for t in (1, 3, 6)) + " |",
             "|---|---|---|---|---|"]
    for preset in dict.fromkeys(p for p, _ in SIZES):
        for text in texts:
            cells = [done.get(key_of(text, 1, size_options(preset, t))) for t in (1, 3, 6)]
            if any(cells):
                lines.append(f"| {preset} | {text} | " + " | ".join(
                    f"{c['bits_per_byte']:.4f}" if c else "" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def auto_choice(done, data):
    """What --preset auto takes for GRID_SECONDS, as options of its own."""
    key = f"auto for {GRID_SECONDS} s of prose"
    if key not in done:
        plan = subprocess.run([PROGRAM, "plan", "--data", data, "--preset", "auto", "--budget",
                               f"{GRID_SECONDS}s", "--json"], check=True, stdout=subprocess.PIPE)
        done[key] = {"run": key, "preset": json.loads(plan.stdout)["preset"]}
    return {"preset": done[key]["preset"], "compute": "auto"}


def grid_rows(done, data):
    return [(options, in_seconds(done, data, "prose", options))
            for options in [*GRID, auto_choice(done, data)]]


def grid_table(done):
    """The grid, best first, and what auto takes at the same budget."""
    lines = ["| options | tokens/s | bits per byte after " + f"{GRID_SECONDS} s |", "|---|---|---|"]
    if not any(run.startswith("speed of ") for run in done):
        return ""
    rows = []
    for options, run in grid_rows(done, None):
        run = done.get(key_of("prose", 1, run))
        auto = "" if options in GRID else "`--preset auto`: "
        if run:
            rows.append((run["bits_per_byte"], auto + "`" + " ".join(words(options)) + "`",
                         done["speed of " + key_of("prose", 1, options)]["tokens_per_s"]))
    lines += [f"| {name} | {speed:.0f} | {bits:.4f} |" for bits, name, speed in sorted(rows)]
    return "\n".join(lines) + "\n"


def write_tables():
    path = ROOT / "docs" / "recipes.md"
    done = load()
    text = path.read_text()
    for name, made in (("ingredients", table(done)), ("sizes", size_table(done)),
                       ("grid", grid_table(done))):
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        head, _, rest = text.partition(begin)
        text = head + begin + made + end + rest.partition(end)[2]
    path.write_text(text)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--text", help="a file of prose, 20 MB or more")
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--only", help="ingredients, 'sizes' or 'grid', separated by commas")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--tables", action="store_true", help="only make docs/recipes.md again")
    a = p.parse_args()
    if not a.tables:
        done, wanted = load(), {}
        texts = {"stories": "stories", **({"prose": a.text} if a.text else {})}
        for seed in map(int, a.seeds.split(",")):
            for text, data in texts.items():
                for name, (variant, instead) in INGREDIENTS.items():
                    if a.only and name not in a.only.split(","):
                        continue
                    for options in (BASE | instead, BASE | variant):
                        wanted[key_of(text, seed, options)] = (data, text, seed, options)
        for text, data in texts.items():
            for size in SIZES if not a.only or "sizes" in a.only.split(",") else ():
                options = size_options(*size)
                wanted[key_of(text, 1, options)] = (data, text, 1, options)
        if a.text and (not a.only or "grid" in a.only.split(",")):
            for _, options in grid_rows(done, a.text):
                wanted[key_of("prose", 1, options)] = (a.text, "prose", 1, options)
        todo = [job for key, job in wanted.items() if key not in done]
        with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
            for i, row in enumerate(pool.map(lambda job: train(*job), todo)):
                done[row["run"]] = row
                store(done)
                print(f"{i + 1}/{len(todo)} {row['bits_per_byte']:.4f} {row['run']}", flush=True)
    write_tables()


if __name__ == "__main__":
    main()
