#!/usr/bin/env python3
"""The service through the client libraries of Anthropic, DashScope and Ollama, LangChain, and OpenAI's for files and batches.
client_sdks.py PROGRAM; prints "ok ..." or "FAILED ..." a check, "skipped ..." for a library that is not installed."""
import importlib.util
import json
import pathlib
import sys
import tempfile
import time

import service

POEM = "写一首关于春江的七言绝句"
LINES = 150
TOOL_SCHEMA = {"type": "object", "properties": {"city": {"enum": ["北京", "杭州"]}}, "required": ["city"], "additionalProperties": False}


def anthropic_messages(url, key):
    import anthropic
    client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)

    def check(name, holds):
        service.check("anthropic: " + name, holds)

    ask = dict(model="mini", max_tokens=120, messages=[{"role": "user", "content": POEM}], extra_body={"temperature": 0})
    whole = client.messages.create(**ask)
    check("a message answers", whole.content[0].type == "text" and len(whole.content[0].text) > 20)
    check("it says why it ended", whole.stop_reason == "end_turn")
    check("usage is counted", whole.usage.input_tokens + whole.usage.cache_read_input_tokens > 5 and whole.usage.output_tokens > 10)
    with client.messages.stream(model="mini", max_tokens=120, messages=ask["messages"], extra_body={"temperature": 0}) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    check("a stream says the same", text == whole.content[0].text == final.content[0].text)
    check("a stream counts the same", final.usage.output_tokens == whole.usage.output_tokens)
    stopped = client.messages.create(model="mini", max_tokens=120, messages=ask["messages"], extra_body={"temperature": 0}, stop_sequences=["。"])
    check("a stop sequence is named", stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == "。")
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    tool = {"name": "weather", "description": "the weather", "input_schema": TOOL_SCHEMA}
    called = client.messages.create(model="mini", max_tokens=400, messages=ask["messages"], tools=[tool], tool_choice=choice)
    block = called.content[-1]
    check("a tool is called with arguments of its schema", called.stop_reason == "tool_use" and block.type == "tool_use" and block.input["city"] in ("北京", "杭州"))
    with client.messages.stream(model="mini", max_tokens=400, messages=ask["messages"], tools=[tool], tool_choice=choice) as stream:
        final = stream.get_final_message()
    check("a streamed call is put together", final.content[-1].input["city"] in ("北京", "杭州"))
    after = client.messages.create(model="mini", max_tokens=20, messages=ask["messages"] + [
        {"role": "assistant", "content": [{"type": "tool_use", "id": block.id, "name": "weather", "input": block.input}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "晴"}]}])
    check("a tool's result is read", after.usage.output_tokens > 0)
    count = client.messages.count_tokens(model="mini", messages=ask["messages"])
    check("tokens are counted before", count.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens)
    try:
        client.messages.create(model="none", max_tokens=1, messages=ask["messages"])
        check("an unknown model is refused", False)
    except anthropic.NotFoundError as error:
        check("an unknown model is refused", error.body["error"]["type"] == "not_found_error")
    try:
        anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0).messages.create(**ask)
        check("a wrong key is refused", False)
    except anthropic.AuthenticationError:
        check("a wrong key is refused", True)
    check("models are listed", [m.id for m in client.models.list()] == ["mini"])


def dashscope_calls(url, key):
    import dashscope
    from dashscope import Generation
    dashscope.base_http_api_url = url + "/api/v1"
    dashscope.api_key = key

    def check(name, holds):
        service.check("dashscope: " + name, holds)

    messages = [{"role": "user", "content": POEM}]
    text = Generation.call(model="mini", prompt=POEM, seed=3, top_k=1)
    check("a prompt answers", text.status_code == 200 and len(text.output.text) > 20 and text.output.finish_reason == "stop")
    whole = Generation.call(model="mini", messages=messages, result_format="message", top_k=1)
    content = whole.output.choices[0].message.content
    check("messages answer", content == text.output.text)
    check("usage is counted", whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 15)
    pieces = list(Generation.call(model="mini", messages=messages, result_format="message", top_k=1, stream=True, incremental_output=True))
    check("a stream adds up", "".join(p.output.choices[0].message.content for p in pieces) == content and len(pieces) > 5)
    check("a stream ends with its reason", pieces[-1].output.choices[0].finish_reason == "stop")
    check("a stream's last frame counts the same", pieces[-1].usage.output_tokens == whole.usage.output_tokens)
    growing = list(Generation.call(model="mini", messages=messages, result_format="message", top_k=1, stream=True))
    check("a growing stream ends whole", growing[-1].output.choices[0].message.content == content)
    called = Generation.call(model="mini", messages=messages, result_format="message", tools=[{"type": "function", "function": {"name": "weather", "description": "d", "parameters": TOOL_SCHEMA}}],
                             tool_choice={"type": "function", "function": {"name": "weather"}}, parallel_tool_calls=False)
    call = called.output.choices[0].message.tool_calls[0]
    check("a tool is called", json.loads(call["function"]["arguments"])["city"] in ("北京", "杭州"))
    stopped = Generation.call(model="mini", messages=messages, result_format="message", top_k=1, stop="。")
    check("a stop string ends it", stopped.output.choices[0].message.content == content.split("。")[0])
    from dashscope.client.base_api import BaseAsyncApi
    begun = BaseAsyncApi.async_call(model="mini", task_group="aigc", task="text-generation", function="generation", input={"messages": messages},
                                    top_k=1, result_format="message")
    ended = BaseAsyncApi.wait(begun)
    check("a task answers later", ended.output["task_status"] == "SUCCEEDED" and ended.output["choices"][0]["message"]["content"] == content)
    (broken,) = list(Generation.call(model="mini", messages=messages, stream=True, temperature=9))
    check("a stream that cannot begin says why", broken.status_code == 400 and broken.code == "InvalidParameter")
    wrong = Generation.call(model="none", messages=messages)
    check("an unknown model is refused", wrong.status_code == 404 and wrong.code == "ModelNotFound")
    check("a wrong key is refused", Generation.call(model="mini", messages=messages, api_key="sk-wrong").code == "InvalidApiKey")


