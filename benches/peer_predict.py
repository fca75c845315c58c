#!/usr/bin/env python3
"""Predicts rows with PyTorch and transformers, as a peer for `benches/predict.py`; prints one JSON object.

Rows are sorted by length and go in batches of 64, each padded to its longest; attention is transformers' default (scaled dot
product). In bf16 the weights are bf16 (`--precision bf16`), or PyTorch's autocast makes them so in each batch (`autocast`).
The time is that of one pass over all rows, in a process that made none before; model and tokens are there already.
"""

import argparse
import json
import pathlib
import resource
import time

import numpy
import pyarrow.parquet
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import operations

BATCH = 64


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=pathlib.Path, required=True, help="checkpoint, as transformers read it")
    arguments.add_argument("--rows", type=pathlib.Path, required=True, help="Parquet file with columns `text` and `pair`")
    arguments.add_argument("--precision", choices=["fp32", "bf16", "autocast"], required=True)
    arguments.add_argument("--logits", type=pathlib.Path, required=True, help="file to write them to, for numpy")
    given = arguments.parse_args()
    kind = torch.bfloat16 if given.precision == "bf16" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForSequenceClassification.from_pretrained(given.model, dtype=kind).eval()
    table = pyarrow.parquet.read_table(given.rows)
    rows = tokenizer(table["text"].to_pylist(), table["pair"].to_pylist(), truncation=True, max_length=128)
    lengths = [len(ids) for ids in rows["input_ids"]]
    logits = numpy.empty((len(lengths), model.config.num_labels), numpy.float32)
    started = time.perf_counter()
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "autocast")
    with torch.inference_mode(), autocast:
        for at in range(0, len(order), BATCH):
            chunk = order[at : at + BATCH]
            batch = tokenizer.pad({name: [rows[name][row] for row in chunk] for name in rows}, return_tensors="pt")
            logits[chunk] = model(**batch).logits.float().numpy()
    seconds = time.perf_counter() - started
    numpy.save(given.logits, logits)
    print(
        json.dumps(
            {
                "what": f"PyTorch {torch.__version__.split('+')[0]}, {given.precision}",
                "precision": "fp32" if given.precision == "fp32" else "bf16",
                "threads": torch.get_num_threads(),
                "rows_per_second": len(lengths) / seconds,
                "tokens_per_second": sum(lengths) / seconds,
                "operations_per_second": operations.forward(given.model, lengths) / seconds,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
