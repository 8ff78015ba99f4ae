"""The kernels through Triton's compiler and NVIDIA's assembler, for two GPUs of which none need be there."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from lfmmi_tools import random_fsa

from hybrid.errors import MissingDependency
from hybrid.train import triton_engine, triton_kernels

try:
    triton_engine.import_triton()
except MissingDependency as error:
    pytest.skip(error.what, allow_module_level=True)

pytestmark = pytest.mark.skipif(triton_engine.interpreted(), reason="the interpreter compiles nothing")


class Driver:
    """What the compiler asks the driver for, answered for a GPU that is not there."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 1000 + self.capability  # compiled kernels are kept by device: not among those of a real one

    def get_current_stream(self, device: int = 0) -> int:
        return 0


class Compiled:
    """Stands for a kernel: compiles it for the arguments of a call, and does not start it."""

    def __init__(self, kernel, found) -> None:
        self.kernel, self.found = kernel, found

    def __getitem__(self, grid):
        return lambda *args, **kwargs: self.found.append(self.kernel.warmup(*args, grid=grid, **kwargs).asm)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("shared, leaky", [(True, 0.0), (False, 1e-3)])
def test_both_passes_compile(capability, shared, leaky, monkeypatch, tmp_path):
    from triton.runtime import driver

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    found: list = []
    for name in ("forward", "backward"):
        monkeypatch.setattr(triton_kernels, name, Compiled(getattr(triton_kernels, name), found))
    rng = np.random.default_rng(0)
    fsa = random_fsa(rng, 300, 4000, 50)
    leak_to = np.log(rng.dirichlet(np.ones(300)))
    graph = triton_engine.TritonGraph(fsa, 50, leaky=leaky, leak_to=leak_to, shared=shared, tile=1024, warps=8)
    x = torch.zeros(2, 3, 50)
    monkeypatch.setattr(driver, "_active", Driver(capability))  # set_active could not be undone without a GPU
    graph._one_group(x, x.amax(2), [3, 2], [0, 1], torch.ones(2, 3), torch.ones(2), torch.zeros_like(x))
    assert len(found) == 2
    for asm in found:
        assert len(asm["cubin"]) > 0 and f"sm_{capability}" in asm["ptx"]
        # Two barriers a frame for what goes through global memory, and they are for all memory.
        assert asm["ttgir"].count("ttg.barrier all") == 2
        # A read that takes its value for constant could miss what another thread wrote in this kernel.
        assert not re.search(r"ld\.global\S*\.nc", asm["ptx"])
        # Tables of the graph are read 16 bytes at a time.
        assert "ld.global.v4.b32" in asm["ptx"]
