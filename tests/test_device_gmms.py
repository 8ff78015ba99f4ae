"""Likelihoods and statistics through torch against numpy's: the same numbers, whatever the block of frames."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid.gmm import device
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import GmmStats, accumulate

SIZES = np.array([1, 5, 2, 9, 3])


def make(seed: int = 0, dim: int = 6) -> tuple[DiagGmms, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    count = int(SIZES.sum())
    gmms = DiagGmms(
        np.concatenate([rng.dirichlet(np.ones(size)) for size in SIZES]),
        rng.normal(0, 2, (count, dim)),
        rng.uniform(0.5, 2, (count, dim)),
        np.r_[0, np.cumsum(SIZES)],
    )
    return gmms, rng.normal(0, 2, (70, dim)).astype(np.float32), rng.integers(0, len(SIZES), 70)


def devices() -> list:
    import torch

    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("block", [20, 7 * 20, 64_000_000])
@pytest.mark.parametrize("name", devices())
def test_all_likelihoods(name: str, block: int, monkeypatch) -> None:
    monkeypatch.setattr(device, "BLOCK_SCORES", block)
    gmms, x, _ = make()
    found = device.DeviceGmms(gmms, name).loglikes(x)
    assert found.dtype == np.float32 and found.shape == (len(SIZES), len(x))
    np.testing.assert_allclose(found, gmms.loglikes(x), rtol=1e-5, atol=1e-4)
    assert device.DeviceGmms(gmms, name).loglikes(x[:0]).shape == (len(SIZES), 0)


@pytest.mark.parametrize("block", [20, 7 * 20, 64_000_000])
@pytest.mark.parametrize("name", devices())
@pytest.mark.parametrize("two", [False, True])
def test_statistics(name: str, block: int, two: bool, monkeypatch) -> None:
    monkeypatch.setattr(device, "BLOCK_SCORES", block)
    gmms, x, pdfs = make(1)
    others = make(2)[1] if two else None
    slow, fast = GmmStats.zeros(gmms), GmmStats.zeros(gmms)
    accumulate(gmms, x, pdfs, slow, others=others)
    device.DeviceGmms(gmms, name).accumulate(x, pdfs, fast, others=others)
    for field in ("counts", "first", "second"):
        np.testing.assert_allclose(getattr(fast, field), getattr(slow, field), rtol=1e-4, atol=1e-3)
    assert fast.frames == slow.frames == len(x)
    assert fast.loglike == pytest.approx(slow.loglike, rel=1e-5)
