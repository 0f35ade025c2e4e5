"""bench/compare with the shipped model in two formats, beside a peer whose figures are known and one that fails. No speed is
tested: only that what was measured comes in turns, is counted right and is drawn."""
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

PROGRAM, COMPARE = sys.argv[1], pathlib.Path(__file__).parents[2] / "bench/compare"
# What is read of llama-bench: its options, and a list of results in JSON behind other lines.
PEER = """#!{python}
import json, sys
given = sys.argv
if "--help" in given:
    print("  -d, --n-depth")
elif {fails}:
    sys.exit("no such model")
else:
    at = lambda name: int(given[given.index(name) + 1])
    print("build: 1\\n" + json.dumps([{{"n_prompt": at("-p"), "n_gen": at("-n"), "avg_ts": 50.0}}]))
"""


def check(name, holds):
    print(("ok " if holds else "FAILED ") + name, flush=True)


def cells(text, *first):
    """The row of a table whose first cells are these."""
    rows = [[c.strip() for c in line.strip("| ").split("|")] for line in text.splitlines() if line.startswith("|")]
    return next((r for r in rows if r[: len(first)] == list(first)), [])


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    for type_name in ("q4_0", "f16"):
        subprocess.run([PROGRAM, "quantize", "mini", work / f"mini.{type_name}.gguf", "--type", type_name], check=True, capture_output=True)
    for name, fails in (("steady", False), ("broken", True)):
        (work / name).mkdir()
        program = work / name / "llama-bench"
        program.write_text(PEER.format(python=sys.executable, fails=fails))
        program.chmod(0o755)
    out, document = work / "out", work / "speed.md"
    document.write_text("before\n<!-- figures: made by bench/compare report -->\nold\n<!-- end of figures -->\nbehind\n")

    def measure(*arguments):
        return subprocess.run([COMPARE, "measure", "--models", work, "--out", out, "--ours", PROGRAM, "--shapes", "mini", "--threads", "1", *arguments],
                              capture_output=True, text=True, check=False)

    peers = [f"--peer=steady={work / 'steady'}", f"--peer=broken={work / 'broken'}", f"--peer=absent={work / 'nowhere'}"]
    speeds = ["--suites", "prefill,decode,depth", "--types", "q4_0,f16", "--prompts", "16", "--depths", "16,32", "--caches", "f16,q4_0",
              "--predict", "4", "--rounds", "2", *peers]
    first = measure(*speeds)
    results = json.loads((out / "results.json").read_text())
    check("a peer that fails gives no figure, one that is absent is named, and all others go on",
          first.returncode == 0 and "left out: absent" in first.stderr and "no figure" in first.stderr)
    case = {"model": "mini.q4_0", "threads": 1, "suite": "prefill", "tokens": 16}
    check("programs take turns", [r["engine"] for r in results if r["case"] == case] == ["ours", "steady", "broken"] * 2)
    measure(*speeds)
    check("what has its rounds is not measured again", json.loads((out / "results.json").read_text()) == results)
    measure("--suites", "limits,batch", "--types", "f16", "--rounds", "1")
    report = subprocess.run([COMPARE, "report", "--models", work, "--out", out, "--document", document], capture_output=True, text=True, check=False)
    text = document.read_text()
    check("the report takes the place of the last one and of nothing else",
          report.returncode == 0 and text.startswith("before\n<!--") and text.endswith("-->\nbehind\n") and "\nold\n" not in text)
    ours = [r["value"] for r in results if r["case"] == case and r["engine"] == "ours"]
    row = cells(text, "mini.q4_0", "1", "16")
    check("a row has the median, the least and the most, and the ratio to the best peer",
          len(ours) == 2 and row[3:4] == [f"{statistics.median(ours):.1f} ({min(ours):.1f} to {max(ours):.1f})"] and
          row[4:5] == ["50.0 (50.0 to 50.0)"] and f"{statistics.median(ours) / 50:.2f}" in row)
    check("keys and values of four bits have their share of what can be read", re.fullmatch(r"\d+ %", cells(text, "mini.f16", "1", "32, q4_0")[-1:][0]) is not None)
    charts = [work / "speed" / name for name in ("depth-mini.f16-1-f16.svg", "batch-mini.f16-1.svg")]
    check("speeds over depth and over sequences are drawn with their limits",
          all(c.exists() and c.read_text().count("<polyline") + c.read_text().count("<path") >= 2 and "reading" in c.read_text() and f"speed/{c.name}" in text
              for c in charts))
