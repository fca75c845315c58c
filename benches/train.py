#!/usr/bin/env python3
"""Training speed on MRPC: `bam` beside PyTorch with transformers, on the same rows, encoder and batch, in one run.

    python3 benches/train.py --glue DIR [--encoder DIR] [--peer-python PYTHON]

All count rows over time, from the sixth step on. Those of `bam` are in its history.parquet, of a run on all threads, of one
on one thread, and of one in fp32; the peer's are those of benches/peer_train.py. Share of the peak: operations as
benches/operations.py counts them, forward and backward, of the real tokens, against what benches/peak.py measures in the
row's format on as many threads. pyarrow must be importable here.
"""

import statistics
import tempfile

import pyarrow.parquet

import machine
import operations
import peak
import project

WARM_UP = 5


def bam(given, threads, precision):
    with tempfile.TemporaryDirectory() as folder:
        trained = project.of_mrpc(given, folder, given.encoder, f"epochs: {given.epochs}, precision: {precision}")
        trained.run(*(["--threads", str(threads)] if threads else []))
        history = pyarrow.parquet.read_table(trained.path("teacher", "history.parquet"))["rows_per_second"].to_pylist()
        made, lengths = trained.made("teacher"), trained.lengths("tokens")
    # All batches but the last, which may be smaller, have as many rows, so that this is rows over time.
    rate = statistics.harmonic_mean(history[WARM_UP:-1])
    return {
        "what": f"bam, {precision}, {project.threads(made['threads'])}",
        "precision": precision,
        "threads": made["threads"],
        "rows_per_second": rate,
        "tokens_per_second": rate * statistics.mean(lengths),
        "operations_per_second": rate * operations.TRAINING * operations.forward(given.encoder, lengths) / len(lengths),
        "peak_bytes": made["peak_memory_bytes"],
    }


def main():
    arguments = project.with_peer(project.arguments(__doc__))
    arguments.add_argument("--epochs", type=float, default=0.5, help="that bam trains")
    arguments.add_argument("--peer-steps", type=int, default=40, help="that the peer trains, after five")
    given = arguments.parse_args()
    about = machine.line()
    peaks = peak.measured_by(given.peer_python)
    rows = [bam(given, None, "bf16"), bam(given, 1, "bf16"), bam(given, None, "fp32")]
    for mode in ["usual", "dynamic", "best"]:
        options = {"glue": given.glue, "encoder": given.encoder, "mode": mode, "steps": given.peer_steps}
        rows.append(project.peer(given, "peer_train.py", **options))
    print(about)
    print(peak.line(peaks))
    print("| training on MRPC, batch 32 | rows/s | real tokens/s | GFLOP/s | share of peak | peak memory |\n|---|---|---|---|---|---|")
    for row in rows:
        rate, tokens, memory = row["rows_per_second"], row["tokens_per_second"], row["peak_bytes"] / 2**30
        speed = f"{row['operations_per_second'] / 1e9:.0f} | {peak.share(peaks, row)} of {row['precision']}"
        print(f"| {row['what']} | {rate:.1f} | {tokens:,.0f} | {speed} | {memory:.1f} GiB |")


if __name__ == "__main__":
    main()
