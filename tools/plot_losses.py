#!/usr/bin/env python3
"""Draws the course of one or more training runs as one SVG picture.

  tools/plot_losses.py OUT.svg LOG.jsonl[=TITLE] [LOG.jsonl[=TITLE] ...]

Each log is the log.jsonl of `qianwen train`. One panel a run: the training loss (nats a token, thin: each step, thick: mean
of 50 steps) and, against the right-hand axis, bits per byte of each held-out source.
"""
import html
import json
import math
import pathlib
import sys

PANEL_WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 660, 380, 56, 184, 40, 46
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#8B4513", "#6A3D9A", "#4D4D4D", "#1B7837"]
SMOOTH = 50


def read(path):
    steps, evaluations = [], []
    for line in open(path, encoding="utf-8"):
        record = json.loads(line)
        if "eval_loss" in record:
            evaluations.append(record)
        elif "loss" in record:
            steps.append((record["step"], record["loss"]))
    return steps, evaluations


def ticks(low, high, count=6):
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    unit *= next(m for m in (1, 2, 5, 10) if m * unit >= raw)
    at = math.ceil(low / unit) * unit
    while at <= high + 1e-9:
        yield round(at, 6)
        at += unit


def panel(title, steps, evaluations, x0):
    width, height = PANEL_WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    last = steps[-1][0]
    losses = [loss for _, loss in steps]
    low, high = math.floor(2 * min(losses)) / 2, math.ceil(2 * max(losses)) / 2
    values = [s["bits_per_byte"] for e in evaluations for s in e["sources"]]
    bits_low, bits_high = (math.floor(5 * min(values)) / 5, math.ceil(5 * max(values)) / 5) if values else (0, 1)
    x = lambda step: x0 + LEFT + width * step / last
    y = lambda loss: TOP + height * (high - loss) / (high - low)
    y2 = lambda bits: TOP + height * (bits_high - bits) / (bits_high - bits_low)
    text = lambda px, py, s, anchor="middle", colour="#333", size=11: (
        f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{html.escape(s)}</text>')
    line = lambda points, colour, thick, opacity=1: (
        f'<polyline fill="none" stroke="{colour}" stroke-width="{thick}" stroke-opacity="{opacity}" points="'
        + " ".join(f"{px:.1f},{py:.1f}" for px, py in points) + '"/>')
    out = [text(x0 + LEFT + width / 2, 22, title, size=14, colour="#111")]
    for at in ticks(low, high):
        out.append(f'<line x1="{x(0):.1f}" x2="{x(last):.1f}" y1="{y(at):.1f}" y2="{y(at):.1f}" stroke="#e4e4e4"/>')
        out.append(text(x(0) - 6, y(at) + 4, f"{at:g}", "end"))
    for at in ticks(0, last, 5):
        out.append(text(x(at), TOP + height + 16, f"{at:g}"))
    for at in ticks(bits_low, bits_high) if values else ():
        out.append(text(x(last) + 6, y2(at) + 4, f"{at:g}", "start", "#0072B2"))
    out.append(text(x0 + LEFT + width / 2, HEIGHT - 8, "step"))
    out.append(text(x0 + LEFT, TOP - 6, "loss (nats a token)", "start", "#777"))
    out.append(text(x(last) + 6, TOP - 6, "held out: bits a byte", "start", "#0072B2"))
    stride = max(1, len(steps) // 1200)
    out.append(line([(x(s), y(v)) for s, v in steps[::stride]], "#999", 0.7, 0.5))
    means = [(steps[i][0], sum(losses[max(0, i - SMOOTH + 1): i + 1]) / min(i + 1, SMOOTH)) for i in range(0, len(steps), 10)]
    out.append(line([(x(s), y(v)) for s, v in means], "#333", 1.6))
    names = [s["name"] for s in evaluations[-1]["sources"]] if evaluations else []
    for i, name in enumerate(names):
        points = [(x(e["step"]), y2(s["bits_per_byte"])) for e in evaluations for s in e["sources"] if s["name"] == name]
        colour = COLOURS[i % len(COLOURS)]
        out.append(line(points, colour, 1.6))
        out += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.2" fill="{colour}"/>' for px, py in points]
        final = next(s["bits_per_byte"] for s in evaluations[-1]["sources"] if s["name"] == name)
        label_y = TOP + 14 + 16 * i
        out.append(text(x(last) + 38, label_y, f"{name} {final:.3f}", "start", colour))
    return out


def main():
    if len(sys.argv) < 3:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    out = []
    for i, argument in enumerate(sys.argv[2:]):
        path, _, title = argument.partition("=")
        steps, evaluations = read(path)
        out += panel(title or path, steps, evaluations, i * PANEL_WIDTH)
    width = PANEL_WIDTH * (len(sys.argv) - 2)
    picture = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif">'
               f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>\n' + "\n".join(out) + "\n</svg>\n")
    pathlib.Path(sys.argv[1]).write_text(picture, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
