"""The front end's libraries agree with each other and with Kaldi's definition; the transforms with slow loops."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from corpus_tools import cuts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.arrays import read_arrays, read_complete
from hybrid.data.audio import load_samples
from hybrid.data.features import (
    BACKENDS,
    FeatureExtractor,
    LogMel,
    Mfcc,
    apply_cmvn,
    available_backends,
    cmvn_stats,
    config_from_json,
    config_to_json,
    deltas,
    extract,
    splice,
    stack_frames,
)
from hybrid.errors import ConfigError, DataError, MissingDependency
from hybrid.io import Problems
from hybrid.parallel import WorkerPool

CONFIGS = [
    LogMel(),
    LogMel(num_bins=80),
    Mfcc(),
    Mfcc(use_energy=True),
    Mfcc(num_bins=40, num_ceps=40, high_freq=-400.0),
]

# The largest difference seen between the libraries on AN4 is 2e-3, in single coefficients of quiet frames where
# float32 sums of other order meet the logarithm; the mean is 1e-5. Speech varies by 1 to 20 between frames.
LARGEST = 0.01
MEAN = 2e-4


@pytest.fixture(scope="module")
def speech(shared_data) -> list[np.ndarray]:
    files = sorted((shared_data / "an4" / "wav").rglob("*.sph"))[::150]
    assert len(files) >= 5
    return [load_samples(file) for file in files]


def kaldi_logmel(samples: np.ndarray, config: LogMel) -> np.ndarray:
    """compute-fbank-feats written out frame by frame in float64, from Kaldi's description."""
    samples = samples.astype(np.float64) * 32768
    window = np.power(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399), 0.85)
    mel = lambda hertz: 1127 * np.log(1 + np.asarray(hertz) / 700)  # noqa: E731
    edges = np.linspace(mel(config.low_freq), mel(8000 + config.high_freq), config.num_bins + 2)
    bins = mel(np.arange(256) * 16000 / 512)
    rows = []
    for frame in range((len(samples) + 80) // 160):
        place = np.arange(400) + frame * 160 - 120
        place = np.where(place < 0, -place - 1, place)
        place = np.where(place >= len(samples), 2 * len(samples) - 1 - place, place)
        x = samples[place]
        x = x - x.mean()
        x = np.concatenate([x[:1] - 0.97 * x[:1], x[1:] - 0.97 * x[:-1]]) * window
        power = np.abs(np.fft.rfft(x, 512))[:256] ** 2
        energies = []
        for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
            up, down = (bins - left) / (centre - left), (right - bins) / (right - centre)
            energies.append(np.maximum(0, np.minimum(up, down)) @ power)
        rows.append(np.log(np.maximum(energies, np.finfo(np.float32).eps)))
    return np.array(rows)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "lhotse"])
