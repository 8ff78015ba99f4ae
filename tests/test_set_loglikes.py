"""Log-likelihoods of a set under Gaussians: computed once where they fit, else where they are decoded, the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybrid.decode.acoustics import GmmAcoustics
from hybrid.decode.trained import systems
from hybrid.parallel import SerialExecutor
from hybrid.pipeline import loglikes


@pytest.mark.parametrize("adapted", [False, True])
def test_held_or_not_they_are_the_same(small_run: Path, monkeypatch: pytest.MonkeyPatch, adapted: bool) -> None:
    acoustics = GmmAcoustics(systems(small_run)["mono"].model)
    random = np.random.default_rng(0)
    dim = acoustics.model.gmms.dim
    read = {f"u{k}": random.standard_normal((5 + k, dim)).astype(np.float32) for k in range(20)}
    size = 4 * acoustics.num_pdfs * sum(map(len, read.values()))
    lazy = loglikes._of_gaussians(acoustics, read, adapted)
    monkeypatch.setattr(loglikes, "HELD", size - 1)
    assert loglikes._held(lazy, acoustics.num_pdfs, None) is lazy
    monkeypatch.setattr(loglikes, "HELD", size)
    for executor in (None, SerialExecutor()):
        held = loglikes._held(lazy, acoustics.num_pdfs, executor)
        assert held.keys() == read.keys()
        for name, source in lazy.items():
            rows = held[name]
            assert callable(source) and isinstance(rows, np.ndarray) and rows.shape == (
                len(read[name]), acoustics.num_pdfs
            )  # fmt: skip
            assert np.array_equal(rows, source())
