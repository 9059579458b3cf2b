#!/usr/bin/env python3
"""What zeroth-order methods are worth: experiments with their verdict declared beforehand.

    bench/zo.py [--only E1,E2,...] [--jobs 2]     runs what is missing
    bench/zo.py --tables                          only writes docs/zeroth-order.md again

A model of 0.5 M parameters is trained on prose (Debian's dict-gcide) and then fine-tuned by losses
alone on C headers: adapters on all seven maps, windows of 128 bytes. Cost is counted in forward
passes of a sequence ("sequence_forwards" of the journal). Each method gets the same grid of rates,
a factor of two apart, and counts at its own best; every rate is in bench/zo.json, also those that
diverged. Needs dict-gcide and libc6-dev.
"""
import argparse
import concurrent.futures
import functools
import gzip
import json
import math
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("AUTOANE") or str(ROOT / "build" / "autoane")
RESULTS = ROOT / "bench" / "zo.json"
SHAPE = {"dim": 96, "layers": 4, "heads": 4, "kv-heads": 2, "ffn": 256, "seq": 128}
FORWARDS = 4800
SEEDS = (1, 2, 3)
T975 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}


def own(dictionary):
    return [word for key, value in dictionary.items()
            for word in (["--" + key] if value is None else ["--" + key, str(value)])]


# ---- works: name: (options, sequences of a step, options a rate goes to, rates) ------------------

def rates(first, n=6):
    return [float(f"{first * 2 ** i:.3g}") for i in range(n)]


ADAPTER = {"adapter": "lora", "rank": 4}
ZO = {**ADAPTER, "method": "zo", "schedule": "constant"}
MEZO = {**ZO, "zo-method": "mezo", "zo-eps": 1e-3}
# on B over a random A of length 1, so that what differs is what the experiment names
PLAIN = {**ZO, "zo-method": "lora-fa", "zo-eps": 1e-3}
SHARED = {**PLAIN, "zo-law": "signs", "zo-streams": 16, "zo-estimator": "loo"}
AUTO = {**ZO, "zo-method": "auto"}

WORKS = {
    "MeZO, two-sided, 16 sequences": (PLAIN, 16, "zo-lr", rates(2e-3)),
    "16 shared streams, 1 sequence": (SHARED, 1, "zo-lr", rates(2e-3)),
    "random A": ({**AUTO, "zo-basis": "random"}, 1, "zo-rho", rates(2e-4, 8)),
    "activation A": (AUTO, 1, "zo-rho", rates(1e-4, 8)),
    "MeZO-LoRA": (MEZO, 16, "zo-lr", rates(2.5e-4)),
    **{f"rank {r}": ({**AUTO, "zo-basis": "random", "rank": r}, 1, "zo-rho", rates(2e-4, 5))
       for r in (1, 2, 8, 16)},
    **{f"{name}, eps {eps:g}": ({**AUTO, "zo-estimator": name, "zo-eps": eps}, 1, "zo-rho",
                                rates(1e-4, 4))
       for name in ("loo", "base") for eps in (1e-3, 1e-2, 3e-2)},
    **{f"combiner {name}": ({**AUTO, "zo-combiner": name, "zo-clip": 0}, 1,
                            "zo-lr" if name == "raw" else "zo-rho",
                            rates(2e-3) if name == "raw" else rates(5e-5))
       for name in ("raw", "std", "ema-std")},
    "Q8_0 base": (AUTO, 1, "zo-rho", None),
}
# experiment: what it compares
EXPERIMENTS = {
    "E1": ["MeZO, two-sided, 16 sequences", "16 shared streams, 1 sequence"],
    "E2": ["random A", "activation A"],
    "E3": ["rank 1", "rank 2", "random A", "rank 8", "rank 16"],
    "E5": [f"{name}, eps {eps:g}" for eps in (1e-3, 1e-2, 3e-2) for name in ("loo", "base")],
    "E9": ["activation A", "Q8_0 base"],
    "E11": [f"combiner {name}" for name in ("raw", "std", "ema-std")],
    "row 3": ["MeZO-LoRA", "activation A"],
}


# ---- running -------------------------------------------------------------------------------------

def autoane(*words):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"autoane {' '.join(map(str, words))}\n{done.stderr[-2000:]}")
    return done.returncode == 0


