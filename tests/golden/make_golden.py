#!/usr/bin/env python3
"""Makes tests/golden/data/*.bin: logits, loss and every gradient of two-layer toys, computed by
the transformers library in float64. Run by hand when a case is added (torch, transformers):

    python tests/golden/make_golden.py

Weights and tokens are the formula of tests/support/toy.h, so only results are stored. A file is a
list of entries: name (72 bytes, zero-padded), number of values (uint64), values (float32),
little-endian. The residual scale s, which transformers does not know, is folded into the last map
of each branch: the gradient of W is then s times that of s W.
"""
import os
import struct

import numpy as np
import torch
from transformers import (LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM)

B, T, V = 2, 12, 29
COMMON = dict(vocab_size=V, hidden_size=16, intermediate_size=28, num_hidden_layers=2,
              num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
              attn_implementation="eager", use_cache=False)
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}


def llama(**more):
    return LlamaForCausalLM, LlamaConfig(**{**COMMON, "head_dim": 8, "rms_norm_eps": 1e-5,
                                            "tie_word_embeddings": False, "rope_parameters": PLAIN,
                                            **more})


CASES = {
    "llama": (llama(), 1.0),
    "llama_tied": (llama(tie_word_embeddings=True), 1.0),
    "llama_bias": (llama(attention_bias=True, mlp_bias=True), 1.0),
    "llama_rope_linear": (llama(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0,
                                                 "factor": 4.0}), 1.0),
    "llama_rope_llama3": (llama(rope_parameters={
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 128}), 1.0),
    "llama_residual": (llama(tie_word_embeddings=True), 0.5),
    "qwen2": ((Qwen2ForCausalLM, Qwen2Config(**COMMON, rms_norm_eps=1e-6, tie_word_embeddings=True,
                                             rope_parameters={**PLAIN, "rope_theta": 1e6})), 1.0),
    "qwen3": ((Qwen3ForCausalLM, Qwen3Config(**COMMON, head_dim=8, rms_norm_eps=1e-6,
                                             tie_word_embeddings=False,
                                             rope_parameters={**PLAIN, "rope_theta": 1e6})), 1.0),
}


def mix(x):
    x = x.astype(np.uint32)
    x = (x ^ (x >> 16)) * np.uint32(0x7feb352d)
    x = (x ^ (x >> 15)) * np.uint32(0x846ca68b)
    return x ^ (x >> 16)


def numbers(name, n):
    h = 2166136261
    for byte in name.encode():
        h = ((h ^ byte) * 16777619) & 0xffffffff
    u = mix(np.uint32(h) ^ mix(np.arange(1, n + 1, dtype=np.uint32)))
    return (u >> 8).astype(np.float64) / 8388608.0 - 1


def tokens(what, n):
    return ((numbers(what, n) + 1) / 2 * V).astype(np.int64)


def is_branch_end(name):
    return "o_proj" in name or "down_proj" in name


def compute(model, scale):
    model = model.double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            value = 0.25 * numbers(name, p.numel()) + (1.0 if "norm" in name else 0.0)
            value = value.astype(np.float32).astype(np.float64).reshape(p.shape)
            p.copy_(torch.from_numpy(value) * (scale if is_branch_end(name) else 1.0))
    ids = torch.from_numpy(tokens("ids", B * T).reshape(B, T))
    targets = tokens("targets", B * T)
    targets[3::5] = -100
    logits = model(input_ids=ids).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(B * T, V), torch.from_numpy(targets),
                                             ignore_index=-100, reduction="sum")
    loss.backward()
    yield "loss", loss.detach().reshape(1)
    yield "logits", logits.detach()
    for name, p in model.named_parameters():
        yield name, p.grad * (scale if is_branch_end(name) else 1.0)


def main():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
    torch.set_num_threads(1)
    for case, ((cls, config), scale) in CASES.items():
        with open(os.path.join(folder, case + ".bin"), "wb") as f:
            for name, value in compute(cls(config), scale):
                value = value.numpy().astype("<f4").reshape(-1)
                f.write(struct.pack("<72sQ", name.encode(), value.size) + value.tobytes())


main()
