#!/usr/bin/env python3
"""The service through OpenAI's own client library. openai_sdk.py PROGRAM; prints "ok ..." or "FAILED ..." a check."""
import array
import concurrent.futures
import math
import pathlib
import signal
import sys
import tempfile
import time
import urllib.request

import heads_models
import service

try:
    import openai
except ImportError:
    print("skipped OpenAI's client library: it is not installed for this Python (QW_PYTHON chooses another)")
    sys.exit(0)

POEM = [{"role": "user", "content": "写一首关于春江的七言绝句"}]


def check(name, holds):
    service.check("sdk: " + name, holds)


def error_of(call):
    try:
        call()
    except openai.APIStatusError as error:
        return error
    return None


def chats(client):
    whole = client.chat.completions.create(model="mini", messages=POEM, seed=3)
    text = whole.choices[0].message.content
    check("a chat answers", whole.choices[0].finish_reason == "stop" and len(text) > 20)
    check("it says what answered", whole.system_fingerprint.startswith("fp_"))
    check("usage adds up", whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 20)
    stream = list(client.chat.completions.create(model="mini", messages=POEM, seed=3, stream=True, stream_options={"include_usage": True}))
    joined = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    check("a stream says the same", joined == text and len(stream) > 5)
    check("a stream can end in usage", stream[-1].usage.completion_tokens == whole.usage.completion_tokens)
    several = client.chat.completions.create(model="mini", messages=POEM, seed=3, n=3, temperature=1)
    check("three choices differ", len({c.message.content for c in several.choices}) == 3)
    stopped = client.chat.completions.create(model="mini", messages=POEM, seed=3, stop=["。"])
    check("a stop string ends the answer before it", stopped.choices[0].message.content == text.split("。")[0])
    short = client.chat.completions.create(model="mini", messages=POEM, max_completion_tokens=3, temperature=0)
    check("a limit ends the answer", short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3)
    likely = client.chat.completions.create(model="mini", messages=POEM, temperature=0, logprobs=True, top_logprobs=3, max_tokens=4)
    tokens = likely.choices[0].logprobs.content
    check("log-probabilities name the likeliest", len(tokens) == 4 and all(t.top_logprobs[0].token == t.token for t in tokens))
    parts = client.chat.completions.create(model="mini", seed=3, messages=[{"role": "user", "content": [{"type": "text", "text": POEM[0]["content"]}]}])
    check("content may come in parts", parts.choices[0].message.content == text)


def completions(client):
    one = client.completions.create(model="mini", prompt="床前明月光，", max_tokens=8, temperature=0)
    check("a completion goes on", len(one.choices[0].text) > 0 and one.object == "text_completion")
    both = client.completions.create(model="mini", prompt=["春眠", "明月"], max_tokens=4, temperature=0, echo=True)
    check("several prompts, echoed", [c.text[:2] for c in both.choices] == ["春眠", "明月"])
    pieces = client.completions.create(model="mini", prompt="床前明月光，", max_tokens=8, temperature=0, stream=True)
    check("a completion streams", "".join(p.choices[0].text for p in pieces if p.choices) == one.choices[0].text)
    check("models are listed", [m.id for m in client.models.list()] == ["mini"])
    check("a model is found by name", client.models.retrieve("mini").id == "mini")


def errors(client):
    create = client.chat.completions.create
    unknown = error_of(lambda: create(model="gpt-5", messages=POEM))
    check("an unknown model is 404", isinstance(unknown, openai.NotFoundError) and unknown.code == "model_not_found")
    wrong = error_of(lambda: create(model="mini", messages="hello"))
    check("a wrong type names the field", isinstance(wrong, openai.BadRequestError) and wrong.param == "messages")
    hot = error_of(lambda: create(model="mini", messages=POEM, temperature=9))
    check("a value out of range names the field", isinstance(hot, openai.BadRequestError) and hot.param == "temperature")
    long = error_of(lambda: create(model="mini", messages=[{"role": "user", "content": "春江" * 5000}]))
    check("a prompt beyond the context says so", isinstance(long, openai.BadRequestError) and long.code == "context_length_exceeded")


