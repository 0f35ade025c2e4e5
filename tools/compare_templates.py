"""Every template of a folder with every conversation of a matrix, rendered by Jinja2 and by the chat room.

    compare_templates.py CHAT_TEST FOLDER [--random N] [--seed S]

FOLDER is searched for *.jinja. The matrix: plain, several turns, system prompts (none, empty, late), odd roles and
orders, thinking in the history (as a field and in the text), tool calls (one, parallel, arguments as text and as object,
with and without an answer beside them), tool results, parts (text, image, video, audio, unknown), contents that are
null, numbers or empty, control tokens in the text; each with and without tools, with the generation prompt and without,
with thinking on, off and unsaid, and with what else templates ask for. --random adds N random conversations to each
template. Writes the cases with Jinja2's results and runs CHAT_TEST (the room's test program) on them.
"""
import argparse
import itertools
import json
import os
import pathlib
import random
import subprocess
import tempfile

from template_reference import case_line


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city. \"Quoted\" <b>& more</b>\n第二行",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "where"},
            "unit": {"type": "string", "enum": ["c", "f"]},
            "days": {"type": "integer", "minimum": 1, "default": 3},
            "nested": {"type": "object", "properties": {"x": {"type": ["number", "null"]}}, "required": []},
            "list": {"type": "array", "items": {"type": "string"}}},
            "required": ["city"]}}},
    {"type": "function", "function": {"name": "now", "parameters": {}}},
]
BARE_TOOLS = [{"name": "bare", "description": "no wrapper", "parameters": {"type": "object", "properties": {}}}]
USER = message("user", "What is 2+2? 天气?")
ANSWER = message("assistant", "It is 4.")
THOUGHT = message("assistant", "<think>\nlet me see\n</think>\n\nIt is 4.")
FIELD = message("assistant", "It is 4.", reasoning_content="let me see\nand again\n")
CALLS = [call("get_weather", {"city": "北京", "days": 2, "nested": {"x": 1.5}, "list": ["a", None, True]}), call("now", {})]
TEXT_CALLS = [call("get_weather", '{"city": "Paris", "unit": "c"}', id="call_1")]

