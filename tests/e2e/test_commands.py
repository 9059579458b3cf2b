"""The contract of the command line: exit statuses, messages, what --json prints."""
import json
import os
import pathlib
import resource
import shutil

from e2e import SHAPE, SLOW, Skip, TINY, case, check, done, journal, main, option, refused
from e2e import run, same_run, tiny_run, write_text

COMMANDS = ("train", "generate", "eval", "plan", "bench", "info", "tokenizer", "data", "report",
            "verify")


def trained():
    """One small finished run, made once."""
    if not os.path.exists("run"):
        done(*tiny_run("run", "--budget", "20steps", "--eval-every", "10steps",
                       "--checkpoint-every", "10steps", "--log-every", "1steps"))
    return "run"


@case
def no_command():
    result = run()
    check(result.status == 2, "a command is needed: status 2", result)
    for word in COMMANDS:
        check(word in result.err + result.out, f"the overview does not list '{word}'", result)


@case
def helps():
    for words in [["--help"], ["help"], ["--version"]] + [[c, "--help"] for c in COMMANDS]:
        result = run(*words)
        check(result.status == 0, "help succeeds", result)
        check(result.out.strip(), "help goes to standard output", result)
    text = run("train", "--help").out
    for option in TINY:
        check(not option.startswith("--") or option in text, f"train --help lacks {option}")


@case
def flags_as_values():
    """-h is help where an option may stand, and a text where a value does."""
    for words in (["generate", "-h"], ["-h", "generate"], ["generate", "--tokens", "3", "-h"],
                  ["bench", "-h", "gemm"], ["tokenizer", "-h"], ["help", "generate"],
                  ["generate", "x", "--greedy", "-h"]):
        check("usage" in done(*words).out, f"{words} is no help")
    value = done("generate", trained(), "--prompt", "-h", "--tokens", "2", "--json").json()
    check(value["prompt"] == "-h", f"the prompt became {value['prompt']}")
    value = done("--json", "generate", trained(), "--prompt=-h", "--tokens", "2").json()
    check(value["prompt"] == "-h", f"the prompt became {value['prompt']}")
    refused(run("info", "--", "-h"), 1, "-h")


@case
def unknown_words():
    refused(run("trian"), 2, "trian", "train")
    refused(run("train", "--laeyrs", "2"), 2, "laeyrs", "layers")
    for command in COMMANDS:
        refused(run(command, "--no-such-option-at-all", "1"), 2, "no-such-option-at-all")


@case
def bad_values():
    write_text("text.txt")
    for option, value in (("lr", "fast"), ("lr", "-1"), ("layers", "0"), ("layers", "2.5"),
                          ("layers", "99999999999999999999"), ("budget", "5parsecs"),
                          ("budget", ""), ("beta1", "1.5"), ("schedule", "zigzag"),
                          ("threads", "-3"), ("lr", "nan"), ("seed", "0x")):
        refused(run(*tiny_run("bad", f"--{option}", value)), 2, option)
    check(not os.path.exists("bad"), "a refused command line left a run directory")


@case
def bfloat16_products():
    """Near floats, the same bits for any threads, refused where instructions are missing."""
    calm = ["--budget", "60steps", "--embed-lr", "1"]
    done(*tiny_run("floats", *calm))
    auto = done(*tiny_run("auto", *calm, "--compute", "auto", "--threads", "1"))
    if option("auto", "compute") == "f32":
        if os.environ.get("AA_ISA") == "scalar":
            raise Skip("the scalar model of bfloat16 products is slow")
        if os.environ.get("AA_ISA") != "avx512":        # there, but slow, on some processors
            refused(run(*tiny_run("none", "--compute", "bf16")), 1, "bfloat16", "auto")
        raise Skip("this processor has no bfloat16 products that are faster")
    done(*tiny_run("pairs", *calm, "--compute", "bf16", "--threads", "2"))
    same_run("auto", "pairs")
    losses = [[e["loss"] for e in journal(d) if e["event"] == "eval"][-1]
              for d in ("floats", "pairs")]
    check(losses[0] != losses[1] and abs(losses[0] - losses[1]) < 0.02, f"losses {losses}")
    refused(run(*tiny_run("odd", "--compute", "bf16", "--seq", "15")), 2, "seq", "multiple of")
    refused(run(*tiny_run("none", "--compute", "bf16"), env={"AA_ISA": "avx2"}), 1, "bfloat16")


