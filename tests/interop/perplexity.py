"""Perplexity of SmolLM2 on 100 kB of text, as llama.cpp's: the integer kernels judged as a whole.

    perplexity.py [PROGRAM] [case ...]    PROGRAM: the autoane to test (default: build/autoane)

The text is generated stories, the same everywhere; both see the same windows of 512 tokens.
"""
import json
import pathlib

import llamacpp                               # takes PROGRAM from the arguments
import numpy as np

import e2e
from e2e import case, check, done, main

e2e.CASES.clear()                             # those of llamacpp.py are its own
WINDOW, BYTES = 512, 100_000


def text():
    done("data", "stories", "--count", "200", "--seed", "7", "--out", "stories.txt")
    out = pathlib.Path("stories.txt").read_text(encoding="utf-8")[:BYTES]
    check(len(out) == BYTES, f"{len(out)} bytes of stories")
    pathlib.Path("text.jsonl").write_text(json.dumps({"text": out}) + "\n", encoding="utf-8")
    return out


def of_llama(path, ids):
    model = llamacpp.open_in_llama(path, WINDOW)
    loss = []
    for at in range(0, len(ids) - WINDOW, WINDOW):
        logits = llamacpp.llama_logits(model, ids[at:at + WINDOW]).astype(np.float64)
        most = logits.max(-1)
        total = most + np.log(np.exp(logits - most[:, None]).sum(-1))
        loss.append(total - logits[np.arange(WINDOW), ids[at + 1:at + WINDOW + 1]])
    return np.exp(np.mean(loss)), len(loss) * WINDOW


@case
def smollm2_perplexity():
    source = llamacpp.smollm2()
    words = text()
    ids = done("tokenizer", "encode", "--tokenizer", source, "--text", words, "--json").json()
    ids = ids["ids"] + [2]                    # the end of the document
    for path in (source, llamacpp.halves(), "q8_0.gguf"):
        if path == "q8_0.gguf":
            done("convert", "f16.gguf", path, "--dtype", "q8_0")
        ours = done("eval", path, "--data", "text.jsonl", "--seq", WINDOW, "--json").json()
        theirs, n = of_llama(path, ids)
        check(ours["tokens"] == n, f"{path}: {ours['tokens']} tokens, not {n}")
        off = ours["perplexity"] / theirs - 1
        print(f"   {pathlib.Path(path).name}: {ours['perplexity']:.4f}, llama.cpp {theirs:.4f}, "
              f"{off:+.2e}")
        check(abs(off) < 1e-3, f"{path}: perplexity {ours['perplexity']:.4f}, llama.cpp's "
              f"{theirs:.4f}")


if __name__ == "__main__":
    main()
