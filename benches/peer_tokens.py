#!/usr/bin/env python3
"""Tokenizes pairs with `datasets.map` and the fast tokenizer of transformers, from a Parquet file into another, as a peer for
`benches/tokens.py`; prints one JSON object. Batches are of 1,000 rows, the default; with one process the tokenizer uses all
threads, with more each uses its own. The time starts when the packages are loaded, and leaves nothing in their caches.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=pathlib.Path, required=True, help="Parquet file with columns `text` and `pair`")
    arguments.add_argument("--encoder", type=pathlib.Path, required=True)
    arguments.add_argument("--tokens", type=pathlib.Path, required=True, help="Parquet file to write")
    arguments.add_argument("--processes", type=int, default=1)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"HF_HOME": cache, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": str(given.processes == 1).lower()}
        import datasets
        from transformers import AutoTokenizer

        started = time.perf_counter()
        tokenizer = AutoTokenizer.from_pretrained(given.encoder)
        rows = datasets.Dataset.from_parquet(str(given.rows), cache_dir=cache)
        mapped = time.perf_counter()
        tokens = rows.map(
            lambda batch: tokenizer(batch["text"], batch["pair"], truncation=True, max_length=128),
            batched=True,
            remove_columns=["text", "pair"],
            num_proc=given.processes if given.processes > 1 else None,
        )
        written = time.perf_counter()
        tokens.to_parquet(given.tokens)
        ended = time.perf_counter()
    by = "1 process" if given.processes == 1 else f"{given.processes} processes"
    print(
        json.dumps(
            {
                "what": f"datasets {datasets.__version__}, {by}",
                "seconds": ended - started,
                "map_seconds": written - mapped,
                "write_seconds": ended - written,
            }
        )
    )


if __name__ == "__main__":
    main()
