"""Models made by transformers, read by autoane; and checkpoints of autoane, read by transformers.

    hf.py [PROGRAM] [case ...]        PROGRAM: the autoane to test (default: AUTOANE, build/autoane)

Every weight of their models is random, biases and norms too, and large enough that each one moves
the logits. They have no tokenizer, so that a prompt is its bytes. Ours are trained for 60 steps,
with a tokenizer that AutoTokenizer opens too. Compared are the logits after six prompts, the log-
probabilities of multiple choices, the mean loss of a text of 600 bytes (a position encoding that
is a little wrong shows beyond the first hundred), and greedy texts of 200 tokens, up to the first
tie: where the two best logits of transformers are closer than the tolerance, either choice is
right.
"""
import json
import logging
import os
import pathlib
import random
import shutil
import sys
import warnings

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
if len(sys.argv) > 1 and os.sep in sys.argv[1]:
    os.environ["AUTOANE"] = sys.argv.pop(1)

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers import MistralConfig, MistralForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from e2e import case, check, done, main, refused, run, write_text  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-4
TOKENS = 200
BYTES = 257                                   # ids of the byte tokenizer; 256 ends a text
SHAPE = dict(vocab_size=BYTES, hidden_size=48, intermediate_size=80, num_hidden_layers=3,
             num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=1024,
             bos_token_id=None, eos_token_id=None, pad_token_id=None)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)


def random_model(kind, config, seed=1):
    torch.manual_seed(seed)
    model = kind(config).eval()
    # A large tied embedding would repeat its input for ever.
    table = 0.1 if config.tie_word_embeddings else 0.5
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                weight.normal_(0, 0.3)
            else:
                weight.normal_(0, table if "embed" in name or "lm_head" in name
                               else 1.5 * weight.shape[1] ** -0.5)
    return model


def load(where):
    """from_pretrained, with every weight accounted for and nothing said about it."""
    said = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("transformers").addHandler(listener)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, info = AutoModelForCausalLM.from_pretrained(
            where, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    logging.getLogger("transformers").removeHandler(listener)
    check(not said, f"{where}: transformers warns: {said}")
    for what, names in info.items():
        check(not names, f"{where}: {what}: {names}")
    return model.eval()


def text_file():
    """One document (plain text would be cut into several)."""
    if not os.path.exists("text.jsonl"):
        text = pathlib.Path(write_text("long.txt", 2000)).read_text(encoding="utf-8")[:600]
        pathlib.Path("text.txt").write_text(text, encoding="utf-8")
        pathlib.Path("text.jsonl").write_text(json.dumps({"text": text}) + "\n")
    return "text.jsonl"


def active(where):
    """The ids a compact vocabulary was trained with, or None."""
    path = pathlib.Path(where, "active_vocabulary.json")
    return json.loads(path.read_text())["active_ids"] if path.exists() else None


def as_trained(where, logits):
    """Without the stand-in rows of a compact vocabulary, none of which may win."""
    ids = active(where)
    if not ids:
        return logits
    kept = torch.full_like(logits, -torch.inf)
    kept[..., ids] = logits[..., ids]
    check((kept.max(-1).values == logits.max(-1).values).all(), f"{where}: a stand-in row wins")
    return kept


def same_logits(where, model, tokenizer):
    """What follows each of six prompts, three of them longer than 64 bytes."""
    worst = 0.0
    prompts = ("A", "Once upon a time", "Zoë's 猫:\n\n  12345 \tnaïve 👍🏽 cafés!",
               "It was a warm day. " * 5, "Rain? " * 20,
               "The mole dug and dug, and then it slept until the spring came. " * 4)
    if active(where):                        # it knows the words of its text alone
        prompts = ("Ann", "Zoë saw a red", "Tom took his hat.\n" * 9, "Mia found two apples.\n",
                   "Bob liked the old boat.\nAnn lost a small bird.\n" * 4, "Bob saw a red ball.")
    for prompt in prompts:
        done("generate", where, "--prompt", prompt, "--tokens", "1", "--logits", "l.safetensors")
        ours = load_file("l.safetensors")
        if tokenizer:
            ids = tokenizer(prompt)["input_ids"]
            check(ours["ids"].tolist() == ids, f"{where}: {prompt!r} is cut differently: "
                  f"{ours['ids'].tolist()}, {type(tokenizer).__name__} says {ids}")
            check(tokenizer.decode(ids) == prompt, f"{where}: {tokenizer.decode(ids)!r}")
        theirs = as_trained(where, model(ours["ids"].long()[None]).logits[0, -1])
        check(ours["logits"].shape == theirs.shape, f"{where}: logits {ours['logits'].shape}")
        known = theirs.isfinite()
        check((ours["logits"].isfinite() == known).all(), f"{where}: other ids have logits")
        off = (ours["logits"] - theirs)[known].abs().max().item()
        check(off <= TOLERANCE, f"{where}: logits differ by {off:.2e} after {prompt[:20]!r}")
        worst = max(worst, off)
    return worst


def same_loss(where, model, tokenizer):
    loss = done("eval", where, "--data", text_file(), "--json").json()["loss"]
    text = pathlib.Path("text.txt").read_text(encoding="utf-8")
    row = torch.tensor([tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] if tokenizer
                        else list(text.encode()) + [256]])
    logits = as_trained(where, model(row).logits[0, :-1])
    theirs = torch.nn.functional.cross_entropy(logits, row[0, 1:]).item()
    check(abs(loss - theirs) <= TOLERANCE, f"{where}: loss {loss:.7f}, transformers {theirs:.7f}")


