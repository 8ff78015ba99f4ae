from __future__ import annotations

from typing import Tuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.train.arc_groups import part
from hybrid.train.forward_backward import SharedGraph
from hybrid.train.fsa import Fsa
from hybrid.train.graph_batch import GraphBatch

PDFS = 5
FULL = settings(max_examples=25, deadline=None)


def entered_apart(seed: int, groups: int, variants: int) -> Fsa:
    """Groups of states that differ in their loops alone, as a denominator's: a state of each is led to by any other
    state, itself too, with the group's weight."""
    rng = np.random.default_rng(seed)
    states = groups * variants
    onward = np.log(rng.dirichlet(np.ones(groups), groups))  # [from group, to group]
    variant = rng.integers(variants, size=(groups, groups))  # which of a group's states another leads to
    arcs = []
    for state in range(states):
        group = state // variants
        arcs.append((state, state, int(rng.integers(PDFS)), np.log(0.9)))
        for to in range(groups):
            arcs.append((state, to * variants + int(variant[group, to]), to % PDFS, onward[group, to] - 2.3))
    src, dst, pdf, logw = (np.array(column) for column in zip(*arcs, strict=True))
    start, final = np.log(rng.dirichlet(np.ones(states))), np.log(rng.random(states))
    return Fsa(src.astype(np.int32), dst.astype(np.int32), pdf.astype(np.int32), logw, start, final)


def slots_of(fsa: Fsa) -> Tuple[np.ndarray, int]:
    keys, slot = np.unique(fsa.dst * PDFS + fsa.pdf, return_inverse=True)
    return slot.reshape(-1), len(keys)


@FULL
@given(st.integers(0, 10**6), st.integers(3, 8), st.integers(1, 4))
def test_the_product_is_the_matrix_of_all_arcs(seed: int, groups: int, variants: int) -> None:
    fsa = entered_apart(seed, groups, variants)
    slot, slots = slots_of(fsa)
    weight = np.exp(fsa.logw)
    written_out = np.zeros((slots, fsa.num_states))
    np.add.at(written_out, (slot, fsa.src), weight)
    arcs, gather = part(slot, fsa.src, fsa.dst, weight, written_out.shape)
    product = arcs if gather is None else arcs @ gather
    np.testing.assert_allclose(product.toarray(), written_out, rtol=1e-12)


def test_states_that_differ_in_their_loops_alone_share_their_arcs() -> None:
    fsa = entered_apart(0, 12, 4)
    slot, slots = slots_of(fsa)
    arcs, gather = part(slot, fsa.src, fsa.dst, np.exp(fsa.logw), (slots, fsa.num_states))
    assert arcs.shape == (slots, 12 + 48) and gather.shape == (12 + 48, 48)
    assert arcs.nnz <= 12 * 12 + 48 < len(fsa.src) / 3


def test_where_nothing_is_shared_nothing_is_parted() -> None:
    fsa = entered_apart(0, 20, 1)
    slot, slots = slots_of(fsa)
    assert part(slot, fsa.src, fsa.dst, np.exp(fsa.logw), (slots, fsa.num_states))[1] is None
    none = np.zeros(0, np.int64)
    arcs, gather = part(none, none, none, np.zeros(0), (0, 2))
    assert arcs.shape == (0, 2) and gather is None


@pytest.mark.parametrize("leaky", [0.0, 0.02])
@pytest.mark.parametrize("seed", range(3))
def test_forward_backward_is_that_of_all_arcs(seed: int, leaky: float) -> None:
    fsa = entered_apart(seed, 12, 4)
    leak = np.full(fsa.num_states, -np.log(fsa.num_states))
    shared = SharedGraph(fsa, PDFS, leaky=leaky, leak_to=leak)
    assert shared._tensors(torch.device("cpu"), torch.float64).gather is not None
    exact = GraphBatch([fsa] * 3, PDFS, leak=np.log(leaky) + leak if leaky else None)
    x = torch.randn(3, 9, PDFS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3
    lengths = torch.tensor([9, 4, 7])
    for found, wanted in zip(shared.forward_backward(x, lengths), exact.forward_backward(x, lengths), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-9)
    assert shared.retried == 0
