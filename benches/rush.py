#!/usr/bin/env python3
"""What `bam serve` refuses right after a rush, and of small requests beside clients of large ones. Rates are by what it keeps: 0.8
of it, twice as much for a rush, and 0.15 beside large requests.

    python3 benches/rush.py --bam target/release/bam --oha .deps/bench/bin/oha --server-cpus 0,1 --client-cpus 0,1
"""

import collections
import concurrent.futures
import json
import pathlib
import tempfile
import threading
import time
import urllib.error

import machine
import serve

STEPS = 3
LARGE_CLIENTS = 3
INPUTS_OF_A_LARGE_ONE = 256


def told(what, found):
    sent = f"{found['refused']} refused, {found['failed']} failed"
    print(f"| {what} | {found['answered']:.0f}/s | {found['p99'] * 1000:.0f} ms | {sent} |", flush=True)


def beside_large_ones(generator, texts, rate, seconds):
    """Small requests at a rate, while some clients send large ones, each its next as soon as one is answered or refused."""
    texts = [json.loads(text)["inputs"] for text in texts[:INPUTS_OF_A_LARGE_ONE]]
    large = json.dumps({"inputs": texts, "tasks": ["sentiment"]})
    ended = threading.Event()

    def client():
        statuses = collections.Counter()
        while not ended.is_set():
            try:
                serve.post(large)
                statuses[200] += 1
            except urllib.error.HTTPError as error:
                statuses[error.code] += 1
                time.sleep(int(error.headers.get("retry-after", 1)))
        return statuses

    with concurrent.futures.ThreadPoolExecutor(LARGE_CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(LARGE_CLIENTS)]
        time.sleep(1)
        found = generator.at(rate, seconds)
        ended.set()
        statuses = sum((one.result() for one in clients), collections.Counter())
    answers = ", ".join(f"{count} times {status}" for status, count in sorted(statuses.items()))
    told(f"{rate:.0f}/s beside {LARGE_CLIENTS} clients of {INPUTS_OF_A_LARGE_ONE} inputs ({answers})", found)


def main():
    arguments = serve.arguments(__doc__)
    arguments.add_argument("--rush-seconds", type=int, default=3)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        models = serve.make_models(given.bam.resolve(), folder)
        print(machine.line())
        for precision in given.precisions:
            model = (models / f"onnx@{precision}").resolve()
            texts, _ = serve.bodies(model)
            generator = serve.Generator.of(given, texts, folder)
            print(f"\n| {precision} | answered | p99 of them | |\n|---|---|---|---|", flush=True)
            with serve.serving(serve.command_of(given, model), {}, given.server_cpus):
                most = generator.most(50, given.seconds, STEPS)
                often, rush, small = 0.8 * most, 2 * most, 0.15 * most
                told(f"{often:.0f}/s", generator.at(often, given.seconds))
                told(f"a rush: {rush:.0f}/s for {given.rush_seconds} s", generator.at(rush, given.rush_seconds))
                told(f"{often:.0f}/s, right after it", generator.at(often, given.seconds))
                beside_large_ones(generator, texts, small, given.seconds)


if __name__ == "__main__":
    main()
