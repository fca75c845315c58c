"""A stage that writes files of its own: how large each artifact is that it reads. Standard library alone."""

import json
import pathlib
import sys


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


job = json.loads(pathlib.Path(sys.argv[1]).read_text())
sizes = {}
for done, given in enumerate(job["inputs"]):
    tell("progress", done=done, total=len(job["inputs"]), unit="artifact", detail=given["stage"])
    files = [path for path in pathlib.Path(given["path"]).iterdir() if path.suffix in (".parquet", ".arrow")]
    sizes[given["stage"]] = {path.name: path.stat().st_size for path in sorted(files)}
total_bytes = sum(size for of_stage in sizes.values() for size in of_stage.values())
tell("metric", name="total_bytes", value=total_bytes)
pathlib.Path(job["output"], "lengths.json").write_text(json.dumps(sizes, indent=2) + "\n")
tell("done", summary=f"{len(sizes)} artifacts, {total_bytes:,} bytes")
