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

# Needed by PyPI's CUDA build of torch only (4.6 GB unpacked, against 0.8 GB of the CPU build).
CUDA = re.compile(r"(nvidia|cuda)-|triton$")

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
The modern stack for Python 3.11: torch 2.13.0, no k2. Made by `make lock` from modern.in; install it with
    pip install --no-deps --require-hashes -r requirements/modern.lock
and, if `import torch` then misses CUDA's libraries, modern-cuda.lock in the same way.
Why two files: PyPI has torch for x86 Linux only as a CUDA build, which cannot be imported without 20 packages of
CUDA libraries. torch's CPU build is a quarter of the size and needs none of them, but comes from torch's own
index. This file names both builds of torch 2.13.0, and pip prefers the CPU build where the user's settings
(find-links, extra-index-url) show it one. Measured on 2 cores: with the CPU build installed in 25 s and 1.6 GB,
with PyPI's CUDA build and modern-cuda.lock in 90 s and 5.4 GB.
""",
    "modern-cuda": """\
CUDA's libraries for PyPI's build of torch 2.13.0: see the header of modern.lock. Made by `make lock`.
""",
}


def main() -> None:
    upgrade = ["--upgrade"] if "--upgrade" in sys.argv[1:] else []
    for name in ("bootstrap", "k2", "modern"):
        blocks = compiled(name, upgrade)
        if name == "k2":
            blocks["k2"] = only(blocks["k2"], K2_311)
        if name == "modern":
            blocks["torch"] = with_hash(blocks["torch"], TORCH_CPU)
            write("modern-cuda", {key: block for key, block in blocks.items() if CUDA.match(key)})
            blocks = {key: block for key, block in blocks.items() if not CUDA.match(key)}
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


def with_hash(block: List[str], digest: str) -> List[str]:
    if not block[0].startswith("torch==2.13.0 "):
        sys.exit(f"lock.py: the hash of torch's CPU build is that of 2.13.0, but {block[0]}")
    rest = [line for line in block[1:] if digest not in line]
    return [block[0], f"    --hash={digest} \\", *rest]


def write(name: str, blocks: Dict[str, List[str]]) -> None:
    header = "".join(f"# {line}\n" for line in HEADERS[name].splitlines())
    text = header + "".join("\n".join(lines) + "\n" for _, lines in sorted(blocks.items()))
    (HERE / f"{name}.lock").write_text(text)


if __name__ == "__main__":
    main()