def ollama_calls(url, key):
    import ollama
    client = ollama.Client(host=url, headers={"Authorization": "Bearer " + key})

    def check(name, holds):
        service.check("ollama: " + name, holds)

    options = {"temperature": 0}
    messages = [{"role": "user", "content": POEM}]
    whole = client.chat(model="mini", messages=messages, options=options)
    check("a chat answers", whole.done and whole.done_reason == "stop" and len(whole.message.content) > 20)
    check("durations and counts are given", whole.total_duration > 0 and whole.eval_count > 10 and whole.prompt_eval_count > 5)
    lines = list(client.chat(model="mini", messages=messages, options=options, stream=True))
    check("a stream says the same", "".join(part.message.content for part in lines) == whole.message.content and len(lines) > 5)
    made = client.generate(model="mini", prompt=POEM, options=options)
    check("generate goes through the template", made.response == whole.message.content)
    form = client.chat(model="mini", messages=messages, format={"enum": ["春", "江"]})
    check("a format binds", json.loads(form.message.content) in ("春", "江"))
    (listed,) = client.list().models
    check("models are listed", (listed.model, listed.details.format, listed.details.parameter_size) == ("mini", "gguf", "7.5M") and listed.size > 7_000_000)
    check("a model is shown", "completion" in client.show("mini").capabilities)
    try:
        client.chat(model="none", messages=messages)
        check("an unknown model is refused", False)
    except ollama.ResponseError as error:
        check("an unknown model is refused", error.status_code == 404)


def langchain_calls(url, key):
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    def check(name, holds):
        service.check("langchain: " + name, holds)

    def model(**more):
        return ChatOpenAI(base_url=url + "/v1", api_key=key, model="mini", temperature=0, max_retries=0, **more)

    whole = model().invoke(POEM)
    check("a chat answers", len(whole.content) > 20 and whole.usage_metadata["output_tokens"] > 10)
    pieces = list(model(stream_usage=True).stream(POEM))
    check("a stream adds up", "".join(p.content for p in pieces) == whole.content and len(pieces) > 5)
    check("a stream counts the same", [p.usage_metadata["output_tokens"] for p in pieces if p.usage_metadata] == [whole.usage_metadata["output_tokens"]])
    tool = {"type": "function", "function": {"name": "weather", "description": "the weather", "parameters": TOOL_SCHEMA}}
    asked = HumanMessage(POEM)
    called = model().bind_tools([tool], tool_choice="weather", parallel_tool_calls=False).invoke([asked])
    call = called.tool_calls[0]
    check("a tool is called", call["name"] == "weather" and call["args"]["city"] in ("北京", "杭州"))
    after = model(max_tokens=20).invoke([asked, called, ToolMessage("晴", tool_call_id=call["id"])])
    check("a tool's result is read", after.usage_metadata["output_tokens"] > 0)
    form = model().with_structured_output(TOOL_SCHEMA | {"title": "place"}, method="json_schema").invoke(POEM)
    check("a form binds", form["city"] in ("北京", "杭州"))
    check("several are asked at once", [m.content for m in model().batch([POEM] * 3)] == [whole.content] * 3)
    responses = model(use_responses_api=True).invoke(POEM)
    check("so does a response", responses.text == whole.content)


