"""Small runs of recipes by the command a user types, and what they left."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterable

from conftest import PROJECT
from mini_demo import SETTINGS

# Half of a short run's time is the compiling of imports where Python is told not to keep what it has compiled.
CACHE = tempfile.TemporaryDirectory(prefix="hybrid-compiled-")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONPYCACHEPREFIX": CACHE.name}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)


def command(program: Iterable[str], exp: Path, *arguments: str) -> subprocess.Popen:
    """A run in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments, "--exp", str(exp)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
        env=ENVIRONMENT,
        start_new_session=True,
    )


def demo(exp: Path, *more: str, stop: str = "report") -> subprocess.Popen:
    program = [str(PROJECT / "tests" / "mini_demo.py"), "run", "demo", "--stop-stage", stop]
    return command(program, exp, "--set", *SETTINGS, *more)


def finish(process: subprocess.Popen) -> str:
    printed, _ = process.communicate(timeout=500)
    assert process.returncode == 0, printed
    assert "Traceback" not in printed
    return printed


def done(printed: str) -> Dict[str, bool]:
    """stage -> whether it was run (and not up to date)."""
    found = re.findall(r"^stage \d+ (\w+): (.*)$", printed, re.MULTILINE)
    return {name: why != "up to date" for name, why in found}


def contents(exp: Path) -> Dict[str, str]:
    """Every file of a run by its hash; the lock, which holds the last process, is left out."""
    return {
        str(path.relative_to(exp)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(exp.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".workers")
    }


def error_rates(exp: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(exp)): path.read_bytes() for path in sorted(exp.glob("decode/*/*/*/wer.json"))}
