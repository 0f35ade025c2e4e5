#!/usr/bin/env python3
"""Compares token ids with the reference on files, on random text made of what tokenizers get wrong, and on long runs of
one thing. Prints the first differences; the exit status says if there were any.

Usage: python tools/compare_tokenizer.py --program build/release/tokenizer_speed --tokenizer FOLDER
           [--reference qwen2|qwen35|qwen1|bytes|file] [--random N] [--seed S] [--no-long] [FILE...]
FILEs are UTF-8 text, maybe .xz or .gz. References:
  qwen2, qwen35  the Python package `tokenizers`, from vocab.json, merges.txt and tokenizer_config.json of FOLDER, with the
                 pre-tokeniser of that generation; all kinds of text, added tokens among it
  qwen1          the package `tiktoken`, from qwen.tiktoken (or .xz) of FOLDER and the first generation's special tokens
  file           the package `tokenizers`, from tokenizer.json of FOLDER as it is: vocabularies of characters (CodeQwen1.5)
  bytes          any bytes, UTF-8 or not, by a model in Python: characters by surrogateescape, pieces by the package
                 `regex`, normalised between invalid bytes, merged by tiktoken; added tokens are not in the text
"""
import argparse
import base64
import gzip
import json
import lzma
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata

import regex
import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

REGEX = {
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen35": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
TRICKY = list(" \t\r\n\x0b\x0c\x85\xa0\u3000\u2028'sStTrReEvVmMlLdD\u017f1２²Ⅷ٣,.!?-_=/\\<>|，。「」中文春éÉǅʰªßñ"
              "\u0301\u0316\u0345\u0338\u093c\u0915\u1100\u1161\u11a8가각한\u0b47\u0b3e\u200b\u200d\ufeff😀👩🏽🇨🇳\x00\x1c\x1f\x7f"
              "\u0e33กำ\U0001e4ec\U0001d165\U0001d158\u2126\u212b\u0344\u1fef\u0374\ufb1d\ufa10\U0002f800") + [
    "'re", "'LL", "  ", "\n\n", "\r\n", "    ", "--", "==", "\u1112\u1161\u11ab", "e\u0301", "\u0344\u0316"]
SPECIAL = ["\u2581", "<|im_start|>", "<|endoftext|>", "<|im_", "|>", "<|im_end|>", "<|im_start|", "<<|im_end|>>", "<|extra_0|>"]
LONG = ["a" * 300000, "😀" * 30000, "春" * 100000, " " * 300000, "\n" * 100000, "ab" * 100000, "=" * 100000,
        "e\u0301" * 50000, "\u0316\u0301" * 30000, "春眠不覺曉" * 5000, "7" * 100000, "\u0301" * 50000,
        "".join(chr(c) for c in range(0x4E00, 0xA000)), "".join(chr(c) for c in range(0x21, 0x2C00))]
CHUNK_CHARS = 1 << 14  # short, so that a difference is found again
BATCH = 20000          # texts a run of the program
NFC = normalizers.NFC()


class Reference:
    """The tokenizer built from its parts, as transformers does it."""

    def __init__(self, folder, pre):
        vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        t = self.tokenizer = Tokenizer(BPE(vocab, [tuple(line.split(" ")) for line in lines[1:] if line]))
        t.normalizer = NFC
        t.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(REGEX[pre]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        for _, entry in sorted(config["added_tokens_decoder"].items(), key=lambda item: int(item[0])):
            token = AddedToken(entry["content"], special=entry["special"], normalized=entry.get("normalized", False))
            (t.add_special_tokens if entry["special"] else t.add_tokens)([token])

    def encode(self, texts):
        return [e.ids for e in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


class FromFile(Reference):
    def __init__(self, folder):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))


def read_ranks(folder):
    """qwen.tiktoken, or else what vocab.json says."""
    for name, opened in (("qwen.tiktoken", open), ("qwen.tiktoken.xz", lzma.open)):
        if (folder / name).exists():
            with opened(folder / name, "rb") as f:
                return {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in f.read().splitlines() if line}
    sys.exit(f"{folder}: no qwen.tiktoken")


class Tiktoken:
    def __init__(self, folder):
        ranks = read_ranks(folder)
        names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)]
        self.tokenizer = tiktoken.Encoding("qwen", pat_str=REGEX["qwen2"], mergeable_ranks=ranks,
                                           special_tokens={name: len(ranks) + i for i, name in enumerate(names)})

    def encode(self, texts):
        return [self.tokenizer.encode(NFC.normalize_str(text), allowed_special="all") for text in texts]


class Bytes(Tiktoken):
    def encode(self, texts):
        return [self.encode_bytes(text) for text in texts]

    def encode_bytes(self, data):
        text = data.decode("utf-8", "surrogateescape")
        text = "".join(part if re.match("[\udc80-\udcff]", part) else NFC.normalize_str(part)
                       for part in re.split("([\udc80-\udcff]+)", text) if part)
        return [i for piece in regex.findall(REGEX["qwen2"], text)
                for i in self.tokenizer._encode_single_piece(piece.encode("utf-8", "surrogateescape"))]


def random_char(rng):
    """Any character that every Unicode in use here knows."""
    while True:
        c = chr(rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0xD800),
                            rng.randrange(0xE000, 0x30000), rng.randrange(0xE000, 0x110000)]))
        if unicodedata.category(c) != "Cn":
            return c


