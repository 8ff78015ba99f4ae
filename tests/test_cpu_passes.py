"""The compiled passes of a CPU against those by torch's operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lfmmi_tools import random_fsa

from hybrid.train import forward_backward
from hybrid.train.cpu_passes import CompiledFrames
from hybrid.train.forward_backward import SharedGraph
from hybrid.train.frame_passes import LongestFirst, TorchFrames, both_passes

PDFS = 6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([0.0, 0.05]), st.integers(1, 12), st.booleans())
def test_compiled_passes_are_those_of_torch(
    seed: int, states: int, leaky: float, segment: int, single: bool
) -> None:
    rng = np.random.default_rng(seed)
    fsa = random_fsa(rng, states, int(rng.integers(1, 5 * states)), PDFS)
    graph = SharedGraph(fsa, PDFS, leaky=leaky, leak_to=np.full(states, -np.log(states)))
    dtype = torch.float32 if single else torch.float64
    frames = rng.integers(1, 12, int(rng.integers(1, 5))).tolist()
    x = torch.as_tensor(rng.normal(size=(len(frames), max(frames) + 1, PDFS)) * 3, dtype=dtype)
    segment = min(segment, max(frames))
    tensors = graph._tensors(x.device, dtype)
    memory = torch.empty((segment + 1) * len(graph._slot_pdf) * len(frames), dtype=dtype)
    by_length = LongestFirst(frames, x.device)
    found, wanted = (
        both_passes(
            tensors, kind(tensors, graph._layers, by_length, x, dtype), by_length, x, dtype, segment, memory
        )
        for kind in (CompiledFrames, TorchFrames)
    )  # fmt: skip
    error = 1e-5 if single else 1e-12
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=error, atol=error)


@pytest.mark.parametrize("layout", ["transposed", "strided", "padded"])
def test_other_layouts_of_the_outputs_are_the_same(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = SharedGraph(random_fsa(np.random.default_rng(2), 5, 12, PDFS), PDFS)
    monkeypatch.setattr(forward_backward, "KEPT_BYTES", 1)
    x, lengths = torch.randn(3, 8, PDFS, generator=torch.Generator().manual_seed(1)), torch.tensor([8, 3, 6])
    wanted = graph.forward_backward(x, lengths)
    other = x
    if layout == "transposed":
        other = x.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "strided":
        other = torch.cat([x, x], 2)[:, :, :PDFS]
    else:  # what stands behind the end of a sequence counts for nothing
        other = x.clone()
        for b, frames in enumerate(lengths.tolist()):
            other[b, frames:] = float("nan")
    for found, one in zip(graph.forward_backward(other, lengths), wanted, strict=True):
        assert torch.equal(found, one)
