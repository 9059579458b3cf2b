"""Files that are truncated, corrupted, empty, hostile or of the wrong kind.

Every reader of the program gets damaged versions of every file it reads. Whatever happens, the
program says so and ends by itself; what a checkpoint's digests cover must be refused. With
AA_FUZZ_SECONDS it goes on with random damage for that long.
"""
import os
import pathlib
import random
import shutil
import time

from e2e import DEEP, case, check, done, main, refused, run, tiny_run, write_text


def material():
    """A finished run, a tokenizer and a token file, made once."""
    if os.path.exists("good"):
        return
    write_text("text.txt")
    done("tokenizer", "train", "--data", "text.txt", "--vocab", "300", "--out", "tok.json")
    done("data", "tokenize", "--data", "text.txt", "--tokenizer", "tok.json", "--out", "good.tok")
    done(*tiny_run("good", "--budget", "10steps", "--checkpoint-every", "5steps",
                   "--tokenizer", "tok.json", "--log-every", "1steps"))


def flip(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1:]


def splice(data, draw):
    a, b, n = draw.randrange(len(data)), draw.randrange(len(data)), draw.randrange(1, 64)
    return data[:a] + data[b:b + n] + data[a + n:]


STRUCTURAL = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[:len(data) // 2],
    "zeros in front": lambda data: bytes(64) + data[64:],
    "hostile length": lambda data: b"\xff" * 8 + data[8:],
    "large length": lambda data: (2 ** 40).to_bytes(8, "little") + data[8:],
    "wrong kind": lambda data: b"\x7fELF" + bytes(range(256)) * 8,
}
if DEEP:
    STRUCTURAL.update({f"cut at {k}/16": lambda data, k=k: data[:len(data) * k // 16]
                       for k in range(1, 16)})
    STRUCTURAL["last byte"] = lambda data: data.rstrip(b"\n")[:-1]     # JSON needs no line's end
    STRUCTURAL["longer"] = lambda data: data + b"x"

# file of the run -> commands that read it
MODEL = [["generate", "bad", "--prompt", "Ann", "--tokens", "3"],
         ["eval", "bad", "--data", "text.txt"], ["info", "bad/last"]]
RESUME = [["train", "--resume", "bad"]]
READERS = {
    "last/model.safetensors": MODEL + RESUME,
    "last/config.json": MODEL + RESUME,
    "last/tokenizer.json": MODEL[:1] + RESUME,
    "last/train_state.safetensors": RESUME,
    "last/run.json": RESUME,
    "journal.jsonl": [["report", "bad"]],
    "config.ini": [["train", "bad/config.ini", "--out", "bad2", "--budget", "3steps"]] + RESUME,
}


def damaged_run(file, change):
    """A copy of the run whose best is its last checkpoint, with one file changed."""
    shutil.rmtree("bad", ignore_errors=True)
    shutil.rmtree("bad2", ignore_errors=True)
    shutil.copytree("good", "bad", symlinks=True)
    last = os.readlink("bad/last")
    os.remove("bad/best")
    os.symlink(last, "bad/best")
    path = pathlib.Path("bad") / file
    path.write_bytes(change(path.read_bytes()))


def survives(words, what, must_fail):
    result = run(*words, timeout=20)
    check(0 <= result.status <= 2, f"{what}: ended with status {result.status}", result)
    if must_fail:
        check(result.status in (1, 2), f"{what}: accepted", result)
    if result.status:
        refused(result, result.status)


@case
def damaged_runs():
    material()
    for file, commands in READERS.items():
        for name, change in STRUCTURAL.items():
            damaged_run(file, change)
            for words in commands:
                # A journal of which only the end is torn is still a journal, and an empty
                # config file asks for nothing.
                lenient = file in ("journal.jsonl", "config.ini")
                survives(words, f"{file}, {name}", must_fail=not lenient)


@case
def one_bit_in_a_checkpoint():
    """Digests: a single flipped bit anywhere in a checkpoint stops a resume."""
    material()
    draw = random.Random(3)
    names = [p.name for p in pathlib.Path("good/last").iterdir() if p.name != "run.json"]
    for name in sorted(names):
        for _ in range(20 if DEEP else 2):
            damaged_run(f"last/{name}", lambda data: flip(data, draw))
            result = run("train", "--resume", "bad", timeout=20)
            refused(result, 1, name)


@case
def other_files():
    material()
    readers = {
        "good.tok": ["data", "inspect", "bad.tok", "--tokenizer", "tok.json"],
        "tok.json": ["tokenizer", "encode", "--tokenizer", "bad.json", "--data", "text.txt"],
    }
    for good, words in readers.items():
        bad, data = "bad" + pathlib.Path(good).suffix, pathlib.Path(good).read_bytes()
        for name, change in STRUCTURAL.items():
            pathlib.Path(bad).write_bytes(change(data))
            survives(words, f"{good}, {name}", must_fail=True)
    pathlib.Path("bad.tok").write_bytes(pathlib.Path("good.tok").read_bytes()[:8]
                                        + (99).to_bytes(4, "little")
                                        + pathlib.Path("good.tok").read_bytes()[12:])
    refused(run(*readers["good.tok"]), 1, "bad.tok", "version")


@case
def odd_texts():
    """Texts that are no texts: training on them ends with a message or works."""
    material()
    texts = {"empty.txt": b"", "blank.txt": b"\n" * 5000, "short.txt": b"a", "bytes.txt":
             bytes(random.Random(1).randrange(256) for _ in range(20000)),
             "broken.jsonl": b'{"text": "a"}\n{"text": \n', "wrong.jsonl": b'{"words": 3}\n' * 50,
             "list.jsonl": b"[1, 2]\n"}
    for name, data in texts.items():
        pathlib.Path(name).write_bytes(data)
        shutil.rmtree("odd", ignore_errors=True)
        result = run(*tiny_run("odd", "--budget", "3steps", data=name), timeout=20)
        check(result.status in (0, 1, 2), f"{name}: status {result.status}", result)
        if result.status:
            refused(result, result.status, "jsonl" if name.endswith("jsonl") else "text")
    os.makedirs("nothing", exist_ok=True)
    refused(run(*tiny_run("odd2", "--budget", "3steps", data="nothing")), 1, "nothing")


@case
def damaged_cache():
    """Token files kept from an earlier run are made again or refused, never believed."""
    material()
    for name, change in STRUCTURAL.items():
        for cached in pathlib.Path("cache").rglob("*.tok"):
            cached.write_bytes(change(cached.read_bytes()) if cached.stat().st_size else b"")
        shutil.rmtree("odd", ignore_errors=True)
        result = run(*tiny_run("odd", "--budget", "3steps"), timeout=20)
        check(result.status in (0, 1), f"cache, {name}: status {result.status}", result)
        if result.status:
            refused(result, 1, ".tok")
        shutil.rmtree("cache")


@case
def links_that_lead_nowhere():
    material()
    shutil.rmtree("bad", ignore_errors=True)
    shutil.copytree("good", "bad", symlinks=True)
    for link in ("last", "best"):
        os.remove(f"bad/{link}")
        os.symlink("step-999", f"bad/{link}")
    refused(run("train", "--resume", "bad"), 1, "bad")
    refused(run("generate", "bad", "--prompt", "a"), 1, "bad")


@case
def random_damage():
    """Random flips and splices, for AA_FUZZ_SECONDS (a few without)."""
    material()
    draw = random.Random(os.environ.get("AA_FUZZ_SEED", "1"))
    until = time.time() + float(os.environ.get("AA_FUZZ_SECONDS", "3"))
    files = list(READERS)
    while time.time() < until:
        file = draw.choice(files)
        count, kind = draw.randrange(1, 4), draw.choice((flip, splice))

        def change(data):
            for _ in range(count):
                data = kind(data, draw)
            return data
        damaged_run(file, change)
        words = draw.choice(READERS[file])
        if words[0] == "train" and file == "config.ini":
            continue                                    # may ask for a long run
        survives(words, f"{file}, {count} times {kind.__name__}", must_fail=False)


if __name__ == "__main__":
    main()
