"""docs/performance.md and its picture, from all bench/results/machine-*.json.

    bench/tables.py [--check]     --check: fails if the files in docs are not what the results give
"""
import json
import math
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# (work, who, against, goals by instruction set): ratios of medians of one run; against None: share of
# peak
SPEED = [
    ("R, 1280 tokens", "f32", None, {"avx2": (0.78, 0.84), "avx512": (0.72, 0.80)}),
    ("R, 1280 tokens", "f32, AVX2", None, {"avx512": (0.78, 0.84)}),
    ("R, 128 tokens", "f32", None, {"avx2": (0.62, 0.68), "avx512": (0.50, 0.56)}),
    ("R, 128 tokens", "f32, AVX2", None, {"avx512": (0.62, 0.68)}),
    ("R, 1280 tokens", "bf16", None, {"avx512": (0, 0.55)}),
    ("128 wide, 512 tokens", "f32", None, {"avx2": (0.55, 0.65), "avx512": (0.45, 0.55)}),
    ("128 wide, 512 tokens", "f32, AVX2", None, {"avx512": (0.55, 0.65)}),
    ("64 wide, 512 tokens", "f32", None, {"avx2": (0.45, 0.55), "avx512": (0.35, 0.45)}),
    ("64 wide, 512 tokens", "f32, AVX2", None, {"avx512": (0.45, 0.55)}),
    ("R, 1280 tokens", "f32", "PyTorch eager", {"avx512": (2.4, 3.0), "avx2": (0, 0)}),
    ("R, 1280 tokens", "f32", "PyTorch compiled", {"avx512": (1.9, 2.2), "avx2": (1.2, 1.4)}),
    ("R, 1280 tokens", "bf16", "PyTorch bf16 compiled", {"avx512": (1.15, 1.3)}),
    ("SmolLM2-135M, 1024 tokens", "f32", "PyTorch compiled",
     {"avx512": (2.0, 2.6), "avx2": (1.2, 1.4)}),
    ("SmolLM2-135M, 1024 tokens", "bf16", "PyTorch bf16 compiled", {"avx512": (1.3, 1.6)}),
    ("R, 1280 tokens", "f32", "over OpenBLAS", {"avx512": (1.0, 1.15), "avx2": (1.0, 1.15)}),
    ("R, 1280 tokens", "f32", "f32, 1 thread", {"avx512": (1.9, 1.96), "avx2": (1.9, 1.96)}),
    ("R, 1280 tokens", "low-rank head", "f32", {"avx512": (1.0, 1.4), "avx2": (1.0, 1.4)}),
]
GEMM_KERNELS = ("linear forward", "linear dx", "linear dw", "linear pack")


def verdict(value, goals, low_is_good=False):
    if goals is None:
        return "", ""
    must, aim = goals
    good = (lambda x, y: x <= y) if low_is_good else (lambda x, y: x >= y)
    if not must and not aim:
        return "–", ""
    return (f"{must:g} / {aim:g}" if must else f"– / {aim:g}",
            "aim" if good(value, aim) else "must" if good(value, must) else "**missed**")


def targets(r):
    """Rows of the table of targets: what, measured, must / aim, met."""
    step = {(row["work"], row["who"]): row for row in r.get("step", [])}
    isa = r["machine"]["isa"]
    for work, who, against, goals in SPEED:
        row, other = step.get((work, who)), step.get((work, against))
        if not row or (against and not other):
            continue
        value = row["median"] / other["median"] if against else row["share_of_peak"]
        unit = f"{value:.2f}x" if against else f"{100 * value:.1f} %"
        what = f"{work}: {who}" + (f" against {against}" if against else ", share of peak")
        yield what, unit, *verdict(value, goals.get(isa))
    own, eager = step.get(("R, 1280 tokens", "f32")), step.get(("R, 1280 tokens", "PyTorch eager"))
    if own:
        outside = 1 - sum(own["kernels"].get(k, 0) for k in GEMM_KERNELS)
        yield ("R, 1280 tokens: time outside products", f"{100 * outside:.1f} %",
               *verdict(outside, {"avx2": (.08, .06), "avx512": (.14, .09)}.get(isa), True))
    if own and eager:
        ratio = own["peak_rss_bytes"] / eager["peak_rss_bytes"]
        yield ("R, 1280 tokens: peak memory against PyTorch eager", f"{ratio:.2f}x",
               *verdict(ratio, (.5, .4), True))
    f32 = [c for c in r.get("gemm", []) if c["compute"] == "f32"]
    for name in sorted({c["isa"] for c in f32}):
        shares = [c["share_of_peak"] for c in f32 if c["isa"] == name]
        yield (f"products alone, f32 {name}: median", f"{100 * statistics.median(shares):.1f} %",
               *verdict(statistics.median(shares), (.85, .92)))
        yield (f"products alone, f32 {name}: worst", f"{100 * min(shares):.1f} %",
               *verdict(min(shares), (.72, .80)))


