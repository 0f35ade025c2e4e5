#!/usr/bin/env python3
"""Clients that run in Node: OpenAI's library with the shipped model, and the agent qwen-code, which gets a task, has the
service's model call its tool, runs it, and ends with what the model says to that. node_clients.py PROGRAM NODE_MODULES.

The agent asks with 17,000 tokens and the schemas of all its tools; the shipped model has room for 2048 and is a poet. So
the agent talks to a scripted model (scripted_model.py): what it says is given, and everything else is as with any model."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import scripted_model
import service

program, modules = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
ANSWER = "The file is made, as you asked. 文件写好了。"


def library(work):
    if not (modules / "openai").is_dir():
        print("skipped OpenAI's library for Node: QW_NODE_MODULES has no package openai")
        return
    log = work / "log"
    running, port = service.start_service(program, log, "-m", "mini", "--store", str(work / "state.db"))
    try:
        key = next(line.strip() for line in log.read_text().splitlines() if line.strip().startswith("sk-qw-"))
        script = pathlib.Path(__file__).parent / "openai_node.mjs"
        done = subprocess.run(["node", script, modules / "openai", f"http://127.0.0.1:{port}", key], timeout=120)
        service.check("node: the script ends well", done.returncode == 0)
    finally:
        running.terminate()
        running.wait(60)


def agent(work):
    cli = modules / "@qwen-code/qwen-code/cli.js"
    if not cli.is_file():
        print("skipped the agent qwen-code: QW_NODE_MODULES has no package @qwen-code/qwen-code")
        return
    call = scripted_model.call_text("run_shell_command", {"command": "printf made > made.txt", "is_background": False})
    model = scripted_model.make(program, work / "scripted", call, ANSWER)
    running, port = service.start_service(program, work / "agent.log", "-m", str(model), "--context", "65536")
    home, place = work / "home", work / "place"
    home.mkdir()
    place.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "QWEN_"))} | {"HOME": str(home)}
    try:
        done = subprocess.run(["node", cli, "-p", "Make the file made.txt.", "--yolo", "--auth-type", "openai", "--openai-api-key", "none",
                               "--openai-base-url", f"http://127.0.0.1:{port}/v1", "-m", "scripted", "-o", "json"],
                              cwd=place, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        made = place / "made.txt"
        service.check("agent: qwen-code ran the tool that the model called", made.is_file() and made.read_text() == "made")
        result = json.loads(done.stdout)[-1] if done.returncode == 0 else {}
        if not result:
            print(done.stdout[-1000:], done.stderr[-1000:])
        service.check("agent: it ended with what the model said to the result", not result.get("is_error", True) and result["result"] == ANSWER)
        service.check("agent: in two turns, the second of which found the first one's prompt",
                      result.get("num_turns") == 2 and result["usage"]["cache_read_input_tokens"] > result["usage"]["input_tokens"] * 0.4)
        tools = result["stats"]["tools"] if result else {}
        service.check("agent: with one call, which succeeded", (tools.get("totalCalls"), tools.get("totalSuccess")) == (1, 1))
    finally:
        running.terminate()
        running.wait(60)


with tempfile.TemporaryDirectory() as folder:
    library(pathlib.Path(folder))
    agent(pathlib.Path(folder))
