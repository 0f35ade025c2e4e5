#!/usr/bin/env python3
"""Asks a model for poems in the four regulated forms and counts how many answers have the right shape.

  tools/check_poem_forms.py [--program build/release/qianwen] [--model mini] [--answers 200] [--seed 1]

A right answer has exactly 4 (绝句) or 8 (律诗) phrases of exactly 5 or 7 Han characters each, and nothing else but
punctuation. Prints one line a form and one for all; the exit code is 0 if at least 90 % are right.
"""
import argparse
import json
import re
import subprocess
import sys

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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="build/release/qianwen")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print the wrong answers")
    options = parser.parse_args()
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
        elif options.show:
            print(ask, "->", answer.replace("\n", " "), file=sys.stderr)
    for form in FORMS:
        print(f"{form} {right[form]}/{asked[form]}")
    share = sum(right.values()) / max(1, sum(asked.values()))
    print(f"all {sum(right.values())}/{sum(asked.values())} = {100 * share:.1f} %")
    return 0 if share >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
