#!/usr/bin/env python3
"""Answers rows with onnxruntime and the fast tokenizer of transformers, as a peer for `benches/predict_onnx.py`; its last line
on stderr is rows/s, from reading the rows to the logits in a file.

Rows are sorted by length and go in batches of 64, each padded to its longest; onnxruntime takes all processors.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import numpy
import onnxruntime
import pyarrow.parquet
from transformers import AutoTokenizer

BATCH = 64


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=pathlib.Path, required=True, help="exported model's folder")
    arguments.add_argument("--rows", type=pathlib.Path, required=True, help="Parquet file with columns `text` and `pair`")
    arguments.add_argument("--logits", type=pathlib.Path, required=True, help="file to write them to, for numpy")
    given = arguments.parse_args()
    about = json.loads((given.model / "bam.json").read_text())
    task = about["tasks"][0]
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(given.model / "model.onnx", options, providers=["CPUExecutionProvider"])
    # A first pass takes memory that later ones have; `bam` has answered its probes before it begins.
    session.run([task["name"]], {name: numpy.ones((BATCH, 64), numpy.int64) for name in tokenizer.model_input_names})
    started = time.perf_counter()
    table = pyarrow.parquet.read_table(given.rows)
    rows = tokenizer(table["text"].to_pylist(), table["pair"].to_pylist(), truncation=True, max_length=about["max_tokens"])
    lengths = [len(ids) for ids in rows["input_ids"]]
    logits = numpy.empty((len(lengths), len(task["labels"])), numpy.float32)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for at in range(0, len(order), BATCH):
        chunk = order[at : at + BATCH]
        batch = tokenizer.pad({name: [rows[name][row] for row in chunk] for name in rows}, return_tensors="np")
        feed = {name: values.astype(numpy.int64) for name, values in batch.items()}
        logits[chunk] = session.run([task["name"]], feed)[0]
    numpy.save(given.logits, logits)
    print(len(lengths) / (time.perf_counter() - started), file=sys.stderr)


if __name__ == "__main__":
    main()
