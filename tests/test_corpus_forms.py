"""One corpus as a Kaldi folder, as Lhotse's manifests of each kind and as a folder of audio: the same cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from test_audio import tone

from hybrid.corpus import Corpus, Reading, hold_out, read_corpus
from hybrid.data.audio import load_samples

# id, speaker, gender, text, seconds, rate
ROWS = [
    ("zoe-2", "zoe", "f", "GO ON", 0.5, 16000),
    ("anna-1", "anna", "f", "STOP\u2028NOW", 0.7123, 16000),
    ("bo-7", "bo", "m", "THREE\u00a0FOUR", 1.0, 44100),
    ("anna-2", "anna", "f", "YES", 0.33333, 44100),
    ("bo-8", "bo", "m", "SÍ", 0.6, 8000),
    ("carl-1", "carl", "m", "NO", 0.4, 8000),
]
Row = Tuple[str, float, float, int, str, str]


def rows(corpus: Corpus) -> List[Row]:
    assert not corpus.skipped
    return [
        (cut.id, cut.start, cut.duration, cut.channel, cut.supervisions[0].speaker, cut.supervisions[0].text)
        for cut in corpus.cuts
    ]


@pytest.fixture
def audio(tmp_path) -> Path:
    folder = tmp_path / "audio"
    folder.mkdir()
    for number, (name, _, _, _, seconds, rate) in enumerate(ROWS):
        soundfile.write(folder / f"{name}.wav", tone(seconds, rate, 300 + 40 * number), rate)
    return folder


def as_kaldi(audio: Path, out: Path) -> Path:
    out.mkdir()
    tables: Dict[str, List[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    for name, speaker, _, text, _, _ in ROWS:
        tables["wav.scp"].append(f"{name} {audio}/{name}.wav\n")
        tables["text"].append(f"{name} {text}\n")
        tables["utt2spk"].append(f"{name} {speaker}\n")
    tables["spk2gender"] = [f"{speaker} {gender}\n" for speaker, gender in {(row[1], row[2]) for row in ROWS}]
    for name, lines in tables.items():
        (out / name).write_text("".join(lines), encoding="utf-8", newline="")
    return out


def as_segments(audio: Path, out: Path) -> Path:
    """The same with segments, whose ends are rounded as programs do."""
    as_kaldi(audio, out)
    lines = []
    scp = []
    for name, _, _, _, _, _ in ROWS:
        seconds = soundfile.info(audio / f"{name}.wav").duration
        scp.append(f"rec-{name} {audio}/{name}.wav\n")
        lines.append(f"{name} rec-{name} 0.00 {seconds + 0.004:.2f}\n")
    (out / "segments").write_text("".join(lines))
    (out / "wav.scp").write_text("".join(scp))
    return out


def lhotse_items(audio: Path) -> Tuple[List[Recording], List[SupervisionSegment]]:
    words = {"f": "Female", "m": "male"}
    recordings = [Recording.from_file(audio / f"{row[0]}.wav", recording_id=row[0]) for row in ROWS]
    return recordings, [
        SupervisionSegment(name, name, 0.0, recording.duration, 0, text, speaker=speaker, gender=words[gender])
        for recording, (name, speaker, gender, text, _, _) in zip(recordings, ROWS, strict=True)
    ]


def as_recordings(audio: Path, out: Path) -> Path:
    out.mkdir()
    recordings, supervisions = lhotse_items(audio)
    RecordingSet.from_recordings(recordings).to_file(out / "x_recordings_all.jsonl.gz")
    SupervisionSet.from_segments(supervisions).to_file(out / "x_supervisions_all.jsonl.gz")
    return out


def as_supervisions(audio: Path, out: Path) -> Path:
    return as_recordings(audio, out) / "x_supervisions_all.jsonl.gz"


def as_one_of_two(audio: Path, out: Path) -> Path:
    return as_recordings(audio, out) / "x_recordings_all.jsonl.gz"


def the_cuts(audio: Path) -> List[MonoCut]:
    recordings, supervisions = lhotse_items(audio)
    return [
        MonoCut(one.id, 0.0, recording.duration, 0, [one], recording=recording)
        for recording, one in zip(recordings, supervisions, strict=True)
    ]


def as_cuts(audio: Path, out: Path) -> Path:
    out.mkdir()
    CutSet.from_cuts(the_cuts(audio)).to_file(out / "cuts.jsonl")
    return out / "cuts.jsonl"


def as_shar(audio: Path, out: Path) -> Path:
    out.mkdir()
    CutSet.from_cuts(the_cuts(audio)).to_shar(out, fields={"recording": "wav"}, shard_size=4)
    return out


def as_folder(audio: Path, out: Path) -> Path:
    for name, _, _, text, _, _ in ROWS:
        (audio / f"{name}.lab").write_text(text + "\n", encoding="utf-8", newline="")
    return audio


FORMS: List[Any] = [
    as_kaldi, as_segments, as_recordings, as_supervisions, as_one_of_two, as_cuts, as_shar, as_folder,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_cuts_are_the_same_in_every_form(audio, tmp_path, form):
    reading = Reading(speaker=r"^(\w+)-", decode=True)
    corpus = read_corpus(form(audio, tmp_path / "made"), reading)
    assert rows(corpus) == [
        (name, 0.0, soundfile.info(audio / f"{name}.wav").duration, 0, speaker, " ".join(text.split()))
        for name, speaker, _, text, _, _ in sorted(ROWS)
    ]
    for cut in corpus.cuts:
        expected, rate = soundfile.read(audio / f"{cut.id}.wav", dtype="float32")
        np.testing.assert_array_equal(load_samples(cut, rate), expected)
        assert Path(cut.recording.sources[0].source).is_absolute()
    if form is not as_folder:
        assert [cut.supervisions[0].gender for cut in corpus.cuts] == [row[2] for row in sorted(ROWS)]
        held = hold_out(corpus.cuts, 2, 1)[1]
        assert {cut.supervisions[0].gender for cut in held} == {"f", "m"}
    assert corpus.total == len(ROWS) and not corpus.notes


@pytest.mark.parametrize("form", FORMS)
def test_untranscribed_the_transcripts_are_not_looked_at(audio, tmp_path, form):
    """Even where they are broken or missing."""
    place = form(audio, tmp_path / "made")
    (tmp_path / "made").mkdir(exist_ok=True)
    if form in (as_kaldi, as_segments):
        (place / "text").write_bytes(b"\xff\xfe broken\nzoe-2\n")
    if form is as_folder:
        (audio / "zoe-2.lab").write_bytes(b"\xff\xff")
        (audio / "bo-7.lab").unlink()
        (audio / "bo-8.TextGrid").write_text("no TextGrid")
        (audio / "bo-8.lab").unlink()
    corpus = read_corpus(place, Reading(speaker=r"^(\w+)-", transcripts=False))
    assert [(row[0], row[4], row[5]) for row in rows(corpus)] == [(row[0], row[1], None) for row in sorted(ROWS)]


@pytest.mark.parametrize("form", FORMS)
def test_relative_paths_are_from_here_or_from_beside(audio, tmp_path, form, monkeypatch):
    place = form(audio, tmp_path / "made")
    monkeypatch.chdir(tmp_path)
    expected = rows(read_corpus(place, Reading(speaker=3)))
    for file in [place] if place.is_file() else [*place.iterdir()]:
        if file.name in ("wav.scp", "cuts.jsonl"):
            file.write_text(file.read_text().replace(f"{audio}/", "../audio/"))
    assert rows(read_corpus(place.relative_to(tmp_path), Reading(speaker=3))) == expected  # from beside
    for file in [place] if place.is_file() else [*place.iterdir()]:
        if file.name in ("wav.scp", "cuts.jsonl"):
            file.write_text(file.read_text().replace("../audio/", "audio/"))
    corpus = read_corpus(place.relative_to(tmp_path), Reading(speaker=3))  # from here
    monkeypatch.chdir("/")
    assert rows(corpus) == expected and len(load_samples(corpus.cuts[0])) > 0  # and then from anywhere


def test_real_an4_as_kaldi_and_as_lhotse(shared_data, tmp_path):
    """The recipe's cuts in both forms, but for their order, and the recipe's choice of dev."""
    from hybrid.recipes.an4.prepare import prepare_an4

    sets = prepare_an4(shared_data)
    cuts = [*sets["train"], *sets["dev"]]
    kaldi = tmp_path / "kaldi"
    kaldi.mkdir()
    said = {cut.id: cut.supervisions[0] for cut in cuts}
    for name, line in (
        ("wav.scp", lambda cut: f"{cut.id} {cut.recording.sources[0].source}\n"),
        ("text", lambda cut: f"{cut.id} {said[cut.id].text}\n"),
        ("utt2spk", lambda cut: f"{cut.id} {said[cut.id].speaker}\n"),
    ):
        (kaldi / name).write_text("".join(map(line, cuts)))
    speakers = {one.speaker for one in said.values()}
    (kaldi / "spk2gender").write_text("".join(f"{name} {name[0]}\n" for name in speakers))
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    for place in (kaldi, tmp_path / "cuts.jsonl.gz"):
        assert read_corpus(place).cuts == sorted(cuts, key=lambda cut: cut.id)
    held = hold_out(read_corpus(kaldi).cuts, 8, 0)[1]
    assert {cut.id for cut in held} == {cut.id for cut in sets["dev"]}
