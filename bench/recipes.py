#!/usr/bin/env python3
"""What each ingredient of the recipe is worth: small runs in pairs that differ in one thing.

    bench/recipes.py --text FILE [--seeds 1,2,3] [--only NAME,...] [--jobs 2]

Every run gets the same matrix FLOP, so that an ingredient pays for what it costs and a busy machine
changes nothing; baseline and variant share seed, text and order of windows. Texts are the generated
stories and FILE (the prose behind docs/recipes.md is the text of Debian's dict-gcide). Results go
to bench/recipes.json, one line each, finished ones are not run again. The tables of docs/recipes.md
and README.md are made from it and from bench/original.json (`--tables` alone makes them).
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
TEXTS = {"stories": "stories", "gcide": "prose"}        # names in original.json, and here
BASE = {"preset": "nano", "tokenizer": "train:2048", "budget": "1e12flop", "eval-tokens": 65536}
# name: (variant, what the other side of the pair has); what neither names is BASE and defaults
INGREDIENTS = {
    "zero output projections": ({}, {"init": "scaled"}),
    "norms of q and k": ({"arch": "qwen3"}, {"arch": "llama"}),
    "embedding rate x4": ({"embed-lr": 4}, {"embed-lr": 1}),
    "batch of 256": ({"batch-tokens": 256}, {}),
    "batch of 1024": ({"batch-tokens": 1024}, {}),
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
}
# Are products of bfloat16 pairs as good? 1,000 updates, large so that they differ by little else
BF16 = {"preset": "nano", "tokenizer": "train:2048", "budget": "1000steps", "batch-tokens": 2048,
        "eval-tokens": 262144}
BF16_SEEDS = range(1, 21)             # of the stories, five are enough
# Neighbours on the ladder at equal seconds, as M tokens that each sees in them on the quiet machine
LADDER = [(120, "tiny", 7.64), (120, "micro", 4.66)]

# What a careful hand would try, at equal seconds: sizes, vocabularies, batches (prose)
GRID_SECONDS = 30
GRID_SEEDS = (1, 2)
WHOLE = {"eval-tokens": 1000000}        # tokenizers cut other windows: compare on all of the text
GRID = [{"preset": preset, "tokenizer": f"train:{ids}", "batch-tokens": batch, "compute": "auto"}
        for preset in ("pico", "nano", "tiny") for ids in (1024, 2048) for batch in (512, 1024)]


def ladder_options(preset, tokens):
    return {"preset": preset, "tokenizer": "train:2048", "compute": "auto", "batch-tokens": 1024,
            "budget": f"{tokens:g}Mtok"} | WHOLE


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
            "loss": last["loss"], "tokens": last["tokens"]}


def in_seconds(done, seconds, options):
    """The options with a budget of the tokens that they see in so many seconds at the speed of
    their best, undisturbed update: a busy machine changes nothing."""
    key = "speed of " + " ".join(words(options))
    if key not in done:
        shape = {k: v for k, v in options.items() if k != "tokenizer"}
        shape["vocab"] = options.get("tokenizer", "train:2048").removeprefix("train:")
        step = subprocess.run([PROGRAM, "bench", "step", *words(shape), "--seconds", "4", "--json"],
                              check=True, stdout=subprocess.PIPE)
        done[key] = {"run": key, "tokens_per_s": json.loads(step.stdout)["tokens_per_s_best"]}
        store(done)
        print(f"{done[key]['tokens_per_s']:.0f} tokens/s {key}", flush=True)
    return options | {"budget": f"{done[key]['tokens_per_s'] * seconds / 1e6:.3f}Mtok"}


def load():
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return {row["run"]: row for row in rows}


def store(done):
    rows = sorted(done.values(), key=lambda row: row["run"])
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


# Student's t, 97.5 %, by degrees of freedom
T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 14: 2.14,
     19: 2.09}


def interval(values):
    if len(values) < 2:
        return math.nan
    return T[max(n for n in T if n < len(values))] * statistics.stdev(values) / math.sqrt(len(values))


def judge(mean, half):
    if not abs(mean) > half:
        return "no difference shown"
    return "better" if mean < 0 else "worse"


def table(done):
    texts = list(TEXTS.values())
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


def bf16_table(done):
    lines = ["| text | bf16 - f32, nats per token |", "|---|---|"]
    for text in TEXTS.values():
        pairs = [[done.get(key_of(text, seed, BF16 | {"compute": c})) for c in ("bf16", "f32")]
                 for seed in BF16_SEEDS]
        gains = [b["loss"] - f["loss"] for b, f in pairs if b and f]
        if gains:
            lines.append(f"| {text} | {statistics.mean(gains):+.4f} ± {interval(gains):.4f} "
                         f"({len(gains)}) |")
    return "\n".join(lines) + "\n"


def ladder_table(done):
    lines = ["| seconds | preset | M tokens | bits per byte |", "|---|---|---|---|"]
    for seconds, preset, tokens in LADDER:
        row = done.get(key_of("prose", 1, ladder_options(preset, tokens)))
        if row:
            lines.append(f"| {seconds} | {preset} | {tokens:.2f} | {row['bits_per_byte']:.4f} |")
    return "\n".join(lines) + "\n"


def auto_choice(done, data):
    """What --preset auto takes for GRID_SECONDS, as options of its own."""
    key = f"auto for {GRID_SECONDS} s of prose"
    if key not in done:
        plan = subprocess.run([PROGRAM, "plan", "--data", data, "--preset", "auto", "--budget",
                               f"{GRID_SECONDS}s", "--json"], check=True, stdout=subprocess.PIPE)
        plan = json.loads(plan.stdout)
        done[key] = {"run": key, "preset": plan["preset"],
                     "batch-tokens": plan["tokens_per_update"]}
    return {k: done[key][k] for k in ("preset", "batch-tokens")} | {"compute": "auto"}


def grid_rows(done, data):
    """Options, and what is run for them: all but the seed."""
    return [(options, in_seconds(done, GRID_SECONDS, options) | WHOLE)
            for options in [*GRID, auto_choice(done, data)]]


def grid_table(done):
    """The grid, best first, and what auto takes at the same budget."""
    lines = ["| options | tokens/s | bits per byte after " + f"{GRID_SECONDS} s |", "|---|---|---|"]
    if f"auto for {GRID_SECONDS} s of prose" not in done:
        return ""
    rows = []
    for options, run in grid_rows(done, None):
        got = [done[key]["bits_per_byte"] for seed in GRID_SEEDS
               if (key := key_of("prose", seed, run)) in done]
        auto = "" if options in GRID else "`--preset auto`: "
        if got:
            rows.append((statistics.mean(got), max(got) - min(got), len(got),
                         auto + "`" + " ".join(words(options)) + "`",
                         done["speed of " + " ".join(words(options))]["tokens_per_s"]))
    lines += [f"| {name} | {speed:.0f} | {mean:.4f}, range {width:.4f} ({n}) |"
              for mean, width, n, name, speed in sorted(rows)]
    return "\n".join(lines) + "\n"


# ---- seconds against bits per byte ---------------------------------------------------------------

WHO = {"autoane": "`--preset auto`", "original": "the original's recipe"}


def budgets():
    """{text: {who: {seconds: [bits per byte of each seed]}}} of bench/original.py's runs."""
    out = {}
    for r in json.loads((ROOT / "bench" / "original.json").read_text()):
        of = out.setdefault(TEXTS[r["text"]], {}).setdefault(r["who"], {})
        of.setdefault(r["seconds"], []).append(r["bits_per_byte"])
    return out