@case
def bfloat16_pays():
    """Products of bfloat16 pairs are 1.3 times as fast as floats: best of several tries."""
    if SLOW:
        raise Skip("a slowed program says nothing about speed")
    best = {"f32": 0.0, "bf16": 0.0}
    for _ in range(8):
        for compute in best:
            result = run("bench", "gemm", "--compute", compute, "--tokens", "512", "--rows", "512",
                         "--cols", "512", "--threads", "1", "--seconds", "0.05", "--json")
            if result.status or os.environ.get("AA_ISA") == "scalar":
                raise Skip("the instruction set in use has no bfloat16 products")
            products = json.loads(result.out)["products"]
            best[compute] = max(best[compute], *(p["gflops_best"] for p in products))
        if best["bf16"] >= 1.3 * best["f32"]:
            return
    check(False, f"GFLOP/s: {best}")


@case
def preset_auto():
    """More budget, larger model; the choice is kept, and what the user sets stays."""
    def planned(*words):
        return json.loads(done("plan", "--preset", "auto", *words, "--json").out)["params"]
    small, large = planned("--budget", "1Mtok", "--vocab", "1024"), \
        planned("--budget", "1000Mtok", "--vocab", "1024")
    check(small < large / 4, f"parameters {small}, {large}")
    check("auto: preset" in done("plan", "--preset", "auto", "--budget", "9s").out, "no reason")
    write_text("text.txt")
    few = ["train", "--data", "text.txt", "--preset", "auto", "--budget", "3000tok", "--seed", "1"]
    result = done(*few, "--out", "chosen", "--layers", "1")
    check("auto: preset 'pico'" in result.err + result.out, "the choice is not said")
    check(option("chosen", "preset") == "pico" and option("chosen", "layers") == "1",
          "config.ini has another model")
    done("train", "chosen/config.ini", "--out", "chosen-again", "--threads", "1")
    same_run("chosen", "chosen-again")
    refused(run("plan", "--preset", "autp"), 2, "autp")
    for words in (["--preset", "auto"], ["--compute", "auto"]):      # bfloat16 wants even windows
        check(" f32," in done("plan", *words, "--seq", "129", "--budget", "9s").out, f"{words}")


@case
def preset_auto_in_little_memory():
    """The largest preset that fits, not a refusal of one that does not."""
    if SLOW:
        raise Skip("sanitizers take more addresses than the limit leaves")
    words = ["plan", "--preset", "auto", "--budget", "1000h", "--threads", "2"]
    limits = {resource.RLIMIT_AS: 3 << 27}
    roomy, narrow = json.loads(done(*words, "--json").out), done(*words, limits=limits)
    check("does not fit into memory" in narrow.out, "no reason", narrow)
    narrow = json.loads(done(*words, "--json", limits=limits).out)
    check(narrow["params"] < roomy["params"] / 2, f"{narrow['params']} of {roomy['params']}")


@case
def missing_value():
    refused(run("train", "--lr"), 2, "lr")


@case
def problems_are_collected():
    refused(run(*tiny_run("bad", "--lr", "fast", "--layers", "0", "--wurst", "1")), 2,
            "lr", "layers", "wurst")


@case
def conflicts():
    refused(run(*tiny_run("bad", "--heads", "4", "--kv-heads", "3")), 2, "kv-heads")
    refused(run(*tiny_run("bad", "--head-dim", "5")), 2, "head-dim")
    refused(run(*tiny_run("bad", "--resume", trained())), 2, "resume")


@case
def refused_before_it_begins():
    """What would stop a run later is found before its directory is made."""
    pathlib.Path("ids.bin").write_bytes(bytes(range(64)) * 400)
    long = "Ann saw a red ball. " * 20
    for words in (tiny_run("never", "--sample-every", "5steps", "--sample-prompt", long),
                  tiny_run("never", "--min-lr", "1"),
                  ["train", "--data", "ids.bin", "--vocab", "50000", "--compact-vocab", "--dim",
                   "32", "--layers", "1", "--heads", "2", "--seq", "32", "--out", "never"]):
        refused(run(*words, "--budget", "5steps"), 2)
        check(not os.path.exists("never"), f"{words}: a run directory was made")


