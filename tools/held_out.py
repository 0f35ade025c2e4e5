#!/usr/bin/env python3
"""Bits per byte on text that a model never saw, against two baselines measured in the same run.

  tools/held_out.py --corpus DIR [--program build/release/qianwen] [--model mini] [--json]

For every source: the last 1 % of its documents (exact copies dropped, as `qianwen data build` does), one below the other,
is the held-out text.

  model    `qianwen score`, one run over the text as it stands
  xz       `xz -9e` of the whole file: what a general compressor makes of it
  5-gram   interpolated Kneser-Ney over characters, trained on the other 99 % of the same file; characters that were
           never seen share the probability of one that was seen once, spread over 2^16 code points
Needs numpy.
"""
import argparse
import json
import lzma
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ORDER = 5
HELD_OUT = 0.01
SOURCES = ["zh_poems_tang", "zh_poems_song", "zh_ci_song", "zh_poems_other"]
UNSEEN = 1 << 16


def split(path):
    """The documents of a file, parted by blank lines, as training text and held-out text."""
    text = lzma.open(path, "rt", encoding="utf-8").read() if path.suffix == ".xz" else path.read_text(encoding="utf-8")
    documents = list(dict.fromkeys(d.strip("\n") for d in text.split("\n\n") if d.strip("\n")))
    tail = int(HELD_OUT * len(documents))
    return text, "\n\n".join(documents[:-tail]) + "\n\n", "\n\n".join(documents[-tail:]) + "\n"


def keys(ids, n):
    """One 64-bit hash for each n-gram ids[i : i + n]."""
    out = np.zeros(len(ids) - n + 1, np.uint64)
    for k in range(n):
        out = out * np.uint64(0x9E3779B97F4A7C15) + ids[k : len(ids) - n + 1 + k] + np.uint64(1)
    return out


def look_up(table, values, wanted):
    at = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return np.where(table[at] == wanted, values[at], 0)


def n_gram_bits(train, test):
    """Bits that an interpolated Kneser-Ney model of `train` needs for `test`."""
    alphabet = np.unique(np.frombuffer(train.encode("utf-32-le"), np.uint32))
    encode = lambda text: np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    train_ids, test_ids = encode(train), encode(test)
    seen = np.isin(test_ids, alphabet.astype(np.uint64))
    # The first ORDER - 1 characters are predicted from the end of the training text.
    line = np.concatenate([train_ids[-(ORDER - 1):], test_ids])
    longer, suffixes = None, None
    levels = []
    for n in range(ORDER, 0, -1):
        if n == ORDER:  # counts
            grams, first, counts = np.unique(keys(train_ids, n), return_index=True, return_counts=True)
        else:           # of how many different longer n-grams this one is the end
            grams, first, counts = np.unique(suffixes, return_index=True, return_counts=True)
            first = longer[first] + 1
        ends = keys(train_ids, n - 1) if n > 1 else None
        context = keys(train_ids, n - 1)[first] if n > 1 else np.zeros(len(grams), np.uint64)
        order = np.argsort(context, kind="stable")
        contexts, start = np.unique(context[order], return_index=True)
        totals = np.add.reduceat(counts[order], start)
        kinds = np.diff(np.append(start, len(order)))
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        levels.append((n, grams, counts, contexts, totals, kinds, once / (once + 2 * twice)))
        longer = first
        suffixes = ends[first + 1] if n > 1 else None
    # An unseen character gets the weight of one more that occurred once.
    probability = np.where(seen, 1.0 / len(alphabet), 0.0) * len(alphabet) / (len(alphabet) + 1)
    probability += np.where(seen, 0.0, 1.0 / (len(alphabet) + 1) / UNSEEN)
    for n, grams, counts, contexts, totals, kinds, discount in reversed(levels):
        cut = line[ORDER - n :]
        wanted = keys(cut, n)
        context = keys(cut[:-1], n - 1) if n > 1 else np.zeros(len(wanted), np.uint64)
        count, total, kind = (look_up(grams, counts, wanted), look_up(contexts, totals, context), look_up(contexts, kinds, context))
        known = total > 0
        total = np.maximum(total, 1)
        mixed = np.maximum(count - discount, 0) / total + discount * kind / total * probability
        probability = np.where(known, mixed, probability)
    return float(-np.log2(probability).sum())


def model_bits(program, model, text):
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write(text)
        file.flush()
        out = subprocess.run([program, "score", "-m", model, "--file", file.name, "--json"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["nll"] / math.log(2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="build/release/qianwen")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in SOURCES:
        path = next((p for end in (".txt.xz", ".txt") if (p := pathlib.Path(options.corpus) / (name + end)).exists()), None)
        if path is None:
            print(f"{name}: no such file in {options.corpus}", file=sys.stderr)
            return 3
        whole, train, test = split(path)
        size = len(test.encode())
        raw = whole.encode()
        rows.append({
            "source": name, "bytes": size,
            "model": model_bits(options.program, options.model, test) / size,
            "xz": 8 * len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)) / len(raw),
            "5-gram": n_gram_bits(train, test) / size,
        })
        if not options.json:
            row = rows[-1]
            if len(rows) == 1:
                print(f"{'source':16} {'bytes':>8} {options.model:>8} {'5-gram':>8} {'xz -9e':>8}   bits a byte")
            print(f"{name:16} {size:8d} {row['model']:8.3f} {row['5-gram']:8.3f} {row['xz']:8.3f}", flush=True)
    if options.json:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
