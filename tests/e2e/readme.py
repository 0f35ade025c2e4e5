"""The blocks of README.md, each executed as it stands but for the port, the place of the program, and `./dev run` and
`./dev chat`, which are `serve` and `chat` here (nothing is cloned, installed or built).
readme.py PROGRAM; QW_NODE_MODULES = a folder node_modules that has the package openai. Prints "ok ...", "FAILED ..." or
"skipped ..." a block."""
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import service

SECTION = "## From a first start to a tool call"
README = pathlib.Path(__file__).resolve().parent.parent.parent / "README.md"


def blocks():
    """(language, text) of each block of the section."""
    section = README.read_text().split(SECTION + "\n")[1].split("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def first_blocks():
    """Those of before the section, which say what they are by how they begin."""
    return re.findall(r"^```\n(.*?)^```$", README.read_text().split(SECTION + "\n")[0], re.MULTILINE | re.DOTALL)


def check_first_blocks(program):
    """What a newcomer sees first: where it comes from, an answer in the terminal, one over HTTP without keys."""
    clone, chat, curl = first_blocks()
    service.check("what comes first is what is run here", clone.startswith("git clone ") and "\n./dev run " in clone
                  and chat.startswith("$ ") and curl.startswith("curl "))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        line = chat.splitlines()[0][2:].replace("./dev chat", f"'{program}' chat mini")
        poem = run(["bash", "-es"], line, folder, dict(os.environ))
        service.check("the terminal's answer is as long as the one that is shown",
                      poem.returncode == 0 and len(poem.stdout.strip().splitlines()) == len(chat.splitlines()) - 1)
        server, port = service.start_service(program, folder / "log", "-m", "mini")
        answer = run(["bash", "-es"], curl.replace("127.0.0.1:8080", f"127.0.0.1:{port}"), folder, dict(os.environ))
        service.check("curl without keys", bool(json.loads(answer.stdout)["choices"][0]["message"]["content"].strip()))
        server.terminate()
        server.wait(timeout=60)


def calls_weather(text):
    """What the Python and Node blocks print: the name, then the arguments."""
    found = re.fullmatch(r"weather(\{.*\})\s*", text, re.DOTALL)
    return found is not None and json.loads(found[1])["city"] in ("北京", "杭州")


def streamed_call(text):
    """The call of a stream of chunks."""
    name = arguments = ""
    for line in text.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                for call in choice["delta"].get("tool_calls") or []:
                    name += call["function"].get("name") or ""
                    arguments += call["function"].get("arguments") or ""
    return name + arguments


def run(words, text, folder, environment):
    """A program that reads `text`."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, cwd=folder, env=environment, timeout=60)
    if done.returncode != 0:
        print(done.stderr)
    return done


def main():
    program = pathlib.Path(sys.argv[1])
    if shutil.which("curl") is not None:
        check_first_blocks(program)
    found = blocks()
    start, setup, curl, python, node, usage = found
    service.check("the section has the blocks that are run here", [b[0] for b in found] == ["sh", "sh", "sh", "python", "js", "sh"])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "build/release").mkdir(parents=True)
        (folder / "build/release/qianwen").symlink_to(program)
        words = start[1].split()
        service.check("the service is started by ./dev run", words[:2] == ["./dev", "run"])
        os.chdir(folder)
        server, port = service.start_service(program, folder / "log", *words[2:])
        environment = dict(os.environ)

        def block(text):
            return text.replace("127.0.0.1:8080", f"127.0.0.1:{port}")

        made = run(["bash", "-es"], block(setup[1]) + "\necho KEY=$QW_KEY\n", folder, environment)
        key = next((line[4:] for line in made.stdout.splitlines() if line.startswith("KEY=")), "")
        service.check("organisation, project, budget and key", made.returncode == 0 and key.startswith("sk-qw-"))
        environment.update(QW_KEY=key, QW_STORE="state.db")
        if shutil.which("curl") is None:
            print("skipped the block for curl: it is not installed")
        else:
            service.check("curl", calls_weather(streamed_call(run(["bash", "-es"], block(curl[1]), folder, environment).stdout)))
        if importlib.util.find_spec("openai") is None:
            print("skipped the block for Python: the library openai is not installed for this Python (QW_PYTHON chooses another)")
        else:
            service.check("Python", calls_weather(run([sys.executable, "-"], block(python[1]), folder, environment).stdout))
        modules = pathlib.Path(os.environ.get("QW_NODE_MODULES", "node_modules"))
        if shutil.which("node") is None or not (modules / "openai").is_dir():
            print("skipped the block for Node.js: node or its package openai is not there (QW_NODE_MODULES names a folder that has it)")
        else:
            (folder / "node_modules").symlink_to(modules.resolve())
            (folder / "call.mjs").write_text(block(node[1]))
            done = subprocess.run(["node", "call.mjs"], capture_output=True, text=True, cwd=folder, env=environment, timeout=60)
            print(done.stderr, end="")
            service.check("Node.js", calls_weather(done.stdout))
        used = run(["bash", "-es"], usage[1], folder, environment)
        service.check("usage and budget are shown", used.returncode == 0 and "prompt_tokens" in used.stdout and "200000" in used.stdout)
        server.terminate()
        service.check("the service ends by itself", server.wait(timeout=60) == 0)


main()
