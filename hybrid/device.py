"""The device of torch that work is done on: one rule for features, Gaussians, networks, labels and recognisers.

    cpu       the CPU
    cuda:1    that GPU
    cuda      a GPU; processes that share the work share out the GPUs, by their numbers
    auto      cuda where torch has a GPU that it can use, else the CPU

A build of torch holds machine code for some GPUs (sm_80) and of some also PTX, which the driver compiles for newer ones
(compute_80). A GPU that it has neither for is seen by torch, and the first product on it fails: torch 1.13.1, that of
the k2 stack, ends at sm_86 and has nothing for Hopper (9.0) or Blackwell. "auto" leaves such a GPU alone, with one
warning; who names it gets an error. Both say the way out.
"""

from __future__ import annotations

import re
import warnings
from typing import List, NamedTuple, Optional, Sequence, Set, Tuple

from hybrid.errors import ConfigError

MODERN = "make setup STACK=modern"
Capability = Tuple[int, int]
K2_STACK: Tuple[Capability, Capability] = ((3, 7), (8, 9))  # the oldest and the newest that torch 1.13.1 runs on

_ARCHITECTURE = re.compile(r"(sm|compute)_([0-9]+)([0-9])([af]?)")
_CPU = "set device to cpu"
_SAID: Set[str] = set()


class Fault(NamedTuple):
    """Why torch cannot use a GPU that is there, and the way out ("": none)."""

    what: str
    remedy: str


def check_name(device: str, name: str = "device") -> None:
    """Raise ConfigError where `device` is none of cpu, cuda, cuda:N, auto. name: of the setting."""
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", device):
        raise ConfigError(f"{name} is {device!r}", remedy="use auto, cpu, cuda, or cuda:0, cuda:1 ...")


def choose(device: str, process: int = 0) -> str:
    """Return the device to use: "cpu", or "cuda:N".

    process: the number of this one among those that share the work on this machine; the first says what is left unused.
    Raises ConfigError for a GPU that is not there or that torch has no kernels for, and for other words.
    """
    check_name(device)
    if device == "cpu":
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [int(device[5:])] if device.startswith("cuda:") else []
    if max(named, default=0) < count:
        faults = {number: find_fault(number) for number in named or range(count)}
        usable = [number for number, fault in faults.items() if fault is None]
        if usable:
            return f"cuda:{usable[process % len(usable)]}"
        fault = next(fault for fault in faults.values() if fault is not None)
        if device != "auto":
            raise ConfigError(
                f"device is {device}, but {fault.what}", remedy="; or ".join([*filter(None, [fault.remedy]), _CPU])
            )
        if process == 0 and fault.what not in _SAID:
            _SAID.add(fault.what)
            way_out = f". Way out: {fault.remedy}" if fault.remedy else ""
            warnings.warn(f"{fault.what}: the CPU is used{way_out}", stacklevel=2)
    if device == "auto":
        return "cpu"
    seen = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0 alone" if count else "none"
    raise ConfigError(
        f"device is {device}, but torch sees {seen}", remedy="use auto or cpu, or look at nvidia-smi and hybrid doctor"
    )


def for_workers(device: str) -> str:
    """Return what the worker processes of this one are to be told: "cpu" where `choose` ends there, else `device`, of
    which each takes its own GPU by choose(device, worker_number()). Raises as `choose`, before any worker does."""
    return "cpu" if choose(device) == "cpu" else device


def usable_gpus() -> List[int]:
    """Return the numbers of the GPUs that torch sees and has kernels for."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [number for number in range(count) if find_fault(number) is None]


def find_fault(number: int) -> Optional[Fault]:
    """Return why torch cannot use the GPU of this number, which it sees; None where it can."""
    import torch

    if torch.version.cuda is None:
        return None  # ROCm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says the same, with another way out
        try:
            capability = torch.cuda.get_device_capability(number)
            name = torch.cuda.get_device_name(number)
        except RuntimeError as error:
            return Fault(f"torch cannot use cuda:{number}: {str(error).splitlines()[0]}", "look at nvidia-smi")
    return judge_gpu(name, capability, torch.__version__, torch.cuda.get_arch_list())


def judge_gpu(name: str, capability: Capability, version: str, architectures: Sequence[str]) -> Optional[Fault]:
    """Return why torch of this version, for torch.cuda.get_arch_list(), cannot use a GPU of this name; None: it can."""
    if has_kernels(capability, architectures):
        return None
    what = (
        f"torch {version} has no kernels for {name} (compute capability {_words(capability)}; it has those for "
        f"{' '.join(architectures)})"
    )
    if capability < min(_codes(architectures)):
        first, last = K2_STACK
        old = f"make setup STACK=k2  (torch 1.13.1, for {_words(first)} to {_words(last)})"
        return Fault(what, old if first <= capability <= last and not version.startswith("1.") else "")
    return Fault(what, MODERN if version.startswith("1.") else "pip install --upgrade torch")


def has_kernels(capability: Capability, architectures: Sequence[str]) -> bool:
    """Return whether a build of torch for `architectures` (torch.cuda.get_arch_list()) runs on GPUs of a capability.

    sm_86 runs on 8.6 and what is newer of 8; sm_100f likewise; compute_80 is compiled for 8.0 and all that is newer;
    sm_90a and compute_90a are for 9.0 alone. Of a list that names none of these nothing is known: True.
    Source: CUDA C++ Programming Guide, binary and PTX compatibility.
    """
    known = False
    for entry in architectures:
        match = _ARCHITECTURE.fullmatch(entry)
        if match is None:
            continue
        known, code, suffix = True, (int(match[2]), int(match[3])), match[4]
        if suffix == "a":
            fits = capability == code
        elif match[1] == "compute" and not suffix:
            fits = capability >= code
        else:
            fits = capability[0] == code[0] and capability[1] >= code[1]
        if fits:
            return True
    return not known


def _codes(architectures: Sequence[str]) -> List[Capability]:
    matches = [_ARCHITECTURE.fullmatch(entry) for entry in architectures]
    return [(int(match[2]), int(match[3])) for match in matches if match is not None]


def _words(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"
