"""Models from one format to another and back: every bit, opened by transformers each time.

    convert.py [PROGRAM] [case ...]       PROGRAM: the autoane to test (default: build/autoane)

Models made by transformers with every weight random (hf.py), a run of ours with a residual scale
and a compact vocabulary, and SmolLM2's GGUF file (llamacpp.py) as a Hugging Face directory.
"""
import glob
import os
import pathlib

import llamacpp                               # takes PROGRAM from the arguments
import hf
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

import e2e
from e2e import case, check, done, main, refused, run

e2e.CASES.clear()                             # those of the other two are their own
SHAPE, random_model = hf.SHAPE, hf.random_model


def weights(where):
    """{name: tensor} of a directory, in one file or several."""
    out = {}
    for path in sorted(pathlib.Path(where).glob("model*.safetensors")):
        out |= load_file(path)
    return out


def same_weights(a, b):
    x, y = weights(a), weights(b)
    check(x.keys() == y.keys(), f"{b}: other tensors: {x.keys() ^ y.keys()}")
    for name, t in x.items():
        check(t.dtype == y[name].dtype and t.shape == y[name].shape,
              f"{b}: {name}: {y[name].dtype}")
        whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[t.element_size()]
        check(torch.equal(t.view(whole), y[name].view(whole)), f"{b}: {name} has other bits")


def there_and_back(name, model, dtype="keep", **how):
    """hf -> gguf -> hf, and hf -> hf in several files: the same tensors, the same model."""
    model.save_pretrained(name, **how)
    done("convert", name, f"{name}.gguf", "--dtype", dtype)
    done("convert", f"{name}.gguf", f"{name}-back", "--dtype", dtype)
    done("convert", f"{name}-back", f"{name}-parts", "--shard-size", "60000")
    check(len(list(pathlib.Path(f"{name}-parts").glob("model-*.safetensors"))) > 1, "one part")
    for out in (f"{name}-back", f"{name}-parts"):
        same_weights(name, out)
        hf.same_answers(out, hf.load(out))


@case
def llama_tied_biases():
    there_and_back("biases", random_model(LlamaForCausalLM, LlamaConfig(
        **SHAPE, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)))


@case
def llama3_wide_heads():
    there_and_back("wide", random_model(LlamaForCausalLM, LlamaConfig(
        **SHAPE, head_dim=16, rope_parameters=dict(**hf.LLAMA3, rope_theta=5000.0))))


@case
def qwen2_in_parts():
    there_and_back("qwen2", random_model(Qwen2ForCausalLM, Qwen2Config(**SHAPE)),
                   max_shard_size="60KB")


