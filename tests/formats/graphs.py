"""ONNX graphs, as `onnx` checks them and Python's onnxruntime answers by them."""

import json

import numpy
import onnx
import onnxruntime
import pyarrow.feather
import pyarrow.parquet
from logits import INPUTS, batch, near, predicted
from made import PRECISIONS, Differs, Made, hold
from rows import TASKS
from transformers import AutoTokenizer

PAIRS = ["alike", "near"]


def session(made: Made, precision: str) -> onnxruntime.InferenceSession:
    graph = made.artifact(f"onnx@{precision}") / "model.onnx"
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def answers(graph: onnxruntime.InferenceSession, inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    return dict(zip(TASKS, graph.run(TASKS, inputs)))


def whole(made: Made, precision: str) -> str:
    graph = made.artifact(f"onnx@{precision}") / "model.onnx"
    onnx.checker.check_model(graph, full_check=True)
    model = onnx.load(graph)
    hold("inputs", [value.name for value in model.graph.input], INPUTS)
    hold("outputs", [value.name for value in model.graph.output], TASKS)
    hold("operators' domains", {node.domain for node in model.graph.node} - {"", "ai.onnx"}, set())
    metadata = {pair.key: pair.value for pair in model.metadata_props}
    hold("`bam.fingerprint`", metadata.get("bam.fingerprint"), graph.parent.name)
    hold("`bam.precision`", metadata.get("bam.precision"), precision)
    hold("`bam.tasks`", [task["name"] for task in json.loads(metadata["bam.tasks"])], TASKS)
    return "inputs, outputs, metadata, and ONNX's own operators alone"


def as_libtorch(made: Made) -> str:
    """The fp32 graph's logits are those of the checkpoint."""
    graph = session(made, "fp32")
    apart = [
        near(f"logits of {task}", answers(graph, batch(made, task))[task], predicted(made, f"answers@{task}"))
        for task in TASKS
    ]
    return f"logits of {len(TASKS)} tasks within {max(apart):.1e} of answers, which libtorch made"


def as_probed(made: Made, precision: str) -> str:
    """The rows in `probes.json` are answered within the tolerance that stands there, each by itself."""
    folder = made.artifact(f"onnx@{precision}")
    probes = json.loads((folder / "probes.json").read_text())
    most = json.loads((folder / "bam.json").read_text())["max_tokens"]
    tokenizer, graph = AutoTokenizer.from_pretrained(folder), session(made, precision)
    hold("`model_max_length` of the tokenizer", tokenizer.model_max_length, most)
    apart = []
    for probe in probes["rows"]:
        texts = [[probe[name]] for name in ("text", "pair") if name in probe]
        tokens = tokenizer(*texts, truncation=True, return_tensors="np")
        hold("tokens of a probe", tokens["input_ids"].tolist(), [probe["input_ids"]])
        found = answers(graph, {name: tokens[name] for name in INPUTS})
        for task, wanted in probe["logits"].items():
            apart.append(near(f"{probe['text']!r}, {task}", found[task], [wanted], probes["tolerance"]))
    return f"its {len(probes['rows'])} probes within {max(apart):.1e}"


def as_predict(made: Made, ending: str) -> str:
    """What `bam predict` wrote of the dev pairs is what Python's onnxruntime says of them."""
    file = made.answers(ending)
    if ending == "parquet":
        table, metadata = pyarrow.parquet.read_table(file), pyarrow.parquet.read_metadata(file).metadata
    else:
        table = pyarrow.feather.read_table(file)
        metadata = table.schema.metadata
    tasks = json.loads(metadata[b"bam.tasks"])
    hold("`bam.tasks`", [task["name"] for task in tasks], PAIRS)
    found = answers(session(made, "fp32"), batch(made, "alike"))
    apart = [near(f"logits of {task}", table[f"{task}.logits"].to_pylist(), found[task]) for task in PAIRS]
    labels = [tasks[0]["labels"][row.argmax()] for row in found["alike"]]
    if table["alike.label"].to_pylist() != labels:
        raise Differs("`alike.label` isn't the likeliest class")
    return f"columns and metadata, logits within {max(apart):.1e} of onnxruntime's"


def checks(made: Made):
    for precision in PRECISIONS:
        title = f"onnx.checker passes onnx@{precision}"
        yield title, lambda precision=precision: whole(made, precision)
    yield "onnxruntime answers by onnx@fp32", lambda: as_libtorch(made)
    for precision in PRECISIONS:
        title = f"onnxruntime answers the probes of onnx@{precision}"
        yield title, lambda precision=precision: as_probed(made, precision)
    for ending in ["parquet", "arrow"]:
        yield f"pyarrow reads answers.{ending} of `bam predict`", lambda ending=ending: as_predict(made, ending)