@case
def base_fixes_the_shape():
    """Shape options beside --base must agree with the model; the window is free."""
    base = ["train", "--data", "text.txt", "--base", trained(), "--budget", "2steps",
            "--batch-tokens", "128", "--eval-tokens", "256"]
    for option, value, has in (("dim", "64", "32"), ("layers", "3", "2"), ("vocab", "500", ""),
                               ("heads", "4", "2"), ("arch", "llama", "qwen3"),
                               ("tied", "no" if "tied = yes" in config("run") else "yes", "")):
        result = run(*base, "--out", "never", f"--{option}", value)
        refused(result, 2, f"--{option}", value, has, "base model", "leave")
        check(not os.path.exists("never"), f"--{option}: a run directory was made", result)
    result = run(*base, "--out", "never", "--dim", "64", "--layers", "3")
    refused(result, 2, "--dim", "--layers")
    done(*base, "--out", "based", "--dim", "32", "--seq", "16", "--rope-theta", "20000")
    done("train", "based/config.ini", "--out", "based2")
    pathlib.Path("other.ini").write_text(config("based").replace("dim = 32", "dim = 64", 1))
    refused(run("train", "other.ini", "--out", "never"), 2, "--dim", "64")


def config(run_dir):
    return (pathlib.Path(run_dir) / "config.ini").read_text()


@case
def compact_vocabulary_with_long_windows():
    """Longer than one pass of a generation session."""
    done(*tiny_run("wide", "--compact-vocab", "--seq", "300", "--batch-tokens", "600",
                   "--budget", "3steps"))
    value = done("generate", "wide", "--prompt", "Ann", "--tokens", "5", "--json").json()
    check(len(value["ids"]) == 5 or value["stop_reason"] == "eos", f"generated {value}")
    long = run("generate", "wide", "--prompt", "Ann " * 200, "--context", "9")
    refused(long, 2, "the context holds 9")
    check(not long.out, "the prompt was said before it was refused", long)
    refused(run("generate", "wide", "--stop", "|".join("abcdefghijklmnopq")), 2, "--stop has 17")


def compact():
    """A run with a compact vocabulary, made once, and the loss of its best checkpoint."""
    if not os.path.exists("compact"):
        done(*tiny_run("compact", "--compact-vocab", "--budget", "30steps", "--eval-every",
                       "15steps", "--lr", "0.01"))
    return "compact", [e for e in journal("compact") if e["event"] == "eval" and e["best"]][-1]


def active_ids(run_dir):
    where = pathlib.Path(run_dir) / "last" / "active_vocabulary.json"
    return json.loads(where.read_text())["active_ids"]


@case
def eval_after_train():
    """On the validation text: what the journal says, of a compact vocabulary, too."""
    full = trained(), [e for e in journal(trained()) if e["event"] == "eval" and e["best"]][-1]
    for run_dir, said in (full, compact()):
        value = done("eval", run_dir, "--data", "text.txt", "--part", "valid", "--tokens",
                     said["eval_tokens"], "--json").json()
        check(value["tokens"] == said["eval_tokens"], f"{run_dir}: {value} {said}")
        for key in ("loss", "loss_stderr", "bits_per_byte", "perplexity"):
            check(abs(value[key] - said[key]) <= 1e-6 * said[key],
                  f"{run_dir}: {key} is {value[key]}, the journal says {said[key]}")
    value = done("eval", "compact", "--against", "run", "--data", "text.txt", "--part", "valid",
                 "--tokens", said["eval_tokens"], "--json").json()
    check(abs(value["against"]["loss"] - full[1]["loss"]) <= 1e-6 * full[1]["loss"], f"{value}")


@case
def texts_beyond_a_compact_vocabulary():
    """Impossible to the model: refused, with how much of the text it is."""
    run_dir, _ = compact()
    text = write_text("beyond.txt", 40000)
    with open(text, "a", encoding="utf-8") as f:
        f.write("Qx?\n")
    refused(run("eval", run_dir, "--data", "beyond.txt"), 2, "3 of", "compact", "'Q'", "leave")
    refused(run("generate", run_dir, "--prompt", "Ann? "), 1, "'?'", "vocabulary")
    done("eval", trained(), "--data", "beyond.txt")