def embeddings(program):
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("r") as log:
        work = pathlib.Path(folder)
        base = heads_models.base_folder(program, work / "base")
        words = [w for kind in ("embedding", "reranker") for w in ("-m", str(getattr(heads_models, kind)(base, work / kind)))]
        server, port = service.start_service(program, log.name, *words, "-m", "mini")
        try:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60)
            create = client.embeddings.create
            one = create(model="embedding", input="春江花月夜")  # the client asks for base64 and decodes it
            check("an embedding comes as numbers of length 1", len(one.data[0].embedding) == 256 and abs(math.hypot(*one.data[0].embedding) - 1) < 1e-5)
            plain = create(model="embedding", input="春江花月夜", encoding_format="float")
            check("base64 and float are the same numbers", array.array("f", plain.data[0].embedding) == array.array("f", one.data[0].embedding))
            many = create(model="embedding", input=["春江花月夜", "床前明月光"] * 100)
            check("two hundred texts are answered in order", [d.index for d in many.data] == list(range(200)) and
                  all(d.embedding == one.data[0].embedding for d in many.data[::2]) and many.usage.prompt_tokens == many.usage.total_tokens > 400)
            short = create(model="embedding", input="春江花月夜", dimensions=32)
            check("dimensions cut and normalise", len(short.data[0].embedding) == 32 and abs(math.hypot(*short.data[0].embedding) - 1) < 1e-5)
            check("token ids are taken as they are", create(model="embedding", input=[[1, 2, 3], [4]]).usage.prompt_tokens == 4)
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                all_of = list(pool.map(lambda _: create(model="embedding", input="春江花月夜").data[0].embedding, range(40)))
            check("requests at once answer as one alone", all(v == one.data[0].embedding for v in all_of))
            wrong = error_of(lambda: create(model="mini", input="x"))
            check("a language model makes no embeddings", isinstance(wrong, openai.BadRequestError) and wrong.param == "model")
            silent = error_of(lambda: client.chat.completions.create(model="embedding", messages=POEM))
            check("an embedding model does not chat", isinstance(silent, openai.BadRequestError) and silent.param == "model")
            ranked = client.post("/rerank", cast_to=object, body={"model": "reranker", "query": "明月", "documents": ["床前明月光", "白日依山尽", "春眠不觉晓"], "top_n": 2})
            scores = [r["relevance_score"] for r in ranked["results"]]
            check("documents are ranked", len(scores) == 2 and scores[0] >= scores[1] and 0 < scores[1] and scores[0] < 1)
        finally:
            server.kill()
            server.wait()


def load(client, url):
    alone = client.chat.completions.create(model="mini", messages=POEM, seed=5).choices[0].message.content
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.chat.completions.create(model="mini", messages=POEM, seed=5).choices[0].message.content, range(48)))
    check("48 requests at once answer as one alone", set(answers) == {alone})
    for i in range(20):  # clients that leave in the middle
        stream = client.chat.completions.create(model="mini", messages=POEM, temperature=2, max_tokens=1500, stream=True)
        next(iter(stream))
        stream.close()
    end = time.monotonic() + 10
    while time.monotonic() < end and client.chat.completions.create(model="mini", messages=POEM, seed=5).choices[0].message.content != alone:
        time.sleep(0.1)
    with urllib.request.urlopen(url + "/health/ready") as answer:
        check("clients that leave do no harm", answer.status == 200)


def main():
    embeddings(sys.argv[1])
    with tempfile.NamedTemporaryFile("r") as log:
        server, port = service.start_service(sys.argv[1], log.name)
        try:
            url = f"http://127.0.0.1:{port}"
            client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=60)
            chats(client)
            completions(client)
            errors(client)
            load(client, url)
            stream = client.chat.completions.create(model="mini", messages=POEM, seed=3, stream=True)
            first = next(iter(stream)).choices[0].delta.role
            server.send_signal(signal.SIGTERM)
            rest = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
            check("SIGTERM lets a running answer end", first == "assistant" and len(rest) > 20 and server.wait(20) == 0)
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
