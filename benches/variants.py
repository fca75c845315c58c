#!/usr/bin/env python3
"""Exported variants beside what Python's onnxruntime makes of the same checkpoint, in one run on the same threads.

    python3 benches/variants.py --bam target/release/bam [--threads 2] [--rounds 12]

`bam` trains a student for a moment and exports it in each precision. The peer is the plain graph of that checkpoint, operator
by operator as PyTorch's exporter leaves it, put through `onnxruntime.transformers.optimizer` (fp32), and that through
`quantize_dynamic` with its defaults (int8). All are timed in this process by the same onnxruntime: rounds in which each graph
has its turn, and the median of all of a graph's runs; on one thread it is processor time, which other programs disturb less.
Differences are from the peer's fp32 on rows of unequal lengths.
"""

import argparse
import collections
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions
from safetensors.numpy import load_file

import machine

ROOT = pathlib.Path(__file__).resolve().parent.parent
PIPELINE = """\
seed: 17
for: { task: [acceptability, sentiment, paraphrase, similarity], precision: [fp32, fp16, int8] }
stages:
  examples@task: { data: { task: $task, grammar: { train: 16, dev: 16 } } }
  tokens@task: { tokenize: { examples: examples@$task, encoder: ENCODER } }
  student: { train: { tokens: [tokens@*], encoder: ENCODER, epochs: 1, batch: 16 } }
  onnx@precision: { export: { model: student, precision: $precision } }
"""
PRECISIONS = ["fp32", "fp16", "int8"]
INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
# Rows and tokens.
ONE, MANY = (1, 16), (32, 64)


class Plain:
    """A BERT as PyTorch's exporter writes it: one node per operation of the model's code."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = load_file(folder / "model.safetensors")
        self.tasks = json.loads((folder / "bam.json").read_text())["tasks"]
        self.nodes, self.tensors = [], {}

    def node(self, op, *inputs, **attributes):
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def tensor(self, name, values):
        self.tensors[name] = numpy_helper.from_array(numpy.array(values, order="C"), name)
        return name

    def weight(self, name):
        return self.tensor(name, self.weights[name])

    def linear(self, x, name):
        product = self.node("MatMul", x, self.tensor(f"{name}.weight", self.weights[f"{name}.weight"].T))
        return self.node("Add", self.weight(f"{name}.bias"), product)

    def norm(self, x, name):
        attributes = {"axis": -1, "epsilon": self.config["layer_norm_eps"]}
        return self.node("LayerNormalization", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), **attributes)

    def heads(self, x, order):
        width, heads = self.config["hidden_size"], self.config["num_attention_heads"]
        shape = self.tensor("split", numpy.array([0, 0, heads, width // heads]))
        return self.node("Transpose", self.node("Reshape", x, shape), perm=order)

    def layer(self, x, mask, name):
        width, heads = self.config["hidden_size"], self.config["num_attention_heads"]
        attention = f"{name}.attention.self"
        query = self.heads(self.linear(x, f"{attention}.query"), [0, 2, 1, 3])
        key = self.heads(self.linear(x, f"{attention}.key"), [0, 2, 3, 1])
        value = self.heads(self.linear(x, f"{attention}.value"), [0, 2, 1, 3])
        root = self.tensor("root", numpy.float32((width / heads) ** 0.5))
        scores = self.node("Add", self.node("Div", self.node("MatMul", query, key), root), mask)
        context = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        context = self.node("Transpose", context, perm=[0, 2, 1, 3])
        context = self.node("Reshape", context, self.tensor("merged", numpy.array([0, 0, width])))
        attended = self.node("Add", self.linear(context, f"{name}.attention.output.dense"), x)
        attended = self.norm(attended, f"{name}.attention.output.LayerNorm")
        inner = self.linear(attended, f"{name}.intermediate.dense")
        gate = self.node("Erf", self.node("Div", inner, self.tensor("root_two", numpy.float32(2**0.5))))
        gate = self.node("Add", gate, self.tensor("one", numpy.float32(1)))
        inner = self.node("Mul", self.node("Mul", inner, gate), self.tensor("half", numpy.float32(0.5)))
        fed = self.node("Add", self.linear(inner, f"{name}.output.dense"), attended)
        return self.norm(fed, f"{name}.output.LayerNorm")

    def write(self, path):
        mask = self.node("Unsqueeze", "attention_mask", self.tensor("axis_1", numpy.array([1])))
        mask = self.node("Unsqueeze", mask, self.tensor("axis_2", numpy.array([2])))
        mask = self.node("Cast", mask, to=TensorProto.FLOAT)
        mask = self.node("Sub", self.tensor("one", numpy.float32(1)), mask)
        mask = self.node("Mul", mask, self.tensor("masked", numpy.float32(-10_000)))
        table = "bert.embeddings.{}_embeddings.weight".format
        zero, one = self.tensor("zero", numpy.array([0])), self.tensor("axis_1", numpy.array([1]))
        length = self.node("Shape", "input_ids", start=1, end=2)
        numbers = numpy.arange(self.config["max_position_embeddings"])[None]
        positions = self.node("Slice", self.tensor("positions", numbers), zero, length, one)
        x = self.node("Gather", self.weight(table("word")), "input_ids")
        x = self.node("Add", x, self.node("Gather", self.weight(table("token_type")), "token_type_ids"))
        x = self.node("Add", x, self.node("Gather", self.weight(table("position")), positions))
        x = self.norm(x, "bert.embeddings.LayerNorm")
        for layer in range(self.config["num_hidden_layers"]):
            x = self.layer(x, mask, f"bert.encoder.layer.{layer}")
        x = self.node("Gather", x, self.tensor("first", numpy.array(0)), axis=1)
        pooled = self.node("Tanh", self.gemm(x, "bert.pooler.dense"))
        outputs = []
        for task in self.tasks:
            self.nodes.append(helper.make_node("Identity", [self.gemm(pooled, f"heads.{task['name']}")], [task["name"]]))
            outputs.append(helper.make_tensor_value_info(task["name"], TensorProto.FLOAT, ["batch", None]))
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in INPUTS]
        graph = helper.make_graph(self.nodes, "bert", inputs, outputs, list(self.tensors.values()))
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
        return self.config["num_attention_heads"], self.config["hidden_size"]

    def gemm(self, x, name):
        return self.node("Gemm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), transB=1)


def peers(checkpoint, folder):
    """Python's fp32 and int8 graphs of a checkpoint."""
    plain, fp32, int8 = (folder / f"{name}.onnx" for name in ["plain", "fp32", "int8"])
    heads, width = Plain(checkpoint).write(plain)
    model = optimizer.optimize_model(
        str(plain), model_type="bert", num_heads=heads, hidden_size=width, opt_level=0,
        optimization_options=FusionOptions("bert"), use_gpu=False,
    )
    model.save_model_to_file(str(fp32))
    quantize_dynamic(fp32, int8, weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": TensorProto.FLOAT})
    for path in [fp32, int8]:
        operators = collections.Counter(node.op_type for node in onnx.load(path).graph.node)
        fused = {op: count for op, count in operators.items() if op.endswith(("Attention", "Gelu", "LayerNormalization"))}
        print(f"peer {path.stem}: {fused}", file=sys.stderr)
    return fp32, int8


def bam(given, folder):
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("ENCODER", str(given.encoder.resolve())))
    subprocess.run([given.bam.resolve(), "run", "--device", "cpu"], cwd=folder, check=True, stdout=sys.stderr)
    latest = folder / "artifacts/latest"
    for precision in PRECISIONS:
        onnx.checker.check_model(str(latest / f"onnx@{precision}/model.onnx"), full_check=True)
    return latest