@case
def base_keeps_a_compact_vocabulary():
    run_dir, said = compact()
    based = ["train", "--data", "text.txt", "--base", run_dir, "--batch-tokens", "128", "--seed",
             "8", "--eval-tokens", "256", "--eval-every", "2steps", "--lr", "1e-6"]
    done(*based, "--out", "on", "--budget", "4steps", "--sample-every", "4steps")
    check(active_ids("on") == active_ids(run_dir), "the active ids changed")
    check(len(active_ids("on")) < 60, "the vocabulary is not compact")
    losses = [e["loss"] for e in journal("on") if e["event"] == "eval"]
    check(abs(losses[0] - said["loss"]) < 0.01, f"went on at {losses}, the base had {said}")
    done("train", "--resume", "on", "--budget", "6steps")
    check(active_ids("on") == active_ids(run_dir), "the active ids changed in a resume")
    done("train", "--base", "on", *based[1:3], "--out", "on2", "--budget", "2steps", "--seq", "16",
         "--tokenizer", "bytes")
    check(active_ids("on2") == active_ids(run_dir), "the active ids changed")
    plan = done("plan", "--base", run_dir, "--json").json()
    check(plan["params"] == done("info", run_dir, "--json").json()["params"], f"plan {plan}")
    other = [*based, "--out", "never", "--budget", "2steps"]
    refused(run(*other, "--tokenizer", "train:300"), 2, "tokenizer", "compact")
    write_text("beyond.txt", 40000)
    with open("beyond.txt", "a", encoding="utf-8") as f:
        f.write("Q" * 9000)
    refused(run(*other, "--data", "beyond.txt"), 2, "compact", "'Q'")
    check(not os.path.exists("never"), "a refused command line left a run directory")


@case
def checkpoints_list_their_files():
    for where in (f"{trained()}/last", f"{compact()[0]}/last"):
        listed = json.loads(pathlib.Path(where, "run.json").read_text())["files"]
        there = {p.name: p.stat().st_size for p in pathlib.Path(where).iterdir()}
        del there["run.json"]
        check({f["name"]: f["size"] for f in listed} == there and len(listed) == len(there),
              f"{where} holds {there}, run.json lists {listed}")


@case
def samples_with_zero_bytes():
    """Whole in the journal, and shown as a picture everywhere else."""
    pathlib.Path("zeros.txt").write_bytes(b"on\0e two\n" * 4000)
    result = done(*tiny_run("zeros", "--budget", "60steps", "--lr", "0.01", "--sample-every",
                            "60steps", data="zeros.txt"))
    text = [e["text"] for e in journal("zeros") if e["event"] == "sample"][-1]
    check("n\0e" in text and len(text) > 60, f"the sample in the journal is {text!r}")
    for where, shown in (("the terminal", result.err), ("the report", done("report", "zeros").out),
                         ("the page", pathlib.Path("zeros/report.html").read_text())):
        check("n␀e" in shown and "\0" not in shown, f"{where} does not show it: {shown[-500:]!r}")


@case
def low_rank_head():
    """The checkpoint is a usual model that says what the run said; passes and threads as ever."""
    shape = ["--tokenizer", "train:600", "--head-rank", "8", "--head-full", "100", "--budget",
             "20steps", "--checkpoint-every", "0", "--batch-tokens", "256"]
    for name, tied in (("ranked", "--tied"), ("ranked-head", "--no-tied")):
        done(*tiny_run(name, *shape, tied))
        told = [e for e in journal(name) if e["event"] == "eval"][-1]
        seen = done("eval", name, "--data", "text.txt", "--part", "valid", "--tokens", "256",
                    "--json").json()
        check(told["eval_tokens"] == seen["tokens"], "not the same windows")
        check(abs(told["loss"] - seen["loss"]) < 2e-6, f"{told['loss']} became {seen['loss']}")
        words = json.loads(pathlib.Path(f"{name}/last/tokenizer.json").read_text())["model"]
        check(done("info", f"{name}/last", "--json").json()["vocab"] == len(words["vocab"]),
              "not all ids")
        for i, more in enumerate((["--threads", "3"], ["--micro-batch", "32"])):
            done(*tiny_run(f"{name}{i}", *shape, tied, *more))
            for file in ("model.safetensors", "train_state.safetensors"):
                one, other = (pathlib.Path(f"{x}/last/{file}") for x in (name, f"{name}{i}"))
                check(one.read_bytes() == other.read_bytes(), f"{more} changes {file}")
    done(*tiny_run("ranked-base", "--base", "ranked", "--tokenizer", "auto", "--budget", "2steps"))
    for more, words in ((["--head-rank", "32"], ("head-rank", "allowed 1 to 31")),
                        (["--head-full", "3000"], ("head-full", "allowed 1 to")),
                        (["--head-rank", "0"], ("head-full", "head-rank")),
                        (["--base", "ranked"], ("head-rank", "--base"))):
        refused(run(*tiny_run("never", *shape, *more)), 2, *words)
    plain, low = (done("bench", "step", *SHAPE, "--vocab", "3000", "--seconds", "0.1", *more,
                       "--json").json() for more in ([], ["--head-rank", "8"]))
    check(plain["flop_per_token"] - low["flop_per_token"]
          == 6 * (1000 * 32 - 1000 * 8 - 8 * 32), "FLOP per token")