def budget_table():
    every = budgets()
    seconds = sorted({s for text in every.values() for who in text.values() for s in who})
    lines = ["| bits per byte | | " + " | ".join(f"{s:.0f} s" for s in seconds) + " |",
             "|---|---|" + "---|" * len(seconds)]
    for text, by in sorted(every.items()):
        for who, name in WHO.items():
            cells = [by.get(who, {}).get(s) for s in seconds]
            lines.append(f"| {text} | {name} | " + " | ".join(
                f"{statistics.mean(c):.3f} ({min(c):.3f} to {max(c):.3f})" if c and len(c) > 1 else
                f"{c[0]:.3f}" if c else "" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def budget_picture():
    """A panel per text: seconds (logarithmic) to the right, bits per byte upwards."""
    out = []
    for n, (text, by) in enumerate(sorted(budgets().items())):
        left, top, points = 60 + 290 * n, 30, [(s, v) for who in by.values()
                                               for s, vs in who.items() for v in vs]
        s0, s1 = (math.log(f(p[0] for p in points)) for f in (min, max))
        high = 1.05 * max(p[1] for p in points)

        def at(seconds, bits):
            return (left + 10 + 200 * (math.log(seconds) - s0) / ((s1 - s0) or 1),
                    top + 160 - 160 * bits / high)

        out += [f'<rect x="{left}" y="{top}" width="220" height="160" fill="none" stroke="#bbb"/>',
                f'<text x="{left}" y="{top - 8}">{text}: bits per byte</text>']
        for s in sorted({p[0] for p in points}):
            out.append(f'<text x="{at(s, 0)[0]:.1f}" y="{top + 174}" text-anchor="middle">'
                       f'{s:.0f} s</text>')
        for bits in (0, high / 2, high):
            out.append(f'<text x="{left - 5}" y="{at(1, bits)[1] + 4:.1f}" text-anchor="end">'
                       f'{bits:.2f}</text>')
        for who, colour, name in (("original", "#a8471f", "the original's recipe"),
                                  ("autoane", "#1f5fa8", "--preset auto")):
            means = [at(s, statistics.mean(v)) for s, v in sorted(by.get(who, {}).items())]
            if not means:
                continue
            out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="' +
                       " ".join(f"{x:.1f},{y:.1f}" for x, y in means) + '"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
                    for x, y in (at(s, v) for s, vs in by[who].items() for v in vs)]
            out.append(f'<text x="{means[-1][0]:.1f}" y="{means[-1][1] - 7:.1f}" '
                       f'text-anchor="end" fill="{colour}">{name}</text>')
    return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 215" '
            'font-family="sans-serif" font-size="11"><rect width="600" height="215" fill="#fff"/>\n'
            + "\n".join(out) + "\n</svg>\n")


