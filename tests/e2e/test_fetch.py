"""autoane fetch against a hub of our own that does what networks and servers do.

Whatever happens, a file has its name only when it is whole and right, and the message says what was
wrong. Every server of a case listens on 127.0.0.1; nothing leaves the machine.
"""
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import ssl
import subprocess
import time

from e2e import Skip, case, check, done, finish, main, refused, run, start
from hub import (FINE, NO_IF_RANGE, NO_LENGTH, NO_RANGE, WRONG_PLACE, Hub, always, body, both,
                 claim, drop, etag, git_sha1, redirect, sha256, stall, status)

for name in ("HF_TOKEN", "HF_ENDPOINT", "AA_CURL"):
    os.environ.pop(name, None)

BIG = random.Random(1).randbytes(700_001)
MODEL = {"config.json": b'{"model_type":"llama"}', "tokenizer.json": b'{"version":"1.0"}',
         "README.md": b"# not wanted", "model.safetensors": BIG}
N = 0


def fresh():
    """A directory nothing was fetched into."""
    global N
    N += 1
    return f"to-{N}"


def fetch(hub, *words, **how):
    return run("fetch", *words, "--base-url", hub.url, **how)


def names(where):
    return sorted(str(p.relative_to(where)) for p in pathlib.Path(where).rglob("*") if p.is_file())


def whole(where, files):
    """Exactly these files, byte for byte."""
    check(names(where) == sorted(files), f"{where} holds {names(where)}")
    for name, data in files.items():
        check(pathlib.Path(where, name).read_bytes() == data, f"{where}/{name} differs")


def model_hub():
    hub = Hub()
    hub.add("ann/model", dict(MODEL))
    return hub


WANTED = {name: data for name, data in MODEL.items() if name != "README.md"}


# ---- what is fetched ---------------------------------------------------------------------------

@case
def a_model():
    with model_hub() as hub:
        to = fresh()
        made = fetch(hub, "ann/model", "--to", to, "--json").json()
        whole(to, WANTED)
        check(made["to"] == to, str(made))
        by = {f["name"]: f for f in made["files"]}
        check(by["model.safetensors"] == {
            "name": "model.safetensors", "size_bytes": len(BIG), "checked": "sha256",
            "sum": sha256(BIG), "was_there": False}, str(by))
        check(by["config.json"]["sum"] == git_sha1(MODEL["config.json"]), str(by))
        asked = len(hub.log)
        again = fetch(hub, "ann/model", "--to", to, "--json").json()
        check(all(f["was_there"] for f in again["files"]), str(again))
        check(len(hub.log) == asked + 1, f"asked for {hub.log[asked:]}")


@case
def where_it_goes():
    with model_hub() as hub:
        os.mkdir("cwd")
        result = run("fetch", "ann/model", cwd="cwd", env={"HF_ENDPOINT": hub.url + "/"})
        check(result.status == 0, "HF_ENDPOINT", result)
        whole("cwd/model", WANTED)
        for page in ("", "/", "/tree/main", "/resolve/main/config.json?download=true"):
            to = fresh()
            done("fetch", f"{hub.url}/ann/model{page}", "--to", to, "--base-url", hub.url)
            whole(to, WANTED if "config" not in page else {"config.json": WANTED["config.json"]})


@case
def shards():
    index = (b'{"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors",'
             b'"b":"model-00002-of-00002.safetensors","c":"model-00001-of-00002.safetensors"}}')
    files = {"config.json": b"{}", "model.safetensors.index.json": index,
             "model-00001-of-00002.safetensors": BIG[:1000],
             "model-00002-of-00002.safetensors": BIG[1000:3000]}
    with Hub() as hub:
        hub.add("ann/large", {**files, "model-00001-of-00003.safetensors": b"of another time"})
        hub.page = 2                          # the list comes in pieces
        to = fresh()
        check(fetch(hub, "ann/large", "--to", to).status == 0, "shards")
        whole(to, files)
        hub.repos["ann/large"]["model.safetensors.index.json"] = index.replace(b"00002-", b"00007-")
        refused(fetch(hub, "ann/large", "--to", fresh()), 1, "model-00007-of-00002.safetensors")


