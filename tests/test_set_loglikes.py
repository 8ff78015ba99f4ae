"""Log-likelihoods of a set: held where they fit; else computed where they are decoded, or in a file, the same."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from hybrid.decode.acoustics import GmmAcoustics
from hybrid.decode.trained import systems
from hybrid.errors import DataError
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


class Doubling:
    """An acoustic model of 2 pdfs: twice the first two features less the mean of their speaker, every third frame."""

    num_pdfs, frame_subsampling_factor = 2, 3

    def __init__(self, per_speaker: bool) -> None:
        self.per_speaker = per_speaker
        self.asked: list = []

    def loglikes(self, features: dict, speakers: dict, **_: object) -> dict:
        self.asked.append(list(features))
        means = {
            speaker: np.mean([features[name].mean() for name in features if speakers[name] == speaker])
            for speaker in ({speakers[name] for name in features} if self.per_speaker else ())
        }
        return {
            name: np.float32(2) * (x[::3, :2] - np.float32(means.get(speakers[name], 0.0)))
            for name, x in features.items()
        }


@pytest.mark.parametrize("per_speaker", [False, True])
def test_those_of_a_network_go_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_speaker: bool) -> None:
    random = np.random.default_rng(1)
    features = {f"u{k}": random.standard_normal((1 + k, 3)).astype(np.float32) for k in range(20)}
    speakers = {name: f"s{number % 4}" for number, name in enumerate(features)}
    whole = Doubling(per_speaker).loglikes(features, speakers)
    acoustics = Doubling(per_speaker)
    held = loglikes._of_network(acoustics, features, speakers, tmp_path, None, 1)
    assert len(acoustics.asked) == 1 and not list(tmp_path.iterdir())
    monkeypatch.setattr(loglikes, "HELD", 300)
    acoustics = Doubling(per_speaker)
    stored = loglikes._of_network(acoustics, features, speakers, tmp_path, None, 1)
    assert len(acoustics.asked) > 2 and sorted(sum(acoustics.asked, [])) == sorted(features)
    if per_speaker:
        assert all({speakers[n] for n in part}.isdisjoint({speakers[n] for n in other})
                   for part in acoustics.asked for other in acoustics.asked if part is not other)  # fmt: skip
    assert held.keys() == stored.keys() == features.keys()
    for name, source in stored.items():
        assert np.array_equal(pickle.loads(pickle.dumps(source))(), whole[name])
        assert np.array_equal(held[name], whole[name])
    (tmp_path / "loglikes.f32").write_bytes(b"")
    with pytest.raises(DataError, match="cut off"):
        stored["u3"]()