def test_libraries_agree_on_speech(speech, config, backend):
    if backend not in available_backends():
        pytest.skip(f"{backend} is not installed")
    one, other = FeatureExtractor(config, "lhotse"), FeatureExtractor(config, backend)
    for samples in speech:
        x, y = one.compute(samples, 16000), other.compute(samples, 16000)
        assert x.dtype == y.dtype == np.float32
        assert x.shape == y.shape == ((len(samples) + 80) // 160, config.dim)
        assert np.abs(x - y).max() < LARGEST
        assert np.abs(x - y).mean() < MEAN


@pytest.mark.parametrize("backend", available_backends())
def test_logmel_is_kaldis(speech, backend):
    for samples in speech[:3]:
        x = FeatureExtractor(LogMel(), backend).compute(samples, 16000)
        np.testing.assert_allclose(x, kaldi_logmel(samples, LogMel()), atol=LARGEST)


@pytest.mark.parametrize("backend", available_backends())
def test_mfcc_is_the_liftered_dct_of_logmel(speech, backend):
    config = Mfcc()
    x = FeatureExtractor(config, backend).compute(speech[0], 16000)
    logmel = kaldi_logmel(speech[0], LogMel(num_bins=23, high_freq=0.0))
    n = np.arange(23)
    dct = np.array([np.sqrt((1 if k == 0 else 2) / 23) * np.cos(np.pi / 23 * (n + 0.5) * k) for k in range(13)])
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    np.testing.assert_allclose(x, logmel @ dct.T * lifter, atol=LARGEST)


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("config", [LogMel(), Mfcc(use_energy=True)], ids=str)
@pytest.mark.parametrize("extra", [0, 1, 79, 80, 81, 159])
def test_number_of_frames_and_silence(backend, config, extra):
    """round(N / 160) frames, halves up; digital silence is the floor, not infinity."""
    samples = np.zeros(1600 + extra, dtype=np.float32)
    extractor = FeatureExtractor(config, backend)
    x = extractor.compute(samples, 16000)
    assert len(x) == extractor.num_frames(len(samples)) == 10 + (extra >= 80)
    assert np.isfinite(x).all()


def test_the_scale_is_sixteen_bits():
    """A tone one step of a 16-bit converter high must stay well above the logarithm's floor."""
    tone = np.sin(np.arange(16000) * 0.3).astype(np.float32) / 32768
    x = FeatureExtractor(LogMel()).compute(tone, 16000)
    assert x.max() > np.log(np.finfo(np.float32).eps) + 10


@pytest.mark.parametrize(
    "samples, rate, what",
    [
        (np.zeros(399), 16000, "shorter than one window"),
        (np.zeros(0), 16000, "shorter than one window"),
        (np.zeros(16000), 8000, "8000 Hz"),
        (np.zeros((2, 16000)), 16000, "one channel"),
        (np.full(16000, np.nan), 16000, "NaN"),
    ],
)
def test_audio_that_cannot_be(samples, rate, what):
    with pytest.raises(DataError, match=what):
        FeatureExtractor().compute(samples, rate)


def test_backends_by_name():
    with pytest.raises(ConfigError, match="unknown feature backend"):
        FeatureExtractor(LogMel(), "sox")
    if "kaldifeat" not in available_backends():
        with pytest.raises(MissingDependency, match="pip install"):
            FeatureExtractor(LogMel(), "kaldifeat").compute(np.zeros(1600), 16000)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_config_to_json_and_back(config):
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config


@pytest.mark.parametrize("values", [{}, {"kind": "plp"}, {"kind": "mfcc", "bins": 3}])
def test_config_that_cannot_be(values):
    with pytest.raises(ConfigError):
        config_from_json(values)


def test_front_end_travels_to_workers(speech):
    extractor = FeatureExtractor(Mfcc())
    x = extractor.compute(speech[0], 16000)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(extractor)).compute(speech[0], 16000), x)


def test_extract_in_processes(shared_data, tmp_path):
    files = sorted((shared_data / "an4" / "wav" / "an4test_clstk" / "fcaw").glob("*.sph"))[:5]
    cuts = cuts_of(*files)
    gone = Path(tmp_path / "gone.sph")
    gone.write_bytes(files[0].read_bytes())
    cuts[2].recording.sources[0].source = str(gone)
    gone.unlink()
    problems = Problems(tmp_path / "problems.jsonl", "features")
    with WorkerPool(1) as executor:
        count = extract(
            cuts, FeatureExtractor(LogMel()), tmp_path / "logmel", executor=executor, problems=problems, shard_size=3
        )
    assert count == 4
    assert [(row["utterance"], row["reason"]) for row in problems.rows] == [(cuts[2].id, "no such audio file")]
    read, feats = read_arrays(tmp_path / "logmel", "logmel")
    assert [cut.id for cut in read] == [cut.id for cut in cuts if cut is not cuts[2]]
    for cut in read:
        # Not to the last bit: this process may compute with several threads, and sums in another order.
        expected = FeatureExtractor(LogMel()).compute(load_samples(cut), 16000)
        np.testing.assert_allclose(feats[cut.id], expected, atol=1e-4)
    assert read_complete(tmp_path / "logmel")["settings"]["features"]["num_bins"] == 64
    # Without an executor, and read back through the files' own paths.
    assert extract(read, FeatureExtractor(Mfcc()), tmp_path / "mfcc") == 4
    assert read_arrays(tmp_path / "mfcc", "mfcc")[1][cuts[0].id].shape[1] == 13


