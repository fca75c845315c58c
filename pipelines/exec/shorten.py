"""A stage that writes examples: those it reads, each text cut to its first words."""

import json
import pathlib
import sys

import pyarrow
import pyarrow.compute
import pyarrow.parquet


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def shortened(texts, words):
    """The column with all after the first `words` words cut off; null stays null."""
    return pyarrow.compute.replace_substring_regex(texts, rf"^((?:\S+\s+){{{words - 1}}}\S+)\s.*$", r"\1")


job = json.loads(pathlib.Path(sys.argv[1]).read_text())
words = job["spec"]["exec"]["params"]["words"]
given = next(entry for entry in job["inputs"] if entry["slot"] == "examples")
splits = sorted(pathlib.Path(given["path"]).glob("*.parquet"))
rows = 0
for done, split in enumerate(splits):
    tell("progress", done=done, total=len(splits), unit="split", detail=split.stem)
    table = pyarrow.parquet.read_table(split)
    for column in ("text", "pair"):
        at = table.schema.get_field_index(column)
        table = table.set_column(at, table.schema.field(at), shortened(table[column], words))
    # The task travels in the file's metadata; the fingerprint there says who made the file.
    task = pyarrow.parquet.read_metadata(split).metadata[b"bam.task"]
    table = table.replace_schema_metadata({"bam.task": task, "bam.fingerprint": job["fingerprint"]})
    pyarrow.parquet.write_table(table, pathlib.Path(job["output"], split.name), compression="zstd")
    rows += table.num_rows
tell("done", summary=f"{rows:,} rows of at most {words} words", provenance={"pyarrow": pyarrow.__version__})
