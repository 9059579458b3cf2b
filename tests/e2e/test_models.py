"""Models of every format as the start of a run, and what info says of them."""
import json
import os
import pathlib
import struct

from files import Gguf, tensors
from e2e import case, check, done, journal, main, refused, run, tiny_run, write_text

LLAMA = ["--arch", "llama", "--heads", "4", "--kv-heads", "2"]
BY_ID = ("model.embed_tokens.weight", "lm_head.weight")


def trained(name="run", *more):
    if not os.path.exists(name):
        done(*tiny_run(name, "--budget", "5steps", "--no-tied", *LLAMA, *more))
    return f"{name}/last"


def q8():
    """The run in eight bits, and what these stand for as floats."""
    if not os.path.exists("q8.gguf"):
        done("convert", trained(), "q8.gguf", "--dtype", "q8_0")
        done("convert", "q8.gguf", "q8-floats")
    return "q8.gguf", tensors("q8-floats")[0]


def based(base, out, *more):
    write_text("text.txt")
    return ["train", "--data", "text.txt", "--base", base, "--out", out, "--budget", "2steps",
            "--batch-tokens", "128", "--eval-tokens", "256", "--seed", "3", *more]


# ---- training from any of them -------------------------------------------------------------------

@case
def start_from_quantised_weights():
    """The first checkpoint is what the eight bits stand for, to the bit; it trains and resumes."""
    base, exact = q8()
    done(*based(base, "more"))
    check(tensors("more/step-0")[0] == exact, "step 0 is not what the file holds")
    check(tensors("more/last")[0] != exact, "nothing was learned")
    done("train", "--resume", "more", "--budget", "4steps")
    check(journal("more")[-1]["step"] == 4, "the resume did not go on")


@case
def start_with_a_compact_vocabulary():
    """Of a whole model only the rows of ids that the text has; the others are stand-ins."""
    base, exact = q8()
    for start in (base, trained()):
        out = f"few-{start[:2]}"
        done(*based(start, out, "--compact-vocab"))
        whole = exact if start == base else tensors(start)[0]
        ids = json.loads(pathlib.Path(out, "step-0/active_vocabulary.json").read_text())
        ids = ids["active_ids"]
        check(20 < len(ids) < 100, f"{len(ids)} active ids")
        found = tensors(f"{out}/step-0")[0]
        for name, data in whole.items():
            if name not in BY_ID:
                check(found[name] == data, f"{out}: {name} is not the base's")
                continue
            row = len(data) // 257
            for i in ids:
                check(found[name][i * row:(i + 1) * row] == data[i * row:(i + 1) * row],
                      f"{out}: row {i} of {name} is not the base's")
        state = done("info", f"{out}/last", "--json").json()
        check((state["vocab"], state["full_vocab"]) == (len(ids), 257), state)
        done("train", "--resume", out, "--budget", "3steps")
        refused(run(*based(out, "never", "--compact-vocab")), 2, "compact", "kept")
    losses = [[e["loss"] for e in journal(d) if e["event"] == "step"][0]
              for d in ("few-q8", "few-ru")]
    check(abs(losses[0] - losses[1]) < 0.02, f"losses {losses}")
    check(not os.path.exists("never"), "a refused command line left a run directory")


@case
def ids_without_rows():
    """A tokenizer with more ids than the base has rows is refused before anything is made."""
    trained()
    write_text("text.txt")
    done("tokenizer", "train", "--data", "text.txt", "--vocab", "400", "--out", "large.json")
    for more in ([], ["--compact-vocab"]):
        refused(run(*based("run", "never", "--tokenizer", "large.json", *more)), 2, "rows")
    check(not os.path.exists("never"), "a refused command line left a run directory")


@case
def a_model_is_no_text():
    """Its bytes could be trained on, and evaluated, for hours."""
    base, _ = q8()
    for command in (["train", "--out", "never"], ["plan"], ["eval", base]):
        refused(run(*command, "--data", base), 2, base, "--base")
    check(not os.path.exists("never"), "a run directory was made")


