#!/usr/bin/env python3
"""Tokenization of MNLI's training pairs into Parquet: `bam` beside `datasets.map` with the fast tokenizer, the same rows.

    python3 benches/tokens.py --glue DIR [--encoder DIR] [--peer-python PYTHON] [--runs 3]

Takes MNLI/train.tsv, else MNLI/train-partial.tsv, plain or gzipped. All read the same Parquet file of texts and write one of
tokens, of at most 128 a row, and at the end the tokens are compared. Rates go by the stage's time: of `bam` the wall time of
its worker's process, as the manifest has it; of the peer the time from when its packages are loaded (benches/peer_tokens.py).
Beside it stands the time of the whole command, `bam run` of that stage or the peer's process. MB are those of the texts in
UTF-8. Programs take turns, and the median of a program's runs counts. pyarrow must be importable here.
"""

import pathlib
import statistics
import sys
import tempfile
import time

import pyarrow.compute
import pyarrow.parquet

import machine
import project

PIPELINE = """\
tasks:
  pairs:
    files: {{ train: {file} }}
    columns: {{ text: sentence1, pair: sentence2, label: gold_label }}
    labels: [entailment, neutral, contradiction]
    metrics: [accuracy]
stages:
  examples: {{ data: {{ task: pairs, from: {folder}{limit} }} }}
  tokens: {{ tokenize: {{ examples: examples, encoder: {encoder}, max_tokens: 128 }} }}
"""
COLUMNS = ["input_ids", "token_type_ids"]


def source(glue):
    for name in ["train.tsv", "train-partial.tsv"]:
        if any((glue / f"MNLI/{name}{ending}").is_file() for ending in ["", ".gz"]):
            return name
    sys.exit(f"no MNLI/train.tsv in {glue}")


def timed(call):
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def bam(work):
    _, whole = timed(lambda: work.run("--force=tokens", "pipeline.yaml", "tokens"))
    made = work.made("tokens")
    row = {"what": f"bam, {project.threads(made['threads'])}", "seconds": made["wall_secs"], "whole": whole}
    return row, work.path("tokens", "train.parquet")


def peer(given, work, processes):
    made = work.folder / "peer.parquet"
    options = {"rows": work.path("examples", "train.parquet"), "encoder": given.encoder, "tokens": made, "processes": processes}
    row, whole = timed(lambda: project.peer(given, "peer_tokens.py", **options))
    return row | {"whole": whole}, made


def read(path):
    return pyarrow.parquet.read_table(path, columns=COLUMNS)


def differing(expected, found):
    """How many rows are not the same."""
    rows = (zip(*(table[name].to_pylist() for name in COLUMNS), strict=True) for table in (expected, found))
    return sum(a != b for a, b in zip(*rows, strict=True))


def main():
    arguments = project.with_peer(project.arguments(__doc__))
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--rows", type=int, help="take so many only, from the start")
    given = arguments.parse_args()
    about, folder = machine.line(), given.glue.resolve() / "MNLI"
    file, limit = source(given.glue), f", limit: {given.rows}" if given.rows else ""
    with tempfile.TemporaryDirectory() as name:
        pipeline = PIPELINE.format(file=file, folder=folder, limit=limit, encoder=given.encoder.resolve())
        work = project.Project(given, pathlib.Path(name), pipeline)
        work.run("pipeline.yaml", "examples")
        texts = pyarrow.parquet.read_table(work.path("examples", "train.parquet"))
        megabytes = sum(pyarrow.compute.sum(pyarrow.compute.binary_length(texts[name])).as_py() for name in ["text", "pair"]) / 1e6
        programs = {"bam": lambda: bam(work)}
        for processes in sorted({1, machine.cores()}):
            programs[f"peer {processes}"] = lambda processes=processes: peer(given, work, processes)
        runs, tokens = {each: [] for each in programs}, {}
        for _ in range(given.runs):
            for each, program in programs.items():
                row, made = program()
                runs[each].append(row)
                tokens[each] = read(made)
    print(about)
    print(f"| {len(texts):,} pairs of MNLI ({file}), {megabytes:.1f} MB of text | rows/s | MB/s | stage | whole command | rows unlike bam's |")
    print("|---|---|---|---|---|---|")
    for each, rows in runs.items():
        seconds, whole = (statistics.median(row[part] for row in rows) for part in ["seconds", "whole"])
        rates = f"{len(texts) / seconds:,.0f} | {megabytes / seconds:.2f}"
        print(f"| {rows[0]['what']} | {rates} | {seconds:.2f} s | {whole:.2f} s | {differing(tokens['bam'], tokens[each]):,} |")


if __name__ == "__main__":
    main()
