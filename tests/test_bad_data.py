"""Bad corpora: each kind of damage is named with its file and utterance, and the rest of the corpus is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_an4_prepare import make_an4
from test_audio import tone, write_sphere

from hybrid.errors import DataError
from hybrid.io import Problems
from hybrid.recipes.an4.prepare import prepare_an4

VICTIM = "an1-fash-b"


@pytest.fixture
def an4(tmp_path) -> Path:
    return make_an4(tmp_path / "an4")


def audio(root: Path, name: str = VICTIM) -> Path:
    return root / "wav" / "an4_clstk" / name.split("-")[1] / f"{name}.sph"


def transcription(root: Path) -> Path:
    return root / "etc" / "an4_train.transcription"


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


# ------------------------------------------------------------------ one utterance of the corpus


def truncated(root: Path) -> None:
    path = audio(root)
    path.write_bytes(path.read_bytes()[:-2000])


def not_audio(root: Path) -> None:
    audio(root).write_text("this is a letter\n" * 50)


def zero_bytes(root: Path) -> None:
    audio(root).write_bytes(b"")


def zero_length(root: Path) -> None:
    write_sphere(audio(root), np.zeros(0))


def silent(root: Path) -> None:
    write_sphere(audio(root), np.zeros(8000))


def too_short(root: Path) -> None:
    write_sphere(audio(root), tone(0.04))


def no_audio(root: Path) -> None:
    audio(root).unlink()


def no_transcript(root: Path) -> None:
    edit(transcription(root), b"GO (an1-fash-b)\n", b"")


def neither(root: Path) -> None:
    no_audio(root)
    no_transcript(root)


def empty_transcript(root: Path) -> None:
    edit(transcription(root), b"GO (an1-fash-b)", b"(an1-fash-b)")


def only_sentence_marks(root: Path) -> None:
    edit(transcription(root), b"GO (an1-fash-b)", b"<s> </s> (an1-fash-b)")


def two_transcripts(root: Path) -> None:
    edit(transcription(root), b"GO (an1-fash-b)", b"GO (an1-fash-b)\nSTOP (an1-fash-b)")


def two_files(root: Path) -> None:
    shutil.copy(audio(root), root / "wav" / "an4_clstk" / "mcen")


def not_utf8(root: Path) -> None:
    edit(transcription(root), b"GO (an1-fash-b)", b"CAF\xc9 (an1-fash-b)")


LOSSES = [
    (truncated, "the audio file is truncated: its header promises 17024 bytes and 15024 are there", True),
    (not_audio, "not an audio file", True),
    (zero_bytes, "the audio file is empty", True),
    (zero_length, "no sample", True),
    (silent, "no signal", True),
    (too_short, "lasts 0.040 s, less than 0.05 s", True),
    (no_audio, "transcript without audio", False),
    (no_transcript, "audio without transcript", True),
    (neither, "neither audio nor transcript", False),
    (empty_transcript, "the transcript is empty", True),
    (only_sentence_marks, "the transcript is empty", True),
    (two_transcripts, "the id is given 2 times", False),
    (two_files, "the id is given 2 times", False),
    (not_utf8, "line 2 of an4_train.transcription is not UTF-8 (byte 0xc9)", True),
]


@pytest.mark.parametrize("damage, reason, names_file", LOSSES, ids=[row[0].__name__ for row in LOSSES])
def test_one_bad_utterance(an4, tmp_path, damage, reason, names_file):
    damage(an4)
    problems = Problems(tmp_path / "problems.jsonl", "prepare")
    sets = prepare_an4(an4, problems, num_dev_speakers=1)
    assert len(problems.rows) == 1
    row = problems.rows[0]
    assert row["stage"] == "prepare" and row["utterance"] == VICTIM and reason in row["reason"]
    assert row["file"] == (str(audio(an4)) if names_file else None)
    used = [cut.id for cuts in sets.values() for cut in cuts]
    assert len(used) == 7 and VICTIM not in used

    total = len(used) + len(problems.rows)
    assert problems.close(total, limit=0.2) == (1, 8)
    assert json.loads(problems.path.read_text()) == row
    with pytest.raises(DataError, match="1 of 8 utterances cannot be used.*limits.problems") as caught:
        problems.close(total, limit=0.1)
    assert VICTIM in str(caught.value) and caught.value.file == str(problems.path)

    with pytest.raises(DataError) as strict:
        prepare_an4(an4, num_dev_speakers=1)
    assert reason in str(strict.value) and strict.value.utterance == VICTIM


def test_other_rates_are_used_and_said(an4, tmp_path):
    write_sphere(audio(an4), tone(0.5, rate=8000), rate=8000)
    said: list[str] = []
    problems = Problems(tmp_path / "problems.jsonl", "prepare")
    sets = prepare_an4(an4, problems, num_dev_speakers=1, log=said.append)
    assert problems.rows == []
    assert f"1 recordings at 8000 Hz are resampled to 16000 Hz (the first: {audio(an4)})" in said
    cut = next(cut for cuts in sets.values() for cut in cuts if cut.id == VICTIM)
    assert cut.sampling_rate == 16000 and cut.num_samples == 8000 and cut.load_audio().shape == (1, 8000)


# ------------------------------------------------------------------ the whole corpus


def absent(root: Path) -> None:
    shutil.rmtree(root)


def empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def a_file(root: Path) -> None:
    shutil.rmtree(root)
    root.write_text("")


def other_things(root: Path) -> None:
    shutil.rmtree(root / "wav")


def no_recordings(root: Path) -> None:
    shutil.rmtree(root / "wav" / "an4_clstk")


def no_transcription(root: Path) -> None:
    transcription(root).unlink()


def line_without_id(root: Path) -> None:
    edit(transcription(root), b"GO (an1-fash-b)", b"GO an1-fash-b")


def utf16(root: Path) -> None:
    path = transcription(root)
    path.write_bytes(path.read_text().encode("utf-16"))


def every_file_bad(root: Path) -> None:
    for path in (root / "wav" / "an4_clstk").rglob("*.sph"):
        path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage, what, says_where",
    [
        (absent, "does not exist", True),
        (empty, "is empty", True),
        (a_file, "is a file", True),
        (other_things, "holds no AN4", True),
        (no_recordings, "no audio at all", True),
        (no_transcription, "no such file", False),
        (line_without_id, "line 2 is not", False),
        (utf16, "line 1 of an4_train.transcription is not UTF-8", False),
        (every_file_bad, "not one of the 6 train utterances can be used.*empty", False),
    ],
)
def test_bad_corpus(an4, tmp_path, damage, what, says_where):
    damage(an4)
    with pytest.raises(DataError, match=what) as caught:
        prepare_an4(an4, Problems(tmp_path / "problems.jsonl", "prepare"), num_dev_speakers=1)
    if says_where:
        assert "http://www.speech.cs.cmu.edu/databases/an4/" in str(caught.value)
        assert "python -m hybrid.recipes.an4.download DIR" in str(caught.value)
