"""Measures the program and its peers on the same work, in turns, beside the FMA peak probe.

Every round runs each contestant once for some seconds; a figure is the median over all its updates
of all rounds, so that slow minutes of a shared machine hit everybody alike. Ours probes the FMA peak
before and after each of its turns and reports shares of it.
"""
import argparse
import json
import math
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "bench"
PROGRAM = os.environ.get("AUTOANE") or str(ROOT / "build" / "autoane")

REFERENCE = {"dim": 512, "layers": 4, "heads": 8, "kv": 2, "ffn": 1408, "vocab": 16893, "seq": 128}
WORK = {
    "R, 1280 tokens": dict(REFERENCE, tokens=1280),
    "R, 128 tokens": dict(REFERENCE, tokens=128),
    "SmolLM2-135M, 1024 tokens": {"dim": 576, "layers": 30, "heads": 9, "kv": 3, "ffn": 1536,
                                  "vocab": 49152, "seq": 256, "tokens": 1024},
    "128 wide, 512 tokens": {"dim": 128, "layers": 4, "heads": 4, "kv": 2, "ffn": 352,
                             "vocab": 16893, "seq": 128, "tokens": 512},
    "64 wide, 512 tokens": {"dim": 64, "layers": 4, "heads": 2, "kv": 1, "ffn": 192,
                            "vocab": 16893, "seq": 128, "tokens": 512},
}
PEERS = {"PyTorch eager": (False, False), "PyTorch compiled": (True, False),
         "PyTorch bf16 eager": (False, True), "PyTorch bf16 compiled": (True, True)}
OURS = {"f32": {}, "bf16": {"compute": "bf16"}, "f32, AVX2": {"isa": "avx2"},
        "f32, 1 thread": {"threads": 1}, "over OpenBLAS": {"device": "blas"},
        "low-rank head": {"head-rank": 128}}


