"""Vocal tract length perturbation of log mel features."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.data.batches import Chain
from hybrid.data.features import FeatureExtractor, LogMel
from hybrid.data.specaugment import SpecAugment
from hybrid.data.vtlp import Vtlp, warp
from hybrid.errors import ConfigError


@given(st.floats(0.7, 1.4))
def test_the_warp_is_continuous_rising_and_keeps_both_ends(factor):
    f = np.linspace(0, 8000, 4001)
    g = warp(f, factor, 8000.0)
    assert g[0] == 0 and g[-1] == pytest.approx(8000)
    steps = np.diff(g)
    assert (steps > 0).all() and steps.max() < 10 * 2.0  # 2 Hz a step: no jump
    assert g[f < 3000] == pytest.approx(factor * f[f < 3000])


@given(st.integers(1, 20), st.integers(0, 1000))
def test_factor_one_changes_nothing(frames, seed):
    x = np.random.default_rng(seed).normal(size=(frames, 3 * 64)).astype(np.float32)
    out = Vtlp(low=1.0, high=1.0)(x, np.random.default_rng(0))
    assert out.dtype == np.float32 and out == pytest.approx(x, abs=1e-4)


def test_a_resonance_moves_as_if_the_tract_were_shorter():
    """White noise with a band at 2000 Hz, against the same with its band at 2000 / a: what the filter bank says of the
    second is what the warp makes of the first."""
    rng, rate, factor = np.random.default_rng(0), 16000, 1.25
    noise = rng.normal(size=4 * rate)

    def with_band(centre):
        spectrum = np.fft.rfft(noise)
        f = np.fft.rfftfreq(len(noise), 1 / rate)
        return np.fft.irfft(spectrum * (0.05 + np.exp(-0.5 * ((f - centre) / 200.0) ** 2))).astype(np.float32)

    front = FeatureExtractor(LogMel(), "lhotse")
    lower, original = (front.compute(with_band(hz), rate).mean(0) for hz in (2000 / factor, 2000))
    warped = Vtlp(low=factor, high=factor, stack=1)(original[None], rng)[0]
    assert np.argmax(original) - np.argmax(lower) >= 3 and abs(int(np.argmax(warped)) - int(np.argmax(lower))) <= 1
    near = slice(np.argmax(lower) - 6, np.argmax(lower) + 7)
    error, moved = (np.abs(x - lower)[near].max() for x in (warped, original))
    assert error < 0.3 * moved


def test_every_stacked_frame_is_warped_alike():
    x = np.tile(np.random.default_rng(0).normal(size=(5, 1, 64)), (1, 3, 1)).reshape(5, 192).astype(np.float32)
    out = Vtlp()(x, np.random.default_rng(3)).reshape(5, 3, 64)
    assert np.array_equal(out[:, 0], out[:, 2]) and not np.allclose(out[:, 0], x[:, :64])


def test_the_factor_follows_from_the_generator_and_workers_can_have_it():
    x = np.random.default_rng(0).normal(size=(9, 192)).astype(np.float32)
    both = Chain((Vtlp(), SpecAugment()))
    again = pickle.loads(pickle.dumps(both))
    one, two, other = (chain(x, np.random.default_rng(seed)) for chain, seed in ((both, 1), (again, 1), (both, 2)))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Vtlp(low=1.1, high=0.9), "low is 1.1"),
        (lambda: Vtlp(low=0.1), "low is 0.1"),
        (lambda: Vtlp(stack=0), "stack is 0"),
        (lambda: Vtlp(stack=3)(np.zeros((2, 64), np.float32), np.random.default_rng(0)), "not 3 stacked"),
    ],
)
def test_bad_values(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
