"""Whether two training runs, given by their output folders, came to the same but for roundings: losses and evaluations of log.jsonl
(from step --from on) within 1e-5 of each other, and every tensor of model/model.safetensors, which must be float32, within 1e-5 of its
length."""
import argparse
import array
import json
import math
import pathlib
import struct
import sys


def tensors(path):
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    for info in header.values():
        if info["dtype"] != "F32":
            sys.exit(f"{path}: not float32")
    cut = lambda info: array.array("f", data[8 + length + info["data_offsets"][0] : 8 + length + info["data_offsets"][1]])
    return {name: (info["shape"], cut(info)) for name, info in header.items()}


def told(folder, first):
    lines = map(json.loads, (pathlib.Path(folder) / "log.jsonl").read_text().splitlines())
    return {(r["step"], key): r[key] for r in lines for key in ("loss", "eval_loss", "grad_norm") if key in r and r["step"] >= first}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("a")
parser.add_argument("b")
parser.add_argument("--from", type=int, default=1, dest="first")
options = parser.parse_args()
a, b = told(options.a, options.first), told(options.b, options.first)
if a.keys() != b.keys() or not a:
    sys.exit(f"other steps: {sorted(a.keys() ^ b.keys())}")
for key in a:
    if abs(a[key] - b[key]) > (1e-4 if key[1] == "grad_norm" else 1e-5) * abs(a[key]):
        sys.exit(f"{key}: {a[key]} and {b[key]}")
a, b = (tensors(pathlib.Path(folder) / "model" / "model.safetensors") for folder in (options.a, options.b))
if {n: t[0] for n, t in a.items()} != {n: t[0] for n, t in b.items()}:
    sys.exit("other tensors")
for name, (_, x) in a.items():
    apart = math.sqrt(sum((p - q) ** 2 for p, q in zip(x, b[name][1])))
    if apart > 1e-5 * math.sqrt(sum(p * p for p in x)):
        sys.exit(f"{name}: {apart} apart")
