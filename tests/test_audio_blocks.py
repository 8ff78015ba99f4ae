"""Audio block by block: the samples of the whole, whatever the rate and the part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, Recording

from hybrid.data.audio import load_samples
from hybrid.data.audio_blocks import read_blocks
from hybrid.errors import DataError


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (24000, 2))
    soundfile.write(tmp_path / "a.flac", samples, 8000)
    return tmp_path / "a.flac"


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("seconds", [0.1, 0.73, 60.0])
def test_files_and_parts_of_them(stereo: Path, rate: int, seconds: float) -> None:
    def blocks(source, **options) -> np.ndarray:
        return np.concatenate(list(read_blocks(source, rate, seconds=seconds, **options)))

    np.testing.assert_allclose(blocks(stereo), load_samples(stereo, rate), atol=1e-6)
    np.testing.assert_allclose(blocks(stereo, channel=1), load_samples(stereo, rate, channel=1), atol=1e-6)
    recording = Recording.from_file(stereo)
    part = MonoCut("part", 0.5, 1.3, 1, recording=recording)
    inner = slice(200, -200) if rate != 8000 else slice(None)  # at its edges a part alone hears no neighbours
    np.testing.assert_allclose(blocks(part)[inner], load_samples(part, rate)[inner], atol=1e-6)
    fast = part.perturb_speed(1.1)
    assert np.array_equal(blocks(fast), load_samples(fast, rate))


def test_what_cannot_be_read(tmp_path: Path, stereo: Path) -> None:
    cases = {
        "no such audio file": lambda: tmp_path / "none.wav",
        "every sample has the same value": lambda: _wav(tmp_path, np.zeros(9000)),
        "NaN or infinite": lambda: _wav(tmp_path, np.array([0.1, np.nan, 0.3])),
        "truncated": lambda: _cut_off(stereo, tmp_path),
    }
    for message, make in cases.items():
        with pytest.raises(DataError, match=message):
            for _ in read_blocks(make(), 8000, seconds=0.5):
                pass
    with pytest.raises(DataError, match="no channel 2"):
        list(read_blocks(stereo, 8000, channel=2))


def _wav(folder: Path, samples: np.ndarray) -> Path:
    soundfile.write(folder / "b.wav", samples, 8000, subtype="FLOAT")
    return folder / "b.wav"


def _cut_off(whole: Path, folder: Path) -> Path:
    samples, _ = soundfile.read(whole)
    soundfile.write(folder / "c.wav", samples, 8000)
    (folder / "c.wav").write_bytes((folder / "c.wav").read_bytes()[:-20000])
    return folder / "c.wav"