@case
def plan_says_what_it_becomes():
    base, exact = q8()
    result = done("plan", "--base", base)
    line = [x for x in result.out.splitlines() if x.startswith("base")]
    check(len(line) == 1 and "Q8_0" in line[0] and "floats" in line[0] and "lost" in line[0],
          "the line of the base", result)
    value = done("plan", "--base", base, "--json").json()
    check(value["base_floats_bytes"] == sum(map(len, exact.values())), value)
    held = sum(len(t[2]) for t in Gguf(base).tensors.values())
    check(value["base_bytes"] == held, f"{held} bytes in the file, {value}")
    line = [x for x in done("plan", "--base", trained()).out.splitlines() if x.startswith("base")]
    check(len(line) == 1 and "floats" not in line[0] and "lost" not in line[0], line)
    check("base " not in done("plan", "--vocab", "300").out, "a base that was not given")


# ---- info ----------------------------------------------------------------------------------------

def everything(path):
    value = done("info", path, "--all", "--json").json()
    check(value["bytes"] == sum(t["bytes"] for t in value["tensors"]), f"{path}: bytes")
    check(sum(value["types"].values()) == len(value["tensors"]), f"{path}: types")
    return value


@case
def info_of_every_format():
    """Equal weights have equal digests, whatever the order of rows in the file."""
    where = trained("tied", "--tied", "yes")
    exact, config = tensors(where)
    done("convert", where, "tied.gguf")
    done("convert", where, "blzt/m.bin", "--to", "blzt")
    done("convert", where, "llama2c/m.bin", "--to", "llama2c")
    wanted = everything(where)
    check([t["name"] for t in wanted["tensors"]] and
          {t["name"]: t["bytes"] for t in wanted["tensors"]} ==
          {name: len(data) for name, data in exact.items()}, wanted)
    for path in ("tied.gguf", "blzt/m.bin", "llama2c/m.bin"):
        check(everything(path)["tensors"] == wanted["tensors"], f"{path}: other tensors")
    check(len({t["xxh3"] for t in wanted["tensors"] if t["shape"][1:]}) ==
          len([t for t in wanted["tensors"] if t["shape"][1:]]), "matrices share a digest")
    check(wanted["metadata"] == config, "metadata is not config.json")
    keys = Gguf("tied.gguf").keys
    found = everything("tied.gguf")["metadata"]
    check(list(found) == list(keys), "other keys")
    for name, value in keys.items():
        if not isinstance(value, list):
            check(found[name] == value or abs(found[name] / value - 1) < 1e-7, f"{name}: {value}")
    check(found["tokenizer.ggml.tokens"] == {"array": "string", "n": 257}, found)
    weights = done("info", f"{where}/model.safetensors", "--all", "--json").json()
    check({t["name"]: t["xxh3"] for t in weights["tensors"]} ==
          {t["name"]: t["xxh3"] for t in wanted["tensors"]}, "digests of model.safetensors")
    check(weights["metadata"]["format"] == "pt", weights["metadata"])
    check("metadata" not in done("info", where, "--json").json(), "not asked for")


@case
def info_for_people():
    base, _ = q8()
    short, long = done("info", base).out, done("info", base, "--all").out
    check("Q8_0" in short and "MiB" in short and len(short.splitlines()) < 8, short)
    check(long.startswith(short), "--all says something else")
    for word in ("general.architecture = \"llama\"", "[257, 32]", "\"array\":\"string\""):
        check(word in long, f"{word} is not there: {long}")
    check(max(map(len, long.splitlines())) < 150, "a line is too long")
    check("validation" in done("info", "run").out, "a run directory is its report")


@case
def info_of_a_model_that_lacks_a_tensor():
    trained()
    os.makedirs("torn", exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        pathlib.Path("torn", name).write_bytes(pathlib.Path("run/last", name).read_bytes())
    header = json.dumps({"model.norm.weight": {"dtype": "F32", "shape": [32],
                                               "data_offsets": [0, 128]}}).encode()
    pathlib.Path("torn/model.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + bytes(128))
    refused(run("info", "torn"), 1, "torn", "embed_tokens")


@case
def names_do_nothing_to_a_terminal():
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"\x1b[2Jx": tensor}).encode()
    pathlib.Path("odd.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    check("?[2Jx" in done("info", "odd.safetensors").out, "the name as it is")
    name = done("info", "odd.safetensors", "--json").json()["tensors"][0]["name"]
    check(name == "\x1b[2Jx", "another name in JSON")


if __name__ == "__main__":
    main()
