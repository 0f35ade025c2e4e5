"""Tables, charts and their data from the figures that `bench/compare measure` gathered."""
import json
import re
import statistics

from comparison import charts, gguf

CACHE_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
BEGIN, END = "<!-- figures: made by bench/compare report -->", "<!-- end of figures -->"


class Figures:
    def __init__(self, options):
        self.list = [r for r in json.loads((options.out / "results.json").read_text()) if r["value"] is not None]
        self.costs, self.models = {}, options.models
        self.cpu = next((r["value"]["cpu"] for r in self.list if r["case"]["suite"] == "limits"), "unknown")

    def cases(self, suite):
        seen = []
        for r in self.list:
            if r["case"]["suite"] == suite and r["case"] not in seen:
                seen.append(r["case"])
        return seen

    def samples(self, case):
        by_engine = {}
        for r in self.list:
            if r["case"] == case:
                by_engine.setdefault(r["engine"], []).append(r["value"])
        return by_engine

    def cost(self, model):
        if model not in self.costs:
            self.costs[model] = gguf.Cost(self.models / f"{model}.gguf")
        return self.costs[model]

    def limit(self, model, threads, name):
        """The best that any run measured: noise only takes away. Arithmetic is the same whatever model was beside it."""
        found = [one[name] for r in self.list if r["case"]["suite"] == "limits" and (name != "read_bytes" or r["case"]["model"] == model)
                 for one in r["value"]["limits"] if one["threads"] == threads]
        return max(found, default=0)


def spread(values):
    middle = statistics.median(values)
    return f"{middle:.1f} ({min(values):.1f} to {max(values):.1f})"


def against(samples):
    """(our median, best peer's name and median); None where there are no figures."""
    middles = {name: statistics.median(values) for name, values in samples.items()}
    ours = middles.pop("ours", None)
    best = max(middles.items(), key=lambda item: item[1], default=None)
    return ours, best