def same_greedy_text(where, model, tokenizer):
    prompt = ("Ann saw a small bird.\nBob lost his hat.\n" if active(where) else
              "Once there was a small bird who lost its hat. ") * 2
    ours = done("generate", where, "--prompt", prompt, "--tokens", TOKENS, "--greedy",
                "--ignore-eos", "--json").json()
    ids = ours["prompt_ids"]
    expected = tokenizer(prompt)["input_ids"] if tokenizer else list(prompt.encode())
    check(ids[-len(expected):] == expected, f"{where}: prompt ids {ids}")
    check(len(ours["ids"]) == TOKENS, f"{where}: {len(ours['ids'])} tokens")
    logits = as_trained(where, model(torch.tensor([ids + ours["ids"]])).logits[0, len(ids) - 1:-1])
    (best, second), theirs = logits.topk(2).values.T, logits.argmax(-1)
    same = TOKENS
    for i, (mine, other) in enumerate(zip(ours["ids"], theirs.tolist())):
        gap = (best[i] - second[i]).item()
        if mine != other:
            check(gap <= TOLERANCE, f"{where}: token {i} is {mine}, transformers takes {other} "
                  f"by {gap:.2e}")
            same = i
            break
    check(len(set(ours["ids"])) > 3, f"{where}: too dull a text to tell: {ours['ids'][:9]}")
    return ours["ids"], same


def harness_pair(tokenizer, query, choice):
    """Ids of a query and of what a choice adds, as TemplateLM._encode_pair of the harness."""
    encode = (lambda text, **how: tokenizer(text, **how)["input_ids"]) if tokenizer else \
        (lambda text, **how: list(text.encode()))
    text = query + " " + choice
    if not query.strip():
        first = [tokenizer.bos_token_id or tokenizer.eos_token_id] if tokenizer else [256]
        return encode(query) or first, encode(text, add_special_tokens=False)
    ids = encode(query.rstrip())
    return ids, encode(text)[len(ids):]


def same_choices(where, model, tokenizer):
    """Multiple choice: every choice's log-probability, and the answers picked."""
    items = [json.loads(line) for line in (HERE / "choices.jsonl").read_text().splitlines()]
    if active(where):
        items = [dict(query="Bob saw a red", choices=["ball.", "boat.", "bird."], gold=0),
                 dict(query="Mia found two apples.\nZoë lost", choices=["his hat.", "a"], gold=0)]
    pathlib.Path("items.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n\n")
    ours = done("eval", where, "--choices", "items.jsonl", "--json").json()
    right = right_norm = 0
    for item, got in zip(items, ours["items"]):
        scores = []
        for choice, mine in zip(item["choices"], got["choices"]):
            ids, more = harness_pair(tokenizer, item.get("query", item.get("context")), choice)
            logits = as_trained(where, model(torch.tensor([ids + more])).logits[0])
            scores.append(logits[len(ids) - 1:-1].log_softmax(-1)
                          .gather(1, torch.tensor(more)[:, None]).double().sum().item())
            check(mine["tokens"] == len(more), f"{where}: {choice!r}: {mine}, {len(more)} tokens")
            check(abs(mine["logprob"] - scores[-1]) <= TOLERANCE * len(more),
                  f"{where}: {choice!r}: {mine}, transformers {scores[-1]:.6f}")
        norm = [s / len(c.encode()) for s, c in zip(scores, item["choices"])]
        for pick, values in (("pick", scores), ("pick_norm", norm)):
            check(max(values) - values[got[pick]] <= 2 * TOLERANCE, f"{where}: {got} of {values}")
        right += got["pick"] == item["gold"]
        right_norm += got["pick_norm"] == item["gold"]
    n = len(items)
    check(len(ours["items"]) == n and ours["acc"] == right / n and ours["acc_norm"] ==
          right_norm / n, f"{where}: {ours['acc']} {ours['acc_norm']}")
    stderr = (ours["acc"] * (1 - ours["acc"]) / (n - 1)) ** 0.5
    check(abs(ours["acc_stderr"] - stderr) < 1e-12, f"{where}: {ours['acc_stderr']}")


