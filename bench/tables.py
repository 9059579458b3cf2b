"""Results as JSON into the tables and pictures of docs/performance.md. Reads nothing but the JSON."""
import json
import math
import pathlib
import statistics

import works

import works

MARK = "<!-- written by bench/run --tables from bench/results; what follows is not edited by hand -->"


def load(folder):
    files = sorted(pathlib.Path(folder).glob("*.json"))
    return [(f.stem, json.loads(f.read_text(encoding="utf-8"))) for f in files]


# ---- numbers of one result -----------------------------------------------------------------------

class Result:
    def __init__(self, data):
        self.data, self.samples = data, data["samples"]
        self.isa = data["isa"]

    def of(self, group, **want):
        return [s for s in self.samples
                if s["group"] == group and all(s.get(k) == v for k, v in want.items())]

    def steps(self, work, system):
        return self.of("step", work=work, system=system, threads=self.data["threads"])

    def value(self, samples, key="tokens_per_s_median"):
        """Median over rounds; None where nothing was measured."""
        values = [s[key] for s in samples if s.get(key) is not None]
        return statistics.median(values) if values else None

    def speed(self, work, system):
        return self.value(self.steps(work, system))

    def share(self, work, system="f32"):
        return self.value(self.steps(work, system), "share_of_peak")

    def against(self, work, ours, theirs, key="tokens_per_s_median"):
        """Median over rounds of the ratio within a round, in which both ran one after the other."""
        ratios = []
        for mine in self.steps(work, ours):
            for other in self.steps(work, theirs):
                if other["round"] == mine["round"] and other.get(key):
                    ratios.append(mine[key] / other[key])
        return statistics.median(ratios) if ratios else None

    def decoding(self, work, system):
        return self.of("decode", work=work, system=system)

    def against_llama(self, work, key):
        """As against, of generation with a model's file."""
        theirs = {s["round"]: s[key] for s in self.decoding(work, "llama.cpp")}
        ratios = [s[key] / theirs[s["round"]] for s in self.decoding(work, "autoane")
                  if s["round"] in theirs]
        return statistics.median(ratios) if ratios else None

    def against_peft(self, work, key="tokens_per_s_median"):
        """As against, of training adapters."""
        theirs = {s["round"]: s[key] for s in self.of("lora", work=work, system="peft")}
        ratios = [s[key] / theirs[s["round"]] for s in self.of("lora", work=work, system="autoane")
                  if s["round"] in theirs]
        return statistics.median(ratios) if ratios else None

    def over_the_file(self):
        values = [(s["peak_rss_bytes"] - s["file_bytes"]) / 2**20
                  for s in self.of("lora", system="autoane on Q4_0")]
        return statistics.median(values) if values else None

    def read_share(self, work):
        values = [s["gbs"] / s["read_gbs"] for s in self.decoding(work, "autoane")]
        return statistics.median(values) if values else None

    def outside_gemm(self, work):
        values = [1 - sum(k["share"] for k in s["kernels"] if k["op"] in GEMM_ROWS)
                  for s in self.steps(work, "f32")]
        return statistics.median(values) if values else None

    def gemm(self, compute="f32"):
        """(median share of peak over all cells, worst share of what peak and memory allow)."""
        cells = {}
        for s in self.of("gemm", compute=compute, threads=self.data["threads"]):
            cells.setdefault((s["op"], s["tokens"], s["rows"], s["cols"]), []).append(s)
        if not cells:
            return None, None
        shares, bounded = [], []
        for (_, T, N, K), rounds in cells.items():
            speed, peak = self.value(rounds, "gflops_median"), self.value(rounds, "peak_gflops")
            intensity = 2 * T * N * K / (4 * (T * K + N * K + T * N))
            shares.append(speed / peak)
            bounded.append(speed / min(peak, intensity * self.data["read_gbs"]))
        return statistics.median(shares), min(bounded)

    def second_thread(self):
        ratios = []
        for two in self.of("threads", threads=2):
            ratios += [two["tokens_per_s_median"] / one["tokens_per_s_median"]
                       for one in self.of("threads", threads=1) if one["round"] == two["round"]]
        return statistics.median(ratios) if ratios else None

    def growth(self, axis, key):
        points = {}
        for s in self.of("growth", axis=axis):
            if s.get(key):
                points.setdefault(s["x"], []).append(s[key])
        return sorted((x, statistics.median(v)) for x, v in points.items())

    def memory_against_plan(self):
        ratios = [s["peak_rss_bytes"] / s["plan_bytes"] for s in self.of("growth", axis="one window")
                  if s.get("plan_bytes")]
        return max(ratios) if ratios else None


