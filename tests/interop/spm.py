"""SentencePiece vocabularies: five programs, the same ids.

    spm.py [PROGRAM]            PROGRAM: the autoane to test (default: AUTOANE, build/autoane)

A BPE vocabulary with byte tokens is trained by `sentencepiece` as Llama's was. From it come a GGUF
file (llama.cpp reads it), a tokenizer.json by the converter of `transformers` and a tokenizer.bin
in llama2.c's format. sentencepiece, llama.cpp, `tokenizers` and autoane, from each file it reads,
encode more than 5 MB of mixed text to the same ids; what autoane writes of the one kind, the other
programs read as they read their own. For byte-level BPE the same with llama.cpp, whose names for
pre-tokenizers are those a GGUF file has. Ends with "N passed, N failed".
"""
import collections
import json
import os
import pathlib
import struct
import sys
import tempfile
import unicodedata

os.environ["HF_HUB_OFFLINE"] = "1"
import gguf
import llama_cpp
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

import tokenizer as common
from tokenizer import END, MIXED_BYTES, Program, check, mixed

VOCAB = 2000
MARK = "\u2581"
FIRST_PIECE = 259


def train(folder, text):
    """As Llama's: no normalisation, a space before each text, digits alone, bytes for the rest."""
    common_ones = {c for c, _ in collections.Counter(text).most_common(300)}
    text = "".join(c for c in text if c in common_ones)
    lines = folder / "lines.txt"
    lines.write_text("\n".join(text[i:i + 2000].replace("\n", " ")
                               for i in range(0, len(text), 2000)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(folder / "spm"), model_type="bpe", vocab_size=VOCAB,
        byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        character_coverage=1.0, max_sentence_length=100_000, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))


def pieces(sp):
    """(text, score, GGUF's type) of each id."""
    out = []
    for i in range(sp.get_piece_size()):
        kind = (2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i)
                else 5 if sp.is_unused(i) else 1)
        out.append((sp.id_to_piece(i), sp.get_score(i), kind))
    return out + [("<user>", 0.0, 4)]


def write_gguf(path, model, tokens, scores, types, merges=None, pre=None):
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_block_count(1), w.add_context_length(128), w.add_embedding_length(32)
    w.add_feed_forward_length(64), w.add_head_count(2), w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model(model)
    w.add_token_list(tokens), w.add_token_types(types)
    if scores:
        w.add_token_scores(scores)
    if merges:
        w.add_token_merges(merges), w.add_tokenizer_pre(pre)
    w.add_bos_token_id(1), w.add_eos_token_id(2)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.close()
    return llama_cpp.Llama(str(path), vocab_only=True, verbose=False)


def library_json(path, rows):
    """The tokenizer.json that transformers makes of such a vocabulary (its generate_merges)."""
    vocab = {text: i for i, (text, _, _) in enumerate(rows)}
    merges = []
    for text, score, _ in rows:
        local = [(text[:k], text[k:], score) for k in range(1, len(text))
                 if text[:k] in vocab and text[k:] in vocab]
        merges += sorted(local, key=lambda m: (vocab[m[0]], vocab[m[1]]))
    merges.sort(key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)
    t = Tokenizer(models.BPE(vocab, [m[:2] for m in merges], unk_token="<unk>", fuse_unk=True,
                             byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    t.decoder = decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(),
                                   decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(s, normalized=False) for s in ("<unk>", "<s>", "</s>")])
    t.add_tokens([AddedToken("<user>", normalized=False)])
    t.save(str(path))
    return t


def write_llama2c(path, rows):
    texts = [{1: "\n<s>\n", 2: "\n</s>\n"}.get(i, text.replace(MARK, " ")).encode()
             for i, (text, _, _) in enumerate(rows)]
    path.write_bytes(struct.pack("<i", max(map(len, texts))) + b"".join(
        struct.pack("<fi", score, len(text)) + text for text, (_, score, _) in zip(texts, rows)))


def same(name, a, b, decode=None):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    detail = f"{len(a)} ids"
    if a != b:
        detail += f", {len(b)}; first at {at}: {a[at:at + 8]} {b[at:at + 8]}"
        detail += f" {decode(a[max(0, at - 3):at + 8])!r}" if decode else ""
    check(name, a == b, detail)


