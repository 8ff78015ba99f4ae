"""Noises: libraries, repetition, active speech and the ratio of powers."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.noise import (
    NoiseLibrary,
    active_frames,
    active_power,
    active_span,
    frame_length,
    mix,
    repeat,
    rms,
    snr,
    trim,
)
from hybrid.data.rooms import RATE
from hybrid.errors import DataError


def tone(samples: int, level: float = 0.1, frequency: float = 440.0) -> np.ndarray:
    return (level * np.sqrt(2) * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE)).astype(np.float32)


def test_pauses_do_not_count():
    speech = np.concatenate([np.zeros(RATE), tone(RATE, 0.1), np.zeros(RATE), tone(RATE, 0.05), np.zeros(RATE)])
    assert active_frames(speech).sum() == 2 * RATE // frame_length(RATE)
    assert active_power(speech) == pytest.approx((0.1**2 + 0.05**2) / 2, rel=1e-3)
    assert active_span(speech) == slice(RATE, 4 * RATE)
    assert active_power(np.zeros(1000)) == 0


@settings(max_examples=30, deadline=None)
@given(
    ratio=st.floats(-10, 30),
    levels=st.lists(st.floats(-6, 6), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
    pause=st.integers(0, RATE),
)
def test_mix_has_the_wanted_ratios(ratio, levels, seed, pause):
    rng = np.random.default_rng(seed)
    speech = np.concatenate([np.zeros(pause), rng.standard_normal(4000), np.zeros(pause)]).astype(np.float32)
    noises = [scale * rng.standard_normal(len(speech)).astype(np.float32) for scale in (1e-3, 0.5, 7.0)][: len(levels)]
    mixed, gains = mix(speech, noises, levels, ratio)
    assert snr(speech, mixed - speech) == pytest.approx(ratio, abs=0.05)
    power = [10 * np.log10(np.square(g * n[pause : pause + 4000]).mean()) for g, n in zip(gains, noises, strict=True)]
    for i, level in enumerate(levels):
        assert power[i] - power[0] == pytest.approx(level - levels[0], abs=0.4)


@pytest.mark.parametrize("softest", [0.0, 1e-6, 1e-2])
def test_a_bark_after_the_speech_is_not_blown_up(softest):
    """Its power while speech lasts says nothing of it: of what it is brought to, the speech must stay audible."""
    rng = np.random.default_rng(0)
    speech = np.concatenate([rng.standard_normal(RATE), np.zeros(RATE)]).astype(np.float32)
    bark = softest * rng.standard_normal(2 * RATE).astype(np.float32)
    bark[-RATE // 2 :] += rng.standard_normal(RATE // 2).astype(np.float32)
    mixed, _ = mix(speech, [bark], [0.0], 5.0)
    noise = mixed - speech
    assert 10 * np.log10(np.square(speech).mean() * 2 / np.square(noise).mean()) == pytest.approx(5.0 - 6.0, abs=0.1)
    steady = rng.standard_normal(2 * RATE).astype(np.float32)
    steady[RATE:] *= 1.7  # 3.9 dB over the cut: within what is left alone
    mixed, _ = mix(speech, [steady], [0.0], 5.0)
    noise = (mixed - speech)[:RATE]
    assert 10 * np.log10(np.square(speech[:RATE]).mean() / np.square(noise).mean()) == pytest.approx(5.0, abs=0.01)


def test_mix_without_noise_or_without_speech():
    np.testing.assert_array_equal(mix(tone(100), [], [], 5.0)[0], tone(100))
    with pytest.raises(DataError, match="silence"):
        mix(np.zeros(1000, np.float32), [tone(1000)], [0.0], 5.0)
    with pytest.raises(DataError, match="silence"):
        mix(tone(1000), [np.zeros(1000, np.float32)], [0.0], 5.0)


def test_repeat_keeps_the_level_at_its_joints():
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    long = repeat(noise, 5 * RATE)
    assert len(long) >= 5 * RATE
    np.testing.assert_array_equal(long[: RATE // 2], noise[: RATE // 2])
    powers = np.square(long[: 5 * RATE].astype(np.float64)).reshape(-1, RATE // 50).mean(axis=1)
    assert powers.min() > 0.5 and powers.max() < 2.0  # neither a gap nor a bump
    assert repeat(noise[:1], 10).shape == (10,)


def test_trim():
    audio = np.concatenate([np.zeros(50), tone(100) + 0.3, np.zeros(70)])
    assert len(trim(audio)) == 100
    assert len(trim(np.zeros(10))) == 0


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for kind, rate, seconds in (("music", 44100, 3), ("babble", RATE, 5), ("household", RATE, 0.3)):
        (tmp_path / kind).mkdir()
        for i in range(2):
            audio = 0.1 * rng.standard_normal((round(rate * seconds), 2))
            soundfile.write(tmp_path / kind / f"{i}.wav", audio, rate)
    (tmp_path / "music" / "readme.txt").write_text("not a noise")
    return tmp_path


def test_library_from_folder(folder):
    library = NoiseLibrary.from_folder(folder)
    assert sorted(library.kinds) == ["babble", "household", "music"]
    assert len(library) == 6
    for members in library.kinds.values():
        for noise in members:
            segment = noise.segment(np.random.default_rng(1), 2 * RATE)
            assert segment.shape == (2 * RATE,) and segment.dtype == np.float32
            assert rms(segment[:RATE]) > 0.03 and rms(segment[RATE:]) > 0.03
            np.testing.assert_array_equal(segment, noise.segment(np.random.default_rng(1), 2 * RATE))
    assert list(NoiseLibrary.from_folder(folder, kinds=["music"]).kinds) == ["music"]


def test_draw_gives_different_recordings_of_all_kinds(folder):
    library = NoiseLibrary.from_folder(folder)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        chosen = library.draw(rng, 3)
        assert len({noise.name for noise in chosen}) == 3
        seen |= {noise.kind for noise in chosen}
    assert seen == set(library.kinds)
    assert {n.kind for n in library.draw(rng, 2, ["babble"])} == {"babble"}
    with pytest.raises(DataError, match="3 noises wanted"):
        library.draw(rng, 3, ["babble"])


def test_silent_stretches_are_drawn_again():
    audio = np.zeros(20 * RATE, np.float32)
    audio[10 * RATE : 20 * RATE] = tone(10 * RATE)
    (noise,) = NoiseLibrary.from_arrays({"music": {"half": audio}}).kinds["music"]
    assert all(rms(noise.segment(np.random.default_rng(i), RATE)) > 1e-4 for i in range(20))
    (silent,) = NoiseLibrary.from_arrays({"music": {"none": np.zeros(RATE)}}).kinds["music"]
    with pytest.raises(DataError, match="silent"):
        silent.segment(np.random.default_rng(0), 100)


def test_other_rates_keep_their_pitch():
    (noise,) = NoiseLibrary.from_arrays(
        {"music": {"a": np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100)}}, rate=44100
    ).kinds["music"]
    spectrum = np.abs(np.fft.rfft(noise.segment(np.random.default_rng(0), 8000)))
    assert int(np.argmax(spectrum)) * 2 == 1000


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda path: path / "nowhere", "no such folder"),
        (lambda path: path, "no noise in this folder"),
        (lambda path: _write(path / "music" / "a.flac", b"not audio"), "cannot be read"),
        (lambda path: _write(path / "music" / "a.wav", b""), "cannot be read"),
        (lambda path: _empty(path / "music" / "a.wav"), "without a sample"),
    ],
)
def test_broken_folders(tmp_path, make, match):
    path = make(tmp_path)
    with pytest.raises(DataError, match=match) as error:
        NoiseLibrary.from_folder(path)
    assert error.value.remedy


def test_a_missing_kind(folder):
    with pytest.raises(DataError, match="'dialogue'"):
        NoiseLibrary.from_folder(folder, kinds=["dialogue", "music"])


def test_a_file_that_breaks_after_its_header(folder):
    path = folder / "babble" / "0.wav"
    library = NoiseLibrary.from_folder(folder)
    path.write_bytes(b"gone")
    noise = next(n for n in library.kinds["babble"] if n.path == str(path))
    with pytest.raises(DataError, match="cannot be read"):
        noise.segment(np.random.default_rng(0), 100)


def _write(path, data):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path.parent.parent


def _empty(path):
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.zeros(0), RATE)
    return path.parent.parent