# ------------------------------------------------------------------ transforms


def slow_deltas(x: np.ndarray, order: int, window: int) -> np.ndarray:
    """Kaldi's DeltaFeatures, loop by loop: filters first, then each frame with the index held at the ends."""
    scales = [[1.0]]
    norm = sum(j * j for j in range(-window, window + 1))
    for _ in range(order):
        before = scales[-1]
        after = [0.0] * (len(before) + 2 * window)
        for j in range(-window, window + 1):
            for k, value in enumerate(before):
                after[j + window + k] += j * value / norm
        scales.append(after)
    rows = []
    for t in range(len(x)):
        row = []
        for scale in scales:
            reach = len(scale) // 2
            row.append(sum(s * x[min(max(t + k - reach, 0), len(x) - 1)] for k, s in enumerate(scale)))
        rows.append(np.concatenate(row))
    return np.array(rows)


shapes = st.tuples(st.integers(1, 30), st.integers(1, 4))


@settings(max_examples=40, deadline=None)
@given(shape=shapes, order=st.integers(0, 3), window=st.integers(1, 3), seed=st.integers(0, 99))
def test_deltas_against_a_slow_loop(shape, order, window, seed):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    y = deltas(x, order, window)
    assert y.dtype == np.float32 and y.shape == (shape[0], shape[1] * (order + 1))
    np.testing.assert_allclose(y, slow_deltas(x.astype(np.float64), order, window), atol=1e-5)


def test_deltas_of_a_parabola():
    t = np.arange(20.0)
    y = deltas((3 * t**2)[:, None])[6:-6]
    np.testing.assert_allclose(y[:, 1], 6 * t[6:-6], rtol=1e-5)
    np.testing.assert_allclose(y[:, 2], 6, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, left=st.integers(0, 4), right=st.integers(0, 4))
def test_splice_against_a_slow_loop(shape, left, right):
    x = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    expected = [
        np.concatenate([x[min(max(t + k, 0), len(x) - 1)] for k in range(-left, right + 1)]) for t in range(len(x))
    ]
    np.testing.assert_array_equal(splice(x, left, right), expected)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, n=st.integers(1, 4))
def test_stacking(shape, n):
    x = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    y = stack_frames(x, n)
    assert y.shape == (-(-shape[0] // n), n * shape[1])
    flat = y.reshape(-1, shape[1])
    np.testing.assert_array_equal(flat[: len(x)], x)
    assert (flat[len(x) :] == x[-1]).all()


@pytest.mark.parametrize("variance", [False, True])
def test_normalisation(variance):
    random = np.random.default_rng(0)
    features = {f"u{i}": random.normal(i, 1 + i, (20 + i, 3)).astype(np.float32) for i in range(4)}
    speakers = {"u0": "a", "u1": "b", "u2": "a", "u3": "b"}
    result = apply_cmvn(features, speakers, variance=variance)
    for ids in (["u0", "u2"], ["u1", "u3"]):
        before = np.concatenate([features[i] for i in ids]).astype(np.float64)
        expected = before - before.mean(axis=0)
        expected /= before.std(axis=0) if variance else 1
        after = np.concatenate([result[i] for i in ids])
        assert after.dtype == np.float32
        np.testing.assert_allclose(after, expected, atol=1e-4)
    for x in apply_cmvn(features).values():
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    train = cmvn_stats({"u0": features["u0"]}, {"u0": "b"})
    shifted = apply_cmvn({"u1": features["u1"]}, speakers, stats=train)["u1"]
    np.testing.assert_allclose(shifted, features["u1"] - features["u0"].mean(axis=0), atol=1e-4)


def test_normalisation_without_a_speaker():
    with pytest.raises(DataError, match="no speaker"):
        cmvn_stats({"u": np.zeros((2, 2))}, {})
    with pytest.raises(DataError, match="no mean for speaker 'b'"):
        apply_cmvn({"u": np.zeros((2, 2))}, {"u": "b"}, stats={})
