"""Supervised fine-tuning: what is learned of which rows, and runs on examples."""
import json
import pathlib
import random

from files import tensors
from e2e import case, check, done, journal, main, refused, run

CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
          "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
SHAPE = ["--dim", "32", "--layers", "2", "--heads", "2", "--kv-heads", "1", "--ffn", "64",
         "--tokenizer", "bytes", "--template", "chatml.jinja", "--seed", "7"]
TINY = SHAPE + ["--seq", "320", "--batch-tokens", "1280"]


def rows(name, every):
    pathlib.Path(name).write_text("".join(json.dumps(row) + "\n" for row in every))
    pathlib.Path("chatml.jinja").write_text(CHATML)
    return name


def chat(*said):
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": s}
                         for i, s in enumerate(said)]}


def sums(name="sums.jsonl", n=200, longest=8):
    r, every = random.Random(4), []
    for i in range(n):
        a, b = r.randrange(10, 99), r.randrange(10, 99)
        every.append(chat(f"{a}+{b}?", f"{a + b}"))
        if i % 3 == 0:
            every.append({"prompt": f"{a} is", "completion": " odd" if a % 2 else " even"})
        if i % 4 == 0:
            every[-1] = chat("sure?", "yes " * r.randint(1, longest), "so?", str(b))
    return rows(name, every)


def train(out, *more, data=None):
    return ["train", "--data", data or sums(), "--out", out, *TINY, *map(str, more)]


@case
def mask_shows_what_is_learned():
    data = rows("three.jsonl", [chat("Hi", "Hello.", "2+2?", "Four."),
                                {"prompt": "The sky is", "completion": " blue."},
                                {"text": "all of it"}])
    args = ["data", "inspect", data, "--tokenizer", "bytes", "--template", "chatml.jinja", "--mask"]
    text = done(*args).out
    for part in ("assistant\n⟦Hello.<|im_end|>⟧\n<|im_start|>user", "⟦Four.<|im_end|>⟧\n",
                 "The sky is⟦ blue.<|endoftext|>⟧", "⟦all of it<|endoftext|>⟧"):
        check(part in text, f"'{part}' is not in\n{text}")
    found = done(*args, "--json").json()
    first, second, third = found["examples"]
    check(bytes(first["ids"]).decode().count("assistant") == 2, "the ids are not the text's")
    said = bytes(i for i, on in zip(first["ids"], first["learned"]) if on).decode()
    check(said == "Hello.<|im_end|>Four.<|im_end|>", said)
    check(second["learned"] == [0] * 10 + [1] * 7, str(second["learned"]))
    check(all(third["learned"]) and found["learned_tokens"] == len(said) + 7 + 10, str(found))
    every = done(*args, "--json", "--train-on", "all").json()
    check(every["learned_tokens"] == every["tokens"], "--train-on all leaves something out")


@case
def bad_rows_are_named():
    good = [chat("a", "b")] * 3
    for bad, what in (({"txet": "a"}, '"messages"'), (chat("a"), "the last message is of user"),
                      ({"messages": [{"role": "tool", "content": "x"}]}, "role 'tool'"),
                      ({"prompt": "a"}, '"completion"'),
                      ({"prompt": "a", "completion": ""}, "the completion is empty")):
        data = rows("bad.jsonl", good + [bad])
        refused(run(*train("bad", "--budget", "1steps", data=data)), 1, "bad.jsonl:4", what)
    data = rows("good.jsonl", good + [chat("c", "d")])
    without = [a for a in train("bad", "--budget", "1steps", data=data)
               if a not in ("--template", "chatml.jinja")]
    refused(run(*without), 2, "good.jsonl:1", "chat template", "--template")


@case
def long_examples_are_counted():
    data = rows("long.jsonl", [chat("q", "short " * (i % 5)) if i % 5 else chat("q" * 400, "a")
                               for i in range(60)] + [chat("q", "x" * 700)])
    result = done(*train("long", "--budget", "2steps", data=data))
    check("training examples are longer than --seq 320 and are cut there" in result.err and
          "have nothing left to learn and are left out" in result.err, "not said", result)
    data = rows("all.jsonl", [chat("q" * 400, str(i)) for i in range(20)])
    refused(run(*train("all", "--budget", "2steps", data=data)), 2, "larger --seq")


