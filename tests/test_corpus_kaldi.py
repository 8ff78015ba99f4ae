"""Kaldi data folders as people have them: odd blanks, segments of all kinds, archives, genders, durations."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
import soundfile
from test_audio import tone

from hybrid.corpus import Corpus, Reading, read_corpus
from hybrid.data.audio import load_samples
from hybrid.errors import DataError

RATE = 16000


@pytest.fixture
def audio(tmp_path) -> Path:
    """rec one.wav of 10.2 s, plain.wav of 3.3 s, call.wav of 2 s on two channels."""
    folder = tmp_path / "audio"
    folder.mkdir()
    soundfile.write(folder / "rec one.wav", tone(10.2), RATE)
    soundfile.write(folder / "plain.wav", tone(3.3), RATE)
    both = np.stack([tone(2.0, hertz=300), tone(2.0, hertz=900)], axis=1)
    soundfile.write(folder / "call.wav", both, RATE)
    return folder


def put(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8", newline="")
    return folder


def reasons(corpus: Corpus) -> Dict[str, str]:
    assert all(row.remedy for row in corpus.skipped)
    return {row.utterance: row.reason for row in corpus.skipped}


def times(corpus: Corpus) -> Dict[str, tuple]:
    return {cut.id: (cut.start, cut.duration) for cut in corpus.cuts}


SEGMENTS = {
    "a": ("rec1 0.0 4.0", (0.0, 4.0)),
    "b-to-end": ("rec1 7.3 -1", (7.3, 2.9)),
    "c-neg": ("rec1 -0.02 4.0", (0.0, 4.0)),
    "c-far": ("rec1 -1.5 4.0", "lie outside"),
    "d-zero": ("rec1 1.0 1.0", "lasts 0.000 s"),
    "e-reversed": ("rec1 3.0 2.0", "before it starts"),
    "f-over5ms": ("rec1 7.3 10.205", (7.3, 2.9)),
    "g-over500ms": ("rec1 7.3 10.7", "lie outside"),
    "h-overlap": ("rec1 2.0 7.3", (2.0, 5.3)),
    "i-norec": ("recX 0 1", "recX is not in wav.scp"),
    "k-inf": ("rec1 0 inf", "inf is no time"),
    "k-nan": ("rec1 nan 4", "nan is no time"),
    "n-channel": ("rec1 4.0 7.3 0", (4.0, 3.3)),
    "n-any": ("rec1 4.0 7.3 -1", (4.0, 3.3)),
    "n-none": ("rec1 4.0 7.3 1", "no channel 1: the audio has 0"),
    "n-letter": ("rec1 4.0 7.3 A", "line 16 is not `utterance recording start end"),
    "n-six": ("rec1 4.0 7.3 0 0", "6 columns"),
    "o-comma": ("rec1 4,0 7,3", "could not convert string to float: '4,0'"),
    "p-rec2": ("rec2 0 3.3", (0.0, 3.3)),
    "q-rec3": ("rec3 0.0 3.3", (0.0, 3.3)),
    "r-short": ("rec1 4.0 4.03", "less than 0.05 s"),
}


def test_segments_of_all_kinds(tmp_path, audio):
    """CRLF, a byte-order mark, a tab, blanks in a path, a path from beside the folder."""
    lines = [f"{name} {text}\r\n" for name, (text, _) in SEGMENTS.items()]
    folder = put(
        tmp_path,
        wav_scp=f"rec1 {audio}/rec one.wav\r\nrec2\t{audio}/plain.wav\r\nrec3   ../audio/plain.wav\r\n",
        segments="".join(lines),
        text="\ufeff" + "".join(f"{name} GO ON\r\n" for name in [*SEGMENTS, "t-notext"]),
        utt2spk="".join(f"{name} spk\r\n" for name in SEGMENTS),
    )
    corpus = read_corpus(folder)
    assert times(corpus) == {name: want for name, (_, want) in SEGMENTS.items() if isinstance(want, tuple)}
    bad = {name: want for name, (_, want) in SEGMENTS.items() if isinstance(want, str)}
    bad["t-notext"] = "not in segments"
    got = reasons(corpus)
    assert set(got) == set(bad)
    for name, want in bad.items():
        assert want in got[name], name
    assert {cut.supervisions[0].speaker for cut in corpus.cuts} == {"spk"} and not corpus.notes
    assert corpus.total == len(SEGMENTS) + 1


@pytest.mark.parametrize("second", ["rec1 4.0 7.3", "rec1 0.0 4.0", "rec1 x y", "rec2 0 1"])
def test_an_id_twice_in_segments_is_named(tmp_path, audio, second):
    folder = put(
        tmp_path,
        wav_scp=f"rec1 {audio}/rec one.wav\nrec2 {audio}/plain.wav\n",
        segments=f"dup rec1 0.0 4.0\nok rec1 4 5\nother rec2 0 1\ndup {second}\n",
        text="dup GO\nok GO\nother GO\n",
    )
    corpus = read_corpus(folder)
    assert set(times(corpus)) == {"ok", "other"} and set(reasons(corpus)) == {"dup"}
    assert "2 times in segments (lines 1, 4)" in [row.reason for row in corpus.skipped][-1]


@pytest.mark.parametrize("name", ["text", "utt2spk"])
def test_an_id_twice_in_other_tables_is_named(tmp_path, audio, name):
    tables = {"text": "a GO\nb GO\n", "utt2spk": "a s\nb s\n"}
    tables[name] += "a STOP\n"
    folder = put(tmp_path, wav_scp=f"a {audio}/plain.wav\nb {audio}/rec one.wav\n", **tables)
    corpus = read_corpus(folder)
    assert set(times(corpus)) == {"b"} and f"twice in {name} (line 3)" in reasons(corpus)["a"]


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", " \u2003 ", "\u2028", "\t", "\x1c"])
@pytest.mark.parametrize("name", ["wav_scp", "text", "segments", "utt2spk", "spk2gender", "reco2dur"])
def test_a_blank_line_is_blank(tmp_path, audio, blank, name):
    tables = {
        "wav_scp": f"r {audio}/plain.wav\n",
        "text": "u GO\n",
        "segments": "u r 0 3.3\n",
        "utt2spk": "u s\n",
        "spk2gender": "s f\n",
        "reco2dur": "r 3.3\n",
    }
    tables[name] = f"{blank}\n{tables[name]}{blank}\n\n"
    corpus = read_corpus(put(tmp_path, **tables))
    (cut,) = corpus.cuts
    said = cut.supervisions[0]
    assert (cut.id, cut.duration, said.text, said.speaker, said.gender) == ("u", 3.3, "GO", "s", "f")
    assert not corpus.skipped and not corpus.notes


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\t", "  "])
def test_blanks_between_columns(tmp_path, audio, blank):
    folder = put(
        tmp_path,
        wav_scp=f"u{blank}{audio}/rec one.wav\n",
        text=f"u{blank}GO{blank}ON{blank}\n",
        utt2spk=f"u{blank}s\n",
    )
    (cut,) = read_corpus(folder).cuts
    assert (cut.duration, cut.supervisions[0].text, cut.supervisions[0].speaker) == (10.2, "GO ON", "s")


def test_audio_in_an_archive_is_named_and_the_rest_read(tmp_path, audio):
    folder = put(tmp_path, wav_scp=f"a data/wav.ark:13\nb {audio}/plain.wav\n", text="a GO\nb GO\n")
    corpus = read_corpus(folder)
    assert set(times(corpus)) == {"b"} and "data/wav.ark:13: archives are not read" in reasons(corpus)["a"]
    (audio / "odd:13").write_bytes((audio / "plain.wav").read_bytes())
    (folder / "wav.scp").write_text(f"a {audio}/odd:13\n")
    (folder / "text").write_text("a GO\n")
    assert set(times(read_corpus(folder))) == {"a"}  # a file may be called so


@pytest.mark.parametrize("command", ["sox a.wav -t wav - |", "cat a.wav|", "| cat a.wav"])
def test_commands_are_refused_and_never_run(tmp_path, audio, command):
    folder = put(tmp_path, wav_scp=f"a touch {tmp_path}/ran; {command}\nb {audio}/plain.wav\n", text="b GO\n")
    if command.startswith("|"):
        (folder / "wav.scp").write_text(f"a {command}; touch {tmp_path}/ran\n")
    with pytest.raises(DataError, match="line 1: the audio of a is a command") as caught:
        read_corpus(folder)
    assert caught.value.file == str(folder / "wav.scp") and "wav.scp" in caught.value.remedy
    assert not (tmp_path / "ran").exists()


def test_channels_of_segments(tmp_path, audio):
    folder = put(
        tmp_path,
        wav_scp=f"call {audio}/call.wav\n",
        segments="anna call 0 1 0\nben call 0.5 1.5 1\n",
        text="anna GO\nben ON\n",
    )
    corpus = read_corpus(folder)
    assert [(cut.id, cut.channel) for cut in corpus.cuts] == [("anna", 0), ("ben", 1)]
    np.testing.assert_allclose(load_samples(corpus.cuts[1]), tone(2.0, hertz=900)[8000:24000], atol=1e-4)
    assert len(corpus.notes) == 1  # speakers alone: the channels are said
    (folder / "segments").write_text("anna call 0 1\nben call 0.5 1.5\n")
    said: List[str] = read_corpus(folder).notes
    assert any("1 recordings have several channels: the first is taken" in note for note in said)
    assert {cut.channel for cut in read_corpus(folder, Reading(channel=1)).cuts} == {1}
    assert len(read_corpus(folder, Reading(channel=1)).notes) == 1


def test_genders_and_durations(tmp_path, audio):
    folder = put(
        tmp_path,
        wav_scp=f"a {audio}/plain.wav\nb {audio}/rec one.wav\nc {audio}/call.wav\n",
        text="a GO\nb GO\nc GO\n",
        utt2spk="a x\nb y\nc z\n",
        spk2gender="x F\ny m\nz ?\nz m extra\n",
        reco2dur="a 3.3\nb 12.0\nc nan\n",
    )
    corpus = read_corpus(folder, Reading(channel=0))
    assert [cut.supervisions[0].gender for cut in corpus.cuts] == ["f", "m", None]
    assert len(corpus.notes) == 3
    assert "2 lines are not `speaker m|f`" in corpus.notes[0] and "line 3" in corpus.notes[0]
    assert "1 lines are not `recording seconds`" in corpus.notes[1]
    assert "1 recordings do not last what the corpus says of them (the first: b: 12 s where" in corpus.notes[2]


def test_untranscribed_segments(tmp_path, audio):
    folder = put(tmp_path, wav_scp=f"r {audio}/rec one.wav\n", segments="a r 0 4\nb r 4 -1\n", utt2spk="a s\nb s\n")
    corpus = read_corpus(folder, Reading(transcripts=False))
    assert times(corpus) == {"a": (0.0, 4.0), "b": (4.0, 6.2)} and not corpus.skipped
    assert {cut.supervisions[0].text for cut in corpus.cuts} == {None}
    with pytest.raises(DataError, match="no such file"):
        read_corpus(folder)  # with transcripts there must be some
