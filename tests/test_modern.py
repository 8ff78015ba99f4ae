"""What must hold without k2, on either stack."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

IMPORT_ALL = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("k2", "_k2", "kaldifeat", "espeakng_loader"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for name in sys.argv[1:]:
    importlib.import_module(name)
print("all", len(sys.argv) - 1)
"""


def test_every_module_is_imported_without_the_optional_libraries() -> None:
    names = []
    for package in ("hybrid", "lexicon", "lm", "recipes"):
        walk = pkgutil.walk_packages([str(PROJECT / package)], f"{package}.", onerror=None)
        names += [package, *(module.name for module in walk)]
    names = [name for name in names if not name.endswith("__main__")]
    assert "hybrid.stages" in names and "recipes.an4" in names
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"all {len(names)}"
