"""Products and LSTMs whose rows have the same bits in any company."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybrid.nnet.row_lstm import RowLstm
from hybrid.nnet.row_product import RowProduct


def written_out(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The sums in their order, each term added in one rounding: float64 holds the product of two float32 exactly, and
    the numbers of the test are such that it holds the sum, too."""
    y = np.repeat(bias[None], len(x), 0)
    for d in range(x.shape[1]):
        exact = y.astype(np.float64) + x[:, d, None].astype(np.float64) * weight[None, :, d].astype(np.float64)
        y = exact.astype(np.float32)
    return y


def twelve_bits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers below 1 with 12 bits: products have 24, and sums of 200 of them more than a float32 has."""
    return (rng.integers(-(2**12), 2**12, shape) / 2.0**12).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 200), st.integers(1, 150), st.booleans(), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_a_row_is_the_sum_in_its_order_in_any_company(
    rows: int, dim: int, outputs: int, offset: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, weight = twelve_bits(rng, rows, dim), twelve_bits(rng, outputs, dim)
    bias = twelve_bits(rng, outputs) if offset else np.zeros(outputs, np.float32)
    product = RowProduct(torch.from_numpy(weight), torch.from_numpy(bias) if offset else None)
    y = product(torch.from_numpy(x)).numpy()
    assert np.array_equal(y, written_out(x, weight, bias))
    begin = int(rng.integers(rows))
    end = int(rng.integers(begin, rows)) + 1
    assert np.array_equal(product(torch.from_numpy(x[begin:end])).numpy(), y[begin:end])
    order = rng.permutation(rows)
    assert np.array_equal(product(torch.from_numpy(x[order])).numpy(), y[order])


def test_rounding_happens_at_all() -> None:
    """Else the test above would pass whatever the order."""
    rng = np.random.default_rng(0)
    x, weight = twelve_bits(rng, 4, 200), twelve_bits(rng, 70, 200)
    forth = written_out(x, weight, np.zeros(70, np.float32))
    back = written_out(x[:, ::-1], weight[:, ::-1], np.zeros(70, np.float32))
    assert not np.array_equal(forth, back)


def test_shapes_of_a_product() -> None:
    layer = nn.Linear(7, 5)
    product = RowProduct.of(layer)
    x = torch.randn(6, 4, 7)
    torch.testing.assert_close(product(x), layer(x).detach())
    for turned in (x.transpose(0, 1), x[:, 1:3], x[:, :, :].flip(0), x[:0]):
        assert product(turned).shape == (*turned.shape[:-1], 5)
        torch.testing.assert_close(product(turned), layer(turned).detach())
    double = nn.Linear(7, 5).double()
    torch.testing.assert_close(RowProduct.of(double)(x.double()), double(x.double()).detach())


SIZES = [(9, 16, 0), (9, 7, 0), (20, 33, 0), (9, 16, 8), (5, 21, 17)]


@pytest.mark.parametrize("dim, hidden, proj", SIZES)
@pytest.mark.parametrize("carried", [False, True])
def test_an_lstm_is_torchs(dim: int, hidden: int, proj: int, carried: bool) -> None:
    torch.manual_seed(hidden + proj)
    layer = nn.LSTM(dim, hidden, proj_size=proj)
    for scale in (1.0, 30.0):  # the second saturates the gates
        x = scale * torch.randn(11, 5, dim)
        state: Optional[Tuple[torch.Tensor, torch.Tensor]] = None
        if carried:
            state = torch.randn(5, proj or hidden), torch.randn(5, hidden)
        pair = None if state is None else (state[0][None], state[1][None])
        ours = RowLstm(layer)
        with torch.no_grad():
            for keep in (0, 1, 6, 11):
                y, (h, c) = ours(x, state, keep)
                torch.testing.assert_close(y, layer(x, pair)[0], atol=2e-6, rtol=1e-5)
                if keep:
                    _, (wanted_h, wanted_c) = layer(x[:keep], pair)
                    torch.testing.assert_close(h, wanted_h[0], atol=2e-6, rtol=1e-5)
                    torch.testing.assert_close(c, wanted_c[0], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("dim, hidden, proj", SIZES)
def test_a_stream_of_an_lstm_has_the_same_bits_in_any_company(dim: int, hidden: int, proj: int) -> None:
    layer = nn.LSTM(dim, hidden, proj_size=proj)
    ours, x = RowLstm(layer), torch.randn(8, 13, dim)
    state = torch.randn(13, proj or hidden), torch.randn(13, hidden)
    y, (h, c) = ours(x, state, 5)
    for begin in range(13):
        for end in range(begin + 1, 14):
            part = slice(begin, end)
            other, (other_h, other_c) = ours(x[:, part], (state[0][part], state[1][part]), 5)
            assert torch.equal(other, y[:, part]) and torch.equal(other_h, h[part]) and torch.equal(other_c, c[part])
    # and a chunk after another what both are at once
    first, between = ours(x[:5], state, 5)
    rest, _ = ours(x[5:], between, 3)
    assert torch.equal(torch.cat((first, rest)), y)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    layer = nn.LSTM(4, 6)
    x = torch.randn(3, 2, 4)
    x[1, 1, 2] = value
    y, _ = RowLstm(layer)(x, None, 3)
    finite = torch.isfinite(y).all(-1)
    assert finite.tolist() == [[True, True], [True, False], [True, False]]
