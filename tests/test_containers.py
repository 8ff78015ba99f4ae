"""Audio containers: all that libsndfile reads are read, truncated ones named, those from pipes read to their end."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_audio import tone

from hybrid.corpus import Reading, read_corpus
from hybrid.corpus import convert as converting
from hybrid.data.audio import inspect, load_samples
from hybrid.data.containers import FOREIGN, READABLE, foreign_name, is_placeholder, looks_like_audio
from hybrid.errors import DataError

RATE = 16000
# ending, libsndfile's format, subtype, whether its header promises a size
FORMATS = [
    ("wav", "WAV", "PCM_16", True),
    ("wav", "WAV", "PCM_24", True),
    ("wav", "WAV", "FLOAT", True),
    ("wav", "WAVEX", "PCM_16", True),
    ("wav", "WAV", "ULAW", True),
    ("rf64", "RF64", "PCM_16", True),
    ("w64", "W64", "PCM_16", True),
    ("w64", "W64", "PCM_24", True),
    ("au", "AU", "PCM_16", True),
    ("snd", "AU", "FLOAT", True),
    ("aiff", "AIFF", "PCM_16", True),
    ("aif", "AIFF", "PCM_24", True),
    ("caf", "CAF", "PCM_16", True),
    ("caf", "CAF", "PCM_24", True),
    ("sph", "NIST", "PCM_16", True),
    ("flac", "FLAC", "PCM_16", False),
    ("ogg", "OGG", "VORBIS", False),
    ("opus", "OGG", "OPUS", False),
    ("mp3", "MP3", "MPEG_LAYER_III", False),
]
IDS = [f"{ending}-{subtype}-{form}" for ending, form, subtype, _ in FORMATS]


def put(path: Path, samples: np.ndarray, form: str, subtype: str) -> Path:
    soundfile.write(path, samples, RATE, format=form, subtype=subtype)
    return path


@pytest.mark.parametrize("ending, form, subtype, sized", FORMATS, ids=IDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_container_is_read_from_a_folder(tmp_path, ending, form, subtype, sized, channels):
    samples = np.stack([tone(0.5), tone(0.5, hertz=880)][:channels], axis=1)
    path = put(tmp_path / f"a.{ending}", samples, form, subtype)
    (tmp_path / "a.lab").write_text("go")
    assert path.suffix in READABLE and looks_like_audio(path)
    corpus = read_corpus(tmp_path, Reading(decode=True))
    assert not corpus.skipped
    (cut,) = corpus.cuts
    got = load_samples(cut)
    assert cut.duration == len(got) / RATE and abs(cut.duration - 0.5) < 0.1  # MP3 has a lead-in
    if sized or form == "FLAC":
        np.testing.assert_allclose(got, tone(0.5), atol=0.02)
        np.testing.assert_array_equal(got, cut.load_audio()[0])  # lhotse alone


@pytest.mark.parametrize("ending, form, subtype", [row[:3] for row in FORMATS if row[3]])
@pytest.mark.parametrize("lost", [1, 2000])
def test_truncation_is_named(tmp_path, ending, form, subtype, lost):
    path = put(tmp_path / f"a.{ending}", tone(0.5), form, subtype)
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataError, match="truncated") as caught:
        inspect(path)
    assert caught.value.file == str(path)


def with_size(path: Path, size: int) -> None:
    """Puts a size into the header of a WAV or AU where the size of its samples stands."""
    data = bytearray(path.read_bytes())
    if data[:4] == b".snd":
        data[8:12] = struct.pack(">I", size)
    elif data[:4] == b"FORM":
        place = data.index(b"SSND") + 4
        data[place : place + 4] = struct.pack(">I", size)
    else:
        place = data.index(b"data") + 4
        data[place : place + 4] = struct.pack("<I", size)
        data[4:8] = struct.pack("<I", (size + place) & 0xFFFFFFFF if size else 8)  # 8: never closed
    path.write_bytes(data)


SOX = [
    ("PCM_16", 1, 0x7FFFF000), ("PCM_16", 2, 0x7FFFF000), ("PCM_24", 1, 0x7FFFF000 // 3 * 3), ("FLOAT", 1, 0x7FFFF000),
    ("PCM_16", 1, 0x7FFFFFFF), ("PCM_16", 1, 0x80000000), ("PCM_16", 1, 0x7FFFFFFF - 36), ("PCM_16", 1, 0xFFFFFFFF),
    ("PCM_16", 1, 0xFFFFFFFF - 36), ("PCM_16", 1, 0),
]  # fmt: skip


@pytest.mark.parametrize("subtype, channels, size", SOX)
def test_wav_from_a_pipe_is_read_to_its_end(tmp_path, subtype, channels, size):
    samples = np.stack([tone(0.5)] * channels, axis=1)
    put(tmp_path / "a.wav", samples, "WAV", subtype)
    with_size(tmp_path / "a.wav", size)
    (tmp_path / "a.lab").write_text("go")
    corpus = read_corpus(tmp_path, Reading(decode=True))
    assert not corpus.skipped
    np.testing.assert_allclose(load_samples(corpus.cuts[0]), tone(0.5), atol=1e-4)
    np.testing.assert_allclose(corpus.cuts[0].load_audio()[0], tone(0.5), atol=1e-4)


@pytest.mark.parametrize("size", [16002, 100_000, 0x10000000, 0x7FFE0000, 0x7E000000, 0xFFFE0000, 0x90000000])
def test_a_size_that_can_be_meant_is_believed(tmp_path, size):
    put(tmp_path / "a.wav", tone(0.5), "WAV", "PCM_16")
    with_size(tmp_path / "a.wav", size)
    with pytest.raises(DataError, match=f"promises {size + 44} bytes and 16044 are there"):
        inspect(tmp_path / "a.wav")


@pytest.mark.parametrize("ending, form, size", [("au", "AU", 0xFFFFFFFF), ("aiff", "AIFF", 0x7F000008)])
def test_other_headers_from_a_pipe(tmp_path, ending, form, size):
    assert is_placeholder(size)
    path = put(tmp_path / f"a.{ending}", tone(0.5), form, "PCM_16")
    with_size(path, size)
    assert len(load_samples(path)) == 8000


# ------------------------------------------------------------------ what libsndfile does not read

HEADS = {
    ".m4a": b"\0\0\0\x20ftypM4A \0\0\0\0", ".mp4": b"\0\0\0\x20ftypisom\0\0\0\0", ".3gp": b"\0\0\0\x18ftyp3gp4",
    ".webm": b"\x1aE\xdf\xa3\x9fB\x86\x81", ".mkv": b"\x1aE\xdf\xa3\x93B\x82\x88", ".amr": b"#!AMR\n\x3c",
    ".awb": b"#!AMR-WB\n", ".wma": b"0&\xb2u\x8ef\xcf\x11\xa6\xd9", ".aac": b"\xff\xf1\x50\x80", ".wv": b"wvpk\0\0",
    ".ape": b"MAC \x96\x0f", ".shn": b"ajkg\x02", ".tta": b"TTA1\1\0", ".ra": b".ra\xfd\0\4", ".rm": b".RMF\0\0",
    ".avi": b"RIFF\0\0\0\0AVI LIST", ".flv": b"FLV\x01\5", ".ac3": b"\x0bw\x51\x9d", ".dss": b"\x02dss\1",
}  # fmt: skip


@pytest.mark.parametrize("ending", HEADS)
def test_others_are_named_for_what_they_are(tmp_path, ending):
    """By their content, whatever they are called."""
    assert ending in FOREIGN
    for name in (f"a{ending}", "b.wav", "c"):
        path = tmp_path / name
        path.write_bytes(HEADS[ending] + bytes(range(256)) * 20)
        path.with_suffix(".lab").write_text("go")
    corpus = read_corpus(tmp_path)
    assert not corpus.cuts and sorted(row.utterance for row in corpus.skipped) == ["a", "b", "c"]
    for row in corpus.skipped:
        kind = foreign_name(HEADS[ending])
        assert row.reason == (f"{ending[1:]} is not read ({kind})" if row.utterance == "a" else f"{kind} is not read")
        assert row.remedy.startswith("convert it: ffmpeg")
        assert row.utterance == Path(row.file).stem


@pytest.mark.parametrize(
    "head, what",
    [
        (b"\x1f\x8b\x08\0\0", "a gzip archive"),
        (b"PK\x03\x04\x14", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"<html>", "not an audio file that libsndfile can read"),
    ],
)
def test_what_is_no_audio(tmp_path, head, what):
    (tmp_path / "a.wav").write_bytes(head * 20)
    with pytest.raises(DataError, match=what):
        inspect(tmp_path / "a.wav")


def test_audio_without_an_ending_is_known_by_its_content(tmp_path):
    for name in ("a", "b.audio"):
        soundfile.write(tmp_path / name, tone(), RATE, format="WAV")
        (tmp_path / f"{name[0]}.lab").write_text("go")
    (tmp_path / "c.md").write_text("# notes")
    (tmp_path / "c.lab").write_text("go")
    corpus = read_corpus(tmp_path)
    assert [cut.id for cut in corpus.cuts] == ["a", "b"]
    assert [(row.utterance, row.reason) for row in corpus.skipped] == [("c", "transcript without audio")]


# ------------------------------------------------------------------ ffmpeg


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch) -> Path:
    """A program in place of ffmpeg: it writes half a second of a tone as FLAC and counts its calls."""
    soundfile.write(tmp_path / "tone.flac", tone(), RATE)
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nfor last; do :; done\necho "$*" >> {tmp_path}/calls\n'
        f'case "$*" in */bad.webm*) echo "moov atom not found" >&2; exit 1;; esac\ncp {tmp_path}/tone.flac "$last"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "calls"


def test_ffmpeg_converts_once(tmp_path, ffmpeg):
    folder, cache = tmp_path / "corpus", tmp_path / "cache"
    folder.mkdir()
    for name in ("a.m4a", "bad.webm"):
        (folder / name).write_bytes(HEADS[f".{name.split('.')[1]}"] * 9)
        (folder / name).with_suffix(".lab").write_text("go")
    for _ in range(2):
        corpus = read_corpus(folder, Reading(cache=cache, decode=True))
        assert [cut.id for cut in corpus.cuts] == ["a"]
        np.testing.assert_allclose(load_samples(corpus.cuts[0]), tone(), atol=1e-4)
        (row,) = corpus.skipped
        assert row.utterance == "bad" and "WebM or Matroska that ffmpeg cannot decode: moov atom" in row.reason
    calls = ffmpeg.read_text().splitlines()
    assert sum("a.m4a" in line for line in calls) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["a.lab", "a.m4a", "bad.lab", "bad.webm"]
    assert [path.suffix for path in (cache / "converted").iterdir()] == [".flac"]
    (folder / "a.m4a").write_bytes(HEADS[".m4a"] * 10)  # another file since
    read_corpus(folder, Reading(cache=cache))
    assert sum("a.m4a" in line for line in ffmpeg.read_text().splitlines()) == 2


def test_without_a_cache_or_ffmpeg_nothing_is_converted(tmp_path, ffmpeg, monkeypatch):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.m4a").write_bytes(HEADS[".m4a"] * 9)
    (folder / "a.lab").write_text("go")
    assert "is not read" in read_corpus(folder).skipped[0].reason
    monkeypatch.setattr(converting, "PROGRAM", "no-such-ffmpeg")
    assert "is not read" in read_corpus(folder, Reading(cache=tmp_path / "cache")).skipped[0].reason
    assert not ffmpeg.exists()