def openai_batches(url, key, restart):
    import openai

    def connect():
        return openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0)

    def check(name, holds):
        service.check("openai: " + name, holds)

    client = connect()
    asked = [{"custom_id": f"line-{i}", "method": "POST", "url": "/v1/chat/completions",
              "body": {"model": "mini", "seed": i, "max_tokens": 60, "ignore_eos": True, "messages": [{"role": "user", "content": POEM}]}} for i in range(LINES)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "in.jsonl"
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in asked))
        kept = client.files.create(file=path.open("rb"), purpose="batch")
    check("a file is kept", kept.bytes > 1000 and client.files.retrieve(kept.id).filename == "in.jsonl")
    check("a file is read back", client.files.content(kept.id).text.count("\n") == LINES)
    check("files are listed", [f.id for f in client.files.list(purpose="batch")] == [kept.id])
    batch = client.batches.create(input_file_id=kept.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "test"})
    deadline = time.time() + 300
    while client.batches.retrieve(batch.id).request_counts.completed == 0 and time.time() < deadline:
        time.sleep(0.05)
    done = client.batches.retrieve(batch.id).request_counts.completed
    check("a batch is executed", 0 < done < LINES)
    url = restart()   # killed while the batch runs
    client = connect()
    while (batch := client.batches.retrieve(batch.id)).status not in ("completed", "failed", "expired", "cancelled") and time.time() < deadline + 300:
        time.sleep(0.2)
    check("a batch goes on after its service was killed", batch.status == "completed" and batch.request_counts.completed == LINES)
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    check("every line is answered once", sorted(a["custom_id"] for a in answers) == sorted(line["custom_id"] for line in asked))
    alone = client.post("/chat/completions", body=asked[7]["body"], cast_to=openai.types.chat.ChatCompletion).choices[0].message.content
    seventh = next(a for a in answers if a["custom_id"] == "line-7")
    check("a line's answer is that of a request", seventh["response"]["body"]["choices"][0]["message"]["content"] == alone)
    check("batches are listed", [b.id for b in client.batches.list()] == [batch.id])
    upload = client.uploads.create(filename="parts.txt", purpose="user_data", bytes=6, mime_type="text/plain")
    parts = [client.uploads.parts.create(upload_id=upload.id, data=piece).id for piece in (b"abc", b"def")]
    done = client.uploads.complete(upload_id=upload.id, part_ids=parts)
    check("an upload is joined", client.files.content(done.file.id).text == "abcdef")
    check("a file is deleted", client.files.delete(done.file.id).deleted)
    first = client.responses.create(model="mini", input=POEM, temperature=0)
    check("a response answers", first.status == "completed" and len(first.output_text) > 20)
    events = list(client.responses.create(model="mini", input=POEM, temperature=0, stream=True))
    check("a streamed response says the same", "".join(e.delta for e in events if e.type == "response.output_text.delta") == first.output_text == events[-1].response.output_text)
    second = client.responses.create(model="mini", input="再写一首", previous_response_id=first.id, max_output_tokens=60)
    check("a response goes on from one that was kept", second.usage.input_tokens > first.usage.total_tokens)
    check("a response is read back", client.responses.retrieve(first.id).output_text == first.output_text)
    called = client.responses.create(model="mini", input=POEM, parallel_tool_calls=False, tool_choice="required",
                                     tools=[{"type": "function", "name": "weather", "parameters": TOOL_SCHEMA, "strict": True}])
    check("a response calls a tool", json.loads(called.output[-1].arguments)["city"] in ("北京", "杭州"))
    later = client.responses.create(model="mini", input=POEM, temperature=0, background=True)
    check("a response in the background is queued", later.status == "queued" and later.output == [])
    while (later := client.responses.retrieve(later.id)).status in ("queued", "in_progress"):
        time.sleep(0.05)
    check("a response in the background says the same", later.status == "completed" and later.output_text == first.output_text)
    judged = client.moderations.create(input=["春江花月夜", "this is VILE"]).results
    check("texts are moderated", [r.flagged for r in judged] == [False, True] and judged[1].categories.hate and not judged[1].categories.violence)


class Service:
    """The service over one store; its address stays when it is started again."""

    def __init__(self, program, folder):
        self.program, self.folder, self.starts = program, pathlib.Path(folder), 0
        self.start(0)
        log = (self.folder / "log0").read_text().splitlines()
        self.key = next(line.strip() for line in log if line.strip().startswith("sk-qw-"))

    def start(self, port):
        log, words = self.folder / f"log{self.starts}", self.folder / "words"
        words.write_text("[hate]\nvile\n")
        self.starts += 1
        self.process, self.port = service.start_service(self.program, log, "-m", "mini", "--store", str(self.folder / "state.db"), "--moderation-words", str(words), port=port)
        self.url = f"http://127.0.0.1:{self.port}"

    def restart_after_kill(self):
        self.process.kill()
        self.process.wait()
        self.start(self.port)
        return self.url


def main():
    libraries = {"openai": None, "anthropic": anthropic_messages, "dashscope": dashscope_calls, "ollama": ollama_calls, "langchain_openai": langchain_calls}
    with tempfile.TemporaryDirectory() as folder:
        served = Service(sys.argv[1], folder)
        for library, run in libraries.items():
            if importlib.util.find_spec(library) is None:
                print(f"skipped the client library {library}: it is not installed for this Python (QW_PYTHON chooses another)")
            elif run is None:
                openai_batches(served.url, served.key, served.restart_after_kill)
            else:
                run(served.url, served.key)
        served.process.terminate()
        service.check("the service ends by itself", served.process.wait(timeout=60) == 0)


main()