GEMM_ROWS = ("linear forward", "linear dx", "linear dw")


def exponent(points):
    """b of y = a x^b by least squares of logarithms; None for fewer than two points."""
    if len(points) < 2:
        return None
    x = [math.log(p[0]) for p in points]
    y = [math.log(p[1]) for p in points]
    mx, my = statistics.fmean(x), statistics.fmean(y)
    spread = sum((v - mx) ** 2 for v in x)
    return sum((v - mx) * (w - my) for v, w in zip(x, y)) / spread if spread else None


# ---- targets -------------------------------------------------------------------------------------

# measure, value of a result, must and aim on AVX2, must and aim on AVX-512; None: not asked there.
# Ratios are at least that, except rows marked "at most".
def targets():
    def against(work, ours, theirs, key="tokens_per_s_median"):
        def measure(r):
            return r.against(work, ours, theirs, key)

        def limit(r):               # what the peer leaves: a step wholly at the peak
            share = r.share(work, theirs) if key == "tokens_per_s_median" else None
            return 1 / share if share else None
        measure.limit = limit
        return measure
    return [
        ("GEMM, f32, all shapes: median share of peak", lambda r: r.gemm()[0],
         (.85, .92), (.85, .92)),
        ("GEMM, f32: worst cell against min(peak, bytes / bandwidth)", lambda r: r.gemm()[1],
         (.72, .80), (.72, .80)),
        ("R, 1280 tokens: share of peak", lambda r: r.share("R-1280"), (.78, .84), (.72, .80)),
        ("R, 128 tokens: share of peak", lambda r: r.share("R-128"), (.62, .68), (.50, .56)),
        ("R, 1280 tokens: against torch", against("R-1280", "f32", "torch"), None, (2.4, 3)),
        ("R, 1280 tokens: against torch compile", against("R-1280", "f32", "torch compile"),
         (1.2, 1.4), (1.9, 2.2)),
        ("R, bf16: against torch bf16 compile", against("R-1280", "bf16", "torch bf16 compile"),
         None, (1.15, 1.3)),
        ("R, bf16: share of the bf16 peak", lambda r: r.share("R-1280", "bf16"), None, (None, .55)),
        ("SmolLM2-135M, 1024 tokens: against torch compile",
         against("SmolLM2-135M-1024", "f32", "torch compile"), (1.2, 1.4), (2.0, 2.6)),
        ("SmolLM2-135M, bf16: against torch bf16 compile",
         against("SmolLM2-135M-1024", "bf16", "torch bf16 compile"), None, (1.3, 1.6)),
        ("128d/352, 512 tokens: share of peak", lambda r: r.share("128d-512"), (.55, .65),
         (.45, .55)),
        ("64d/192, 512 tokens: share of peak", lambda r: r.share("64d-512"), (.45, .55),
         (.35, .45)),
        ("R, 1280 tokens: against our step over OpenBLAS", against("R-1280", "f32", "blas"),
         (1.0, 1.15), (1.0, 1.15)),
        ("R, 1280 tokens: time outside GEMM, at most", lambda r: r.outside_gemm("R-1280"),
         (.08, .06), (.14, .09)),
        ("second thread", lambda r: r.second_thread(), (1.9, 1.96), (1.9, 1.96)),
        ("R, 1280 tokens: peak memory against torch, at most",
         against("R-1280", "f32", "torch", "peak_rss_bytes"), (.5, .4), (.5, .4)),
        ("memory by window length: largest against plan, at most",
         lambda r: r.memory_against_plan(), (None, 1.05), (None, 1.05)),
        ("memory by window length: exponent, at most",
         lambda r: exponent(r.growth("one window", "peak_rss_bytes")), (1.0, None), (1.0, None)),
        *(adapters(work, *bounds) for work in works.LORA for bounds in ADAPTER_BOUNDS[work[:3]]),
        ("LoRA on Q4_0, f32, recomputed: MiB over the file, at most", lambda r: r.over_the_file(),
         (250, 150), (250, 150)),
        *(generation(dtype, what, key) for dtype in works.FILE_TYPES
          for what, key in (("decode", "tokens_per_s_median"),
                            ("prefill", "prefill_tokens_per_s"))),
        ("SmolLM2-135M f16: decode, share of the memory's read speed",
         lambda r: r.read_share("SmolLM2-135M f16"), (.8, None), (.8, None)),
    ]


# what, its key, must and aim on AVX2, and on AVX-512
SPEED, MEMORY = "tokens_per_s_median", "peak_rss_bytes"
ADAPTER_BOUNDS = {
    "f32": [("speed", SPEED, (1.5, 1.8), (2.3, 3)), ("memory", MEMORY, (.4, .3), (.4, .3))],
    "bf1": [("speed", SPEED, None, (1.3, 1.6))],
}


