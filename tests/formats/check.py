"""Has bam make one of each file that other programs open, and holds what they read against what bam promises.

    python3 tests/formats/check.py --bam target/release/bam [--folder DIR]
    python3 tests/formats/check.py --folder DIR

The first makes all in a temporary folder, or in one that stays; the second looks at that one again, whatever has
happened to it since. `make conform` brings what this needs. A line for each check; exit code 1 if one failed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing but the folders named here is to be opened
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import checkpoints
import graphs
import manifests
import tables
import tokens
from made import Differs, Made
from transformers.utils import logging


def make(made: Made, bam: Path) -> None:
    began = time.monotonic()
    made.lay()
    made.bam(bam, "run", "--device", "cpu")
    for ending in ["parquet", "arrow"]:
        made.bam(bam, "predict", "onnx@fp32", "--logits", "--pair", "pair", "--input", made.rows_of("alike", "dev"),
                 "--output", made.answers(ending))
    made.bam(bam, "export", "k8s", "--all", "--image", "registry.example/bam:1", "--claim", "bert", "--namespace", "nlp",
             "--sub-path", "formats", "--profile", "cluster.yaml")
    print(f"ok      bam made them in {time.monotonic() - began:.0f} s")


def holds(name: str, check) -> bool:
    try:
        print(f"ok      {name}: {check()}", flush=True)
        return True
    except Differs as difference:
        why = str(difference)
    except Exception as error:  # whatever a program that cannot read a file raises is what is asked for
        why = f"{type(error).__name__}: {error}"
    print(f"FAILED  {name}: {why}", flush=True)
    return False


def look(made: Made) -> int:
    logging.disable_progress_bar()
    all_checks = [check for part in (tables, tokens, checkpoints, graphs, manifests) for check in part.checks(made)]
    failed = sum(not holds(*check) for check in all_checks)
    print(f"{len(all_checks) - failed} of {len(all_checks)} checks of formats passed")
    return int(failed > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bam", type=Path, help="the program; bam-stage lies beside it")
    parser.add_argument("--folder", type=Path, help="where it makes all, a new folder; or has made it")
    arguments = parser.parse_args()
    if not (arguments.bam or arguments.folder):
        parser.error("give --bam, --folder or both")
    with tempfile.TemporaryDirectory() as temporary:
        made = Made(arguments.folder or Path(temporary))
        if arguments.bam:
            try:
                make(made, arguments.bam)
            except subprocess.CalledProcessError as error:
                print(f"FAILED  bam makes them: exit code {error.returncode}\n{error.stderr}")
                return 1
        return look(made)


if __name__ == "__main__":
    sys.exit(main())
