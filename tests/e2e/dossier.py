"""From data to a signed dossier: what a model learnt from and cost, on record and checked.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import hashlib
import html.parser
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from service import check

program = sys.argv[1]


def run(*words, timeout=120):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=timeout)


def govern(*words):
    return run("govern", *words)


class Figures(html.parser.HTMLParser):
    """Cells with what they name: (text, file, place)."""

    def __init__(self):
        super().__init__()
        self.figures, self.text, self.link, self.in_cell = [], "", None, False

    def handle_starttag(self, tag, attributes):
        if tag == "td":
            self.text, self.link, self.in_cell = "", None, True
        if tag == "a" and self.in_cell:
            self.link = [dict(attributes)["href"], ""]

    def handle_data(self, data):
        if self.link is not None:
            self.link[1] += data
        elif self.in_cell:
            self.text += data

    def handle_endtag(self, tag):
        if tag == "td":
            if self.link is not None:
                self.figures.append((self.text.strip(), self.link[0], self.link[1].strip("[]").partition(" ")[2]))
            self.in_cell = False


def at(value, place):
    for name in place.strip("/").split("/"):
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    base, log, key = work / "base", work / "audit", work / "key"
    assert run("convert", "mini", base, "--type", "f32", "--json").returncode == 0
    govern("audit", "key", key)

    (work / "poems.txt").write_text("\n\n".join(f"明月松间照 清泉石上流 {i}" for i in range(40)), encoding="utf-8")
    (work / "data.toml").write_text('''output = "shards"
[tokenizer]
folder = "base"
[dataset]
id = "poems"
version = "2"
[[source]]
name = "poems"
path = "./poems.txt"
licence = "CC0-1.0"
origin = "written for this test"
heldout_tail = 0.1
[source.provenance]
kind = "public"
spdx = "CC0-1.0"
publisher = "the tests"
languages = ["zh"]
collected_from = "2026-11"
latest_item = "2026-11-29"
personal_data = "none"
''', encoding="utf-8")
    (work / "train.toml").write_text('''output = "run"
data = "data.toml"
init_from = "base"
steps = 3
sequence_length = 32
batch_sequences = 2
[optimizer]
lr = 1e-4
[checkpoint]
every = 1
''')

    done = govern("ledger", "show", base)
    check("ledger: a model without records", done.returncode == 2 and "no ledger there" in done.stderr)
    check("ledger: a statement needs its source", govern("ledger", "add", base, "--flops", "7e16").returncode == 2)
    done = govern("ledger", "add", base, "--flops", "7e16", "--by", "Anna", "--source", "6ND over its two stages")
    check("ledger: what a model took elsewhere is stated", done.returncode == 0 and (base / "compute.json").exists())

    done = subprocess.run([program, "train", "train.toml", "--json"], cwd=work, capture_output=True, text=True, timeout=120)
    check("train: a run", done.returncode == 0)
    model = work / "run/model"
    shown = json.loads(govern("ledger", "show", model, "--json").stdout)
    lineage, data = shown["compute"]["lineage"], shown["data"]
    check("ledger: own and before make the sum", lineage["own_flops"] > 0 and lineage["before_flops"] == 7e16
          and lineage["cumulative_flops"] == lineage["own_flops"] + 7e16)
    check("ledger: who stated it is named", lineage["generations"][1]["stated_by"] == "Anna")
    third = next(t for t in lineage["thresholds"] if t["threshold"] == "third")
    check("ledger: the third is of the original", third["at"] == 7e16 / 3 and third["level"] == "below")
    check("ledger: the model names its data", shown["compute"]["record"]["data"]["version"] == "2"
          and shown["compute"]["record"]["data"]["ledger_sha256"] == data["ledger_sha256"]
          == hashlib.sha256((work / "shards/ledger.json").read_bytes()).hexdigest())
    check("ledger: energy says what it is", shown["compute"]["record"]["energy"]["basis"] in ("estimated", "measured"))
    check("ledger: people are shown it too", "not recorded" in govern("ledger", "show", work / "shards").stdout)

    done = govern("ledger", "check", model, work / "shards")
    check("ledger: in order", done.returncode == 0)
    done = govern("ledger", "check", work / "shards", "--for", "ab-2013")
    check("ledger: what is asked for and not recorded", done.returncode == 4 and "provenance.first_used" in done.stdout
          and "provenance.publisher" not in done.stdout)
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = govern("ledger", "check", model)
    check("ledger: other weights than the record's", done.returncode == 3 and "other weights" in done.stdout)
    weights.write_bytes(whole)

    done = govern("ledger", "add", model, "--audit-log", log, "--audit-key", key, "--by", "Anna")
    check("ledger: entered in the log", done.returncode == 0)
    check("ledger: and found there", govern("ledger", "check", model, "--audit-log", log, "--key", f"{key}.pub").returncode == 0)
    record = (model / "compute.json").read_text()
    (model / "compute.json").write_text(record.replace('"steps": 3', '"steps": 4'))
    done = govern("ledger", "check", model, "--audit-log", log, "--key", f"{key}.pub")
    check("ledger: a record that was changed since", done.returncode == 3 and "not entered" in done.stdout)
    (model / "compute.json").write_text(record)

    entry = ["--audit-log", log, "--audit-key", key, "--by", "Anna"]
    done = govern("incident", "add", *entry, "--policy", "eu-public", "--clock", "grave", "--summary", "x")
    check("incident: a clock that the policy has not", done.returncode == 2 and "serious (360 h)" in done.stderr)
    late = govern("incident", "add", *entry, "--policy", "eu-public", "--clock", "widespread", "--aware", "2026-01-02T03:04:05Z",
                  "--summary", "answers with <b>names</b>").stdout.strip()
    other = govern("incident", "add", *entry, "--policy", "cn-public", "--clock", "major", "--summary", "stopped for an hour").stdout.strip()
    done = govern("incident", "list", "--audit-log", log, "--json")
    incidents = {one["incident"]: one for one in map(json.loads, done.stdout.splitlines())}
    check("incident: its deadline is the policy's", incidents[late]["due"] == "2026-01-04T03:04:05Z" and incidents[late]["clock_state"] == "overdue")
    check("incident: one is overdue", done.returncode == 4)
    govern("incident", "update", late, *entry, "--reported", "2026-01-03", "--to", "the authority")
    govern("incident", "close", other, *entry, "--note", "runs again")
    done = govern("incident", "list", "--audit-log", log, "--json", "--open")
    incidents = [json.loads(line) for line in done.stdout.splitlines()]
    check("incident: reported in time, and the other closed", done.returncode == 0 and [one["clock_state"] for one in incidents] == ["reported"])
    check("incident: the log is whole", govern("audit", "verify", log, "--key", f"{key}.pub").returncode == 0)

    operator = work / "operator.json"
    operator.write_text(json.dumps({"provider": "Example & Söhne", "purpose": "poems <script>alert(1)</script>", "contact": "x@example.org"}))
    report = work / "assessment.json"
    report.write_text(json.dumps({"verdict": "passed", "made": "2026-11-28T00:00:00Z", "policy": "eu-public"}))
    out = work / "dossier"
    words = ["--audit-key", key, "--audit-log", log, "--policy", "eu-public", "--model", model, "--operator", operator, "--assessment", report]
    slow = os.environ.get("QW_SLOW") == "1"  # PDF takes seconds a page
    done = govern("dossier", "--out", out, *words, *([] if slow else ["--no-pdf"]))
    check("dossier: made", done.returncode == 0)
    names = ["model_card", "technical_documentation", "training_content_summary", "filing_outline_zh", "transparency", "incidents", "evidence"]
    check("dossier: all its pages", all((out / f"{name}.html").exists() for name in names))
    if not slow:
        check("dossier: no PDF where none is wanted", not list(out.glob("*.pdf")))
    elif any(shutil.which(tool) for tool in ("weasyprint", "chromium", "chromium-browser", "google-chrome")):
        check("dossier: and as PDF", all((out / f"{name}.pdf").read_bytes().startswith(b"%PDF-") for name in names))
        if shutil.which("pdftotext"):
            text = subprocess.run(["pdftotext", out / "filing_outline_zh.pdf", "-"], capture_output=True, text=True).stdout
            check("dossier: the PDF has its Chinese", "备案材料提纲" in text.replace("\n", "").replace(" ", ""))
    else:
        check("dossier: why there is no PDF is said", "no PDF is made" in done.stderr)

    right = wrong = 0
    for name in names:
        page = Figures()
        page.feed((out / f"{name}.html").read_text(encoding="utf-8"))
        for text, file, place in page.figures:
            content = json.loads((out / file).read_text(encoding="utf-8"))
            if not place.startswith("/"):
                continue
            found = at(content, place)
            if isinstance(found, str):
                right, wrong = (right + 1, wrong) if found in text else (right, wrong + 1)
            elif isinstance(found, (int, float)) and not isinstance(found, bool):
                try:
                    shown_value = float(text.split()[0])
                    near = abs(shown_value - found) <= 0.05 * abs(found) + 1e-12
                except ValueError:
                    near = True  # words about it
                right, wrong = (right + 1, wrong) if near else (right, wrong + 1)
    check(f"dossier: its figures are those of the evidence ({right})", right > 60 and wrong == 0)
    pages = "".join((out / f"{name}.html").read_text(encoding="utf-8") for name in names)
    check("dossier: foreign words stay words", "<script>" not in pages and "<b>" not in pages and "Example &amp; Söhne" in pages)
    check("dossier: what is unknown says so", "not recorded" in pages and "未记录" in pages)
    check("dossier: no folder of this machine is told", str(work) not in pages + "".join(p.read_text(errors="replace") for p in (out / "evidence").iterdir()))
    done = govern("dossier", "--out", out, *words)
    check("dossier: none is written over", done.returncode == 2)

    verify = ["dossier", "verify", out, "--key", f"{key}.pub"]
    check("dossier: verified", govern(*verify).returncode == 0)
    page = out / "model_card.html"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("poems", "prose"), encoding="utf-8")
    done = govern(*verify)
    check("dossier: a page that was changed", done.returncode == 3 and "model_card.html: changed" in done.stdout)
    page.write_text(text, encoding="utf-8")
    (out / "more.html").write_text("x")
    check("dossier: a page that was added", govern(*verify).returncode == 3)
    (out / "more.html").unlink()
    govern("audit", "key", work / "other")
    check("dossier: another key", govern("dossier", "verify", out, "--key", work / "other.pub").returncode == 3)
    check("dossier: as it was", govern(*verify).returncode == 0)
