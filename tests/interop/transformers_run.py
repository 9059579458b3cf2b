"""transformers opens any checkpoint directory as it is, and says what autoane says.

Greedy texts of 200 tokens are compared up to the first tie: where the two best logits of
transformers are closer than the tolerance of logits (1e-4), either choice is right.
"""
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from e2e import case, check, done, main, write_text

TOLERANCE = 1e-4
TOKENS = 200


def trained(name, *shape):
    write_text("text.txt", 100000)
    done("train", "--data", "text.txt", "--out", name, "--dim", "48", "--layers", "2", "--heads",
         "4", "--kv-heads", "2", "--ffn", "96", "--seq", "256", "--tokenizer", "train:350",
         "--batch-tokens", "1024", "--budget", "60steps", "--seed", "5", *shape, timeout=120)
    where = f"{name}/last"
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    return model, AutoTokenizer.from_pretrained(where)


@torch.no_grad()
def same_model(name, *shape):
    model, tokenizer = trained(name, *shape)
    prompt = tokenizer("Mia found")["input_ids"]
    ours = done("generate", name, "--prompt", "Mia found", "--tokens", TOKENS, "--greedy",
                "--ignore-eos", "--json").json()
    check(ours["prompt_ids"] == prompt, f"prompts are cut differently: {ours['prompt_ids']}")
    check(len(ours["ids"]) == TOKENS, f"{len(ours['ids'])} tokens instead of {TOKENS}")
    logits = model(torch.tensor([prompt + ours["ids"]])).logits[0, len(prompt) - 1:-1]
    for i, (mine, row) in enumerate(zip(ours["ids"], logits)):
        if mine != int(row.argmax()):
            lead = float(row.max() - row[mine])
            check(lead <= TOLERANCE, f"{name}: token {i} is {mine}, transformers takes "
                  f"{int(row.argmax())} by {lead:.2e}")
            break

    text = pathlib.Path("text.txt").read_text(encoding="utf-8")[:600]
    pathlib.Path("part.jsonl").write_text(json.dumps({"text": text}) + "\n", encoding="utf-8")
    loss = done("eval", name, "--data", "part.jsonl", "--json").json()["loss"]
    row = tokenizer(text, return_tensors="pt")["input_ids"]
    check(row.shape[1] < 256, "the text is longer than one window")
    row = torch.cat([row, torch.tensor([[tokenizer.eos_token_id]])], 1)
    theirs = torch.nn.functional.cross_entropy(model(row).logits[0, :-1], row[0, 1:]).item()
    check(abs(loss - theirs) <= TOLERANCE, f"{name}: loss {loss:.6f}, transformers {theirs:.6f}")


@case
def llama():
    same_model("llama", "--arch", "llama", "--tied")


@case
def llama_scaled_residuals():
    same_model("scaled", "--arch", "llama", "--no-tied", "--residual-scale", "0.5")


@case
def qwen2():
    same_model("qwen2", "--arch", "qwen2", "--tied")


@case
def qwen3():
    same_model("qwen3", "--arch", "qwen3", "--no-tied", "--head-dim", "20")


if __name__ == "__main__":
    main()