def exponent(points):
    """Slope of a least-squares line through (log x, log y)."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    mx, my = statistics.mean(xs), statistics.mean(ys)
    return (sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sum((x - mx) ** 2 for x in xs))


def axes(r):
    out = {}
    for row in r.get("growth", []):
        out.setdefault(row["axis"], []).append(row)
    return out


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def step_table(r):
    rows = []
    for row in r["step"]:
        share = f"{100 * row['share_of_peak']:.1f} %" if "share_of_peak" in row else ""
        rows.append((row["work"], row["who"], f"{row['median']:.0f}", f"{row['best']:.0f}", share,
                     f"{row['peak_rss_bytes'] / 2**20:.0f}"))
    return table(("work", "who", "tokens/s, median", "best", "share of peak", "peak MiB"), rows)


def kernel_table(r):
    columns = [row for row in r["step"] if row["work"] == "R, 1280 tokens" and "kernels" in row
               and row["who"] in ("f32", "bf16")]
    names = sorted({k for row in columns for k in row["kernels"]},
                   key=lambda k: -columns[0]["kernels"].get(k, 0))
    return table(("R, 1280 tokens: share of the step", *(row["who"] for row in columns)),
                 [(k, *(f"{100 * row['kernels'].get(k, 0):.1f} %" for row in columns))
                  for k in names])


def gemm_table(r):
    cells, kinds = {}, []
    for c in r["gemm"]:
        kind = f"{c['compute']} {c['isa']}"
        kinds += [kind] if kind not in kinds else []
        key = (f"{c['tokens']} x {c['rows']} x {c['cols']}", c["op"])
        cells.setdefault(key, {})[kind] = f"{100 * c['share_of_peak']:.0f}"
    return table(("tokens x out x in", "product", *(f"{k}, % of peak" for k in kinds)),
                 [(*key, *(v.get(k, "") for k in kinds)) for key, v in cells.items()])


def growth_table(r):
    rows = []
    for axis, points in axes(r).items():
        for p in points:
            rows.append((axis, f"{p['x']:,}", f"{p['tokens_per_s']:.0f}",
                         f"{100 * p['share_of_peak']:.0f} %", f"{p['peak_rss_bytes'] / 2**20:.0f}",
                         f"{p['peak_rss_bytes'] / p['planned_bytes']:.2f}"))
        speed = exponent([(p["x"], p["tokens_per_s"]) for p in points])
        memory = exponent([(p["x"], p["peak_rss_bytes"]) for p in points])
        rows.append((f"**{axis}, exponent**", "", f"**{speed:+.2f}**", "", f"**{memory:+.2f}**", ""))
    return table(("axis", "value", "tokens/s", "share of peak", "peak MiB", "of the plan"), rows)


def decode_table(r):
    return table(("model", "tokens/s", "prefill of 64, tokens/s", "GB/s", "machine reads, GB/s"),
                 [(d["model"], f"{d['tokens_per_s_median']:.1f}",
                   f"{d['prefill_tokens_per_s']:.0f}", f"{d['gbs']:.1f}", f"{d['read_gbs']:.1f}")
                  for d in r["decode"]])


WIDTH, HEIGHT, LEFT, TOP = 230, 170, 46, 26


def panel(name, points, x0, y0):
    """Tokens/s (line) and memory (dashed) over one axis, both logarithmic, each to its own range."""
    def scaled(values, length):
        logs = [math.log(v) for v in values]
        low, span = min(logs), (max(logs) - min(logs)) or 1
        return [(v - low) / span * length for v in logs]

    w, h = WIDTH - LEFT - 14, HEIGHT - TOP - 26
    xs = scaled([p["x"] for p in points], w)
    out = [f'<g transform="translate({x0 + LEFT},{y0 + TOP})">',
           f'<text x="{w / 2:.0f}" y="-10" text-anchor="middle" font-weight="bold">{name}</text>',
           f'<rect width="{w}" height="{h}" fill="none" stroke="#ccc"/>']
    for key, color, dash in (("tokens_per_s", "#0a6", ""),
                             ("peak_rss_bytes", "#c50", ' stroke-dasharray="4 3"')):
        ys = scaled([p[key] for p in points], h - 12)
        line = " ".join(f"{x:.1f},{h - 6 - y:.1f}" for x, y in zip(xs, ys))
        out.append(f'<polyline points="{line}" fill="none" stroke="{color}"{dash}/>')
    out.append(f'<text y="{h + 14}">{points[0]["x"]:,}</text><text x="{w}" y="{h + 14}" '
               f'text-anchor="end">{points[-1]["x"]:,}</text>')
    fast = [p["tokens_per_s"] for p in points]
    out.append(f'<text x="-4" y="10" text-anchor="end" fill="#0a6">{max(fast):,.0f}</text>'
               f'<text x="-4" y="{h}" text-anchor="end" fill="#0a6">{min(fast):,.0f}</text></g>')
    return "\n".join(out)


def picture(r):
    panels = [panel(name, points, WIDTH * i, 0) for i, (name, points) in enumerate(axes(r).items())]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * len(panels)}" '
            f'height="{HEIGHT}" font-family="sans-serif" font-size="11">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(panels) + "\n</svg>\n")


def document(results):
    files, text = {}, [
        "# Performance\n",
        "Made by `bench/run` from `bench/results`; do not edit. Medians of interleaved runs on one machine;\n"
        "a share of peak is of the FMA peak that a probe reaches in the same run with the same instructions\n"
        "(bf16: of the bfloat16 peak). R is the reference shape: 512 wide, 4 layers, 8 heads (2 kv), ffn 1408,\n"
        "16893 ids, windows of 128.\n"]
    for name, r in results.items():
        m = r["machine"]
        text.append(f"## {m['cpu']}, {m['cores']} cores, {m['isa']}\n")
        text.append(f"FMA peak {m['peak_gflops']:.0f} GFLOP/s, reads {m['read_gbs']:.0f} GB/s; " +
                    ", ".join(f"{k} {v}" for k, v in r["versions"].items()) + ".\n")
        rows = list(targets(r))
        if rows:
            text += ["### Targets\n", table(("what", "measured", "must / aim", "met"), rows)]
        for key, title, make in (("step", "Training steps", step_table),
                                 ("step", "Where the time goes", kernel_table),
                                 ("gemm", "Products alone", gemm_table),
                                 ("growth", "Growth", growth_table),
                                 ("decode", "Generation", decode_table)):
            if r.get(key):
                text += [f"### {title}\n", make(r)]
                if key == "growth":
                    files[f"growth-{name}.svg"] = picture(r)
                    text.append(f"![tokens/s (line) and peak memory (dashed)](growth-{name}.svg)\n")
    files["performance.md"] = "\n".join(text)
    return files


def main():
    results = {p.stem.removeprefix("machine-"): json.loads(p.read_text())
               for p in sorted((ROOT / "bench" / "results").glob("machine-*.json"))}
    stale = 0
    for name, text in document(results).items():
        path = ROOT / "docs" / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"docs/{name} is not what bench/results give: run bench/tables.py")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
