"""What the tests of processes have their workers do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Dict, Tuple

from hybrid.errors import DataError


def square(value: int) -> int:
    return value * value


def fail(value: int) -> int:
    raise DataError("bad", utterance=str(value))


def environment(_: int) -> Tuple[int, Dict[str, str], int]:
    import torch

    return os.getpid(), {key: os.environ.get(key, "") for key in ("OMP_NUM_THREADS",)}, torch.get_num_threads()


def number(_: int) -> Tuple[int, int]:
    """The process, and its number among the workers."""
    from hybrid.parallel import worker_number

    time.sleep(0.1)
    return os.getpid(), worker_number()


def end(_: int) -> None:
    """As the kernel ends a process where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def write_for_long(folder: str) -> None:
    """Touches a file again and again, as a worker does that goes on after its run was killed."""
    (Path(folder) / f"worker-{os.getpid()}").write_text("")
    for number in range(600):
        (Path(folder) / "beat").write_text(str(number))
        time.sleep(0.05)