def adapters(work, what, key, avx2, avx512):
    end = ", at most" if key == MEMORY else ""
    return (f"LoRA, {work}: {what} against PEFT{end}", lambda r: r.against_peft(work, key), avx2,
            avx512)


def generation(dtype, what, key):
    return (f"SmolLM2-135M {dtype}: {what} against llama.cpp",
            lambda r: r.against_llama(f"SmolLM2-135M {dtype}", key), (1.0, 1.2), (1.0, 1.2))


def verdict(name, value, must, aim):
    if value is None:
        return "not measured"
    def holds(bound):
        return value <= bound if name.endswith("at most") else value >= bound
    if aim is not None and holds(aim):
        return "met, aim too"
    if must is None:
        return "aim not met"
    return "met" if holds(must) else "**not met**"


# ---- text ----------------------------------------------------------------------------------------

def number(x, share=False):
    if x is None:
        return "–"
    if share:
        return f"{100 * x:.0f} %"
    return f"{x:.0f}" if x >= 100 else f"{x:.2f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def is_share(name):
    return "share" in name or "worst cell" in name or "outside GEMM" in name


def target_table(r):
    rows = []
    for name, value_of, avx2, avx512 in targets():
        bounds = avx2 if r.isa == "avx2" else avx512
        if not bounds:
            continue
        value, (must, aim) = value_of(r), bounds
        show = [number(v, is_share(name)) for v in (value, must, aim)]
        limit = value_of.limit(r) if hasattr(value_of, "limit") else None
        judged = verdict(name, value, must, aim)
        if judged == "**not met**" and limit and must > limit:
            judged += ", out of reach"
        rows.append([name, *show, number(limit), judged])
    return table(["measure", "measured", "must", "aim", "at the peak", ""], rows)


def step_table(r):
    rows = []
    for work in works.WORKS:
        for system in [*works.OURS, *works.PEERS]:
            samples = r.steps(work, system)
            if not samples:
                continue
            rss = r.value(samples, "peak_rss_bytes")
            rows.append([work, ("autoane " if system in works.OURS else "") + system,
                         number(r.speed(work, system)),
                         number(max(s["tokens_per_s_best"] for s in samples)),
                         number(r.share(work, system), True),
                         f"{rss / 2**20:.0f}", number(r.against(work, "f32", system))])
    return table(["work", "system", "tokens/s, median", "best", "of peak", "peak MiB",
                  "autoane f32 is … times as fast"], rows)


def lora_table(r):
    rows = []
    for work in works.LORA:
        for system in ("autoane", "autoane on Q4_0", "peft"):
            samples = r.of("lora", work=work, system=system)
            if samples:
                ratio = r.against_peft(work) if system == "autoane" else None
                rows.append([work, system, number(r.value(samples)),
                             number(max(s["tokens_per_s_best"] for s in samples)),
                             f"{r.value(samples, 'peak_rss_bytes') / 2**20:.0f}", number(ratio)])
    return table(["work", "system", "tokens/s, median", "best", "peak MiB",
                  "… times as fast as PEFT"], rows)


def kernel_table(r):
    samples = r.steps("R-1280", "f32")
    if not samples:
        return ""
    rows = [[k["op"], number(k["share"], True) if k["share"] >= .01 else "< 1 %",
             number(k["gflops"]), number(k["gbs"])] for k in samples[0]["kernels"]]
    return "\nR, 1280 tokens, by kernel (first round):\n\n" + table(
        ["kernel", "time", "GFLOP/s", "GB/s"], rows) + "\n"


def gemm_table(r):
    rows, cells = [], {}
    for s in r.of("gemm"):
        cells.setdefault((s["compute"], s["threads"], s["tokens"], s["rows"], s["cols"]),
                         {}).setdefault(s["op"], []).append(s)
    for (compute, threads, T, N, K), ops in cells.items():
        shares = [number(r.value(ops.get(op, []), "share_of_peak"), True)
                  for op in ("forward", "dx", "dW")]
        rows.append([compute, str(threads), f"{T} x {N} x {K}", *shares])
    return table(["compute", "threads", "tokens x out x in", "forward", "dx", "dW"], rows)


def decode_table(r):
    rows = []
    for s in r.of("decode"):
        rows.append([s["work"], s["system"], str(s["round"] + 1), number(s["tokens_per_s_median"]),
                     number(s["tokens_per_s_best"]), number(s["prefill_tokens_per_s"])])
    return table(["model", "system", "round", "tokens/s, median", "best", "prefill tokens/s"], rows)


