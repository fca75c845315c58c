#!/usr/bin/env python3
"""`bam serve` beside a Python server (python_server.py), under a constant rate of arrivals, in one run.

Both get the same model, texts and processors; the generator, oha, gets processors of its own. It sends at fixed times and
counts a latency from when a request was due, so that a server that falls behind can't hide it.

    python3 benches/serve.py --bam target/release/bam --oha .deps/bench/bin/oha --server-cpus 0 --client-cpus 1
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import machine

ROOT = pathlib.Path(__file__).resolve().parent.parent
PORT = 18765
LIMIT_SECS = 0.1
# Weights do not matter for speed, so the model is trained for a moment only.
PIPELINE = """
seed: 17
for: { task: [acceptability, sentiment, similarity, entailment], precision: [fp32, fp16, int8] }
stages:
  examples@task: { data:     { task: $task, grammar: { train: 64, dev: 16 } } }
  tokens@task:   { tokenize: { examples: examples@$task, encoder: ENCODER, max_tokens: 128 } }
  student:       { train:    { tokens: [tokens@*], encoder: ENCODER, epochs: 1, learning_rate: 1e-4 } }
  onnx@precision: { export:  { model: student, precision: $precision } }
"""


def make_models(bam, folder):
    encoder = ROOT / ".deps/encoders/all-MiniLM-L6-v2"
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("ENCODER", str(encoder)))
    done = subprocess.run([bam, "run"], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return folder / "artifacts/latest"


def body(words):
    return json.dumps({"inputs": " ".join(words), "tasks": ["sentiment"]})


def bodies(model, count=2000):
    """Texts of words that are one word piece each: as many as a short message has, seldom as a long one."""
    pieces = (model / "vocab.txt").read_text().split("\n")
    words = [piece for piece in pieces if re.fullmatch("[a-z]{3,8}", piece)]
    dice = random.Random(17)
    lengths = [min(62, 6 + int(dice.expovariate(1 / 12))) for _ in range(count)]
    return [body(dice.choices(words, k=length)) for length in lengths], body(dice.choices(words, k=14))


@contextlib.contextmanager
def serving(command, environment, cpus):
    """A server, from when it answers until the block ends."""
    command = ["taskset", "-c", cpus, *map(str, command)]
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            sys.exit(f"another program answers on port {PORT}; end it first")
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
        try:
            for _ in range(600):
                time.sleep(0.1)
                with contextlib.suppress(OSError):
                    post(body(["fine"]))
                    break
                if child.poll() is not None:
                    log.seek(0)
                    sys.exit(f"{' '.join(command)} ended:\n{log.read().decode()}")
            else:
                sys.exit(f"{' '.join(command)} doesn't answer within a minute")
            yield
        finally:
            child.terminate()
            child.wait()


def post(text):
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/predict", text.encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


class Connection:
    """One that is kept: what an answer takes, and the answer."""

    def __init__(self):
        self.stream = socket.create_connection(("127.0.0.1", PORT))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def ask(self, line, body=""):
        """Milliseconds and the answer's body; the request comes 2 ms after what was before it."""
        head = f"{line} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        request = (head + body).encode()
        time.sleep(0.002)
        start = time.perf_counter()
        self.stream.sendall(request)
        answer = b""
        while not is_whole(answer):
            more = self.stream.recv(65536)
            if not more:
                sys.exit("the server closed the connection")
            answer += more
        return (time.perf_counter() - start) * 1000, answer.split(b"\r\n\r\n", 1)[1]


def is_whole(answer):
    head, found, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
    return bool(found) and len(body) >= int(length[1] if length else 0)


def one_at_a_time(text, count=500):
    """Milliseconds that a request takes on a quiet server, and what of them is not the model's; medians. Tells too what HTTP
    alone takes of that: an answer of `GET /livez` right after a prediction, and after another of its kind."""
    times, rests, lives = [], [], []
    with Connection() as connection:
        for _ in range(count):
            took, answer = connection.ask("POST /v1/predict", text)
            times.append(took)
            compute_ms = json.loads(answer).get("timings", {}).get("compute_ms")
            if compute_ms is not None:
                rests.append(took - compute_ms)
        if rests:
            for _ in range(count):
                connection.ask("POST /v1/predict", text)
                lives.append(connection.ask("GET /livez")[0])
            again = [connection.ask("GET /livez")[0] for _ in range(count)]
    if lives:
        told = " and ".join(f"{statistics.median(live):.2f}" for live in (lives, again))
        print(f"  GET /livez after a prediction and after itself: {told} ms", file=sys.stderr)
    return statistics.median(times), statistics.median(rests) if rests else None


