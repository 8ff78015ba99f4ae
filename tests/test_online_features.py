"""Features of a signal that comes piece by piece are those of the whole signal, bit for bit."""

from __future__ import annotations

from math import gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from hybrid.data.features import BACKENDS, FeatureExtractor, LogMel, Mfcc, available_backends
from hybrid.data.frame_blocks import BLOCK
from hybrid.data.online_cmvn import OnlineCmvn, OnlineCmvnConfig, online_cmvn_of
from hybrid.data.resampling import OnlineResampler, resample
from hybrid.data.transforms import network_input, stack_frames
from hybrid.errors import ConfigError, DataError
from hybrid.online.features import FrameStack, OnlineFeatures

CONFIGS = {
    "logmel": LogMel(),
    "mfcc": Mfcc(),
    "energy": Mfcc(use_energy=True),
    "8 kHz": LogMel(sampling_rate=8000, num_bins=40),
    "no overlap": LogMel(num_bins=20, frame_length=0.02, frame_shift=0.02),
}


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def pieces(x, sizes):
    """x cut at these sizes, which are taken again and again; empty pieces among them."""
    begin, number = 0, 0
    while begin < len(x):
        size = sizes[number % len(sizes)]
        yield x[begin : begin + size]
        begin, number = begin + size, number + 1


def streamed(stream, x, sizes):
    return np.concatenate([*[stream.accept(part) for part in pieces(x, sizes)], stream.finish()])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CONFIGS)
def test_any_pieces_give_the_bits_of_the_whole(name: str, backend: str) -> None:
    if backend not in available_backends():
        pytest.skip(f"{backend} is not installed")
    config = CONFIGS[name]
    extractor = FeatureExtractor(config, backend)
    length = round(config.frame_shift * config.sampling_rate) * (2 * BLOCK + 9) + 77  # more than two blocks
    for samples in (length, int(config.frame_length * config.sampling_rate)):
        x = noise(samples)
        whole = extractor.compute(x, config.sampling_rate)
        stream = OnlineFeatures(extractor)
        for sizes in ([samples], [160], [1, 0, 399, 2], [37], [8000, 1], [4001]):
            assert np.array_equal(streamed(stream, x, sizes), whole), sizes


def test_samples_one_by_one_and_the_frames_as_soon_as_they_can_be() -> None:
    x = noise(1203)
    stream, ready = OnlineFeatures(LogMel()), []
    for number, sample in enumerate(x):
        rows = stream.accept(sample[None])
        ready += [number + 1] * len(rows)
    # frame t reads up to sample 160 t - 120 + 399; the first two wait for a window's 400 samples
    assert ready == [400, 440, 600, 760, 920, 1080]
    assert len(stream.finish()) == round(1203 / 160) - 6
    assert stream.latency == pytest.approx(120 / 16000)


def test_what_is_shorter_than_a_window_has_no_frame_and_the_next_signal_is_its_own() -> None:
    stream, whole = OnlineFeatures(LogMel()), FeatureExtractor(LogMel())
    for samples in (0, 1, 399):
        assert streamed(stream, noise(samples), [100]).shape == (0, 64)
    for seed in range(2):
        x = noise(5000, seed)
        assert np.array_equal(streamed(stream, x, [700]), whole.compute(x, 16000))
    stream.accept(noise(3000, 5))
    stream.reset()
    assert np.array_equal(streamed(stream, x, [5000]), whole.compute(x, 16000))


@settings(max_examples=30, deadline=None)
@given(st.integers(400, 12000), st.lists(st.integers(0, 3000), min_size=1, max_size=6).filter(any))
def test_any_cut_at_all(samples: int, sizes) -> None:
    extractor = FeatureExtractor(Mfcc())
    x = noise(samples, samples)
    assert np.array_equal(streamed(OnlineFeatures(extractor), x, sizes), extractor.compute(x, 16000))


def test_memory_of_hours_is_that_of_a_block() -> None:
    stream = OnlineFeatures(LogMel())
    sizes = set()
    for _ in range(200):
        stream.accept(noise(1600))
        sizes.add(len(stream._blocks._samples))
    assert max(sizes) <= (BLOCK + 1) * 160 + 3 * 400 + 1600


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 5), np.float32), np.zeros(5, np.int16), np.array([0.0, np.nan]), np.array([np.inf])]
)
def test_samples_that_are_no_speech(samples) -> None:
    with pytest.raises(DataError, match="Remedy"):
        OnlineFeatures(LogMel()).accept(samples)


