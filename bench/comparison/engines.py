"""How this program and the llama.cpp family are asked for one figure: tokens a second of a model file."""
import json
import pathlib
import re
import shlex
import subprocess
import time

LONGEST = 1500  # seconds: what takes longer hangs; filling a cache with 32768 tokens takes half of it


class Failed(Exception):
    pass


def run(command, turn, environment=None, errors_too=False):
    """Runs a command, after that of `turn` if there is one; gives its standard output (behind it that for errors, if wanted) and
    the seconds it took."""
    started = time.monotonic()
    done = subprocess.run([*turn, *map(str, command)], capture_output=True, text=True, errors="replace", timeout=LONGEST,
                          env=environment)
    if done.returncode != 0:
        raise Failed(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout + (done.stderr if errors_too else ""), time.monotonic() - started


class Ours:
    def __init__(self, name, program, turn, flags=""):
        self.name, self.program, self.turn, self.flags = name, pathlib.Path(program), turn, shlex.split(flags)

    def available(self, what):
        return self.program.exists()

    def bench(self, model, threads, *arguments):
        out, _ = run([self.program, "bench", "-m", model, "-t", threads, "-r", 1, "--json", *arguments, *self.flags], self.turn)
        return {(r["test"], r["batch"]): r["tps_median"] for r in json.loads(out)["results"]}

    def prefill(self, model, threads, tokens):
        return self.bench(model, threads, "-p", tokens, "-n", 0)[f"pp{tokens}", 1]

    def decode(self, model, threads, depth, tokens, cache):
        cache_flag = ["--cache-type", cache.removesuffix("_0")]
        [speed] = self.bench(model, threads, "-p", 0, "-n", tokens, "-d", depth, *cache_flag).values()
        return speed

    def batch(self, model, threads, sizes, tokens):
        found = self.bench(model, threads, "-p", 0, "-n", tokens, "-d", 16, "--batch", ",".join(map(str, sizes)))
        return {batch: speed for (_, batch), speed in found.items()}

    def first_token(self, model, threads):
        _, seconds = run([self.program, "complete", "-m", model, "-t", threads, "-p", "Hello", "--max-tokens", 1, "--context", 512], self.turn)
        return seconds

    def server(self, model, threads, port, slots, context):
        known = subprocess.run([self.program, "serve", "--help"], capture_output=True, text=True, check=False).stdout
        drafts = ["--draft", "off"] if "--draft " in known else []  # the answers are repetitions, which it would guess
        return [self.program, "serve", "-m", model, "-t", threads, "--port", port, "--max-sequences", slots, "--context", context,
                "--cache-tokens", slots * context, "--log-level", "warning", *drafts]


class Llama:
    """llama.cpp or a fork of it: `folder` holds its programs, any of which may be absent; `flags`, as llama-bench takes them, go to each."""

    def __init__(self, name, folder, turn, flags=""):
        self.name, self.folder, self.turn, self.flags = name, pathlib.Path(folder), turn, shlex.split(flags)
        # Where llama-bench wants 0 or 1 behind a switch, the other programs want nothing.
        self.switches = [f for i, f in enumerate(self.flags) if not (f == "1" and i > 0 and self.flags[i - 1] in ("-rtr", "-fmoe"))]
        help_text = subprocess.run([self.folder / "llama-bench", "--help"], capture_output=True, text=True, check=False)
        self.has_depth = "--n-depth" in help_text.stdout + help_text.stderr

    def available(self, what):
        return (self.folder / {"batch": "llama-batched-bench", "server": "llama-server", "start": "llama-cli"}.get(what, "llama-bench")).exists()

    def bench(self, model, threads, *arguments):
        out, _ = run([self.folder / "llama-bench", "-m", model, "-t", threads, "-r", 1, "-o", "json", "-fa", 1, *arguments, *self.flags], self.turn)
        return json.loads(out[out.index("["):])

    def prefill(self, model, threads, tokens):
        return self.bench(model, threads, "-p", tokens, "-n", 0)[0]["avg_ts"]

    def decode(self, model, threads, depth, tokens, cache):
        types = ["-ctk", cache, "-ctv", cache]
        if depth == 0:
            results = self.bench(model, threads, "-p", 0, "-n", tokens, *types)
        elif self.has_depth:
            results = self.bench(model, threads, "-p", 0, "-n", tokens, "-d", depth, *types)
        else:
            results = self.bench(model, threads, "-p", 0, "-n", 0, "-gp", f"{depth},{tokens}", *types)
        [result] = [r for r in results if r["n_gen"] == tokens]
        return result["avg_ts"]

    def batch(self, model, threads, sizes, tokens):
        out, _ = run([self.folder / "llama-batched-bench", "-m", model, "-t", threads, "-c", max(sizes) * (16 + tokens), "-b", 2048, "-ub", 512,
                      "-npp", 16, "-ntg", tokens, "-npl", ",".join(map(str, sizes)), "-fa", "on", *self.switches], self.turn, errors_too=True)  # where ik_llama.cpp puts its table
        rows = re.findall(r"^\|" + r"\s*([\d.]+) \|" * 10, out, re.M)
        return {int(row[2]): float(row[7]) for row in rows}

    def first_token(self, model, threads):
        _, seconds = run([self.folder / "llama-cli", "-m", model, "-t", threads, "-p", "Hello", "-n", 1, "-c", 512, "--no-warmup", "-st",
                          "--simple-io", *self.switches], self.turn)
        return seconds

    def server(self, model, threads, port, slots, context):
        return [self.folder / "llama-server", "-m", model, "-t", threads, "--port", port, "-np", slots, "-c", slots * context, "-fa", "on", *self.switches]
