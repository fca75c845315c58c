#!/usr/bin/env python3
"""Peak memory of trainings: by size of the batch, by the options that lower it, and by rows of the task.

    python3 benches/memory.py --glue DIR [--encoder DIR] [--sizes minilm base] [--batches 32 128]
        [--tables batches options rows]

Weights and AdamW's moments are 12 bytes for each weight. A training's activations are what its memory grows by from the end of
a step to the height of one, in a training of its own whose allocator gives back at once what is freed; /proc is read for that, 50
times a second, so that no other worker of `bam` may run. A few steps are taken, for the first ones have shown what is held; what a batch holds depends on its longest
rows, and all trainings draw theirs in one order. `base` has random weights and the encoder's tokenizer. safetensors and
numpy must be importable here.
"""

import os
import pathlib
import tempfile
import threading

import machine
import project

MRPC_ROWS = 3668
MIB = 2**20


class Samples:
    """Memory of a worker's own, without files, while it computes; in bytes."""

    def __init__(self):
        self.taken, self.ended = [], threading.Event()
        self.thread = threading.Thread(target=self.take)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def take(self):
        while not self.ended.wait(0.02):
            for process in pathlib.Path("/proc").glob("[0-9]*"):
                try:
                    if process.joinpath("exe").readlink().name == "bam-stage":
                        held = machine.fields(process / "status")["RssAnon"]
                        self.taken.append(int(held.split()[0]) * 1024)
                except (OSError, KeyError):
                    pass  # It has ended, or is another's.

    def growth(self):
        """From the least to the most while steps are taken: from the first time that it is high until the last time."""
        most = max(self.taken)
        high = [at for at, held in enumerate(self.taken) if held > 0.75 * most]
        return most - min(self.taken[high[0] : high[-1] + 1])


def trained(given, encoder, batch, threads, more=""):
    """Peak memory of so many steps on MRPC, in bytes."""
    settings = f"batch: {batch}, epochs: {(given.steps - 0.5) * batch / MRPC_ROWS:.8f}{more}"
    with tempfile.TemporaryDirectory() as folder:
        work = project.of_mrpc(given, folder, encoder, settings)
        work.run("--threads", str(threads), "--jobs", "1")
        made = work.made("teacher")
    return made["peak_memory_bytes"]


def activations(given, encoder, batch, threads):
    os.environ["MALLOC_CONF"] = "dirty_decay_ms:0"
    try:
        with Samples() as samples:
            trained(given, encoder, batch, threads)
    finally:
        del os.environ["MALLOC_CONF"]
    return samples.growth()


def by_batch(given, name, encoder, threads):
    held = 12 * project.weights(encoder)
    for batch in given.batches:
        peak, grown = trained(given, encoder, batch, threads), activations(given, encoder, batch, threads)
        shown = " | ".join(f"{size / MIB:,.0f} MiB" for size in [peak, held, grown])
        print(f"| {name}, {project.threads(threads)} | {batch} | {shown} | {peak / (held + grown):.2f} |", flush=True)


def by_option(given, name, encoder):
    options = {
        "as it is": "",
        "`pass_tokens: 1024`": ", pass_tokens: 1024",
        "`recompute: true`": ", recompute: true",
        "both": ", pass_tokens: 1024, recompute: true",
    }
    for option, settings in options.items():
        peak = trained(given, encoder, max(given.batches), max(given.threads), settings)
        print(f"| {name}, {option} | {max(given.batches)} | {peak / MIB:,.0f} MiB |", flush=True)


def by_rows(given):
    encoder = given.encoder.resolve()
    for rows in [1000, 1_000_000]:
        with tempfile.TemporaryDirectory() as folder:
            work = project.Project(
                given,
                folder,
                "seed: 1\nstages:\n"
                f"  rows: {{ data: {{ task: entailment, grammar: {{ train: {rows}, dev: 100 }} }} }}\n"
                f"  tokens: {{ tokenize: {{ examples: rows, encoder: {encoder} }} }}\n"
                f"  teacher: {{ train: {{ tokens: [tokens], encoder: {encoder}, epochs: {29.5 * 32 / rows:.8f} }} }}\n",
            )
            work.run("--threads", str(max(given.threads)), "--jobs", "1")
            print(f"| {rows:,} | {work.made('teacher')['peak_memory_bytes'] / MIB:,.0f} MiB |", flush=True)


def main():
    arguments = project.arguments(__doc__)
    arguments.add_argument("--sizes", nargs="+", default=["minilm", "base"], choices=["minilm", *project.SIZES])
    arguments.add_argument("--batches", nargs="+", type=int, default=[32, 128], metavar="ROWS")
    arguments.add_argument("--threads", nargs="+", type=int, default=[1, machine.cores()], metavar="N")
    arguments.add_argument("--steps", type=int, default=8, help="of each training")
    tables = ["batches", "options", "rows"]
    arguments.add_argument("--tables", nargs="+", default=tables, choices=tables)
    given = arguments.parse_args()
    print(machine.line())
    with tempfile.TemporaryDirectory() as folder:
        encoders = {
            size: given.encoder if size == "minilm" else project.random_encoder(given.encoder, size, folder)
            for size in given.sizes
        }
        if "batches" in given.tables:
            print("| training on MRPC | rows in a batch | peak memory | weights and moments | activations | peak over both |")
            print("|---|---|---|---|---|---|", flush=True)
            for name, encoder in encoders.items():
                for threads in sorted(set(given.threads)):
                    by_batch(given, name, encoder, threads)
        if "options" in given.tables:
            print("\n| training on MRPC | rows in a batch | peak memory |\n|---|---|---|", flush=True)
            for name, encoder in encoders.items():
                by_option(given, name, encoder)
    if "rows" in given.tables:
        print("\n| rows of the task, batch 32, 30 steps | peak memory |\n|---|---|", flush=True)
        by_rows(given)


if __name__ == "__main__":
    main()
