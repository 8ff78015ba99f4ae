"""What is compiled at the first use on a machine: said once, kept where it can be, and no error where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, Tuple

import pytest
from conftest import PROJECT

_TOY = """
from hybrid.compiled import compiled

@compiled
def twice(x):
    return 2 * x

@compiled
def thrice(x):
    return 3 * x
"""
_USE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("hybrid.toy", sys.argv[1])
toy = sys.modules["hybrid.toy"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)
print(toy.twice(4), toy.thrice(5), toy.twice(2.5))
"""
_LIBRARY = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')\n" + _USE
_COMMAND = (
    "import sys\nfrom hybrid.subcommand import exit_code\ndef call():\n"
    + "\n".join("    " + line for line in _USE.strip().splitlines())
    + "\nsys.exit(exit_code('hybrid', call))\n"
)


def toy(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.py").write_text(_TOY)
    return folder / "toy.py"


def use(module: Path, script: str, **environment: str) -> Tuple[str, str]:
    """What it prints, and on stderr; NUMBA_CACHE_DIR is unset."""
    variables: Dict[str, str] = {**os.environ, "PYTHONPATH": str(PROJECT)}
    variables.pop("NUMBA_CACHE_DIR", None)
    variables.update(environment)
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, str(module)], env=variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("script, prefix", [(_LIBRARY, "INFO "), (_COMMAND, "hybrid: ")])
def test_it_is_said_once_and_kept(tmp_path: Path, script: str, prefix: str) -> None:
    cache = tmp_path / "cache"
    module = toy(tmp_path / "package")
    said, errors = use(module, script, NUMBA_CACHE_DIR=str(cache))
    assert said == "8 15 5.0"
    (line,) = errors.strip().splitlines()
    assert line.startswith(f"{prefix}compiling for this machine, once") and str(cache) in line
    assert list(cache.rglob("*.nbi"))
    assert use(module, script, NUMBA_CACHE_DIR=str(cache)) == ("8 15 5.0", "")


def test_a_library_alone_is_quiet(tmp_path: Path) -> None:
    """INFO is for who asks for it."""
    assert use(toy(tmp_path), _USE, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == ("8 15 5.0", "")


def blocked(tmp_path: Path) -> Tuple[Path, Dict[str, str]]:
    """A module whose folder takes no __pycache__, and environment variables that leave no other folder: files stand in
    the places of folders, which keeps root out, too."""
    module = toy(tmp_path / "package")
    (module.parent / "__pycache__").write_text("no folder")
    (tmp_path / "file").write_text("no folder")
    home = str(tmp_path / "file")
    return module, {"HOME": home, "XDG_CACHE_HOME": home}


def test_a_package_that_cannot_be_written_is_kept_elsewhere(tmp_path: Path) -> None:
    module, environment = blocked(tmp_path)
    environment["XDG_CACHE_HOME"] = str(tmp_path / "mine")
    said, errors = use(module, _COMMAND, **environment)
    assert said == "8 15 5.0" and str(tmp_path / "mine") in errors
    assert use(module, _COMMAND, **environment) == ("8 15 5.0", "")


@pytest.mark.parametrize("named", [False, True])
def test_nowhere_to_keep_it_is_a_warning(tmp_path: Path, named: bool) -> None:
    module, environment = blocked(tmp_path)
    if named:
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / "file" / "cache")
    said, errors = use(module, _COMMAND, **environment)
    first, second = errors.strip().splitlines()
    assert said == "8 15 5.0" and "are not kept" in first and "NUMBA_CACHE_DIR" in first
    assert second == "hybrid: compiling for this machine, some 10 to 60 s"


def test_a_full_disk_costs_time_and_no_answer(tmp_path: Path) -> None:
    """Numba writes its files when it has compiled, long after it has tried the folder."""
    script = _COMMAND.replace(
        "def call():\n",
        "import numba.core.caching as caching\ndef full(*_):\n    raise OSError(28, 'No space left on device')\n"
        "caching.IndexDataCacheFile.save = full\ndef call():\n",
    )
    said, errors = use(toy(tmp_path), script, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert said == "8 15 5.0" and errors.count("No space left on device") == 1 and errors.count("\n") == 2


def test_damaged_files_are_made_again(tmp_path: Path) -> None:
    module, cache = toy(tmp_path), tmp_path / "cache"
    use(module, _COMMAND, NUMBA_CACHE_DIR=str(cache))
    for path in [*cache.rglob("*.nbi"), *cache.rglob("*.nbc")]:
        path.write_bytes(path.read_bytes()[:-40])
    said, errors = use(module, _COMMAND, NUMBA_CACHE_DIR=str(cache))
    assert said == "8 15 5.0" and "a damaged file, compiled again" in errors
    assert use(module, _COMMAND, NUMBA_CACHE_DIR=str(cache)) == ("8 15 5.0", "")


def test_what_comes_from_other_files_counts(tmp_path: Path) -> None:
    """A number or a function of another file has changed: code that has it inside is not taken from the cache."""
    outer = (
        "from hybrid.compiled import compiled\nfrom inner import NUMBER, plus\n\n"
        "@compiled\ndef middle(x):\n    return plus(x)\n\n@compiled\ndef outer(x):\n    return NUMBER * middle(x)\n"
    )
    (tmp_path / "outer.py").write_text(outer)
    cache = tmp_path / "cache"
    inner = "from hybrid.compiled import {kind}\nNUMBER = {number}\n\n@{kind}\ndef plus(x):\n    return x + {term}\n"
    script = "import sys\nsys.path.insert(0, sys.argv[1])\nimport outer\nprint(outer.outer(1))\n"
    for kind in ("compiled", "inlined"):
        for number, term, right in ((2, 10, 22), (3, 10, 33), (3, 20, 63)):
            (tmp_path / "inner.py").write_text(inner.format(kind=kind, number=number, term=term))
            for _ in range(2):
                assert use(tmp_path, script, NUMBA_CACHE_DIR=str(cache))[0] == str(right), (kind, number, term)