@torch.no_grad()
def same_answers(where, model, tokenizer=None):
    """autoane on the directory `where` computes what `model` computes. Returns its greedy ids."""
    off = same_logits(where, model, tokenizer)
    same_loss(where, model, tokenizer)
    same_choices(where, model, tokenizer)
    ids, same = same_greedy_text(where, model, tokenizer)
    print(f"   {where}: logits within {off:.1e}, {same} tokens of greedy text the same")
    return ids


def both_ways(name, model, **how):
    """Their directory read by us; then ours, written after an update, read by them."""
    model.save_pretrained(name, **how)
    return there_and_back(name)


def there_and_back(name):
    reference = load(name)
    ids = same_answers(name, reference)
    done("train", "--base", name, "--data", write_text("corpus.txt", 60000), "--out", f"{name}-run",
         "--seq", "1024", "--batch-tokens", "1024", "--budget", "1steps", "--eval-tokens", "1024",
         "--lr", "1e-5", "--seed", "3")
    where = f"{name}-run/last"
    same_answers(where, load(where))
    theirs, ours = reference.config.to_dict(), load(where).config.to_dict()
    for key in theirs:
        if key not in ("transformers_version", "dtype", "_name_or_path", "pad_token_id",
                       "bos_token_id", "eos_token_id", "initializer_range", "max_window_layers",
                       "architectures"):
            check(theirs[key] == ours.get(key), f"{name}: {key}: {theirs[key]} became "
                  f"{ours.get(key)}")
    return ids


def with_config(name, change):
    """Rewrites name/config.json: change(dict)."""
    path = pathlib.Path(name) / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@case
def llama_grouped_queries():
    both_ways("llama", random_model(LlamaForCausalLM, LlamaConfig(**SHAPE)))


@case
def llama_tied():
    both_ways("tied", random_model(LlamaForCausalLM,
                                   LlamaConfig(**SHAPE, tie_word_embeddings=True)))


@case
def llama_biases():
    both_ways("biases", random_model(LlamaForCausalLM,
                                     LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)))


@case
def llama_wide_heads():
    both_ways("wide", random_model(LlamaForCausalLM, LlamaConfig(**SHAPE, head_dim=16)))


@case
def mistral():
    """Without a window, or with one that holds all: a llama, and written as one."""
    for name, window in (("mistral", None), ("mistral-wide", SHAPE["max_position_embeddings"])):
        random_model(MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=window)
                     ).save_pretrained(name)
        done("convert", name, f"{name}-llama")
        for where in (name, f"{name}-llama"):
            same_answers(where, load(where))
    MistralConfig(**SHAPE, sliding_window=64).save_pretrained("mistral")
    refused(run("info", "mistral"), 1, "sliding_window")


@case
def qwen2():
    both_ways("qwen2", random_model(Qwen2ForCausalLM, Qwen2Config(**SHAPE)))


@case
def qwen2_tied_eps():
    both_ways("eps", random_model(Qwen2ForCausalLM, Qwen2Config(
        **SHAPE, tie_word_embeddings=True, rms_norm_eps=1e-2)))


@case
def qwen3_head_dim():
    both_ways("qwen3", random_model(Qwen3ForCausalLM, Qwen3Config(**SHAPE, head_dim=20)))


@case
def qwen3_biases():
    both_ways("qwen3b", random_model(Qwen3ForCausalLM, Qwen3Config(
        **SHAPE, head_dim=12, attention_bias=True, tie_word_embeddings=True)))


