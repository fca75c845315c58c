#!/usr/bin/env python3
"""What the engine's defaults rest on: four equal trainings two at a time, each on one thread, against one by one on two; and how
fast a large file is hashed when it is first seen, beside the programs whose digests other engines take.

    python3 benches/engine.py --bam target/release/bam [--gigabytes 2]
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import machine

ROOT = pathlib.Path(__file__).resolve().parent.parent

TRAININGS = f"""\
name: side-by-side
for: {{ seed: [1, 2, 3, 4] }}
stages:
  examples: {{ data: {{ task: paraphrase, grammar: {{ train: 1000, dev: 200, seed: 1 }} }} }}
  tokens: {{ tokenize: {{ examples: examples, encoder: {ROOT}/.deps/encoders/all-MiniLM-L6-v2, max_tokens: 48 }} }}
  model@seed:
    train: {{ tokens: [tokens], encoder: {ROOT}/.deps/encoders/all-MiniLM-L6-v2, epochs: 2, seed: $seed }}
    resources: {{ threads: THREADS }}
"""

HASHED = "stages: { count: { exec: { run: [wc, -c, large], files: [large] } } }\n"


def seconds(command, folder):
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}{done.stdout}")
    return time.perf_counter() - start


def side_by_side(bam):
    print("| four trainings | seconds |\n|---|---|")
    for way, jobs, threads in [("one by one, 2 threads each", 1, 2), ("two at a time, 1 thread each", 2, 1)]:
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "pipeline.yaml").write_text(TRAININGS.replace("THREADS", str(threads)))
            run = [bam, "run", "--device", "cpu", "--artifacts", "artifacts", "--jobs", str(jobs)]
            subprocess.run([*run, "pipeline.yaml", "tokens"], cwd=folder, check=True, capture_output=True)
            print(f"| {way} | {seconds(run, folder):.1f} |", flush=True)


def hashing(bam, gigabytes):
    print("\n| a file of the page cache | GB/s |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        large = pathlib.Path(folder) / "large"
        with large.open("wb") as file:
            block = os.urandom(1 << 20)
            for _ in range(gigabytes * 1000):
                file.write(block[:1_000_000])
        (pathlib.Path(folder) / "pipeline.yaml").write_text(HASHED)
        # Younger files are read each time, as their times might not show a change.
        time.sleep(3)
        plan = [bam, "plan", "--artifacts", "artifacts"]
        first = seconds(plan, folder)
        print(f"| bam plan, which takes BLAKE3 on all cores | {gigabytes / first:.2f} |")
        for program in ["md5sum", "sha256sum"]:
            print(f"| {program} | {gigabytes / seconds([program, 'large'], folder):.2f} |", flush=True)
        print(f"\nThe next `bam plan`, which reads nothing of it, takes {seconds(plan, folder) * 1000:.0f} ms.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bam", type=pathlib.Path, default=ROOT / "target/release/bam")
    parser.add_argument("--gigabytes", type=int, default=2)
    given = parser.parse_args()
    print(machine.line() + "\n")
    side_by_side(given.bam.resolve())
    hashing(given.bam.resolve(), given.gigabytes)


if __name__ == "__main__":
    main()