@case
def qwen3_halves():
    for dtype in (torch.bfloat16, torch.float16):
        short = {torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
        there_and_back(f"qwen3-{short}", random_model(Qwen3ForCausalLM, Qwen3Config(
            **SHAPE, head_dim=20)).to(dtype), short)


@case
def eight_bit_floats():
    """Kept, or made F32, exactly."""
    random_model(LlamaForCausalLM, LlamaConfig(**SHAPE)).save_pretrained("f8")
    source = weights("f8")
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        short = {name: t.to(dtype) for name, t in source.items()}
        save_file(short, "f8/model.safetensors", {"format": "pt"})
        done("convert", "f8", f"kept-{dtype}")
        same_weights("f8", f"kept-{dtype}")
        done("convert", f"kept-{dtype}", f"f32-{dtype}", "--dtype", "f32")
        for name, t in weights(f"f32-{dtype}").items():
            check(t.dtype == torch.float32 and torch.equal(t, short[name].float()), name)
        for where in (f"kept-{dtype}", f"f32-{dtype}"):
            hf.same_answers(where, hf.load(where))


@case
def run_with_scale_and_compact_vocabulary():
    where = hf.trained("run", "--arch", "llama", "--compact-vocab", "--no-tied",
                       "--residual-scale", "0.7")
    done("convert", where, "run.gguf")
    done("convert", "run.gguf", "run-back")
    done("convert", "run", "run-copy")
    for out in ("run-back", "run-copy"):
        same_weights(where, out)
    check(hf.active("run-copy") == hf.active(where), "the compact vocabulary is lost")
    hf.same_answers("run-copy", hf.load("run-copy"), AutoTokenizer.from_pretrained("run-copy"))


def directory():
    """SmolLM2's GGUF file, and a directory made of it."""
    source = llamacpp.smollm2()
    if not os.path.exists("smollm2"):
        done("convert", source, "smollm2")
    return source


@case
def smollm2_as_directory():
    """transformers opens it, cuts text and renders conversations as published, says the same."""
    source = directory()
    done("convert", "smollm2", "smollm2.gguf")
    exact, again = llamacpp.tensors(source), llamacpp.tensors("smollm2.gguf")
    for name, t in exact.items():
        check((llamacpp.values(t) == llamacpp.values(again[name])).all(),
              f"{name} has other values")
    tokenizer = AutoTokenizer.from_pretrained("smollm2")
    for text, ids in llamacpp.GOLDEN.items():
        check(tokenizer(text)["input_ids"] == ids, f"{text!r}: {tokenizer(text)['input_ids']}")
    said = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False,
                                         add_generation_prompt=True)
    check(said.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), said)
    model = hf.load("smollm2")
    ids = tokenizer(llamacpp.PROMPT, return_tensors="pt")["input_ids"]
    theirs = model.generate(ids, max_new_tokens=40, do_sample=False)[0, ids.shape[1]:].tolist()
    for path in (source, "smollm2"):
        ours = done("generate", path, "--prompt", llamacpp.PROMPT, "--tokens", 40, "--greedy",
                    "--compute", "f32", "--json").json()
        check(ours["ids"] == theirs, f"{path}: {ours['ids']} instead of {theirs}")


@case
def smollm2_back_to_llama():
    """GGUF with the keys that we make: llama.cpp opens it, cuts text alike, and stops."""
    directory()
    for dtype, tolerance in (("f16", 5e-2), ("q8_0", 1), ("q4_k_m", 1.5)):
        path = f"back-{dtype}.gguf"
        done("convert", "smollm2", path, "--dtype", dtype)
        llama = llamacpp.open_in_llama(path)
        for text, ids in llamacpp.GOLDEN.items():
            llamacpp.same_ids(llama, text, ids, path)
        same = llamacpp.same_text(path, llama, tolerance, "The capital of France is", 32)
        answer = llama.create_chat_completion([{"role": "user", "content": "Say only: yes"}],
                                              max_tokens=60, temperature=0)["choices"][0]
        check(answer["finish_reason"] == "stop", f"{path}: the answer does not end: {answer}")
        print(f"   {path}: {same} of 32 tokens the same as llama.cpp's")


@case
def memory_stays_small():
    """1.2 times the largest tensor and 64 MiB, whatever the size of the model."""
    source = directory()
    largest = max(t.numel() * t.element_size() for t in weights("smollm2").values())
    for which, words in (("to floats", (source, "small-1")), ("in parts", (
            "smollm2", "small-2", "--shard-size", "100M")), ("halves", (
            "smollm2", "small-3", "--dtype", "bf16"))):
        most = llamacpp.peak("convert", *words)
        check(most <= 1.2 * largest + (64 << 20), f"{which}: peak of {most >> 20} MiB")
        print(f"   {which}: peak of {most >> 20} MiB")


@case
def what_the_format_has_not_is_refused():
    random_model(LlamaForCausalLM, LlamaConfig(**SHAPE)).save_pretrained("base")
    refused(run("convert", "base", "out", "--dtype", "q8_0"), 1, "GGUF")
    done("convert", "base", "out")
    refused(run("convert", "base", "out"), 2, "there already")
    check(not glob.glob("out.*tmp"), "a temporary is left")


if __name__ == "__main__":
    main()
