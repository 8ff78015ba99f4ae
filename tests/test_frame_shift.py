"""Stacked frames taken from another phase."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.data.frame_shift import FrameShift
from hybrid.errors import ConfigError


class Draw:
    """A generator that draws what it is told."""

    def __init__(self, value: int) -> None:
        self.value = value

    def integers(self, low: int, high: int) -> int:
        assert low <= self.value < high
        return self.value


@pytest.mark.parametrize(
    "shift, wanted",
    [(0, [[0, 1, 2], [3, 4, 5]]), (1, [[1, 2, 3], [4, 5, 5]]), (-1, [[0, 0, 1], [2, 3, 4]])],
)
def test_each_phase(shift, wanted):
    x = np.array([[0, 1, 2], [3, 4, 5]], np.float32)  # one band: frame k holds k
    out = FrameShift()(x, Draw(shift))
    assert out.dtype == np.float32 and out.tolist() == wanted


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 999))
def test_fine_frames_keep_their_order_and_their_bands(frames, bands, seed):
    fine = np.arange(frames * 3)[:, None] + np.linspace(0, 0.5, bands)
    out = FrameShift(most=2)(fine.reshape(frames, 3 * bands), np.random.default_rng(seed)).reshape(frames * 3, bands)
    assert np.allclose(out - out[:, :1], fine - fine[:, :1])
    assert set(np.diff(out[:, 0])) <= {0.0, 1.0} and abs(out[:, 0] - fine[:, 0]).max() <= 2


def test_every_phase_comes_as_often():
    x = np.arange(30.0).reshape(10, 3)
    rng = np.random.default_rng(0)
    counts = Counter(float(FrameShift()(x, rng)[4, 0]) for _ in range(600))
    assert set(counts) == {11.0, 12.0, 13.0} and min(counts.values()) > 150


def test_zero_is_no_shift():
    x = np.arange(12.0).reshape(4, 3)
    assert np.array_equal(FrameShift(most=0)(x, np.random.default_rng(0)), x)


@pytest.mark.parametrize("make", [lambda: FrameShift(most=4), lambda: FrameShift(most=-1), lambda: FrameShift(stack=0)])
def test_bad_values(make):
    with pytest.raises(ConfigError, match="shift of"):
        make()


def test_features_that_are_not_stacked():
    with pytest.raises(ConfigError, match="not 3 stacked"):
        FrameShift()(np.zeros((4, 10), np.float32), np.random.default_rng(0))
