#!/usr/bin/env python3
"""Trains on MRPC with PyTorch and transformers, as a peer for `benches/train.py`; prints one JSON object a mode.

Modes:
  usual     every row padded to 128 tokens, fp32
  dynamic   padded to the longest row of the batch, fp32
  best      rows of like length in a batch (sorted within windows of 50 batches), padded to a multiple of 8, bf16 autocast, fused AdamW
  compiled  the same by torch.compile, once it is warm
All: tokenized beforehand, dropout 0.1, clipping at 1.0, AdamW, linear schedule left out (it costs nothing). On a GPU, all batches lie
there before the time is taken, and fp32 products may take its TF32.
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

# Steps before those that count. A GPU's libraries choose kernels for each new length of a batch: it is given an epoch.
WARM_UP = {"cpu": 5, "cuda": 115}


def rows(glue):
    lines = (glue / "MRPC/train.tsv").read_text(encoding="utf-8-sig").rstrip("\n").split("\n")[1:]
    return [(cells[3], cells[4], int(cells[0])) for cells in (line.split("\t") for line in lines)]


def batches(encoded, by_length, steps, size):
    """Lists of row numbers, shuffled: as many as are asked for, over as many epochs as that takes."""
    chunks = []
    while len(chunks) < steps:
        order = list(range(len(encoded)))
        random.shuffle(order)
        if by_length:
            window = 50 * size
            parts = [sorted(order[at : at + window], key=lambda row: len(encoded[row])) for at in range(0, len(order), window)]
            order = [row for part in parts for row in part]
        epoch = [order[at : at + size] for at in range(0, len(order) - size + 1, size)]
        random.shuffle(epoch)
        chunks += epoch
    return chunks[:steps]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--glue", type=pathlib.Path, required=True)
    arguments.add_argument("--encoder", type=pathlib.Path, required=True)
    arguments.add_argument("--mode", choices=["usual", "dynamic", "best", "compiled"], required=True)
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments.add_argument("--threads", type=int)
    given = arguments.parse_args()
    random.seed(1)
    torch.manual_seed(1)
    if given.threads:
        torch.set_num_threads(given.threads)
    on_gpu = given.device != "cpu"
    is_best = given.mode in ["best", "compiled"]
    torch.set_float32_matmul_precision("high" if on_gpu else "highest")
    # Slower here than the other kernels, which PyTorch takes then: it plans anew for each length.
    torch.backends.cuda.enable_cudnn_sdp(False)
    warm_up = WARM_UP[given.device.split(":")[0]]
    tokenizer = AutoTokenizer.from_pretrained(given.encoder)
    model = AutoModelForSequenceClassification.from_pretrained(given.encoder, num_labels=2).to(given.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01, fused=is_best)
    if given.mode == "compiled":
        model.compile(dynamic=True)
    data = rows(given.glue)
    encoded = tokenizer([a for a, _, _ in data], [b for _, b, _ in data], truncation=True, max_length=128)
    lengths = [len(ids) for ids in encoded["input_ids"]]

    def collated(chunk):
        features = [{name: values[row] for name, values in encoded.items()} for row in chunk]
        padding = {"padding": "max_length", "max_length": 128} if given.mode == "usual" else {"padding": True}
        # Else products are compiled, or kernels chosen, for every length anew.
        if is_best:
            padding["pad_to_multiple_of"] = 8
        inputs = tokenizer.pad(features, return_tensors="pt", **padding)
        inputs["labels"] = torch.tensor([data[row][2] for row in chunk])
        if not on_gpu:
            return inputs
        return {name: tensor.pin_memory().to(given.device, non_blocking=True) for name, tensor in inputs.items()}

    def wait():
        if on_gpu:
            torch.cuda.synchronize()

    chunks = batches(encoded["input_ids"], is_best, given.steps + warm_up, given.batch)
    # Collating is a data loader's work, which goes on beside a GPU's.
    prepared = [collated(chunk) for chunk in chunks] if on_gpu else None
    for step, chunk in enumerate(chunks):
        if step == warm_up:
            wait()
            started = time.perf_counter()
        inputs = prepared[step] if prepared else collated(chunk)
        with torch.autocast(given.device, torch.bfloat16, enabled=is_best):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    wait()
    seconds = time.perf_counter() - started
    done = [lengths[row] for chunk in chunks[warm_up:] for row in chunk]
    print(
        json.dumps(
            {
                "what": f"PyTorch {torch.__version__.split('+')[0]}, {given.mode}",
                "precision": "bf16" if is_best else "fp32",
                "threads": torch.get_num_threads(),
                "rows_per_second": len(done) / seconds,
                "tokens_per_second": sum(done) / seconds,
                "operations_per_second": operations.TRAINING * operations.forward(given.encoder, done) / seconds,
                "peak_bytes": torch.cuda.max_memory_allocated()
                if on_gpu
                else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