def texts(folder):
    prose, headers = folder / "prose.txt", folder / "headers.txt"
    if not prose.exists():
        with gzip.open("/usr/share/dictd/gcide.dict.dz") as f:
            prose.write_bytes(f.read(6_000_000))
    if not headers.exists():
        found = sorted(pathlib.Path("/usr/include").rglob("*.h"))
        headers.write_bytes(b"\n\n".join(p.read_bytes() for p in found[:400])[:2_000_000])
    return prose, headers


def base(folder):
    prose, headers = texts(folder)
    if not (folder / "base" / "last").exists():
        autoane("train", "--data", prose, "--tokenizer", "bytes", *own(SHAPE), "--batch-tokens",
                1024, "--budget", "6Mtok", "--threads", 2, "--out", folder / "base", "--quiet")
    if not (folder / "base-q8.gguf").exists():
        autoane("convert", folder / "base", folder / "base-q8.gguf", "--dtype", "q8_0")
    return headers


def forwards_per_step(options, sequences):
    streams = options.get("zo-streams", {"mezo": 1, "lora-fa": 1}.get(options["zo-method"], 16))
    two = options.get("zo-estimator", "two-sided" if streams == 1 else "loo")
    return sequences * (streams + {"two-sided": streams, "base": 1, "loo": 0}[two])


def curve_of(run, per_step, start):
    """[passes, loss]; what bases took was taken in the beginning."""
    events = [json.loads(x) for x in (run / "journal.jsonl").read_text().splitlines()]
    last = [e for e in events if "sequence_forwards" in e][-1:]
    bases = last[0]["sequence_forwards"] - per_step * last[0]["step"] if last else 0
    return [[0, round(start, 5)]] + [[bases + per_step * e["step"], round(e["loss"], 5)]
                                     for e in events if e["event"] == "eval"]


