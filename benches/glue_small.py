#!/usr/bin/env python3
"""Wall time of the whole of pipelines/glue-small.yaml, from GLUE's files to an exported model and its scores, and what the kinds
of stages took of it. About half an hour on two cores.

    python3 benches/glue_small.py --glue DIR [--encoder DIR] [--set stages.student.train.epochs=1]

Stages run side by side, so that the kinds' sums come to more than the whole.
"""

import json
import tempfile
import time

import machine
import project


def main():
    arguments = project.arguments(__doc__)
    arguments.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as `bam run` takes it")
    given = arguments.parse_args()
    about = machine.line()
    pipeline = project.ROOT / "pipelines/glue-small.yaml"
    options = [f"vars.glue={given.glue.resolve()}", f"vars.encoder={given.encoder.resolve()}", *given.set]
    with tempfile.TemporaryDirectory() as name:
        work = project.Project(given, name, pipeline.read_text())
        start = time.perf_counter()
        work.run(*(part for option in options for part in ("--set", option)))
        whole = time.perf_counter() - start
        kinds = {}
        for path in work.path("").glob("*/manifest.json"):
            manifest = json.loads(path.read_text())
            kinds.setdefault(manifest["key"]["kind"], []).append(manifest["provenance"]["wall_secs"])
    print(about)
    print("| glue-small | stages | time |\n|---|---|---|")
    for kind, seconds in sorted(kinds.items(), key=lambda each: -sum(each[1])):
        print(f"| `{kind}`, summed | {len(seconds)} | {sum(seconds):.1f} s |")
    print(f"| the whole run, wall time | {sum(map(len, kinds.values()))} | {whole:.1f} s |")


if __name__ == "__main__":
    main()
