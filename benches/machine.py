#!/usr/bin/env python3
"""The machine, in a line of Markdown: processor, cores, what it has for matrix products, memory, and how busy it is.

    python3 benches/machine.py
"""

import argparse
import os
import pathlib

FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX int8",
    "amx_bf16": "AMX bf16",
}


def fields(path):
    """The first value of each name in a file of `name: value` lines."""
    found = {}
    for line in pathlib.Path(path).read_text().splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def cores():
    return len(os.sched_getaffinity(0))


def line():
    processor = fields("/proc/cpuinfo")
    # A virtual machine's model name often leaves out the generation, which family and model tell.
    model = f"{processor['model name']} (family {processor['cpu family']}, model {processor['model']})"
    has = set(processor["flags"].split())
    flags = [label if flag in has else f"no {label}" for flag, label in FLAGS.items()]
    memory = int(fields("/proc/meminfo")["MemTotal"].split()[0]) / 2**20
    load = os.getloadavg()[0]
    return f"Machine: {model}, {cores()} cores, {', '.join(flags)}, {memory:.0f} GiB; load {load:.1f} at this moment.\n"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(line())
