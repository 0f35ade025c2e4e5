"""Writes src/chat/internal/case_tables.h: the character facts of Python's str that utf8proc does not give."""
import pathlib
import sys
import unicodedata

OUT = pathlib.Path(__file__).resolve().parent.parent / "src/chat/internal/case_tables.h"


def literal(text):
    return '"' + "".join("\\x%02X" % b for b in text.encode("utf-8")) + '"'


def table(name, convert):
    rows = [(c, convert(chr(c))) for c in range(sys.maxunicode + 1)
            if not 0xD800 <= c <= 0xDFFF and len(convert(chr(c))) > 1]
    lines = [f"inline constexpr SpecialCase {name}[] = {{"]
    lines += [f"    {{0x{c:04X}, {literal(to)}}}," for c, to in rows]
    return lines + ["};", ""]


def numeric_letters():
    codes = [c for c in range(sys.maxunicode + 1)
             if chr(c).isnumeric() and unicodedata.category(chr(c)) not in ("Nd", "Nl", "No")]
    lines = ["// Letters (mostly Chinese numerals) with a numeric value, for str.isnumeric().",
             "inline constexpr std::uint32_t kNumericLetters[] = {"]
    for i in range(0, len(codes), 10):
        lines.append("    " + ", ".join(f"0x{c:04X}" for c in codes[i:i + 10]) + ",")
    return lines + ["};", ""]


text = ["// Made by tools/make_case_tables.py: upper- and title-case forms longer than one character, in code point order.",
        "#pragma once", "", "#include <cstdint>", "", "namespace qw::chat::internal {", "",
        "struct SpecialCase {", "  std::uint32_t from;", "  const char* to;", "};", ""]
text += table("kSpecialUpper", str.upper) + table("kSpecialTitle", str.title) + numeric_letters()
text += ["}  // namespace qw::chat::internal", ""]
OUT.write_text("\n".join(text))