@case
def gguf():
    with Hub() as hub:
        hub.add("ann/one", {"README.md": b"", "model-q4.gguf": BIG[:500]})
        to = fresh()
        check(fetch(hub, "ann/one", "--to", to).status == 0, "one GGUF")
        whole(to, {"model-q4.gguf": BIG[:500]})
        split = {f"q8/m-0000{i}-of-00003.gguf": BIG[i * 9:i * 99] for i in (1, 2, 3)}
        hub.add("ann/many", {"m-q4.gguf": b"4", "m-q6.gguf": b"6", **split})
        refused(fetch(hub, "ann/many", "--to", fresh()), 2, "--file", "m-q4.gguf", "m-q6.gguf")
        to = fresh()
        check(fetch(hub, "ann/many", "--to", to, "--file", "m-q6.gguf").status == 0, "--file")
        whole(to, {"m-q6.gguf": b"6"})
        to = fresh()
        check(fetch(hub, "ann/many", "--to", to, "--file", "q8/m-00002-of-00003.gguf").status == 0,
              "a split file")
        whole(to, split)
        refused(fetch(hub, "ann/many", "--file", "m-q5.gguf"), 1, "has no 'm-q5.gguf'", "m-q4.gguf")


@case
def data_sets():
    texts = {"TinyStories-train.txt": BIG, "TinyStories-valid.txt": BIG[:1000]}
    with Hub() as hub:
        hub.add("datasets/roneneldan/TinyStories", {**texts, "more.txt": b"more"})
        to = fresh()
        check(fetch(hub, "tinystories", "--to", to).status == 0, "tinystories")
        whole(to, texts)
        to = fresh()
        check(fetch(hub, "datasets/roneneldan/TinyStories", "--to", to, "--file",
                    "more.txt").status == 0, "a file of a data set")
        whole(to, {"more.txt": b"more"})
        refused(fetch(hub, "datasets/roneneldan/TinyStories"), 2, "--file", "more.txt")


@case
def addresses():
    with model_hub() as hub:
        hub.plain["/some/text file.txt"] = BIG
        hub.faults["text file.txt"] = [drop(300_000), FINE]
        to, url = fresh(), f"{hub.url}/some/text%20file.txt?x=1"
        result = done("fetch", url, "--to", to, "--file", "text.txt")
        whole(to, {"text.txt": BIG})
        check("only its size" in result.out, "what could be checked is not said", result)
        refused(run("fetch", url, "--to", to, "--file", "text.txt"), 2, "is there", "--to")
        hub.plain["/empty"] = b""
        done("fetch", f"{hub.url}/empty", "--to", to)
        check(pathlib.Path(to, "empty").read_bytes() == b"", "an empty file")
        # The hub's checksum comes with the redirection, the bytes from elsewhere.
        hub.plain["/store/1"] = BIG[:5000]
        to = fresh()
        for linked, good in ((sha256(BIG[:5000]), True), (sha256(b"x"), False)):
            hub.faults["weights"] = always(redirect("/store/1", X_Linked_Etag=f'"{linked}"'))
            result = run("fetch", f"{hub.url}/weights", "--to", to, "--file", str(good))
            check(result.status == (0 if good else 1), "X-Linked-Etag", result)
        refused(result, 1, "SHA-256", sha256(b"x"))
        check(names(to) == ["True"], f"{names(to)}")


# ---- what goes wrong ---------------------------------------------------------------------------

@case
def dropped_connections():
    with model_hub() as hub:
        hub.faults["model.safetensors"] = [drop(100_000), drop(1), drop(250_000), FINE]
        to = fresh()
        result = fetch(hub, "ann/model", "--to", to)
        check(result.status == 0, "dropped connections", result)
        whole(to, WANTED)
        asked = hub.asked("model.safetensors")
        check([h.get("range") for h in asked] ==
              [None, "bytes=100000-", "bytes=100001-", "bytes=350001-"], f"asked {asked}")
        check(all(h.get("if-range") == f'"{sha256(BIG)[:16]}"' for h in asked[1:]), f"{asked}")


@case
def killed():
    """Killed at any moment, the next fetch goes on; Ctrl-C says so."""
    with model_hub() as hub:
        for how in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
            to = fresh()
            hub.log.clear()
            hub.faults["model.safetensors"] = [stall(123_456)]
            process = start("fetch", "ann/model", "--to", to, "--base-url", hub.url)
            hub.wait_for("model.safetensors")
            part = pathlib.Path(to, "model.safetensors.part")
            deadline = time.time() + 20
            while not part.exists() or part.stat().st_size < 123_456:
                check(time.time() < deadline, "no part came")
                time.sleep(0.01)
            refused(fetch(hub, "ann/model", "--to", to), 1, "another process")
            process.send_signal(how)
            result = finish(process, 20)
            if how != signal.SIGKILL:
                refused(result, 130, "interrupted", "keeps 123456 bytes")
            check("model.safetensors" not in names(to), "a part under the final name")
            check(fetch(hub, "ann/model", "--to", to).status == 0, f"after {how}")
            whole(to, WANTED)
            check(hub.asked("model.safetensors")[-1].get("range") == "bytes=123456-", "began anew")