@case
def rope_theta():
    both_ways("theta", random_model(LlamaForCausalLM, LlamaConfig(
        **SHAPE, rope_parameters=dict(rope_type="default", rope_theta=300.0))))


@case
def rope_linear():
    both_ways("linear", random_model(LlamaForCausalLM, LlamaConfig(
        **SHAPE, rope_parameters=dict(rope_type="linear", rope_theta=2000.0, factor=4.0))))


@case
def rope_llama3():
    both_ways("llama3", random_model(LlamaForCausalLM, LlamaConfig(
        **SHAPE, rope_parameters=dict(**LLAMA3, rope_theta=5000.0))))


@case
def rope_keys_of_transformers_4():
    for name, scaling in (("old-plain", None), ("old-linear", dict(type="linear", factor=4.0)),
                          ("old-llama3", LLAMA3)):
        random_model(LlamaForCausalLM, LlamaConfig(**SHAPE)).save_pretrained(name)

        def old(config):
            config.pop("rope_parameters")
            config.update(rope_theta=700.0, rope_scaling=scaling,
                          torch_dtype=config.pop("dtype", "float32"))
        with_config(name, old)
        same_answers(name, load(name))


@case
def half_precision():
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).split(".")[1]
        model = random_model(Qwen3ForCausalLM, Qwen3Config(**SHAPE, head_dim=20))
        model.to(dtype).save_pretrained(name)
        kept = load_file(f"{name}/model.safetensors")
        check(all(t.dtype == dtype for t in kept.values()), f"{name} was not saved as such")
        same_answers(name, load(name))


@case
def shards():
    model = random_model(LlamaForCausalLM, LlamaConfig(**SHAPE))
    both_ways("shards", model, max_shard_size="60KB")
    files = list(pathlib.Path("shards").glob("model-*.safetensors"))
    check(len(files) > 2, f"only {len(files)} files")
    files[1].unlink()
    refused(run("eval", "shards", "--data", text_file()), 1, files[1].name)


@case
def bare_model():
    """LlamaModel.save_pretrained: names without "model.", no head."""
    model = random_model(LlamaModel, LlamaConfig(**SHAPE, tie_word_embeddings=True))
    model.save_pretrained("bare")
    names = load_file("bare/model.safetensors")
    check("embed_tokens.weight" in names, f"names: {list(names)[:3]}")
    same_answers("bare", load("bare"))


@case
def saved_again():
    """What transformers saves from our directory holds the same bytes, and our header is sound."""
    done("train", "--data", write_text("corpus.txt", 60000), "--out", "run", "--arch", "qwen3",
         "--dim", "32", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--head-dim", "12",
         "--ffn", "64", "--seq", "64", "--no-tied", "--tokenizer", "bytes", "--batch-tokens", "256",
         "--budget", "5steps", "--eval-tokens", "256")
    load("run/last").save_pretrained("again")
    ours, theirs = (load_file(f"{d}/model.safetensors") for d in ("run/last", "again"))
    check(ours.keys() == theirs.keys(), f"{ours.keys() ^ theirs.keys()}")
    for name in ours:
        check(torch.equal(ours[name], theirs[name]), f"{name} differs")
    with safe_open("run/last/model.safetensors", "pt") as f:
        check(f.metadata()["format"] == "pt", f"metadata {f.metadata()}")
    raw = pathlib.Path("run/last/model.safetensors").read_bytes()
    check((8 + int.from_bytes(raw[:8], "little")) % 64 == 0, "the buffer is not aligned")
    keep = ["--prompt", "abc", "--tokens", "20", "--greedy", "--json"]
    check(done("generate", "run/last", *keep).json()["ids"]
          == done("generate", "again", *keep).json()["ids"], "the copy speaks otherwise")


def trained(name, *shape, tokenizer="train:350", opener=AutoTokenizer):
    """A run of ours: each of its checkpoints opens as it is, and says what autoane says."""
    done("train", "--data", write_text("corpus.txt", 100000), "--out", name, "--dim", "48",
         "--layers", "2", "--heads", "4", "--kv-heads", "2", "--ffn", "96", "--seq", "1024",
         "--tokenizer", tokenizer, "--batch-tokens", "2048", "--eval-tokens", "1024", "--budget",
         "60steps", "--keep", "0", "--lr", "3e-3", "--embed-lr", "1", "--seed", "5", *shape,
         timeout=120)
    for where in (f"{name}/step-0", f"{name}/last"):
        model, words = load(where), opener.from_pretrained(where)
        check(len(words) == model.config.vocab_size, f"{where}: {len(words)} words for "
              f"{model.config.vocab_size} rows")
        if where.endswith("last"):
            same_answers(where, model, words)
        else:
            with torch.no_grad():
                same_logits(where, model, words)
    return f"{name}/last"


