"""Runs by zeroth order: their ledger is their checkpoint."""
import json
import os
import pathlib
import random
import shutil
import signal
import time

from e2e import DEEP, SLOW, TINY, case, check, done, finish, journal, main, refused, run, start
from e2e import tiny_run, write_text

STEPS = 120
RUN = ["--method", "zo", "--budget", f"{STEPS}steps", "--checkpoint-every", "30steps",
       "--eval-every", "40steps", "--log-every", "1steps", "--keep", "0", "--rank", "2",
       "--batch-tokens", "64", "--zo-check", "10", "--eval-tokens", "100000"]
KILLS = 30 if DEEP else 5

# One of each kind of thing that moves.
METHODS = {
    "auto": [],
    "norms": ["--zo-method", "mezo-lora-split"],
    "scales": ["--zo-method", "qzo", "--zo-lr", "1e-4"],
    "core": ["--zo-method", "subzero+", "--zo-streams", "30", "--zo-refresh", "25"],
    "merged": ["--zo-method", "lozo", "--zo-refresh", "25"],
    "whole": ["--zo-method", "mezo-full"],
    "moments": ["--zo-method", "zo-act", "--zo-guard", "50"],
}
WHOLE = ("core", "merged", "whole")       # of which whole models are written


def base():
    if not os.path.exists("base"):
        done(*tiny_run("base", "--budget", "80steps"))
        write_text("other.txt", seed=2)
        text = pathlib.Path("other.txt").read_text(encoding="utf-8")
        pathlib.Path("other.txt").write_text(text[:20000].swapcase(), encoding="utf-8")
    return "base"


def options(name):
    """TINY without what the base decides."""
    shape = TINY[TINY.index("--seq"):]
    for key in ("--batch-tokens", "--eval-tokens"):
        at = shape.index(key)
        del shape[at:at + 2]
    return shape + RUN + METHODS[name]


def zo(out, name="auto", *more, data="other.txt", **how):
    if not os.path.exists(f"{out}/last"):
        return done("train", "--base", base(), "--data", data, "--out", out, *options(name), *more,
                    **how)
    return None


def weights(run_dir, link="last"):
    for name in ("adapter_model.safetensors", "model.safetensors"):
        path = pathlib.Path(run_dir, link, name)
        if path.exists():
            return path.read_bytes()
    raise AssertionError(f"{run_dir}/{link} holds no weights")


def same(a, b):
    for link in ("last", "best"):
        check(weights(a, link) == weights(b, link), f"{a}/{link} and {b}/{link} differ")
    check(pathlib.Path(a, "ledger").read_bytes() == pathlib.Path(b, "ledger").read_bytes(),
          f"the ledgers of {a} and {b} differ")
    x, y = journal(a), journal(b)
    for i, (e, f) in enumerate(zip(x, y)):
        check(e == f, f"journal line {i + 1} differs:\n{e}\n{f}")
    check(len(x) == len(y), f"the journals have {len(x)} and {len(y)} lines")


@case
def every_kind_learns_and_is_kept():
    """Losses are finite, what is written opens, and counts are those of the method."""
    for name in METHODS:
        zo(name, name)
        kind = "model" if name in WHOLE else "adapter_model"
        check(os.path.exists(f"{name}/last/{kind}.safetensors"), f"{name}: no {kind}")
        check(not os.path.exists(f"{name}/last/train_state.safetensors"), f"{name}: has a state")
        events = journal(name)
        steps = [e for e in events if e["event"] == "step"]
        check(len(steps) == STEPS, f"{name}: {len(steps)} steps")
        check(all(e["loss"] is not None and e["loss"] < 12 for e in steps), f"{name}: losses")
        counts = [e["sequence_forwards"] for e in steps]
        each = counts[-1] - counts[-2]
        want = {"auto": 16, "norms": 2, "scales": 2, "core": 31, "merged": 2, "whole": 2,
                "moments": 33}[name] * 2
        check(each == want, f"{name}: {each} forward passes in a step, {want} expected")
        where = ["base", "--adapter", f"{name}/last"] if kind == "adapter_model" \
            else [f"{name}/last"]
        got = done("eval", *where, "--data", "other.txt", "--part", "valid", "--seq", "32",
                   "--compute", "f32", "--json").json()
        last = [e for e in events if e["event"] == "eval"][-1]
        check(abs(got["loss"] - last["loss"]) < 2e-4, f"{name}: {got['loss']} {last['loss']}")


@case
def the_loss_falls():
    zo("long", "auto", "--zo-rho", "1e-3")
    losses = [e["loss"] for e in journal("long") if e["event"] == "eval"]
    check(losses[-1] < losses[0] - 0.02, f"validation losses {losses}")