def ours(words, isa=None):
    """The JSON of a command; None if it is refused (an instruction set that is not there)."""
    env = dict(os.environ, **({"AA_ISA": isa} if isa else {}))
    result = subprocess.run([PROGRAM, *map(str, words), "--json"], env=env, check=False, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if result.returncode:
        print(f"   refused: {result.stderr.strip()}", file=sys.stderr)
        return None
    return json.loads(result.stdout)


def shape_words(w):
    return ["--dim", w["dim"], "--layers", w["layers"], "--heads", w["heads"], "--kv-heads",
            w["kv"], "--ffn", w["ffn"], "--vocab", w["vocab"], "--seq", w["seq"],
            "--batch-tokens", w["tokens"]]


def library():
    """OpenBLAS as its current release is packed for Python."""
    try:
        import scipy_openblas32
    except ImportError:
        return None
    found = list(pathlib.Path(scipy_openblas32.get_lib_dir()).glob("libscipy_openblas.*"))
    return str(found[0]) if found else None


class Ours:
    def __init__(self, work, threads, how):
        how, self.facts = dict(how), {}
        self.isa = how.pop("isa", None)
        self.words = ["bench", "step", *shape_words(work), "--threads", how.pop("threads", threads)]
        if how.get("device") == "blas":
            how["blas"] = library()
        self.works = how.get("blas", "") is not None
        for key, value in how.items():
            self.words += [f"--{key}", value]

    def turn(self, seconds):
        out = ours(self.words + ["--seconds", seconds], self.isa) if self.works else None
        if out is None:
            self.works = False
            return []
        self.facts = {k: out[k] for k in ("flop_per_token", "peak_rss_bytes", "isa", "params")}
        self.facts["kernels"] = {k["op"]: k["share"] for k in out["kernels"]}
        self.facts.setdefault("peaks", []).append(out["peak_gflops"])
        return [(out["tokens_per_s_median"], out["peak_gflops"])]

    def close(self):
        pass


class Peer:
    def __init__(self, work, threads, compiled, bf16):
        shape = dict(work, threads=threads, compile=compiled, bf16=bf16)
        env = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen([sys.executable, HERE / "torch_step.py", json.dumps(shape)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL, env=env)
        self.works = self.process.stdout.readline().strip() == "ready"
        self.facts = {}

    def turn(self, seconds):
        if not self.works:
            return []
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        out = json.loads(self.process.stdout.readline())
        self.facts["peak_rss_bytes"] = out["peak_rss_bytes"]
        return [(t, None) for t in out["tokens_per_s"]]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure_steps(a):
    rows = []
    for name, work in WORK.items():
        print(f"step: {name}", file=sys.stderr)
        contestants = {who: Ours(work, a.threads, how) for who, how in OURS.items()
                       if who != "low-rank head" or name.startswith("R")}
        contestants.update((who, Peer(work, a.threads, *how)) for who, how in PEERS.items())
        turns = {who: [] for who in contestants}
        for _ in range(a.rounds):
            for who, c in contestants.items():
                turns[who] += c.turn(a.seconds)
        for who, c in contestants.items():
            c.close()
            if not turns[who]:
                continue
            speeds = [t for t, _ in turns[who]]
            row = {"work": name, "who": who, "median": statistics.median(speeds),
                   "best": max(speeds), "peak_rss_bytes": c.facts["peak_rss_bytes"]}
            if isinstance(c, Ours):
                flop = c.facts["flop_per_token"]
                shares = [t * flop / (peak * 1e9) for t, peak in turns[who]]
                row |= {"share_of_peak": statistics.median(shares), "isa": c.facts["isa"],
                        "best_share": max(shares), "kernels": c.facts["kernels"],
                        "flop_per_token": flop, "params": c.facts["params"],
                        "peak_gflops": statistics.median(c.facts["peaks"])}
            rows.append(row)
            print(f"   {who:22} {row['median']:9.0f} tokens/s  {row['peak_rss_bytes'] / 2**20:6.0f} "
                  f"MiB  {100 * row.get('share_of_peak', math.nan):5.1f} %", file=sys.stderr)
    return rows


def measure_gemm(a):
    """Each cell: the best of several passes over the whole table."""
    cells = {}
    for compute in ("f32", "bf16"):
        for isa in (None, "avx2") if compute == "f32" else (None,):
            for _ in range(a.rounds):
                out = ours(["bench", "gemm", "--threads", a.threads, "--compute", compute], isa)
                for p in out["products"] if out else []:
                    key = (out["isa"], compute, p["op"], p["tokens"], p["rows"], p["cols"])
                    cells.setdefault(key, []).append(p["share_of_peak"])
    names = ("isa", "compute", "op", "tokens", "rows", "cols")
    return [dict(zip(names, key), share_of_peak=statistics.median(v), best_share=max(v))
            for key, v in cells.items()]


def growth_points(quick):
    narrow = dict(WORK["128 wide, 512 tokens"])
    sizes = [(64, 4, 192), (128, 4, 352), (256, 4, 704), (512, 4, 1408), (768, 8, 2048),
             (960, 16, 2560), (960, 32, 2560)]
    for dim, layers, ffn in sizes[:4] if quick else sizes:
        yield "parameters", None, dict(REFERENCE, dim=dim, layers=layers, heads=dim // 32, kv=dim // 64,
                                       ffn=ffn, vocab=8192, tokens=1024)
    for seq in (128, 256, 512, 1024, 2048, 4096, 8192)[:4 if quick else 7]:
        yield "sequence length", seq, dict(narrow, seq=seq, tokens=8192, vocab=4096)
    for vocab in (1024, 4096, 16384, 65536):
        yield "vocabulary", vocab, dict(narrow, vocab=vocab, tokens=1024)
    for tokens in (128, 256, 512, 1024, 4096, 16384):
        yield "batch tokens", tokens, dict(narrow, tokens=tokens, vocab=4096)
    for threads in range(1, os.cpu_count() + 1):
        yield "threads", threads, dict(REFERENCE, tokens=1280, threads=threads)


def measure_growth(a):
    rows = []
    for axis, x, work in growth_points(a.quick):
        words = shape_words(work) + ["--threads", work.get("threads", a.threads)]
        out = ours(["bench", "step", *words, "--seconds", a.seconds])
        plan = ours(["plan", *words])
        rows.append({"axis": axis, "x": x or out["params"], "tokens_per_s":
                     out["tokens_per_s_median"], "share_of_peak": out["share_of_peak"],
                     "peak_rss_bytes": out["peak_rss_bytes"], "planned_bytes": plan["peak_bytes"],
                     "activation_bytes": plan["activation_bytes"]})
        print(f"growth: {axis} {rows[-1]['x']}: {rows[-1]['tokens_per_s']:.0f} tokens/s",
              file=sys.stderr)
    return rows


def measure_decode(a):
    rows = []
    for preset in ("smollm2-135m", "stories110m"):
        turns = [ours(["bench", "decode", "--preset", preset, "--threads", a.threads])
                 for _ in range(a.rounds)]
        rows.append({"model": preset, **{k: statistics.median(t[k] for t in turns) for k in
                                         ("tokens_per_s_median", "prefill_tokens_per_s", "gbs",
                                          "read_gbs")}})
    return rows


def versions():
    out = {"python": platform.python_version()}
    for name in ("torch", "scipy_openblas32"):
        try:
            out[name] = __import__(name).__version__
        except ImportError:
            continue
    return out


SECTIONS = {"step": measure_steps, "gemm": measure_gemm, "growth": measure_growth,
            "decode": measure_decode}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--quick", action="store_true", help="two short rounds and fewer points")
    p.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    p.add_argument("--rounds", type=int, help="turns of each contestant")
    p.add_argument("--seconds", type=float, help="of one turn")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    a = p.parse_args()
    a.rounds = a.rounds or (2 if a.quick else 5)
    a.seconds = a.seconds or (1.0 if a.quick else 3.0)
    unknown = set(a.only.split(",")) - SECTIONS.keys()
    if unknown:
        p.error(f"--only {','.join(sorted(unknown))}: there are {', '.join(SECTIONS)}")
    info = ours(["info"])
    name = re.sub("[^a-z0-9]+", "-", f"{info['cpu']} {info['cores']} {info['isa']}".lower())
    path = a.out / f"machine-{name.strip('-')}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results["machine"] = {k: info[k] for k in ("cpu", "cores", "isa", "peak_gflops", "read_gbs",
                                                "memory_bytes")}
    results["versions"] = versions()
    for section in a.only.split(","):
        results[section] = SECTIONS[section](a)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    if a.out == HERE / "results":
        subprocess.run([sys.executable, HERE / "tables.py"], check=True)


if __name__ == "__main__":
    main()
