#!/usr/bin/env python3
"""Makes tests/golden/characters: small vocabularies of characters as SentencePiece models are converted to (CodeQwen1.5),
and what the Python package `tokenizers` makes of texts with them. Needs `tokenizers`.

  python tools/make_character_goldens.py

For each of the forms of tokenizer.json: FORM.json, and FORM.jsonl with {"text", "ids", "decoded"} a line ("kept": with
special tokens); "random" ids that no text gives are decoded too. "converted" has every way to make a token of two others
as a merge, which conversion of a SentencePiece model writes; the others are as a trainer writes them.
"""
import json
import pathlib
import random

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/characters"
SIGN = "\u2581"
LINES = ["def add(a, b):", "    return a + b", "the cat sat on the mat, the rat and the hat", "白日依山盡，黃河入海流。", "春眠不覺曉，處處聞啼鳥。",
         "for (int i = 0; i < n; ++i) {", "        total += values[i];", "if the cat returns the hat: return the mat", "春風 春雨 春花 é\tx"]
SPECIAL = ["<unk>", "<s>", "<|im_start|>", "<|im_end|>"]
TRICKY = list(" \t\n.,:;+=()[]{}<>|_aetchrnio0189") + ["  ", "    ", SIGN, "é", "e\u0301", "春", "風", "龍", "，", "。", "😀", "👩🏽", "\u00a0",
         "\ufeff", "\x00", "the ", " cat", "return", "<0x41>", "<|im_start|>", "<|im_end|>", "<unk>", "<think>", "<|im_"]


def base():
    """Trained on words, so that tokens hold U+2581 at the front only, but for runs of it."""
    t = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(SIGN, prepend_scheme="always", split=True)
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator(LINES * 3, trainers.BpeTrainer(vocab_size=470, special_tokens=SPECIAL[:2] + bytes_, show_progress=False))
    data = json.loads(t.to_str())
    vocab = data["model"]["vocab"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in data["model"]["merges"]]
    for n in (2, 4, 8):  # runs of blanks, as code models have them
        vocab[SIGN * n] = len(vocab)
        merges.append((SIGN * (n // 2), SIGN * (n // 2)))
    return vocab, merges


def converted(vocab, merges):
    rank = {a + b: i for i, (a, b) in reversed(list(enumerate(merges)))}
    made = []
    for token, order in sorted(rank.items(), key=lambda item: item[1]):
        made += [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in vocab and token[i:] in vocab]
    return made


def build(vocab, merges, form):
    t = Tokenizer(BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    put = normalizers.Replace(" ", SIGN)
    tail = [decoders.Replace(SIGN, " "), decoders.ByteFallback(), decoders.Fuse()]
    if form in ("always", "first"):
        t.pre_tokenizer = pre_tokenizers.Metaspace(SIGN, prepend_scheme=form, split=False)
    else:
        t.normalizer = normalizers.Sequence([put] if form == "never" else [normalizers.Prepend(SIGN), put])
    t.decoder = decoders.Sequence(tail if form == "never" else tail + [decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    t.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return t


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    vocab, merges = base()
    rng = random.Random(5)
    texts = LINES + ["", " ", "  ", SIGN, " the", "the  cat", "<s>the<|im_end|> cat", "x" * 40 + " " * 40, "the cat " * 30]
    texts += ["".join(rng.choice(TRICKY) for _ in range(rng.randrange(1, 24))) for _ in range(150)]
    for form in ("prepend", "converted", "never", "always", "first"):
        t = build(vocab, converted(vocab, merges) if form == "converted" else merges, form)
        (OUT / f"{form}.json").write_text(json.dumps(json.loads(t.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
        with open(OUT / f"{form}.jsonl", "w", encoding="utf-8") as f:
            for text in texts:
                ids = t.encode(text, add_special_tokens=False).ids
                f.write(json.dumps({"text": text, "ids": ids, "decoded": t.decode(ids), "kept": t.decode(ids, skip_special_tokens=False)}, ensure_ascii=False) + "\n")
            for _ in range(100):
                ids = [rng.choice([rng.randrange(t.get_vocab_size()), rng.randrange(2, 258)]) for _ in range(rng.randrange(1, 12))]
                f.write(json.dumps({"ids": ids, "decoded": t.decode(ids), "kept": t.decode(ids, skip_special_tokens=False)}, ensure_ascii=False) + "\n")


main()
