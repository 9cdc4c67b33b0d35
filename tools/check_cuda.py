"""
Compile all CUDA kernels without a GPU, and check what the compiler says of them.

    python tools/check_cuda.py [--nvcc PATH] [--architectures 80 90]

Fails if a source does not compile without warnings, a kernel spills more than 384 bytes of
registers to memory (recurrent layers spill some), or a file that uses tensor cores (it includes
cuda/tensor_core.h, perhaps by way of others) has no such instruction in its code. Prints registers
and shared memory of each kernel. Without nvcc it says so and ends with 0.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CPP = Path(__file__).parent.parent / "cpp"
_KERNEL = re.compile(r"Function properties for (\S+)")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers.*?(?:, (\d+) bytes smem)?(?:,|$)")
_MOST_SPILLED = 384
_TENSOR_CORE = re.compile(r"\b[HIDQ]G?MMA\.")


def compiled(nvcc: str, source: Path, architecture: str, folder: Path) -> tuple[str, str]:
    """Return what ptxas reports and the disassembly of one source."""
    cubin = folder / f"{source.stem}.{architecture}.cubin"
    command = [
        nvcc, "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-I", str(CPP),
        "--expt-relaxed-constexpr", "-Xptxas", "-v", "-Werror", "all-warnings", "-cubin",
        "-o", str(cubin), str(source),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{source.name}, sm_{architecture}:\n{result.stdout}{result.stderr}")
    dump = shutil.which("cuobjdump") or str(Path(nvcc).resolve().with_name("cuobjdump"))
    sass = ""
    if Path(dump).exists():
        shown = subprocess.run([dump, "-sass", str(cubin)], capture_output=True, text=True)
        sass = shown.stdout
    return result.stdout + result.stderr, sass


def demangled(name: str) -> str:
    """Return the name of a kernel as it is written, if c++filt is there."""
    if shutil.which("c++filt") is None:
        return name
    text = subprocess.run(["c++filt", name], capture_output=True, text=True).stdout.strip()
    plain = re.sub(r"seqrec_fast::|cuda::|\(anonymous namespace\)::|^void ", "", text)
    return plain.split("(")[0]


def included(source: Path) -> set[Path]:
    """Return the headers of the project that a source sees."""
    found: set[Path] = set()
    waiting = [source]
    while waiting:
        names = re.findall(r'#include "([^"]+)"', waiting.pop().read_text())
        new = {CPP / name for name in names if (CPP / name).exists()} - found
        found |= new
        waiting += new
    return found


def check(nvcc: str, source: Path, architecture: str, folder: Path) -> tuple[list[str], list[str]]:
    """Return lines about the kernels of a source, and what is wrong with them."""
    report, sass = compiled(nvcc, source, architecture, folder)
    lines, wrong = [source.name], []
    name = ""
    for line in report.splitlines():
        if found := _KERNEL.search(line):
            name = demangled(found[1])
        elif (found := _SPILLS.search(line)) and int(found[1]) > 0:
            lines.append(f"  sm_{architecture} {name}: {found[1]} bytes spilt")
            if int(found[1]) > _MOST_SPILLED:
                wrong.append(f"{source.name}, sm_{architecture}: {name} spills {found[1]} bytes")
        elif found := _USED.search(line):
            used = f"{found[1]} registers, {found[2] or 0} bytes shared"
            lines.append(f"  sm_{architecture} {name}: {used}")
    if CPP / "cuda/tensor_core.h" in included(source) and sass and not _TENSOR_CORE.search(sass):
        wrong.append(f"{source.name}, sm_{architecture}: no tensor-core instruction")
    return lines, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--nvcc", default=shutil.which("nvcc"))
    parser.add_argument("--architectures", nargs="+", default=["80", "90"])
    arguments = parser.parse_args()
    if arguments.nvcc is None:
        print("check_cuda: no nvcc on the PATH; nothing was checked")
        return
    wrong = []
    tasks = list(itertools.product(sorted(CPP.glob("cuda/*.cu")), arguments.architectures))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = [pool.submit(check, arguments.nvcc, *task, Path(folder)) for task in tasks]
        for done in checks:
            lines, found = done.result()
            print("\n".join(lines), flush=True)
            wrong += found
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
