"""OpenAI's responses through its own library. responses_sdk.py PROGRAM; prints "ok ..." or "FAILED ..." a check."""
import importlib.util
import json
import pathlib
import sys
import tempfile
import time

from service import check, start_service

POEM = "写一首关于春江的七言绝句"


def strict(model, value):
    """What the client's own types say of a body; an error if a field is missing or of another type."""
    import pydantic
    try:
        pydantic.TypeAdapter(model).validate_python(value)
        return ""
    except pydantic.ValidationError as error:
        return str(error)[:300]


class Served:
    def __init__(self, program, folder):
        self.program, self.folder, self.port, self.starts = program, pathlib.Path(folder), 0, 0
        self.start()
        log = (self.folder / "log0").read_text().splitlines()
        self.key = next(line.strip() for line in log if line.strip().startswith("sk-qw-"))

    def start(self):
        log = self.folder / f"log{self.starts}"
        self.starts += 1
        self.process, self.port = start_service(self.program, log, "-m", "mini", "-t", "1", "--store", str(self.folder / "state.db"), port=self.port)

    def kill(self):
        self.process.kill()
        self.process.wait()


def shapes(client):
    import openai
    from openai.types.responses import Response, ResponseStreamEvent, ResponseItem
    ask = dict(model="mini", input=POEM, max_output_tokens=40, temperature=0)
    settings = dict(instructions="短", metadata={"a": "b"}, truncation="auto", top_logprobs=2, max_tool_calls=3, store=True,
                    text={"format": {"type": "text"}}, parallel_tool_calls=False, top_p=0.9)
    raw = client.responses.with_raw_response.create(**ask, **settings)
    body = json.loads(raw.content)
    check(f"responses: every field is of the client's types {strict(Response, body)}", strict(Response, body) == "")
    echoed = {k: body.get(k) for k in ("instructions", "metadata", "truncation", "max_tool_calls", "store", "parallel_tool_calls", "top_p")}
    check(f"responses: settings are repeated {echoed}", all(echoed[k] == settings[k] for k in echoed))
    check("responses: nothing was ignored", "x-ignored-params" not in raw.headers)
    seen = [json.loads(json.dumps(event.to_dict())) for event in client.responses.create(**ask, stream=True)]
    wrong = [w for w in (strict(ResponseStreamEvent, event) for event in seen) if w]
    check(f"responses: {len(seen)} events are of the client's types {wrong[:1]}", not wrong)
    check("responses: they are numbered", [event["sequence_number"] for event in seen] == list(range(len(seen))))
    items = client.responses.input_items.list(body["id"], order="asc")
    check("responses: the input can be listed", items.data[0].content[0].text == POEM and strict(ResponseItem, items.data[0].to_dict()) == "")
    check("responses: it can be read again", client.responses.retrieve(body["id"]).output_text == raw.parse().output_text)
    more = client.responses.create(**{**ask, "input": "再来"}, previous_response_id=body["id"])
    check("responses: the next goes on from it", more.previous_response_id == body["id"] and more.usage.input_tokens > raw.parse().usage.input_tokens)
    client.responses.delete(body["id"])
    gone = 0
    for call in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        try:
            call(body["id"])
        except openai.NotFoundError:
            gone += 1
    check("responses: what is deleted is gone", gone == 3)
    unkept = client.responses.create(**ask, store=False)
    try:
        client.responses.retrieve(unkept.id)
        check("responses: with store false nothing is kept", False)
    except openai.NotFoundError:
        check("responses: with store false nothing is kept", unkept.store is False)
    try:
        client.responses.create(model="mini", input="字" * 5000, max_output_tokens=5)
        check("responses: what is too long is refused", False)
    except openai.BadRequestError as error:
        check("responses: what is too long is refused", error.code == "context_length_exceeded")
    long = [{"role": "user", "content": f"{i} " + "字" * 100} for i in range(60)]
    cut = client.responses.with_raw_response.create(model="mini", input=long, max_output_tokens=5, truncation="auto")
    left_out = int(cut.headers.get("x-messages-left-out", 0))
    check(f"responses: or its oldest {left_out} messages are left out", 0 < left_out < 60 and cut.parse().output_text != "")


def background(client, served):
    import openai
    ask = dict(model="mini", input=POEM, max_output_tokens=400, extra_body={"ignore_eos": True}, background=True)
    begun = client.responses.create(**{**ask, "max_output_tokens": 30})
    while begun.status in ("queued", "in_progress"):
        time.sleep(0.05)
        begun = client.responses.retrieve(begun.id)
    check(f"background: it is made ({begun.status})", begun.status in ("completed", "incomplete") and begun.output_text)

    # A stream that is left is gone on with: the same events, each once.
    stream = client.responses.create(**ask, stream=True)
    first = []
    for event in stream:
        first.append(event)
        if len(first) == 12:
            break
    stream.close()
    id, last = first[0].response.id, first[-1].sequence_number
    served.kill()
    served.start()
    rest = list(client.responses.retrieve(id, stream=True, starting_after=last))
    everything = list(client.responses.retrieve(id, stream=True))
    numbers = [event.sequence_number for event in first + rest]
    check(f"background: {len(first)} events before kill -9 and {len(rest)} after it are all there are", numbers == list(range(len(numbers))))
    check("background: read again they are the same", [e.to_dict() for e in everything] == [e.to_dict() for e in first + rest])
    text = "".join(event.delta for event in everything if event.type == "response.output_text.delta")
    final = everything[-1].response
    check("background: what the events tell is what is kept", text == final.output_text == client.responses.retrieve(id).output_text)

    waiting = client.responses.create(**{**ask, "max_output_tokens": 2000}, stream=True)
    id = next(iter(waiting)).response.id
    cancelled = client.responses.cancel(id)
    ended = [event for event in client.responses.retrieve(id, stream=True)]
    check(f"background: what is cancelled ends ({cancelled.status}, {ended[-1].type})",
          cancelled.status in ("cancelled", "incomplete", "completed") and ended[-1].type in ("response.failed", "response.incomplete", "response.completed"))
    try:
        plain = client.responses.create(**{**ask, "max_output_tokens": 5})
        list(client.responses.retrieve(plain.id, stream=True))
        check("background: only what was begun as a stream is read as one", False)
    except openai.BadRequestError:
        check("background: only what was begun as a stream is read as one", True)


if importlib.util.find_spec("openai") is None:
    print("skipped responses: openai is not installed for this Python (QW_PYTHON chooses another)")
else:
    import openai
    with tempfile.TemporaryDirectory() as name:
        service = Served(sys.argv[1], name)
        sdk = openai.OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key=service.key, max_retries=0)
        try:
            shapes(sdk)
            background(sdk, service)
        finally:
            service.process.terminate()
            service.process.wait(60)
