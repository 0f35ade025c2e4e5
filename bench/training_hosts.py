"""What a training step costs on several hosts: measured on hosts made of network namespaces of this machine, beside a model of
compute, bytes and messages that is fitted to some of the cases and tried on the others; and the model's curve to 1,000 hosts.

  bench/training_hosts.py measure --program build/release/qianwen --out build/hosts    (root; mpirun, ip and tc)
  bench/training_hosts.py report --out build/hosts --document docs/operations/training_hosts.md

Standard library only."""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile

from comparison.charts import chart

RECIPE = """data = "data.toml"
output = "run"
threads = 1
steps = {steps}
sequence_length = 256
batch_sequences = 2
accumulation = {accumulation}
[model]
model_type = "qwen3"
vocab_size = 4096
hidden_size = 512
intermediate_size = 1536
num_hidden_layers = 8
num_attention_heads = 8
num_key_value_heads = 4
head_dim = 64
max_position_embeddings = 256
rope_theta = 10000.0
rms_norm_eps = 1e-6
tie_word_embeddings = true
[parallel]
parts = {parts}
zero = {zero}
overlap = {overlap}
tensor = {tensor}
"""
# Hosts, megabits a second of each host's cable (0: as fast as the machine copies), micro-batches of a step, and what else.
CASES = [dict(hosts=1, rate=0, accumulation=1), dict(hosts=1, rate=0, accumulation=2),
         dict(hosts=2, rate=0, accumulation=2, overlap=False), dict(hosts=2, rate=0, accumulation=2),
         dict(hosts=2, rate=0, accumulation=2, zero=1), dict(hosts=2, rate=0, accumulation=2, zero=2),
         dict(hosts=2, rate=1000, accumulation=2, overlap=False), dict(hosts=2, rate=1000, accumulation=2),
         dict(hosts=2, rate=1000, accumulation=8), dict(hosts=2, rate=250, accumulation=2),
         dict(hosts=4, rate=1000, accumulation=4), dict(hosts=4, rate=250, accumulation=4),
         dict(hosts=2, rate=0, accumulation=2, tensor=2), dict(hosts=2, rate=1000, accumulation=2, tensor=2),
         dict(hosts=4, rate=1000, accumulation=4, tensor=2), dict(hosts=4, rate=1000, accumulation=2, tensor=4)]
WARM = 1  # steps that do not count


class Network:
    """Hosts in network namespaces around a switch, each at the end of a cable of a given rate."""

    def __init__(self, hosts, rate, folder):
        self.names = [f"qwbench{os.getpid()}h{i}" for i in range(hosts)]
        self.switch = f"qwbench{os.getpid()}s"
        for name in [self.switch, *self.names]:
            self.run("ip", "netns", "add", name)
        self.run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        self.run("ip", "-n", self.switch, "link", "set", "br0", "up")
        for i, name in enumerate(self.names):
            self.run("ip", "link", "add", f"qwa{i}", "netns", name, "type", "veth", "peer", "name", f"qwb{i}", "netns", self.switch)
            self.run("ip", "-n", self.switch, "link", "set", f"qwb{i}", "master", "br0", "up")
            self.run("ip", "-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", f"qwa{i}")
            for device in (f"qwa{i}", "lo"):
                self.run("ip", "-n", name, "link", "set", device, "up")
            if rate:
                for space, device in ((name, f"qwa{i}"), (self.switch, f"qwb{i}")):
                    self.run("tc", "-n", space, "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{rate}mbit", "burst", "256kb", "latency", "50ms")
        self.agent = pathlib.Path(folder) / "agent"
        cases = "".join(f"10.77.0.{i + 1}) space={name};; " for i, name in enumerate(self.names))
        self.agent.write_text(f"#!/bin/sh\ncase $1 in {cases}esac\nshift\n"
                              "exec ip netns exec $space unshare --uts sh -c 'hostname $1; shift; eval \"$*\"' sh $space \"$@\"\n")
        self.agent.chmod(0o755)

    @staticmethod
    def run(*words):
        subprocess.run(words, check=True)

    def launch(self, *command):
        hosts = ",".join(f"10.77.0.{i + 1}:1" for i in range(len(self.names)))
        return ["ip", "netns", "exec", self.names[0], "unshare", "--uts", "sh", "-c", 'hostname $1; shift; exec "$@"', "sh", self.names[0], "mpirun",
                "--allow-run-as-root", "--bind-to", "none", "--host", hosts, "-n", str(len(self.names)), "--mca", "plm_rsh_agent", str(self.agent),
                "--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca", "oob_tcp_if_include", "10.77.0.0/24", *command]

    def close(self):
        for name in [self.switch, *self.names]:
            subprocess.run(["ip", "netns", "del", name], check=False)


