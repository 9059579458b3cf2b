"""autoane eval --choices: what a question costs, and questions that are none. That the scores are
those of transformers is shown by tests/interop/hf.py."""
import json
import os
import pathlib

from e2e import ROOT, case, check, done, main, refused, run, tiny_run

ITEMS = ROOT / "tests" / "interop" / "choices.jsonl"


def trained():
    if not os.path.exists("run"):
        done(*tiny_run("run", "--budget", "30steps", "--lr", "3e-3"))
    return "run"


def ask(*items, more=(), status=0):
    lines = [item if isinstance(item, str) else json.dumps(item) for item in items]
    pathlib.Path("items.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = run("eval", trained(), "--choices", "items.jsonl", "--seq", "400", "--json", *more)
    check(result.status == status, "the question", result)
    return result.json() if status == 0 else result


def scores(answer):
    return [[choice["logprob"] for choice in item["choices"]] for item in answer["items"]]


@case
def bundled_items():
    text = done("eval", trained(), "--choices", ITEMS, "--seq", "600")
    check("acc" in text.out and "8 questions" in text.out, "the figures", text)
    answers = [done("eval", "run", "--choices", ITEMS, "--seq", "600", "--json", "--threads", n)
               .json() for n in (1, 2)]
    for answer in answers:
        del answer["wall_s"]
    check(answers[0] == answers[1], "threads change the result")
    check(answers[0]["items"][6]["pick"] == 0, "of equals the first")
    check(answers[0]["items"][0]["choices"][0]["bytes"] == 4, "bytes of a choice")


@case
def a_query_is_read_once():
    query = "Ann saw a red ball. " * 15
    item = dict(query=query, choices=["Bob", "Mia", "Tom", "Ann"], gold=0)
    answer = ask(item, item)
    n = len(query.rstrip())
    check(answer["tokens"] == 2 * 4 * (n + 4), f"{answer['tokens']} tokens")
    # The last token of the query is read again with each choice, since its answer is asked for.
    check(answer["tokens_read"] == n - 1 + 8 * 5, f"{answer['tokens_read']} tokens read")
    alone = [ask(dict(item, choices=[c, c]))["items"][0]["choices"][0]["logprob"]
             for c in item["choices"]]
    for got in scores(answer):
        check(all(abs(a - b) < 1e-4 for a, b in zip(got, alone)), f"{got} {alone}")


@case
def the_context_is_full():
    """Cut from the left: the same as asking with the end of the query alone."""
    query = "".join(f"{i} birds. " for i in range(60)).rstrip()
    item = dict(query=query, choices=["one", "two two"], gold=1)
    cut = ask(item, more=["--seq", "50"])
    for i, choice in enumerate(item["choices"]):
        short = dict(query=query[-(51 - len(choice) - 1):], choices=[choice, "x"], gold=0)
        same = ask(short, more=["--seq", "50"])
        check(abs(scores(cut)[0][i] - scores(same)[0][0]) < 1e-4, f"{choice}")
    refused(ask(dict(item, choices=["x" * 60, "y"]), more=["--seq", "50"], status=2), 2,
            "leaves no room", "line 1")


@case
def delimiters():
    plain = ask(dict(query="Ann saw", choices=[" a", " b"], gold=0), more=["--delimiter", ""])
    usual = ask(dict(query="Ann saw", choices=["a", "b"], gold=0))
    blank = ask(dict(query="Ann saw \t", choices=["a", "b"], gold=0), more=["--delimiter", ""])
    check(scores(plain) == scores(usual) != scores(blank), "delimiters")
    check(blank["items"][0]["choices"][0]["tokens"] == 3, "the query's blanks are the choice's")


@case
def one_question_has_no_error():
    check(ask(dict(query="Ann", choices=["a", "b"], gold=0))["acc_stderr"] is None, "an error")
    out = done("eval", "run", "--choices", "items.jsonl").out
    check("acc " in out and "nan" not in out and "±" not in out, out)


@case
def no_questions():
    good = dict(query="Ann", choices=["a", "b"], gold=0)
    for bad, word in (("{", "column"), ("[]", "object"), (dict(good, choices="a"), "choices"),
                      (dict(good, choices=["a"]), "choices"), (dict(good, gold=2), "gold"),
                      (dict(good, gold="a"), "gold"), (dict(good, choices=["a", ""]), "choice 1"),
                      (dict(good, choices=["a", 5]), "choice 1"), (dict(good, query=7), "query"),
                      (dict(choices=["a", "b"], gold=0), "context")):
        refused(ask(good, "", bad, status=1), 1, "items.jsonl, line 3", word)
    refused(ask("", "\r", status=1), 1, "no question")
    refused(run("eval", "run", "--choices", "nowhere.jsonl"), 1, "nowhere.jsonl")
    refused(run("eval", "run", "--choices", ITEMS, "--data", "text.txt"), 2, "--data")
    refused(run("eval", "run", "--choices", ITEMS, "--against", "run"), 2, "--against")


if __name__ == "__main__":
    main()
