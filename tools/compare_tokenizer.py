#!/usr/bin/env python3
"""Compares token ids with the reference (the Python package `tokenizers`) on corpora, on random text made of what
tokenizers get wrong, and on long runs of one thing. Prints the first differences; the exit status says if there were any.

Usage: python tools/compare_tokenizer.py --program build/release/qianwen --tokenizer FOLDER [--random N] [--seed S] [FILE...]
FOLDER holds vocab.json, merges.txt and tokenizer_config.json; FILEs are UTF-8 text, maybe .xz.
"""
import argparse
import json
import lzma
import pathlib
import random
import subprocess
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

REGEX = {
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen35": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
TRICKY = list(" \t\r\n\x0b\x0c\x85\xa0\u3000\u2028'sStTrReEvVmMlLdD\u017f1２²Ⅷ٣,.!?-_=/\\<>|，。「」中文春éÉǅʰªßñ"
              "\u0301\u0316\u0345\u0338\u093c\u0915\u1100\u1161\u11a8가각한\u0b47\u0b3e\u200b\u200d\ufeff😀👩🏽🇨🇳\x00\x1c\x1f\x7f"
              "\u0e33กำ\U0001e4ec\U0001d165\U0001d158\u2126\u212b\u0344\u1fef\u0374\ufb1d\ufa10\U0002f800") + [
    "<|im_start|>", "<|endoftext|>", "<|im_", "|>", "'re", "'LL", "  ", "\n\n", "\r\n"]
LONG = ["a" * 300000, "😀" * 30000, "春" * 100000, " " * 300000, "\n" * 100000, "ab" * 100000, "=" * 100000,
        "e\u0301" * 50000, "\u0316\u0301" * 30000, "春眠不覺曉" * 5000]
# Long enough to be quick, short enough that a difference is found again.
CHUNK_CHARS = 1 << 18


def reference(folder, pre):
    """The tokenizer built from its parts, as transformers does it."""
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [tuple(line.split(" ")) for line in lines[1:] if line]
    t = Tokenizer(BPE(vocab, merges))
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(REGEX[pre]), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for _, entry in sorted(config["added_tokens_decoder"].items(), key=lambda item: int(item[0])):
        token = AddedToken(entry["content"], special=entry["special"], normalized=entry.get("normalized", False))
        (t.add_special_tokens if entry["special"] else t.add_tokens)([token])
    return t


def random_text(rng):
    def anything():
        return chr(rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0xD800),
                               rng.randrange(0xE000, 0x30000), rng.randrange(0xE000, 0x110000)]))
    n = rng.randrange(1, rng.choice([4, 12, 40]))
    return "".join(rng.choice(TRICKY) if rng.random() < 0.8 else anything() for _ in range(n))


def texts(args):
    rng = random.Random(args.seed)
    yield from (random_text(rng) for _ in range(args.random))
    yield from LONG
    for path in args.files:
        opened = lzma.open(path, "rt", encoding="utf-8", newline="") if path.endswith(".xz") else open(
            path, encoding="utf-8", newline="")
        with opened as f:
            while chunk := f.read(CHUNK_CHARS):
                yield chunk


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--pre", default="qwen2", choices=REGEX)
    parser.add_argument("--random", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("files", nargs="*")
    args = parser.parse_args()
    ours = subprocess.Popen([args.program, "tokenize", "-m", args.tokenizer, "--file", "-", "--lines"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    t = reference(args.tokenizer, args.pre)
    compared = tokens = different = 0
    batch = list(texts(args))
    out, _ = ours.communicate("".join(json.dumps(text) + "\n" for text in batch))
    for text, line in zip(batch, out.splitlines(), strict=True):
        want, got = t.encode(text, add_special_tokens=False).ids, json.loads(line)["ids"]
        compared, tokens = compared + 1, tokens + len(want)
        if got != want:
            different += 1
            if different <= 5:
                print(f"{text[:60]!r}: {got[:20]} instead of {want[:20]}")
    print(f"{compared} texts, {tokens} tokens, {different} different")
    sys.exit(different != 0 or ours.returncode != 0)


main()
