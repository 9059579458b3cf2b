"""--device blas over the OpenBLAS of the Python package scipy-openblas32.

The C test props_blas compares products, losses and gradients with this library; here the program
trains with it, and the losses of both devices agree.
"""
import os
import pathlib
import subprocess
import sys

import scipy_openblas32

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from e2e import ROOT, SHAPE, case, check, done, main, run, write_text

LIBRARY = str(pathlib.Path(scipy_openblas32.get_lib_dir()) / scipy_openblas32.get_library(True))
BUILD = pathlib.Path(os.environ.get("AA_BUILD") or ROOT / "build")
ARGUMENTS = ["--data", "text.txt", *SHAPE, "--batch-tokens", "256", "--eval-tokens", "2048",
             "--budget", "30steps", "--seed", "3"]


@case
def c_tests_find_it():
    result = subprocess.run([BUILD / "tests" / "props_blas"], capture_output=True, text=True,
                            env=dict(os.environ, AA_BLAS=LIBRARY), timeout=120)
    text = result.stdout + result.stderr
    check(result.returncode == 0 and "SKIPPED" not in text and "FAILED" not in text, text)


@case
def trains_to_the_same_loss():
    write_text("text.txt", 100000)
    ours = done("train", *ARGUMENTS, "--out", "cpu", "--json").json()
    theirs = done("train", *ARGUMENTS, "--out", "blas", "--device", "blas", "--blas", LIBRARY,
                  "--json").json()
    check(abs(ours["loss"] - theirs["loss"]) < 1e-3, f"{ours['loss']} and {theirs['loss']}")
    first = pathlib.Path("blas/journal.jsonl").read_text().splitlines()[0]
    check('"device":"blas"' in first and "OpenBLAS" in first, first)


@case
def plan_and_bench_name_it():
    os.environ["AA_BLAS"] = LIBRARY
    shape = [*SHAPE, "--vocab", "300", "--device", "blas", "--json"]
    plan = done("plan", *shape, "--batch-tokens", "256").json()
    check(plan["device"] == "blas" and "OpenBLAS" in plan["blas"], plan)
    check(plan["packed_bytes"] == 0, plan)
    step = done("bench", "step", *shape, "--batch-tokens", "256", "--seconds", "0.1").json()
    check(step["device"] == "blas" and step["tokens_per_s_median"] > 0, step)
    del os.environ["AA_BLAS"]


@case
def bf16_is_refused():
    result = run("plan", *SHAPE, "--vocab", "300", "--device", "blas", "--compute", "bf16",
                 "--blas", LIBRARY)
    check(result.status == 2 and "--compute f32" in result.err, "not refused", result)


if __name__ == "__main__":
    main()