@functools.cache
def start_loss(model, headers):
    done = subprocess.run([PROGRAM, "eval", model, "--data", headers, "--part", "valid", "--seq",
                           str(SHAPE["seq"]), "--compute", "f32", "--tokens", "8192", "--json"],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["loss"]


def measure(folder, headers, work, rate, seed):
    options, sequences, key, _ = WORKS[work]
    per_step = forwards_per_step(options, sequences)
    steps = FORWARDS // per_step
    rho = {"zo-rho": 0} if key == "zo-lr" else {}
    model = folder / ("base-q8.gguf" if work == "Q8_0 base" else "base")
    with tempfile.TemporaryDirectory() as out:
        run = pathlib.Path(out) / "run"
        fine = autoane("train", "--base", model, "--data", headers, "--seq", SHAPE["seq"],
                       "--batch-tokens", sequences * SHAPE["seq"], "--budget", f"{steps}steps",
                       "--eval-every", f"{max(1, steps // 16)}steps", "--eval-tokens", 8192,
                       "--checkpoint-every", "0", "--seed", seed, "--zo-seed", seed, "--threads", 1,
                       "--compute", "f32", "--quiet", "--out", run,
                       *own({**options, **rho, key: rate}))
        curve = curve_of(run, per_step, start_loss(model, headers))
    return {"work": work, "rate": rate, "seed": seed, "diverged": not fine, "curve": curve}


def load():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def save(rows):
    rows.sort(key=lambda r: (r["work"], r["rate"], r["seed"]))
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


def final(row):
    return math.inf if row["diverged"] or not row["curve"] else row["curve"][-1][1]


def best_rate(rows, work):
    """The rate with the least mean loss over the seeds that all rates have."""
    by_rate = {}
    for r in rows:
        if r["work"] == work:
            by_rate.setdefault(r["rate"], {})[r["seed"]] = final(r)
    means = {rate: v[1] for rate, v in by_rate.items() if 1 in v}
    return min(means, key=means.get) if means else None


def work_list(only):
    names = []
    for experiment, works in EXPERIMENTS.items():
        if not only or experiment in only:
            names += [w for w in works if w not in names]
    return names


def run_all(a):
    folder = pathlib.Path(a.folder or tempfile.mkdtemp(prefix="autoane-zo-"))
    folder.mkdir(exist_ok=True)
    headers = base(folder)
    rows = load()
    names = work_list(a.only.split(",") if a.only else None)
    for stage in ("grid", "seeds"):        # all rates with the first seed; the best with the others
        jobs = []
        for work in names:
            given = WORKS[work][3]
            at = best_rate(rows, work if given else "activation A")
            if stage == "grid":
                jobs += [(work, rate, 1) for rate in given or []]
            elif at is not None:
                jobs += [(work, at, seed) for seed in SEEDS]
        done = {(r["work"], r["rate"], r["seed"]) for r in rows}
        todo = [j for j in jobs if j not in done]
        with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
            futures = [pool.submit(measure, folder, headers, *job) for job in todo]
            for i, future in enumerate(concurrent.futures.as_completed(futures)):
                row = future.result()
                rows.append(row)
                save(rows)
                print(f"{stage} {i + 1}/{len(todo)} {row['work']} {row['rate']:g} seed "
                      f"{row['seed']}: {final(row):.4f}", flush=True)


# ---- what came out -------------------------------------------------------------------------------

def best(rows, work):
    """Rows of all seeds at the work's best rate (of a Q8_0 base: at that of floats)."""
    at = best_rate(rows, work if WORKS[work][3] else "activation A")
    return {r["seed"]: r for r in rows if r["work"] == work and r["rate"] == at}


def mean_interval(values):
    if len(values) < 2:
        return (values[0] if values else math.nan), math.nan
    return (statistics.mean(values),
            T975[len(values)] * statistics.stdev(values) / math.sqrt(len(values)))


def forwards_to(curve, loss):
    """Forward passes at which the curve first reaches loss, between evaluations by a line."""
    for (x0, y0), (x1, y1) in zip(curve, curve[1:]):
        if y1 <= loss:
            return x1 if y0 <= y1 else x0 + (x1 - x0) * max(0, (y0 - loss) / (y0 - y1))
    return math.inf


def fewer(rows, reference, contender):
    """Per seed, how many times fewer passes the contender needs for the reference's last loss."""
    a, b = best(rows, reference), best(rows, contender)
    return [a[s]["curve"][-1][0] / forwards_to(b[s]["curve"], final(a[s]))
            for s in SEEDS if s in a and s in b]


def text(value, off, digits=4):
    return f"{value:.{digits}f}" + ("" if math.isnan(off) else f" ± {off:.{digits}f}")


def ratio_row(rows, name, what, reference, contender, need):
    ratios = fewer(rows, reference, contender)
    if not ratios:
        return None
    logs, off = mean_interval([math.log(max(r, 1e-3)) for r in ratios])
    low, high = (math.exp(logs - off), math.exp(logs + off)) if len(ratios) > 1 else (math.nan,) * 2
    return [name, what, f"{math.exp(logs):.1f} times ({low:.1f} to {high:.1f})", need[0],
            "pass" if math.exp(logs) >= need[1] else "**fail**"]


def verdicts(rows):
    out = []
    have = {r["work"] for r in rows}

    def finals(work):
        return [final(r) for r in best(rows, work).values()]

    out.append(ratio_row(rows, "E1", "16 streams on one sequence, one-sided, against two sides of "
                         "one direction on 16 sequences: fewer passes to the same loss",
                         *EXPERIMENTS["E1"], (">= 1.5", 1.5)))
    out.append(ratio_row(rows, "E2", "A from activations against a random A: fewer passes",
                         *EXPERIMENTS["E2"], (">= 2", 2)))
    if all(w in have for w in EXPERIMENTS["E3"]):
        means = {w: mean_interval(finals(w)) for w in EXPERIMENTS["E3"]}
        spread = max(m for m, _ in means.values()) - min(m for m, _ in means.values())
        sd = statistics.mean(statistics.stdev(finals(w)) for w in means)
        out.append(["E3", "ranks 1, 2, 4, 8, 16 over a random A: largest difference",
                    f"{spread:.4f}; seeds {sd:.4f}", "<= 2 seed deviations",
                    "pass" if spread <= 2 * sd else "**fail**"])
    if all(w in have for w in EXPERIMENTS["E5"]):
        gaps = {eps: statistics.mean(finals(f"loo, eps {eps:g}")) -
                statistics.mean(finals(f"base, eps {eps:g}")) for eps in (1e-3, 1e-2, 3e-2)}
        fine = all(g <= .005 for g in gaps.values()) and gaps[3e-2] < 0
        out.append(["E5", "leave-one-out minus base loss, eps 1e-3, 1e-2, 3e-2",
                    ", ".join(f"{g:+.4f}" for g in gaps.values()), "<= +0.005, below 0 at 3e-2",
                    "pass" if fine else "**fail**"])
    if "Q8_0 base" in have:
        a, b = best(rows, "activation A"), best(rows, "Q8_0 base")
        shares = [(b[s]["curve"][0][1] - final(b[s])) / (a[s]["curve"][0][1] - final(a[s]))
                  for s in SEEDS if s in a and s in b]
        off = max(abs(x - 1) for x in shares)
        out.append(["E9", "gain on a base in Q8_0 against floats, same seeds",
                    f"within {100 * off:.0f} %", "within 10 %", "pass" if off <= .1 else "**fail**"])
    if all(w in have for w in EXPERIMENTS["E11"]):
        cells = []
        for w in EXPERIMENTS["E11"]:
            grid = {r["rate"]: final(r) for r in rows if r["work"] == w and r["seed"] == 1}
            top = min(grid.values())
            safe = sum(v <= top + .02 for v in grid.values())
            cells.append(f"{w.split()[-1]} {top:.3f}, {safe} of {len(grid)} rates within 0.02")
        out.append(["E11", "scalars as they are, over their deviation, over its slow mean: best "
                    "loss, width of the safe range", "; ".join(cells), "documented", "–"])
    out.append(ratio_row(rows, "row 3", "`zo-auto` against MeZO-LoRA at its best rate: fewer "
                         "passes", *EXPERIMENTS["row 3"], (">= 2, aim 4", 2)))
    return [row for row in out if row]


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] +
                     ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def grid_table(rows):
    lines = []
    for work in dict.fromkeys(r["work"] for r in rows):
        grid = sorted((r["rate"], final(r)) for r in rows if r["work"] == work and r["seed"] == 1)
        mean, off = mean_interval([final(r) for r in best(rows, work).values()])
        lines.append([work, text(mean, off), f"{best_rate(rows, work) or grid[0][0]:g}", " ".join(
            f"{rate:g}: {'–' if math.isinf(v) else f'{v:.3f}'}" for rate, v in grid)])
    return table(["work", f"loss after {FORWARDS} passes", "best rate", "grid, first seed"], lines)


