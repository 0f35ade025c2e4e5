#!/usr/bin/env python3
"""Models with other heads through the program: embeddings, ranking, rewards, guards. heads.py PROGRAM; prints "ok ..."
or "FAILED ..." a check."""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import heads_models

program = sys.argv[1]
TALK = [{"role": "user", "content": "写一首诗"}, {"role": "assistant", "content": "春江潮水连海平"}]


def check(name, holds):
    print(("ok heads: " if holds else "FAILED heads: ") + name, flush=True)


def run(*words, text=None):
    done = subprocess.run([program, *map(str, words)], input=text, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def told(*words, text=None):
    code, out, errors = run(*words, "--json", text=text)
    if code != 0:
        raise RuntimeError(f"{words}: {errors}")
    lines = [json.loads(line) for line in out.splitlines()]
    return lines if len(lines) > 1 else lines[0]


def refused(name, code, words, *command, text=None):
    got, out, errors = run(*command, text=text)
    check(name, got == code and words in errors and len(errors.splitlines()) == 1 and not out)


def close(a, b, tolerance):
    return len(a) == len(b) and max(abs(x - y) for x, y in zip(a, b)) <= tolerance


def embeddings(base, work):
    model = heads_models.embedding(base, work / "embedding")
    one = told("embed", "-m", model, "-p", "春江花月夜")
    check("an embedding has length 1", len(one["embedding"]) == 256 and abs(math.hypot(*one["embedding"]) - 1) < 1e-5)
    short = told("embed", "-m", model, "-p", "春江花月夜", "--dimensions", 64)["embedding"]
    scale = math.hypot(*one["embedding"][:64])
    check("a shorter one is its beginning, of length 1 again", close(short, [x / scale for x in one["embedding"][:64]], 1e-6))
    query = told("embed", "-m", model, "-p", "春江花月夜", "--instruct", "Find poems")
    spelled = told("embed", "-m", model, "-p", "Instruct: Find poems\nQuery:春江花月夜")
    check("an instruction is written as the makers do", query == spelled and query != one)
    marked = told("embed", "-m", model, "-p", "a<|endoftext|>")
    check("a token's name in a text is text", marked["tokens"] > told("embed", "-m", model, "-p", "a")["tokens"] + 2)
    many = told("embed", "-m", model, "--file", "-", "--lines", text='"春江花月夜"\n\n{"text": "床前明月光"}\n' * 50)
    check("a hundred together equal one alone", len(many) == 100 and all(m == one for m in many[::2]) and many[1] != one)
    told("convert", model, work / "embedding.gguf", "--type", "f32")
    check("a GGUF file of it gives the same", told("embed", "-m", work / "embedding.gguf", "-p", "春江花月夜") == one)
    check("which tells other programs to end texts as this one does",
          b"tokenizer.ggml.add_eos_token" + (7).to_bytes(4, "little") + b"\1" in (work / "embedding.gguf").read_bytes())
    told("convert", work / "embedding.gguf", work / "embedding_again")
    check("and so does a folder made of that", told("embed", "-m", work / "embedding_again", "-p", "春江花月夜") == one)
    check("which has the files of an embedding model", json.loads((work / "embedding_again/modules.json").read_text())[2]["type"].endswith("Normalize"))
    check("show names the head", told("show", model)["head"] == "embedding" and told("show", "mini")["head"] == "language model")
    quantised = work / "embedding_q8.gguf"
    told("quantize", model, quantised, "--type", "q8_0")
    near = told("embed", "-m", quantised, "-p", "春江花月夜")["embedding"]
    check("8 bits change its direction little", sum(a * b for a, b in zip(near, one["embedding"])) > 0.99)
    refused("it does not chat", 2, "generates no text", "chat", model, "-p", "x")
    refused("it has no likelihood", 2, "has no logits", "score", "-m", model, "--ids", "1,2,3")
    refused("more numbers than there are", 2, "1 to 256", "embed", "-m", model, "-p", "x", "--dimensions", 257)
    refused("a language model makes none", 3, "makes no embeddings", "embed", "-m", "mini", "-p", "x")
    (model / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    refused("another pooling", 3, "1_Pooling/config.json: pooling_mode_mean_tokens is not supported", "embed", "-m", model, "-p", "x")
    (model / "modules.json").write_text("[")
    refused("broken modules.json", 3, "modules.json", "embed", "-m", model, "-p", "x")


def ranking(base, work):
    model = heads_models.reranker(base, work / "reranker")
    lines = "".join(json.dumps(d) + "\n" for d in ["春江潮水连海平", {"text": "床前明月光"}, "白日依山尽"])
    all_of = told("rerank", "-m", model, "--query", "明月", "--file", "-", text=lines)["results"]
    scores = [r["relevance_score"] for r in all_of]
    check("every document has its place", sorted(r["index"] for r in all_of) == [0, 1, 2] and scores == sorted(scores, reverse=True)
          and all(0 < s < 1 for s in scores) and len(set(scores)) == 3)
    best = told("rerank", "-m", model, "--query", "明月", "--file", "-", "--top-n", 1, text=lines)["results"]
    check("the best come first", best == all_of[:1])
    told("convert", model, work / "reranker.gguf", "--type", "f32")
    again = told("rerank", "-m", work / "reranker.gguf", "--query", "明月", "--file", "-", text=lines)["results"]
    check("a GGUF file of it ranks the same", again == all_of)
    refused("a vocabulary without yes and no", 3, "ranks no documents", "rerank", "-m", "mini", "--query", "x", "--file", "-", text='"x"')
    refused("a line that is no document", 3, "line 1", "rerank", "-m", model, "--query", "x", "--file", "-", text="3")


def judges(base, work):
    talk = work / "talk.json"
    talk.write_text(json.dumps(TALK))
    plain = heads_models.reward(base, work / "reward", False)
    score = told("reward", "-m", plain, "--messages", talk)
    check("a conversation has a reward", isinstance(score["score"], float) and score["tokens"] > 5)
    told("convert", plain, work / "reward.gguf", "--type", "f32")
    check("a GGUF file of it says the same", told("reward", "-m", work / "reward.gguf", "--messages", talk) == score)
    stepwise = heads_models.reward(base, work / "steps", True)
    talk.write_text(json.dumps({"messages": TALK[:1] + [{"role": "assistant", "content": "春江<extra_0>潮水<extra_0>连海平<extra_0>"}]}))
    steps = told("reward", "-m", stepwise, "--messages", talk)["steps"]
    check("every step has its own", len(steps) == 3 and all(0 < s < 1 for s in steps) and len(set(steps)) == 3)
    talk.write_text(json.dumps(TALK[:1] + [{"role": "assistant", "content": "春江<extra_0>"}]))
    first = told("reward", "-m", stepwise, "--messages", talk)["steps"]
    check("a step is judged by what was before it", abs(first[0] - steps[0]) < 1e-5)
    talk.write_text(json.dumps(TALK))
    refused("steps that end nowhere", 3, "no step ends in <extra_0>", "reward", "-m", stepwise, "--messages", talk)
    refused("a language model rewards nobody", 3, "no head of rewards", "reward", "-m", "mini", "--messages", talk)

    guard = heads_models.guard(base, work / "guard")
    verdict = told("guard", "-m", guard, "--messages", talk)
    check("a query is classified at its end", verdict["query"]["risk_level"] in ("Safe", "Unsafe", "Controversial")
          and verdict["query"]["category"].startswith("Category"))
    answer = "".join(t["token"] for t in verdict["tokens"])
    check("an answer token by token", TALK[1]["content"] in answer and all(0 < t["risk_probability"] <= 1 for t in verdict["tokens"]))
    talk.write_text(json.dumps(TALK[:1] + [{"role": "assistant", "content": "春江"}]))
    shorter = told("guard", "-m", guard, "--messages", talk)
    check("what was judged stays judged", shorter["query"] == verdict["query"] and shorter["tokens"][:4] == verdict["tokens"][:4])
    talk.write_text(json.dumps(TALK[:1]))
    code, out, errors = run("guard", "-m", guard, "--messages", talk, "--stream", text='"春江"\n\n"潮水"\n"连海平"\n')
    lines = [line.split(None, 1) for line in out.splitlines()]
    check("an answer that comes piece by piece is classified as it comes", code == 0 and lines[0][0] == "query" and all(l[0] == "answer" for l in lines[1:]))
    streamed = [json.loads(l[1]) for l in lines[1:]]
    begins = verdict["tokens"][:verdict["tokens"].index(next(t for t in verdict["tokens"] if "春" in t["token"])) + 1]
    check("as in the whole conversation", streamed[:len(begins)] == begins)
    code, out, errors = run("guard", "-m", guard, "--messages", talk, "--stream", text='"a"\n3\n')
    check("a piece that is no string is named", code == 3 and "line 2: expected a piece" in errors)
    refused("no stream of a language model", 3, "has no --stream", "guard", "-m", "mini", "--messages", talk, "--stream", text="")
    talk.write_text(json.dumps(TALK[:1] + [{"role": "assistant", "content": "春江"}]))
    told("convert", guard, work / "guard.gguf", "--type", "f32")
    check("a GGUF file of it classifies the same", told("guard", "-m", work / "guard.gguf", "--messages", talk) == shorter)
    refused("an answer that is no verdict", 1, "states no safety", "guard", "-m", "mini", "--messages", talk)
    refused("messages that are none", 3, "expected an array", "guard", "-m", guard, "--messages", guard / "config.json")


def main():
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        base = heads_models.base_folder(program, work / "base")
        embeddings(base, work)
        ranking(base, work)
        judges(base, work)


if __name__ == "__main__":
    main()
