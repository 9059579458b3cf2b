"""bench/run without measuring: arguments, tables, and that docs/ is what the results give."""
import copy
import importlib.machinery
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

from e2e import ROOT, case, check, main

RUN = ROOT / "bench" / "run"
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "bench"))
import tables
import works

loader = importlib.machinery.SourceFileLoader("bench_run", str(RUN))
bench = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
loader.exec_module(bench)


def step(system, speed, rss=400, i=0, work="R-1280"):
    return {"group": "step", "work": work, "system": system, "round": i, "threads": 2,
            "tokens_per_s_median": speed, "tokens_per_s_best": 1.1 * speed, "share_of_peak": .5,
            "peak_rss_bytes": rss * 2**20,
            "kernels": [{"op": "linear dw", "share": .9, "gflops": 90.0, "gbs": 1.0}]}


def result(*samples):
    return {"machine": "Abacus, 2 cores, avx512", "isa": "avx512", "threads": 2, "quick": False,
            "versions": ["autoane 0"], "peak_gflops": 200.0, "read_gbs": 20.0, "notes": [],
            "samples": list(samples)}


def line(text, start):
    found = [x for x in text.splitlines() if x.startswith("| " + start)]
    check(len(found) == 1, f"{len(found)} lines begin with '{start}' in\n{text}")
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def run(*words):
    return subprocess.run([sys.executable, RUN, *words], capture_output=True, text=True, timeout=60)


@case
def documents_are_what_the_results_give():
    done = run("--check")
    check(done.returncode == 0, done.stdout + done.stderr)


@case
def a_changed_page_is_noticed():
    docs, results = pathlib.Path("docs"), pathlib.Path("results")
    docs.mkdir()
    shutil.copy(ROOT / "docs" / "performance.md", docs)
    growth = [{"group": "growth", "axis": "batch", "x": x, "tokens_per_s_median": 10.0 * x,
               "peak_rss_bytes": 2**20 * x, "plan_bytes": 2**20 * x} for x in (1, 2, 4)]
    bench.save(result(step("f32", 300.0), *growth), results, bench.GROUPS)
    names = bench.documents(results, docs, True)
    check(names == ["performance.md", "performance-abacus-2-cores-avx512.svg"], names)
    check(bench.documents(results, docs, False) == [], "written pages differ from themselves")
    page = docs / "performance.md"
    text = page.read_text(encoding="utf-8")
    check("| R-1280 | autoane f32 | 300 |" in text, text)
    page.write_text(text.replace("| 300 |", "| 301 |"), encoding="utf-8")
    check(bench.documents(results, docs, False) == ["performance.md"], "a changed number passes")
    page.write_text(text.replace("# Performance\n", "# Speed\n"), encoding="utf-8")
    check(bench.documents(results, docs, False) == [], "the words before the mark are ours to edit")


@case
def targets_are_met_or_not():
    data = result(step("f32", 300.0, 400), step("torch", 100.0, 900),
                  step("f32", 290.0, 400, 1), step("torch", 145.0, 900, 1),
                  step("torch compile", 200.0))
    text = tables.target_table(tables.Result(data))
    # within rounds 3.0 and 2.0: the median of ratios, between must and aim
    check(line(text, "R, 1280 tokens: against torch |")[1:] == ["2.50", "2.40", "3.00", "2.00",
                                                                          "met"],
          text)
    check(line(text, "R, 1280 tokens: against torch compile")[5] == "**not met**", text)
    check(line(text, "R, 1280 tokens: peak memory")[5] == "met", text)
    check(line(text, "second thread")[5] == "not measured", text)
    check(line(text, "R, 1280 tokens: time outside GEMM")[1:] == ["10 %", "14 %", "9 %", "–",
                                                                          "met"],
          text)
    old = copy.deepcopy(data)
    old["isa"] = "avx2"
    text = tables.target_table(tables.Result(old))
    check("against torch |" not in text, "AVX2 has no such row:\n" + text)
    check(line(text, "R, 1280 tokens: against torch compile")[2] == "1.20", text)


@case
def exponents_of_power_laws():
    points = [(x, 3 * x ** 1.5) for x in (1, 4, 10, 1000)]
    check(abs(tables.exponent(points) - 1.5) < 1e-9, tables.exponent(points))
    check(tables.exponent(points[:1]) is None, "one point has no slope")


@case
def worst_cell_knows_the_memory():
    cell = {"group": "gemm", "compute": "f32", "threads": 2, "op": "dx", "round": 0,
            "peak_gflops": 200.0}
    slow = {**cell, "tokens": 1, "rows": 512, "cols": 512, "gflops_median": 5.0}
    fast = {**cell, "tokens": 2048, "rows": 512, "cols": 512, "gflops_median": 180.0}
    _, worst = tables.Result(result(slow, fast)).gemm()
    bound = 2 * 512 * 512 / (4 * (512 * 512 + 1024)) * 20.0
    check(abs(worst - 5.0 / bound) < 1e-9, worst)


@case
def merging_keeps_other_groups():
    old = result(step("f32", 1.0), {"group": "gemm", "n": 1})
    new = result(step("f32", 2.0))
    merged = bench.merge(old, new, ["step"])["samples"]
    check([s["group"] for s in merged] == ["gemm", "step"], merged)
    check(merged[1]["tokens_per_s_median"] == 2.0, merged)
    bench.save(old, pathlib.Path("m"), bench.GROUPS)
    path = pathlib.Path("m") / "abacus-2-cores-avx512.json"
    check(json.loads(path.read_text(encoding="utf-8")) == old, "a file comes back changed")


@case
def arguments():
    for words in (["--only", "step,nothing"], ["--rounds", "-1"], ["--fast"]):
        done = run(*words)
        check(done.returncode == 2, f"{words}: {done.returncode} {done.stderr}")
    quick, full = bench.arguments(["--quick"]), bench.arguments([])
    check(quick.rounds < full.rounds and quick.seconds < full.seconds, "quick is not quicker")
    check(bench.arguments(["--only", "gemm,step"]).only == ["gemm", "step"], "--only")


@case
def every_work_has_whole_windows():
    points = [*works.WORKS.values(), *(p for axis in works.GROWTH.values() for p in axis)]
    for shape, tokens in points:
        check(tokens % shape["seq"] == 0 and shape["dim"] % shape["heads"] == 0, shape)


if __name__ == "__main__":
    main()
