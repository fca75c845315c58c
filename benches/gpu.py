#!/usr/bin/env python3
"""Training speed on a GPU: `bam` beside PyTorch with transformers, on the same rows, encoder and batch, in one run.

    python3 benches/gpu.py --glue DIR [--encoder DIR] [--sizes minilm base large] [--batches 32 128]
        [--modes usual best]

The rows are MRPC's training pairs. `base` and `large` are BERTs of those sizes with random weights, which take as long as trained ones;
their tokenizer is the encoder's. All count rows over time once warm: `bam` over three epochs, by its history.parquet, without its
evaluations; the peer over as many steps as are asked for. Share of the peak: operations as benches/operations.py counts them,
forward and backward, of the real tokens, against a product of 8192x8192x8192 in bf16 by PyTorch. Needs a bam-stage that is linked
to libtorch for CUDA, or told of one (LD_LIBRARY_PATH, LD_PRELOAD).
"""

import statistics
import tempfile
import time

import pyarrow.parquet

import machine
import operations
import project

# Steps whose speed is read together, and the steps before those that count.
WINDOW = 32


def peak():
    """Operations per second of the best of several products, and the card's name."""
    # Here, so that `--help` needs no torch.
    import torch

    size = 8192
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.mm(a, b)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times), torch.cuda.get_device_name()


def bam(given, encoder, batch):
    with tempfile.TemporaryDirectory() as folder:
        trained = project.of_mrpc(given, folder, encoder, f"epochs: 3, batch: {batch}, learning_rate: 2e-5")
        trained.run("--device", "cuda")
        history = pyarrow.parquet.read_table(trained.path("teacher", "history.parquet"))["rows_per_second"].to_pylist()
        lengths = trained.lengths("tokens")
    rate = statistics.harmonic_mean(history[min(WINDOW, len(history) // 2) :])
    return {
        "what": "bam, bf16",
        "rows_per_second": rate,
        "tokens_per_second": rate * statistics.mean(lengths),
        "operations_per_second": rate * operations.TRAINING * operations.forward(encoder, lengths) / len(lengths),
    }


def main():
    arguments = project.with_peer(project.arguments(__doc__))
    arguments.add_argument("--sizes", nargs="+", default=["minilm", "base"], choices=["minilm", *project.SIZES])
    arguments.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    arguments.add_argument("--peer-steps", type=int, default=60, help="that the peer trains, once warm")
    modes = ["usual", "dynamic", "best", "compiled"]
    arguments.add_argument("--modes", nargs="*", default=modes[:3], choices=modes, help="the peer's; `compiled` takes its time")
    given = arguments.parse_args()
    about = machine.line()
    best, card = peak()
    print(about)
    print(f"{card}: {best / 1e12:.0f} TFLOP/s in bf16.\n")
    print("| encoder | batch | training on MRPC | rows/s | real tokens/s | TFLOP/s | share of peak |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in given.sizes:
            encoder = given.encoder if size == "minilm" else project.random_encoder(given.encoder, size, folder)
            for batch in given.batches:
                rows = [bam(given, encoder, batch)]
                for mode in given.modes:
                    options = {"glue": given.glue, "encoder": encoder, "mode": mode, "steps": given.peer_steps}
                    rows.append(project.peer(given, "peer_train.py", **options, batch=batch, device="cuda"))
                for row in rows:
                    speed = row["operations_per_second"]
                    shown = f"{row['rows_per_second']:,.0f} | {row['tokens_per_second']:,.0f} | {speed / 1e12:.1f}"
                    print(f"| {size} | {batch} | {row['what']} | {shown} | {100 * speed / best:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
