"""Log-likelihoods of a set: in files where they fit, else computed where they are decoded, the same."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Dict

import gmm_tools
import numpy as np
import pytest
from lhotse import MonoCut, SupervisionSegment
from small_run import gmm_of

from hybrid.data.arrays import write_arrays
from hybrid.data.features import Mfcc, config_to_json
from hybrid.decode.acoustics import GmmAcoustics
from hybrid.errors import DataError
from hybrid.gmm.feature_transform import adapt
from hybrid.parallel import SerialExecutor
from hybrid.pipeline import loglikes
from hybrid.pipeline.set_features import SetFeatures


def write_set(folder: Path, kind: str, dim: int) -> Dict[str, np.ndarray]:
    """Write features of 20 utterances of 4 speakers, and return them."""
    random = np.random.default_rng(0)
    features = {f"u{k}": (3 + 2 * random.standard_normal((5 + k, dim))).astype(np.float32) for k in range(20)}
    cuts = [
        MonoCut(name, 0.0, 1.0, 0, supervisions=[SupervisionSegment(name, name, 0.0, 1.0, speaker=f"s{number % 4}")])
        for number, name in enumerate(features)
    ]
    items = ((cut, {kind: features[cut.id]}) for cut in cuts)
    write_arrays(folder, items, names=[kind], frame_shift=0.01, shard_size=6)
    return features


@pytest.mark.parametrize("adapted", [False, True])
def test_kept_or_not_they_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapted: bool) -> None:
    """And those of features that are all in memory, of which none is kept."""
    about = {"mfcc": config_to_json(Mfcc()), "cmvn": {"per": "speaker", "variance": True}}
    gmm_of(gmm_tools.make_lang(), adapted).save(tmp_path / "model", about)
    acoustics = GmmAcoustics(tmp_path / "model")
    model, dim = acoustics.model, acoustics.model.gmms.dim
    read = write_set(tmp_path / "set", "mfcc", acoustics.features.dim)
    features = SetFeatures(tmp_path / "set", "mfcc")
    assert features.speakers == {f"u{k}": f"s{k % 4}" for k in range(20)}
    assert [features.frames(name) for name in features] == list(map(len, read.values()))
    turn = np.random.default_rng(1)
    transforms = {f"s{k}": turn.standard_normal((dim, dim + 1)).astype(np.float32) for k in range(4)}
    lazy = loglikes._of_gaussians(acoustics, features, transforms if adapted else None)
    expected = acoustics.transformed(read, features.speakers)
    if adapted:
        expected = {name: adapt(x, transforms[features.speakers[name]]) for name, x in expected.items()}
    size = 4 * acoustics.num_pdfs * sum(map(len, read.values()))
    monkeypatch.setattr(loglikes, "KEPT", size - 1)
    assert loglikes._kept(lazy, features, acoustics.num_pdfs, tmp_path / "scratch", None) is lazy
    monkeypatch.setattr(loglikes, "KEPT", size)
    for executor in (None, SerialExecutor()):
        scratch = tmp_path / f"scratch of {executor}"
        kept = loglikes._kept(lazy, features, acoustics.num_pdfs, scratch, executor)
        assert len(list(scratch.iterdir())) == 2  # of 16 utterances, and of 4
        assert list(kept) == sorted(read)
        assert kept.keys() == read.keys() == lazy.keys()
        for name, source in lazy.items():
            source = pickle.loads(pickle.dumps(source))
            assert np.array_equal(loglikes._Transformed(lazy)[name], expected[name])
            assert np.array_equal(pickle.loads(pickle.dumps(kept[name]))(), source())
            assert np.array_equal(source(), model.loglikes(expected[name], adapted=adapted))
    sizes = [len(pickle.dumps(source)) for source in lazy.values()]
    assert max(sizes) < 2000 + 8 * dim * (dim + 1)  # what is sent to a worker holds no features


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
    arrays = write_set(tmp_path / "set", "logmel", 3)
    features, scratch = SetFeatures(tmp_path / "set", "logmel"), tmp_path / "scratch"
    speakers = features.speakers
    whole = Doubling(per_speaker).loglikes(arrays, speakers)
    acoustics = Doubling(per_speaker)
    together = loglikes._of_network(acoustics, features, scratch, None, 1)
    assert len(acoustics.asked) == 1
    together = {name: source() for name, source in together.items()}
    monkeypatch.setattr(loglikes, "KEPT", 300)
    acoustics = Doubling(per_speaker)
    stored = loglikes._of_network(acoustics, features, scratch, None, 1)
    assert len(acoustics.asked) > 2 and sorted(sum(acoustics.asked, [])) == sorted(features)
    if per_speaker:
        assert all({speakers[n] for n in part}.isdisjoint({speakers[n] for n in other})
                   for part in acoustics.asked for other in acoustics.asked if part is not other)  # fmt: skip
    assert together.keys() == stored.keys() == arrays.keys()
    for name, source in stored.items():
        assert np.array_equal(pickle.loads(pickle.dumps(source))(), whole[name])
        assert np.array_equal(together[name], whole[name])
    (scratch / "loglikes.f32").write_bytes(b"")
    with pytest.raises(DataError, match="cut off"):
        stored["u3"]()
