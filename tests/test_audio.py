"""Reading audio: the numbers are the file's, every kind of damage is named, lhotse's cuts read the same."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_tools import cuts_of, listing_of

from hybrid.corpus import Reading, at_rate, build_corpus
from hybrid.data.audio import check, inspect, load_samples
from hybrid.data.resampling import resample
from hybrid.errors import DataError

RATE = 16000


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_sphere(path: Path, samples: np.ndarray, rate: int = RATE, order: str = "01", channels: int = 1) -> None:
    """NIST SPHERE as CMU wrote it: 1024 bytes of header, then 16-bit samples, low byte first for order 01."""
    data = np.round(np.asarray(samples) * 32767).astype("<i2" if order == "01" else ">i2")
    fields = {
        "sample_count -i": len(data) // channels,
        "sample_rate -i": rate,
        "sample_n_bytes -i": 2,
        "sample_byte_format -s2": order,
        "channel_count -i": channels,
        "sample_coding -s3": "pcm",
    }
    lines = ["NIST_1A", "   1024", *(f"{name} {value}" for name, value in fields.items()), "end_head", ""]
    path.write_bytes("\n".join(lines).encode().ljust(1024) + data.tobytes())


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    if path.suffix == ".sph":
        write_sphere(path, samples, rate)
    else:
        soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.mark.parametrize("order", ["01", "10"])
def test_sphere_in_both_byte_orders(tmp_path, order):
    write_sphere(tmp_path / "a.sph", tone(), order=order)
    info = inspect(tmp_path / "a.sph")
    assert (info.sampling_rate, info.num_samples, info.channels, info.duration) == (RATE, 8000, 1, 0.5)
    samples = load_samples(tmp_path / "a.sph")
    assert samples.dtype == np.float32 and samples.shape == (8000,)
    np.testing.assert_allclose(samples, tone(), atol=1e-4)


def test_an4s_own_files(shared_data):
    """Against the bytes themselves: 1024 of header, then 16-bit samples."""
    paths = sorted((shared_data / "an4" / "wav").rglob("*.sph"))[::200]
    assert len(paths) >= 5
    for path in paths:
        raw = np.frombuffer(path.read_bytes()[1024:], dtype="<i2")
        np.testing.assert_array_equal(load_samples(path), raw / np.float32(32768))


@pytest.mark.parametrize("name", ["a.sph", "a.wav", "a.flac"])
def test_a_cut_reads_as_its_file(tmp_path, name):
    path = write(tmp_path / name, tone())
    (cut,) = cuts_of(path)
    np.testing.assert_array_equal(load_samples(cut), load_samples(path))
    np.testing.assert_array_equal(cut.load_audio()[0], load_samples(path))  # lhotse alone, SPHERE too
    part = cut.truncate(offset=0.1, duration=0.2)
    np.testing.assert_array_equal(load_samples(part), load_samples(path)[1600:4800])
    faster = load_samples(cut.perturb_speed(1.1))
    assert len(faster) == round(8000 / 1.1)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_are_resampled(tmp_path, rate):
    path = write(tmp_path / "a.wav", tone(0.5, rate), rate)
    samples = load_samples(path)
    assert abs(len(samples) - 8000) <= 1
    middle = slice(800, 7200)
    np.testing.assert_allclose(samples[middle], tone()[: len(samples)][middle], atol=5e-3)
    (cut,), said = at_rate(cuts_of(path), RATE)
    assert cut.sampling_rate == RATE and abs(cut.num_samples - 8000) <= 1
    np.testing.assert_allclose(load_samples(cut)[middle], samples[middle], atol=1e-6)
    assert len(said) == 1 and f"at {rate} Hz are resampled to 16000 Hz" in said[0] and "a.wav" in said[0]


def test_resample_keeps_leading_dimensions():
    assert resample(np.stack([tone(), tone()]), 16000, 8000).shape == (2, 4000)


def test_channels(tmp_path):
    both = np.stack([tone(), tone(hertz=880)], axis=1)
    soundfile.write(tmp_path / "a.wav", both, RATE)
    for channel in (None, 0, 1):
        expected = both[:, channel or 0]
        np.testing.assert_allclose(load_samples(tmp_path / "a.wav", channel=channel), expected, atol=1e-4)
    with pytest.raises(DataError, match="no channel 2"):
        load_samples(tmp_path / "a.wav", channel=2)
    corpus = build_corpus(listing_of(tmp_path / "a.wav"), Reading())
    np.testing.assert_allclose(load_samples(corpus.cuts[0]), tone(), atol=1e-4)
    assert "several channels" in corpus.notes[0]


def missing(path: Path) -> None:
    pass


def folder(path: Path) -> None:
    path.mkdir()


def zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def no_samples(path: Path) -> None:
    write(path, np.zeros(0, dtype=np.float32))


def text(path: Path) -> None:
    path.write_text("<html>404 not found</html>" * 100)


def half(path: Path) -> None:
    write(path, tone())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def last_byte_missing(path: Path) -> None:
    write(path, tone())
    path.write_bytes(path.read_bytes()[:-1])


def header_only(path: Path) -> None:
    write(path, tone())
    path.write_bytes(path.read_bytes()[:30])


def silence(path: Path) -> None:
    write(path, np.zeros(8000, dtype=np.float32))


def stuck(path: Path) -> None:
    write(path, np.ones(8000, dtype=np.float32))


def not_numbers(path: Path) -> None:
    samples = tone()
    samples[17] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


DAMAGE = [
    *[(suffix, missing, "no such audio file") for suffix in ("sph", "wav")],
    ("wav", folder, "a folder stands"),
    *[(suffix, zero_bytes, "empty") for suffix in ("sph", "wav", "flac")],
    *[(suffix, no_samples, "no sample|not an audio|empty") for suffix in ("sph", "wav", "flac")],
    *[(suffix, text, "not an audio file") for suffix in ("sph", "wav", "flac")],
    *[(suffix, half, "truncated|decoded") for suffix in ("sph", "wav", "flac")],
    *[(suffix, last_byte_missing, "truncated") for suffix in ("sph", "wav")],
    *[(suffix, header_only, "truncated|not an audio") for suffix in ("sph", "wav", "flac")],
    *[(suffix, silence, "no signal") for suffix in ("sph", "wav", "flac")],
    ("wav", stuck, "no signal"),
    ("wav", not_numbers, "1 samples are NaN"),
]


@pytest.mark.parametrize("suffix, damage, what", DAMAGE, ids=[f"{d.__name__}-{s}" for s, d, _ in DAMAGE])
def test_damage_is_named(tmp_path, suffix, damage, what):
    path = tmp_path / f"a.{suffix}"
    damage(path)
    with pytest.raises(DataError, match=what) as caught:
        check(path)
    assert caught.value.file == str(path)
    assert caught.value.remedy


@pytest.mark.parametrize("suffix, damage, what", DAMAGE, ids=[f"{d.__name__}-{s}" for s, d, _ in DAMAGE])
def test_damage_after_the_cuts_were_made(tmp_path, suffix, damage, what):
    path = write(tmp_path / f"utt-1.{suffix}", tone())
    (cut,) = cuts_of(path)
    path.unlink()
    damage(path)
    with pytest.raises(DataError, match=what) as caught:
        load_samples(cut)
    assert caught.value.file == str(path) and caught.value.utterance == "utt-1"


@pytest.mark.parametrize("name", ["a.sph", "a.wav"])
def test_a_shorter_file_than_the_manifest_says(tmp_path, name):
    path = write(tmp_path / name, tone(0.5))
    (cut,) = cuts_of(path)
    write(path, tone(0.4))
    with pytest.raises(DataError, match="6400 samples where the manifest says 8000"):
        load_samples(cut)


def test_mixed_cuts_are_checked_track_by_track(tmp_path):
    speech, noise = [
        cuts_of(write(tmp_path / f"{name}.wav", tone(hertz=hertz)))[0]
        for name, hertz in (("speech", 440), ("noise", 1000))
    ]
    mixed = speech.mix(noise, snr=10)
    assert load_samples(mixed).shape == (8000,)
    (tmp_path / "noise.wav").unlink()
    with pytest.raises(DataError, match="no such audio file") as caught:
        load_samples(mixed)
    assert caught.value.file == str(tmp_path / "noise.wav")


def test_wav_from_a_pipe_is_not_called_truncated(tmp_path):
    """Programs that write to a pipe leave 0xFFFFFFFF as the length."""
    path = write(tmp_path / "a.wav", tone())
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    assert load_samples(path).shape == (8000,)


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", tone())

    def denied(*arguments, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        inspect(path)
