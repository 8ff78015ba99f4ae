from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lfmmi_tools import random_fsa

from hybrid.train.fsa import Fsa
from hybrid.train.graph_batch import GraphBatch

PDFS = 4


def windowed(fsa: Fsa, rng: np.random.Generator, frames: int) -> Fsa:
    first = rng.integers(0, frames + 1, fsa.num_states)
    last = np.minimum(first + rng.integers(0, frames + 1, fsa.num_states), frames)
    first[0], last[0] = 0, frames  # where every length is accepted
    return replace(fsa, first=first.astype(np.int32), last=last.astype(np.int32))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([1.0, 30.0]), st.booleans())
def test_one_graph_after_the_other_is_all_at_once(seed: int, windows: bool, scale: float, single: bool) -> None:
    dtype = torch.float32 if single else torch.float64
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, 3)
    graphs = [random_fsa(rng, int(rng.integers(1, 6)), int(rng.integers(1, 14)), PDFS) for _ in lengths]
    if windows:
        graphs = [windowed(graph, rng, int(frames)) for graph, frames in zip(graphs, lengths, strict=True)]
    if seed % 3 == 0:  # one that accepts nothing
        graphs[1] = replace(graphs[1], final=np.full(graphs[1].num_states, -np.inf))
    x = torch.as_tensor(rng.normal(size=(3, 8, PDFS)) * scale, dtype=dtype)
    batch = GraphBatch(graphs, PDFS)
    scores, posteriors = batch.forward_backward(x, torch.as_tensor(lengths))
    wanted, shares = batch.together(x, lengths.tolist())
    assert scores.dtype == wanted.dtype and posteriors.dtype == shares.dtype and posteriors.shape == shares.shape
    assert bool(torch.isinf(scores[1])) or seed % 3
    np.testing.assert_allclose(scores.numpy(), wanted.numpy(), rtol=1e-6 if single else 1e-12)
    np.testing.assert_allclose(posteriors.numpy(), shares.numpy(), atol=1e-5 if single else 1e-10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_not_taken_for_impossible(bad: float) -> None:
    fsa = random_fsa(np.random.default_rng(0), 3, 6, PDFS)
    x = torch.zeros(1, 4, PDFS)
    x[0, 2] = bad
    assert not torch.isfinite(GraphBatch([fsa], PDFS).forward_backward(x, torch.tensor([4]))[0]).any()


def test_other_layouts_and_types_are_the_same() -> None:
    fsa = random_fsa(np.random.default_rng(1), 4, 9, PDFS)
    batch, lengths = GraphBatch([fsa, fsa], PDFS), torch.tensor([5, 3])
    x = torch.randn(5, 2, PDFS, generator=torch.Generator().manual_seed(0))
    scores, posteriors = batch.forward_backward(x.transpose(0, 1), lengths)
    again = batch.forward_backward(x.transpose(0, 1).contiguous(), lengths)
    assert torch.equal(scores, again[0]) and torch.equal(posteriors, again[1])
    coarse = batch.forward_backward(x.transpose(0, 1).to(torch.bfloat16), lengths)
    np.testing.assert_allclose(coarse[0].numpy(), scores.numpy(), atol=0.1)
