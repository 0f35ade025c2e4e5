#!/usr/bin/env python3
"""Speed of encoding beside tiktoken and Hugging Face tokenizers: same vocabulary, same documents, one thread, taking
turns in one run, so that whatever else the machine does falls on all alike. Ids are compared on the way.

Usage: python bench/tokenizer_compare.py --program build/release/tokenizer_speed --tokenizer FOLDER [--rounds N]
           [--chars N] [--document-chars N] NAME=FILE[,FILE...]...
FOLDER holds vocab.json, merges.txt and tokenizer_config.json; FILEs are UTF-8 text, maybe .xz. A corpus is the first
--chars characters of its files together, cut at line ends into documents of about --document-chars. tiktoken does not
normalise, so texts should be in NFC (it is said if its ids differ). Hugging Face is timed by encode_batch_fast, its
quickest call. Printed: the median over the rounds, MB/s = 10^6 bytes of UTF-8 a second, and our first pass, when
nothing is warm. Times are processor time, which other programs' turns on the processor do not enter. --long times megabytes of one thing instead, and their cost beside the half of it (2 is linear).
"""
import argparse
import json
import lzma
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tiktoken  # noqa: E402: the environment must be set first
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers  # noqa: E402
from tokenizers.models import BPE  # noqa: E402

REGEX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LONG = {"a": "a", "space": " ", "newline": "\n", "digits": "7", "=": "=", "emoji": "😀", "han": "春", "marks": "\u0301",
        "e+mark": "e\u0301", "two marks": "\u0301\u0316", "ab": "ab", "hangul": "각", "jamo": "\u1100\u1161\u11a8",
        "\\0": "\0", "sentence": "春眠不覺曉"}


def fnv(lists):
    h = 0xCBF29CE484222325
    for ids in lists:
        for i in ids:
            h = ((h ^ i) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def peers(folder):
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    merges = [tuple(line.split(" ")) for line in (folder / "merges.txt").read_text(encoding="utf-8").split("\n")[1:] if line]
    hf = Tokenizer(BPE(vocab, merges))
    hf.normalizer = normalizers.NFC()
    hf.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(REGEX), "isolated"),
                                                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    added = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    for _, entry in sorted(added.items(), key=lambda item: int(item[0])):
        hf.add_special_tokens([AddedToken(entry["content"], special=entry["special"])])
    itself = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(b): b for b in itself}
    letters.update({chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in itself)})
    ranks = {bytes(letters[c] for c in token): rank for token, rank in vocab.items()}
    tt = tiktoken.Encoding("qwen", pat_str=REGEX, mergeable_ranks=ranks,
                           special_tokens={e["content"]: int(i) for i, e in added.items()})
    return tt, hf


def read(paths, chars):
    text = ""
    for path in paths.split(","):
        with (lzma.open(path, "rt", encoding="utf-8", newline="") if path.endswith(".xz")
              else open(path, encoding="utf-8", newline="")) as f:
            text += f.read(chars - len(text))
    return text


def documents_of(text, size):
    out, begin = [], 0
    while begin < len(text):
        end = text.find("\n", begin + size)
        end = len(text) if end < 0 else end + 1
        out.append(text[begin:end])
        begin = end
    return out


class Ours:
    def __init__(self, program, folder, corpora):
        self.scratch = tempfile.TemporaryDirectory()
        files = []
        for n, documents in enumerate(corpora):
            files.append(os.path.join(self.scratch.name, str(n)))
            with open(files[-1], "wb") as f:
                for document in documents:
                    data = document.encode()
                    f.write(struct.pack("<I", len(data)) + data)
        self.process = subprocess.Popen([program, folder, *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, number):
        print(number, file=self.process.stdin, flush=True)
        seconds, tokens, digest = self.process.stdout.readline().split()
        return float(seconds), int(tokens), int(digest)


def timed(call):
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def compare(ours, number, name, documents, tt, hf, rounds):
    size = sum(len(d.encode()) for d in documents)
    first, tokens, digest = ours.run(number)
    mine, tik, hugging = [], [], []
    for _ in range(rounds):
        mine.append(ours.run(number)[0])
        seconds, tik_ids = timed(lambda: [tt.encode_ordinary(d) for d in documents])
        tik.append(seconds)
        seconds, encodings = timed(lambda: hf.encode_batch_fast(documents, add_special_tokens=False))
        hugging.append(seconds)
    same = fnv(e.ids for e in encodings) == digest
    note = "" if fnv(tik_ids) == digest else " (tiktoken's ids differ)"
    m, t, h = map(statistics.median, (mine, tik, hugging))
    rate = size / 1e6
    print(f"{name:12} {rate:6.2f} MB {size / tokens:5.2f} B/token | ours {rate / m:7.1f} MB/s (first {rate / first:6.1f}) | "
          f"tiktoken {rate / t:6.2f} x{t / m:5.2f} | tokenizers {rate / h:6.2f} x{h / m:6.2f} | "
          f"{'ids equal' if same else 'IDS DIFFER'}{note}", flush=True)
    return same


def long_runs(program, folder, rounds):
    bodies = [text * (n // len(text.encode())) for text in LONG.values() for n in (1 << 19, 1 << 20)]
    ours = Ours(program, folder, [[b] for b in bodies])
    worst = 0
    for i, name in enumerate(LONG):
        half, whole = (statistics.median(ours.run(2 * i + k)[0] for _ in range(rounds)) for k in (0, 1))
        worst = max(worst, whole / half)
        print(f"1 MiB of {name:10} {len(bodies[2 * i + 1].encode()) / 1e6 / whole:8.1f} MB/s, {whole / half:.2f} times its half")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chars", type=int, default=1 << 20)
    parser.add_argument("--document-chars", type=int, default=1 << 13)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("corpora", nargs="*")
    args = parser.parse_args()
    if args.long:
        long_runs(args.program, args.tokenizer, args.rounds)
        return
    names, corpora = [], []
    for corpus in args.corpora:
        name, paths = corpus.split("=", 1)
        names.append(name)
        corpora.append(documents_of(read(paths, args.chars), args.document_chars))
    tt, hf = peers(args.tokenizer)
    ours = Ours(args.program, args.tokenizer, corpora)
    results = [compare(ours, n, name, corpora[n], tt, hf, args.rounds) for n, name in enumerate(names)]
    sys.exit(not all(results))


main()