@case
def stalled():
    with model_hub() as hub:
        hub.faults["model.safetensors"] = [stall(1000)]
        to = fresh()
        result = fetch(hub, "ann/model", "--to", to, "--timeout", "1")
        check(result.status == 0 and result.wall_s < 20, "a stalled connection", result)
        whole(to, WANTED)
        check("too slow" in result.err.lower() or "timed out" in result.err.lower(), "why", result)


@case
def range_is_ignored():
    with model_hub() as hub:
        for fault in (NO_RANGE, both(NO_RANGE, NO_LENGTH), both(NO_IF_RANGE, WRONG_PLACE)):
            hub.faults["model.safetensors"] = [drop(100_000), fault, FINE]
            to = fresh()
            result = fetch(hub, "ann/model", "--to", to)
            check(result.status == 0, f"{fault}", result)
            whole(to, WANTED)


@case
def the_content_changes():
    """Between two tries: with servers that keep If-Range, and with those that do not."""
    other = random.Random(2).randbytes(len(BIG))
    for careless in (FINE, NO_IF_RANGE):
        with Hub() as hub:
            hub.plain["/file"] = other
            hub.faults["file"] = [both(drop(100_000), body(BIG), etag('"old"')),
                                  both(careless, etag('"new"')), etag('"new"')]
            to = fresh()
            check(run("fetch", f"{hub.url}/file", "--to", to).status == 0, "changed content")
            whole(to, {"file": other})
    # A weak tag and no date: nothing says that a part is of the same content.
    with Hub() as hub:
        hub.plain["/file"] = other
        hub.faults["file"] = [both(drop(100_000), body(BIG), etag('W/"a"')), etag('W/"a"')]
        to = fresh()
        check(run("fetch", f"{hub.url}/file", "--to", to).status == 0, "weak tags")
        whole(to, {"file": other})
    # Between two runs, the list has another checksum.
    with model_hub() as hub:
        to = fresh()
        hub.faults["model.safetensors"] = [drop(5000)]
        refused(fetch(hub, "ann/model", "--to", to, "--retries", "0"), 1, "keeps 5000 bytes")
        hub.repos["ann/model"]["model.safetensors"] = other
        hub.log.clear()
        check(fetch(hub, "ann/model", "--to", to).status == 0, "another checksum")
        check(hub.asked("model.safetensors")[0].get("range") is None, "continued the old part")
        whole(to, {**WANTED, "model.safetensors": other})


@case
def lengths_lie():
    with model_hub() as hub:
        for fault, word in ((claim(len(BIG) + 9), "announces"), (claim(len(BIG) - 9), "announces"),
                            (both(NO_LENGTH, body(BIG + b"more")), "more than"),
                            (both(NO_LENGTH, body(BIG[:-5])), "ended after 699996 of 700001")):
            hub.faults["model.safetensors"] = always(fault)
            to = fresh()
            result = fetch(hub, "ann/model", "--to", to, "--retries", "1")
            refused(result, 1, word, "gave up after 2 tries")
            check("model.safetensors" not in names(to), f"{fault}: {names(to)}")
            hub.faults["model.safetensors"] = [FINE]
            check(fetch(hub, "ann/model", "--to", to).status == 0, f"after {fault}")
            whole(to, WANTED)
    with Hub() as hub:                        # nothing but the answer's own length
        hub.plain["/file"] = BIG
        hub.faults["file"] = always(claim(len(BIG) + 9))
        to = fresh()
        refused(run("fetch", f"{hub.url}/file", "--to", to, "--retries", "2"), 1, "gave up")
        check("file" not in names(to), "a short file")


