#!/usr/bin/env python3
"""Full fine-tuning with each optimizer: what it costs in memory and time, and what is learned. A
small model is trained on generated stories, then tuned on the C headers of this machine.

    python3 bench/lowmem.py [--autoane build/release/autoane] [--work DIR] [--seeds 3] [--steps 250]

Rates are swept with the first seed (a factor of about three between neighbours, until the best has
one on either side); the best one then runs with every seed, for equal steps, and for equal time:
as many steps as take AdamW's processor time. Memory and time per step are those of SmolLM2-135M's
shape, one thread. Prints a table in Markdown and writes results to WORK/lowmem.json."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess

METHODS = {"adamw": 1e-3, "apollo-mini": 1e-3, "badam": 3e-3, "sgd": 1e-1}   # where sweeps begin
GRID = [m * 10.0 ** e for e in range(-6, 2) for m in (1, 3)]
SHAPE = ["--dim", "96", "--layers", "4", "--heads", "4", "--seq", "128", "--tokenizer", "bytes"]
SMOL = ["--dim", "576", "--layers", "30", "--heads", "9", "--kv-heads", "3", "--ffn", "1536",
        "--vocab", "49152", "--tied", "--seq", "256", "--batch-tokens", "256"]
QUIET = ["--eval-every", "0", "--checkpoint-every", "0", "--json"]


def run(args, *words):
    """The JSON object that the command prints, with its processor time and peak memory."""
    job = subprocess.Popen([args.autoane, *map(str, words)], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    out = job.stdout.read()
    said = job.stderr.read()
    _, status, used = os.wait4(job.pid, 0)
    result = json.loads(out) if out.strip().startswith("{") else {}
    result.update(status=os.waitstatus_to_exitcode(status), cpu_s=used.ru_utime + used.ru_stime,
                  rss_bytes=used.ru_maxrss * 1024, said=said)
    return result


def headers(path, size):
    with open(path, "wb") as out:
        for name in sorted(pathlib.Path("/usr/include").rglob("*.h")):
            if out.tell() < size and name.is_file():
                out.write(name.read_bytes())


def tune(args, method, rate, seed, steps):
    """Final validation loss (infinite if it diverged), and seconds of one step."""
    words = ["train", "--base", "base/last", "--data", "headers.txt", "--optimizer", method,
             "--lr", f"{rate:.0e}", "--seed", seed, "--seq", 128, "--batch-tokens", 512,
             "--budget", f"{steps}steps", "--threads", 1, *QUIET]
    if method == "sgd":
        words += ["--beta1", 0]
    subprocess.run(["rm", "-rf", "tuned"], check=True)
    result = run(args, *words, "--out", "tuned")
    loss = result.get("loss")
    return float("inf") if result["status"] or loss is None else loss, result["cpu_s"]


def sweep(args, method, start):
    tried = {}
    at = min(range(len(GRID)), key=lambda i: abs(GRID[i] / start - 1))
    while True:
        for i in (at - 1, at, at + 1):
            if 0 <= i < len(GRID) and i not in tried:
                tried[i] = tune(args, method, GRID[i], 1, args.steps)
        best = min(tried, key=lambda i: tried[i][0])
        if best in (at, 0, len(GRID) - 1):
            return GRID[best], {f"{GRID[i]:.0e}": tried[i][0] for i in sorted(tried)}
        at = best


def cost(args, method):
    """Memory and processor time of a step of the large shape."""
    words = ["bench", "step", *SMOL, "--optimizer", method, "--threads", 1, "--json",
             *(["--beta1", 0] if method == "sgd" else [])]
    long, short = (run(args, *words, "--seconds", s) for s in (12, 0.01))
    more = long["updates"] - short["updates"]
    return {"rss_bytes": long["peak_rss_bytes"],
            "step_s": (long["cpu_s"] - short["cpu_s"]) / more}


def save(rows):
    with open("lowmem.json", "w", encoding="ascii") as out:
        json.dump(rows, out, indent=1)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--autoane", default="build/release/autoane")
    p.add_argument("--work", default="lowmem-work")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, default=250)
    p.add_argument("--methods", default=",".join(METHODS), help="adamw first")
    p.add_argument("--no-cost", action="store_true", help="only the losses after equal steps")
    args = p.parse_args()
    args.autoane = str(pathlib.Path(args.autoane).resolve())
    os.makedirs(args.work, exist_ok=True)
    os.chdir(args.work)
    if not os.path.exists("base/last"):
        headers("headers.txt", 4_000_000)
        run(args, "train", "--data", "stories", *SHAPE, "--batch-tokens", 1024, "--budget",
            "600steps", "--out", "base", *QUIET)
    rows = json.load(open("lowmem.json")) if os.path.exists("lowmem.json") else {}
    for method in args.methods.split(","):
        if method in rows:
            continue
        rate, tried = sweep(args, method, METHODS.get(method, 1e-3))
        runs = [tune(args, method, rate, seed, args.steps) for seed in range(1, args.seeds + 1)]
        rows[method] = {"rate": rate, "tried": tried, "losses": [loss for loss, _ in runs],
                        "small_s": statistics.median(s for _, s in runs)}
        save(rows)
    if args.no_cost:
        return
    for method in args.methods.split(","):
        row = rows[method]
        if "step_s" in row:
            continue
        row.update(cost(args, method))
        row["time_steps"] = round(args.steps * rows["adamw"]["small_s"] / row["small_s"])
        row["time_losses"] = row["losses"] if method == "adamw" else [
            tune(args, method, row["rate"], seed, row["time_steps"])[0]
            for seed in range(1, args.seeds + 1)]
        save(rows)
    print("| optimizer | rate | peak RSS, MiB | CPU s/step | loss, equal steps | loss, equal time |")
    print("|---|---|---|---|---|---|")
    for method, r in rows.items():
        means = [f"{statistics.mean(v):.3f} ± {statistics.stdev(v) if len(v) > 1 else 0:.3f}"
                 for v in (r["losses"], r["time_losses"])]
        print(f"| {method} | {r['rate']:.0e} | {r['rss_bytes'] / 2**20:.0f} | {r['step_s']:.2f} | "
              f"{means[0]} | {means[1]} |")


if __name__ == "__main__":
    main()
