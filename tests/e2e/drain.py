"""How the service ends, as clients and load balancers see it.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import http.client
import json
import pathlib
import sys
import tempfile
import time

from service import check, start_service

program = sys.argv[1]


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), json.loads(body)


def post(port, tokens, stream, **more):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": tokens, "stream": stream, "ignore_eos": True, **more}),
                       {"Content-Type": "application/json"})
    return connection, connection.getresponse()


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    server, port = start_service(program, work / "log", "-m", "mini", "--drain-delay", "2", "--grace", "30", "--context", "2000")
    long, stream = post(port, 1500, True)
    first = stream.readline()
    end = time.monotonic() + 10
    status, _, said = get(port, "/health/tokens")
    while said.get("running") != 1 and time.monotonic() < end:  # a step's figures are told after the step's answers
        time.sleep(0.02)
        status, _, said = get(port, "/health/tokens")
    check("drain: tokens are made, and the health page says so",
          status == 200 and said["status"] == "working" and said["running"] == 1 and said["seconds_since_token"] < 30)
    connection, answer = post(port, 8, False, timings=True)
    timings = json.loads(answer.read())["timings"]
    connection.close()
    check("drain: an answer says how long it took, where that is asked for",
          0 <= timings["queued_ms"] <= timings["first_token_ms"] <= timings["total_ms"] and timings["predict_ms"] > 0)
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=20)  # open and silent when the end comes
    kept.request("GET", "/health/live")
    kept.getresponse().read()

    server.terminate()
    end = time.monotonic() + 5
    while get(port, "/health/ready")[0] == 200 and time.monotonic() < end:
        time.sleep(0.02)
    check("drain: readiness says no first", get(port, "/health/ready")[0] == 503 and get(port, "/health/live")[0] == 200)
    connection, answer = post(port, 2, False)
    answer.read()
    check("drain: requests are answered during the delay", answer.status == 200)
    connection.close()
    refused, headers = None, {}
    keepers, end = [], time.monotonic() + 10
    while time.monotonic() < end:
        # One that is taken takes longer than the pause before the next: the service has not ended when it refuses, however fast it is.
        connection, answer = post(port, 1900, True, n=4)
        if answer.status != 200:
            refused, headers = json.loads(answer.read()), dict(answer.getheaders())
            connection.close()
            break
        keepers.append((connection, answer))
        time.sleep(0.05)
    check("drain: then new ones are refused with Retry-After", refused is not None and answer.status == 503 and
          refused["error"]["code"] == "shutting_down" and "Retry-After" in headers)
    check("drain: the health pages answer still", get(port, "/health/live")[0] == 200 and get(port, "/health/ready")[0] == 503)
    for keeper, begun in keepers:
        keeper.close()
        begun.close()
    lines = [first] + stream.read().splitlines()
    check("drain: the stream from before comes to its own end", lines[-1] == b"data: [DONE]" or b"data: [DONE]" in lines[-2:])
    check("drain: and with all its tokens", sum(line.startswith(b"data: {") for line in lines) > 100)
    check("drain: the program ends with 0", server.wait(30) == 0)

    # An answer that does not end in time is cut, and the program ends all the same.
    server, port = start_service(program, work / "log", "-m", "mini", "--grace", "1")
    long, stream = post(port, 2000, True, n=16)
    stream.readline()
    began = time.monotonic()
    server.terminate()
    code = server.wait(30)
    check("drain: after the grace answers are cut", code == 0 and 0.9 < time.monotonic() - began < 10 and "cut off" in (work / "log").read_text())