@case
def missing_files():
    refused(run("train", "--data", "nowhere.txt", "--out", "bad", *TINY, "--budget", "2steps"), 1,
            "nowhere.txt")
    refused(run("generate", "nowhere", "--prompt", "a"), 1, "nowhere")
    refused(run("eval", trained(), "--data", "nowhere.txt"), 1, "nowhere.txt")
    refused(run("train", "nowhere.ini"), 1, "nowhere.ini")
    refused(run("train", "--resume", "nowhere"), 1, "nowhere")
    refused(run("info", "nowhere"), 1, "nowhere")
    refused(run("report", "nowhere"), 1, "nowhere")
    refused(run(*tiny_run("bad", "--tokenizer", "nowhere.json", "--budget", "2steps")), 1,
            "nowhere.json")


@case
def run_directory():
    run_dir = pathlib.Path(trained())
    for name in ("last", "best", "journal.jsonl", "report.html", "config.ini"):
        check((run_dir / name).exists(), f"the run directory lacks {name}")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                 "generation_config.json", "train_state.safetensors", "run.json"):
        check((run_dir / "last" / name).exists(), f"the checkpoint lacks {name}")
    events = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    kinds = [e["event"] for e in events]
    check(kinds[0] == "run" and kinds[-1] == "end", f"journal: {kinds}")
    check(kinds.count("step") == 20, f"20 steps, {kinds.count('step')} step lines")
    losses = [e["loss"] for e in events if e["event"] == "step"]
    check(losses[-1] < losses[0], f"the loss did not fall: {losses[0]} .. {losses[-1]}")
    check("<svg" in (run_dir / "report.html").read_text(), "the report holds no picture")
    check("http" not in (run_dir / "report.html").read_text().replace("http://www.w3.org", ""),
          "the report refers to the network")


@case
def existing_run_is_kept():
    before = (pathlib.Path(trained()) / "journal.jsonl").read_bytes()
    result = run(*tiny_run("run", "--budget", "5steps"))
    check(result.status in (1, 2), "training into an existing run is refused", result)
    check("run" in result.err and "resume" in result.err, "the message names the remedy", result)
    check((pathlib.Path("run") / "journal.jsonl").read_bytes() == before, "the journal changed")


@case
def config_repeats_the_run():
    trained()
    done("train", "run/config.ini", "--out", "again")
    check(pathlib.Path("run/last/model.safetensors").read_bytes()
          == pathlib.Path("again/last/model.safetensors").read_bytes(), "the weights differ")
    check(journal("run") == journal("again"), "the journals differ")


@case
def config_problems():
    pathlib.Path("bad.ini").write_text("[training]\nlr = fast\nbudgit = 3steps\n")
    refused(run("train", "bad.ini"), 2, "bad.ini:2", "lr", "bad.ini:3", "budgit", "budget")


@case
def accumulation_and_threads():
    trained()
    for i, more in enumerate((["--threads", "1"], ["--threads", "3"], ["--micro-batch", "32"])):
        done(*tiny_run(f"same{i}", "--budget", "20steps", "--eval-every", "10steps",
                       "--checkpoint-every", "10steps", "--log-every", "1steps", *more))
        check(pathlib.Path("run/last/model.safetensors").read_bytes()
              == pathlib.Path(f"same{i}/last/model.safetensors").read_bytes(),
              f"{more} changes the weights")


