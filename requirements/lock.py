"""Makes the lock files from the .in files: `make lock` (with `UPGRADE=1`, taking the newest versions).

Versions that a lock already names are kept where they still fit, so that adding one requirement changes one line.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

HERE = Path(__file__).resolve().parent

# PyPI's wheels of k2 are all tagged as if they fitted any Python 3, and an installer takes any of those that a lock
# names: so ours names only the wheel of Python 3.11, k2-1.23.4-py3.11-none-any.whl.
K2_311 = "sha256:5b5f709b12b9cd092b583984d0b7d940c9f898101259c998d68d1f4adefa48d4"

# torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl of torch's own CPU builds, which PyPI does not hold.
TORCH_CPU = "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"

# Needed by PyPI's CUDA build of torch only.
CUDA = re.compile(r"(nvidia|cuda)-|torch$")

HEADERS = {
    "k2": """\
The k2 stack: Python 3.11, torch 1.13.1, k2 1.23.4. Made by `make lock` from k2.in; install it with
    uv pip install --require-hashes -r requirements/k2.lock
Of k2 it names the wheel of Python 3.11 alone: PyPI's wheels of k2 are all tagged as if they fitted any Python 3,
and without a hash an installer takes the wrong one. pip up to 26.0 installs this file too; pip 26.3 refuses the
name of k2's wheel.
""",
    "bootstrap": """\
The installer of k2.lock. Made by `make lock` from bootstrap.in.
""",
    "modern": """\
The modern stack for Python 3.11: no k2, and torch 2.13.0 in one of two builds, modern-cpu.lock or modern-cuda.lock.
Made by `make lock` from modern.in; `make setup STACK=modern` installs it, which comes to
    pip install --no-deps --require-hashes -r requirements/modern.lock -r requirements/modern-cuda.lock
""",
    "modern-cpu": """\
torch's CPU build for Linux on x86_64, which PyPI does not hold: it is found where pip is told to look for it too
(find-links, or an extra index such as torch's own). Made by `make lock`.
Why: PyPI has torch for x86_64 only as a CUDA build, which cannot be imported without 18 packages of CUDA
libraries. Measured on 2 cores, the whole environment: 60 s and 1.2 GB with this file, 80 s and 4.9 GB with
modern-cuda.lock. Triton (0.7 GB, in which the tests of the GPU engine run) has come to this build since.
Without a GPU `make setup STACK=modern` tries this file and falls back on that.
It is a file of its own because pip prefers a build whose hash the index tells, whatever its version: beside the
hashes of PyPI's builds this one would never be taken.
""",
    "modern-cuda": """\
PyPI's build of torch 2.13.0 and the CUDA libraries without which it cannot be imported. Made by `make lock`.
""",
}


def main() -> None:
    upgrade = ["--upgrade"] if "--upgrade" in sys.argv[1:] else []
    for name in ("bootstrap", "k2", "modern"):
        blocks = compiled(name, upgrade)
        if name == "k2":
            blocks["k2"] = only(blocks["k2"], K2_311)
        if name == "modern":
            cuda = {key: block for key, block in blocks.items() if CUDA.match(key)}
            write("modern-cuda", cuda)
            write("modern-cpu", {"torch": cpu_build(cuda["torch"])})
            blocks = {key: block for key, block in blocks.items() if key not in cuda}
        write(name, blocks)


def compiled(name: str, options: List[str]) -> Dict[str, List[str]]:
    """The lines of each package, by its name, as uv resolves them for Python 3.11."""
    command = ["uv", "pip", "compile", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--no-emit-index-url", *options]
    output = HERE / f"{name}.lock"
    old = "".join((HERE / f"{part}.lock").read_text() for part in (name, f"{name}-cuda") if exists(part))
    output.write_text(old)
    subprocess.run([*command, f"{name}.in", "-o", output.name, "--quiet"], cwd=HERE, check=True)
    blocks: Dict[str, List[str]] = {}
    block: List[str] = []
    for line in output.read_text().splitlines():
        if re.match(r"[a-zA-Z0-9]", line):
            block = blocks.setdefault(line.split("==")[0].split("[")[0], [])
        if not line.startswith("#"):
            block.append(line)
    return blocks


def exists(name: str) -> bool:
    return (HERE / f"{name}.lock").exists()


def only(block: List[str], digest: str) -> List[str]:
    if not any(digest in line for line in block):
        sys.exit(f"lock.py: {block[0]} no longer has the hash {digest}: put that of the new wheel for Python 3.11")
    return [block[0], f"    --hash={digest}"]


def cpu_build(block: List[str]) -> List[str]:
    version = block[0].split()[0]
    if version != "torch==2.13.0":
        sys.exit(f"lock.py: TORCH_CPU is the hash of torch 2.13.0, but modern.in asks for {version}: put the new one")
    return [f"{version}+cpu \\", f"    --hash={TORCH_CPU}"]


def write(name: str, blocks: Dict[str, List[str]]) -> None:
    header = "".join(f"# {line}\n" for line in HEADERS[name].splitlines())
    text = header + "".join("\n".join(lines) + "\n" for _, lines in sorted(blocks.items()))
    (HERE / f"{name}.lock").write_text(text)


if __name__ == "__main__":
    main()
