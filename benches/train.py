#!/usr/bin/env python3
"""Training speed on MRPC: `bam` beside PyTorch with transformers, on the same rows, encoder and batch, in one run.

    python3 benches/train.py --glue DIR [--encoder DIR] [--peer-python PYTHON]

Rows of `bam` are those of its history.parquet: the median step after the first five, of a run on all threads and of a
run on one. The peer's are those of benches/peer_train.py. --peer-python is one that has torch and transformers; pyarrow
must be importable here.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import pyarrow.parquet

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARM_UP = 5


def bam(given, threads, precision):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "pipeline.yaml").write_text(
            "seed: 1\nstages:\n"
            f"  examples: {{ data: {{ task: mrpc, from: {given.glue.resolve()} }} }}\n"
            f"  tokens: {{ tokenize: {{ examples: examples, encoder: {given.encoder.resolve()}, both_orders: false }} }}\n"
            f"  teacher: {{ train: {{ tokens: [tokens], encoder: {given.encoder.resolve()}, epochs: {given.epochs}, "
            f"precision: {precision} }} }}\n"
        )
        command = [given.bam.resolve(), "run", "--device", "cpu"] + (["--threads", str(threads)] if threads else [])
        subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
        teacher = folder / "artifacts/latest/teacher"
        history = pyarrow.parquet.read_table(teacher / "history.parquet")["rows_per_second"].to_pylist()
        manifest = json.loads((teacher / "manifest.json").read_text())
        lengths = [
            len(ids)
            for ids in pyarrow.parquet.read_table(folder / "artifacts/latest/tokens/train.parquet")["input_ids"].to_pylist()
        ]
        rate = statistics.median(history[WARM_UP:])
        return {
            "what": f"bam, {precision}, {manifest['provenance']['threads']} threads",
            "rows_per_second": rate,
            "tokens_per_second": rate * statistics.mean(lengths),
            "peak_bytes": manifest["provenance"]["peak_memory_bytes"],
        }


def peer(given, mode):
    command = [given.peer_python, ROOT / "benches/peer_train.py", "--glue", given.glue, "--encoder", given.encoder]
    done = subprocess.run([*command, "--mode", mode], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--glue", type=pathlib.Path, required=True)
    arguments.add_argument("--encoder", type=pathlib.Path, default=ROOT / ".deps/encoders/all-MiniLM-L6-v2")
    arguments.add_argument("--bam", type=pathlib.Path, default=ROOT / "target/release/bam")
    arguments.add_argument("--peer-python", default=sys.executable)
    arguments.add_argument("--epochs", type=float, default=0.5)
    given = arguments.parse_args()
    rows = [bam(given, None, "bf16"), bam(given, 1, "bf16"), bam(given, None, "fp32")]
    rows += [peer(given, mode) for mode in ["usual", "dynamic", "best"]]
    print("| training on MRPC, batch 32 | rows/s | real tokens/s | peak memory |\n|---|---|---|---|")
    for row in rows:
        rate, tokens, peak = row["rows_per_second"], row["tokens_per_second"], row["peak_bytes"] / 2**30
        print(f"| {row['what']} | {rate:.1f} | {tokens:,.0f} | {peak:.1f} GiB |")


if __name__ == "__main__":
    main()
