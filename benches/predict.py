#!/usr/bin/env python3
"""A teacher's predictions of MRPC's training rows: `bam` beside PyTorch with transformers, the same rows and checkpoint.

    python3 benches/predict.py --glue DIR [--encoder DIR] [--peer-python PYTHON] [--runs 3]

`bam` trains the teacher for a moment, for weights do not matter for speed. Rates are rows over the time of one pass, with
model and tokens read (`rows_per_second` in the manifest of `bam`'s stage; benches/peer_predict.py); each pass is the first of
its process, programs take turns, and the median of a program's runs counts. Share of the peak: operations as
benches/operations.py counts them, against what benches/peak.py measures in the row's format on as many threads. Differences
are from the peer's logits in fp32. numpy and pyarrow must be importable here.
"""

import pathlib
import statistics
import tempfile

import numpy
import pyarrow

import machine
import operations
import peak
import project

PIPELINE = """\
seed: 1
for: {{ precision: [fp32, bf16] }}
stages:
  examples: {{ data: {{ task: mrpc, from: {glue}{limit} }} }}
  tokens: {{ tokenize: {{ examples: examples, encoder: {encoder}, both_orders: false }} }}
  teacher: {{ train: {{ tokens: [tokens], encoder: {encoder}, epochs: 0.1, precision: fp32 }} }}
  predictions@precision:
    predict: {{ model: teacher, tokens: tokens, splits: [train], precision: $precision }}
    resources: {{ threads: {threads} }}
"""


def bam(given, work, precision):
    stage = f"predictions@{precision}"
    work.run(f"--force={stage}", "pipeline.yaml", stage)
    made, lengths = work.made(stage), work.lengths("tokens")
    rate = made["worker"]["rows_per_second"]
    table = pyarrow.ipc.open_file(work.path(stage, "train.arrow")).read_all()
    return {
        "what": f"bam, {precision}",
        "precision": precision,
        "threads": made["threads"],
        "rows_per_second": rate,
        "tokens_per_second": rate * statistics.mean(lengths),
        "operations_per_second": rate * operations.forward(given.encoder, lengths) / len(lengths),
        "peak_bytes": made["peak_memory_bytes"],
    }, numpy.array(table["logits"].to_pylist())


def peer(given, work, precision):
    logits = work.folder / "logits.npy"
    rows = work.path("examples", "train.parquet")
    options = {"model": work.path("teacher"), "rows": rows, "precision": precision, "logits": logits}
    return project.peer(given, "peer_predict.py", **options), numpy.load(logits)


def median_of(runs):
    """The run of the median rate, or the slower of the middle two."""
    return sorted(runs, key=lambda run: run["rows_per_second"])[(len(runs) - 1) // 2]


def main():
    arguments = project.with_peer(project.arguments(__doc__))
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--rows", type=int, help="take so many of each split only")
    given = arguments.parse_args()
    about, peaks = machine.line(), peak.measured_by(given.peer_python)
    programs = [(peer, "fp32"), (peer, "bf16"), (peer, "autocast"), (bam, "fp32"), (bam, "bf16")]
    runs, logits = {each: [] for each in programs}, {}
    limit = f", limit: {given.rows}" if given.rows else ""
    with tempfile.TemporaryDirectory() as name:
        work = project.Project(
            given,
            pathlib.Path(name),
            PIPELINE.format(
                glue=given.glue.resolve(), encoder=given.encoder.resolve(), limit=limit, threads=machine.cores()
            ),
        )
        work.run("pipeline.yaml", "teacher")
        for _ in range(given.runs):
            for each in programs:
                program, precision = each
                run, logits[each] = program(given, work, precision)
                runs[each].append(run)
    expected = logits[peer, "fp32"]
    print(about)
    print(peak.line(peaks))
    print(f"| predicting {len(expected):,} rows of MRPC | rows/s | real tokens/s | GFLOP/s | share of peak | peak memory | max \\|Δlogit\\| |")
    print("|---|---|---|---|---|---|---|")
    for each in reversed(programs):
        row = median_of(runs[each])
        rate, tokens, memory = row["rows_per_second"], row["tokens_per_second"], row["peak_bytes"] / 2**30
        speed = f"{row['operations_per_second'] / 1e9:.0f} | {peak.share(peaks, row)} of {row['precision']}"
        difference = numpy.abs(logits[each] - expected).max()
        print(f"| {row['what']} | {rate:.1f} | {tokens:,.0f} | {speed} | {memory:.1f} GiB | {difference:.1e} |")


if __name__ == "__main__":
    main()
