#!/usr/bin/env python3
"""MRPC's training pairs through an exported model: `bam predict` beside onnxruntime in Python, the same graph and rows.

    python3 benches/predict_onnx.py --glue DIR [--encoder DIR] [--peer-python PYTHON] [--runs 3]

Both read a Parquet file of texts, cut them into word pieces, sort by length, compute logits and write a file. Rates are rows
over that time, with the model loaded; beside it is the whole command. `bam` trains the model for a moment, for weights do not
matter for speed. Programs take turns, and the median of a program's runs counts. Differences are from the peer's logits by the
fp32 graph. pyarrow and numpy must be importable here; they are read last, for a child's peak of memory is at least its parent's.
"""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import machine
import project

PIPELINE = """\
seed: 1
for: {{ precision: [fp32, int8] }}
stages:
  examples: {{ data: {{ task: mrpc, from: {glue} }} }}
  tokens: {{ tokenize: {{ examples: examples, encoder: {encoder}, both_orders: false }} }}
  teacher: {{ train: {{ tokens: [tokens], encoder: {encoder}, epochs: 0.1, precision: fp32 }} }}
  onnx@precision: {{ export: {{ model: teacher, precision: $precision }} }}
"""


def timed(command, folder):
    """What a command says on stderr, its seconds, and the most memory it held."""
    started = time.perf_counter()
    child = subprocess.Popen(list(map(str, command)), cwd=folder, stderr=subprocess.PIPE, text=True)
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(said)
    return said, time.perf_counter() - started, used.ru_maxrss * 1024


def bam(given, work, precision):
    out, rows = work.folder / f"answers-{precision}.parquet", work.path("examples", "train.parquet")
    command = [work.bam, "predict", f"onnx@{precision}", "--input", rows, "--pair", "pair", "--logits", "--output", out]
    said, seconds, memory = timed(command, work.folder)
    # The last one is of all rows; a live story has others before it.
    rate = float(re.findall(r"([\d,]+) rows/s", said)[-1].replace(",", ""))
    return rate, seconds, memory, out


def peer(given, work, precision):
    out, rows = work.folder / f"logits-{precision}.npy", work.path("examples", "train.parquet")
    script = project.ROOT / "benches/peer_predict_onnx.py"
    command = [given.peer_python, script, "--model", work.path(f"onnx@{precision}"), "--rows", rows, "--logits", out]
    said, seconds, memory = timed(command, work.folder)
    return float(said.strip().splitlines()[-1]), seconds, memory, out


def main():
    arguments = project.with_peer(project.arguments(__doc__))
    arguments.add_argument("--runs", type=int, default=3)
    given = arguments.parse_args()
    about = machine.line()
    programs = [(what, program, precision) for precision in ["fp32", "int8"] for what, program in [("bam predict", bam), ("onnxruntime", peer)]]
    runs = {each: [] for each in programs}
    with tempfile.TemporaryDirectory() as name:
        pipeline = PIPELINE.format(glue=given.glue.resolve(), encoder=given.encoder.resolve())
        work = project.Project(given, pathlib.Path(name), pipeline)
        work.run("pipeline.yaml")
        for _ in range(given.runs):
            for each in programs:
                runs[each].append(each[1](given, work, each[2]))
        tokens = statistics.mean(work.lengths("tokens"))
        logits = {each: read_logits(runs[each][0][3]) for each in programs}
    expected = logits["onnxruntime", peer, "fp32"]
    print(about)
    print(f"| answering {len(expected):,} pairs of MRPC | rows/s | real tokens/s | whole command | peak memory | max \\|Δlogit\\| |")
    print("|---|---|---|---|---|---|")
    for each in programs:
        rate, seconds, memory, _ = sorted(runs[each], key=lambda run: run[0])[(given.runs - 1) // 2]
        difference = abs(logits[each] - expected).max()
        what = f"{each[0]}, {each[2]} | {rate:.0f} | {rate * tokens:,.0f}"
        print(f"| {what} | {seconds:.1f} s | {memory / 2**30:.2f} GiB | {difference:.1e} |")


def read_logits(file):
    import numpy
    import pyarrow.parquet

    if file.suffix == ".npy":
        return numpy.load(file)
    return numpy.array(pyarrow.parquet.read_table(file)["mrpc.logits"].to_pylist())


if __name__ == "__main__":
    main()
