#!/usr/bin/env python3
"""The machine's peak: how fast PyTorch multiplies two large square matrices, in GFLOP/s, in fp32 and bf16, on one thread
and on all. The best of several products, so that other programs disturb it least.

    python3 benches/peak.py [--size 2048] [--products 20] [--json]
"""

import argparse
import json
import subprocess
import time

import machine


def measure(size, products):
    """Operations per second by format and threads: one, as many as PyTorch takes by itself, and all."""
    # Here, for those that import this file leave the measuring to another Python.
    import torch

    peaks = {}
    for count in sorted({1, torch.get_num_threads(), machine.cores()}):
        torch.set_num_threads(count)
        for name, kind in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
            a, b = (torch.randn(size, size, dtype=kind) for _ in range(2))
            torch.mm(a, b)
            times = []
            for _ in range(products):
                start = time.perf_counter()
                torch.mm(a, b)
                times.append(time.perf_counter() - start)
            peaks.setdefault(name, {})[str(count)] = 2 * size**3 / min(times)
    return {"size": size, "products": products, "torch": torch.__version__.split("+")[0], "peaks": peaks}


def measured_by(python):
    """The same, measured by that Python, which has torch."""
    done = subprocess.run([python, __file__, "--json"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def line(measured):
    def told(by_threads):
        return ", ".join(f"{rate / 1e9:.0f} GFLOP/s on {count}" for count, rate in by_threads.items())

    size, peaks = measured["size"], measured["peaks"]
    return (
        f"Peak: products of {size}x{size}x{size} by PyTorch {measured['torch']}, best of {measured['products']}, by threads: "
        + "; ".join(f"{name} {told(by_threads)}" for name, by_threads in peaks.items())
        + ".\n"
    )


def share(measured, row):
    """What share of the peak of its format and threads a row of a table reached, in words."""
    peak = measured["peaks"][row["precision"]][str(row["threads"])]
    return f"{100 * row['operations_per_second'] / peak:.0f} %"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", type=int, default=2048)
    arguments.add_argument("--products", type=int, default=20)
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    measured = measure(given.size, given.products)
    print(json.dumps(measured) if given.json else line(measured))


if __name__ == "__main__":
    main()