def axes_of(r):
    return list(dict.fromkeys(s["axis"] for s in r.of("growth")))


def growth_table(r):
    rows = []
    for axis in axes_of(r):
        speed, memory = r.growth(axis, "tokens_per_s_median"), r.growth(axis, "peak_rss_bytes")
        fits = [exponent(speed), exponent(memory)]
        rows.append([axis, f"{speed[0][0]:.4g} … {speed[-1][0]:.4g}",
                     f"{number(speed[0][1])} … {number(speed[-1][1])}",
                     *("–" if f is None else f"{f:+.2f}" for f in fits[:1]),
                     f"{memory[0][1] / 2**20:.0f} … {memory[-1][1] / 2**20:.0f}",
                     *("–" if f is None else f"{f:+.2f}" for f in fits[1:])])
    return table(["axis", "from … to", "tokens/s", "exponent", "peak MiB", "exponent"], rows)


def section(stem, data):
    r = Result(data)
    words = [f"## {data['machine']}", "",
             f"{data['threads']} threads, {'; '.join(data['versions'])}. "
             f"FMA peak {data['peak_gflops']:.0f} GFLOP/s, memory {data['read_gbs']:.1f} GB/s"
             + (", quick run: few and short rounds" if data["quick"] else "") + "."]
    parts = [("Targets", True, target_table), ("Training steps", r.of("step"), step_table),
             ("Adapters", r.of("lora"), lora_table), ("Products", r.of("gemm"), gemm_table), ("Decoding", r.of("decode"), decode_table),
             ("Growth", r.of("growth"), growth_table)]
    for title, there, make in parts:
        if not there:
            continue
        words += ["", f"### {title}", "", make(r)]
        if title == "Training steps":
            words.append(kernel_table(r).rstrip("\n"))
        if title == "Growth":
            words += ["", f"![growth](performance-{stem}.svg)"]
    if data["notes"]:
        words += ["", "Not measured: " + "; ".join(data["notes"]) + "."]
    return "\n".join(words) + "\n"


# ---- picture -------------------------------------------------------------------------------------

def panel(axis, points, colour, left, top, unit):
    """One log-log plot of 200 by 120 at (left, top)."""
    xs, ys = [math.log10(p[0]) for p in points], [math.log10(p[1]) for p in points]
    x0, y0 = min(xs), min(ys)
    dx, dy = (max(xs) - x0) or 1, (max(ys) - y0) or 1
    at = [(left + 200 * (x - x0) / dx, top + 120 - 120 * (y - y0) / dy) for x, y in zip(xs, ys)]
    fit = exponent(points)
    label = f"{axis}: {unit}" + ("" if fit is None else f", exponent {fit:+.2f}")
    out = [f'<rect x="{left}" y="{top}" width="200" height="120" fill="none" stroke="#bbb"/>',
           f'<text x="{left}" y="{top - 6}">{label}</text>',
           f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="'
           + " ".join(f"{x:.1f},{y:.1f}" for x, y in at) + '"/>']
    out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in at]
    ends = [(left, "start", points[0][0]), (left + 200, "end", points[-1][0])]
    out += [f'<text x="{x}" y="{top + 133}" text-anchor="{a}">{v:.4g}</text>' for x, a, v in ends]
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    out += [f'<text x="{left - 4}" y="{y}" text-anchor="end">{v:.3g}</text>'
            for y, v in ((top + 120, low), (top + 9, high))]
    return out


def picture(data):
    r = Result(data)
    out = []
    for row, axis in enumerate(axes_of(r)):
        top = 30 + 180 * row
        memory = [(x, y / 2**20) for x, y in r.growth(axis, "peak_rss_bytes")]
        out += panel(axis, r.growth(axis, "tokens_per_s_median"), "#1f5fa8", 60, top, "tokens/s")
        out += panel(axis, memory, "#a8471f", 360, top, "peak MiB")
    height = 30 + 180 * max(1, len(axes_of(r)))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 {height}" '
            f'font-family="sans-serif" font-size="11"><rect width="600" height="{height}" '
            f'fill="#fff"/>\n' + "\n".join(out) + "\n</svg>\n")


def pages(page, results):
    """{file name: text} of the page and its pictures; `page` is the text as it stands."""
    head = page.split(MARK)[0]
    body = "\n".join(section(stem, data) for stem, data in results)
    out = {"performance.md": head + MARK + "\n\n" + (body or "No results yet.\n")}
    for stem, data in results:
        if Result(data).of("growth"):
            out[f"performance-{stem}.svg"] = picture(data)
    return out