@case
def the_same_run_however_it_is_cut():
    """Micro-batches, threads, and a resume in the middle: the same bits, packed or not."""
    for packing in ("yes", "no"):
        whole, parts, resumed = (f"{name}-{packing}" for name in ("whole", "parts", "resumed"))
        often = ["--packing", packing, "--log-every", "1steps", "--eval-every", "10steps",
                 "--checkpoint-every", "10steps", "--schedule", "constant", "--warmup", "0"]
        done(*train(whole, *often, "--budget", "20steps", "--threads", 2))
        done(*train(parts, *often, "--budget", "20steps", "--threads", 1, "--micro-batch", 320))
        done(*train(resumed, *often, "--budget", "10steps"))
        done("train", "--resume", resumed, "--budget", "20steps")
        for other in (parts, resumed):
            check(tensors(f"{whole}/last")[0] == tensors(f"{other}/last")[0], f"{other} differs")
        losses = [[e["loss"] for e in journal(run) if e["event"] == "eval"]
                  for run in (whole, parts, resumed)]
        check(losses[0] == losses[1] and losses[0][-1] == losses[2][-1], str(losses))
    check(journal("whole-yes")[-1]["epoch"] > 2 * journal("whole-no")[-1]["epoch"],
          "packing puts no more examples into an update")


@case
def two_epochs():
    result = done(*train("epochs", "--budget", "2epochs"), "--json").json()
    check(2 <= result["epochs"] < 2.2, str(result["epochs"]))
    check(result["loss"] < 2, f"nothing was learned: {result['loss']}")


@case
def eval_finds_the_loss_of_the_run():
    found = done("eval", "whole-yes/last", "--data", sums(), "--part", "valid", "--seq", "320",
                 "--compute", "f32", "--json").json()
    wanted = [e for e in journal("whole-yes") if e["event"] == "eval"][-1]
    check(found["tokens"] == wanted["eval_tokens"], f"{found} {wanted}")
    check(abs(found["loss"] - wanted["loss"]) < 1e-5, f"{found} {wanted}")


@case
def batches_are_those_examples():
    """Rows of data batches, cut where positions begin anew, are the examples of the file."""
    done("data", "batches", "--run", "whole-yes", "--steps", "3", "--out", "batches.safetensors")
    data = pathlib.Path("batches.safetensors").read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    rows = json.loads(data[8:begin])
    ids, targets, positions = (
        list(memoryview(data)[begin + a:begin + b].cast("i"))
        for a, b in (rows[k]["data_offsets"] for k in ("ids", "targets", "positions")))
    check(len(ids) == 3 * 1280, f"{len(ids)} rows")
    known = done("data", "inspect", sums(), "--tokenizer", "bytes", "--template", "chatml.jinja",
                 "--mask", "--samples", "1000", "--json").json()["examples"]
    known = {tuple(e["ids"]): e["learned"] for e in known}
    begins = [i for i, p in enumerate(positions) if p == 0] + [len(ids)]
    n = 0
    for begin, end in zip(begins, begins[1:]):
        row = ids[begin:end]
        if end - begin == 1 and targets[begin] < 0:
            continue                                   # behind the examples of a window
        match = [k for k in known if list(k[:len(row)]) == row]
        check(match, f"{row} is no example")
        check(any(targets[begin:end] == [i if on else -1 for i, on in
                                         zip(k[1:len(row) + 1], known[k][1:len(row) + 1])]
                  for k in match), f"targets of {row}")
        n += 1
    check(n > 20, f"{n} examples in three updates")


@case
def pairs_of_bfloat16():
    """Passes end between pairs of tokens: micro-batches leave the same bits there too."""
    often = ["--compute", "bf16", "--budget", "10steps"]
    first = run(*train("pairs", *often))
    if first.status:
        refused(first, 2, "bf16")
        return
    for packing in ("yes", "no"):
        done(*train(f"pairs-{packing}", *often, "--packing", packing))
        done(*train(f"cut-{packing}", *often, "--packing", packing, "--micro-batch", 320))
        check(tensors(f"pairs-{packing}/last")[0] == tensors(f"cut-{packing}/last")[0], packing)


@case
def adapter_on_a_base():
    """A base that has a template, an adapter, examples: micro-batches exact, the loss falls."""
    base = ["train", "--data", sums(), "--base", "whole-yes/last", "--adapter", "lora", "--rank",
            "4", "--budget", "20steps", "--seq", "320", "--batch-tokens", "1280", "--seed", "3"]
    done(*base, "--out", "lora")
    done(*base, "--out", "lora-cut", "--micro-batch", "320", "--threads", "1")
    files = [pathlib.Path(d, "last/adapter_model.safetensors") for d in ("lora", "lora-cut")]
    if files[0].exists():
        check(files[0].read_bytes() == files[1].read_bytes(), "the adapters differ")
    evals = [[e["loss"] for e in journal(d) if e["event"] == "eval"] for d in ("lora", "lora-cut")]
    check(evals[0] == evals[1] and evals[0][-1] < evals[0][0], str(evals))


@case
def a_compact_vocabulary():
    done(*train("compact", "--budget", "5steps", "--compact-vocab"))
    ids = json.loads(pathlib.Path("compact/last/active_vocabulary.json").read_text())["active_ids"]
    check(10 < len(ids) < 60, f"{len(ids)} ids")
    done("train", "--resume", "compact", "--budget", "8steps")


if __name__ == "__main__":
    main()