def test_spm(program, folder):
    sp = train(folder, mixed(11, 400_000))
    rows = pieces(sp)
    text = mixed(12, MIXED_BYTES).replace(END, "<user>").replace("\0", "")
    data = program.file("spm.txt", text)
    llama = write_gguf(folder / "spm.gguf", "llama", *map(list, zip(*rows)))
    library = library_json(folder / "library.json", rows)
    write_llama2c(folder / "tokenizer.bin", rows[:-1])

    plain, plain_data = text.replace("<user>", "user"), folder / "plain.txt"
    program.file("plain.txt", plain)
    of_llama = llama.tokenize(text.encode(), add_bos=False, special=False)
    ours, _ = program.encode(folder / "library.json", data)
    same("spm: autoane and tokenizers, library's json", ours, library.encode(text).ids, sp.decode)
    same("spm: autoane and llama.cpp", ours, of_llama, sp.decode)
    ours_plain, _ = program.encode(folder / "library.json", plain_data)
    same("spm: autoane and sentencepiece", ours_plain, sp.encode(plain), sp.decode)
    from_bin, _ = program.encode(folder / "tokenizer.bin", plain_data)
    same("spm: from tokenizer.bin", from_bin, ours_plain, sp.decode)

    program.run("convert", "--tokenizer", folder / "tokenizer.bin", "--out", folder / "ours.json")
    read = Tokenizer.from_file(str(folder / "ours.json"))
    same("spm: tokenizers reads what autoane writes", read.encode(plain).ids[1:], ours_plain,
         sp.decode)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "ours.json"))
    same("spm: so does transformers", fast.encode(plain[:10_000]), [1] + sp.encode(plain[:10_000]))
    mine = json.loads((folder / "ours.json").read_text())["model"]
    theirs = json.loads((folder / "library.json").read_text())["model"]
    check("spm: the same merges", mine["merges"] == [" ".join(m) for m in theirs["merges"]],
          f"{len(mine['merges'])} merges")
    program.run("convert", "--tokenizer", folder / "ours.json", "--out", folder / "back.bin")
    back, _ = program.encode(folder / "back.bin", plain_data)
    same("spm: scores found from merges", back, ours_plain, sp.decode)
    for ids in (ours[:2000], [1] + ours_plain[:500], [FIRST_PIECE + 5, 13, 300]):
        want = library.decode(ids).encode()
        check("spm: decode", program.decode(folder / "library.json", ids) == want, f"{len(ids)}")


def test_metaspace(program, folder):
    """The other way of transformers to write the space before a text, read and written again."""
    spec = json.loads((folder / "library.json").read_text())
    text = mixed(13, 400_000).replace(END, "<user>").replace("\0", "")
    spec["normalizer"] = None
    for scheme in ("first", "always", "never"):
        spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme,
                                 "split": False}
        spec["decoder"]["decoders"] = spec["decoder"]["decoders"][:3] + (
            [] if scheme == "never" else [{"type": "Strip", "content": " ", "start": 1, "stop": 0}])
        path = program.file("metaspace.json", json.dumps(spec))
        program.run("convert", "--tokenizer", path, "--out", folder / "again.json")
        for begin in ("a", " a", "<user>a", MARK):
            data = program.file("metaspace.txt", begin + text)
            ours, _ = program.encode(path, data)
            theirs = Tokenizer.from_file(str(path)).encode(begin + text).ids
            again = Tokenizer.from_file(str(folder / "again.json")).encode(begin + text).ids
            same(f"metaspace {scheme}, {begin!r}", ours, theirs)
            check("metaspace: written again", again == theirs)


def test_byte_level(program, folder):
    """llama.cpp's pre-tokenizers by name against ours, on one vocabulary."""
    train_text = program.file("train.txt", mixed(21, 400_000))
    # llama.cpp has no NFC, its tables are of another Unicode version, and to it U+017F is no s.
    text = mixed(22, MIXED_BYTES, newest=False).replace(END, "end")
    text = unicodedata.normalize("NFC", text.replace("\U00011de0", "7").replace("\u017f", "s"))
    data = program.file("bpe.txt", text)
    for split, name in (("gpt2", "gpt-2"), ("smollm", "smollm"), ("llama3", "llama-bpe"),
                        ("qwen2", "qwen2")):
        path = folder / f"{split}.json"
        program.run("train", "--data", train_text, "--vocab", 2000, "--split", split, "--out", path)
        spec = json.loads(path.read_text())
        if split == "llama3":                        # as llama.cpp takes it, whatever a file says
            spec["model"]["ignore_merges"] = True
            path.write_text(json.dumps(spec))
        tokens = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].get)
        llama = write_gguf(folder / f"{split}.gguf", "gpt2", tokens, None,
                           [3] + [1] * (len(tokens) - 1),
                           [m if isinstance(m, str) else " ".join(m)
                            for m in spec["model"]["merges"]], name)
        ours, _ = program.encode(path, data)
        same(f"{name}: autoane and llama.cpp", ours,
             llama.tokenize(text.encode(), add_bos=False, special=False),
             Tokenizer.from_file(str(path)).decode)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("AUTOANE", root / "build/autoane")
    with tempfile.TemporaryDirectory() as folder:
        program = Program(path, folder)
        test_spm(program, pathlib.Path(folder))
        test_metaspace(program, pathlib.Path(folder))
        test_byte_level(program, pathlib.Path(folder))
    print(f"{common.passed} passed, {common.failed} failed")
    return common.failed > 0


if __name__ == "__main__":
    sys.exit(main())
