"""Tables as pyarrow reads them: columns, metadata and rows."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
from made import MOST, Differs, Made, hold
from rows import LABELS, RANGE, SPLITS, TASKS, label, rows


def column(name: str, kind: pa.DataType, null: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=null)


def items(kind: pa.DataType, number: int = -1) -> pa.DataType:
    return pa.list_(column("item", kind), number)


def outputs(task: str) -> int:
    return len(LABELS.get(task, "1"))


def label_column(task: str) -> pa.Field:
    return column("label", pa.float64() if task == "near" else pa.int32(), null=True)


def examples_columns(task: str) -> list[pa.Field]:
    text = [column("text", pa.string()), column("pair", pa.string(), null=True)]
    return [column("id", pa.int64()), *text, label_column(task)]


def tokens_columns(task: str) -> list[pa.Field]:
    ids = [column("input_ids", items(pa.int32())), column("token_type_ids", items(pa.int8()))]
    first = [column("id", pa.int64()), column("swapped", pa.bool_()), label_column(task)]
    return [*first, *ids, column("lost_tokens", pa.int32())]


def predictions_columns(task: str) -> list[pa.Field]:
    first = [column("id", pa.int64()), column("swapped", pa.bool_()), label_column(task)]
    return [*first, column("logits", items(pa.float32(), outputs(task)))]


def hold_columns(table: pa.Table, wanted: list[pa.Field]) -> None:
    found = table.schema.remove_metadata()
    if not found.equals(pa.schema(wanted)):
        raise Differs(f"columns are\n{found}\nwanted\n{pa.schema(wanted)}")


def hold_metadata(file: Path, metadata: dict[bytes, bytes] | None, task: str | None) -> dict[str, str]:
    """Every file names the computation that made it, and its task as the pipeline file has it."""
    texts = {name.decode(): text.decode() for name, text in (metadata or {}).items()}
    hold("`bam.fingerprint`", texts.get("bam.fingerprint"), file.parent.name)
    if task:
        spec = json.loads(texts["bam.task"])
        hold("`bam.task`: name", spec["name"], task)
        hold("`bam.task`: labels", spec.get("labels", []), LABELS.get(task, []))
        hold("`bam.task`: range", spec.get("range"), list(RANGE) if task == "near" else None)
    return texts


def parquet(file: Path, wanted: list[pa.Field], task: str | None) -> tuple[dict[str, list], dict[str, str]]:
    """Columns as lists, and metadata."""
    table = pa.parquet.read_table(file)
    hold_columns(table, wanted)
    return table.to_pydict(), hold_metadata(file, pa.parquet.read_metadata(file).metadata, task)


def arrow(file: Path, task: str) -> dict[str, list]:
    """Read as Feather and as Arrow IPC; both ways give the same."""
    table = pa.feather.read_table(file)
    hold_columns(table, predictions_columns(task))
    hold_metadata(file, table.schema.metadata, task)
    with pa.ipc.open_file(file) as reader:
        if not reader.read_all().equals(table, check_metadata=True):
            raise Differs("Feather and Arrow IPC give different tables")
    return table.to_pydict()


def expected_keys(task: str, split: str) -> list[tuple]:
    """(id, swapped, label) of each row: training pairs of a symmetric task come in both orders."""
    both = task == "near" and split == "train"
    labels = [label(task, row) for row in rows(task, split)]
    return [(at, swapped, label) for swapped in [False, True][: 1 + both] for at, label in enumerate(labels)]


def keys(table: dict[str, list]) -> list[tuple]:
    return list(zip(table["id"], table["swapped"], table["label"]))


def examples(made: Made, task: str) -> str:
    for split in SPLITS:
        table, _ = parquet(made.artifact(f"examples@{task}") / f"{split}.parquet", examples_columns(task), task)
        found = list(zip(table["id"], table["text"], table["pair"], table["label"]))
        wanted = [(at, row["text"], row.get("pair"), label(task, row)) for at, row in enumerate(rows(task, split))]
        hold(split, found, wanted)
    return f"columns, metadata and the {sum(SPLITS.values())} rows of the input"


def tokens(made: Made, task: str) -> str:
    for split in SPLITS:
        file = made.artifact(f"tokens@{task}") / f"{split}.parquet"
        table, metadata = parquet(file, tokens_columns(task), task)
        tokenizer = json.loads(metadata["bam.tokenizer"])
        words = len((made.encoder("tiny") / "vocab.txt").read_text().splitlines())
        found = [tokenizer[name] for name in ("max_tokens", "vocabulary_size", "pad_id")]
        hold("`bam.tokenizer`: max_tokens, vocabulary_size, pad_id", found, [MOST, words, 0])
        hold(split, keys(table), expected_keys(task, split))
    return "columns, metadata, ids and labels"


def predictions(made: Made, stage: str, task: str) -> str:
    for split in SPLITS:
        table = arrow(made.artifact(f"{stage}@{task}") / f"{split}.arrow", task)
        hold(split, keys(table), expected_keys(task, split))
    return "columns, metadata, ids and labels, as Feather v2 and as Arrow IPC"


def history(made: Made, stage: str, tasks: list[str]) -> str:
    names = ["step", "epoch", "loss", "lambda", "learning_rate", "gradient_norm", "rows_per_second"]
    metrics = [f"dev/{task}/{'spearman' if task == 'near' else 'accuracy'}" for task in sorted(tasks)]
    wanted = [column(name, pa.float64(), null=True) for name in names + metrics]
    table, _ = parquet(made.artifact(stage) / "history.parquet", wanted, None)
    steps = len(table["step"])
    hold("`step`", table["step"], [float(step) for step in range(steps)])
    for name in ["loss", "learning_rate"]:
        if not steps or None in table[name]:
            raise Differs(f"`{name}` lacks values")
    for name in metrics:
        if table[name][-1] is None:
            raise Differs(f"`{name}` lacks its value after the last step")
    return f"columns, metadata and {steps} steps"


def checks(made: Made):
    for task in TASKS:
        yield f"pyarrow reads examples@{task}", lambda task=task: examples(made, task)
    for task in TASKS:
        yield f"pyarrow reads tokens@{task}", lambda task=task: tokens(made, task)
    for stage in ["predictions", "answers"]:
        for task in TASKS:
            yield f"pyarrow reads {stage}@{task}", lambda stage=stage, task=task: predictions(made, stage, task)
    yield "pyarrow reads the history of teacher@near", lambda: history(made, "teacher@near", ["near"])
    yield "pyarrow reads the history of student", lambda: history(made, "student", TASKS)
