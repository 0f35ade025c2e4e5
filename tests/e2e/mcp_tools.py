"""Responses whose model calls tools of servers made with the MCP library. mcp_tools.py PROGRAM; prints "ok ..." or
"FAILED ..." a check. With the words "server AGE PORT" it is such a server."""
import importlib.util
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import typing


def run_server(age, port):
    import uvicorn
    from mcp.server.mcpserver import MCPServer
    server = MCPServer("sums")

    # So few numbers that the shipped model, which would write digits without end, comes to the end of its call.
    Number = typing.Literal[1, 2, 7, 40]

    @server.tool()
    def plus(a: Number, b: Number) -> int:
        """adds two numbers"""
        return a + b

    @server.tool()
    def fail(a: Number, b: Number) -> str:
        """fails"""
        raise ValueError("not today")

    if age == "stream":
        app = server.sse_app()
    else:
        app = server.streamable_http_app()

    async def older(scope, receive, send):
        """A server that does not know of requests that stand alone, as those before 2026-07-28 are."""
        if scope["type"] == "http" and any(name == b"mcp-method" for name, _ in scope["headers"]):
            await send({"type": "http.response.start", "status": 400, "headers": []})
            return await send({"type": "http.response.body", "body": b"Bad Request: no session"})
        await app(scope, receive, send)

    uvicorn.run(older if age == "session" else app, host="127.0.0.1", port=port, log_level="warning")


def wait_for_port(port):
    for _ in range(600):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("an MCP server did not start")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main(program):
    import openai
    import pydantic
    from openai.types.responses import Response, ResponseStreamEvent
    from service import check, start_service
    ages = {"alone": "/mcp", "session": "/mcp", "stream": "/sse"}
    ports = {age: free_port() for age in ages}
    servers = [subprocess.Popen([sys.executable, __file__, "server", age, str(port)]) for age, port in ports.items()]
    with tempfile.TemporaryDirectory() as folder:
        words = [w for age, path in ages.items() for w in ("--mcp-server", f"{age}=http://127.0.0.1:{ports[age]}{path}")]
        served, port = start_service(program, pathlib.Path(folder) / "log", "-m", "mini", "--store", f"{folder}/state.db", *words)
        try:
            log = (pathlib.Path(folder) / "log").read_text()
            key = next(line.strip() for line in log.splitlines() if line.strip().startswith("sk-qw-"))
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0)
            events = pydantic.TypeAdapter(ResponseStreamEvent)
            for age, server_port in ports.items():
                wait_for_port(server_port)
                tool = {"type": "mcp", "server_label": age, "require_approval": "never", "allowed_tools": ["plus"]}
                ask = dict(model="mini", input="1+1", max_output_tokens=200, tool_choice="required", temperature=0, parallel_tool_calls=False)
                whole = client.responses.create(**ask, tools=[tool])
                calls = [item for item in whole.output if item.type == "mcp_call"]
                listed = [item for item in whole.output if item.type == "mcp_list_tools"]
                check(f"mcp, {age}: the tools are listed, those that are allowed", [t.name for t in listed[0].tools] == ["plus"])
                arguments = json.loads(calls[0].arguments)
                check(f"mcp, {age}: the tool gave {calls[0].output} for {arguments}",
                      calls[0].status == "completed" and int(calls[0].output) == arguments["a"] + arguments["b"])
                check(f"mcp, {age}: the response is one by the client's own types", Response.model_validate(whole.model_dump()) is not None)
                raw = client.responses.create(**ask, tools=[tool], stream=True)
                seen = [event.model_dump() for event in raw]
                for event in seen:
                    events.validate_python(event)
                kinds = [event["type"] for event in seen]
                check(f"mcp, {age}: {len(kinds)} events tell of list and call",
                      "response.mcp_list_tools.completed" in kinds and "response.mcp_call.completed" in kinds and
                      [event["sequence_number"] for event in seen] == list(range(len(seen))))
                tool["require_approval"] = "always"
                asked = client.responses.create(**ask, tools=[tool])
                waiting = [item for item in asked.output if item.type == "mcp_approval_request"]
                ask["tool_choice"] = "auto"
                ask["input"] = [{"type": "mcp_approval_response", "approval_request_id": waiting[0].id, "approve": True}]
                made = client.responses.create(**ask, tools=[tool], previous_response_id=asked.id)
                check(f"mcp, {age}: a call that was approved is made",
                      [item.approval_request_id for item in made.output if item.type == "mcp_call"][:1] == [waiting[0].id])
                tool = {"type": "mcp", "server_label": age, "require_approval": "never", "allowed_tools": ["fail"]}
                ask.update(tool_choice="required", input="1+1", max_output_tokens=200)
                failed = [item for item in client.responses.create(**ask, tools=[tool]).output if item.type == "mcp_call"]
                check(f"mcp, {age}: a tool that fails is told as such", failed[0].status == "failed" and failed[0].output is None)
            try:
                client.responses.create(model="mini", input="a", tools=[{"type": "mcp", "server_label": "x", "server_url": "http://127.0.0.1:1/"}])
                check("mcp: an address that the operator does not permit is refused", False)
            except openai.PermissionDeniedError:
                check("mcp: an address that the operator does not permit is refused", True)
        finally:
            served.terminate()
            served.wait(60)
            for server in servers:
                server.kill()
                server.wait()


if sys.argv[1] == "server":
    run_server(sys.argv[2], int(sys.argv[3]))
elif any(importlib.util.find_spec(name) is None for name in ("openai", "mcp", "uvicorn")):
    print("skipped MCP: openai or mcp is not installed for this Python (QW_PYTHON chooses another)")
else:
    main(sys.argv[1])