@case
def cuts_and_threads_change_nothing():
    for name in ("auto", "norms", "core", "whole"):
        zo(name, name)
        zo(f"{name}-cut", name, "--micro-batch", "96", "--threads", "1")
        same_weights = weights(name) == weights(f"{name}-cut")
        check(same_weights, f"{name}: another pass, other bits")


def go_on(out, name):
    if os.path.exists(f"{out}/last"):
        return ["train", "--resume", out]
    return ["train", "--base", "base", "--data", "other.txt", "--out", out, *options(name)]


def kill(process, delay, with_signal=signal.SIGKILL):
    time.sleep(delay)
    os.kill(process.pid, with_signal)
    return finish(process, 120)


@case
def killed_at_random_moments():
    draw = random.Random(5)
    for name in METHODS:
        began = time.time()
        if os.path.exists(name):
            shutil.rmtree(name)
        zo(name, name, timeout=120)
        seconds, hit = time.time() - began, 0
        for _ in range(4 * KILLS):
            if hit == (KILLS if name == "auto" else 2):
                break
            shutil.rmtree("killed", ignore_errors=True)
            result = kill(start(*go_on("killed", name)), draw.uniform(0.05, seconds))
            hit += result.status == -signal.SIGKILL
            if result.status:
                done(*go_on("killed", name), timeout=120)
            else:
                seconds *= 0.8
            same(name, "killed")
        check(hit, f"{name}: no kill came before the end")


@case
def interrupted():
    zo("auto")
    shutil.rmtree("stopped", ignore_errors=True)
    process = start(*go_on("stopped", "auto"))
    log, deadline = pathlib.Path("stopped/ledger"), time.time() + (240 if SLOW else 30)
    while time.time() < deadline and not (log.exists() and log.stat().st_size > 0):
        time.sleep(0.005)
    result = kill(process, 0, signal.SIGINT)
    check(result.status == 130, "status 130", result)
    done("train", "--resume", "stopped")
    same("auto", "stopped")


@case
def a_resume_goes_on_from_the_ledger():
    """Nothing behind the last checkpoint is measured again: the ledger is read, and only its end is
    new."""
    zo("auto")
    shutil.copytree("auto", "cut", symlinks=True)
    for step in ("90", "120"):
        shutil.rmtree(f"cut/step-{step}", ignore_errors=True)
    for link in ("last", "best"):
        os.remove(f"cut/{link}")
        os.symlink("step-60", f"cut/{link}")
    ledger = pathlib.Path("cut/ledger")
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-100])       # the last record is torn
    done("train", "--resume", "cut")
    check(ledger.read_bytes() == whole, "the ledger came out otherwise")
    check(weights("auto") == weights("cut"), "the weights came out otherwise")