def random_text(rng, known, specials):
    """Tricky characters, any characters, or pieces of tokens in a row, which is where merges meet."""
    n = rng.randrange(1, rng.choice([4, 12, 40]))
    kind = rng.randrange(4)
    if kind == 0:
        return "".join(rng.choice(known)[:rng.randrange(1, 9)] for _ in range(n))
    if kind == 1:
        few = [rng.choice(TRICKY) for _ in range(rng.randrange(1, 5))]
        return "".join(rng.choice(few) for _ in range(n))
    if kind == 2:
        few = [random_char(rng) if rng.random() < 0.5 else rng.choice(known) for _ in range(rng.randrange(1, 6))]
        return "".join(rng.choice(few) for _ in range(n))
    return "".join(rng.choice(specials) if specials and rng.random() < 0.06 else
                   rng.choice(TRICKY) if rng.random() < 0.8 else random_char(rng) for _ in range(n))


def random_bytes(rng, known):
    """Text with bytes lost, changed and put in; or any bytes. No characters that only some Unicode knows."""
    while True:
        data = changed_bytes(rng, known)
        if not any(unicodedata.category(c) == "Cn" for c in data.decode("utf-8", "ignore")):
            return data


def changed_bytes(rng, known):
    if rng.random() < 0.2:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 24)))
    data = bytearray(random_text(rng, known, []).encode())
    for _ in range(rng.randrange(1, 4)):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(3)
        if kind == 0:
            data[at:at] = bytes([rng.choice([0x80, 0xBF, 0xC0, 0xC3, 0xCC, 0xE0, 0xE4, 0xED, 0xF0, 0xF4, 0xF8, 0xFF])])
        elif kind == 1:
            del data[at:at + 1]
        elif at < len(data):
            data[at] = rng.randrange(256)
    return bytes(data)


def open_text(path):
    opened = lzma.open if path.endswith(".xz") else gzip.open if path.endswith(".gz") else open
    return opened(path, "rt", encoding="utf-8", newline="", errors="replace")


def known_words(folder, reference):
    """What tokens look like, as text."""
    if reference == "file":
        vocab = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
        return [token.replace("\u2581", " ") for token in vocab]
    words = []
    for token in read_ranks(folder):
        try:
            words.append(token.decode())
        except UnicodeDecodeError:
            continue
    return words


def texts(args):
    rng = random.Random(args.seed)
    known = known_words(args.tokenizer, args.reference)
    for _ in range(args.random):
        yield random_bytes(rng, known) if args.reference == "bytes" else random_text(rng, known, SPECIAL)
    as_input = (lambda text: text.encode()) if args.reference == "bytes" else (lambda text: text)
    if not args.no_long:
        yield from map(as_input, LONG)
    for path in args.files:
        with open_text(path) as f:
            while chunk := f.read(CHUNK_CHARS):
                yield as_input(chunk)


def folder_of(args, scratch):
    """What the program is to load: for qwen35 and qwen1 the files say which generation it is."""
    if args.reference in ("qwen1", "bytes"):
        opened = lzma.open if (args.tokenizer / "qwen.tiktoken.xz").exists() else open
        with opened(next(args.tokenizer.glob("qwen.tiktoken*")), "rb") as source, open(scratch / "qwen.tiktoken", "wb") as to:
            shutil.copyfileobj(source, to)
        return scratch
    if args.reference in ("qwen2", "file"):
        return args.tokenizer
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(args.tokenizer / name, scratch / name)
    config = json.loads((args.tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["tokenizer_class"] = "Qwen3_5Tokenizer"
    (scratch / "tokenizer_config.json").write_text(json.dumps(config))
    return scratch


def run_program(program, folder, batch, scratch):
    with open(scratch / "documents", "wb") as f:
        for text in batch:
            data = text if isinstance(text, bytes) else text.encode()
            f.write(struct.pack("<I", len(data)) + data)
    done = subprocess.run([program, folder, scratch / "documents"], input="ids 0\n", stdout=subprocess.PIPE, text=True,
                          check=True)
    return [list(map(int, line.split())) for line in done.stdout.split("\n")[:-1]]


def batches(items):
    batch, size = [], 0
    for item in items:
        batch.append(item)
        size += len(item)
        if len(batch) == BATCH or size > 1 << 23:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--reference", default="qwen2", choices=["qwen2", "qwen35", "qwen1", "bytes", "file"])
    parser.add_argument("--random", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-long", action="store_true")
    parser.add_argument("files", nargs="*")
    args = parser.parse_args()
    kinds = {"qwen1": Tiktoken, "bytes": Bytes, "file": FromFile}
    reference = kinds[args.reference](args.tokenizer) if args.reference in kinds else Reference(args.tokenizer, args.reference)
    compared = tokens = different = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folder = folder_of(args, scratch)
        for batch in batches(texts(args)):
            ours = run_program(args.program, folder, batch, scratch)
            for text, got, want in zip(batch, ours, reference.encode(batch), strict=True):
                compared, tokens = compared + 1, tokens + len(want)
                if got != want:
                    different += 1
                    if different <= 5:
                        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
                        print(f"{text[:60]!r}: token {at}: {got[at:at + 8]} instead of {want[at:at + 8]}")
    print(f"{args.reference}, seed {args.seed}: {compared} texts, {tokens} tokens, {different} different")
    sys.exit(different != 0)


main()
