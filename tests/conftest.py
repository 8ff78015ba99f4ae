"""What all tests share: the folder of real speech, and which tests the modern stack leaves out.

Marks: `k2` needs k2 (skipped, with the reason, where it cannot be imported); `slow` is left out by `make modern`.
"""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# Before torch and numpy are loaded: tests run side by side, and threads that fight over cores cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PROJECT = Path(__file__).resolve().parent.parent


@cache
def why_no_k2() -> str:
    """Empty where k2 can be imported, else the reason."""
    try:
        importlib.import_module("k2")
    except ImportError as error:
        return f"needs k2 ({error})"
    return ""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "k2: needs k2, which the modern stack lacks")
    config.addinivalue_line("markers", "slow: takes more than some seconds; left out by `make modern`")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("k2") and why_no_k2():
        pytest.skip(why_no_k2())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with AN4, noises and rooms: HYBRID_DATA, else ../shared/data beside the project."""
    path = Path(os.environ.get("HYBRID_DATA", PROJECT.parent / "shared" / "data"))
    if not (path / "an4").is_dir():
        pytest.skip(f"no speech at {path}: set HYBRID_DATA to the folder that holds an4/")
    return path


@pytest.fixture(scope="session")
def small_cuts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Noise as speech: 4 speakers, 2 utterances each (small_run.py)."""
    from small_run import make_cuts

    return make_cuts(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with untrained models (small_run.py); tests that change it take a copy."""
    from small_run import make_run

    return make_run(tmp_path_factory.mktemp("run") / "exp")


@pytest.fixture
def small_copy(small_run: Path, tmp_path: Path) -> Path:
    """A copy of small_run, elsewhere, which a test may change."""
    return Path(shutil.copytree(small_run, tmp_path / "moved"))


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demo of a minute, run once by the command for all of pytest's workers, to its end; tests leave
    it as it is."""
    if importlib.util.find_spec("espeakng_loader") is None:
        pytest.skip("the demo's speech needs espeakng-loader (pip install espeakng-loader)")
    from little_runs import demo, finish

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers
    exp, finished = root / "demo_run", root / "demo_run.finished"
    with open(root / "demo_run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            finish(demo(exp))
            finished.touch()
    return exp


@pytest.fixture(scope="session")
def recorded_demo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demo of a minute, run once in this process to its end, and what its stages read (recorded_runs.py); tests
    leave it as it is."""
    if importlib.util.find_spec("espeakng_loader") is None:
        pytest.skip("the demo's speech needs espeakng-loader (pip install espeakng-loader)")
    from recorded_runs import DEMO, record

    return record(tmp_path_factory.mktemp("recorded") / "exp", DEMO)
