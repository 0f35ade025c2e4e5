#!/usr/bin/env python3
"""Texts with classes for the shipped guard, from public sets: guard_data.py DATA_FOLDER OUT. Standard library only.

OUT gets train.jsonl and lm.txt, which recipes/guard*.toml train on, and test.jsonl, which nothing is trained on:
{"text", "label", "set"}. What is held out is decided by a hash of the text, of phrases by one of the act or of both
parts of an attack, so that a test asks for what was never seen in any frame. COLD's own "dev" is held out whole.
"""
import csv
import gzip
import hashlib
import io
import json
import lzma
import pathlib
import random
import re
import sys

LABELS = ["safe", "hate", "sexual", "violence", "self-harm", "illicit", "jailbreak"]
LONGEST = 700  # characters: what is longer is cut, as the guard cuts texts into windows


def opened(path):
    name = str(path)
    raw = {"xz": lzma.open, "gz": gzip.open}.get(name.rsplit(".", 1)[-1], open)(name, "rb").read()
    return io.StringIO(raw.decode("utf-8-sig"))


def share(text):
    """A number in [0, 1) that is the text's own."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


class Out:
    def __init__(self):
        self.train, self.test, self.plain = [], [], []

    def add(self, of, text, label, held):
        text = text.strip()[:LONGEST]
        if text:
            (self.test if held else self.train).append({"text": text, "label": label, "set": of})

    def some(self, of, texts, label, most, held_share=0.1):
        """The `most` texts that hash lowest."""
        for text in sorted(dict.fromkeys(texts), key=share)[:most]:
            self.add(of, text, label, share("held" + text) < held_share)


def cold(data, out):
    for split in ("train", "dev"):
        for row in csv.DictReader(opened(data / f"safety/cold_{split}.csv.xz")):
            out.add("cold", row["TEXT"], "hate" if row["label"] == "1" else "safe", split == "dev")


def moderation_samples(data, out):
    order = [("S3", "sexual"), ("S", "sexual"), ("SH", "self-harm"), ("H2", "hate"), ("H", "hate"), ("HR", "hate"),
             ("V2", "violence"), ("V", "violence")]
    for line in opened(data / "safety/openai_moderation_samples-1680.jsonl.gz"):
        row = json.loads(line)
        label = next((label for key, label in order if row.get(key) == 1), "safe")
        out.add("openai_moderation", row["prompt"], label, share(row["prompt"]) < 0.25)


REFUSES = re.compile(r"\b(illegal|against the law|not a good idea|(can|could|won|would|wouldn|don)['’]?t (help|recommend|advise|encourage|do that|tell you)|"
                     r"unethical|immoral|dangerous|harmful|wrong to|inappropriate|criminal|get (in|into) trouble|harassment|never okay)\b", re.I)


ASKS = re.compile(r"\b(how|help me|best way|easiest way|ways? to|tell me|where can i|i want to|i need to|can i|should i|give me)\b", re.I)
HARMS = re.compile(r"\b(kill|murder|poison|bomb|explosive|steal|rob|shoplift|hack|virus|cocaine|heroin|meth|weed|drugs?|hurt|beat up|burn down|arson|"
                   r"kidnap|torture|stalk|spy on|blackmail|fake id|counterfeit|launder|scam|bribe|gun|shoot|stab|rape|hide a body|lie to|cheat|trick|"
                   r"get away with|without (getting|being) caught|revenge|sabotage|vandali[sz]e|racist|slurs?)\b", re.I)


def hh(data, out):
    """What people asked to see whether a model does harm. A request counts as one that asks in words of harm, or where
    the preferred answer speaks of law or refuses: a weak label; the others have none and are left out."""
    for line in opened(data / "safety/hh_rlhf_harmless_test.jsonl.gz"):
        turns = re.split(r"\n\n(?=Human:|Assistant:)", json.loads(line)["chosen"].strip())
        text = turns[0].removeprefix("Human:").strip()
        if len(turns) >= 2 and (REFUSES.search(turns[1]) or (ASKS.search(text) and HARMS.search(text))):
            out.add("hh_rlhf", text, "illicit", share(text) < 0.15)


def harmbench(data, out):
    for row in csv.DictReader(opened(data / "safety/harmbench_behaviors_text_all.csv")):
        if row["FunctionalCategory"] == "copyright":
            continue
        label = "hate" if row["SemanticCategory"] in ("harassment_bullying",) else "illicit"
        out.add("harmbench", row["Behavior"], label, share(row["Behavior"]) < 0.25)


def safetybench(data, out):
    answers = json.loads((data / "safety/safetybench_zh_subset_answers.json").read_text())
    for row in json.loads((data / "safety/safetybench_zh_subset.json").read_text()):
        question = row["question"]
        if row["category"] == "Offensiveness":
            text = question.split("\n", 1)[-1]
            offends = row["options"][answers[str(row["id"])]["answer"]].startswith("是")
            out.add("safetybench", text, "hate" if offends else "safe", True)
        else:
            out.add("safetybench", question, "safe", share(question) < 0.2)


def benign(data, out):
    for line in opened(data / "safety/cvalues_responsibility_prompts.jsonl"):
        text = json.loads(line)["prompt"]
        out.add("cvalues", text, "safe", share(text) < 0.2)
    rows = [json.loads(line) for line in opened(data / "instruct/self_instruct_seed_tasks.jsonl")]
    out.some("self_instruct", [r["instruction"] + " " + r["instances"][0]["input"] for r in rows], "safe", 175)
    rows = [json.loads(line) for line in opened(data / "instruct/oasst_en_100_message.jsonl")]

    def texts(message):
        yield message["text"]
        for reply in message.get("replies") or []:
            yield from texts(reply)
    out.some("oasst", [t for r in rows for t in texts(r)], "safe", 1000)
    out.some("gsm8k", [json.loads(line)["question"] for line in opened(data / "eval/gsm8k/train.jsonl.xz")], "safe", 1500)
    questions = [row["question"] for f in sorted((data / "eval/mmlu/test").glob("*.csv")) for row in csv.DictReader(opened(f))]
    out.some("mmlu", [q for q in questions if len(q) > 20], "safe", 5000)
    for of, file, most in (("books", "en_books_standardebooks.txt.xz", 2500), ("novels", "zh_four_novels.txt.xz", 2000),
                           ("docs_zh", "zh_docs_rustbook.md.txt.xz", 2500), ("docs_en", "en_docs_rustbook.md.txt.xz", 1500)):
        paragraphs = [p.strip() for p in opened(data / "corpus" / file).read().split("\n\n")]
        out.some(of, [p for p in paragraphs if 20 < len(p) < LONGEST], "safe", most, 0.05)


def phrases(out, rng):
    d = json.loads((pathlib.Path(__file__).parent / "guard_phrases.json").read_text())
    for language in ("en", "zh"):
        frames = d["frames_" + language]
        for kind, label in (("harm", "illicit"), ("benign", "safe")):
            for act in d[f"{kind}_{language}"]:
                held = share(act) < 0.2
                for frame in rng.sample(frames, 3 if held else 8):
                    out.add(f"phrases_{kind}_{language}", frame.replace("{a}", act), label, held)
                if not held:
                    out.add(f"phrases_{kind}_{language}", act, label, False)
        for label in ("self-harm", "violence", "sexual", "safe"):
            for text in d["says_" + label.replace("-", "_") + "_" + language]:
                held = share(text) < 0.2
                for aside in rng.sample(d["asides_" + language], 1 if held else 5):
                    out.add(f"phrases_says_{language}", aside + text, label, held)
        opens, thens = d["attack_open_" + language], d["attack_then_" + language]
        carriers = [f.replace("{a}", a) for f in frames for a in d["benign_" + language] if share(a) >= 0.2]
        glue = " " if language == "en" else ""
        for first in opens:
            for then in thens:
                held = share(first) < 0.2 and share(then) < 0.35
                if not held and (share(first) < 0.2 or share(then) < 0.35 or rng.random() < 0.3):
                    continue
                parts = [first, then] if rng.random() < 0.8 else [then, first]
                if rng.random() < 0.5:
                    parts.insert(rng.randrange(3), rng.choice(carriers))
                out.add("phrases_attack_" + language, glue.join(parts), "jailbreak", held)
        for part in opens + thens:
            if share(part) >= 0.35:
                out.add("phrases_attack_" + language, part, "jailbreak", False)
    for text in d["attack_twin"]:
        for _ in range(4):
            out.add("phrases_twin", text, "safe", share(text) < 0.2)


def main():
    data, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out, rng = Out(), random.Random(20261129)
    for add in (cold, moderation_samples, hh, harmbench, safetybench, benign):
        add(data, out)
    phrases(out, rng)
    held = {row["text"] for row in out.test}
    train = [row for row in out.train if row["text"] not in held]
    rng.shuffle(train)
    folder.mkdir(parents=True, exist_ok=True)
    plain = [row["text"] for row in train]
    for file in ("en_books_standardebooks.txt.xz", "zh_docs_rustbook.md.txt.xz", "en_docs_rustbook.md.txt.xz"):
        plain += [p for p in opened(data / "corpus" / file).read().split("\n\n") if 40 < len(p) and share(p) < 0.5]
    rng.shuffle(plain)
    (folder / "lm.txt").write_text("\n\n".join(re.sub(r"\n\s*\n", "\n", p) for p in plain) + "\n")
    for name, rows in (("train", train), ("test", out.test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        counts = {label: sum(row["label"] == label for row in rows) for label in LABELS}
        print(name, len(rows), counts)


if __name__ == "__main__":
    main()
