"""Tests of the program from outside: run it, look at exit status, output and files.

A test script is a list of functions marked @case; main() runs them in order in one temporary
directory and ends with "N passed, N failed". A case fails by an exception and is skipped by Skip.

    AUTOANE          the program (default: build/autoane of this tree)
    AA_DEEP          set: the exhaustive versions
    AA_SLOW          set: the program is slow (sanitizers), time limits grow
"""
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = os.path.abspath(os.environ.get("AUTOANE") or ROOT / "build" / "autoane")
DEEP = bool(os.environ.get("AA_DEEP"))
SLOW = bool(os.environ.get("AA_SLOW"))

# A model that trains a step in a millisecond or two. Everything that decides the result is given.
SHAPE = ["--dim", "32", "--layers", "2", "--heads", "2", "--kv-heads", "1", "--ffn", "64",
         "--seq", "32", "--tokenizer", "bytes"]
TINY = SHAPE + ["--batch-tokens", "128", "--eval-tokens", "256", "--seed", "7"]


class Skip(Exception):
    """Raised by a case that cannot run here; the text is the reason."""


class Result:
    """What one run of the program did. status is negative when a signal ended it."""

    def __init__(self, args, status, out, err, wall_s, peak_bytes):
        self.args, self.status, self.out, self.err = args, status, out, err
        self.wall_s, self.peak_bytes = wall_s, peak_bytes

    def __str__(self):
        return (f"$ autoane {' '.join(self.args)}\nstatus {self.status}\n"
                f"--- standard output\n{self.out[-1500:]}\n--- standard error\n{self.err[-1500:]}")

    def json(self):
        lines = [line for line in self.out.splitlines() if line.strip()]
        check(len(lines) >= 1, "no JSON on standard output", self)
        value = json.loads(self.out)
        check(isinstance(value, dict), "standard output is not one JSON object", self)
        return value


def check(condition, what, result=None):
    if not condition:
        raise AssertionError(f"{what}\n{result}" if result is not None else what)


def start(*args, env=None, cwd=None, limits=None, stdout=None, stdin=None):
    """The program running in the background, its output being read. limits: rlimit -> value;
    stdin: text."""
    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_DFL)     # a background shell ignores it
        for name, value in (limits or {}).items():
            if name == resource.RLIMIT_FSIZE:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)     # write() then says EFBIG
            resource.setrlimit(name, (value, value))

    typed = tempfile.TemporaryFile()
    typed.write((stdin or "").encode())
    typed.seek(0)
    process = subprocess.Popen([PROGRAM] + [str(a) for a in args], stdin=typed,
                               stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
                               preexec_fn=prepare, env={**os.environ, **(env or {})},
                               restore_signals=False)
    typed.close()
    process.words, process.began = [str(a) for a in args], time.time()
    process.texts = [b"", b""]
    process.readers = [threading.Thread(target=drain, args=(process, i, stream), daemon=True)
                       for i, stream in enumerate((process.stdout, process.stderr)) if stream]
    for reader in process.readers:
        reader.start()
    return process


def drain(process, i, stream):
    with stream:
        process.texts[i] = stream.read()


def finish(process, timeout=60):
    """Waits for a started program; kills it and fails when it takes longer than timeout seconds."""
    deadline = time.time() + timeout * (8 if SLOW else 1)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.time() > deadline:
            process.kill()
            os.wait4(process.pid, 0)
            process.returncode = -9
            raise AssertionError(f"autoane {' '.join(process.words)}: still running after "
                                 f"{timeout} s")
        time.sleep(0.002)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.time() - process.began
    for reader in process.readers:
        reader.join()
    texts = [text.decode("utf-8", "replace") for text in process.texts]
    unit = 1 if sys.platform == "darwin" else 1024
    return Result(process.words, process.returncode, *texts, wall_s, usage.ru_maxrss * unit)


def run(*args, timeout=60, **how):
    return finish(start(*args, **how), timeout)


def done(*args, **how):
    """Runs and requires success."""
    result = run(*args, **how)
    check(result.status == 0, "the command failed", result)
    return result


def refused(result, status, *words):
    """The run ended with that status, and standard error holds each of the words."""
    check(result.status == status, f"expected status {status}", result)
    check(result.err.strip(), "nothing on standard error", result)
    for word in words:
        check(word.lower() in result.err.lower(), f"standard error does not mention '{word}'",
              result)
    check("assert" not in result.err.lower(), "an assertion failed", result)


def write_text(path, n_bytes=60000, seed=1):
    """A text with some structure, cut into documents by blank lines."""
    draw = random.Random(seed)
    names, verbs = ["Ann", "Bob", "Mia", "Tom", "Zoë"], ["saw", "took", "lost", "found", "liked"]
    things = ["a red ball", "the old boat", "a small bird", "his hat", "two apples"]
    lines, size = [], 0
    while size < n_bytes:
        line = f"{draw.choice(names)} {draw.choice(verbs)} {draw.choice(things)}."
        if draw.random() < 0.1:
            line += "\n"
        lines.append(line)
        size += len(line.encode()) + 1
    pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def tiny_run(out, *more, data="text.txt"):
    """Arguments of a small deterministic training run."""
    if not os.path.exists(data):
        write_text(data)
    return ["train", "--data", data, "--out", str(out)] + TINY + [str(m) for m in more]


def journal(run_dir):
    """The events of a journal without what depends on clock, machine, place and threads."""
    events = []
    for line in (pathlib.Path(run_dir) / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        event.pop("time", None)
        event.pop("host", None)
        for key in ("out", "threads"):
            event.get("options", {}).pop(key, None)
        events.append(event)
    return events


def option(run_dir, key):
    """The value of an option in config.ini."""
    for line in pathlib.Path(run_dir, "config.ini").read_text().splitlines():
        if line.startswith(f"{key} = "):
            return line.split(" = ", 1)[1]
    return None


def same_run(a, b, link="last"):
    """Weights, moments and journals of two run directories hold the same bits."""
    for name in ("model.safetensors", "train_state.safetensors"):
        x, y = (pathlib.Path(d) / link / name for d in (a, b))
        check(x.read_bytes() == y.read_bytes(), f"{x} and {y} differ")
    x, y = journal(a), journal(b)
    for i, (e, f) in enumerate(zip(x, y)):
        check(e == f, f"journal line {i + 1} differs:\n{e}\n{f}")
    check(len(x) == len(y), f"the journals have {len(x)} and {len(y)} lines")


CASES = []


def case(function):
    CASES.append(function)
    return function


def main(needs_program=True):
    if needs_program and not os.access(PROGRAM, os.X_OK):
        print(f"{PROGRAM} is not there: build first")
        print("0 passed, 1 failed")
        sys.exit(1)
    wanted = sys.argv[1:]
    passed = failed = 0
    where = tempfile.mkdtemp(prefix="aa-e2e-")
    os.chdir(where)
    os.environ["XDG_CACHE_HOME"] = os.path.join(where, "cache")
    try:
        for function in CASES:
            name = function.__name__
            if wanted and name not in wanted:
                continue
            began = time.time()
            try:
                function()
                passed += 1
                print(f"ok {name} ({time.time() - began:.1f} s)", flush=True)
            except Skip as reason:
                print(f"SKIPPED {name}: {reason}", flush=True)
            except Exception as error:                      # a failed case must not hide the rest
                failed += 1
                if not isinstance(error, AssertionError):
                    traceback.print_exc(file=sys.stdout)
                print(f"FAILED {name}: {error}", flush=True)
    finally:
        os.chdir("/")
        shutil.rmtree(where, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