def table(headings, rows):
    return "\n".join(["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings), *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def share(part, whole):
    return f"{100 * part / whole:.0f} %" if whole else "–"


def shares(part, wholes):
    """Of each limit, which are by name if there are several."""
    return ", ".join(f"{share(part, whole)} {name}".strip() for name, whole in wholes.items())


def speed_rows(figures, suite, label, limits_of):
    """Rows of ours, every peer, the ratio to the best of them, and the share of each limit."""
    cases, names = figures.cases(suite), []
    for case in cases:
        names += [n for n in figures.samples(case) if n not in names and n != "ours"]
    rows = []
    for case in cases:
        samples = figures.samples(case)
        ours, best = against(samples)
        if ours is None:
            continue
        rows.append([case["model"], str(case["threads"]), label(case), spread(samples["ours"]),
                     *(spread(samples[n]) if n in samples else "–" for n in names),
                     f"{ours / best[1]:.2f}" if best else "–", *(shares(ours, limit) for limit in limits_of(case))])
    return names, rows


def peaks(figures, model, threads):
    """Operations a second in the numbers that a model is computed in, by vectors (with the names of their kinds, where there are several)
    and by tiles."""
    vectors, tiles = {"": "byte_ops"}, "byte_tile_ops"
    if model.endswith("bf16"):
        vectors, tiles = {"float": "float_ops", "bf16 pairs": "bfloat_ops"}, "bfloat_tile_ops"
    elif model.endswith("f16"):
        vectors, tiles = {"": "float_ops"}, "bfloat_tile_ops"
    return {kind: figures.limit(model, threads, n) for kind, n in vectors.items()}, figures.limit(model, threads, tiles)


def prefill(figures):
    def limits(case):
        ops = figures.cost(case["model"]).prompt_ops(case["tokens"]) / case["tokens"]
        vectors, tiles = peaks(figures, case["model"], case["threads"])
        return [{kind: peak / ops for kind, peak in vectors.items()}, {"": tiles / ops}]
    names, rows = speed_rows(figures, "prefill", lambda c: str(c["tokens"]), limits)
    return table(["model", "threads", "tokens", "ours", *names, "ratio", "of the vectors' peak", "of the tiles' peak"], rows)


def decode(figures, suite):
    def limits(case):
        read = figures.cost(case["model"]).decode_bytes(case["depth"], CACHE_BYTES[case["cache"]])
        return [{"": figures.limit(case["model"], case["threads"], "read_bytes") / read}]
    names, rows = speed_rows(figures, suite, lambda c: f"{c['depth']}, {c['cache']}", limits)
    return table(["model", "threads", "depth, cache", "ours", *names, "ratio", "of the reading limit"], rows)


def step_limit(figures, model, threads, batch):
    """Tokens a second that memory and arithmetic allow `batch` sequences at once."""
    vectors, tiles = peaks(figures, model, threads)
    cost, peak = figures.cost(model), max(*vectors.values(), tiles)
    read = figures.limit(model, threads, "read_bytes")
    return batch * read / cost.decode_bytes(16, batch=batch) if read else 0, peak / cost.step_ops(16) if peak else 0


def batches(figures, folder):
    text = ""
    for case in figures.cases("batch"):
        lines = {}
        for name, values in figures.samples(case).items():
            sizes = sorted({int(b) for v in values for b in v})
            points = {b: sorted(v[str(b)] for v in values if str(b) in v) for b in sizes}
            lines[name] = [(b, p[0], statistics.median(p), p[-1]) for b, p in points.items()]
        sizes = [p[0] for p in lines.get("ours", [])]
        reading = [(b, step_limit(figures, case["model"], case["threads"], b)[0]) for b in sizes]
        arithmetic = [(b, step_limit(figures, case["model"], case["threads"], b)[1]) for b in sizes]
        limits = {n: p for n, p in (("reading", reading), ("arithmetic", arithmetic)) if all(y > 0 for _, y in p)}
        name = f"batch-{case['model']}-{case['threads']}.svg"
        threads = "one thread" if case["threads"] == 1 else f"{case['threads']} threads"
        (folder / name).write_text(charts.chart(f"{case['model']}, {threads}: sequences at once", "sequences", "tokens/s", lines, limits))
        text += f"\n![tokens a second by sequences at once]({folder.name}/{name})\n\n"
        middles = {n: {p[0]: p[2] for p in points} for n, points in lines.items()}
        peers = [n for n in lines if n != "ours"]
        rows = [[str(b), f"{middles['ours'][b]:.1f}", *(f"{middles[n][b]:.1f}" if b in middles[n] else "–" for n in peers),
                 share(middles["ours"][b], min(l for l in step_limit(figures, case["model"], case["threads"], b) if l) if reading[0][1] else 0)]
                for b in sizes]
        text += table(["sequences", "ours", *peers, "of the nearer limit"], rows)
    return text


def depth_chart(figures, folder):
    """Tokens a second over depth, F16 cache, of each model and number of threads that was measured at several."""
    text, groups = "", {}
    for case in figures.cases("decode") + figures.cases("depth"):
        groups.setdefault((case["model"], case["threads"], case["cache"]), []).append(case)
    for (model, threads, cache), cases in groups.items():
        if len(cases) < 3:
            continue
        lines = {}
        for case in sorted(cases, key=lambda c: c["depth"]):
            for name, values in figures.samples(case).items():
                lines.setdefault(name, []).append((case["depth"], min(values), statistics.median(values), max(values)))
        read = figures.limit(model, threads, "read_bytes")
        limit = [(c["depth"], read / figures.cost(model).decode_bytes(c["depth"], CACHE_BYTES[cache])) for c in sorted(cases, key=lambda c: c["depth"])]
        name = f"depth-{model}-{threads}-{cache}.svg"
        title = f"{model}, {'one thread' if threads == 1 else f'{threads} threads'}, keys and values in {cache.upper()}"
        (folder / name).write_text(charts.chart(title, "tokens in the cache", "tokens/s", lines, {"reading": limit} if read else {}))
        text += f"\n![tokens a second by depth]({folder.name}/{name})\n"
    return text


def serving(figures):
    rows = []
    for case in figures.cases("serve"):
        for name, values in figures.samples(case).items():
            middle = lambda key: statistics.median(v[key] for v in values)
            rows.append([case["model"], str(case["threads"]), name, spread([v["output_per_second"] for v in values]), f"{middle('ttft_p95'):.2f} s",
                         f"{1000 * middle('gap_median'):.0f} ms", f"{middle('gap_max'):.2f} s", f"{middle('gap_max') / middle('gap_median'):.1f}"])
    return table(["model", "threads", "server", "output tokens/s", "first token, p95", "median gap", "largest gap", "largest / median"], rows)


def others(figures):
    text = ""
    rows = [[str(case["tokens"]), *(f"{1000 * statistics.median(v[k] for v in s['ours']):.2f} ms" for k in ("ttft_median", "model_alone")),
             f"{1000 * statistics.median(v['ttft_median'] - v['model_alone'] for v in s['ours']):.2f} ms"]
            for case in figures.cases("http") for s in [figures.samples(case)]]
    if rows:
        text += "\nFrom the request to the first token through HTTP, empty server, the shipped model:\n\n"
        text += table(["prompt tokens", "through HTTP", "the engine alone", "difference"], rows)
    rows = [[case["model"], str(case["threads"]), *(f"{name} {statistics.median(v):.2f} s ({min(v):.2f} to {max(v):.2f})" for name, v in figures.samples(case).items())]
            for case in figures.cases("start")]
    if rows:
        width = max(map(len, rows))
        text += "\nFrom starting the program to its end after one token (file in the page cache):\n\n"
        text += table(["model", "threads", *[""] * (width - 2)], [r + ["–"] * (width - len(r)) for r in rows])
    return text


def limits(figures):
    rows = []
    for case in figures.cases("limits"):
        threads = sorted({one["threads"] for v in figures.samples(case)["ours"] for one in v["limits"]})
        rows += [[case["model"], str(t), f"{figures.limit(case['model'], t, 'read_bytes') / 1e9:.1f}"] for t in threads]
    text = table(["as many bytes as", "threads", "reads GB/s"], rows) + "\n"
    threads = sorted({int(r[1]) for r in rows})
    names = {"float_ops": "float", "bfloat_ops": "bfloat16", "byte_ops": "8-bit", "bfloat_tile_ops": "bfloat16 tiles", "byte_tile_ops": "8-bit tiles"}
    return text + table(["threads", *(f"{n}, Gop/s" for n in names.values())],
                        [[str(t), *(f"{figures.limit('', t, n) / 1e9:.0f}" for n in names)] for t in threads])


def write(options):
    figures = Figures(options)
    folder = options.document.with_suffix("") if options.document else options.out
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(figures.list, separators=(",", ":")).replace('},{"case"', '},\n{"case"') + "\n")
    sections = [(("limits",), "What the machine can do", limits), (("prefill",), "Prompts", prefill),
                (("decode",), "Generating from an empty context", lambda f: decode(f, "decode")),
                (("depth",), "Generating at depth", lambda f: decode(f, "depth") + depth_chart(f, folder)),
                (("batch",), "Many sequences at once", lambda f: batches(f, folder)),
                (("serve",), "Serving 16 requests at once", serving), (("http", "start"), "First token", others)]
    parts = [f"Measured on {figures.cpu}; median (least to most).\n"]
    for suites, heading, body in sections:  # of what was measured
        if any(figures.cases(suite) for suite in suites):
            parts += [f"### {heading}\n", body(figures)]
    text = "\n".join(parts)
    if not options.document:
        print(text)
        return 0
    document = options.document.read_text()
    options.document.write_text(re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: f"{BEGIN}\n{text}\n{END}", document, flags=re.S))
    return 0
