"""The contract of the command line: exit statuses, messages, what --json prints."""
import json
import os
import pathlib

from e2e import SHAPE, Skip, TINY, case, check, done, journal, main, refused, run, tiny_run
from e2e import write_text

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
def compact_vocabulary_with_long_windows():
    """Longer than one pass of a generation session."""
    done(*tiny_run("wide", "--compact-vocab", "--seq", "300", "--batch-tokens", "600",
                   "--budget", "3steps"))
    value = done("generate", "wide", "--prompt", "Ann", "--tokens", "5", "--json").json()
    check(len(value["ids"]) == 5 or value["stop_reason"] == "eos", f"generated {value}")


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
