"""The tables of docs/performance.md follow from bench/results, and what bench/run refuses."""
import json
import pathlib
import subprocess
import sys

from e2e import ROOT, case, check, main

BENCH = pathlib.Path(ROOT) / "bench"
sys.path.insert(0, str(BENCH))
import bench    # noqa: E402
import tables   # noqa: E402


def python(*words):
    return subprocess.run([sys.executable, *map(str, words)], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@case
def documents_are_up_to_date():
    result = python(BENCH / "tables.py", "--check")
    check(result.returncode == 0, result.stdout)


def step(who, median, **more):
    return {"work": "R, 1280 tokens", "who": who, "median": median, "best": median,
            "peak_rss_bytes": 2 ** 29, **more}


@case
def targets_are_judged():
    own = {"share_of_peak": 0.75, "isa": "avx512", "kernels": {"linear forward": 0.8, "adamw": 0.2}}
    r = {"machine": {"isa": "avx512"}, "step": [
        step("f32", 1000, **own), step("PyTorch eager", 500), step("PyTorch compiled", 400),
        step("f32, 1 thread", 520, **own)]}
    rows = {what: (value, met) for what, value, _, met in tables.targets(r)}
    wanted = {"f32, share of peak": ("75.0 %", "must"),
              "f32 against PyTorch eager": ("2.00x", "**missed**"),
              "f32 against PyTorch compiled": ("2.50x", "aim"),
              "f32 against f32, 1 thread": ("1.92x", "must"),
              "time outside products": ("20.0 %", "**missed**"),
              "peak memory against PyTorch eager": ("1.00x", "**missed**")}
    for name, row in wanted.items():
        got = [v for k, v in rows.items() if k == f"R, 1280 tokens: {name}"]
        check(got == [row], f"{name}: {got}, expected {row}")


@case
def exponents():
    check(abs(tables.exponent([(x, 3 * x ** -0.7) for x in (1, 10, 500)]) + 0.7) < 1e-12, "slope")


@case
def words_of_the_program():
    """What bench.py asks for is understood by the program, and a refusal is no crash."""
    work = bench.WORK["64 wide, 512 tokens"]
    out = bench.ours(["bench", "step", *bench.shape_words(dict(work, vocab=512)),
                      "--seconds", "0.01"])
    check(out["tokens_per_s_median"] > 0 and out["peak_rss_bytes"] > 0, json.dumps(out))
    check(bench.ours(["bench", "step", "--no-such-option"]) is None, "a refusal gives nothing")
    result = python(BENCH / "bench.py", "--only", "speed")
    check(result.returncode == 2 and "step, gemm" in result.stdout, result.stdout)


if __name__ == "__main__":
    main()