@case
def a_part_too_many():
    """A part as long as the whole, or longer, or of nobody."""
    with model_hub() as hub:
        for left, note in ((BIG, sha256(BIG)), (BIG + b"more", sha256(BIG)), (BIG[:99], None),
                           (BIG[::-1], sha256(BIG)), (BIG[:50] + BIG[:50], sha256(BIG))):
            to = fresh()
            os.mkdir(to)
            pathlib.Path(to, "model.safetensors.part").write_bytes(left)
            if note:
                pathlib.Path(to, "model.safetensors.part.of").write_text(
                    f'{note}\n"{sha256(BIG)[:16]}"\n')
            result = fetch(hub, "ann/model", "--to", to)
            check(result.status == 0, "an odd part", result)
            whole(to, WANTED)
    with Hub() as hub:                        # 416: the part is the whole
        hub.plain["/file"] = BIG
        to = fresh()
        os.mkdir(to)
        pathlib.Path(to, "file.part").write_bytes(BIG)
        pathlib.Path(to, "file.part.of").write_text(f'\n"{sha256(BIG)[:16]}"\n')
        check(run("fetch", f"{hub.url}/file", "--to", to).status == 0, "416")
        whole(to, {"file": BIG})
        check(len(hub.log) == 1, "fetched anew")


@case
def corrupted_bytes():
    bad = BIG[:400_000] + b"!" + BIG[400_001:]
    with model_hub() as hub:
        hub.faults["model.safetensors"] = [body(bad), FINE]
        to = fresh()
        result = fetch(hub, "ann/model", "--to", to)
        check(result.status == 0 and sha256(bad) in result.err, "once corrupted", result)
        whole(to, WANTED)
        hub.faults["model.safetensors"] = always(body(bad))
        to = fresh()
        refused(fetch(hub, "ann/model", "--to", to), 1, sha256(bad), sha256(BIG))
        check(names(to) == ["config.json", "tokenizer.json"], f"{names(to)}")
        hub.faults["config.json"] = always(body(b'{"model_type":"lLama"}'))
        to = fresh()
        refused(fetch(hub, "ann/model", "--to", to), 1, "SHA-1")
        check(names(to) == [], f"{names(to)}")


@case
def statuses():
    with model_hub() as hub:
        hub.faults.update({"list": [status(503), status(429, Retry_After="1")],
                           "model.safetensors": [status(500), drop(5), status(502)]})
        to = fresh()
        result = fetch(hub, "ann/model", "--to", to)
        check(result.status == 0 and "again in 1 s" in result.err, "passing failures", result)
        whole(to, WANTED)
        for code, word in ((500, "500"), (401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "not found"),
                           (418, "418"), (204, "204"), (416, "416")):
            hub.faults["model.safetensors"] = always(status(code))
            hub.log.clear()
            to = fresh()
            refused(fetch(hub, "ann/model", "--to", to, "--retries", "2"), 1, word,
                    "model.safetensors")
            check(len(hub.asked("model.safetensors")) == (3 if code == 500 else 1), f"{code}")
            check(names(to) == ["config.json", "tokenizer.json"], f"{code}: {names(to)}")
        refused(fetch(hub, "ann/nobody"), 1, "ann/nobody", "not found")
        refused(fetch(hub, "ann/model", "--revision", "v/2"), 1, "v%2F2", "not found")
    refused(fetch(hub, "ann/model", "--retries", "1"), 1, "gave up", "connect")   # it is gone


@case
def redirections():
    """The token goes to the hub and to nobody else, and is never printed."""
    token = "hf_secret0123456789"
    with model_hub() as hub, Hub() as elsewhere:
        elsewhere.plain["/store/1"] = BIG
        hub.faults["model.safetensors"] = [redirect("/again"), redirect("/again")]
        hub.faults["again"] = [redirect(elsewhere.url + "/store/1"),
                               redirect(elsewhere.url + "/store/1")]
        elsewhere.faults["1"] = [drop(1000), FINE]
        to = fresh()
        result = fetch(hub, "ann/model", "--to", to, env={"HF_TOKEN": token})
        check(result.status == 0, "redirections", result)
        whole(to, WANTED)
        check(all(h.get("authorization") == f"Bearer {token}" for _, h in hub.log), "hub's token")
        check(elsewhere.log and not any("authorization" in h for _, h in elsewhere.log),
              "the token went elsewhere")
        check(elsewhere.log[1][1].get("range") == "bytes=1000-", "redirected ranges")
        check(token not in result.out + result.err, "the token is printed")
        for to, word in (("/model.safetensors", "more than 10"), ("file:///etc/passwd", "not to"),
                         ("ftp://127.0.0.1/x", "not to"), ("", "not to")):
            name = to.rpartition("/")[2] or "model.safetensors"
            hub.faults["model.safetensors"] = hub.faults[name] = always(redirect(to))
            refused(fetch(hub, "ann/model", "--to", fresh(), env={"HF_TOKEN": token}), 1, word)
        done("fetch", elsewhere.url + "/store/1", "--to", fresh(), "--base-url", hub.url,
             env={"HF_TOKEN": token})
        check("authorization" not in elsewhere.log[-1][1], "an address got the hub's token")
    refused(run("fetch", "ann/model", env={"HF_TOKEN": "a\r\nX: y"}), 2, "token")


