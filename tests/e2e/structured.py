"""Forms of output x drafts x streaming, at a temperature at which the shipped model writes anything. (It does not think;
forms behind thinking are in src/api/structured_test.cc.)"""
import itertools
import json
import os
import pathlib
import re
import sys
import tempfile
import urllib.request

from service import check, start_service

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "minimum": 0, "maximum": 99},
                                           "kind": {"enum": ["a", "b"]}}, "required": ["name", "n", "kind"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "note", "parameters": SCHEMA}}


def is_of_schema(value):
    return (isinstance(value, dict) and set(value) == {"name", "n", "kind"} and isinstance(value["name"], str) and len(value["name"]) <= 8
            and type(value["n"]) is int and 0 <= value["n"] <= 99 and value["kind"] in ("a", "b"))


def reads(text, judge):
    try:
        return judge(json.loads(text))
    except ValueError:
        return False


FORMS = {
    "json_object": ({"response_format": {"type": "json_object"}}, lambda t: reads(t, lambda v: isinstance(v, dict))),
    "json_schema": ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}}, lambda t: reads(t, is_of_schema)),
    "regex": ({"guided_regex": r"[a-c]{3}-\d{2}(x|yz)"}, lambda t: re.fullmatch(r"[a-c]{3}-\d{2}(x|yz)", t) is not None),
    "grammar": ({"guided_grammar": 'root ::= item (", " item){2}\nitem ::= [0-9]{1,3} ("kg" | "m")'},
                lambda t: re.fullmatch(r"[0-9]{1,3}(kg|m)(, [0-9]{1,3}(kg|m)){2}", t) is not None),
    "choice": ({"guided_choice": ["春", "江", "spring river"]}, lambda t: t in ("春", "江", "spring river")),
    "tool": ({"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}, lambda t: reads(t, is_of_schema)),
}


def ask(port, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def answer_of(port, body):
    """Text (or a call's arguments), and the reason it ended."""
    text = ask(port, body)
    if not body.get("stream"):
        choice = json.loads(text)["choices"][0]
        message = choice["message"]
        content = message["tool_calls"][0]["function"]["arguments"] if message.get("tool_calls") else message["content"] or ""
        return content, choice["finish_reason"]
    content, reason = "", None
    for line in text.splitlines():
        if line.startswith("data: {"):
            choice = json.loads(line[6:])["choices"][0]
            delta = choice["delta"]
            content += delta.get("content") or "".join(c["function"].get("arguments", "") for c in delta.get("tool_calls", []))
            reason = choice["finish_reason"] or reason
    return content, reason


def refused(port, extra, place):
    try:
        ask(port, {"messages": [{"role": "user", "content": "x"}], **extra})
        return False
    except urllib.error.HTTPError as error:
        message = json.loads(error.read())["error"]["message"]
        return error.code == 400 and place in message


def main():
    seeds = range(1, 13 if os.environ.get("QW_SLOW") == "1" else 4)
    with tempfile.TemporaryDirectory() as folder:
        for drafts in ("off", "lookup"):
            server, port = start_service(sys.argv[1], pathlib.Path(folder) / f"log-{drafts}", "-m", "mini", "--draft", drafts)
            try:
                for name, (extra, judge) in FORMS.items():
                    wrong, whole, cut = [], {}, 0
                    for stream, seed in itertools.product((False, True), seeds):
                        body = {"messages": [{"role": "user", "content": "写一首诗"}], "temperature": 1.5, "seed": seed, "max_tokens": 200,
                                "stream": stream, **extra}
                        content, reason = answer_of(port, body)
                        # A stream tells the same, and so does the other service.
                        same = whole.setdefault(seed, content) == content
                        cut += reason == "length"
                        if not same or (reason != "length" and not judge(content)):
                            wrong.append((stream, seed, reason, content[:80]))
                    asked = 2 * len(seeds)
                    check(f"{name}, drafts {drafts}: {asked - cut} of {asked} answers ended; all are of the form {wrong[:2]}",
                          not wrong and cut < asked)
                    key = ("same", name)
                    if drafts == "off":
                        KEPT[key] = whole
                    else:
                        check(f"{name}: with drafts it is the same text", KEPT[key] == whole)
                check("what a schema says and is not supported is a 400 with its place",
                      refused(port, {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"a": {"not": {}}}}}}}, "#/properties/a"))
                check("a wrong regular expression is a 400", refused(port, {"guided_regex": "(a"}, ""))
                check("a wrong grammar is a 400", refused(port, {"guided_grammar": "root ::= ("}, ""))
            finally:
                server.terminate()
                server.wait(60)


KEPT = {}
main()
