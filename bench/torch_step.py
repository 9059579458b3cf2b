"""One peer: a PyTorch training step of a Llama-shaped model on the CPU, timed. Prints one JSON line.

The same work as `autoane bench step`: random ids, tied head, forward, mean cross-entropy, backward,
clip to norm 1, AdamW (fused), gradients cleared. --compile compiles model and loss together,
--dtype bf16 is autocast with fp32 weights, as PyTorch recommends it.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import time


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    for name in ("dim", "layers", "heads", "kv-heads", "ffn", "vocab", "seq", "batch-tokens"):
        p.add_argument("--" + name, type=int, required=True)
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--seconds", type=float, default=8)
    p.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    p.add_argument("--compile", action="store_true")
    return p.parse_args()


def measure(a):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(a.threads)
    import torch
    from llama import Llama, adamw
    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    model = Llama(a.vocab, a.dim, a.layers, a.heads, a.kv_heads, a.ffn, a.seq)
    forward = torch.compile(model) if a.compile else model
    optimizer = adamw(model, 1e-4)
    data = torch.randint(0, a.vocab, (16, 2, a.batch_tokens // a.seq, a.seq))

    def update(i):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.dtype == "bf16"):
            loss = forward(*data[i % 16])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    for i in range(3):
        update(i)
    times = []
    while len(times) < 3 or (sum(times) < a.seconds and len(times) < 4096):
        times.append(update(len(times)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"tokens_per_s_median": a.batch_tokens / statistics.median(times),
            "tokens_per_s_best": a.batch_tokens / min(times), "updates": len(times),
            "peak_rss_bytes": peak * (1 if sys.platform == "darwin" else 1024),
            "version": "torch " + torch.__version__}


def main():
    a = arguments()
    real = os.dup(1)
    os.dup2(2, 1)                          # what a compiler prints is not the result
    out = measure(a)
    os.write(real, (json.dumps(out) + "\n").encode())


if __name__ == "__main__":
    main()
