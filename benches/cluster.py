#!/usr/bin/env python3
"""What many stages cost the engine and a cluster, with a Slurm that only pretends: `sbatch` leaves at once what a node would.

Prints the time and memory of planning and of running so many stages, and how often stages were submitted and the queue was asked.
"""

import argparse
import os
import pathlib
import subprocess
import tempfile
import time

SBATCH = """#!/bin/sh
for word; do case $word in --array=*) array=yes;; esac; done
leave() {
  at=${1%/*}
  for name in train dev; do printf '%s' "$at" > "$at/output.1/$name.parquet"; done
  printf '%s\\n' '{"event": "done", "summary": "made", "provenance": {}}' > "$at/events.1.jsonl"
  printf '%s' '{"trouble": null, "peak_memory_bytes": 1, "wall_secs": 1.0, "host": "n", "is_signalled": false}' > "$at/end"
  mv "$at/end" "$at/end.1.json"
}
echo submitted >> submitted
if test "$array"; then grep '^/' "$word" | while read -r script; do leave "$script"; done; else leave "$word"; fi
echo $$
"""
SQUEUE = """#!/bin/sh
echo asked >> asked
echo '{"jobs": []}'
"""


def timed(command, folder, environment):
    """Seconds and peak memory of a call."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{command}: {status}"
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bam", required=True, type=pathlib.Path)
    parser.add_argument("--stages", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=1_000, help="in the queue at a time")
    args = parser.parse_args()
    bam = str(args.bam.resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        values = ", ".join(str(value) for value in range(1, args.stages + 1))
        (folder / "pipeline.yaml").write_text(
            f"for: {{ n: [{values}] }}\nstages:\n  rows@n: {{ data: {{ task: sentiment, grammar: {{ train: $n, dev: 5 }} }} }}\n"
        )
        (folder / "cluster.yaml").write_text(f"executor: slurm\nmax_jobs: {args.jobs}\n")
        (folder / "bin").mkdir()
        for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", "#!/bin/sh\n"), ("sacct", "#!/bin/sh\nexit 1\n"), ("scontrol", "#!/bin/sh\nexit 1\n")):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        plan = timed([bam, "plan"], folder, environment)
        run = timed([bam, "run", "--profile", "cluster.yaml"], folder, environment)
        again = timed([bam, "run", "--profile", "cluster.yaml"], folder, environment)
        asked, submitted = (
            len((folder / name).read_text().splitlines()) if (folder / name).exists() else 0 for name in ("asked", "submitted")
        )
        for what, (seconds, mebibytes) in (("plan", plan), ("run", run), ("nothing to do", again)):
            print(f"{what:<14} {seconds:7.2f} s  {mebibytes:7.1f} MiB")
        print(f"{args.stages / run[0]:.0f} stages a second, {args.jobs} jobs at a time; {submitted} calls of sbatch; the queue was asked {asked} times")


main()
