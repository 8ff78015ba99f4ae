"""Folders as disks have them: pipes, names that are no UTF-8, folders without permission, paths that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from test_audio import tone

from hybrid.corpus import Corpus, Reading, read_corpus
from hybrid.errors import DataError
from hybrid.io import write_jsonl


def put(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.wav", tone(), 16000)
    (folder / f"{name}.lab").write_text("go")
    return folder


def written(corpus: Corpus, tmp_path: Path) -> None:
    """Everything that is said of a corpus can be written as JSON."""
    write_jsonl(tmp_path / "cuts.jsonl.gz", [cut.to_dict() for cut in corpus.cuts])
    write_jsonl(tmp_path / "problems.jsonl", [row._asdict() for row in corpus.skipped])


@pytest.mark.timeout(30)
@pytest.mark.parametrize("ending", ["wav", "lab", "TextGrid", "ark"])
def test_a_pipe_is_not_waited_for(tmp_path, ending):
    folder = put(tmp_path / "c", "good")
    os.mkfifo(folder / f"pipe.{ending}")
    if ending != "wav":
        soundfile.write(folder / "pipe.wav", tone(), 16000)
    corpus = read_corpus(folder)
    assert [cut.id for cut in corpus.cuts] == ["good"]
    assert {row.utterance for row in corpus.skipped} == {"pipe"} and "no plain file" in corpus.skipped[0].reason


@pytest.mark.timeout(30)
def test_a_pipe_in_wav_scp(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    put(tmp_path, "good")
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/pipe\nb good.wav\nc {tmp_path}\n")
    (tmp_path / "text").write_text("a GO\nb GO\nc GO\n")
    corpus = read_corpus(tmp_path)
    assert [cut.id for cut in corpus.cuts] == ["b"]
    assert ["no plain file" in corpus.skipped[0].reason, "a folder" in corpus.skipped[1].reason] == [True, True]


def test_a_name_that_is_no_utf8(tmp_path):
    folder = put(tmp_path / "c", "good")
    soundfile.write(str(folder / "x.wav"), tone(), 16000)
    os.rename(os.fsencode(folder / "x.wav"), os.fsencode(folder) + b"/caf\xe9.wav")
    corpus = read_corpus(folder)
    assert [cut.id for cut in corpus.cuts] == ["good"]
    (row,) = corpus.skipped
    assert "caf" in row.utterance and "not UTF-8" in row.reason
    written(corpus, tmp_path)


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    folder = put(tmp_path / "c", "good")
    put(folder / "locked", "a")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    corpus = read_corpus(folder)
    assert [cut.id for cut in corpus.cuts] == ["good"]
    (row,) = corpus.skipped
    assert row.utterance == "locked" and "cannot be read: Permission denied" in row.reason


def test_links(tmp_path):
    """Of files to another disk, of folders in a circle, to nothing."""
    store = put(tmp_path / "store" / "zzz", "a")
    folder = tmp_path / "c" / "anna"
    folder.mkdir(parents=True)
    for name in ("a.wav", "a.lab"):
        (folder / name).symlink_to(store / name)
    (folder / "circle").symlink_to(tmp_path / "c")
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (folder / "gone.lab").write_text("go")
    corpus = read_corpus(tmp_path / "c")
    assert [(cut.id, cut.supervisions[0].speaker) for cut in corpus.cuts] == [("anna/a", "anna")]
    assert [(row.utterance, row.reason) for row in corpus.skipped] == [("anna/gone", "no such audio file")]


@pytest.mark.parametrize("path", ["a\0b.wav", "x" * 5000, "/", ".", "none/../none.wav", "~/a.wav"])
def test_paths_that_are_none(tmp_path, path):
    put(tmp_path, "good")
    (tmp_path / "wav.scp").write_text(f"a {path}\nb good.wav\n")
    (tmp_path / "text").write_text("a GO\nb GO\n")
    corpus = read_corpus(tmp_path)
    assert [cut.id for cut in corpus.cuts] == ["b"] and [row.utterance for row in corpus.skipped] == ["a"]
    written(corpus, tmp_path / "out")
    recording = Recording.from_file(tmp_path / "good.wav", recording_id="r")
    said = SupervisionSegment("u", "r", 0.0, 0.5, text="go")
    row = MonoCut("u", 0.0, 0.5, 0, [said], recording=recording).to_dict()
    row["recording"]["sources"][0]["source"] = path
    (tmp_path / "cuts.jsonl").write_text(json.dumps(row) + "\n")
    corpus = read_corpus(tmp_path / "cuts.jsonl")
    assert not corpus.cuts and [row.utterance for row in corpus.skipped] == ["u"]


@pytest.mark.parametrize("source", ["", "none", "x" * 5000, "a\0b", "/dev/null", "none.jsonl"])
def test_sources_that_are_none(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        read_corpus(source)
    assert caught.value.remedy and caught.value.file is not None


def test_blanks_in_ids_part_no_columns(tmp_path):
    soundfile.write(tmp_path / "a b.wav", tone(), 16000)
    recording = Recording.from_file(tmp_path / "a b.wav", recording_id="a b")
    said = SupervisionSegment("u 1", "a b", 0.0, 0.5, text="go", speaker="Anna B")
    CutSet.from_cuts([MonoCut("u 1", 0.0, 0.5, 0, [said], recording=recording)]).to_file(tmp_path / "cuts.jsonl")
    (cut,) = read_corpus(tmp_path / "cuts.jsonl").cuts
    assert (cut.id, cut.recording_id, cut.supervisions[0].recording_id) == ("u_1", "a_b", "a_b")
    recordings = CutSet.from_file(tmp_path / "cuts.jsonl").decompose()[0]
    recordings.to_file(tmp_path / "recordings.jsonl")
    assert [cut.id for cut in read_corpus(tmp_path / "recordings.jsonl", Reading(transcripts=False)).cuts] == ["a_b"]


def test_an_empty_folder_and_one_of_other_things(tmp_path):
    for _ in range(2):
        with pytest.raises(DataError, match="no utterance in the corpus"):
            read_corpus(tmp_path)
        (tmp_path / "README.txt").write_text("no audio here")
        (tmp_path / "x.csv").write_text("a,b")
