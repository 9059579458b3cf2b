"""The same 50 steps in PyTorch, from equal weights and batches: losses agree within 1e-3.

autoane writes the initial weights (step-0) and, through `data batches`, the very windows of every
update. The twin is the model class of transformers, opened from step-0, with an optimizer written
out below after src/optim/optim.h; learning rates are read from the journal. Both sides compute in
fp32, so the curves drift apart only by rounding, which 50 steps of a small model do not amplify to
1e-3 nats.
"""
import json
import math
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from e2e import case, check, done, main, write_text

STEPS = 50
TOLERANCE = 1e-3
SHAPE = ["--dim", "64", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--ffn", "160",
         "--seq", "64", "--tokenizer", "train:400", "--batch-tokens", "512", "--lr", "3e-3",
         "--weight-decay", "0.1", "--clip", "1", "--seed", "3"]


class AdamW:
    """Clip to a global norm, then AdamW with decay on matrices alone, as optim.h words it."""

    def __init__(self, model, options):
        self.options, self.t = options, 0
        self.rows = [(p, torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()]
        self.table = model.get_input_embeddings().weight

    @torch.no_grad()
    def step(self, lr):
        o = self.options
        norm = math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p, _, _ in self.rows))
        scale = min(1.0, o["clip"] / norm) if o["clip"] > 0 else 1.0
        self.t += 1
        c1, c2 = 1 - o["beta1"] ** self.t, 1 - o["beta2"] ** self.t
        for p, m, v in self.rows:
            g = p.grad * scale
            m.mul_(o["beta1"]).add_(g, alpha=1 - o["beta1"])
            v.mul_(o["beta2"]).addcmul_(g, g, value=1 - o["beta2"])
            decay = o["weight-decay"] if p.dim() == 2 else 0.0
            rate = lr * o["embed-lr"] if p is self.table else lr
            p.sub_(rate * (m / c1 / ((v / c2).sqrt() + o["eps"]) + decay * p))
            p.grad = None
        return norm


def twin(name, *shape):
    write_text("text.txt", 200000)
    done("train", "--data", "text.txt", "--out", name, *SHAPE, *shape, "--budget", f"{STEPS}steps",
         "--log-every", "1steps", "--keep", "0", timeout=120)
    done("data", "batches", "--run", name, "--steps", STEPS, "--out", f"{name}.safetensors")
    events = [json.loads(line) for line in open(f"{name}/journal.jsonl", encoding="utf-8")]
    options = next(e["options"] for e in events if e["event"] == "run")
    steps = [e for e in events if e["event"] == "step"]
    check(len(steps) == STEPS, f"{len(steps)} step lines in the journal")
    batches = load_file(f"{name}.safetensors")
    ids, targets = batches["ids"].long(), batches["targets"].long()
    check(ids.shape[0] == STEPS and ids.shape == targets.shape, f"batches: {tuple(ids.shape)}")

    model = AutoModelForCausalLM.from_pretrained(f"{name}/step-0", dtype=torch.float32,
                                                 attn_implementation="eager").train()
    optimizer = AdamW(model, options)
    worst = worst_norm = 0.0
    for i, event in enumerate(steps):
        logits = model(input_ids=ids[i], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[i].flatten(),
                                                 ignore_index=-1)
        loss.backward()
        norm = optimizer.step(event["lr"])
        off = abs(loss.item() - event["loss"])
        worst = max(worst, off)
        worst_norm = max(worst_norm, abs(norm / event["grad_norm"] - 1))
        check(off <= TOLERANCE, f"{name}, step {event['step']}: loss {event['loss']:.6f}, "
              f"twin {loss.item():.6f}")
    check(steps[-1]["loss"] < steps[0]["loss"] - 0.5, "nothing was learned, so nothing was shown")
    print(f"   {name}: {STEPS} steps, loss {steps[0]['loss']:.3f} -> {steps[-1]['loss']:.3f}, "
          f"largest difference {worst:.2e} nats, of gradient norms {worst_norm:.2e}")


@case
def llama():
    twin("llama", "--arch", "llama", "--tied")


@case
def llama_scaled_start():
    twin("llama-scaled", "--arch", "llama", "--tied", "--init", "scaled")


@case
def llama_untied_small_heads():
    twin("untied", "--arch", "llama", "--no-tied", "--head-dim", "8", "--micro-batch", "64")


@case
def qwen2_biases():
    twin("qwen2", "--arch", "qwen2", "--tied")


@case
def qwen3_norms():
    twin("qwen3", "--arch", "qwen3", "--tied", "--head-dim", "32")


@case
def qwen3_scaled_start():
    twin("qwen3-scaled", "--arch", "qwen3", "--no-tied", "--init", "scaled")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
