"""Adapters made by PEFT, merged, converted and written by autoane; opened by PEFT and llama.cpp.

    adapter.py [PROGRAM] [case ...]   PROGRAM: the autoane to test (default: build/autoane)

The models are random and small (hf.py), the adapters random and large enough that each one of their
tensors moves the logits. Judges: merge_and_unload of PEFT, tensor by tensor; the logits of a model
with the adapter beside it, in PEFT and in llama.cpp.
"""
import json
import pathlib
import struct
import sys
import warnings

import llamacpp                               # takes PROGRAM from the arguments
import hf
import gguf
import numpy as np
import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

import e2e
from e2e import case, check, done, main, refused, run

e2e.CASES.clear()                             # those of the other two are their own
SHAPE, TOLERANCE = hf.SHAPE, 2e-6
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.arange(3, 90)[None]


def base(name, kind=LlamaForCausalLM, config=LlamaConfig, dtype=None, **how):
    model = hf.random_model(kind, config(**SHAPE, **how))
    if dtype:
        model.to(dtype)
    model.save_pretrained(name)
    return name


def load(name):
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32,
                                                attn_implementation="eager").eval()


def adapter(name, where, seed=1, dtype=None, **how):
    """A PEFT directory with every tensor random."""
    torch.manual_seed(seed)
    how = {**dict(r=4, lora_alpha=6, target_modules=SEVEN, task_type="CAUSAL_LM"), **how}
    model = get_peft_model(load(where), LoraConfig(**how))
    saved = any(how.get(k) for k in ("bias", "modules_to_save"))
    with torch.no_grad():
        for key, t in model.named_parameters():
            if "lora_" in key and "magnitude" not in key:
                t.normal_(0, 0.12)
            elif "magnitude" in key:
                t.mul_(torch.rand_like(t) + 0.5)
            elif saved and t.requires_grad:
                t.mul_(torch.rand_like(t) + 0.5)
    if dtype:
        model.to(dtype)
    model.save_pretrained(name)
    return name