class Generator:
    def __init__(self, oha, cpus, file):
        self.command = ["taskset", "-c", cpus, oha, "--no-tui", "--output-format", "json", "-m", "POST"]
        self.command += ["-T", "application/json", "-Z", file, "-t", "30s", "--stats-success-breakdown"]

    @classmethod
    def of(cls, given, texts, folder):
        """As the arguments say, of these requests, which are put into a file of the folder."""
        file = folder / "bodies.jsonl"
        file.write_text("\n".join(texts) + "\n")
        return cls(given.oha, given.client_cpus, file)

    def call(self, *arguments):
        command = [*self.command, *arguments, f"http://127.0.0.1:{PORT}/v1/predict"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"oha failed:\n{done.stderr}{done.stdout}")
        return json.loads(done.stdout)

    def at(self, rate, seconds):
        report = self.call("-c", 256, "-q", round(rate), "--latency-correction", "-w", "-n", round(rate * seconds))
        codes = {int(code): count for code, count in report["statusCodeDistribution"].items()}
        answered, refused = codes.pop(200, 0), codes.pop(429, 0)
        failed = sum(codes.values()) + sum(report["errorDistribution"].values())
        times = {name: report["latencyPercentilesSuccessful"][name] for name in ["p50", "p95", "p99"]}
        return {**times, "answered": answered / report["summary"]["total"], "refused": refused, "failed": failed}

    def keeps(self, rate, seconds):
        found = self.at(rate, seconds)
        keeps = found["refused"] + found["failed"] == 0 and found["p99"] <= LIMIT_SECS
        print(f"  {rate:.0f}/s: {'kept' if keeps else 'not kept'}, {found}", file=sys.stderr)
        return keeps

    def most(self, start, seconds, steps):
        """The highest rate at which 99 of 100 requests take no longer than the limit and none fails: by growth from one
        that is kept, then by bisection. A rate has a second try, for a machine's own pauses are no server's."""
        while not any(self.keeps(start, seconds) for _ in range(2)):
            start /= 2
        low, high = start, None
        while steps > 0:
            rate = low * 1.4 if high is None else (low + high) / 2
            keeps = any(self.keeps(rate, seconds) for _ in range(2))
            low, high = (rate, high) if keeps else (low, rate)
            steps -= high is not None
        return low


def measure(generator, short, seconds, steps):
    """A server's row of the table, from its second column on."""
    alone_ms, rest_ms = one_at_a_time(short)
    most = generator.most(500 / alone_ms, seconds, steps)
    near, beyond = generator.at(most * 0.9, seconds), generator.at(most * 2, seconds)
    times = " / ".join(f"{near[name] * 1000:.0f}" for name in ["p50", "p95", "p99"])
    count = round(most * 2 * seconds)
    return [
        f"{alone_ms:.1f} ms",
        "" if rest_ms is None else f"{rest_ms:.2f} ms",
        f"{most:.0f}",
        f"{times} ms, {near['refused'] + near['failed']} errors",
        f"{beyond['answered']:.0f}/s in {beyond['p99'] * 1000:.0f} ms, {beyond['refused'] * 100 / count:.0f} % refused, {beyond['failed']} failed",
    ]


def arguments(about):
    """Those of each measurement of the server."""
    cores = sorted(os.sched_getaffinity(0))
    arguments = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bam", type=pathlib.Path, default=ROOT / "target/release/bam")
    arguments.add_argument("--oha", default="oha")
    arguments.add_argument("--precisions", nargs="+", default=["fp32", "int8"], choices=["fp32", "fp16", "int8"], help="of the model")
    arguments.add_argument("--server-cpus", default=",".join(map(str, cores[:-1] or cores)))
    arguments.add_argument("--client-cpus", default=str(cores[-1]))
    arguments.add_argument("--seconds", type=int, default=8, help="of each measurement")
    arguments.add_argument("--serve", default="", help="more arguments of `bam serve`")
    return arguments


def command_of(given, model):
    return [given.bam.resolve(), "serve", model, "--listen", f"127.0.0.1:{PORT}", *given.serve.split()]


def main():
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=5, help="of the search for the highest rate")
    parser.add_argument("--alone", action="store_true", help="measure bam's server alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        models = make_models(given.bam.resolve(), folder)
        print(machine.line())
        print(f"Server on processors {given.server_cpus}, generator on {given.client_cpus}; {given.seconds} s a measurement.")
        for precision in given.precisions:
            print(f"\n| {precision} | one alone | beyond the model | most/s, p99 ≤ 100 ms | at 90 % of it: p50 / p95 / p99 | at twice: answered, p99 |")
            print("|---|---|---|---|---|---|", flush=True)
            table((models / f"onnx@{precision}").resolve(), folder, given)


def table(model, folder, given):
    """Prints a row for each server of a model."""
    texts, short = bodies(model)
    generator = Generator.of(given, texts, folder)
    servers = [("bam serve", command_of(given, model), {})]
    if not given.alone:
        servers += peers(model, len(os.sched_getaffinity(0) & cpus_of(given.server_cpus)))
    for what, command, environment in servers:
        print(what, file=sys.stderr)
        with serving(command, environment, given.server_cpus):
            print("| " + " | ".join([what, *measure(generator, short, given.seconds, given.steps)]) + " |", flush=True)


def peers(model, threads):
    """The Python server, with all threads in a process and with a process for each."""
    uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", ROOT / "benches", "python_server:app", "--port", PORT]
    uvicorn += ["--log-level", "warning"]
    one = {"MODEL": str(model), "THREADS": str(threads)}
    servers = [(f"FastAPI, a process of {threads} thread{'s' if threads > 1 else ''}", uvicorn, one)]
    if threads > 1:
        several = [*uvicorn, "--workers", threads]
        servers.append((f"FastAPI, {threads} processes of a thread", several, {**one, "THREADS": "1"}))
    return servers


def cpus_of(text):
    """`0,2-3` as taskset reads it."""
    ends = [part.split("-") for part in text.split(",")]
    return {cpu for end in ends for cpu in range(int(end[0]), int(end[-1]) + 1)}


if __name__ == "__main__":
    main()
