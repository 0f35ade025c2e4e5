#!/usr/bin/env python3
"""Requests for regulated verse with the form that a right answer has: what the third stage of `mini` learns from.

  recipes/mini_forms.py DIR [--out build/mini/forms.jsonl] [--requests 4000] [--seed 20261129]

DIR is the folder with the corpora (recipes/README.md). Subjects are titles of two to four characters of Tang and Song poems,
none of them held out, half of them in simplified characters (`uconv`, of Debian's icu-devtools). A line is
{"prompt": request, "answer": pattern}; the pattern is a regular expression of the whole answer.
"""
import argparse
import json
import lzma
import pathlib
import random
import re
import subprocess

FORMS = {"五言绝句": (5, 4), "七言绝句": (7, 4), "五言律诗": (5, 8), "七言律诗": (7, 8)}
SHORT = {"五言绝句": "五绝", "七言绝句": "七绝", "五言律诗": "五律", "七言律诗": "七律"}
# Subjects that tools/check_poem_forms.py asks about are left out, in either script.
ASKED_IN_TESTS = set("春江 秋夜 明月 山寺 送别 送別 落花 边塞 邊塞 归雁 歸雁 竹林 梅花 夜雨 田家 西湖 登楼 登樓 漁父 渔父 寒食 望海 思乡 思鄉 "
                     "古松 荷塘 雪夜 早行 柳絮 孤舟 黄河 黃河".split())
PATTERNS = ["写一首关于@的#", "写一首关于@的#", "以《@》为题写一首#", "以《@》为题写一首#", "作一首写@的#", "写一首咏@的#", "写一首题为《@》的#",
            "作一首以@为题的#", "以“@”为题作一首#", "用#写@", "写一首#，写@", "请写一首关于@的#。"]
HELD_OUT = 50  # a fiftieth of each file, its tail


def subjects(folder):
    found = set()
    for name in ("zh_poems_tang", "zh_poems_song"):
        path = next(p for end in (".txt.xz", ".txt") if (p := folder / (name + end)).exists())
        text = lzma.open(path, "rt", encoding="utf-8").read() if path.suffix == ".xz" else path.read_text(encoding="utf-8")
        poems = [p for p in text.split("\n\n") if p.strip()]
        for poem in poems[:len(poems) - len(poems) // HELD_OUT]:
            title = re.match(r"\s*《([\u4e00-\u9fff]{2,4})》", poem)
            if title and title.group(1) not in ASKED_IN_TESTS:
                found.add(title.group(1))
    return sorted(found)


def simplified(words):
    out = subprocess.run(["uconv", "-f", "utf-8", "-t", "utf-8", "-x", "Traditional-Simplified"], input="\n".join(words),
                         capture_output=True, text=True, check=True).stdout
    return out.split("\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/mini/forms.jsonl"))
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=20261129)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    traditional = draw.sample(subjects(options.folder), options.requests)
    both = list(zip(traditional, simplified(traditional)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8") as out:
        for i, pair in enumerate(both):
            form = list(FORMS)[i % 4]
            width, lines = FORMS[form]
            subject = pair[draw.random() < 0.5]
            if subject in ASKED_IN_TESTS:
                continue
            ask = draw.choice(PATTERNS).replace("@", subject).replace("#", draw.choice([form, SHORT[form]]))
            line = rf"[\x{{4e00}}-\x{{9fff}}\x{{3400}}-\x{{4dbf}}]{{{width}}}[，。？！；、：]\s*"
            out.write(json.dumps({"prompt": ask, "answer": rf"\A({line}){{{lines}}}\Z"}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
