"""Every example of the README and of the guide to fine-tuning runs, in order, in one directory.

Blocks fenced as ```sh are run by bash with `autoane` in the path; blocks fenced as ```text or
without a language are pictures. Wall-clock budgets are shortened to two seconds, and the hub is
one of our own.
"""
import os
import pathlib
import re
import subprocess

from e2e import PROGRAM, ROOT, SLOW, check, case, main
from hub import Hub

FENCE = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
# Commands of a checkout, which the test of a program cannot repeat.
OF_A_CHECKOUT = ("./demo", "./check", "git ", "cmake ")


def examples(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text[:match.start()].count("\n") + 2
        kept = [row for row in match[1].splitlines() if not row.startswith(OF_A_CHECKOUT)]
        if any(row.strip() and not row.startswith("#") for row in kept):
            yield line, re.sub(r"--budget \d+[smh]\b", "--budget 2s", "\n".join(kept))


def example_hub():
    hub = Hub()
    hub.add("HuggingFaceTB/SmolLM2-135M-Instruct",
            {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": bytes(1000)})
    hub.add("datasets/roneneldan/TinyStories",
            {"TinyStories-train.txt": b"One day. " * 99, "TinyStories-valid.txt": b"One day."})
    return hub


def every_example(page):
    folder = pathlib.Path(page).stem
    os.makedirs(folder)
    os.makedirs("bin", exist_ok=True)
    if not os.path.exists("bin/autoane"):
        os.symlink(PROGRAM, "bin/autoane")
    path = os.path.abspath("bin") + os.pathsep + os.environ["PATH"]
    pathlib.Path(folder, "novel.txt").write_text(
        "\n\n".join(f"Chapter {i}. It was a dark night, number {i * 7919 % 1000}, and the wind "
                    f"sang of {i * 31 % 97} ships.\n" * 20 for i in range(60)))
    found = list(examples(page))
    check(len(found) >= 3, f"{page} has fewer than three examples")
    with example_hub() as hub:
        env = {**os.environ, "PATH": path, "HF_ENDPOINT": hub.url}
        for line, script in found:
            try:
                done = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", script], cwd=folder,
                                      env=env, capture_output=True, text=True,
                                      errors="replace", timeout=120 * (8 if SLOW else 1))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{page}:{line}: still running after two minutes\n{script}")
            check(done.returncode == 0, f"{page}:{line}: status {done.returncode}\n{script}\n"
                  f"{done.stdout[-1000:]}\n{done.stderr[-1500:]}")


@case
def readme():
    every_example("README.md")


@case
def fine_tuning():
    every_example("docs/fine-tuning.md")


if __name__ == "__main__":
    main()
