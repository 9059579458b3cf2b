"""A PyTorch peer for bench.py: holds one model, and times updates whenever it is told to.

Reads shape and way to run from its argument (JSON). For each line on standard input it runs updates
for that many seconds and answers with a line of JSON: tokens per second of each update, peak RSS.
"""
import json
import resource
import sys
import time

import torch

from llama import Llama, adamw


def main():
    a = json.loads(sys.argv[1])
    torch.set_num_threads(a["threads"])
    torch.manual_seed(0)
    model = Llama(a["vocab"], a["dim"], a["layers"], a["heads"], a["kv"], a["ffn"], a["seq"])
    optimizer = adamw(model, 1e-4)
    forward = torch.compile(model) if a["compile"] else model
    ids = torch.randint(0, a["vocab"], (a["tokens"] // a["seq"], a["seq"]))
    targets = ids.roll(-1, 1)

    def update():
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=a["bf16"]):
            loss = forward(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    update()
    update()
    print("ready", flush=True)
    for line in sys.stdin:
        times, end = [], time.perf_counter() + float(line)
        while len(times) < 3 or time.perf_counter() < end:
            times.append(update())
        unit = 1 if sys.platform == "darwin" else 1024
        print(json.dumps({"tokens_per_s": [a["tokens"] / t for t in times], "peak_rss_bytes":
                          resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}), flush=True)


if __name__ == "__main__":
    main()
