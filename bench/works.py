"""What is measured: shapes, works, systems, and the ratios that are asked for."""

REFERENCE = dict(dim=512, layers=4, heads=8, kv_heads=2, ffn=1408, vocab=16893, seq=128)
SMOLLM2 = dict(dim=576, layers=30, heads=9, kv_heads=3, ffn=1536, vocab=49152, seq=256)
SMOLLM2_360M = dict(dim=960, layers=32, heads=15, kv_heads=5, ffn=2560, vocab=49152, seq=256)
NARROW_128 = dict(dim=128, layers=4, heads=4, kv_heads=2, ffn=352, vocab=16893, seq=128)
NARROW_64 = dict(dim=64, layers=4, heads=4, kv_heads=2, ffn=192, vocab=16893, seq=128)

# name: shape, tokens per update
WORKS = {
    "R-1280": (REFERENCE, 1280),
    "R-128": (REFERENCE, 128),
    "SmolLM2-135M-1024": (SMOLLM2, 1024),
    "128d-512": (NARROW_128, 512),
    "64d-512": (NARROW_64, 512),
}
# of the model that is decoded with: q4_1 is how it is published
FILE_TYPES = ("f16", "q8_0", "q4_0", "q4_1", "q4_k_m")
QUICK_WORKS = ("R-1280", "R-128")

# name: options of our `bench step`, or of torch_step.py (peers)
OURS = {
    "f32": ["--compute", "f32"],
    "bf16": ["--compute", "bf16"],
    "blas": ["--device", "blas"],
}
PEERS = {
    "torch": [],
    "torch compile": ["--compile"],
    "torch bf16": ["--dtype", "bf16"],
    "torch bf16 compile": ["--dtype", "bf16", "--compile"],
}

# Adapters of rank 8 on all seven maps of SmolLM2-135M, 1024 tokens: options of ours, of peft_step.py
LORA_SHAPE, LORA_TOKENS = SMOLLM2, 1024
LORA = {
    "f32": (["--compute", "f32", "--checkpointing", "no"], []),
    "f32, recomputed": (["--compute", "f32", "--checkpointing", "yes"], ["--checkpointing"]),
    "bf16": (["--compute", "bf16", "--checkpointing", "no"], ["--dtype", "bf16"]),
    "bf16, recomputed": (["--compute", "bf16", "--checkpointing", "yes"],
                         ["--dtype", "bf16", "--checkpointing"]),
}

# axis: (x, shape, tokens per update); threads come from the machine
GROWTH = {
    "model size": [
        (dict(dim=64, layers=4, heads=4, kv_heads=2, ffn=192, vocab=8192, seq=256), 512),
        (dict(dim=128, layers=6, heads=4, kv_heads=2, ffn=352, vocab=8192, seq=256), 512),
        (dict(dim=256, layers=8, heads=8, kv_heads=4, ffn=704, vocab=16384, seq=256), 512),
        (dict(dim=512, layers=8, heads=8, kv_heads=4, ffn=1408, vocab=16384, seq=256), 512),
        (SMOLLM2, 512),
        (SMOLLM2_360M, 512),
    ],
    "sequence": [(dict(NARROW_128, vocab=4096, seq=n), 8192)
                 for n in (128, 256, 512, 1024, 2048, 4096, 8192)],
    "one window": [(dict(NARROW_128, vocab=4096, seq=n), n)
                   for n in (128, 256, 512, 1024, 2048, 4096, 8192)],
    "vocabulary": [(dict(NARROW_128, vocab=n), 512)
                   for n in (1024, 2048, 4096, 8192, 16384, 32768, 65536)],
    "batch": [(NARROW_128, n) for n in (128, 256, 512, 1024, 2048, 4096, 8192)],
}
QUICK_POINTS = 3                           # of each axis: the smallest


def x_of(axis, shape, tokens, sample):
    """Where a sample of an axis lies: parameters, tokens of a window, ids, tokens, threads."""
    return {"model size": sample["params"], "sequence": shape["seq"], "one window": shape["seq"],
            "vocabulary": shape["vocab"], "batch": tokens, "threads": sample["threads"]}[axis]


def options(shape):
    return [word for key, value in shape.items()
            for word in ("--" + key.replace("_", "-"), str(value))]
