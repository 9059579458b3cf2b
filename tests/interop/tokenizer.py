"""Tokenizers against the `tokenizers` library.

    tokenizer.py [PROGRAM]            PROGRAM: the autoane to test (default: AUTOANE, build/autoane)

Generates mixed text from a seed (scripts, emoji, every kind of digit, space and mark, very long
words, all code points), then: a tokenizer trained by autoane and by the library on the same text
has the same vocabulary and merges; both encode more than 5 MB to the same ids, for each known
pre-tokenizer; decoding gives the text back; bytes that are no UTF-8 survive. Ends with
"N passed, N failed".
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

END = "<|endoftext|>"
MIXED_BYTES = 5_500_000
TRAIN_BYTES = 600_000
VOCAB = 3000

WORDS = ("the and ing house Straße naïve café e\u0301te\u0301 don't I'LL we've it's x'ſ HTTP "
         "foo_bar <|endoftext|> Ω привет мир שלום مرحبا नमस्ते สวัสดี 日本語 中文字符 한국어 "
         "ｆｕｌｌ ℌ ﬁ").split()
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u3000", "\u2028", "\x0b",
          "\x0c", "\x85", "   ", "\n  ", "\u200b", "\u180e", "\u1680", " \n", "\t\t"]
EMOJI = ["😀", "👩\u200d👩\u200d👧", "🇩🇪", "👍🏽", "☃\ufe0f", "🧑🏿\u200d🚀"]
DIGITS = ["0", "12", "123", "4567", "²", "½", "Ⅷ", "٣٤", "१२३", "①", "𝟘𝟙", "\U00011de0", "１２", "一"]
SIGNS = list(".,;:!?-—…()[]{}'\"`~@#$%^&*+=|\\/<>«»„“”‘’¿¡€§") + ["...", "--", "'s", "'t", "!'re"]
MARKS = ["\u0301", "\u0308", "\u0323", "\u093f", "\u20dd", "\ufe0f", "\u200d"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
OTHER = r"\p{Lu}?\p{Ll}+|\p{L}+|\p{N}{1,2}|[^\s\p{L}\p{N}]+\n?|\s+"     # decided by PCRE2

passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"ok {name} {detail}" if good else f"FAILED {name}: {detail}", flush=True)


def assigned(r, newest):
    """A random code point; without `newest`, of the first ones, which all tables know."""
    while True:
        c = r.randrange(0x110000 if newest else 0x590)
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def mixed(seed, size, newest=True):
    r = random.Random(seed)
    out, n = [], 0
    while n < size:
        k = r.random()
        if k < .25:
            s = r.choice(WORDS)
        elif k < .45:
            s = "".join(r.choices("etaoinshrdlucmfwypvbgkqjxzETAOIN", k=r.randint(1, 12)))
        elif k < .60:
            s = " "
        elif k < .70:
            s = r.choice(SPACES) * r.choice([1, 1, 1, 2, 3])
        elif k < .76:
            s = r.choice(EMOJI)
        elif k < .83:
            s = r.choice(DIGITS)
        elif k < .91:
            s = r.choice(SIGNS)
        elif k < .94:
            s = r.choice(MARKS)
        elif k < .97:
            s = "".join(chr(r.randrange(0x4e00, 0x9fff)) for _ in range(r.randint(1, 30)))
        elif k < .9995:
            s = assigned(r, newest)
        else:
            s = "".join(r.choice("abcdefghij") for _ in range(r.choice([500, 3000, 20000])))
        out.append(s)
        n += len(s.encode())
    return "".join(out)


class Program:
    def __init__(self, path, folder):
        self.path, self.folder = str(pathlib.Path(path).resolve()), pathlib.Path(folder)

    def run(self, *args):
        return subprocess.run([self.path, "tokenizer", *map(str, args)], check=True,
                              stdout=subprocess.PIPE, timeout=600).stdout

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def encode(self, tokenizer, data):
        started = time.time()
        out = self.run("encode", "--tokenizer", tokenizer, "--data", data, "--json")
        return json.loads(out)["ids"], time.time() - started

    def decode(self, tokenizer, ids):
        out = self.run("decode", "--tokenizer", tokenizer, "--ids", " ".join(map(str, ids)))
        return out.removesuffix(b"\n")                # the line's end is the command's, one byte


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": use_regex}


def split(regex):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
        byte_level(False)]}


def library_train(text):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def test_training(program):
    text = mixed(1, TRAIN_BYTES)
    data, out = program.file("train.txt", text), program.folder / "tokenizer.json"
    program.run("train", "--data", data, "--vocab", VOCAB, "--out", out)
    ours = json.loads(Tokenizer.from_file(str(out)).to_str())["model"]
    theirs = json.loads(library_train(text).to_str())["model"]
    check("train: vocabulary", ours["vocab"] == theirs["vocab"], f"{len(ours['vocab'])} ids")
    check("train: merges", ours["merges"] == theirs["merges"], f"{len(ours['merges'])} merges")
    return out


def same_ids(program, name, tokenizer, path, text):
    library = Tokenizer.from_file(str(tokenizer))
    started = time.time()
    theirs = library.encode(text, add_special_tokens=False).ids
    spent = time.time() - started
    ours, ours_s = program.encode(tokenizer, path)
    detail = (f"{len(text.encode()) / 1e6:.1f} MB, {len(ours)} ids; "
              f"library {spent:.1f} s, autoane {ours_s:.1f} s")
    if ours != theirs:
        at = next((i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]), len(ours))
        detail += f"; first at id {at}: {library.decode(theirs[max(0, at - 3):at + 6])!r}"
    check(f"encode: {name}", ours == theirs, detail)
    return ours


def test_encoding(program, tokenizer):
    spec = json.loads(tokenizer.read_text())
    digits = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                                    byte_level(True)]}
    big = mixed(2, MIXED_BYTES)
    every = "".join(chr(c) + " a" + chr(c) + "1 " + chr(c) + "\n" for c in range(0x30000)
                    if not 0xD800 <= c <= 0xDFFF)
    small, known = mixed(3, 400_000), mixed(4, 400_000, newest=False)
    cases = [("smollm, mixed", digits, False, False, big),
             ("smollm, every code point", digits, False, False, every),
             ("gpt2", byte_level(True), False, False, small),
             ("no split", byte_level(False), False, False, small),
             ("llama3", split(LLAMA3), False, False, small),
             ("llama3, whole pieces first", split(LLAMA3), False, True, small),
             ("llama3, every code point", split(LLAMA3), False, False, every),
             ("qwen2 with NFC", split(QWEN2), True, False, small),
             ("another regex", split(OTHER), False, False, known)]
    for name, pre, nfc, ignore, text in cases:
        spec["pre_tokenizer"], spec["normalizer"] = pre, {"type": "NFC"} if nfc else None
        spec["model"]["ignore_merges"] = ignore
        path = program.file("variant.json", json.dumps(spec))
        # Special tokens are for prompts; a corpus has none, so both sides see the text without.
        text = text.replace(END, "endoftext")
        same_ids(program, name, path, program.file("text.txt", text), text)


def test_decoding(program, tokenizer):
    text = mixed(5, 20_000).replace(END, "")
    ids, _ = program.encode(tokenizer, program.file("d.txt", text))
    check("decode: text", program.decode(tokenizer, ids) == text.encode())
    noise = bytes(random.Random(6).randrange(256) for _ in range(20_000))
    ids, _ = program.encode(tokenizer, program.file("noise.txt", noise))
    check("decode: any bytes", program.decode(tokenizer, ids) == noise)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("AUTOANE", root / "build/autoane")
    with tempfile.TemporaryDirectory() as folder:
        program = Program(path, folder)
        tokenizer = test_training(program)
        test_encoding(program, tokenizer)
        test_decoding(program, tokenizer)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
