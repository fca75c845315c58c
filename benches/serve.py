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

ROOT = pathlib.Path(__file__).resolve().parent.parent
PORT = 18765
LIMIT_SECS = 0.1
# Weights do not matter for speed, so the model is trained for a moment only.
PIPELINE = """
seed: 17
for: { task: [acceptability, sentiment, similarity, entailment] }
stages:
  examples@task: { data:     { task: $task, grammar: { train: 64, dev: 16 } } }
  tokens@task:   { tokenize: { examples: examples@$task, encoder: ENCODER, max_tokens: 128 } }
  student:       { train:    { tokens: [tokens@*], encoder: ENCODER, epochs: 1, learning_rate: 1e-4 } }
  onnx:          { export:   { model: student } }
"""


def make_model(bam, folder):
    encoder = ROOT / ".deps/encoders/all-MiniLM-L6-v2"
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("ENCODER", str(encoder)))
    done = subprocess.run([bam, "run"], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return folder / "artifacts/latest/onnx"


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
            yield
        finally:
            child.terminate()
            child.wait()


def post(text):
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/predict", text.encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def one_at_a_time(text, count=500):
    """Milliseconds that a request takes on a quiet server, and what of them is not the model's; medians."""
    head = "POST /v1/predict HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(text)}\r\n\r\n{text}".encode()
    times, rests = [], []
    with socket.create_connection(("127.0.0.1", PORT)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            time.sleep(0.002)
            start = time.perf_counter()
            stream.sendall(request)
            answer = stream.recv(65536)
            while not answer.endswith(b"}"):
                answer += stream.recv(65536)
            times.append((time.perf_counter() - start) * 1000)
            compute_ms = json.loads(answer.split(b"\r\n\r\n", 1)[1]).get("timings", {}).get("compute_ms")
            rests += [] if compute_ms is None else [times[-1] - compute_ms]
    return statistics.median(times), statistics.median(rests) if rests else None


class Generator:
    def __init__(self, oha, cpus, file):
        self.command = ["taskset", "-c", cpus, oha, "--no-tui", "--output-format", "json", "-m", "POST"]
        self.command += ["-T", "application/json", "-Z", file, "-t", "30s", "--stats-success-breakdown"]

    def call(self, *arguments):
        command = [*self.command, *arguments, f"http://127.0.0.1:{PORT}/v1/predict"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"oha failed:\n{done.stderr}{done.stdout}")
        return json.loads(done.stdout)

    def capacity(self, seconds):
        """Answers a second to clients that wait for each answer before they ask again."""
        report = self.call("-c", 16, "-z", f"{seconds}s")
        return report["statusCodeDistribution"].get("200", 0) / report["summary"]["total"]

    def at(self, rate, seconds):
        report = self.call("-c", 256, "-q", round(rate), "--latency-correction", "-w", "-n", round(rate * seconds))
        codes = {int(code): count for code, count in report["statusCodeDistribution"].items()}
        answered = report["latencyPercentilesSuccessful"]
        return {
            "rate": rate,
            "p50": answered["p50"] or 99.0,
            "p95": answered["p95"] or 99.0,
            "p99": answered["p99"] or 99.0,
            "ok": codes.get(200, 0),
            "refused": codes.get(429, 0),
            "failed": sum(codes.values()) - codes.get(200, 0) - codes.get(429, 0) + sum(report["errorDistribution"].values()),
        }

    def most(self, start, seconds, steps):
        """The highest rate at which 99 of 100 requests take no longer than the limit and none fails, by bisection."""
        low, high = 0.0, start * 1.3
        best = None
        for _ in range(steps):
            rate = (low + high) / 2 if best or high < start else start * 0.9
            found = self.at(rate, seconds)
            keeps = found["p99"] <= LIMIT_SECS and found["refused"] + found["failed"] == 0
            print(f"  {rate:6.0f}/s  p99 {found['p99'] * 1000:7.1f} ms  refused {found['refused']}  {'yes' if keeps else 'no'}", file=sys.stderr)
            if keeps:
                low, best = rate, found
            else:
                high = rate
        return low


def main():
    cores = sorted(os.sched_getaffinity(0))
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bam", type=pathlib.Path, default=ROOT / "target/release/bam")
    arguments.add_argument("--oha", default="oha")
    arguments.add_argument("--model", type=pathlib.Path, help="the folder of a model.onnx; by default one is made")
    arguments.add_argument("--server-cpus", default=",".join(map(str, cores[:-1] or cores)))
    arguments.add_argument("--client-cpus", default=str(cores[-1]))
    arguments.add_argument("--seconds", type=int, default=8, help="of each measurement")
    arguments.add_argument("--steps", type=int, default=7, help="of the search for the highest rate")
    arguments.add_argument("--only", help="a part of a server's name")
    arguments.add_argument("--serve", default="", help="more arguments of `bam serve`")
    given = arguments.parse_args()
    bam = given.bam.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = (given.model or make_model(bam, folder)).resolve()
        texts, short = bodies(model)
        (folder / "bodies.jsonl").write_text("\n".join(texts) + "\n")
        generator = Generator(given.oha, given.client_cpus, folder / "bodies.jsonl")
        threads = len(subprocess.run(["taskset", "-c", given.server_cpus, "nproc"], capture_output=True, text=True, check=True).stdout) and int(
            subprocess.run(["taskset", "-c", given.server_cpus, "nproc"], capture_output=True, text=True, check=True).stdout
        )
        uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", ROOT / "benches", "python_server:app", "--port", PORT, "--log-level", "warning"]
        servers = [("bam serve", [bam, "serve", model, "--listen", f"127.0.0.1:{PORT}", *given.serve.split()], {})]
        servers += [(f"FastAPI, 1 process of {threads} threads", uvicorn, {"MODEL": str(model), "THREADS": str(threads)})]
        if threads > 1:
            several = [*uvicorn, "--workers", threads]
            servers += [(f"FastAPI, {threads} processes of 1 thread", several, {"MODEL": str(model), "THREADS": "1"})]
        for what, command, environment in servers:
            if given.only and given.only not in what:
                continue
            print(what, file=sys.stderr)
            with serving(command, environment, given.server_cpus):
                alone_ms, rest_ms = one_at_a_time(short)
                capacity = generator.capacity(given.seconds)
                print(f"  alone {alone_ms:.2f} ms, beyond the model {rest_ms}, closed loop {capacity:.0f}/s", file=sys.stderr)
                most = generator.most(capacity, given.seconds, given.steps)
                for share in [0.9, 2]:
                    print(f"  x{share}: {generator.at(most * share, given.seconds)}", file=sys.stderr)


if __name__ == "__main__":
    main()
