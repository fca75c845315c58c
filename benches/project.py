"""A project of `bam`'s in a folder of its own: what the benches on GLUE share."""

import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# BERTs' settings that tell their size.
SIZES = {
    "base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}


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


def shapes(config):
    """The shape of each weight of a BERT, by its name."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    tables = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    norms, products = ["embeddings.LayerNorm"], {"pooler.dense": [width, width]}
    for layer in (f"encoder.layer.{number}" for number in range(config["num_hidden_layers"])):
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        attention = ["self.query", "self.key", "self.value", "output.dense"]
        products |= {f"{layer}.attention.{part}": [width, width] for part in attention}
        products |= {f"{layer}.intermediate.dense": [inner, width], f"{layer}.output.dense": [width, inner]}
    return (
        {f"embeddings.{table}_embeddings.weight": [config[rows], width] for table, rows in tables.items()}
        | {f"{norm}.{part}": [width] for norm in norms for part in ["weight", "bias"]}
        | {f"{product}.weight": shape for product, shape in products.items()}
        | {f"{product}.bias": shape[:1] for product, shape in products.items()}
    )


def weights(encoder):
    """How many a BERT in a folder has."""
    config = json.loads((encoder / "config.json").read_text())
    return sum(math.prod(shape) for shape in shapes(config).values())


def random_encoder(encoder, size, folder):
    """A BERT of that size in a folder, with random weights and the encoder's tokenizer."""
    # Here, for most benches need neither.
    import numpy
    import safetensors.numpy

    made = pathlib.Path(folder) / size
    made.mkdir()
    config = json.loads((encoder / "config.json").read_text()) | SIZES[size]
    (made / "config.json").write_text(json.dumps(config))
    random = numpy.random.default_rng(1)

    def initial(name, shape):
        if name.endswith("LayerNorm.weight"):
            return numpy.ones(shape, numpy.float32)
        if name.endswith("bias"):
            return numpy.zeros(shape, numpy.float32)
        return numpy.float32(config["initializer_range"]) * random.standard_normal(shape, numpy.float32)

    tensors = {name: initial(name, shape) for name, shape in shapes(config).items()}
    safetensors.numpy.save_file(tensors, made / "model.safetensors")
    for file in ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]:
        shutil.copy(encoder / file, made)
    return made


def threads(count):
    return f"{count} thread{'s' if count > 1 else ''}"


def peer(given, script, **options):
    """What a peer's script prints: its last line, a JSON object."""
    flags = [str(part) for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    done = subprocess.run([given.peer_python, ROOT / "benches" / script, *flags], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])
