#!/usr/bin/env python3
"""Writes src/tokenizer/internal/unicode_tables.inc.

The tables say what the reference tokenizer (the Python package `tokenizers`) believes about every code point, because
token ids must equal its ids: the classes come from asking its regex engine, one code point at a time; the canonical
decompositions come from Python's unicodedata, less the characters its older NFC does not know.

Usage: python tools/make_unicode_tables.py > src/tokenizer/internal/unicode_tables.inc
"""
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
ALL = "".join(map(chr, POINTS))
NFC = normalizers.NFC().normalize_str
CLASSES = [("kLetter", r"\p{L}"), ("kNumber", r"\p{N}"), ("kSpace", r"\s"), ("kMark", r"\p{M}")]


def matching(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for piece, _ in split.pre_tokenize_str(ALL) for c in piece}


def ranges(values):
    """{code: value} to [(first, last, value)], equal neighbours joined."""
    out = []
    for code in sorted(values):
        if out and out[-1][1] == code - 1 and out[-1][2] == values[code]:
            out[-1][1] = code
        else:
            out.append([code, code, values[code]])
    return out


def canonical_decomposition(code):
    text = unicodedata.decomposition(chr(code))
    return [int(x, 16) for x in text.split()] if text and not text.startswith("<") else []


def known_combining_classes():
    """Characters whose combining class the reference's NFC knows: it moves them in front of a higher class, or another
    of a lower class in front of them."""
    known = {}
    for code in POINTS:
        ccc = unicodedata.combining(chr(code))
        if ccc == 0:
            continue
        low, high = "\u0334", "\u0345"  # classes 1 and 240, in no composition with the letter x
        moved = NFC("x" + high + chr(code)) != "x" + high + chr(code) or NFC("x" + chr(code) + low) != "x" + chr(code) + low
        if moved or (ccc == 240 and code == 0x345) or code == 0x334:
            known[code] = ccc
    return known


def known_decompositions(ccc):
    """code -> (first, second or 0, composes)"""
    known = {}
    for code in POINTS:
        parts = canonical_decomposition(code)
        if not parts or 0xAC00 <= code <= 0xD7A3:
            continue
        nfd = unicodedata.normalize("NFD", chr(code))
        unchanged = NFC(chr(code)) == chr(code)
        composes = NFC(nfd) == chr(code)
        if unchanged and not composes:
            continue  # a character younger than the reference's tables
        known[code] = (parts[0], parts[1] if len(parts) > 1 else 0, composes)
    return known


def check(ccc, decompositions):
    """Normalises by the tables alone and compares with the reference on every code point in several surroundings."""
    pairs = {(a, b): code for code, (a, b, composes) in decompositions.items() if composes}

    def expand(code):
        if 0xAC00 <= code <= 0xD7A3:
            s = code - 0xAC00
            return [0x1100 + s // 588, 0x1161 + s % 588 // 28] + ([0x11A7 + s % 28] if s % 28 else [])
        if code not in decompositions:
            return [code]
        a, b, _ = decompositions[code]
        return expand(a) + (expand(b) if b else [])

    def compose(a, b):
        if 0x1100 <= a <= 0x1112 and 0x1161 <= b <= 0x1175:
            return 0xAC00 + ((a - 0x1100) * 21 + b - 0x1161) * 28
        if 0xAC00 <= a <= 0xD7A3 and (a - 0xAC00) % 28 == 0 and 0x11A8 <= b <= 0x11C2:
            return a + b - 0x11A7
        return pairs.get((a, b))

    def nfc(text):
        points = [p for c in text for p in expand(ord(c))]
        i = 0
        while i < len(points):
            j = i
            while j < len(points) and ccc.get(points[j], 0):
                j += 1
            points[i:j] = sorted(points[i:j], key=lambda p: ccc[p])
            i = j + 1
        out, starter, last = [], None, -1
        for p in points:
            cc = ccc.get(p, 0)
            joined = compose(out[starter], p) if starter is not None and last < cc else None
            if joined:
                out[starter] = joined
                continue
            if cc == 0:
                starter, last = len(out), -1
            else:
                last = cc
            out.append(p)
        return "".join(map(chr, out))

    for code in POINTS:
        c = chr(code)
        for text in (c, "a" + c, unicodedata.normalize("NFD", c), "a\u0301" + c + "\u0316\u0345b", c + "\u0338", "\u0915" + c + "\u093c"):
            if nfc(text) != NFC(text):
                sys.exit(f"tables disagree with the reference on {[hex(ord(x)) for x in text]}")


def emit(name, kind, rows):
    print(f"constexpr {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        text = " {" + ", ".join(row) + "},"
        if len(line) + len(text) > 120:
            print(line)
            line = "   "
        line += text
    print(line + "\n};")


def main():
    classes = {}
    for name, pattern in CLASSES:
        for code in matching(pattern):
            assert code not in classes, hex(code)
            classes[code] = name
    ccc = known_combining_classes()
    decompositions = known_decompositions(ccc)
    check(ccc, decompositions)
    unstable = {c: "1" for c in ccc}
    unstable.update({c: "1" for c in POINTS if NFC(chr(c)) != chr(c)})
    unstable.update({b: "1" for a, b, composes in decompositions.values() if composes})
    unstable.update({c: "1" for c in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))})
    print(f"// Made by tools/make_unicode_tables.py from tokenizers {tokenizers.__version__} and Unicode "
          f"{unicodedata.unidata_version}; do not edit.")
    print("// Classes of the pre-tokeniser's regex.")
    emit("kClassRanges", "ClassRange", [(hex(a), hex(b), "CharClass::" + v) for a, b, v in ranges(classes)])
    print("// Characters that NFC may change, move or join to the one before.")
    emit("kUnstableRanges", "CodeRange", [(hex(a), hex(b)) for a, b, _ in ranges(unstable)])
    print("// Canonical combining classes other than 0.")
    emit("kCombiningRanges", "CombiningRange", [(hex(a), hex(b), str(v)) for a, b, v in ranges(ccc)])
    print("// Canonical decompositions (Hangul syllables are computed): code, first, second or 0, whether NFC joins them again.")
    emit("kDecompositions", "Decomposition",
         [(hex(c), hex(a), hex(b), "true" if x else "false") for c, (a, b, x) in sorted(decompositions.items())])


main()