@case
def damage_is_named():
    zo("auto")
    whole = pathlib.Path("auto/ledger").read_bytes()
    draw = random.Random(8)
    for i in range(6):
        shutil.rmtree("hurt", ignore_errors=True)
        shutil.copytree("auto", "hurt", symlinks=True)
        bad = bytearray(whole)
        bad[draw.randrange(100, len(bad))] ^= 1 << draw.randrange(8)
        pathlib.Path("hurt/ledger").write_bytes(bad)
        refused(run("train", "--resume", "hurt", "--budget", "130steps"), 1, "ledger")
    pathlib.Path("hurt/ledger").write_bytes(whole[:len(whole) // 2])
    refused(run("train", "--resume", "hurt", "--budget", "130steps"), 1, "ledger", "missing")


@case
def replay_gives_the_run():
    """From the ledger and the base alone, by another number of threads and other kernels."""
    for name in METHODS:
        zo(name, name)
        for i, env in enumerate(({"AA_ISA": "scalar"}, {})):
            out = f"replayed-{name}-{i}"
            done("zo", "replay", f"{name}/ledger" if i else name, "--base", "base", "--out", out,
                 "--threads", 1 + 2 * i, env=env)
            kind = "model" if name in WHOLE else "adapter_model"
            x = pathlib.Path(out, f"{kind}.safetensors").read_bytes()
            check(x == weights(name), f"{name}: the replay has other bits")
    refused(run("zo", "replay", "auto", "--base", "base", "--out", "replayed-auto-0"), 2, "--out")
    got = done("zo", "verify", "auto", "--base", "base", "--json").json()
    check(got["steps"] == STEPS and got["checks"] == STEPS // 10, f"{got}")


@case
def another_base_is_refused():
    zo("auto")
    shutil.rmtree("base-2", ignore_errors=True)
    shutil.copytree("base/last/", "base-2")
    path = pathlib.Path("base-2/model.safetensors")
    data = bytearray(path.read_bytes())
    data[-3] ^= 4                         # the last bit but a few of some weight
    path.write_bytes(data)
    refused(run("zo", "replay", "auto", "--base", "base-2", "--out", "no"), 2, "another base")
    refused(run("zo", "verify", "auto", "--base", "base-2"), 2, "another base")
    check(not os.path.exists("no"), "something was written")


@case
def verify_names_damage():
    zo("auto")
    whole = pathlib.Path("auto/ledger").read_bytes()
    summary = done("zo", "verify", "auto", "--json").json()
    check(summary["size_bytes"] == len(whole) and summary["steps"] == STEPS, f"{summary}")
    draw = random.Random(9)
    for i in range(40):
        bad = bytearray(whole)
        if i % 2:
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        else:
            del bad[draw.randrange(len(bad)):]
            while len(bad) % 8 == 0 and bytes(bad) == whole[:len(bad)] and ends_a_record(bad):
                bad.pop()
        pathlib.Path("bad").write_bytes(bad)
        refused(run("zo", "verify", "bad"), 1, "bad")


def ends_a_record(data):
    """Whether the next thing in the whole ledger would be a record: such a cut is a shorter run."""
    whole = pathlib.Path("auto/ledger").read_bytes()
    return whole[len(data):len(data) + 4] == b"ZAR1"


@case
def ledgers_are_added_up():
    more = ["--zo-basis", "random", "--zo-refresh", "0"]
    for client in (1, 2):
        zo(f"client-{client}", "auto", *more, "--zo-client", client, "--zo-combiner", "std",
           data="other.txt")
    done("zo", "merge", "client-1", "client-2", "--out", "both.ledger")
    done("zo", "replay", "both.ledger", "--base", "base", "--out", "both")
    loss = {}
    for name in ("both", "client-1/last", "client-2/last"):
        loss[name] = done("eval", "base", "--adapter", name, "--data", "other.txt", "--seq", "32",
                          "--part", "valid", "--compute", "f32", "--json").json()["loss"]
    before = done("eval", "base", "--data", "other.txt", "--seq", "32", "--part", "valid",
                  "--compute", "f32", "--json").json()["loss"]
    check(loss["both"] < before, f"{loss}, {before} before")
    refused(run("zo", "merge", "client-1", "client-1", "--out", "no.ledger"), 2, "zo-client")
    zo("pooled", "auto", *more, "--zo-pool", 64)
    done("zo", "compact", "pooled", "--out", "short.ledger")
    check(os.path.getsize("short.ledger") < os.path.getsize("pooled/ledger") / 4, "not shorter")
    done("zo", "verify", "short.ledger", "--base", "base")


@case
def small_and_quick():
    """10,000 steps take less than 2 MB, and a replay far less time than they did."""
    steps = 10000 if DEEP else 1500
    zo("many", "auto", "--budget", f"{steps}steps", "--log-every", "100steps", "--zo-check", "100",
       "--checkpoint-every", "0", "--eval-every", "0", timeout=600)
    size = done("zo", "verify", "many", "--json").json()
    check(size["size_bytes"] - size["basis_bytes"] < 200 * steps, f"{size}")
    end = [json.loads(line) for line in open("many/journal.jsonl")][-1]
    took = done("zo", "verify", "many", "--base", "base", "--json").json()["replay_s"]
    check(took < end["time"]["train_s"] / 5, f"{took} s to replay {end['time']['train_s']} s")


JUDGE = """
import json, sys
texts = [json.loads(line) for line in sys.stdin]
assert all(set(t) == {"prompt", "text", "reference"} for t in texts)
for t in texts:
    print(t["text"].count("o") - t["text"].count("i"))
"""


@case
def objectives_without_gradients():
    """Tokens and answers hit; and what a program says of texts, which get more of what it likes."""
    rows = [json.dumps({"prompt": f"{a}+1=", "completion": str(a + 1)}) for a in range(9)] * 30
    pathlib.Path("sums.jsonl").write_text("\n".join(rows) + "\n")
    for kind in ("accuracy", "exact-match"):
        out = f"objective-{kind}"
        zo(out, "auto", "--objective", kind, "--zo-eps", "0.05", data="sums.jsonl")
        losses = [e["loss"] for e in journal(out) if e["event"] == "step"]
        check(all(0 <= x <= 1 for x in losses), f"{kind}: {losses[:9]}")
        done("zo", "verify", out, "--base", "base")
    pathlib.Path("judge.py").write_text(JUDGE)
    zo("judged", "auto", "--objective", "command", "--objective-command", "python3 judge.py",
       "--objective-tokens", "12", "--budget", "40steps", "--zo-eps", "0.1", "--zo-rho", "3e-3",
       "--batch-tokens", "32", timeout=240)
    scores = [-e["loss"] for e in journal("judged") if e["event"] == "step"]
    check(sum(scores[-8:]) > sum(scores[:8]) + 1, f"{scores}")


@case
def judges_that_fail():
    """A crash now and then is survived; a program that never answers ends the run, which goes on
    from its ledger when it does."""
    ask = ["--objective", "command", "--objective-tokens", "4", "--budget", "6steps",
           "--batch-tokens", "32", "--zo-streams", "4", "--zo-basis", "random"]
    pathlib.Path("crash.py").write_text(JUDGE + """
import os, pathlib
n = pathlib.Path("calls"); n.write_text(str(int(n.read_text() or 0) + 1))
if int(n.read_text()) in (3, 7, 8): os.abort()
""")
    pathlib.Path("calls").write_text("0")
    zo("survives", "auto", *ask, "--objective-command", "python3 crash.py")
    check(pathlib.Path("calls").read_text() == "9", pathlib.Path("calls").read_text())
    bad = {"exit 3": "status 3", "sleep 60": "0.5 s", "echo 1": "1 of 4", "yes 1": "far more",
           "sed s/.*/no/": "in the place of score 1", "kill -9 $$": "signal 9"}
    for i, (command, word) in enumerate(bad.items()):
        out = f"fails-{i}"
        refused(run("train", "--base", base(), "--data", "other.txt", "--out", out,
                    *options("auto"), *ask, "--objective-command", command,
                    "--objective-timeout", "0.5"), 1, "--objective-command", word)
    pathlib.Path("calls").write_text("0")
    pathlib.Path("late.py").write_text(JUDGE + """
import os, pathlib
n = pathlib.Path("calls"); n.write_text(str(int(n.read_text() or 0) + 1))
if 4 <= int(n.read_text()) <= 6: sys.exit(1)
""")
    more = [*ask, "--objective-command", "python3 late.py", "--objective-rate", "20"]
    refused(run("train", "--base", base(), "--data", "other.txt", "--out", "late",
                *options("auto"), *more), 1, "status 1")
    done("train", "--resume", "late")
    steps = [e["step"] for e in journal("late") if e["event"] == "step"]
    check(steps == [1, 2, 3, 4, 5, 6], f"{steps}")
    check(pathlib.Path("calls").read_text() == "9", "a step of the ledger was judged again")


@case
def compact_vocabularies():
    """Adapters, and whole models, of the ids that occur; only the run itself knows which."""
    for name, more in (("auto", []), ("merged", ["--sample-every", "60steps"])):
        out = f"compact-{name}"
        zo(out, name, "--compact-vocab", "yes", *more)
        where = ["base", "--adapter", f"{out}/last"] if name == "auto" else [f"{out}/last"]
        done("eval", *where, "--data", "other.txt", "--part", "valid", "--seq", "32")
        refused(run("zo", "replay", out, "--base", "base", "--out", "no"), 1, "compact")


@case
def hybrids():
    """Their gradients are in no record: no ledger, and no resume."""
    for name, more in (("addax", []), ("elasticzo", ["--zo-hybrid-layer", "1"])):
        out = f"hybrid-{name}"
        done("train", "--base", base(), "--data", "other.txt", "--out", out, *options("auto"),
             "--zo-method", name, *more)
        check(not os.path.exists(f"{out}/ledger"), f"{name} has a ledger")
        losses = [e["loss"] for e in journal(out) if e["event"] == "eval"]
        check(losses[-1] < losses[0] + 0.01, f"{name}: {losses}")
        refused(run("train", "--resume", out, "--budget", "130steps"), 1, "hybrid")


@case
def refusals():
    ask = ["train", "--base", base(), "--data", "other.txt", "--out", "no", *options("auto")]
    refused(run(*ask, "--lr", "1e-3"), 2, "--lr", "--zo-rho")
    refused(run(*ask, "--zo-method", "mezo-fill"), 2, "mezo-full")
    refused(run(*ask, "--objective", "command"), 2, "--objective-command")
    refused(run(*ask, "--zo-method", "addax", "--objective", "accuracy"), 2, "hybrid")
    refused(run("train", "--base", base(), "--data", "other.txt", "--out", "no", "--objective",
                "accuracy"), 2, "--method zo")
    refused(run(*ask, "--zo-streams", "1"), 2, "zo-streams")
    refused(run(*ask, "--zo-method", "mezo-full", "--adapter", "dora"), 2, "dora")
    refused(run(*ask, "--zo-method", "qzo", "--adapter", "lora"), 2, "--adapter dora")
    refused(run("train", "--data", "other.txt", "--out", "no", "--method", "zo", *TINY), 2,
            "--base")
    check(not os.path.exists("no/last"), "a refused run left something")


if __name__ == "__main__":
    main()
