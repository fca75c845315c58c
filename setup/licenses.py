#!/usr/bin/env python3
"""Writes the licences of all crates that a program is linked from: their texts, each once, under the crates' names.

    python3 setup/licenses.py PACKAGE...    to standard output

`cargo about` does this too, but it takes a cold machine ten minutes to build, longer than `bam` itself; what is wanted of
it here is a walk over `cargo metadata`. Fails where a crate is under none of the licences below, or brings no text and
its kind's text is nowhere else.
"""

import collections
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Those that let a binary be passed on with the texts beside it; of MPL-2.0, files that are used as their authors publish them.
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0",
    "MPL-2.0", "Unicode-3.0", "Unlicense", "Zlib",
}
TEXTS = re.compile(r"(un)?licen[cs]e|copying|copyright|notice", re.IGNORECASE)
CODE = {".rs", ".c", ".h", ".cc", ".cpp", ".hpp", ".py", ".sh", ".pl", ".js", ".json", ".toml", ".yml", ".yaml", ".html"}


def linked(metadata, roots):
    """The packages that end up in the program: without those for builds and tests, nor our own."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    own = set(metadata["workspace_members"])
    packages = {package["id"]: package for package in metadata["packages"]}
    open_ids = [identity for identity in own if packages[identity]["name"] in roots]
    found = set()
    while open_ids:
        identity = open_ids.pop()
        if identity in found:
            continue
        found.add(identity)
        for dependency in nodes[identity]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                open_ids.append(dependency["pkg"])
    return sorted((packages[identity] for identity in found - own), key=lambda package: (package["name"], package["version"]))


def is_permissive(expression):
    """Whether all licences of an SPDX expression are; `/` is an old spelling of OR."""
    names = re.sub(r"\bWITH\s+\S+|\b(OR|AND)\b|[()/]", " ", expression).split()
    return PERMISSIVE.issuperset(names)


def texts(package):
    """Those of the crate, and of the C libraries in it."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [path for path in folder.rglob("*") if TEXTS.match(path.name) and path.suffix not in CODE and path.is_file()]
    if package["license_file"]:
        files.append(folder / package["license_file"])
    return sorted({path.read_text(errors="replace").strip() for path in files})


def main():
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version", "1"]
    command += ["--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    crates, bare = collections.defaultdict(list), []
    for package in linked(metadata, set(sys.argv[1:])):
        name = f"{package['name']} {package['version']} ({package['license'] or 'see its text'})"
        if package["license"] and not is_permissive(package["license"]):
            sys.exit(f"error: {name} is under no licence that setup/licenses.py knows as permissive")
        found = texts(package)
        bare += [] if found else [f"{name}, {', '.join(package['authors']) or package['repository']}"]
        for text in found:
            crates[text].append(name)
    print("The Rust crates that this program is linked from, and their licences.\n")
    if bare:
        print("These crates bring no text of their own; the texts of their licences stand below:\n")
        print("\n".join(f"  {name}" for name in bare))
    for text, names in sorted(crates.items(), key=lambda entry: entry[1]):
        print(f"\n{'=' * 100}\n" + "\n".join(names) + f"\n{'-' * 100}\n\n{text}")


if __name__ == "__main__":
    main()
