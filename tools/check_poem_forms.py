#!/usr/bin/env python3
"""Asks a model for poems in the four regulated forms and counts how many answers have the right shape.

  tools/check_poem_forms.py [--program build/release/qianwen] [--model mini] [--answers 200] [--seed 1] [--corpus DIR]

A right answer has exactly 4 (绝句) or 8 (律诗) phrases of exactly 5 or 7 Han characters each, and nothing else but
punctuation. Prints one line a form and one for all; the exit code is 0 if at least 90 % are right.

With --corpus (the folder of recipes/README.md) also, of the answers in the right form, beside the same figures of the last
1 % of Tang and Song poems in these forms, which were not trained on:

  rhyme     poems whose even lines all end alike, and neighbouring even lines that do: by the finals of today's Mandarin as
            ICU reads characters (`uconv`, of Debian's icu-devtools), not by the rhyme books of the time
  verbatim  lines that stand in the corpus word for word; of the held-out poems, in the rest of it
"""
import argparse
import json
import lzma
import pathlib
import re
import subprocess
import sys
import unicodedata

FORMS = {"五言绝句": (5, 4), "七言绝句": (7, 4), "五言律诗": (5, 8), "七言律诗": (7, 8)}
SHORT = {"五言绝句": "五绝", "七言绝句": "七绝", "五言律诗": "五律", "七言律诗": "七律"}
TOPICS = ["春江", "秋夜", "明月", "山寺", "送别", "落花", "边塞", "归雁", "竹林", "梅花", "夜雨", "田家", "西湖",
          "登楼", "漁父", "寒食", "望海", "思乡", "古松", "荷塘", "雪夜", "早行", "柳絮", "孤舟", "黄河"]
ASKS = ["写一首关于{t}的{f}", "以《{t}》为题写一首{f}"]


def phrases(text):
    """Lengths of the runs of Han characters; None if anything but Han characters and punctuation occurs."""
    if re.search(r"[^\u4e00-\u9fff\u3400-\u4dbf，。？！；、：\s]", text):
        return None
    return [len(p) for p in re.split(r"[，。？！；、：\s]+", text) if p]


def lines_of(text):
    return [p for p in re.split(r"[，。？！；、：\s]+", text) if p]


def corpus_poems(folder):
    """(lines of the training part, poems of the held-out part) of every source; a poem is a list of lines."""
    known, held_out = set(), []
    for name in ("zh_poems_tang", "zh_poems_song", "zh_ci_song", "zh_poems_other"):
        path = next((p for end in (".txt.xz", ".txt") if (p := pathlib.Path(folder) / (name + end)).exists()), None)
        if path is None:
            sys.exit(f"{name}: no such file in {folder}")
        text = lzma.open(path, "rt", encoding="utf-8").read() if path.suffix == ".xz" else path.read_text(encoding="utf-8")
        poems = list(dict.fromkeys(d.strip("\n") for d in text.split("\n\n") if d.strip("\n")))
        tail = len(poems) // 100
        for poem in poems[:-tail]:
            known.update(lines_of(poem.partition("\n")[2]))
        if "poems_tang" in name or "poems_song" in name:
            held_out += [lines_of(poem.partition("\n")[2]) for poem in poems[-tail:]]
    shapes = [[width] * count for width, count in FORMS.values()]
    return known, [p for p in held_out if [len(line) for line in p] in shapes]


def finals(characters):
    """The rhyming part of each character's Mandarin reading: main vowel and ending, without medials and tone."""
    order = sorted(characters)
    out = subprocess.run(["uconv", "-f", "utf-8", "-t", "utf-8", "-x", "Han-Latin"], input="\n".join(order) + "\n",
                         capture_output=True, text=True, check=True).stdout.split("\n")
    result = {}
    for character, reading in zip(order, out):
        # Marks above letters are tones, but for the two points of u.
        plain = "".join(c for c in unicodedata.normalize("NFD", reading.strip()) if not unicodedata.combining(c) or c == "\u0308")
        plain = unicodedata.normalize("NFC", plain)
        initial, final = re.match(r"(zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw]?)(.*)", plain).groups()
        if initial in ("j", "q", "x", "y") and final.startswith("u"):
            final = "ü" + final[1:]
        if final == "i" and initial in ("zh", "ch", "sh", "r", "z", "c", "s"):
            result[character] = "-i"
            continue
        whole = {"ui": "ei", "iu": "ou", "un": "en", "ün": "en", "in": "en", "ing": "eng", "ong": "eng", "ian": "an", "üan": "an",
                 "ie": "e", "üe": "e", "ye": "e", "uo": "o"}
        if initial == "y" and final == "an":
            final = "an"
        final = whole.get(final, final)
        result[character] = final[1:] if len(final) > 1 and final[0] in "iuü" else final
    return result


def tell(name, poems, known, rhyme):
    ends = [[line[-1] for line in poem[1::2]] for poem in poems]
    alike = sum(len({rhyme.get(c, c) for c in end}) == 1 for end in ends)
    pairs = [(a, b) for end in ends for a, b in zip(end, end[1:])]
    agree = sum(rhyme.get(a, a) == rhyme.get(b, b) for a, b in pairs)
    lines = [line for poem in poems for line in poem]
    found = sum(line in known for line in lines)
    print(f"{name}: rhyme {alike}/{len(poems)} poems = {100 * alike / max(1, len(poems)):.1f} %, {agree}/{len(pairs)} pairs = "
          f"{100 * agree / max(1, len(pairs)):.1f} %; verbatim {found}/{len(lines)} lines = {100 * found / max(1, len(lines)):.1f} %")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="build/release/qianwen")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", help="measure rhymes and lines found verbatim, too")
    parser.add_argument("--show", action="store_true", help="print the wrong answers")
    options = parser.parse_args()
    answers = []  # in the right form
    right, asked = dict.fromkeys(FORMS, 0), dict.fromkeys(FORMS, 0)
    for i in range(options.answers):
        form = list(FORMS)[i % 4]
        name = form if i % 8 < 4 else SHORT[form]
        ask = ASKS[(i // 8) % 2].format(t=TOPICS[(i // 4) % len(TOPICS)], f=name)
        out = subprocess.run([options.program, "chat", options.model, "-p", ask, "--seed", str(options.seed + i), "--json"],
                             capture_output=True, text=True, check=True).stdout
        answer = json.loads(out)["text"]
        width, count = FORMS[form]
        asked[form] += 1
        if phrases(answer) == [width] * count:
            right[form] += 1
            answers.append(lines_of(answer))
        elif options.show:
            print(ask, "->", answer.replace("\n", " "), file=sys.stderr)
    for form in FORMS:
        print(f"{form} {right[form]}/{asked[form]}")
    share = sum(right.values()) / max(1, sum(asked.values()))
    print(f"all {sum(right.values())}/{sum(asked.values())} = {100 * share:.1f} %")
    if options.corpus:
        known, held_out = corpus_poems(options.corpus)
        rhyme = finals({line[-1] for poem in answers + held_out for line in poem})
        tell("answers", answers, known, rhyme)
        tell("held-out poems", held_out, known, rhyme)
    return 0 if share >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
