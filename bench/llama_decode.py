"""One peer: llama.cpp (through llama-cpp-python) decoding with a GGUF file, or with a random fp32
model of a given shape, which it writes as one with the package `gguf`.

Reads `context` tokens, then decodes one token at a time. Prints one JSON line. The same work as
`autoane bench decode`.
"""
import argparse
import json
import os
import statistics
import tempfile
import time

import gguf
import llama_cpp
import numpy


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    for name in ("dim", "layers", "heads", "kv-heads", "ffn", "vocab"):
        p.add_argument("--" + name, type=int)
    for name in ("threads", "context"):
        p.add_argument("--" + name, type=int, required=True)
    p.add_argument("--seq", type=int, default=0)
    p.add_argument("--model", help="a GGUF file, in the place of a shape")
    p.add_argument("--seconds", type=float, default=5)
    return p.parse_args()


def write_model(a, path):
    w = gguf.GGUFWriter(path, "llama")
    D, rng = a.dim // a.heads, numpy.random.default_rng(1)
    w.add_context_length(max(a.seq, a.context) + 4096)
    w.add_embedding_length(a.dim)
    w.add_block_count(a.layers)
    w.add_feed_forward_length(a.ffn)
    w.add_head_count(a.heads)
    w.add_head_count_kv(a.kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(D)
    w.add_vocab_size(a.vocab)
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    kinds = [2, 3, 3] + [6] * 256          # unknown, control, byte; then normal ones
    tokens += [f"t{i}" for i in range(len(tokens), a.vocab)]
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * a.vocab)
    w.add_token_types(kinds + [1] * (a.vocab - len(kinds)))

    def matrix(name, rows, cols):
        w.add_tensor(name, rng.normal(0, 0.02, (rows, cols)).astype(numpy.float32))

    def norm(name):
        w.add_tensor(name, numpy.ones(a.dim, numpy.float32))

    matrix("token_embd.weight", a.vocab, a.dim)
    norm("output_norm.weight")
    for i in range(a.layers):
        b = f"blk.{i}."
        norm(b + "attn_norm.weight"), norm(b + "ffn_norm.weight")
        for name, rows, cols in (("attn_q", a.dim, a.dim), ("attn_k", a.kv_heads * D, a.dim),
                                 ("attn_v", a.kv_heads * D, a.dim), ("attn_output", a.dim, a.dim),
                                 ("ffn_gate", a.ffn, a.dim), ("ffn_up", a.ffn, a.dim),
                                 ("ffn_down", a.dim, a.ffn)):
            matrix(f"{b}{name}.weight", rows, cols)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    a = arguments()
    with tempfile.TemporaryDirectory() as folder:
        path = a.model or os.path.join(folder, "model.gguf")
        if not a.model:
            write_model(a, path)
        room = max(a.seq, a.context + 64)
        model = llama_cpp.Llama(path, n_ctx=room, n_batch=512, n_threads=a.threads,
                                n_threads_batch=a.threads, verbose=False)
        prompt = [3 + i % 256 for i in range(a.context)]
        model.eval(prompt)
        prefill = []
        for _ in range(3):
            model.reset()
            start = time.perf_counter()
            model.eval(prompt)
            prefill.append(time.perf_counter() - start)
        times = []
        while len(times) < 3 or (sum(times) < a.seconds and len(times) < 4096):
            if model.n_tokens + 1 >= room:
                model.reset()
                model.eval(prompt)
            start = time.perf_counter()
            model.eval([5])
            times.append(time.perf_counter() - start)
    print(json.dumps({"tokens_per_s_median": 1 / statistics.median(times),
                      "tokens_per_s_best": 1 / min(times),
                      "prefill_tokens_per_s": a.context / statistics.median(prefill),
                      "version": "llama-cpp-python " + llama_cpp.__version__}))


if __name__ == "__main__":
    main()
