"""A model hub on this machine, with every fault a network can have.

    with Hub() as hub:
        hub.add("ann/model", {"config.json": b"{}", "model.safetensors": data})
        hub.faults["model.safetensors"] = [drop(1000), status(500)]     # one per request, in order

What it was asked is in hub.log: (path, headers) of every request, headers by lower-case name.
"""
import contextlib
import hashlib
import http.server
import json
import os
import threading
import time
import urllib.parse


os.environ.update(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")      # none stands between


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


# ---- faults: what a request gets instead, or besides ------------------------------------------

def drop(n):
    """n bytes of the body, then the connection ends."""
    return {"drop": n}


def stall(n, seconds=60):
    """n bytes of the body, then nothing for so long."""
    return {"drop": n, "stall": seconds}


def status(code, **headers):
    return {"status": code, "headers": headers}


def redirect(to, code=302, **headers):
    return {"status": code, "headers": {"Location": to, **headers}}


def body(data):
    """Other bytes."""
    return {"body": data}


def claim(n):
    """A Content-Length that is not true."""
    return {"claim": n}


def etag(name):
    return {"etag": name}


def both(*faults):
    return {key: value for fault in faults for key, value in fault.items()}


NO_RANGE = {"no_range": True}                 # always the whole, with 200
NO_IF_RANGE = {"no_if_range": True}           # the range, whatever content it was asked of
WRONG_PLACE = {"wrong_place": True}           # another range than asked for, and it says so
NO_LENGTH = {"no_length": True}
FINE = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        hub = self.server.hub
        headers = {key.lower(): value for key, value in self.headers.items()}
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        hub.log.append((path, headers))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if path.startswith("/api/"):
                self.send_list(hub, path, query)
            else:
                self.send_file_of(hub, path, headers)

    def answer(self, code, headers, data=b""):
        self.send_response(code)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def send_list(self, hub, path, query):
        kind, repo, rest = path[5:].split("/", 1)[0], *self.split(path)
        key = ("datasets/" if kind == "datasets" else "") + repo
        fault = hub.next_fault("list")
        if "status" in fault:
            return self.answer(fault["status"], fault["headers"], b"no list for you")
        if "body" in fault:
            return self.answer(200, {}, fault["body"])
        folder = rest[len("tree/main"):].strip("/")
        if key not in hub.repos or not rest.startswith("tree/main"):
            return self.answer(404, {}, b'{"error":"Repository not found"}')
        entries = [hub.entry(name, data) for name, data in hub.repos[key].items()
                   if name.rpartition("/")[0] == folder] + hub.more_entries
        headers = {}
        if hub.page:                          # as many entries a page
            at = int(query.partition("=")[2] or 0)
            if at + hub.page < len(entries):
                headers["Link"] = (f'<{hub.url}{urllib.parse.quote(path)}?cursor={at + hub.page}>;'
                                   ' rel="next"')
            entries = entries[at:at + hub.page]
        return self.answer(200, headers, json.dumps(entries).encode())

    @staticmethod
    def split(path):
        """/api/models/owner/name/rest -> owner/name, rest"""
        parts = path.split("/")
        return "/".join(parts[3:5]), "/".join(parts[5:])

    def send_file_of(self, hub, path, headers):
        name = path.rpartition("/")[2]
        data = hub.find(path)
        fault = hub.next_fault(name)
        if "status" in fault:
            return self.answer(fault["status"], fault["headers"], b"x" * 100)
        if data is None:
            return self.answer(404, {}, b"Entry not found")
        return self.send_data(data, fault, headers)

    def send_data(self, data, fault, headers):
        tag = fault.get("etag", f'"{sha256(data)[:16]}"')
        whole = fault.get("body", data)
        first = 0
        if headers.get("range") and not fault.get("no_range") and (
                fault.get("no_if_range") or headers.get("if-range", tag) == tag):
            first = int(headers["range"].partition("=")[2].rstrip("-"))
            if first >= len(whole):
                return self.answer(416, {"Content-Range": f"bytes */{len(whole)}"})
        part = whole[first:]
        self.send_response(206 if first else 200)
        if first:
            said = first + 1 if fault.get("wrong_place") else first
            self.send_header("Content-Range", f"bytes {said}-{len(whole) - 1}/{len(whole)}")
        if not fault.get("no_length"):
            self.send_header("Content-Length", str(fault.get("claim", len(part))))
        if tag:
            self.send_header("ETag", tag)
        self.end_headers()
        part = part[:fault["drop"]] if "drop" in fault else part
        self.wfile.write(part)
        self.wfile.flush()
        if "stall" in fault:
            self.server.hub.over.wait(fault["stall"])
        self.close_connection = bool(fault)
        return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    hub = None

    def handle_error(self, request, client_address):
        pass


class Hub:
    def __init__(self):
        self.repos, self.plain, self.faults, self.log, self.more_entries = {}, {}, {}, [], []
        self.page = 0
        self.over = threading.Event()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def add(self, repo, files):
        self.repos[repo] = files

    def find(self, path):
        if path in self.plain:
            return self.plain[path]
        for repo, files in self.repos.items():
            prefix = f"/{repo}/resolve/main/"
            if path.startswith(prefix):
                return files.get(path[len(prefix):])
        return None

    @staticmethod
    def entry(name, data):
        """As the hub lists it: git's own digest, SHA-256 for large files."""
        entry = {"type": "file", "oid": git_sha1(data), "size": len(data), "path": name}
        if name.endswith((".safetensors", ".gguf", ".txt")):
            entry["oid"] = "0" * 40
            entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
        return entry

    def next_fault(self, name):
        script = self.faults.get(name, [])
        if not script:
            return FINE
        return script[0] if len(script) == 1 and script[0].get("always") else script.pop(0)

    def asked(self, name):
        """Headers of the requests for the file of that name."""
        return [headers for path, headers in self.log if path.rpartition("/")[2] == name]

    def wait_for(self, name, n=1, seconds=20):
        deadline = time.time() + seconds
        while len(self.asked(name)) < n:
            if time.time() > deadline:
                raise AssertionError(f"'{name}' was not asked for {n} times")
            time.sleep(0.01)


def always(fault):
    return [{**fault, "always": True}]
