"""Which device work is done on, and that all of it is done there."""

from __future__ import annotations

from typing import List

import pytest
import torch

from hybrid.device import choose
from hybrid.errors import ConfigError


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("wanted", "count", "processes", "chosen"),
    [
        ("auto", 0, [0, 1], ["cpu", "cpu"]), ("cpu", 2, [0, 1], ["cpu", "cpu"]),
        ("auto", 2, [4, 5, 6], ["cuda:0", "cuda:1", "cuda:0"]), ("cuda", 1, [0, 7], ["cuda:0", "cuda:0"]),
        ("cuda:1", 2, [0, 1], ["cuda:1", "cuda:1"]), ("cuda:0", 1, [3], ["cuda:0"]),
    ],
)  # fmt: skip
def test_processes_share_out_the_gpus_that_are_there(
    monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, processes: List[int], chosen: List[str]
) -> None:
    gpus(monkeypatch, count)
    assert [choose(wanted, process) for process in processes] == chosen


@pytest.mark.parametrize(
    ("wanted", "count", "said"),
    [
        ("cuda", 0, "device is cuda, but torch sees none. Remedy: use auto or cpu"),
        ("cuda:0", 0, "device is cuda:0, but torch sees none"),
        ("cuda:1", 1, "device is cuda:1, but torch sees cuda:0 alone"),
        ("cuda:7", 4, "device is cuda:7, but torch sees cuda:0 to cuda:3"),
        ("gpu", 1, "device is 'gpu'. Remedy: use auto, cpu, cuda"), ("cuda:", 1, "device is 'cuda:'"),
        ("cuda:-1", 2, "device is 'cuda:-1'"), ("cuda:x", 2, "device is 'cuda:x'"), ("", 1, "device is ''"),
        ("CPU", 1, "device is 'CPU'"), ("mps", 1, "device is 'mps'"), ("cuda:0\n", 1, "device is"),
    ],
)  # fmt: skip
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, said: str) -> None:
    gpus(monkeypatch, count)
    with pytest.raises(ConfigError, match=f"^{said}") as caught:
        choose(wanted)
    assert caught.value.remedy