def foreign_tokenizer():
    """A tokenizer of the library, of another text: most of its ids never occur in ours."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    draw = random.Random(2)
    words = ["".join(draw.choices("etaoinshrdlu_()=.,:", k=draw.randint(1, 9)))
             for _ in range(1500)]
    library.train_from_iterator(
        [" ".join(draw.choices(words, [1 / (i + 1) for i in range(1500)], k=20000))],
        trainers.BpeTrainer(vocab_size=1200, special_tokens=["<|endoftext|>"], show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    library.save("foreign.json")
    return "foreign.json"


@case
def run_llama():
    trained("run-llama", "--arch", "llama", "--tied", "--init", "scaled")


@case
def run_scaled_residuals():
    """The scale is folded into the output projections; resuming has the exact weights."""
    where = trained("run-scaled", "--arch", "llama", "--no-tied", "--residual-scale", "0.5")
    config = json.loads(pathlib.Path(where, "config.json").read_text(encoding="utf-8"))
    check("residual_scale" not in config, "transformers knows no residual_scale")


@case
def run_qwen2():
    trained("run-qwen2", "--arch", "qwen2", "--tied")


@case
def run_qwen3():
    trained("run-qwen3", "--arch", "qwen3", "--no-tied", "--head-dim", "20")


@case
def run_bytes():
    trained("run-bytes", "--arch", "qwen3", "--tied", tokenizer="bytes")


@case
def run_foreign_tokenizer():
    trained("run-foreign", "--arch", "llama", tokenizer=foreign_tokenizer())
    # AutoTokenizer has its own pre-tokenizer for every model of this kind.
    trained("run-foreign2", "--arch", "qwen2", tokenizer=foreign_tokenizer(),
            opener=PreTrainedTokenizerFast)


@case
def run_compact_vocabulary():
    for shape in (["--tied"], ["--no-tied", "--residual-scale", "0.7"]):
        name = f"run-compact{len(shape)}"
        where = trained(name, "--arch", "qwen3", "--compact-vocab", *shape,
                        tokenizer=foreign_tokenizer())
        head = load(where).get_output_embeddings().weight
        check(len(head) == 1200, f"{len(head)} rows")
        check(len(head.unique(dim=0)) < 600, "every row differs: was the vocabulary compact?")


@case
def run_low_rank_head():
    for shape in (["--tied", "--compact-vocab"], ["--no-tied", "--residual-scale", "0.7"]):
        where = trained(f"run-ranked{len(shape)}", "--arch", "llama", "--head-rank", "16",
                        "--head-full", "12", *shape)
        head = load(where).get_output_embeddings().weight
        check(len(head.unique(dim=0)) > 20, "only the frequent ids have rows of their own")


@case
def foreign_features_are_refused():
    random_model(LlamaForCausalLM, LlamaConfig(**SHAPE)).save_pretrained("base")
    changes = [
        ("hidden_act", dict(hidden_act="gelu")),
        ("yarn", dict(rope_parameters=dict(rope_type="yarn", factor=4.0, rope_theta=1e4))),
        ("mixtral", dict(model_type="mixtral", architectures=["MixtralForCausalLM"])),
        ("num_local_experts", dict(num_local_experts=8)),
        ("sliding_window", dict(sliding_window=32)),
        ("quantization_config", dict(quantization_config=dict(quant_method="gptq", bits=4))),
        ("q_proj.bias", dict(attention_bias=True)),
        ("lm_head", dict(tie_word_embeddings=True)),
        ("[257,48]", dict(vocab_size=300)),
    ]
    for word, change in changes:
        shutil.copytree("base", "changed", dirs_exist_ok=True)
        with_config("changed", lambda config: config.update(change))
        refused(run("eval", "changed", "--data", text_file()), 1, word)
    weights = load_file("base/model.safetensors")
    shutil.copytree("base", "extra", dirs_exist_ok=True)
    weights["model.layers.0.mlp.router.weight"] = torch.zeros(3)
    save_file(weights, "extra/model.safetensors", metadata={"format": "pt"})
    refused(run("eval", "extra", "--data", text_file()), 1, "router")


if __name__ == "__main__":
    main()
