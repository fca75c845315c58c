"""Lets PyTorch's package, a CUDA build, load without CUDA's libraries: gigabytes of which the checks use nothing.

    python tests/formats/slim_torch.py      (by the Python that has `torch.txt` installed; needs gcc)

In the place of each that is missing comes one with the functions PyTorch is linked to; calling one ends the program.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

LINKED = ["libtorch_python.so", "libtorch_cuda.so", "libtorch_nvshmem.so"]
VENDOR = "cu|nccl|nvshmem"  # how the names of NVIDIA's functions and libraries begin
INSTALLED = "libcudart|libcupti"
STUB = "libstub.so"


def said(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def missing_libraries(libraries: list[Path], place: Path) -> list[str]:
    """Those that nothing has installed; what an earlier call put in their place is a link."""
    names = re.findall(rf"\[(lib(?:{VENDOR})\w*\.so\.\d+)\]", said("readelf", "--dynamic", "--wide", *libraries))
    return sorted({name for name in names if (place / name).is_symlink() or not (place / name).exists()})


def functions(libraries: list[Path]) -> dict[str, list[str]]:
    """The functions that are missing, by version."""
    symbols = re.findall(rf" U ((?:{VENDOR})\w+)(?:@(\S+))?$", said("nm", "-D", *libraries), re.MULTILINE)
    found = defaultdict(list)
    for name, version in sorted(set(symbols)):
        if not re.match(INSTALLED, version):
            found[version].append(name)
    return found


def build(found: dict[str, list[str]], library: Path) -> None:
    names = {name for of_version in found.values() for name in of_version}
    code = "".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in sorted(names))
    # The loader insists on the versions, which are the libraries' names.
    versions = "".join(f"{version} {{ {'; '.join(names)}; }};\n" for version, names in found.items() if version)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "stub.c").write_text(code)
        (Path(folder) / "versions").write_text(versions)
        script = f"-Wl,--version-script={folder}/versions"
        said("gcc", "-shared", "-fPIC", "-w", "-o", library, f"{folder}/stub.c", script)


def main() -> int:
    torch = Path(importlib.util.find_spec("torch").origin).parent
    place = torch.parent / "nvidia/cu13/lib"  # where PyTorch's libraries look for those of CUDA 13
    libraries = [torch / "lib" / name for name in LINKED]
    missing = missing_libraries(libraries, place)
    if missing:
        build(functions(libraries), place / STUB)
    for name in missing:
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to(STUB)
    return subprocess.run([sys.executable, "-c", "import torch"]).returncode


if __name__ == "__main__":
    sys.exit(main())