def picture(rows):
    """Loss against passes, first seed, each at its best rate."""
    chosen = [w for w in ("MeZO-LoRA", "MeZO, two-sided, 16 sequences",
                          "16 shared streams, 1 sequence", "random A", "activation A")
              if best(rows, w)]
    curves = [best(rows, w)[1]["curve"] for w in chosen if 1 in best(rows, w)]
    if not curves:
        return None
    ys = [y for c in curves for _, y in c if math.isfinite(y)]
    lo, hi = min(ys), max(ys)
    colours = ["#c44", "#c90", "#36c", "#888", "#284"]
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 300" font-family="sans-serif" '
           'font-size="11"><rect width="640" height="300" fill="#fff"/>',
           '<rect x="50" y="20" width="400" height="240" fill="none" stroke="#bbb"/>',
           f'<text x="46" y="26" text-anchor="end">{hi:.2f}</text>',
           f'<text x="46" y="260" text-anchor="end">{lo:.2f}</text>',
           '<text x="250" y="285" text-anchor="middle">forward passes of a sequence, 0 to '
           f'{FORWARDS}</text><text x="50" y="14">validation loss, nats per byte</text>']
    for i, (work, curve) in enumerate(zip(chosen, curves)):
        points = " ".join(f"{50 + 400 * x / FORWARDS:.1f},{20 + 240 * (hi - y) / (hi - lo):.1f}"
                          for x, y in curve)
        out.append(f'<polyline fill="none" stroke="{colours[i]}" stroke-width="1.5" '
                   f'points="{points}"/><text x="460" y="{40 + 18 * i}" fill="{colours[i]}">'
                   f'{work}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def write_page():
    rows = load()
    page = ROOT / "docs" / "zeroth-order.md"
    words = page.read_text(encoding="utf-8")
    for name, made in (("verdicts", table(["", "experiment", "measured", "asked", ""],
                                          verdicts(rows))), ("grid", grid_table(rows))):
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        head, _, rest = words.partition(begin)
        words = head + begin + made + end + rest.partition(end)[2]
    page.write_text(words, encoding="utf-8")
    drawn = picture(rows)
    if drawn:
        (ROOT / "docs" / "zeroth-order.svg").write_text(drawn, encoding="utf-8")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--only", help="some of " + ", ".join(EXPERIMENTS))
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--folder", help="where texts and bases are kept")
    p.add_argument("--tables", action="store_true")
    a = p.parse_args()
    if not a.tables:
        run_all(a)
    write_page()


if __name__ == "__main__":
    main()
