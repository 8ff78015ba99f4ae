"""What a stage costs, and what it ran on: time, memory, versions, commit."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import psutil

PACKAGES = (
    "hybrid-asr",
    "torch",
    "k2",
    "triton",
    "kaldi-hmm-gmm",
    "kaldifst",
    "kaldi-decoder",
    "numba",
    "numpy",
    "scipy",
    "lhotse",
    "kaldi-native-fbank",
    "kaldifeat",
    "pyroomacoustics",
    "espeakng-loader",
)


class Meter:
    """Wall and CPU seconds and peak memory of this process and all below it, while the block lasts.

    Memory is the largest sum of resident sets seen at samples 0.2 s apart; pages that processes share are counted in
    each, so that the sum is an upper bound. CPU time of a child that lived less than a sample may be missed.
    """

    def __init__(self, interval: float = 0.2) -> None:
        self.interval = interval
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self._process = psutil.Process()
        self._cpu: Dict[Tuple[int, float], Tuple[float, float]] = {}  # (pid, start) -> CPU seconds (first, last) seen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Meter:
        self._began = time.monotonic()
        for process in self._tree():
            spent = self._spent(process)
            if spent is not None:
                self._cpu[process.pid, process.create_time()] = (spent, spent)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()
        self.seconds = time.monotonic() - self._began
        self.cpu_seconds = sum(last - first for first, last in self._cpu.values())

    def summary(self) -> Dict[str, float]:
        """Returns {"seconds", "cpu_seconds", "peak_memory_mb"}; MB are 10^6 bytes."""
        return {
            "seconds": round(self.seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "peak_memory_mb": round(self.peak_bytes / 1e6, 1),
        }

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self._sample()

    def _sample(self) -> None:
        total = 0
        for process in self._tree():
            try:
                total += process.memory_info().rss
                key = process.pid, process.create_time()
                spent = self._spent(process)
            except psutil.Error:
                continue  # ended between the listing and the question
            if spent is not None:
                self._cpu[key] = (self._cpu.get(key, (0.0, 0.0))[0], spent)
        self.peak_bytes = max(self.peak_bytes, total)

    def _tree(self) -> list:
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.Error:
            return [self._process]

    @staticmethod
    def _spent(process: psutil.Process) -> Optional[float]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            return None
        return times.user + times.system


@functools.cache
def versions() -> Dict[str, str]:
    """Returns the versions of Python and of the packages that decide about numbers; what is not installed is left
    out."""
    packages = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return packages


@functools.cache
def commit() -> Optional[str]:
    """Returns the commit of the source that runs, with "+" where files were changed since; None where it is no git
    checkout."""
    root = Path(__file__).resolve().parent.parent
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None  # installed into an environment that lies inside somebody else's repository
    head = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if head is None else head + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> Optional[str]:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
