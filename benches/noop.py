#!/usr/bin/env python3
"""How long it takes to find that nothing has to be done: `bam` beside DVC and Snakemake, in one run.

Whole processes, medians over --runs calls, on a chain and a fan of small stages that have all been made before.
Peers are measured where their programs are found on PATH (`make bench` puts them into an environment of its own).

    python3 benches/noop.py --bam target/release/bam [--stages 30 500] [--runs 20]
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import machine

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKER = ROOT / "tests/it/support/fake_stage.py"
TASKS = ["acceptability", "sentiment", "paraphrase", "similarity", "entailment"]


def median_ms(command, folder, runs, environment):
    """Median wall time of a command that succeeds, after one call that isn't counted."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
        times.append((time.perf_counter() - start) * 1000)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr.decode()}{done.stdout.decode()}")
    return statistics.median(times[1:])


def bam_project(folder, stages):
    """`stages` stages: for each task and seed, data and the tokens made from them."""
    seeds = stages // (2 * len(TASKS))
    encoder = folder / "encoder"
    encoder.mkdir()
    for name in ["config.json", "model.safetensors", "tokenizer.json"]:
        (encoder / name).write_text(name)
    (folder / "pipeline.yaml").write_text(
        f"for: {{ task: [{', '.join(TASKS)}], seed: [{', '.join(map(str, range(seeds)))}] }}\n"
        "stages:\n"
        "  examples@task@seed: { data: { task: $task, grammar: { train: 5, dev: 5, seed: $seed } } }\n"
        "  tokens@task@seed: { tokenize: { examples: examples@$task@$seed, encoder: encoder } }\n"
    )
    return seeds * 2 * len(TASKS)


def dvc_project(folder, stages):
    run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True)
    run("git", "init", "-q")
    run("dvc", "init", "-q")
    run("dvc", "config", "core.analytics", "false")
    lines = ["stages:"]
    for index in range(stages):
        reads = [] if index == 0 else [f"out/{(index - 1) // 2}"]
        lines += [f"  s{index}:", f"    cmd: mkdir -p out && echo {index} > out/{index}"]
        lines += ["    deps:"] + [f"      - {path}" for path in reads] if reads else []
        lines += ["    outs:", f"      - out/{index}"]
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
    run("dvc", "repro", "-q")


def snakemake_project(folder, stages):
    rules = ["rule all:", "    input: " + ", ".join(f'"out/{index}"' for index in range(stages))]
    for index in range(stages):
        rules += [f"rule s{index}:"]
        rules += [f'    input: "out/{(index - 1) // 2}"'] if index > 0 else []
        rules += [f'    output: "out/{index}"', f'    shell: "echo {index} > {{output}}"']
    (folder / "Snakefile").write_text("\n".join(rules) + "\n")
    subprocess.run(["snakemake", "-c2", "-q"], cwd=folder, check=True, capture_output=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bam", type=pathlib.Path, default=ROOT / "target/release/bam")
    arguments.add_argument("--stages", type=int, nargs="+", default=[30, 500])
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--peer-stages", type=int, default=30)
    arguments.add_argument("--peer-runs", type=int, default=5)
    given = arguments.parse_args()
    bam = given.bam.resolve()
    rows = []
    for stages in given.stages:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            made = bam_project(folder, stages)
            environment = {**os.environ, "BAM_STAGE": str(WORKER)}
            subprocess.run([bam, "run"], cwd=folder, env=environment, check=True, capture_output=True)
            for command in ["run", "plan", "status"]:
                rows.append((f"bam {command}", made, median_ms([bam, command], folder, given.runs, environment)))
    peers = [
        ("dvc", dvc_project, [["dvc", "repro", "-q"], ["dvc", "status", "-q"]]),
        ("snakemake", snakemake_project, [["snakemake", "-c2", "-q"]]),
    ]
    for program, make, commands in peers:
        if not shutil.which(program):
            print(f"{program} is not on PATH: left out", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            make(folder, given.peer_stages)
            for command in commands:
                time_ms = median_ms(command, folder, given.peer_runs, None)
                rows.append((" ".join(command[:2]), given.peer_stages, time_ms))
    print(machine.line())
    print("| nothing to do | stages | median |\n|---|---|---|")
    for what, stages, time_ms in rows:
        print(f"| `{what}` | {stages} | {time_ms:.1f} ms |")


if __name__ == "__main__":
    main()
