"""A GPU that is not there: tensors that are said to lie on it, and everything that a GPU refuses refused.

Numbers are computed on the CPU. An operation of tensors here and there at once, and `numpy()` of one that is there, are
errors, as they are of a real GPU; `counts` says how many operations were done there. Of sparse matrices, which take no
other class, it is not known where they are: they go with both.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterator, Sequence, Tuple

import pytest
import torch
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda:1")
_ACROSS = {"to", "cpu", "copy_"}


K2_STACK = ("sm_37", "sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86")  # of torch 1.13.1+cu117
TURING, ADA, HOPPER = (7, 5), (8, 9), (9, 0)


def pretend_gpus(
    monkeypatch: pytest.MonkeyPatch, *capabilities: Tuple[int, int], architectures: Sequence[str] = K2_STACK
) -> None:
    """Let torch say that it sees GPUs of these compute capabilities, and is built for `architectures`."""
    monkeypatch.setattr(torch, "__version__", "1.13.1+cu117")
    monkeypatch.setattr(torch.version, "cuda", "11.7")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(architectures))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number=0: capabilities[number])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number=0: f"GPU {number}")
    monkeypatch.setattr("hybrid.device._SAID", set())


class Moved(torch.Tensor):
    """One that lies on the GPU."""


class PretendedGpu(TorchFunctionMode):
    """Within it, `to("cuda:1")` moves there."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        tensors = list(_tensors([args, kwargs]))
        there = any(isinstance(one, Moved) for one in tensors)
        if func == torch.Tensor.device.__get__:
            return GPU if there else torch.device("cpu")
        if name == "_has_compatible_shallow_copy_type":  # else a module would keep its parameters, with other data
            return not there
        if there and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:1 device type tensor to numpy")
        if there and name not in _ACROSS:
            known = [one for one in tensors if not isinstance(one, Moved) and not _is_sparse(one)]
            here = [one.shape for one in known if torch.Tensor.dim(one)]
            if here:
                raise RuntimeError(f"{name}: tensors on cuda:1, and on the CPU {here}")
            self.counts[name] += 1
        place = kwargs.pop("device", None)
        if name in ("to", "cpu"):
            wanted = [one for one in (*args[1:], place, "cpu" if name == "cpu" else None) if _is_device(one)]
            there = torch.device(wanted[0]) == GPU if wanted else there
            dtypes = [one for one in (*args[1:], *kwargs.values()) if isinstance(one, torch.dtype)]
            func, args, kwargs = torch.Tensor.type, (args[0], dtypes[0] if dtypes else args[0].dtype), {}
        elif place is not None:
            there = torch.device(place) == GPU
        with torch._C.DisableTorchFunction():
            return _placed(func(*args, **kwargs), there)


def _is_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device))


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for one in values:
            yield from _tensors(one)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def _is_sparse(tensor: torch.Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        return tensor.layout is not torch.strided


def _placed(result: Any, there: bool) -> Any:
    if isinstance(result, torch.Tensor) and not _is_sparse(result):
        return result if isinstance(result, Moved) == there else result.as_subclass(Moved if there else torch.Tensor)
    if type(result) in (list, tuple):
        return type(result)([_placed(one, there) for one in result])
    return result
