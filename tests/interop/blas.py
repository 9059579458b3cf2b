"""Linear maps by OpenBLAS, as an oracle: the same run gives the same losses but for rounding."""
import json
import pathlib
import sys

import scipy_openblas32

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from e2e import case, check, done, journal, main, refused, run, tiny_run, write_text

LIBRARY = str(next(pathlib.Path(scipy_openblas32.get_lib_dir()).glob("libscipy_openblas.*")))
STEPS = ["--budget", "60steps", "--log-every", "1steps", "--seed", "4"]
BLAS = ["--device", "blas", "--blas", LIBRARY]


def losses(run_dir):
    return [e["loss"] for e in journal(run_dir) if e["event"] == "step"]


@case
def same_curves():
    """Biases, tied and untied tables, scaled branches, more than one pass for an update."""
    differing = 0                       # small products may well be added in our order
    for name, more in {"plain": [], "biased": ["--arch", "qwen2", "--no-tied"],
                       "scaled": ["--residual-scale", "0.5", "--arch", "qwen3"],
                       "passes": ["--micro-batch", "32", "--init", "scaled"]}.items():
        done(*tiny_run(f"{name}-own", *STEPS, *more))
        done(*tiny_run(f"{name}-blas", *STEPS, *more, *BLAS))
        own, blas = losses(f"{name}-own"), losses(f"{name}-blas")
        worst = max(abs(a - b) for a, b in zip(own, blas))
        check(len(own) == len(blas) == 60 and worst < 1e-3, f"{name}: {worst}")
        differing += own != blas
        print(f"   {name}: largest difference {worst:.1e} nats")
    check(differing, "not one bit differs: was the library used at all?")


@case
def bench_and_plan():
    shape = ["--preset", "nano", "--vocab", "512"]
    result = json.loads(done("bench", "step", *shape, *BLAS, "--seconds", "0.1", "--json").out)
    check(result["device"] == "blas" and result["tokens_per_s_median"] > 0, str(result))
    plan = [json.loads(done("plan", *shape, *more, "--json").out) for more in ([], BLAS)]
    check(plan[0]["packed_bytes"] > 0 and plan[1]["packed_bytes"] == 0, "packed copies of BLAS")


@case
def what_cannot_be():
    write_text("text.txt")
    refused(run(*tiny_run("no", *STEPS, "--device", "blas", "--blas", "absent.so")), 1, "absent.so")
    refused(run(*tiny_run("no", *STEPS, *BLAS, "--compute", "bf16")), 2, "bf16", "blas")


if __name__ == "__main__":
    main()
