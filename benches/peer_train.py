#!/usr/bin/env python3
"""Trains on MRPC with PyTorch and transformers, as a peer for `benches/train.py`; prints one JSON object a mode.

Modes:
  usual     every row padded to 128 tokens, fp32
  dynamic   padded to the longest row of the batch, fp32
  best      rows of like length in a batch (sorted within windows of 50 batches), bf16 autocast, fused AdamW
All: dropout 0.1, clipping at 1.0, AdamW, batch 32, linear schedule left out (it costs nothing).
"""

import argparse
import json
import pathlib
import random
import resource
import time

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import operations

BATCH, WARM_UP = 32, 5


def rows(glue):
    lines = (glue / "MRPC/train.tsv").read_text(encoding="utf-8-sig").rstrip("\n").split("\n")[1:]
    return [(cells[3], cells[4], int(cells[0])) for cells in (line.split("\t") for line in lines)]


def batches(encoded, mode, steps):
    """Lists of row numbers, shuffled."""
    order = list(range(len(encoded)))
    random.shuffle(order)
    if mode == "best":
        window = 50 * BATCH
        parts = [sorted(order[at : at + window], key=lambda row: len(encoded[row])) for at in range(0, len(order), window)]
        order = [row for part in parts for row in part]
    chunks = [order[at : at + BATCH] for at in range(0, len(order) - BATCH + 1, BATCH)]
    random.shuffle(chunks)
    return chunks[:steps]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--glue", type=pathlib.Path, required=True)
    arguments.add_argument("--encoder", type=pathlib.Path, required=True)
    arguments.add_argument("--mode", choices=["usual", "dynamic", "best"], required=True)
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--threads", type=int)
    given = arguments.parse_args()
    random.seed(1)
    torch.manual_seed(1)
    if given.threads:
        torch.set_num_threads(given.threads)
    tokenizer = AutoTokenizer.from_pretrained(given.encoder)
    model = AutoModelForSequenceClassification.from_pretrained(given.encoder, num_labels=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01, fused=given.mode == "best")
    data = rows(given.glue)
    encoded = tokenizer([a for a, _, _ in data], [b for _, b, _ in data], truncation=True, max_length=128)["input_ids"]
    done = []
    for step, chunk in enumerate(batches(encoded, given.mode, given.steps + WARM_UP)):
        if step == WARM_UP:
            started, done = time.perf_counter(), []
        pairs = [data[row] for row in chunk]
        inputs = tokenizer(
            [a for a, _, _ in pairs],
            [b for _, b, _ in pairs],
            truncation=True,
            max_length=128,
            padding="max_length" if given.mode == "usual" else True,
            return_tensors="pt",
        )
        labels = torch.tensor([label for _, _, label in pairs])
        with torch.autocast("cpu", torch.bfloat16, enabled=given.mode == "best"):
            loss = model(**inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        done += [len(encoded[row]) for row in chunk]
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "what": f"PyTorch {torch.__version__.split('+')[0]}, {given.mode}",
                "precision": "bf16" if given.mode == "best" else "fp32",
                "threads": torch.get_num_threads(),
                "rows_per_second": len(done) / seconds,
                "tokens_per_second": sum(done) / seconds,
                "operations_per_second": operations.TRAINING * operations.forward(given.encoder, done) / seconds,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
