"""Corpora in each of their forms; whatever is wrong with an utterance is said of that utterance, and stops nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from hybrid.align.dictionary import make_lang
from hybrid.align.inputs import Corpus, read_corpus
from hybrid.align.textgrid import Interval, format_textgrid, tier, write_textgrid
from hybrid.data.audio import load_samples
from hybrid.errors import ConfigError, DataError, HybridError
from hybrid.lexicon.lexicon import Lexicon

RATE = 16000


def tone(path: Path, seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate)) / rate
    one = 0.3 * np.sin(2 * np.pi * 300 * t) * (1 + t)
    soundfile.write(path, np.stack([one] * channels, 1), rate, subtype="PCM_16")
    return path


def put(folder: Path, name: str, text: str = "hello", **audio) -> None:
    tone(folder / f"{name}.wav", **audio)
    (folder / f"{name}.lab").write_text(text, encoding="utf-8")


def reasons(corpus: Corpus) -> Dict[str, str]:
    return {row.utterance: row.reason for row in corpus.left}


# ------------------------------------------------------------------ folders


def test_folder(tmp_path):
    put(tmp_path, "anna/one", "Hello, world")
    put(tmp_path, "anna/sub/two words", "again")
    put(tmp_path, "top")
    tone(tmp_path / "bo/three.flac")
    (tmp_path / "bo/three.TXT").write_text("\ufeffyes\nno\n", encoding="utf-8")
    (tmp_path / "bo/notes.md").write_text("not of the corpus")
    (tmp_path / ".hidden").mkdir()
    put(tmp_path, ".hidden/x")
    corpus = read_corpus(tmp_path)
    found = {cut.id: (cut.supervisions[0].speaker, cut.supervisions[0].text) for cut in corpus.cuts}
    assert found == {
        "anna/one": ("anna", "Hello, world"),
        "anna/sub/two_words": ("sub", "again"),
        "bo/three": ("bo", "yes\nno"),
        "top": (tmp_path.name, "hello"),
    }
    assert not corpus.left and corpus.total == 4 and corpus.durations["top"] == 1.0
    by_name = {cut.id: cut.supervisions[0].speaker for cut in read_corpus(tmp_path, speaker_characters=2).cuts}
    assert by_name == {"anna/one": "on", "anna/sub/two_words": "tw", "bo/three": "th", "top": "to"}


def test_textgrids_give_utterances_and_speakers(tmp_path):
    tone(tmp_path / "talk.wav", 4.0)
    tiers = [
        tier("Bo", [Interval(2, 3, "two"), Interval(3.5, 9, "late")], 0, 10),
        tier("Anna", [Interval(0, 1, "one"), Interval(3, 3.01, "short")], 0, 10),
    ]
    text = format_textgrid(tiers)
    (tmp_path / "talk.TextGrid").write_text(text, encoding="utf-8")
    corpus = read_corpus(tmp_path)
    rows = [(cut.id, cut.start, cut.duration, cut.supervisions[0].speaker) for cut in corpus.cuts]
    assert rows == [("talk-001", 0, 1, "Anna"), ("talk-002", 2, 1, "Bo")]
    assert "lie outside the audio of 4 s" in reasons(corpus)["talk-004"]
    assert "less than" in reasons(corpus)["talk-003"]
    assert len(load_samples(corpus.cuts[1])) == RATE


def no_text(folder: Path) -> None:
    tone(folder / "bad.wav")


def no_audio(folder: Path) -> None:
    (folder / "bad.lab").write_text("hello")


def empty_text(folder: Path) -> None:
    put(folder, "bad", " \n")


def latin_text(folder: Path) -> None:
    tone(folder / "bad.wav")
    (folder / "bad.lab").write_bytes("caf\xe9".encode("latin-1"))


def empty_audio(folder: Path) -> None:
    put(folder, "bad")
    (folder / "bad.wav").write_bytes(b"")


def truncated(folder: Path) -> None:
    put(folder, "bad")
    (folder / "bad.wav").write_bytes((folder / "bad.wav").read_bytes()[:9000])


def not_audio(folder: Path) -> None:
    put(folder, "bad")
    (folder / "bad.wav").write_text("<html>404</html>" * 9)


def low_rate(folder: Path) -> None:
    put(folder, "bad", rate=4000)


def twice(folder: Path) -> None:
    put(folder, "bad")
    tone(folder / "bad.flac")


def broken_textgrid(folder: Path) -> None:
    tone(folder / "bad.wav")
    (folder / "bad.TextGrid").write_text('File type = "ooTextFile"\nObject class = "TextGrid"\n0\n')


def blank_textgrid(folder: Path) -> None:
    tone(folder / "bad.wav")
    write_textgrid(folder / "bad.TextGrid", [tier("a", [], 0, 1)])


def too_short(folder: Path) -> None:
    put(folder, "bad", seconds=0.02)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (no_text, "audio without transcript"),
        (no_audio, "transcript without audio"),
        (empty_text, "the transcript is empty"),
        (latin_text, "not UTF-8"),
        (empty_audio, "empty"),
        (truncated, "truncated"),
        (not_audio, "not an audio file"),
        (low_rate, "4000 Hz"),
        (twice, "several audio files"),
        (broken_textgrid, "truncated"),
        (blank_textgrid, "no interval with text"),
        (too_short, "lasts 0.020 s"),
    ],
)
def test_damage_is_named_and_the_rest_is_read(tmp_path, damage: Callable[[Path], None], reason: str):
    put(tmp_path, "good")
    damage(tmp_path)
    corpus = read_corpus(tmp_path)
    assert [cut.id for cut in corpus.cuts] == ["good"] and corpus.total == 2
    assert list(reasons(corpus)) == ["bad"] and reason in reasons(corpus)["bad"]
    assert Path(corpus.left[0].file).name.startswith("bad.")


def test_other_rates_and_channels_are_read(tmp_path):
    put(tmp_path, "a", rate=44100)
    put(tmp_path, "b", channels=2)
    corpus = read_corpus(tmp_path)
    assert not corpus.left and "2 channels" in corpus.notes[0]
    assert [len(load_samples(cut)) for cut in corpus.cuts] == [RATE, RATE]


def test_circular_links_end(tmp_path):
    put(tmp_path, "s/a")
    (tmp_path / "s" / "loop").symlink_to(tmp_path)
    assert [cut.id for cut in read_corpus(tmp_path).cuts] == ["s/a"]


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_no_corpus(tmp_path, make):
    make(tmp_path / "c")
    with pytest.raises(DataError) as error:
        read_corpus(tmp_path / "c")
    assert error.value.remedy and error.value.file == str(tmp_path / "c")


# ------------------------------------------------------------------ Kaldi


def kaldi(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    defaults = {"wav.scp": f"r1 {folder}/r1.wav\nr2 r2.wav\n", "text": "r1 HELLO\nr2 GO ON\n"}
    for name, text in {**defaults, **{name.replace("_", "."): text for name, text in files.items()}}.items():
        (folder / name).write_text(text)
    tone(folder / "r1.wav", 2.0), tone(folder / "r2.wav")
    return folder


def test_kaldi_folder(tmp_path):
    corpus = read_corpus(kaldi(tmp_path / "d", utt2spk="r1 anna\nr2 bo\n"))
    rows = [(cut.id, cut.recording_id, cut.supervisions[0].speaker, cut.supervisions[0].text) for cut in corpus.cuts]
    assert rows == [("r1", "r1", "anna", "HELLO"), ("r2", "r2", "bo", "GO ON")] and not corpus.left


def test_kaldi_segments_and_all_that_can_be_wrong_with_them(tmp_path):
    folder = kaldi(
        tmp_path / "d",
        text="u1 ONE\nu2 TWO\nu3\nu4 FOUR\nu5 FIVE\nu6 SIX\nu7 SEVEN\nu8 EIGHT\nu8 EIGHT\nu9 NINE\n",
        segments="u1 r1 0.5 1.5\nu2 r1 1.5 -1\nu3 r1 0 1\nu4 r9 0 1\nu5 r1 3 4\nu6 r1 x 1\nu8 r1 0 1\n"
        "u10 r1 0 1\nu9 r2 0 1\n",
    )
    (folder / "r2.wav").write_bytes(b"")
    corpus = read_corpus(folder)
    assert [(cut.id, cut.start, cut.duration) for cut in corpus.cuts] == [("u1", 0.5, 1.0), ("u2", 1.5, 0.5)]
    for name, reason in {
        "u3": "empty", "u4": "r9 is not in wav.scp", "u5": "lie outside", "u6": "line 6", "u7": "not in segments",
        "u8": "twice", "u9": "0 bytes", "u10": "not in text",
    }.items():
        assert reason in reasons(corpus)[name], name
    assert corpus.total == 10


@pytest.mark.parametrize(
    "scp, what",
    [
        ("r1 sph2pipe -f wav a.sph |\n", "commands are not run"),
        ("r1\n", "line 1 is not"),
        ("r1 a.wav\nr1 b.wav\n", "twice"),
    ],
)
def test_bad_wav_scp(tmp_path, scp, what):
    folder = kaldi(tmp_path / "d")
    (folder / "wav.scp").write_text(scp)
    with pytest.raises(DataError, match=what) as error:
        read_corpus(folder)
    assert "wav.scp" in str(error.value) and error.value.remedy


# ------------------------------------------------------------------ Lhotse


def test_lhotse_manifests(tmp_path):
    recordings = RecordingSet.from_recordings(
        Recording.from_file(tone(tmp_path / f"{name}.wav", 2.0), recording_id=name) for name in ("r1", "r2", "r3", "r4")
    )
    segments = [
        SupervisionSegment("u1", "r1", 0.5, 1.0, text="one", speaker="anna"),
        SupervisionSegment("u2", "r1", 1.5, 0.5, text=None),
        SupervisionSegment("u3", "r2", 0.0, 1.0, text="three"),
        SupervisionSegment("u4", "r9", 0.0, 1.0, text="four"),
        SupervisionSegment("u5", "r3", 0.0, 1.0, text="five"),
    ]
    recordings.to_file(tmp_path / "x_recordings.jsonl.gz")
    SupervisionSet.from_segments(segments).to_file(tmp_path / "x_supervisions.jsonl.gz")
    (tmp_path / "r2.wav").unlink()
    tone(tmp_path / "r3.wav", 2.0, rate=8000)
    for place in (tmp_path, tmp_path / "x_recordings.jsonl.gz"):
        corpus = read_corpus(place)
        (cut,) = corpus.cuts
        assert (cut.id, cut.start, cut.duration, cut.supervisions[0].speaker) == ("u1", 0.5, 1.0, "anna")
        assert {name: reason[:22] for name, reason in reasons(corpus).items()} == {
            "u2": "the transcript is empt", "u3": "no such audio file", "u4": "no recording r9 among ",
            "u5": "the manifest says 3200", "r4": "audio without transcri",
        }
    (tmp_path / "x_supervisions.jsonl.gz").unlink()
    with pytest.raises(DataError, match="recordings without supervisions"):
        read_corpus(tmp_path)


def test_lhotse_cuts(tmp_path):
    recording = Recording.from_file(tone(tmp_path / "r.wav", 3.0), recording_id="r")
    said = [SupervisionSegment("s1", "r", 0.25, 0.5, text="a"), SupervisionSegment("s2", "r", 1.0, 1.0, text="b")]
    cuts = [
        MonoCut("c1", 1.0, 2.0, 0, supervisions=said, recording=recording),
        MonoCut("c2", 0.0, 1.0, 0, supervisions=said[:1], recording=recording),
        MonoCut("c3", 0.0, 1.0, 0, recording=recording),
        MonoCut("c4", 0.0, 1.0, 0, supervisions=said[:1]),
        MonoCut("c5", 0.0, 1.0, 0, supervisions=said[:1], recording=recording).pad(2.0).with_id("c5"),
    ]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    corpus = read_corpus(tmp_path / "cuts.jsonl.gz")
    assert [(cut.id, cut.start, cut.duration) for cut in corpus.cuts] == [
        ("c2", 0.25, 0.5), ("s1", 1.25, 0.5), ("s2", 2.0, 1.0)
    ]
    assert {name: reason[:10] for name, reason in reasons(corpus).items()} == {
        "c3": "a cut with", "c4": "no audio: ", "c5": "a MixedCut"
    }


def test_not_a_manifest(tmp_path):
    for text in ("[1, 2]", "{", '{"a": 1}'):
        (tmp_path / "x.jsonl").write_text(text)
        with pytest.raises(HybridError) as error:
            read_corpus(tmp_path / "x.jsonl")
        assert error.value.file and error.value.remedy


# ------------------------------------------------------------------ lexicon


SMALL = {"cat": ["k ae t"], "tack": ["t ae k"], "act": ["ae k t"], "at": ["ae t"], "tact": ["t ae k t"]}
SMALL["<unk>"] = ["spn"]


def test_lang_of_a_corpus():
    lexicon = Lexicon.from_dict(SMALL)
    lang = make_lang(lexicon, ["at", "dog"], unknown=True)
    assert lang.silence_phones == ["SIL", "spn"] and lang.oov == "<unk>" and lang.position_dependent
    assert set(lang.nonsilence_base) == {"k", "ae", "t"} and "cat" not in lang.lexicon
    assert lang.word_ids("at dog") == [lang.words["at"], lang.words["<unk>"]]
    again = make_lang(lexicon, ["tack"], unknown=True, like=lang)
    assert {name: lang.phones[name] for name in lang.nonsilence_phones} == {
        name: again.phones[name] for name in again.nonsilence_phones
    }
    with pytest.raises(DataError, match="phone g, which the model lacks, in the word g"):
        make_lang(Lexicon.from_dict({"dog": ["d o g"], "g": ["g"]}), ["g"], unknown=False, like=lang)
    plain = make_lang(Lexicon.from_dict({"at": ["ae t"]}), ["at"], unknown=False)
    with pytest.raises(ConfigError, match="unknown word"):
        make_lang(lexicon, ["at"], unknown=True, like=plain)
