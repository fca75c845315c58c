"""Batches of tokens for another program, and its logits beside those that bam predicted."""

import numpy
import pyarrow.feather
import pyarrow.parquet
from made import Differs, Made, hold

TOLERANCE = 1e-5  # a tenth of what `score` allows: heads of so short a training have small logits
INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


def batch(made: Made, task: str) -> dict[str, numpy.ndarray]:
    """The dev rows of a task, padded."""
    table = pyarrow.parquet.read_table(made.artifact(f"tokens@{task}") / "dev.parquet").to_pydict()
    shape = (len(table["id"]), max(map(len, table["input_ids"])))
    inputs = {name: numpy.zeros(shape, numpy.int64) for name in INPUTS}
    for at, (ids, types) in enumerate(zip(table["input_ids"], table["token_type_ids"])):
        inputs["input_ids"][at, : len(ids)] = ids
        inputs["attention_mask"][at, : len(ids)] = 1
        inputs["token_type_ids"][at, : len(ids)] = types
    return inputs


def predicted(made: Made, stage: str) -> numpy.ndarray:
    """The logits of the dev rows that bam has written."""
    return numpy.array(pyarrow.feather.read_table(made.artifact(stage) / "dev.arrow")["logits"].to_pylist())


def near(what: str, found, wanted, tolerance: float = TOLERANCE) -> float:
    """How far logits are from those that are wanted; raises where that is too far."""
    found, wanted = (numpy.array(logits, numpy.float32) for logits in (found, wanted))
    hold(f"{what}: shape", found.shape, wanted.shape)
    apart = numpy.abs(found - wanted)
    if not apart.max() <= tolerance:  # so that NaN is too far
        at = int(numpy.argmax(numpy.nan_to_num(apart, nan=numpy.inf).max(axis=1)))
        raise Differs(f"{what}: row {at} is {found[at]}, wanted {wanted[at]} within {tolerance:.0e}")
    return float(apart.max())