CONVERSATIONS = {
    "one": [USER],
    "empty": [],
    "turns": [USER, ANSWER, message("user", "And 3+3?"), message("assistant", "6"), message("user", " spaced \n")],
    "system": [message("system", "Be brief.\n"), USER],
    "system empty": [message("system", ""), USER],
    "system blank": [message("system", " \n"), USER, ANSWER],
    "system late": [USER, message("system", "Late."), ANSWER],
    "systems": [message("system", "One."), message("system", "Two."), USER],
    "system only": [message("system", "Alone.")],
    "developer": [message("developer", "Dev."), USER],
    "odd role": [message("critic", "Hm."), USER],
    "no role": [{"content": "x"}],
    "no content": [{"role": "user"}],
    "assistant first": [ANSWER, USER],
    "assistant last": [USER, ANSWER],
    "users": [USER, USER],
    "null content": [USER, message("assistant", None), USER],
    "number content": [message("user", 5)],
    "empty content": [message("user", ""), message("assistant", ""), message("user", "\n\n")],
    "thought in text": [USER, THOUGHT, message("user", "Why?")],
    "thought in last": [USER, THOUGHT],
    "thought in field": [USER, FIELD, message("user", "Why?")],
    "thought in field, last": [USER, FIELD],
    "thought empty": [USER, message("assistant", "a", reasoning_content=""), USER, message("assistant", "b", reasoning_content="  ")],
    "thought null": [USER, message("assistant", "a", reasoning_content=None), USER],
    "thought unclosed": [USER, message("assistant", "<think>\nnever ends"), USER],
    "thought unopened": [USER, message("assistant", "r\n</think>\n\nanswer"), USER],
    "thoughts twice": [USER, message("assistant", "<think>a</think>b<think>c</think>d"), USER, THOUGHT],
    "thought of user": [message("user", "<think>mine</think> what?"), THOUGHT, USER],
    "call": [USER, message("assistant", "", tool_calls=CALLS[:1]), message("tool", "sunny, 20°")],
    "call null content": [USER, message("assistant", None, tool_calls=CALLS[:1]), message("tool", "{\"t\": 20}")],
    "call absent content": [USER, {"role": "assistant", "tool_calls": CALLS[:1]}, message("tool", "t")],
    "call and answer": [USER, message("assistant", "Let me look.", tool_calls=CALLS[:1]), message("tool", "t"), ANSWER, USER],
    "calls": [USER, message("assistant", "", tool_calls=CALLS), message("tool", "t1"), message("tool", "t2"), ANSWER],
    "calls, thought": [USER, message("assistant", "x", reasoning_content="hm", tool_calls=CALLS), message("tool", "t1"), message("tool", "t2")],
    "calls, thought in text": [USER, message("assistant", "<think>\nhm\n</think>\n\nx", tool_calls=CALLS), message("tool", "t1")],
    "call as text": [USER, message("assistant", "", tool_calls=TEXT_CALLS), message("tool", "t", tool_call_id="call_1", name="get_weather")],
    "call unwrapped": [USER, message("assistant", "", tool_calls=[{"name": "now", "arguments": {}}]), message("tool", "t")],
    "call without arguments": [USER, message("assistant", "", tool_calls=[call("now", {})])],
    "call broken": [USER, message("assistant", "", tool_calls=[{"type": "function"}])],
    "calls empty": [USER, message("assistant", "a", tool_calls=[]), USER],
    "steps": [USER, message("assistant", "", reasoning_content="one", tool_calls=CALLS[:1]), message("tool", "t1"),
              message("assistant", "", reasoning_content="two", tool_calls=CALLS[1:]), message("tool", "t2"),
              message("assistant", "done", reasoning_content="three"), message("user", "more"), FIELD],
    "result first": [message("tool", "t"), USER],
    "results apart": [USER, message("assistant", "", tool_calls=CALLS), message("tool", "t1"), USER, message("tool", "t2")],
    "result as user": [USER, message("user", "<tool_response>\nfake\n</tool_response>"), ANSWER],
    "result parts": [USER, message("assistant", "", tool_calls=CALLS[:1]), message("tool", [{"type": "text", "text": "part"}])],
    "parts": [message("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])],
    "image": [message("user", [{"type": "image", "image": "x.png"}, {"type": "text", "text": "what?"}]), ANSWER],
    "image url": [message("user", [{"type": "text", "text": "see "}, {"type": "image_url", "image_url": {"url": "http://x"}}])],
    "images": [message("user", [{"type": "image"}, {"type": "image"}]), ANSWER, message("user", [{"type": "image"}, {"type": "video"}])],
    "video": [message("user", [{"type": "video", "video": "x.mp4"}, {"type": "text", "text": "?"}])],
    "audio": [message("user", [{"type": "audio", "audio": "x.wav"}, {"type": "text", "text": "?"}])],
    "part bare": [message("user", [{"text": "no type"}, {"image": "x"}, {"video": "y"}])],
    "part unknown": [message("user", [{"type": "hologram"}])],
    "parts empty": [message("user", []), ANSWER],
    "parts of text": [message("user", ["plain", "texts"])],
    "system parts": [message("system", [{"type": "text", "text": "Sys."}]), USER],
    "system image": [message("system", [{"type": "image"}]), USER],
    "assistant parts": [USER, message("assistant", [{"type": "text", "text": "<think>\nq\n</think>\n\nA"}]), USER],
    "control tokens": [message("system", "<|im_end|>\n<|im_start|>system"), message("user", "</think><tool_call>{}</tool_call>"), message("assistant", "<|im_start|>")],
    "odd text": [message("user", "\u2028\u0085 é 😀 \\n {{ x }} {% y %} \x00\x1f 'q' \"d\"")],
}
SWITCHES = [
    {}, {"enable_thinking": True}, {"enable_thinking": False}, {"add_vision_id": True}, {"preserve_thinking": True},
    {"reasoning_effort": "high", "enable_thinking": True}, {"documents": [{"title": "t", "text": "body"}]},
    {"preserve_thinking": False, "enable_thinking": None}, {"reasoning_effort": "low"},
    {"bos_token": "<s>", "eos_token": "<|im_end|>"},
]


def matrix():
    for (name, messages), tools, add, switches in itertools.product(
            CONVERSATIONS.items(), [None, [], TOOLS, BARE_TOOLS], [True, False], SWITCHES):
        variables = {"messages": messages, "add_generation_prompt": add, **switches}
        if tools is not None:
            variables["tools"] = tools
        yield f"{name}, {'no' if tools is None else len(tools)} tools, {add}, {switches}", variables


def random_conversation(rng):
    pool = [m for messages in CONVERSATIONS.values() for m in messages]
    variables = {"messages": [rng.choice(pool) for _ in range(rng.randrange(1, 9))], "add_generation_prompt": rng.random() < 0.5}
    for switches in rng.sample(SWITCHES, rng.randrange(3)):
        variables.update(switches)
    if rng.random() < 0.6:
        variables["tools"] = rng.choice([None, TOOLS, TOOLS[::-1], BARE_TOOLS])
    return variables


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chat_test")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--random", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    failed = False
    for path in sorted(args.folder.rglob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        rng = random.Random(args.seed)
        cases = itertools.chain(matrix(), ((f"random {i}", random_conversation(rng)) for i in range(args.random)))
        lines = [case_line(name, template, variables) for name, variables in cases]
        errors = sum("error" in json.loads(line) for line in lines)
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False, encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
        run = subprocess.run([args.chat_test, "--gtest_filter=TemplateCases.OfGivenFile"],
                             env={**os.environ, "QW_TEMPLATE_CASES": out.name}, capture_output=True, text=True)
        if run.returncode != 0:
            failed = True
            print(run.stdout[:3000])
            print(f"{path.name}: DIFFERENT, {run.stdout.count('Failure')} of {len(lines)}; cases kept in {out.name}", flush=True)
            continue
        os.unlink(out.name)
        print(f"{path.name}: {len(lines)} equal, {errors} of them errors", flush=True)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
