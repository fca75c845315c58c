"""A project of `bam`'s in a folder of its own: what the benches on GLUE share."""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def arguments(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glue", type=pathlib.Path, required=True, help="folder with GLUE, as its classic download leaves it")
    parser.add_argument("--encoder", type=pathlib.Path, default=ROOT / ".deps/encoders/all-MiniLM-L6-v2")
    parser.add_argument("--bam", type=pathlib.Path, default=ROOT / "target/release/bam")
    return parser


def with_peer(parser):
    parser.add_argument("--peer-python", default=sys.executable, help="one that has the packages of benches/requirements.txt")
    return parser


class Project:
    def __init__(self, given, folder, pipeline):
        self.bam, self.folder = given.bam.resolve(), pathlib.Path(folder)
        (self.folder / "pipeline.yaml").write_text(pipeline)

    def run(self, *options):
        """`bam run`, without anything that a remote store may have; on the processor, unless the options say otherwise."""
        device = [] if "--device" in options else ["--device", "cpu"]
        command = [self.bam, "run", *device, "--artifacts", "artifacts", "--offline", *options]
        subprocess.run(command, cwd=self.folder, check=True, stdout=sys.stderr)

    def path(self, stage, file=""):
        return self.folder / "artifacts/latest" / stage / file

    def made(self, stage):
        """How a stage's artifact was made: time, threads, memory, and what the worker says of it."""
        return json.loads(self.path(stage, "manifest.json").read_text())["provenance"]

    def lengths(self, stage):
        """Tokens of each training row."""
        # Here, for a bench without peers needs no packages.
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(self.path(stage, "train.parquet"), columns=["input_ids"])
        return [len(ids) for ids in rows["input_ids"].to_pylist()]


def of_mrpc(given, folder, encoder, settings):
    """One training on MRPC's pairs as they stand, under more settings, such as `epochs: 3`: stages `tokens` and `teacher`."""
    return Project(
        given,
        folder,
        "seed: 1\nstages:\n"
        f"  examples: {{ data: {{ task: mrpc, from: {given.glue.resolve()} }} }}\n"
        f"  tokens: {{ tokenize: {{ examples: examples, encoder: {encoder.resolve()}, both_orders: false }} }}\n"
        f"  teacher: {{ train: {{ tokens: [tokens], encoder: {encoder.resolve()}, {settings} }} }}\n",
    )


def threads(count):
    return f"{count} thread{'s' if count > 1 else ''}"


def peer(given, script, **options):
    """What a peer's script prints: its last line, a JSON object."""
    flags = [str(part) for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    done = subprocess.run([given.peer_python, ROOT / "benches" / script, *flags], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])
