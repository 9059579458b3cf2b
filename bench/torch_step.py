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


def model_of(a, torch):
    nn, F = torch.nn, torch.nn.functional
    D = a.dim // a.heads
    angles = torch.outer(torch.arange(a.seq).float(),
                         10000.0 ** (-torch.arange(0, D, 2).float() / D))

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(a.dim))

        def forward(self, x):
            return F.rms_norm(x, (a.dim,), self.weight, 1e-5)

    def rope(x, cos, sin):
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            kv = a.kv_heads * D
            self.norm_attn, self.norm_ffn = Norm(), Norm()
            self.q, self.k, self.v, self.o, self.gate, self.up, self.down = (
                nn.Linear(i, o, bias=False) for i, o in (
                    (a.dim, a.dim), (a.dim, kv), (a.dim, kv), (a.dim, a.dim),
                    (a.dim, a.ffn), (a.dim, a.ffn), (a.ffn, a.dim)))

        def forward(self, x, cos, sin):
            B, T, _ = x.shape
            n = self.norm_attn(x)
            q, k, v = (f(n).view(B, T, -1, D).transpose(1, 2) for f in (self.q, self.k, self.v))
            q, k = rope(q, cos, sin).to(v.dtype), rope(k, cos, sin).to(v.dtype)
            k, v = (y.repeat_interleave(a.heads // a.kv_heads, 1) for y in (k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.o(y.transpose(1, 2).reshape(B, T, a.dim))
            n = self.norm_ffn(x)
            return x + self.down(F.silu(self.gate(n)) * self.up(n))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(a.vocab, a.dim)
            self.blocks = nn.ModuleList(Block() for _ in range(a.layers))
            self.norm = Norm()
            self.register_buffer("cos", angles.cos(), persistent=False)
            self.register_buffer("sin", angles.sin(), persistent=False)
            for p in self.parameters():
                if p.dim() > 1:
                    nn.init.normal_(p, std=0.02)

        def forward(self, ids, targets):
            x = self.embedding(ids)
            for block in self.blocks:
                x = block(x, self.cos, self.sin)
            logits = F.linear(self.norm(x), self.embedding.weight)
            return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    return Model()


def measure(a):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(a.threads)
    import torch
    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    model = model_of(a, torch)
    forward = torch.compile(model) if a.compile else model
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                                   {"params": vectors, "weight_decay": 0.0}],
                                  lr=1e-4, betas=(0.9, 0.99), fused=True)
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