@case
def unknown_certificates():
    """Whom nobody vouches for is not asked, and not asked again."""
    if not shutil.which("openssl"):
        raise Skip("there is no openssl to make a certificate with")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    with model_hub() as hub:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("cert.pem", "key.pem")
        hub.server.socket = context.wrap_socket(hub.server.socket, server_side=True)
        hub.url = hub.url.replace("http:", "https:")
        result = fetch(hub, "ann/model", env={"HF_TOKEN": "hf_secret"})
        refused(result, 1, "certificate")
        check("again in" not in result.err and not hub.log, "asked all the same", result)


@case
def hostile_lists():
    safe = pathlib.Path("safe")
    safe.write_bytes(b"untouched")
    for evil in ("../safe", "/etc/safe", "a/../../safe", "a//b", "..", "a\\..\\safe", "x\x1b[2J"):
        with Hub() as hub:
            index = '{"weight_map":{"a":%s}}' % json.dumps(evil)
            hub.add("ann/evil", {"config.json": b"{}", "model.safetensors.index.json":
                                 index.encode()})
            hub.more_entries = [Hub.entry(evil, b"evil")]
            result = fetch(hub, "ann/evil", "--to", fresh())
            refused(result, 1, "no name for a file")
            check("\x1b" not in result.err, "an escape sequence is printed")
            if evil[0] != "x":
                refused(fetch(hub, "ann/evil", "--to", fresh(), "--file", evil), 1, "no name for")
    check(safe.read_bytes() == b"untouched", "a file outside was written")
    with model_hub() as hub:
        for text, word in ((b"{}", "not a list"), (b"[{", "line 1"), (b"", "line 1"),
                           (b'[{"type":"file","path":"config.json","size":-5}]', "size"),
                           (b"[1,2]", "no weights"), (b"\xff" * 99, "line 1"),
                           (b"[" * 5000, "nested")):
            hub.faults["list"] = [body(text)]
            result = fetch(hub, "ann/model", "--to", fresh())
            refused(result, result.status or 1, word)


@case
def files_in_the_way():
    with model_hub() as hub:
        to = fresh()
        os.mkdir(to)
        pathlib.Path(to, "config.json").write_bytes(b'{"mine":1}')
        refused(fetch(hub, "ann/model", "--to", to), 2, "config.json", "is there", "--to")
        check(pathlib.Path(to, "config.json").read_bytes() == b'{"mine":1}', "overwritten")
        pathlib.Path("occupied").write_text("x")
        refused(fetch(hub, "ann/model", "--to", "occupied"), 1, "occupied")
        to = fresh()
        limits = {resource.RLIMIT_FSIZE: 200_000}
        refused(fetch(hub, "ann/model", "--to", to, limits=limits), 1, "cannot write",
                "keeps 200000 bytes")
        check(fetch(hub, "ann/model", "--to", to).status == 0, "after a full disk")
        whole(to, WANTED)


@case
def memory_runs_out():
    with Hub() as hub:
        hub.add("ann/small", {"config.json": b"{}", "model.safetensors": b"weights"})
        for n in list(range(1, 40)) + list(range(40, 600, 23)):
            to = fresh()
            result = fetch(hub, "ann/small", "--to", to, "--retries", "0",
                           env={"AA_FAIL_ALLOC_AT": str(n)})
            check(result.status in (0, 1), f"allocation {n}", result)
            for name in names(to):
                check(name.endswith((".part", ".of")) or
                      pathlib.Path(to, name).read_bytes() == hub.repos["ann/small"].get(name),
                      f"allocation {n}: {name}")


@case
def usage():
    refused(run("fetch"), 2, "OWNER/NAME")
    for what in ("model", "../model", "a/b/c", "a b/c", "/a/b", "ftp://a/b", "http://",
                 "http://user@127.0.0.1/x", "a/.."):
        refused(run("fetch", what), 2, f"'{what}'")
    refused(run("fetch", "a/b", "--base-url", "hub.example"), 2, "hub.example")
    refused(run("fetch", "http://127.0.0.1:9/", "--retries", "0"), 2, "--file")
    refused(run("fetch", "a/b", env={"AA_CURL": "/nowhere/libcurl"}), 1, "libcurl", "apt install",
            "AA_CURL", "/nowhere/libcurl")


if __name__ == "__main__":
    main()