def rows(count, length, ragged=False):
    random = numpy.random.default_rng(17)
    mask = numpy.ones((count, length), numpy.int64)
    if ragged:
        for row in mask:
            row[random.integers(4, length + 1) :] = 0
    ids = random.integers(1_000, 20_000, (count, length)) * mask
    return dict(zip(INPUTS, [ids, mask, numpy.zeros_like(mask)]))


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def timed(sessions, threads, rounds, secs):
    """Median seconds of each session on each shape."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    feeds = {shape: rows(*shape) for shape in [ONE, MANY]}
    times = collections.defaultdict(list)
    for _ in range(rounds):
        for shape, feed in feeds.items():
            for name, each in sessions.items():
                each.run(None, feed)
                until = clock() + secs
                while clock() < until:
                    start = clock()
                    each.run(None, feed)
                    times[name, shape].append(clock() - start)
    return {key: statistics.median(values) for key, values in times.items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--encoder", type=pathlib.Path, default=ROOT / ".deps/encoders/all-MiniLM-L6-v2")
    arguments.add_argument("--bam", type=pathlib.Path, default=ROOT / "target/release/bam")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=12)
    arguments.add_argument("--secs", type=float, default=0.5, help="of each graph's turn")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        latest = bam(given, folder)
        fp32, int8 = peers(latest / "student", folder)
        graphs = {f"bam, {precision}": latest / f"onnx@{precision}/model.onnx" for precision in PRECISIONS}
        version = onnxruntime.__version__
        graphs |= {f"onnxruntime {version}, optimized fp32": fp32, f"onnxruntime {version}, dynamic int8": int8}
        sessions = {name: session(path, given.threads) for name, path in graphs.items()}
        ragged = rows(8, 40, ragged=True)
        answers = {name: numpy.concatenate(each.run(None, ragged), 1) for name, each in sessions.items()}
        expected = answers[f"onnxruntime {version}, optimized fp32"]
        medians = timed(sessions, given.threads, given.rounds, given.secs)
        print(machine.line())
        print(f"| threads: {given.threads} | size | 1 row of 16 tokens | 32 rows of 64 tokens | max \\|Δlogit\\| |\n|---|---|---|---|---|")
        for name, path in graphs.items():
            speed = MANY[0] * MANY[1] / medians[name, MANY]
            difference = numpy.abs(answers[name] - expected).max()
            size = path.stat().st_size / 1e6
            print(f"| {name} | {size:.1f} MB | {medians[name, ONE] * 1e3:.2f} ms | {speed:,.0f} tokens/s | {difference:.1e} |")


if __name__ == "__main__":
    main()
