"""The device of torch that work is done on: what is asked for, and what is there."""

from __future__ import annotations

import re

from hybrid.errors import ConfigError


def choose(device: str, process: int = 0) -> str:
    """Return the device to use: "cpu", or "cuda:N".

    device: cpu; cuda:N; cuda, one of the GPUs that torch sees, which are dealt out by the number of the process; auto,
    cuda where torch sees a GPU and else the CPU.
    Raises ConfigError for a GPU that is not there, and for other words.
    """
    if device == "cpu":
        return device
    named = re.fullmatch(r"cuda:([0-9]{1,4})", device)
    if named is None and device not in ("auto", "cuda"):
        raise ConfigError(f"device is {device!r}", remedy="use auto, cpu, cuda, or cuda:0, cuda:1 ...")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if named is not None and int(named[1]) < count:
        return f"cuda:{int(named[1])}"
    if named is None and (count or device == "auto"):
        return f"cuda:{process % count}" if count else "cpu"
    seen = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0 alone" if count else "none"
    raise ConfigError(f"device is {device}, but torch sees {seen}", remedy="use auto or cpu, or look at nvidia-smi")