# ------------------------------------------------------------------ resampling


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 16000])
def test_resampling_piece_by_piece_has_the_bits_of_the_whole(rate: int) -> None:
    for samples in (1, 7, 999, 9001):
        x = noise(samples, rate)
        factor = gcd(rate, 16000)
        wanted = resample_poly(x, 16000 // factor, rate // factor)
        assert np.array_equal(resample(x, rate, 16000), wanted)
        for sizes in ([1, 0, 5], [441], [5000]):
            assert np.array_equal(streamed(OnlineResampler(rate, 16000), x, sizes), wanted)


def test_features_of_another_rate() -> None:
    x = noise(30011)
    wanted = FeatureExtractor(LogMel()).compute(resample(x, 44100, 16000), 16000)
    for sizes in ([441], [1, 9999]):
        assert np.array_equal(streamed(OnlineFeatures(LogMel(), rate=44100), x, sizes), wanted)


@pytest.mark.parametrize("rate", [0, -8000, 16000.5, True])
def test_rates_that_are_none(rate) -> None:
    with pytest.raises(ConfigError, match="sampling rate"):
        OnlineFeatures(LogMel(), rate=rate)


def test_a_resampler_keeps_as_much_as_its_filter_is_long() -> None:
    resampler = OnlineResampler(44100, 16000)
    for _ in range(300):
        resampler.accept(noise(441))
        assert len(resampler._samples) < 3 * 441


# ------------------------------------------------------------------ the running mean


def by_hand(x, mean, window, global_frames, earlier=None):
    """As online_cmvn.py says it, a frame at a time."""
    out = []
    for t in range(len(x)):
        past = x[max(0, t + 1 - window) : t + 1].astype(np.float64)
        total, count = past.sum(0), float(len(past))
        if earlier is not None:
            share = min(window - count, earlier.count)
            total, count = total + share * earlier.mean, count + share
        share = min(window - count, global_frames)
        out.append(x[t] - (total + share * mean) / (count + share))
    return np.array(out)


@pytest.mark.parametrize("window, global_frames", [(600, 200), (10, 4), (1, 0), (7, 7)])
def test_the_running_mean_is_kaldis_and_does_not_depend_on_the_pieces(window: int, global_frames: int) -> None:
    x, mean = 3 + noise(50 * 4).reshape(50, 4), np.array([3.0, 2.0, 3.5, 3.0])
    config = OnlineCmvnConfig(mean, None, window, global_frames)
    whole = OnlineCmvn(config).apply(x)
    np.testing.assert_allclose(whole, by_hand(x, mean, window, global_frames), atol=1e-6)
    for sizes in ([1], [3, 0, 8], [49]):
        cmvn = OnlineCmvn(config)
        assert np.array_equal(np.concatenate([cmvn.apply(part) for part in pieces(x, sizes)]), whole)
        assert cmvn._window is not None and len(cmvn._window) <= window


def test_a_later_utterance_begins_with_what_is_known_of_the_speaker() -> None:
    x, y, mean = 3 + noise(120).reshape(30, 4), 4 + noise(80, 1).reshape(20, 4), np.full(4, 2.0)
    cmvn = OnlineCmvn(OnlineCmvnConfig(mean, None, 40, 10))
    cmvn.apply(x)
    stats = cmvn.stats
    assert stats is not None and stats.count == 30
    np.testing.assert_allclose(stats.mean, x.astype(np.float64).mean(0))
    cmvn.next_utterance()
    np.testing.assert_allclose(cmvn.apply(y), by_hand(y, mean, 40, 10, stats), atol=1e-6)
    both = cmvn.stats
    assert both is not None and both.count == 40  # a window: 20 of this one, 20 of the speaker
    np.testing.assert_allclose(both.mean, (y.astype(np.float64).sum(0) + 20 * stats.mean) / 40)
    cmvn.next_utterance(keep=False)
    assert np.array_equal(cmvn.apply(y), OnlineCmvn(cmvn.config).apply(y))


def test_the_deviation_too() -> None:
    x = (3 + 5 * noise(4000)).reshape(1000, 4)
    config = OnlineCmvnConfig(np.full(4, 3.0), np.full(4, 0.25), 500, 100, norm_vars=True)
    y = OnlineCmvn(config).apply(x)
    np.testing.assert_allclose(y[0], (x[0] - 3) / 0.5, rtol=0.1, atol=0.05)
    np.testing.assert_allclose(y[-1], (x[-1] - x[500:].mean(0)) / x[500:].std(0), rtol=1e-4)


def test_offline_computes_the_same() -> None:
    features = {"a": 3 + noise(92).reshape(23, 4), "b": noise(40).reshape(10, 4)}
    config = OnlineCmvnConfig(np.ones(4))
    found = network_input(features, {"a": "s", "b": "s"}, "online", 3, config)
    for name, x in features.items():
        assert np.array_equal(found[name], stack_frames(OnlineCmvn(config).apply(x), 3))
    with pytest.raises(ConfigError, match="mean of the training set"):
        network_input(features, None, "online")


def test_settings_of_the_running_mean_are_read_as_they_were_written() -> None:
    config = OnlineCmvnConfig(np.array([1.0, 2.0]), np.array([3.0, 4.0]), 50, 20)
    again = online_cmvn_of({"online_cmvn": config.to_json()})
    assert again.to_json() == config.to_json() and again.window == 50
    assert online_cmvn_of({}).mean is None
    for bad in ({"mean": None}, {**config.to_json(), "window": "x"}, {**config.to_json(), "mean": ["x"]}):
        with pytest.raises(ConfigError, match="online cmvn"):
            online_cmvn_of({"online_cmvn": bad})
    for window, frames in ((0, 0), (5, 6), (5, -1)):
        with pytest.raises(ConfigError, match="window"):
            OnlineCmvnConfig(window=window, global_frames=frames)
    with pytest.raises(ConfigError, match="finite"):
        OnlineCmvnConfig(np.array([np.nan]))
    with pytest.raises(DataError, match="3 features"):
        OnlineCmvn(config).apply(np.zeros((2, 3)))


def test_without_a_mean_of_the_training_set_the_first_frame_is_its_own_mean() -> None:
    x = noise(40).reshape(10, 4)
    assert not OnlineCmvn(OnlineCmvnConfig()).apply(x)[0].any()


def test_stacked_frames_of_a_stream() -> None:
    for frames in range(0, 9):
        x = noise(frames * 2).reshape(frames, 2)
        stack = FrameStack(3)
        rows = [stack.accept(x[begin : begin + 2]) for begin in range(0, frames, 2)]
        found = np.concatenate([*rows, stack.finish(2)]) if frames else stack.finish(2)
        assert np.array_equal(found, stack_frames(x, 3) if frames else np.zeros((0, 6)))
    with pytest.raises(ConfigError):
        FrameStack(0)
