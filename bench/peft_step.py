"""One peer: a LoRA training step with transformers and PEFT on the CPU, timed. Prints one JSON line.

The same work as `autoane bench step --adapter lora --base DIR`: random ids, adapters of one rank on
all seven linear maps, mean cross-entropy, clip to norm 1, AdamW. --checkpointing recomputes the
blocks, --dtype bf16 is autocast with fp32 weights. --save DIR only writes a random base there.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import time

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    for name in ("dim", "layers", "heads", "kv-heads", "ffn", "vocab", "seq"):
        p.add_argument("--" + name, type=int)
    p.add_argument("--save")
    p.add_argument("--base")
    p.add_argument("--rank", type=int, default=8)
    p.add_argument("--batch-tokens", type=int, default=1024)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seconds", type=float, default=8)
    p.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    p.add_argument("--checkpointing", action="store_true")
    return p.parse_args()


def save(a):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(
        hidden_size=a.dim, num_hidden_layers=a.layers, num_attention_heads=a.heads,
        num_key_value_heads=a.kv_heads, intermediate_size=a.ffn, vocab_size=a.vocab,
        max_position_embeddings=a.seq, tie_word_embeddings=True)).save_pretrained(a.save)


def measure(a):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(a.threads)
    import peft
    import torch
    import transformers
    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(a.base, dtype=torch.float32)
    model.config.use_cache = False
    if a.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=a.rank, lora_alpha=2 * a.rank, target_modules=SEVEN, task_type="CAUSAL_LM")).train()
    trained = [t for t in model.parameters() if t.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-4, fused=True)
    T = a.seq
    data = torch.randint(0, model.config.vocab_size, (16, a.batch_tokens // T, T + 1))

    def update(i):
        start = time.perf_counter()
        ids = data[i % 16]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.dtype == "bf16"):
            logits = model(input_ids=ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    for i in range(2):
        update(i)
    times = []
    while len(times) < 3 or (sum(times) < a.seconds and len(times) < 4096):
        times.append(update(len(times)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"tokens_per_s_median": a.batch_tokens / statistics.median(times),
            "tokens_per_s_best": a.batch_tokens / min(times), "updates": len(times),
            "peak_rss_bytes": peak * (1 if sys.platform == "darwin" else 1024),
            "version": f"torch {torch.__version__}, transformers {transformers.__version__}, "
                       f"peft {peft.__version__}"}


def main():
    a = arguments()
    if a.save:
        save(a)
        return
    real = os.dup(1)
    os.dup2(2, 1)                          # what a library prints is not the result
    out = measure(a)
    os.write(real, (json.dumps(out) + "\n").encode())


if __name__ == "__main__":
    main()
