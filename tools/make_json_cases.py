#!/usr/bin/env python3
"""Writes tests/cases/json/: documents with what Python's json makes of them, and floats with their repr.

Two deliberate differences from Python are filtered here: NaN/Infinity literals and unpaired surrogate escapes are
errors for us (RFC 8259), and integers beyond 64 bits become doubles (so they are left to hand-written tests).
"""
import json
import pathlib
import random
import struct

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "cases" / "json"
RNG = random.Random(20240229)

GOOD = [
    "null", "true", "false", "0", "-0", "-0.0", "1", "-1", "12345678901234567", "1.0", "1e5", "1E+5", "1e-5", "0.1",
    "1e16", "1e15", "123456789012345680.0", "0.0001", "0.00001", "1.7976931348623157e308", "5e-324", "2.5e-308",
    "9007199254740993.0", "0.1000000000000000055511151231257827", "1e22", "1e23", "8.41", "2.2250738585072014e-308",
    '""', '"abc"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\u0041\\u00e9\\u4e2d\\ud83d\\ude00"', '"中文 é 😀"', '"\\u007f\x7f"',
    '"\\u0000\\u001f"', '"\\u2028\\u2029"', '"<script>&\'"', "[]", "{}", " [ ] ", "\t{\n}\r ", "[1,2,3]", "[[],[[]],{}]",
    '{"a":1}', '{"b":1,"a":2}', '{"a":1,"a":2}', '{"a":1,"b":2,"a":{"c":[]}}', '{"":0}', '{"a":{"b":{"c":[1,[2,[3]]]}}}',
    '{"\\u0061":1,"a":2}', '[1.0,1,true,null,"x"]', '"\\ufeff"', '"\ufeff"', '{"k\\n":"v\\t"}', "[0,-0,0.0,-0.0,0e0,0E-5]",
    '"' + "x" * 300 + '"', "[" + ",".join(str(i) for i in range(40)) + "]",
    "{" + ",".join(f'"k{i}":{i}' for i in range(40)) + ',"k3":"again"}',
    "9223372036854775807", "-9223372036854775808", '"\U0010ffff\ue000"', '"\\uD834\\uDD1E"', '"\\ufffd\\ufffe\\uffff"',
]
BAD = [
    "", " ", "nul", "nulll", "True", "tru", "01", "-", "-01", "+1", ".5", "1.", "1.e5", "1e", "1e+", "0x10", "1_000", "--1",
    "NaN", "Infinity", "-Infinity", "nan", "[", "]", "{", "}", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1,,2]", "{,}", '{"a"}',
    '{"a":}', '{"a":1,}', '{"a" 1}', "{a:1}", "{'a':1}", '{1:2}', '{"a":1 "b":2}', '"', '"abc', '"\\', '"\\x41"', '"\\u12"',
    '"\\u12g4"', '"\\U0041"', '"\x00"', '"\x1f"', '"a\nb"', '"\t"', "'a'", "1 2", "[] []", "{}x", "[1]]", "// c\n1",
    "/* c */ 1", "[1 /* c */]", "\ufeff1", "\x0b1", "\xa01", '"\\ud800"', '"\\udc00"', '"\\ud800\\ud800"', '"\\ud800x"',
    '"\\udc00\\ud800"', '"\\ud83d\\n"', "[1}", '{"a":1]', "undefined", "1a", "1.5.2", "1e5.5", "\"a\"\"b\"",
]
BAD_BYTES = [b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe4\xbd"', b"\xff", b'{"\x80":1}',
             b'"\xf8\x88\x80\x80\x80"', b'"\xe0\x80\x80"', b'"\xc3"']


def escape(data):
    if isinstance(data, str):
        data = data.encode("utf-8")
    out = []
    for b in data:
        if b == 0x5C:
            out.append("\\\\")
        elif b == 9:
            out.append("\\t")
        elif b == 10:
            out.append("\\n")
        elif 0x20 <= b < 0x7F:
            out.append(chr(b))
        else:
            out.append(f"\\x{b:02x}")
    return "".join(out)


def random_string():
    pools = ["abc XYZ 019", "\"\\/\b\f\n\r\t", "\x00\x01\x1f\x7f", "éñßø", "中文字符", "😀🎉𝄞", "\u2028\ufeff\ufffd"]
    return "".join(RNG.choice(RNG.choice(pools)) for _ in range(RNG.randrange(0, 9)))


def random_value(depth):
    kind = RNG.randrange(8 if depth > 0 else 6)
    if kind == 0:
        return RNG.choice([None, True, False])
    if kind == 1:
        return RNG.randrange(-(2**63), 2**63) >> RNG.randrange(64)
    if kind in (2, 3):
        return random_float()
    if kind in (4, 5):
        return random_string()
    if kind == 6:
        return [random_value(depth - 1) for _ in range(RNG.randrange(5))]
    return {random_string(): random_value(depth - 1) for _ in range(RNG.randrange(5))}


def random_float():
    while True:
        d = RNG.choice([
            lambda: struct.unpack("<d", RNG.randbytes(8))[0],
            lambda: RNG.uniform(-1000, 1000),
            lambda: round(RNG.uniform(-100, 100), RNG.randrange(5)),
            lambda: RNG.randrange(1, 10) * 10.0 ** RNG.randrange(-20, 25),
        ])()
        if d == d and abs(d) != float("inf"):
            return d


def row(text):
    value = json.loads(text)
    return "\t".join(escape(x) for x in [
        "ok", text, json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=True),
        json.dumps(value, ensure_ascii=False, indent=2), json.dumps(value, ensure_ascii=False, separators=(",", ":"))])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    lines = ["# verdict, text, then json.dumps(ensure_ascii=False | ensure_ascii=True | indent=2 | compact separators)"]
    lines += [row(text) for text in GOOD]
    for _ in range(130):
        text = json.dumps(random_value(4), ensure_ascii=RNG.random() < 0.5, indent=RNG.choice([None, None, 1]))
        lines.append(row(text))
    lines += ["error\t" + escape(text) + "\t\t\t\t" for text in BAD + BAD_BYTES]
    (OUT / "python_json.tsv").write_text("\n".join(lines) + "\n")

    floats = [0.0, -0.0, 1.0, 1e16, 9999999999999998.0, 1e15, 0.0001, 0.00009999, 1e-5, 1e22, 1e23, 123456.0, 0.1, 1 / 3,
              5e-324, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan"), 2.0**53, 2.0**63, 1e100, 1e-100]
    floats += [random_float() for _ in range(400)]
    (OUT / "python_floats.tsv").write_text(
        "".join(f"{struct.unpack('<Q', struct.pack('<d', f))[0]:016x}\t{f!r}\n" for f in floats))


if __name__ == "__main__":
    main()