def peft_model(where, name, strict=True):
    """The base with the adapter beside it, nothing missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore", UserWarning)
        model = load(where) if isinstance(where, str) else where
        return PeftModel.from_pretrained(model, name).eval()


@torch.no_grad()
def logits(model):
    return model(IDS).logits[0]


@torch.no_grad()
def same_as_peft(where, *names, out=None):
    """convert --merge against merge_and_unload: every tensor, and the logits of both."""
    out = out or f"{names[-1]}-merged"
    done("convert", where, out, "--merge", "|".join(names))
    merged, beside = load(where), None
    for name in names:
        model = peft_model(merged, name)
        beside = logits(model)
        merged = model.merge_and_unload()
    ours, theirs = load(out), merged.state_dict()
    mine = ours.state_dict()
    check(mine.keys() == theirs.keys(), f"{out}: {mine.keys() ^ theirs.keys()}")
    worst = max((mine[key] - t).abs().max().item() for key, t in theirs.items())
    check(worst <= TOLERANCE, f"{out}: merged tensors differ by {worst:.1e}")
    for what, wanted in (("merged", logits(merged)), ("of the adapter beside its base", beside)):
        off = (logits(ours) - wanted).abs().max().item()
        check(off <= 1e-4, f"{out}: logits {what} differ by {off:.1e}")
    moved = (logits(ours) - logits(load(where))).abs().max().item()
    check(moved > 0.1, f"{out}: the adapter does nothing: {moved:.1e}")
    print(f"   {out}: tensors within {worst:.1e}, logits within {off:.1e}")


def tensors(name):
    return load_file(f"{name}/adapter_model.safetensors")


def same_bits(a, b):
    x, y = tensors(a), tensors(b)
    check(x.keys() == y.keys(), f"{b}: other tensors: {x.keys() ^ y.keys()}")
    for key, t in x.items():
        check(t.dtype == y[key].dtype and torch.equal(t, y[key]), f"{b}: {key} differs")


def rewritten(where, name, *more):
    """PEFT -> PEFT by us: the same bits and the same logits, nothing missing."""
    done("convert", name, f"{name}-again", "--base", where, *more)
    same_bits(name, f"{name}-again")
    with torch.no_grad():
        off = (logits(peft_model(where, name)) - logits(peft_model(where, f"{name}-again"))).abs()
    check(off.max() == 0, f"{name}-again: logits differ by {off.max():.1e}")


# ---- PEFT ----------------------------------------------------------------------------------------

@case
def lora():
    where = base("llama")
    for name, how in (("plain", {}), ("rs", dict(use_rslora=True)), ("dora", dict(use_dora=True)),
                      ("two", dict(target_modules=["q_proj", "v_proj"], r=1)),
                      ("dora-rs", dict(use_dora=True, use_rslora=True, r=8))):
        same_as_peft(where, adapter(name, where, **how))
        rewritten(where, name)
        check_info(name, how)


def check_info(name, how):
    said, state = done("info", name, "--json").json(), tensors(name)
    check(said["format"] == "peft" and said["base"] and said["tensors"] == len(state) and
          said["bytes"] == sum(t.nbytes for t in state.values()) and
          said["dora"] == how.get("use_dora", False), f"{said}")
    r = how.get("r", 4)
    for row in said["rows"]:
        scale = 6 / (r ** 0.5 if how.get("use_rslora") else r)
        check(row["rank"] == r and row["alpha"] == 6 and abs(row["scale"] - scale) < 1e-12 and
              row["name"].split(".")[-2] in how.get("target_modules", SEVEN), f"{row}")
    check(name in done("info", name).out, "no text")


@case
def patterns():
    """Ranks and alphas by regexes, of which the first that matches counts; targets likewise."""
    where = base("llama")
    ranks = {r"layers\.0\..*_proj": 2, "q_proj": 7, r"model\.layers\.[12]\.mlp\.up_proj": 3,
             "proj": 9, "1.self_attn.v_proj": 5}
    alphas = {"v_proj": 3, "layers.2.mlp.(up|down)_proj": 1.5, ".*": 11}
    for name, how in (("ranks", dict(rank_pattern=ranks, alpha_pattern=alphas)),
                      ("ranks-rs", dict(rank_pattern=ranks, alpha_pattern=alphas, use_rslora=True)),
                      ("regex", dict(target_modules=r".*\.[02]\..*(q|up)_proj")),
                      ("layers", dict(layers_to_transform=[0, 2], rank_pattern={"q_proj": 2})),
                      ("layer", dict(layers_to_transform=1, layers_pattern="layers")),
                      ("all-linear", dict(target_modules="all-linear")),
                      ("whole", dict(target_modules=["model.layers.1.mlp.up_proj", "lm_head"])),
                      ("exclude", dict(exclude_modules=["layers.1.self_attn.q_proj", "down_proj"])),
                      ("exclude-re", dict(exclude_modules=r".*\.1\..*"))):
        same_as_peft(where, adapter(name, where, **how))
        rewritten(where, name)


@case
def biases_and_modules_to_save():
    where = base("qwen2", Qwen2ForCausalLM, Qwen2Config)
    for name, how in (("only", dict(bias="lora_only", target_modules=["q_proj", "up_proj"])),
                      ("all", dict(bias="all", target_modules=["q_proj", "up_proj"],
                                   use_dora=True)),
                      ("norms", dict(modules_to_save=["norm", "input_layernorm",
                                                      "post_attention_layernorm"])),
                      ("tables", dict(modules_to_save=["embed_tokens", "lm_head"])),
                      ("mlp", dict(modules_to_save=["mlp"], target_modules=["q_proj"]))):
        same_as_peft(where, adapter(name, where, **how))
        rewritten(where, name)


@case
def tied_tables():
    """An adapter of one use of a tied table parts the two."""
    where = base("tied", tie_word_embeddings=True)
    for name, how in (("embedding", dict(modules_to_save=["embed_tokens"])),
                      ("head", dict(modules_to_save=["lm_head"])),
                      ("both", dict(modules_to_save=["embed_tokens", "lm_head"])),
                      ("term", dict(target_modules=["lm_head", "q_proj"]))):
        adapter(name, where, **how)
        done("convert", where, f"{name}-merged", "--merge", name)
        ours = load(f"{name}-merged")
        with torch.no_grad():
            theirs = logits(peft_model(where, name, strict=False))
            off = (logits(ours) - theirs).abs().max().item()
        check(off <= 1e-4, f"{name}: logits differ by {off:.1e} from those of PEFT")
        check(not ours.config.tie_word_embeddings, f"{name}: still tied")
        print(f"   {name}: logits within {off:.1e}")


@case
def several():
    where = base("qwen3", Qwen3ForCausalLM, Qwen3Config, head_dim=20)
    adapter("one", where, seed=5)
    adapter("other", where, seed=6, r=3, use_dora=True)
    same_as_peft(where, "one", "other", out="one-other")
    same_as_peft(where, "other", "one", out="other-one")
    a, b = (load_file(f"{x}/model.safetensors")["model.layers.0.mlp.up_proj.weight"]
            for x in ("one-other", "other-one"))
    check(not torch.equal(a, b), "the order does not count")


@case
def half_precision():
    """A base and an adapter in bfloat16: merged values are rounded once (PEFT's are twice)."""
    where = base("bf16", dtype=torch.bfloat16)
    adapter("half", where, dtype=torch.bfloat16)
    done("convert", where, "half-merged", "--merge", "half")
    merged = load_file("half-merged/model.safetensors")
    check(all(t.dtype == torch.bfloat16 for t in merged.values()), "other types")
    state, parts = load_file(f"{where}/model.safetensors"), tensors("half")
    for key, t in merged.items():
        module = "base_model.model." + key.removesuffix(".weight")
        if module + ".lora_A.weight" in parts:
            A, B = (parts[f"{module}.lora_{x}.weight"].double() for x in "AB")
            exact = (state[key].double() + 1.5 * (B @ A)).float().bfloat16()
            check(torch.equal(exact, t), f"{key} is not the exact value, rounded")
    rewritten(where, "half")
    done("convert", "half", "half-f32", "--base", where, "--dtype", "f32")
    check(all(torch.equal(t.float(), tensors("half-f32")[k]) for k, t in parts.items()), "F32")


# ---- training and running ------------------------------------------------------------------------

def follows(where, name, compute):
    """Logits of what follows a text, by us; and its ids."""
    done("generate", where, "--adapter", name, "--prompt", "Once there was a bird who lost its hat",
         "--tokens", "1", "--compute", compute, "--logits", "beside.safetensors")
    said = load_file("beside.safetensors")
    return said["logits"], said["ids"].long()[None]


@case
def beside_a_model_from_its_file():
    """generate --adapter: the logits of PEFT, with the base in floats and in eight bits."""
    hf.random_model(LlamaForCausalLM, LlamaConfig(**{
        **SHAPE, "hidden_size": 96, "intermediate_size": 160})).save_pretrained("beside")
    done("convert", "beside", "beside.gguf", "--dtype", "q8_0")
    done("convert", "beside.gguf", "beside-exact", "--dtype", "f32")
    for name, how in (("beside-lora", {}), ("beside-dora", dict(use_dora=True)),
                      ("beside-rs", dict(use_dora=True, use_rslora=True, r=8,
                                         target_modules=["q_proj", "v_proj", "down_proj"]))):
        adapter(name, "beside-exact", **how)
        model = peft_model("beside-exact", name)
        for where, compute in (("beside-exact", "f32"), ("beside.gguf", "f32"),
                               ("beside.gguf", "int8")):
            ours, ids = follows(where, name, compute)
            with torch.no_grad():
                wanted = model(ids).logits[0, -1]
                with model.disable_adapter():
                    moved = (model(ids).logits[0, -1] - wanted).abs().max().item()
            off = (ours - wanted).abs().max().item()
            # Activations of eight bits are off by up to 1/254 of the largest of each group.
            check(off <= (1e-4 if compute == "f32" else 0.05 * moved), f"{name} on {where}, "
                  f"{compute}: logits differ by {off:.1e} of {moved:.1e}")
            print(f"   {name} on {where}, {compute}: within {off:.1e} of {moved:.1f}")


def same_steps(where, out, kind, *options):
    """Steps of plain gradient descent by us and by PEFT on the same windows, which repeat a word:
    where in the word one begins, its loss tells."""
    word, T, rate, steps = b"abracadabra, simsalabim! ", 40, 0.5, 3
    pathlib.Path("word.txt").write_bytes(word * 1500)
    done("train", "--base", where, "--tokenizer", "bytes", "--data", "word.txt", "--out", out,
         "--adapter", kind, "--rank", 4, "--alpha", 6, "--optimizer", "sgd", "--beta1", 0,
         "--lr", rate, "--min-lr", rate, "--warmup", 0, "--schedule", "constant", "--clip", 0,
         "--weight-decay", 0, "--seq", T, "--batch-tokens", T, "--budget", f"{steps}steps",
         "--checkpoint-every", "1steps", "--keep", 0, "--eval-every", 0, "--compute", "f32",
         *options)
    losses = [e["loss"] for e in map(json.loads, open(f"{out}/journal.jsonl"))
              if e.get("event") == "step"]
    check(len(losses) == steps, f"{losses}")
    model = PeftModel.from_pretrained(load(where), f"{out}/step-0", is_trainable=True).train()
    trained = {k: t for k, t in model.named_parameters() if t.requires_grad}
    begun = {k: t.detach().clone() for k, t in trained.items()}
    for step, loss in enumerate(losses):
        best = None
        for at in range(len(word)):
            ids = torch.tensor(list((word * 4)[at:at + T + 1]))[None]
            found = torch.nn.functional.cross_entropy(model(ids[:, :-1]).logits[0], ids[0, 1:])
            if best is None or abs(found.item() - loss) < abs(best.item() - loss):
                best = found
        check(abs(best.item() - loss) <= 1e-5 * loss, f"step {step}: {best.item()}, {loss}")
        model.zero_grad()
        best.backward()
        with torch.no_grad():
            for t in trained.values():
                t -= rate * t.grad
    worst = 0
    for key, t in trained.items():
        ours = tensors(f"{out}/step-{steps}")[key.replace(".default", "").replace(
            "lora_magnitude_vector.weight", "lora_magnitude_vector")]
        moved = (t - begun[key]).norm().item()
        off = (ours - t).norm().item()
        check(moved > 1e-3 * t.norm().item() and off <= 5e-4 * moved + 1e-6,
              f"{out}, {key}: off by {off:.1e} of {moved:.1e}")
        worst = max(worst, off / moved)
    print(f"   {out}: after {steps} steps within {worst:.1e} of the way")


@case
def gradient_steps():
    where = base("steps", Qwen2ForCausalLM, Qwen2Config)
    same_steps(where, "steps-lora", "lora")
    same_steps(where, "steps-dora", "dora")
    same_steps(where, "steps-again", "dora", "--checkpointing", "yes", "--rslora", "--targets",
               "k,o,up,down")


@case
def two_hundred_updates():
    """AdamW with clipping from the same adapter over the same batches: the losses of PEFT."""
    where, steps = base("long", LlamaForCausalLM, LlamaConfig), 200
    pathlib.Path("readme.txt").write_text((e2e.ROOT / "README.md").read_text())
    done("train", "--base", where, "--tokenizer", "bytes", "--data", "readme.txt", "--out",
         "long-ours", "--adapter", "lora", "--rank", 8, "--lr", 2e-3, "--min-lr", 2e-3,
         "--warmup", 0, "--schedule", "constant", "--clip", 1, "--weight-decay", 0,
         "--beta2", 0.99, "--seq", 64, "--batch-tokens", 256, "--budget", f"{steps}steps",
         "--log-every", "1steps", "--eval-every", 0, "--keep", 0, "--compute", "f32")
    done("data", "batches", "--run", "long-ours", "--steps", steps, "--out", "batches.safetensors")
    batches = load_file("batches.safetensors")
    losses = [e["loss"] for e in map(json.loads, open("long-ours/journal.jsonl"))
              if e.get("event") == "step"]
    model = PeftModel.from_pretrained(load(where), "long-ours/step-0", is_trainable=True).train()
    trained = [t for t in model.parameters() if t.requires_grad]
    optimizer = torch.optim.AdamW(trained, 2e-3, (0.9, 0.99), 1e-8, 0)
    worst = 0
    for ids, targets, ours in zip(batches["ids"], batches["targets"], losses, strict=True):
        loss = torch.nn.functional.cross_entropy(model(ids.long()).logits.flatten(0, 1),
                                                 targets.long().flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1)
        optimizer.step()
        worst = max(worst, abs(loss.item() - ours))
    check(worst <= 1e-3 and losses[-1] < losses[0] - 0.3, f"{worst}, {losses[0]}, {losses[-1]}")
    print(f"   {steps} updates, {losses[0]:.3f} to {losses[-1]:.3f}: within {worst:.1e} of PEFT")


@case
def dropout_is_recorded():
    where = base("dropping")
    pathlib.Path("text.txt").write_bytes(b"A wet dog met a red fox. " * 400)
    done("train", "--base", where, "--tokenizer", "bytes", "--data", "text.txt", "--out", "drop",
         "--adapter", "lora", "--lora-dropout", 0.25, "--seq", 32, "--batch-tokens", 64,
         "--budget", "3steps", "--eval-tokens", 64)
    config = json.loads(pathlib.Path("drop/last/adapter_config.json").read_text())
    check(config["lora_dropout"] == 0.25, f"{config}")
    peft_model(where, "drop/last")
    rewritten(where, "drop/last")


# ---- llama.cpp -----------------------------------------------------------------------------------

def llama_logits(path, lora=None, ids=None):
    import llama_cpp
    model = llama_cpp.Llama(str(path), n_ctx=256, n_batch=256, n_threads=2, logits_all=True,
                            verbose=False, lora_path=lora)
    return llamacpp.llama_logits(model, ids or IDS[0].tolist())


@case
def gguf_adapters():
    """llama.cpp, our GGUF adapter beside the base: the logits of PEFT and of our merged file."""
    kinds = (("llama", LlamaForCausalLM, LlamaConfig, {}),
             ("wide", LlamaForCausalLM, LlamaConfig, dict(head_dim=16, tie_word_embeddings=True)),
             ("qwen2", Qwen2ForCausalLM, Qwen2Config, {}),
             ("qwen3", Qwen3ForCausalLM, Qwen3Config, dict(head_dim=20)))
    hows = dict(plain={}, rs=dict(use_rslora=True, alpha_pattern={"q_proj": 1, "up_proj": 13},
                                  rank_pattern={"v_proj": 2, "k_proj": 8}))
    for kind, model, config, shape in kinds:
        where = base(kind, model, config, **shape)
        done("convert", where, f"{kind}.gguf")
        for how, options in hows.items():
            name = adapter(f"{kind}-{how}", where, **options)
            done("convert", name, f"{name}.gguf", "--base", where)
            done("convert", f"{kind}.gguf", f"{name}-merged.gguf", "--merge", f"{name}.gguf")
            done("convert", where, f"{name}-merged.hf", "--merge", f"{name}.gguf")
            theirs = llama_logits(f"{kind}.gguf", f"{name}.gguf")
            with torch.no_grad():
                wanted = logits(peft_model(where, name)).numpy()
                directory = logits(load(f"{name}-merged.hf")).numpy()
            merged = llama_logits(f"{name}-merged.gguf")
            moved = np.abs(llama_logits(f"{kind}.gguf") - wanted).max()
            same, off, exact = (np.abs(x - y).max() for x, y in
                                ((theirs, merged), (theirs, wanted), (directory, wanted)))
            check(same <= 1e-2 and off <= 0.01 * moved and exact <= 1e-4, f"{name}: {same}, {off} "
                  f"of {moved}, {exact}")
            print(f"   {name}: in llama.cpp beside and merged within {same:.1e}, from PEFT "
                  f"{off:.1e} of {moved:.1f} that the adapter does")
            done("convert", f"{name}.gguf", f"{name}-back", "--base", where)
            if how == "plain":
                same_bits(name, f"{name}-back")
            with torch.no_grad():
                off = (logits(peft_model(where, f"{name}-back")).numpy() - wanted)
            check(np.abs(off).max() <= 1e-4, f"{name}-back: logits differ")


@case
def gguf_file_is_as_their_converter_writes_it():
    """Keys, names and shapes of llama.cpp's convert_lora_to_gguf.py, by the gguf package."""
    where = base("llama")
    adapter("named", where, target_modules=["q_proj", "down_proj"])
    done("convert", "named", "named.gguf", "--base", where, "--dtype", "f16")
    keys, found = llamacpp.keys("named.gguf"), llamacpp.tensors("named.gguf")
    for key, value in (("general.architecture", "llama"), ("general.type", "adapter"),
                       ("adapter.type", "lora"), ("adapter.lora.alpha", 6.0)):
        check(keys[key] == value, f"{key} is {keys.get(key)}")
    check(len(found) == 12, f"{found.keys()}")
    parts = tensors("named")
    q = "base_model.model.model.layers.1.self_attn.q_proj.lora_"
    a, b = parts[q + "A.weight"].numpy(), parts[q + "B.weight"].numpy()
    check(np.array_equal(found["blk.1.attn_q.weight.lora_a"].data, a.astype(np.float16)), "A")
    check(np.array_equal(found["blk.1.attn_q.weight.lora_b"].data,
                         llamacpp.paired(b, 6).astype(np.float16)), "B")


@case
def quantised_bases():
    """Into a Q8_0 file: its values plus the term, in floats exactly, or quantised once more."""
    hf.random_model(LlamaForCausalLM, LlamaConfig(**{
        **SHAPE, "hidden_size": 96, "intermediate_size": 160})).save_pretrained("blocks")
    done("convert", "blocks", "q8.gguf", "--dtype", "q8_0")
    done("convert", "q8.gguf", "q8-exact", "--dtype", "f32")
    name = adapter("on-q8", "q8-exact")
    done("convert", "q8.gguf", "q8-merged", "--merge", name, "--dtype", "f32")
    with torch.no_grad():
        off = (logits(load("q8-merged")) - logits(peft_model("q8-exact", name))).abs().max().item()
    check(off <= 1e-4, f"logits differ by {off:.1e}")
    done("convert", "q8.gguf", "q8-again.gguf", "--merge", name)
    kinds = {t.tensor_type.name for k, t in llamacpp.tensors("q8-again.gguf").items()
             if "norm" not in k}
    check(kinds == {"Q8_0"}, f"types {kinds}")
    done("convert", "q8-again.gguf", "q8-back", "--dtype", "f32")
    once, twice = (load_file(f"q8-{x}/model.safetensors") for x in ("merged", "back"))
    for key, t in once.items():
        off = ((twice[key] - t).abs().max() / t.abs().max()).item()
        check(off <= 0.51 / 127, f"{key} differs by {off:.1e} of its largest value")


@case
def real_model():
    """SmolLM2: beside it in llama.cpp as merged by us, in little memory."""
    source = llamacpp.smollm2()
    done("convert", source, "smollm2", "--dtype", "f16")
    done("convert", "smollm2", "f16.gguf")
    torch.manual_seed(8)
    state = {}
    for key, t in load_file("smollm2/model.safetensors").items():
        if key.split(".")[-2] in SEVEN:
            module = "base_model.model." + key.removesuffix(".weight")
            state[f"{module}.lora_A.weight"] = torch.randn(8, t.shape[1]) * t.shape[1] ** -0.5
            state[f"{module}.lora_B.weight"] = torch.randn(t.shape[0], 8) * 1e-2
    pathlib.Path("real").mkdir()
    save_file(state, "real/adapter_model.safetensors")
    pathlib.Path("real/adapter_config.json").write_text(json.dumps(dict(
        peft_type="LORA", r=8, lora_alpha=16, target_modules=SEVEN,
        base_model_name_or_path="smollm2")))
    done("convert", "real", "real.gguf")                 # the base is where the config says
    peak = llamacpp.peak("convert", "smollm2", "merged.gguf", "--merge", "real")
    allowed = 1.2 * 49152 * 576 * 2 + sum(t.nbytes for t in state.values()) + (64 << 20)
    check(peak <= allowed, f"a peak of {peak >> 20} MiB")
    ids = done("tokenizer", "encode", "--tokenizer", "f16.gguf", "--text", llamacpp.PROMPT,
               "--json").json()["ids"]
    beside, merged, before = (llama_logits(*x, ids=ids) for x in
                              (("f16.gguf", "real.gguf"), ("merged.gguf",), ("f16.gguf",)))
    off, moved = (np.abs(x - merged).max() for x in (beside, before))
    check(off <= 0.15 and moved > 10 * off, f"logits differ by {off:.1e} of {moved:.1e}")
    print(f"   in llama.cpp beside and merged (F16) within {off:.1e} of {moved:.1f}; a peak of "
          f"{peak >> 20} MiB")


@case
def real_model_learns():
    """SmolLM2 in Q4_1, fine-tuned where it lies: PEFT opens the adapter on the exact values, and
    beside = merged."""
    source = llamacpp.smollm2()
    text = "".join(f"Arr, matey! {line}\n" for line in
                   (e2e.ROOT / "README.md").read_text().splitlines() if line)
    pathlib.Path("pirate.txt").write_text(text)
    done("train", "--base", source, "--data", "pirate.txt", "--out", "pirate", "--adapter", "lora",
         "--rank", 8, "--lr", 1e-3, "--seq", 128, "--batch-tokens", 256, "--budget", "12steps",
         "--eval-every", "12steps", "--eval-tokens", 512, "--compute", "f32", timeout=240)
    evals = [done("eval", model, "--data", "pirate.txt", "--part", "valid", "--seq", 128,
                  "--compute", "f32", "--json").json()["loss"] for model in (source, "pirate")]
    check(evals[-1] < evals[0] - 0.05, f"{evals}")
    done("convert", source, "floats", "--dtype", "f32")
    ours, ids = follows(source, "pirate/best", "f32")
    with torch.no_grad():
        theirs = peft_model("floats", "pirate/best")(ids).logits[0, -1]
    done("convert", source, "merged", "--merge", "pirate/best", "--dtype", "f32")
    done("generate", "merged", "--prompt", "Once there was a bird who lost its hat", "--tokens", 1,
         "--compute", "f32", "--logits", "merged.safetensors")
    merged = load_file("merged.safetensors")["logits"]
    off, split = ((x - ours).abs().max().item() for x in (theirs, merged))
    check(off <= 2e-4 and split <= 1e-4, f"PEFT's logits differ by {off:.1e}, merged {split:.1e}")
    said = done("generate", "pirate", "--prompt", "How to train a model:", "--tokens", 30,
                "--greedy").out
    print(f"   loss {evals[0]:.3f} -> {evals[-1]:.3f}; logits within {off:.1e} of PEFT, merged "
          f"{split:.1e}: {said.strip()!r}")


# ---- the original --------------------------------------------------------------------------------

@case
def sidecar_of_the_original():
    """i32 magic, rank, layers, updates; per layer A and B of q, k, v, o; q and k in pairs."""
    where = base("llama")
    parts, out = tensors(adapter("four", where, target_modules=SEVEN[:4], lora_alpha=4)), b""
    for layer in range(3):
        for x, heads in (("q", 6), ("k", 2), ("v", 0), ("o", 0)):
            at = f"base_model.model.model.layers.{layer}.self_attn.{x}_proj.lora_"
            B = parts[at + "B.weight"].numpy()
            out += parts[at + "A.weight"].numpy().tobytes()
            out += (llamacpp.paired(B, heads) if heads else B).tobytes()
    pathlib.Path("ckpt_lora.bin").write_bytes(struct.pack("<4i", 0x4C4F5241, 4, 3, 17) + out)
    done("convert", "ckpt_lora.bin", "from-sidecar", "--base", where)
    same_bits("four", "from-sidecar")
    done("convert", where, "four-merged", "--merge", "four")
    done("convert", where, "sidecar-merged", "--merge", "ckpt_lora.bin")
    a, b = (load_file(f"{x}-merged/model.safetensors") for x in ("four", "sidecar"))
    check(all(torch.equal(t, b[k]) for k, t in a.items()), "merged tensors differ")
    pathlib.Path("cut_lora.bin").write_bytes(struct.pack("<4i", 0x4C4F5241, 4, 3, 17) + out[:-4])
    refused(run("convert", "cut_lora.bin", "no", "--base", where), 1, "cut short")


# ---- what is refused -----------------------------------------------------------------------------

def changed(name, change=None, weights=None):
    """A copy of the adapter with another config or other tensors."""
    out = f"{name}-changed"
    pathlib.Path(out).mkdir(exist_ok=True)
    config = json.loads(pathlib.Path(name, "adapter_config.json").read_text())
    config.update(change or {})
    pathlib.Path(out, "adapter_config.json").write_text(json.dumps(config))
    state = tensors(name)
    if weights:
        weights(state)
    save_file(state, f"{out}/adapter_model.safetensors")
    return out


@case
def what_would_be_computed_wrongly_is_refused():
    where = base("llama")
    adapter("good", where)
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    for key, value in (("peft_type", "ADALORA"), ("lora_bias", True), ("bias", "some"),
                       ("init_lora_weights", "pissa"), ("layer_replication", [[0, 2]]),
                       ("trainable_token_indices", [1]), ("target_parameters", ["x"]),
                       ("alora_invocation_tokens", [3]), ("use_qalora", True),
                       ("tomorrows_idea", 1), ("target_modules", None)):
        refused(run("convert", where, "no", "--merge", changed("good", {key: value})), 1, key)
    refused(run("convert", where, "no", "--merge", changed("good", {"r": 5})), 1, "rank")
    refused(run("convert", where, "no", "--merge", changed("good", {"rank_pattern": {"(": 5}})), 1,
            "regex")
    refused(run("convert", where, "no", "--merge", changed("good", {"use_dora": True})), 1,
            "magnitude")
    refused(run("convert", where, "no", "--merge", changed("good", {"target_modules": ["q_proj"]})),
            1, "target_modules")
    refused(run("convert", where, "no", "--merge", changed("good", None, lambda s: s.pop(first))),
            1, "q_proj")

    def both(state):
        state.pop(first)
        state.pop(first.replace("_A", "_B"))
    refused(run("convert", where, "no", "--merge", changed("good", None, both)), 1, "lacks")
    refused(run("convert", base("q3", Qwen3ForCausalLM, Qwen3Config, head_dim=20), "no", "--merge",
                "good"), 1, "another model", "k_proj", "[16,4]", "[40,4]")
    adapter("magnitudes", where, use_dora=True)
    refused(run("convert", "magnitudes", "no.gguf", "--base", where), 1, "--merge")
    adapter("saved", where, modules_to_save=["lm_head"])
    refused(run("convert", "saved", "no.gguf", "--base", where), 1, "--merge")
    check(not pathlib.Path("no").exists() and not pathlib.Path("no.gguf").exists(), "left behind")


if __name__ == "__main__":
    print(f"peft {peft.__version__}")
    sys.exit(main())