def write_data(folder):
    words = "moon river crane autumn mountain wind old friend boat lamp snow pine gate bell road night".split()
    with open(folder / "text.txt", "w") as out:
        for d in range(600):
            out.write(" ".join(words[(d * 7 + i * i * (d % 5 + 1)) % 16] for i in range(250)) + "\n\n")
    (folder / "data.toml").write_text(
        'output = "shards"\ndedup = "none"\n[tokenizer]\nfolder = "tokenizer"\nvocab = 300\nadded = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]\n'
        '[[source]]\nname = "text"\npath = "./text.txt"\nlicence = "CC0"\norigin = "made"\n')


def measure(options):
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    program = str(pathlib.Path(options.program).resolve())
    results = json.loads((out / "results.json").read_text()) if (out / "results.json").exists() else []
    known = [{"tensor": 1, **r["case"]} for r in results]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_data(folder)
        for number, case in enumerate(CASES):
            full = {"zero": 0, "overlap": True, "tensor": 1, **case}
            if full in known:
                continue
            recipe = RECIPE.format(steps=WARM + options.steps, accumulation=full["accumulation"], zero=full["zero"],
                                   parts=full["hosts"] // full["tensor"], tensor=full["tensor"], overlap=str(full["overlap"]).lower())
            (folder / "recipe.toml").write_text(recipe)
            command = [program, "train", "recipe.toml", "--set", f"output=run{number}", "--json"]
            network = Network(full["hosts"], full["rate"], folder) if full["hosts"] > 1 else None
            try:
                words = [*options.turn.split(), *(network.launch(*command) if network else command)]
                said = subprocess.run(words, cwd=folder, capture_output=True, text=True)
            finally:
                if network:
                    network.close()
            steps = [json.loads(line) for line in said.stdout.splitlines() if line.startswith('{"step"') and '"loss"' in line]
            if len(steps) != WARM + options.steps:
                raise SystemExit(f"{full}: {said.stdout[-500:]}{said.stderr[-2000:]}")
            rows = [b["tokens"] - a["tokens"] for a, b in zip(steps, steps[1:])]
            seconds = [n / s["tps"] for n, s in zip(rows, steps[1:])][WARM - 1:]
            trained = float(re.search(r"([0-9.]+) M of them trained", said.stderr).group(1)) if " M of them trained" in said.stderr else None
            results.append({"case": full, "seconds": statistics.median(seconds), "range": [min(seconds), max(seconds)],
                            "waited": statistics.median(s.get("waited", 0) for s in steps[WARM:]), "trained": trained})
            print(json.dumps(results[-1]), flush=True)
            (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


LAYERS, WIDTH, ROWS = 8, 512, 512
IN_LAYERS = LAYERS * (512 * 512 * 2 + 2 * 256 * 512 + 3 * 512 * 1536)  # norms left aside
PARAMETERS = 4096 * 512 + IN_LAYERS
BACKWARD = 2 / 3  # of a micro-batch's time


class Cost:
    """Seconds of a step. micro: of one micro-batch; update: of the optimizer; rate: bytes a second of a cable, out and in at once;
    copy: bytes a second at which processes of this machine hand on without a cable; message: of one message; bucket: bytes of
    gradients that are summed at once; reached: of a cable's rate; in_layers: parameters that can be cut; summed: bytes of a value
    of all rows of a micro-batch."""

    def __init__(self, micro, update, copy, message, parameters, bucket=16 << 20, reached=1.0, in_layers=0, layers=0, summed=0):
        self.micro, self.update, self.copy, self.message, self.bytes, self.reached = micro, update, copy, message, 4 * parameters, reached
        self.bucket, self.cut, self.layers, self.summed = bucket, in_layers / parameters, layers, summed

    def exchange(self, moved, hosts, rate, messages):
        """Sums of so many bytes over so many hosts: as much goes out as comes in."""
        moved *= 2 * (hosts - 1) / hosts
        return moved / (self.reached * rate) + moved / self.copy + 2 * messages * (hosts - 1) * self.message

    def sums(self, tensor, rate):
        """Of a micro-batch over those that hold a model together: two a layer forward and two backward."""
        return self.exchange(4 * self.layers * self.summed, tensor, rate, 4 * self.layers)

    def step(self, hosts, rate, accumulation, overlap=True, zero=0, crowd=1, tensor=1):
        """`accumulation`: of the whole step; `crowd`: hosts a processor, where they are not machines; `tensor`: hosts that hold a
        model together."""
        groups, left = hosts / tensor, 1 - self.cut * (1 - 1 / tensor)  # left: of a model and of its work
        own, held = accumulation / groups, left * self.bytes
        exchange = self.exchange(held, groups, rate, max(1, round(held / self.bucket)))
        hidden = BACKWARD * left * self.micro if overlap else 0
        return (own * (crowd * left * self.micro + self.sums(tensor, rate)) + max(0, exchange - crowd * hidden)
                + crowd * left * self.update / (groups if zero else 1))


def fit(results):
    """From one host, and from two without a cable's limit and with one of a gigabit, both without overlap."""
    of = {tuple(sorted({"tensor": 1, **r["case"]}.items())): r for r in results}
    get = lambda **c: of[tuple(sorted({"zero": 0, "overlap": True, "rate": 0, "tensor": 1, **c}.items()))]["seconds"]
    both = get(hosts=1, accumulation=2)
    micro = min(both - get(hosts=1, accumulation=1), both / 2)
    update = max(0.0, get(hosts=1, accumulation=1) - micro)
    cost = Cost(micro, update, 1e12, 20e-6, PARAMETERS, in_layers=IN_LAYERS, layers=LAYERS, summed=4 * ROWS * WIDTH)
    left = get(hosts=2, accumulation=2, overlap=False) - micro - update
    cost.copy = cost.bytes / max(left, 1e-4)  # 2 (N-1)/N of the bytes
    left = get(hosts=2, rate=1000, accumulation=2, overlap=False) - micro - update - cost.exchange(cost.bytes, 2, 1e15, max(1, round(cost.bytes / cost.bucket)))
    cost.reached = cost.bytes / 125e6 / max(left, 1e-4)
    return cost


def predictions(results, cost):
    rows = []
    for r in results:
        c = {"tensor": 1, **r["case"]}
        rate = c["rate"] * 1e6 / 8 if c["rate"] else 1e15
        rows.append((c, r, cost.step(c["hosts"], rate, c["accumulation"], c["overlap"], c["zero"], max(1, c["hosts"] / os.cpu_count()), c["tensor"])))
    return rows


# Qwen3-0.6B on hosts that compute 2 TFLOP/s each in such steps and take 64 micro-batches of 1024 tokens a step between them, or
# 8 each; 20 microseconds a message, 80 % of a cable's rate.
CURVES = [("100 Gbit/s", 100e9 / 8), ("25 Gbit/s", 25e9 / 8), ("10 Gbit/s", 10e9 / 8), ("1 Gbit/s", 1e9 / 8)]
HOSTS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
LARGE, FLOPS, TOKENS, EACH = 596_049_920, 2e12, 1024, 8
LARGE_LAYERS, LARGE_WIDTH, LARGE_TABLE = 28, 1024, 151_936 * 1024
COLUMNS = [1, 2, 4, 8]


def large_cost():
    return Cost(6 * LARGE * TOKENS / FLOPS, 28 * LARGE / 100e9, 10e9, 20e-6, LARGE, reached=0.8, in_layers=LARGE - LARGE_TABLE, layers=LARGE_LAYERS,
                summed=4 * TOKENS * LARGE_WIDTH)


def report(options):
    results = json.loads((pathlib.Path(options.out) / "results.json").read_text())
    cost = fit(results)
    lines = [f"Fitted: a micro-batch {1e3 * cost.micro:.0f} ms, an update {1e3 * cost.update:.0f} ms, copies between processes of this machine "
             f"{cost.copy / 1e9:.2f} GB/s, {100 * cost.reached:.0f} % of a cable's rate; {PARAMETERS / 1e6:.1f} M parameters, {cost.bytes / 1e6:.0f} MB of gradients.", "",
             "| hosts | cable | micro-batches | zero | overlap | tensor | step, measured | waited | step, model | model / measured |", "|---|---|---|---|---|---|---|---|---|---|"]
    for c, r, predicted in predictions(results, cost):
        lines.append(f"| {c['hosts']} | {str(c['rate']) + ' Mbit/s' if c['rate'] else 'none'} | {c['accumulation']} | {c['zero']} | {'yes' if c['overlap'] else 'no'} | {c['tensor']} | "
                     f"{1e3 * r['seconds']:.0f} ms ({1e3 * r['range'][0]:.0f} to {1e3 * r['range'][1]:.0f}) | {1e3 * r['waited']:.0f} ms | {1e3 * predicted:.0f} ms | {predicted / r['seconds']:.2f} |")
    large = large_cost()
    alone = large.step(1, 1e15, EACH)
    shares = {name: [(n, large.step(n, rate, EACH * n)) for n in HOSTS] for name, rate in CURVES}
    lines += ["", f"The model's curve for Qwen3-0.6B, {EACH} micro-batches of {TOKENS} tokens on each host of {FLOPS / 1e12:g} TFLOP/s: share of N hosts' speed that N hosts have.", "",
              "| hosts | " + " | ".join(name for name, _ in CURVES) + " |", "|---|" + "---|" * len(CURVES)]
    for i, n in enumerate(HOSTS):
        lines.append(f"| {n} | " + " | ".join(f"{100 * alone / shares[name][i][1]:.0f} %" for name, _ in CURVES) + " |")
    lines += ["", f"The same of hosts that hold one model together (`tensor`), {EACH} micro-batches a step: share of their speed, and the bytes of weights, gradients and "
              "moments that each has of those of one.", "", "| hosts | bytes | " + " | ".join(name for name, _ in CURVES) + " |", "|---|---|" + "---|" * len(CURVES)]
    for n in COLUMNS:
        speeds = [100 * alone / (n * large.step(n, rate, EACH, tensor=n)) for _, rate in CURVES]
        lines.append(f"| {n} | {100 * (1 - large.cut * (1 - 1 / n)):.0f} % | " + " | ".join(f"{speed:.0f} %" for speed in speeds) + " |")
    lines += ["", "![Speed of N hosts in hosts, by the model, for four networks](../performance/training-hosts.svg)"]
    drawing = chart("Qwen3-0.6B on N hosts, by the model", "hosts", "speed, in hosts",
                    {name: [(n, *[n * alone / seconds] * 3) for n, seconds in points] for name, points in shares.items()}, {"as many as there are": [(n, n) for n in HOSTS]})
    document = pathlib.Path(options.document)
    (document.parent.parent / "performance" / "training-hosts.svg").write_text(drawing)
    text = document.read_text()
    begin, end = "<!-- made by bench/training_hosts.py report -->", "<!-- end -->"
    head, rest = text.split(begin)
    document.write_text(head + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("measure")
    command.add_argument("--program", default="build/release/qianwen")
    command.add_argument("--out", default="build/hosts")
    command.add_argument("--steps", type=int, default=3)
    command.add_argument("--turn", default="", help="a command before every single measurement, to keep others out meanwhile")
    command.set_defaults(run=measure)
    command = commands.add_parser("report")
    command.add_argument("--out", default="build/hosts")
    command.add_argument("--document", default="docs/operations/training_hosts.md")
    command.set_defaults(run=report)
    options = parser.parse_args()
    options.run(options)


main()
