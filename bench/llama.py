"""A Llama in plain PyTorch, with what a careful user would choose: fused attention, a fused AdamW,
one table for embedding and head."""
import torch
from torch import nn
from torch.nn import functional as F


def rotated(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Block(nn.Module):
    """Both branches are multiplied by scale before they are added."""

    def __init__(self, dim, heads, kv, ffn, scale):
        super().__init__()
        self.head, self.scale = dim // heads, scale
        self.norms = nn.ModuleList([nn.RMSNorm(dim, 1e-5), nn.RMSNorm(dim, 1e-5)])
        self.q, self.o = nn.Linear(dim, dim, False), nn.Linear(dim, dim, False)
        self.k = nn.Linear(dim, kv * self.head, False)
        self.v = nn.Linear(dim, kv * self.head, False)
        self.gate, self.up = nn.Linear(dim, ffn, False), nn.Linear(dim, ffn, False)
        self.down = nn.Linear(ffn, dim, False)

    def forward(self, x, cos, sin):
        n, t, dim = x.shape
        h = self.norms[0](x)
        q, k, v = (m(h).view(n, t, -1, self.head).transpose(1, 2) for m in (self.q, self.k, self.v))
        q, k = rotated(q, cos, sin).to(v.dtype), rotated(k, cos, sin).to(v.dtype)
        k, v = (m.repeat_interleave(q.shape[1] // k.shape[1], 1) for m in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.scale * self.o(a.transpose(1, 2).reshape(n, t, dim))
        h = self.norms[1](x)
        return x + self.scale * self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    """forward(ids, targets): mean cross-entropy; targets < 0 do not count."""

    def __init__(self, vocab, dim, layers, heads, kv, ffn, seq, scale=1.0, theta=10000.0):
        super().__init__()
        self.table = nn.Embedding(vocab, dim)
        self.blocks = nn.ModuleList([Block(dim, heads, kv, ffn, scale) for _ in range(layers)])
        self.norm = nn.RMSNorm(dim, 1e-5)
        head = dim // heads
        angle = torch.outer(torch.arange(seq).float(),
                            theta ** (-torch.arange(0, head, 2).float() / head)).repeat(1, 2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, targets):
        x = self.table(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.table.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1)


def adamw(model, lr, betas=(0.9, 0.95), decay=0.1):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": decay},
                              {"params": vectors, "weight_decay": 0.0}],
                             lr=lr, betas=betas, eps=1e-8, fused=True)
