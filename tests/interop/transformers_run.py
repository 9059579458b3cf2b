"""transformers opens any checkpoint directory as it is, and says what autoane says.

Greedy texts of 200 tokens are compared up to the first tie: where the two best logits of
transformers are closer than the tolerance of logits (1e-4), either choice is right.
"""
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from e2e import case, check, done, main, write_text  # noqa: E402

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
    text = pathlib.Path("text.txt").read_text(encoding="utf-8")[:600]
    ours = done("generate", name, "--prompt", "Mia found", "--tokens", TOKENS, "--greedy",
                "--ignore-eos", "--json").json()
    check(ours["prompt_ids"][-len(tokenizer("Mia found")["input_ids"]):]
          == tokenizer("Mia found")["input_ids"], f"prompts are cut differently: {ours}")
    ids = list(ours["prompt_ids"])
    for i, mine in enumerate(ours["ids"]):
        logits = model(torch.tensor([ids])).logits[0, -1]
        best, second = torch.topk(logits, 2).values.tolist()
        theirs = int(logits.argmax())
        if mine != theirs:
            check(best - second <= TOLERANCE, f"{name}: token {i} is {mine}, transformers takes "
                  f"{theirs} by {best - second:.2e}")
            break
        ids.append(mine)
    check(len(ours["ids"]) == TOKENS, f"{len(ours['ids'])} tokens instead of {TOKENS}")

    pathlib.Path("part.txt").write_text(text, encoding="utf-8")
    loss = done("eval", name, "--data", "part.txt", "--json").json()
    row = tokenizer(text, return_tensors="pt")["input_ids"]
    check(row.shape[1] < 256, "the text is longer than one window")
    row = torch.cat([row, torch.tensor([[tokenizer.eos_token_id]])], 1)
    theirs = torch.nn.functional.cross_entropy(model(row).logits[0, :-1], row[0, 1:]).item()
    check(abs(loss["loss"] - theirs) <= TOLERANCE,
          f"{name}: loss {loss['loss']:.6f}, transformers {theirs:.6f}")


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