@case
def json_objects():
    trained()
    wanted = {
        ("eval", "run", "--data", "text.txt"):
            ("loss", "loss_stderr", "bits_per_byte", "perplexity", "tokens", "bytes"),
        ("generate", "run", "--prompt", "Ann", "--tokens", "8", "--seed", "1"):
            ("prompt_ids", "ids", "text", "tokens_per_s"),
        ("plan", *TINY, "--data", "text.txt"):
            ("params", "peak_bytes", "flop_per_token", "predicted_tokens_per_s"),
        ("bench", "decode", "--model", "run", "--seconds", "0.1"):
            ("tokens_per_s_median", "prefill_tokens_per_s", "weight_bytes", "gbs", "compute"),
        ("bench", "step", *SHAPE, "--seconds", "1"):
            ("tokens_per_s_median", "tokens_per_s_best", "flop_per_token", "peak_gflops",
             "share_of_peak", "isa", "threads"),
    }
    for words, fields in wanted.items():
        value = done(*words, "--json", timeout=120).json()
        for field in fields:
            check(field in value, f"{' '.join(words)} --json lacks '{field}': {sorted(value)}")


@case
def the_embedding_learns_faster_unless_it_has_learnt():
    trained()
    done(*tiny_run("fresh-rate", "--budget", "1steps"))
    done(*tiny_run("based-rate", "--budget", "1steps", "--base", "run"))
    done(*tiny_run("given-rate", "--budget", "1steps", "--base", "run", "--embed-lr", "2.5"))
    for name, want in {"fresh-rate": "4", "based-rate": "1", "given-rate": "2.5"}.items():
        lines = open(f"{name}/config.ini").read().splitlines()
        found = [line.split("=")[1].strip() for line in lines if line.startswith("embed-lr")]
        check(found == [want], f"{name}: embed-lr is {found}, not {want}")


@case
def work_of_the_optimizer_is_counted():
    """Muon multiplies matrices between the passes: plan, journal and result say how much."""
    trained()
    work = {}
    for name in ("adamw", "muon"):
        more = ["--optimizer", name, "--budget", "5steps"]
        plan = done("plan", *TINY, "--data", "text.txt", *more, "--json").json()
        result = done(*tiny_run(name, *more), "--json").json()
        run_line = json.loads(open(f"{name}/journal.jsonl").readline())
        check(run_line["model"]["flop_per_update"] == plan["flop_per_update"],
              f"{name}: journal and plan agree")
        check(abs(result["flop"] / (5 * plan["flop_per_update"]) - 1) < 1e-9,
              f"{name}: five updates, not {result['flop']}")
        work[name] = plan["flop_per_update"] - plan["tokens_per_update"] * plan["flop_per_token"]
    check(work["adamw"] == 0 < work["muon"], f"work outside the passes: {work}")
    told = done("plan", *TINY, "--data", "text.txt", "--optimizer", "muon").out
    check("by the optimizer" in told, f"the plan says it in words: {told}")


@case
def json_stays_clean_on_failure():
    result = run("eval", "nowhere", "--data", "text.txt", "--json")
    check(result.status == 1 and not result.out.strip(), "standard output stays empty", result)


@case
def generation_repeats():
    trained()
    words = ("generate", "run", "--prompt", "Ann saw", "--tokens", "20", "--json")
    one, two = (done(*words, "--seed", "5").json() for _ in range(2))
    check(one["ids"] == two["ids"], "the same seed gave different texts")
    greedy = [done(*words, "--greedy", "--seed", str(s)).json()["ids"] for s in (1, 2)]
    check(greedy[0] == greedy[1], "greedy text depends on the seed")
    check(len(one["ids"]) <= 20, "more tokens than asked for")
    for option in (("--kv", "f16"), ("--compute", "f32"), ("--compute", "int8")):
        again = done(*words, "--greedy", *option).json()["ids"]
        check(again[:3] == greedy[0][:3], f"{option} changed the text from its beginning on")
    refused(run("generate", "run", "--kv", "q4"), 2, "--kv", "f16")


CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
          "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|im_start|>assistant\\n' }}{% endif %}")


@case
def chat():
    words = ("generate", "--chat", "--tokens", "8", "--context", "256", "--greedy")
    refused(run(*words, trained(), stdin="Ann\n"), 1, "no chat template", "--raw")
    refused(run(*words, "run", "--json"), 2, "--json")
    refused(run("generate", "run", "--system", "Be brief."), 2, "--chat")
    typed = "Ann saw\n/reset\nAnn saw\n\n/help\n/exit\nnever read\n"
    result = done(*words, "run", "--raw", stdin=typed)
    answers = result.out.split("\n")
    check(len(answers) == 3 and answers[0] == answers[1] != "", "two equal answers", result)
    check("/system TEXT" in result.err, "/help lists the commands", result)
    shutil.copytree("run/last/", "chatty")
    pathlib.Path("chatty/chat_template.jinja").write_text(CHATML)
    result = done(*words, "chatty", "--system", "Be brief.", stdin="Ann saw\nWhat\\\nelse?\n")
    check(result.out.count("\n") >= 2, "two answers", result)
    asked = done(*words, "chatty", "--prompt", "Ann saw", "--system", "Be brief.")
    check(result.out.startswith(asked.out.rstrip("\n")), "--prompt is the first message", asked)
    long = done(*words, "chatty", stdin="x" * 300 + "\nAnn\n")
    check("--context" in long.err and long.out.count("\n") >= 1, "goes on after a refusal", long)
    pathlib.Path("other.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    refused(run(*words, "chatty", "--template", "other.jinja"), 1, "none of those known", "--raw")
    done("train", "--base", "chatty", "--data", "text.txt", "--budget", "1steps", "--batch-tokens",
         "128", "--eval-tokens", "256", "--out", "tuned")
    config = json.loads(pathlib.Path("tuned/last/tokenizer_config.json").read_text())
    check(config.get("chat_template") == CHATML, f"a tuned model keeps its template: {config}")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    pathlib.Path("messages.json").write_text(json.dumps(messages))
    told = done("tokenizer", "chat", "--tokenizer", "tuned", "--data", "messages.json", "--json",
                "--no-answer").json()
    check(told["text"] == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
          and [told["text"][a:b] for a, b in told["answers"]] == ["Ho<|im_end|>"], f"{told}")


@case
def tokenizer_round_trip():
    write_text("text.txt")
    done("tokenizer", "train", "--data", "text.txt", "--vocab", "400", "--out", "tok.json")
    text = pathlib.Path("text.txt").read_text(encoding="utf-8")[:2000]
    pathlib.Path("part.txt").write_text(text, encoding="utf-8")
    own = ["--tokenizer", "tok.json"]
    ids = done("tokenizer", "encode", *own, "--data", "part.txt", "--json").json()["ids"]
    words = " ".join(map(str, ids))
    back = done("tokenizer", "decode", *own, "--ids", words, "--json").json()["text"]
    check(back == text, "decode(encode(text)) is not the text")


@case
def stories():
    one = done("data", "stories", "--count", "20", "--seed", "3", "--out", "a.txt")
    done("data", "stories", "--count", "20", "--seed", "3", "--out", "b.txt")
    text = pathlib.Path("a.txt").read_text()
    check(text == pathlib.Path("b.txt").read_text(), "the same seed gave different stories", one)
    found = [story for story in text.split("\n\n") if story.strip()]
    check(len(found) == 20, f"20 stories with blank lines between, not {len(found)}")


@case
def report_forms():
    trained()
    check("loss" in done("report", "run").out, "the terminal report does not mention the loss")
    done("report", "run", "--csv", "run.csv")
    rows = pathlib.Path("run.csv").read_text().splitlines()
    check(len(rows) > 20 and "," in rows[0], "the CSV has a row per step")


@case
def output_that_cannot_be_written():
    if not os.path.exists("/dev/full"):
        raise Skip("this system has no /dev/full")
    trained()
    with open("/dev/full", "wb") as full:
        for words in (["info", "run"], ["eval", "run", "--data", "text.txt", "--json"], ["--help"]):
            refused(run(*words, stdout=full), 1)


if __name__ == "__main__":
    main()
