"""Line charts as SVG: a logarithmic axis to the right and upwards, measured lines with their spread, limits dashed."""
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 64, 170, 44, 48
COLOURS = ("#0b6e4f", "#c8553d", "#3d5a98", "#8a5a9e", "#b08900")
LIMIT = "#777777"


def ticks(low, high):
    """Powers of two that cover low to high."""
    return [2.0 ** e for e in range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1)]


def short(value):
    if value >= 1024 and value % 1024 == 0:
        return f"{value / 1024:g}k"
    return f"{value:g}"


def chart(title, x_name, y_name, lines, limits):
    """`lines`: {name: [(x, low, middle, high)]}; `limits`: {name: [(x, y)]}. x of 0 stands at the left end."""
    xs = sorted({p[0] for points in [*lines.values(), *limits.values()] for p in points})
    positive = [x for x in xs if x > 0]
    at_zero = positive[0] / 2 if xs[0] == 0 else None
    ys = [v for points in lines.values() for p in points for v in p[1:]] + [p[1] for points in limits.values() for p in points]
    y_ticks, x_low, x_high = ticks(min(ys), max(ys)), at_zero or positive[0], positive[-1]
    y_low, y_high = y_ticks[0], y_ticks[-1]
    x_of = lambda x: LEFT + (WIDTH - LEFT - RIGHT) * math.log2((x or at_zero) / x_low) / max(math.log2(x_high / x_low), 1e-9)
    y_of = lambda y: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log2(y / y_low) / math.log2(y_high / y_low)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', f'<text x="{LEFT}" y="22" font-size="15">{title}</text>']
    for y in y_ticks:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(y):.1f}" y2="{y_of(y):.1f}" stroke="#e4e4e4"/>'
                   f'<text x="{LEFT - 6}" y="{y_of(y) + 4:.1f}" text-anchor="end">{short(y)}</text>')
    for x in xs:
        out.append(f'<line x1="{x_of(x):.1f}" x2="{x_of(x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#f2f2f2"/>'
                   f'<text x="{x_of(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(x)}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{x_name}</text>'
               f'<text x="{LEFT}" y="{TOP - 6}" fill="#555">{y_name}</text>')
    labels = []
    for name, points in limits.items():
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{LIMIT}" stroke-dasharray="6 4"/>')
        labels.append([y_of(points[-1][1]), name, LIMIT])
    for (name, points), colour in zip(lines.items(), COLOURS):
        path = " ".join(f"{x_of(x):.1f},{y_of(middle):.1f}" for x, _, middle, _ in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, low, middle, high in points:
            out.append(f'<line x1="{x_of(x):.1f}" x2="{x_of(x):.1f}" y1="{y_of(low):.1f}" y2="{y_of(high):.1f}" stroke="{colour}"/>'
                       f'<circle cx="{x_of(x):.1f}" cy="{y_of(middle):.1f}" r="3" fill="{colour}"/>')
        labels.append([y_of(points[-1][2]), name, colour])
    floor = 0.0
    for y, name, colour in sorted(labels):  # labels stand at the lines' ends, moved apart where they would overlap
        floor = max(y, floor + 15)
        out.append(f'<text x="{WIDTH - RIGHT + 8}" y="{floor + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])
