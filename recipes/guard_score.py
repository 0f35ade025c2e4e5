#!/usr/bin/env python3
"""How well a guard model tells texts apart that it was not trained on: guard_score.py PROGRAM MODEL TEST.jsonl

TEST.jsonl is what guard_data.py held out; the look-alikes beside this file were never near the training. Asks
/v1/moderations of a service of its own and prints tables with 95 % Wilson intervals. Standard library only.
"""
import collections
import json
import math
import pathlib
import re
import subprocess
import sys
import time
import urllib.request

BATCH = 256


def wilson(hits, of):
    if of == 0:
        return "-"
    p, z = hits / of, 1.96
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    low, high = (max(0, middle - half) / (1 + z * z / of), min(1, (middle + half) / (1 + z * z / of)))
    return f"{p:.3f} [{low:.3f}, {high:.3f}] ({hits}/{of})"


def scores_of(port, texts):
    out, seconds = [], 0
    for at in range(0, len(texts), BATCH):
        body = json.dumps({"input": texts[at:at + BATCH]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/moderations", body, {"Content-Type": "application/json"})
        begun = time.monotonic()
        with urllib.request.urlopen(request, timeout=600) as answer:
            results = json.load(answer)["results"]
        seconds += time.monotonic() - begun
        for result in results:
            looked_for = [name for name, kinds in result["category_applied_input_types"].items() if kinds]
            out.append({name: result["category_scores"][name] for name in looked_for})
    return out, seconds


def tables(rows, scores, threshold):
    kinds = list(scores[0])
    flagged = [any(score >= threshold for score in one.values()) for one in scores]
    best = [max(one, key=one.get) if flag else "safe" for one, flag in zip(scores, flagged)]
    print(f"\nFrom a score of {threshold} on:\n\n| kind | precision | recall | told at all |\n|---|---|---|---|")
    for kind in kinds:
        is_kind = [row["label"] == kind for row in rows]
        right = sum(b == kind and i for b, i in zip(best, is_kind))
        told = sum(f and i for f, i in zip(flagged, is_kind))
        print(f"| {kind} | {wilson(right, sum(b == kind for b in best))} | {wilson(right, sum(is_kind))} | {wilson(told, sum(is_kind))} |")
    sets = collections.defaultdict(lambda: [0, 0, 0, 0])
    for row, flag in zip(rows, flagged):
        entry = sets[row["set"]]
        harmless = row["label"] == "safe"
        entry[0 if harmless else 2] += flag
        entry[1 if harmless else 3] += 1
    print("\n| set | harmless ones told of | others told of |\n|---|---|---|")
    for name, (false, harmless, true, others) in sorted(sets.items()):
        print(f"| {name} | {wilson(false, harmless)} | {wilson(true, others)} |")


def main():
    program, model, test = sys.argv[1:4]
    rows = [json.loads(line) for line in open(test)]
    for line in open(pathlib.Path(__file__).parent / "guard_lookalikes.jsonl"):
        one = json.loads(line)
        rows.append({"text": one["text"], "label": "safe", "set": "look-alikes_" + one["language"]})
    service = subprocess.Popen([program, "serve", "-m", "mini", "--guard-model", model, "--guard-threads", "2", "--port", "0"],
                               stderr=subprocess.PIPE, text=True)
    try:
        port = next(int(found[1]) for line in service.stderr if (found := re.search(r"listening on [^ ]*:(\d+)", line)))
        scores, seconds = scores_of(port, [row["text"] for row in rows])
    finally:
        service.terminate()
        service.stderr.close()
        service.wait()
    size = sum(len(row["text"].encode()) for row in rows)
    print(f"{len(rows)} texts, {size} bytes, {1000 * seconds / len(rows):.2f} ms a text")
    for threshold in (0.5, 0.9):
        tables(rows, scores, threshold)


if __name__ == "__main__":
    main()