def write_tables():
    done = load()
    (ROOT / "docs" / "budgets.svg").write_text(budget_picture())
    recipes = {"ingredients": table(done), "ladder": ladder_table(done), "bf16": bf16_table(done),
               "grid": grid_table(done), "budgets": budget_table()}
    for page, tables in (("docs/recipes.md", recipes),
                         ("README.md", {"budgets": recipes["budgets"]})):
        text = (ROOT / page).read_text()
        for name, made in tables.items():
            begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
            head, _, rest = text.partition(begin)
            text = head + begin + made + end + rest.partition(end)[2]
        (ROOT / page).write_text(text)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--text", help="a file of prose, 20 MB or more")
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--only", help="ingredients, 'ladder', 'bf16' or 'grid', separated by commas")
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
            for seed in BF16_SEEDS if not a.only or "bf16" in a.only.split(",") else ():
                for compute in ("f32", "bf16"):
                    options = BF16 | {"compute": compute}
                    wanted[key_of(text, seed, options)] = (data, text, seed, options)
        if a.text and (not a.only or "ladder" in a.only.split(",")):
            for _, preset, tokens in LADDER:
                options = ladder_options(preset, tokens)
                wanted[key_of("prose", 1, options)] = (a.text, "prose", 1, options)
        if a.text and (not a.only or "grid" in a.only.split(",")):
            for seed in GRID_SEEDS:
                for _, options in grid_rows(done, a.text):
                    key = key_of("prose", seed, options)
                    wanted[key] = (a.text, "prose", seed, options)
        todo = [job for key, job in wanted.items() if key not in done]
        with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
            for i, row in enumerate(pool.map(lambda job: train(*job), todo)):
                done[row["run"]] = row
                store(done)
                print(f"{i + 1}/{len(todo)} {row['bits_per_byte']:.4f} {row['run']}", flush=True)
    write_tables()


if __name__ == "__main__":
    main()
