"""Lhotse's manifests as users have them: two channels, bad rows, commands, odd lines; Shar; Lhotse's own recipes."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import lhotse.recipes
import numpy as np
import pytest
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, MultiCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from test_audio import tone

from hybrid.corpus import Reading, read_corpus, recipes
from hybrid.data.audio import load_samples
from hybrid.errors import ConfigError, DataError, MissingDependency

RATE = 16000


@pytest.fixture
def call(tmp_path) -> Recording:
    """Two seconds, a low tone on the left and a high one on the right."""
    both = np.stack([tone(2.0, hertz=300), tone(2.0, hertz=900)], axis=1)
    soundfile.write(tmp_path / "call.wav", both, RATE)
    return Recording.from_file(tmp_path / "call.wav", recording_id="call")


def said(name: str, channel: Any, start: float = 0.0, duration: float = 1.0, **more) -> SupervisionSegment:
    return SupervisionSegment(name, "call", start, duration, channel, "GO", speaker=name, **more)


def write_pair(folder: Path, recordings: List[Recording], supervisions: List[SupervisionSegment]) -> Path:
    folder.mkdir(exist_ok=True)
    RecordingSet.from_recordings(recordings).to_file(folder / "recordings.jsonl")
    SupervisionSet.from_segments(supervisions).to_file(folder / "supervisions.jsonl")
    return folder


def hears(cut: MonoCut) -> float:
    spectrum = np.abs(np.fft.rfft(load_samples(cut)))
    return float(np.argmax(spectrum) * RATE / (2 * len(spectrum) - 2))


# ------------------------------------------------------------------ channels


def talk(form: str, folder: Path, call: Recording) -> Path:
    anna, ben = said("anna", 0), said("ben", 1, 0.5)
    if form == "pair":
        return write_pair(folder, [call], [anna, ben])
    folder.mkdir()
    if form == "multi":
        cuts: List[Any] = [MultiCut("c", 0.0, 2.0, [0, 1], [anna, ben], recording=call)]
    else:
        cuts = [
            MonoCut("anna", 0.0, 1.0, 0, [said("anna", 0)], recording=call),
            MonoCut("ben", 0.5, 1.0, 1, [said("ben", 1)], recording=call),
        ]
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl.gz")
    return folder


@pytest.mark.parametrize("form", ["pair", "cuts", "multi"])
def test_two_talkers_are_read_from_their_own_channels(tmp_path, call, form):
    place = talk(form, tmp_path / "d", call)
    corpus = read_corpus(place)
    assert [(cut.id, cut.start, cut.channel, cut.supervisions[0].channel) for cut in corpus.cuts] == [
        ("anna", 0.0, 0, 0), ("ben", 0.5, 1, 1)
    ]
    assert [round(hears(cut), -1) for cut in corpus.cuts] == [300, 900] and not corpus.notes
    right = read_corpus(place, Reading(channel=1))
    assert [cut.id for cut in right.cuts] == ["ben"]
    assert right.skipped[0].reason == "it is on channel 0, and channel 1 was chosen"
    with_none = read_corpus(place, Reading(channel=5))
    assert not with_none.cuts and len(with_none.skipped) == 2


def test_a_manifest_that_says_one_channel_throughout_can_be_overruled(tmp_path, call):
    place = write_pair(tmp_path / "d", [call], [said("u1", 0), said("u2", 0, 1.0)])
    assert {hears(cut) for cut in read_corpus(place).cuts} == {300}
    assert {hears(cut) for cut in read_corpus(place, Reading(channel=1)).cuts} == {900}


def test_channels_that_are_not_there_and_several_at_once(tmp_path, call):
    place = write_pair(tmp_path / "d", [call], [said("both", [0, 1]), said("far", 2)])
    corpus = read_corpus(place)
    assert [(cut.id, cut.channel) for cut in corpus.cuts] == [("both", 0)]
    reasons = {row.utterance: row.reason for row in corpus.skipped}
    assert "no channel 2: the audio has 0, 1" in reasons["far"]


def test_one_file_a_channel(tmp_path):
    for name, hertz in (("left", 300), ("right", 900)):
        soundfile.write(tmp_path / f"{name}.wav", tone(1.0, hertz=hertz), RATE)
    sources = [AudioSource("file", [k], str(tmp_path / f"{name}.wav")) for k, name in enumerate(("left", "right"))]
    call = Recording("call", sources, RATE, RATE, 1.0)
    place = write_pair(tmp_path / "d", [call], [said("anna", 0), said("ben", 1)])
    assert [round(hears(cut), -1) for cut in read_corpus(place, Reading(decode=True)).cuts] == [300, 900]
    soundfile.write(tmp_path / "right.wav", np.zeros(RATE), RATE)
    corpus = read_corpus(place, Reading(decode=True))
    assert [cut.id for cut in corpus.cuts] == ["anna"] and "no signal" in corpus.skipped[0].reason


# ------------------------------------------------------------------ rows


def edit(path: Path, change) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in map(change, rows)), encoding="utf-8")


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"start": "0.0"}, "no numbers"),
        ({"start": None}, "no numbers"),
        ({"start": float("nan")}, "no times"),
        ({"duration": float("inf")}, "no times"),
        ({"duration": -1.0}, "before it starts"),
        ({"start": 7.0}, "outside the audio"),
        ({"channel": "left"}, "no numbers"),
        ({"channel": []}, "no numbers"),
        ({"channel": None}, "no numbers"),
        ({"text": 7}, "the transcript is no text"),
        ({"text": None}, "the transcript is empty"),
        ({"recording_id": "x"}, "no recording x among the recordings"),
        ({"text": "\u00a0\u2028"}, "the transcript is empty"),
    ],
)
def test_one_bad_supervision_stops_nothing(tmp_path, call, change: Dict[str, Any], reason):
    place = write_pair(tmp_path / "d", [call], [said("bad", 0), said("good", 0)])
    edit(place / "supervisions.jsonl", lambda row: {**row, **change} if row["id"] == "bad" else row)
    corpus = read_corpus(place)
    assert [cut.id for cut in corpus.cuts] == ["good"]
    assert [row.utterance for row in corpus.skipped] == ["bad"] and reason in corpus.skipped[0].reason


@pytest.mark.parametrize("key", ["id", "start", "duration", "recording"])
def test_one_bad_cut_stops_nothing(tmp_path, call, key):
    cuts = [MonoCut(name, 0.0, 1.0, 0, [said(name, 0)], recording=call) for name in ("bad", "good")]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl")
    edit(tmp_path / "cuts.jsonl", lambda row: {k: v for k, v in row.items() if k != key or row["id"] == "good"})
    corpus = read_corpus(tmp_path / "cuts.jsonl")
    assert [cut.id for cut in corpus.cuts] == ["good"]
    assert [row.utterance for row in corpus.skipped] == ["cuts.jsonl:1" if key == "id" else "bad"]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"duration": float("nan")}, "nan s"),
        ({"sampling_rate": 0}, "0 Hz"),
        ({"num_samples": -5}, "-5 samples"),
        ({"sources": []}, "no source"),
        ({"sampling_rate": 8000, "num_samples": 16000}, "the file has 32000 at 16000 Hz"),
        ({"sources": [{"type": "command", "channels": [0], "source": "touch HERE; cat call.wav"}]}, "not run"),
    ],
)
def test_one_bad_recording_stops_nothing(tmp_path, call, change, reason):
    soundfile.write(tmp_path / "b.wav", tone(1.0), RATE)
    other = Recording.from_file(tmp_path / "b.wav", recording_id="b")
    good = SupervisionSegment("good", "b", 0.0, 1.0, 0, "GO")
    place = write_pair(tmp_path / "d", [call, other], [said("bad", 0), good])
    edit(place / "recordings.jsonl", lambda row: {**row, **change} if row["id"] == "call" else row)
    corpus = read_corpus(place, Reading(decode=True))
    assert [cut.id for cut in corpus.cuts] == ["good"]
    assert [row.utterance for row in corpus.skipped] == ["bad"] and reason in corpus.skipped[0].reason


def test_line_separators_stand_in_transcripts(tmp_path, call):
    place = write_pair(tmp_path / "d", [call], [said("u", 0)])
    edit(place / "supervisions.jsonl", lambda row: {**row, "text": "ONE\u2028TWO\u0085THREE"})
    assert "\u2028" in (place / "supervisions.jsonl").read_text(encoding="utf-8")
    assert read_corpus(place).cuts[0].supervisions[0].text == "ONE TWO THREE"


def test_gzip_by_any_name_blank_lines_and_a_list(tmp_path, call):
    cut = MonoCut("u", 0.0, 1.0, 0, [said("u", 0)], recording=call).to_dict()
    line = json.dumps(cut)
    for name, data in (
        ("a.jsonl", gzip.compress(line.encode(), mtime=0)),
        ("b.jsonl.gz", line.encode()),
        ("c.jsonl", f"\ufeff{line}\r\n\n\u00a0\n".encode()),
        ("d.json", json.dumps([cut]).encode()),
    ):
        (tmp_path / name).write_bytes(data)
        assert [one.id for one in read_corpus(tmp_path / name).cuts] == ["u"], name


@pytest.mark.parametrize(
    "name, data, what",
    [
        ("a.jsonl", b'{"id": 1', "line 1"),
        ("a.jsonl", b"", "not a list of cuts"),
        ("a.jsonl", b'{"a": 1}\n', "not a list of cuts"),
        ("a.json", b"7", "not a manifest"),
        ("a.jsonl", b"[1, 2]\n", "is no object"),
        ("a.jsonl.gz", gzip.compress(b'{"id": "x"}' * 99, mtime=0)[:40], "not a manifest"),
        ("a.jsonl", b"\xff\xfe{}", "not a manifest"),
        ("a.csv", b"x", "no manifest"),
    ],
)
def test_what_is_no_manifest(tmp_path, name, data, what):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=what) as caught:
        read_corpus(tmp_path / name)
    assert caught.value.file == str(tmp_path / name) and caught.value.remedy


def test_halves_of_two_and_several_manifests(tmp_path, call):
    place = write_pair(tmp_path / "d", [call], [said("u", 0)])
    (place / "recordings.jsonl").rename(tmp_path / "recordings.jsonl")
    with pytest.raises(DataError, match="supervisions without recordings"):
        read_corpus(place / "supervisions.jsonl")
    with pytest.raises(DataError, match="recordings without supervisions"):
        read_corpus(tmp_path / "recordings.jsonl")
    assert [cut.id for cut in read_corpus(tmp_path / "recordings.jsonl", Reading(transcripts=False)).cuts] == ["call"]
    for name in ("a_cuts.jsonl", "b_cuts.jsonl"):
        (place / name).write_text("")
    with pytest.raises(DataError, match="several manifests of cuts: a_cuts.jsonl, b_cuts.jsonl"):
        read_corpus(place)


def test_two_recordings_of_one_id_are_not_taken_for_one_another(tmp_path, call):
    soundfile.write(tmp_path / "b.wav", tone(1.0), RATE)
    other = Recording.from_file(tmp_path / "b.wav", recording_id="call")
    cuts = [MonoCut(name, 0.0, 1.0, 0, [said(name, 0)], recording=r) for name, r in (("a", call), ("b", other))]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl")
    corpus = read_corpus(tmp_path / "cuts.jsonl")
    assert [cut.id for cut in corpus.cuts] == ["a"] and "another recording" in corpus.skipped[0].reason
    place = write_pair(tmp_path / "d", [call], [said("u", 0)])
    text = (place / "recordings.jsonl").read_text()
    (place / "recordings.jsonl").write_text(text + text)
    assert "given twice" in read_corpus(place).skipped[0].reason


# ------------------------------------------------------------------ Shar


@pytest.fixture
def shar(tmp_path, call) -> Path:
    """Five pieces of one call, on both channels, in three shards."""
    cuts = [
        MonoCut(f"c{k}", 0.3 * k, 0.5, k % 2, [SupervisionSegment(f"s{k}", "call", 0.0, 0.5, k % 2, "GO")], None, call)
        for k in range(5)
    ]
    folder = tmp_path / "shar"
    folder.mkdir()
    CutSet.from_cuts(cuts).to_shar(folder, fields={"recording": "flac"}, shard_size=2)
    return folder


@pytest.mark.parametrize("cached", [True, False])
def test_shar_pieces_are_heard_as_they_were_cut(tmp_path, shar, cached):
    before = sorted(path.name for path in shar.iterdir())
    corpus = read_corpus(shar, Reading(cache=tmp_path / "cache" if cached else None, decode=True))
    assert [(cut.id, cut.recording_id, cut.duration, cut.channel) for cut in corpus.cuts] == [
        (f"c{k}", f"c{k}", 0.5, k % 2) for k in range(5)
    ]
    assert [round(hears(cut), -1) for cut in corpus.cuts] == [300, 900, 300, 900, 300] and not corpus.skipped
    assert sorted(path.name for path in shar.iterdir()) == before
    assert (tmp_path / "cache").exists() == cached


def test_shar_that_is_damaged(shar):
    (shar / "recording.000000.tar").unlink()
    with tarfile.open(shar / "recording.000001.tar") as tar:
        size = tar.getmembers()[1].offset_data
    (shar / "recording.000001.tar").write_bytes((shar / "recording.000001.tar").read_bytes()[: size + 700])
    corpus = read_corpus(shar)
    assert [cut.id for cut in corpus.cuts] == ["c2", "c4"]
    assert sorted(row.utterance for row in corpus.skipped) == ["c0", "c1", "c3"]
    assert all("no audio for it in recording.00000" in row.reason for row in corpus.skipped)


# ------------------------------------------------------------------ Lhotse's recipes


@pytest.fixture
def librispeech(tmp_path) -> Path:
    root = tmp_path / "LibriSpeech"
    for number, part in enumerate(("dev-clean", "test-other")):
        for speaker in ("12", "34"):
            folder = root / part / speaker / "7"
            folder.mkdir(parents=True)
            lines = []
            for k in range(2):
                name = f"{speaker}-7-000{k}"
                soundfile.write(folder / f"{name}.flac", tone(0.5 + 0.1 * number, hertz=300 + k), RATE)
                lines.append(f"{name} WORD {k}\n")
            (folder / f"{speaker}-7.trans.txt").write_text("".join(lines))
    return tmp_path


def tree(folder: Path) -> List[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("cached", [True, False])
def test_librispeech(librispeech, tmp_path_factory, cached):
    before = tree(librispeech)
    cache = tmp_path_factory.mktemp("cache") if cached else None
    for place in (librispeech, librispeech / "LibriSpeech"):
        corpus = read_corpus("lhotse:librispeech/dev-clean", Reading(place, cache=cache))
        assert [(cut.id, cut.supervisions[0].speaker, cut.supervisions[0].text) for cut in corpus.cuts] == [
            (f"{speaker}-7-000{k}", speaker, f"WORD {k}") for speaker in ("12", "34") for k in range(2)
        ]
        assert {cut.duration for cut in corpus.cuts} == {0.5} and not corpus.skipped
        other = read_corpus("lhotse:librispeech/test-other", Reading(place, cache=cache))
        assert {cut.duration for cut in other.cuts} == {0.6}
        assert len(load_samples(other.cuts[0])) == 9600
    assert tree(librispeech) == before
    new = librispeech / "LibriSpeech" / "dev-clean" / "12" / "7"
    soundfile.write(new / "12-7-0009.flac", tone(0.5), RATE)
    with open(new / "12-7.trans.txt", "a") as stream:
        stream.write("12-7-0009 NEW\n12-7-0010 GONE\n")
    again = read_corpus("lhotse:librispeech/dev-clean", Reading(librispeech, cache=cache))  # nothing stale is read
    assert len(again.cuts) == 5 and "12-7-0010" in again.notes[0] and "1 warnings" in again.notes[0]


@pytest.mark.parametrize(
    "source, what",
    [
        ("lhotse:librispeach", "no recipe 'librispeach'.*perhaps.*librispeech"),
        ("lhotse:", "no recipe ''.*one of.*yesno"),
        ("lhotse:librispeech", "several parts.*lhotse:librispeech/dev-clean, lhotse:librispeech/test-other"),
        ("lhotse:librispeech/train", "no part 'train'.*lhotse:librispeech/dev-clean, lhotse:librispeech/test-other"),
        ("lhotse:librispeech/test-clean", "no part 'test-clean'|fails"),
        ("lhotse:heroico", "also wants transcript_dir.*lhotse prepare heroico"),
    ],
)
def test_wrong_names_and_parts_say_which_there_are(librispeech, source, what):
    with pytest.raises(ConfigError, match=what) as caught:
        read_corpus(source, Reading(librispeech))
    assert caught.value.remedy


def test_where_the_corpus_is_must_be_said(tmp_path):
    with pytest.raises(ConfigError, match="--data DIR"):
        read_corpus("lhotse:yesno/train")
    with pytest.raises(DataError, match="no such folder.*--data DIR"):
        read_corpus("lhotse:yesno/train", Reading(tmp_path / "none"))
    with pytest.raises(DataError, match="Lhotse's recipe yesno fails.*lhotse prepare yesno --help"):
        read_corpus("lhotse:yesno/train", Reading(tmp_path))


def test_yesno_has_no_speakers(tmp_path):
    for number in range(60):
        name = "_".join(f"{number:08b}")
        soundfile.write(tmp_path / f"{name}.wav", tone(0.3, 8000), 8000)
    corpus = read_corpus("lhotse:yesno/test", Reading(tmp_path))
    assert len(corpus.cuts) == 30 and {cut.sampling_rate for cut in corpus.cuts} == {8000}
    assert corpus.cuts[0].supervisions[0].text == "NO NO NO NO NO NO NO YES"
    assert any("30 of 30 utterances have no speaker" in note for note in corpus.notes)


def fake(monkeypatch, recipe) -> None:
    monkeypatch.setattr(lhotse.recipes, "prepare_fake", recipe, raising=False)


def manifests(call: Recording) -> Dict[str, Any]:
    return {
        "recordings": RecordingSet.from_recordings([call]),
        "supervisions": SupervisionSet.from_segments([said("u", 0)]),
    }


def test_signatures_and_shapes_of_recipes(tmp_path, call, monkeypatch):
    """One part, parts within parts, cuts; arguments under the names that recipes have for them."""
    data = tmp_path / "data"
    data.mkdir()
    called = []

    def flat(audio_dir, transcripts_dir=None, output_dir=None, absolute_paths=False):
        called.append((audio_dir, transcripts_dir, output_dir is not None, absolute_paths))
        return manifests(call)

    def nested(corpus_dir, output_dir, languages="all", num_jobs=1):
        called.append(corpus_dir)
        return {"es": {"train": manifests(call), "dev": manifests(call)}, "fr": {"train": manifests(call)}}

    def cuts(version, corpus_dir="x"):
        raise AssertionError

    def of_cuts(corpus_dir):
        return {"all": {"cuts": CutSet.from_cuts([MonoCut("c", 0.0, 1.0, 0, [said("u", 0)], recording=call)])}}

    fake(monkeypatch, flat)
    monkeypatch.chdir(tmp_path)
    assert [cut.id for cut in read_corpus("lhotse:fake", Reading(Path("data"))).cuts] == ["u"]
    assert called.pop() == (str(data), None, True, True)
    fake(monkeypatch, nested)
    assert [cut.id for cut in read_corpus("lhotse:fake/es/dev", Reading(data)).cuts] == ["u"]
    with pytest.raises(ConfigError, match="lhotse:fake/es/dev, lhotse:fake/es/train, lhotse:fake/fr/train"):
        read_corpus("lhotse:fake/train", Reading(data))
    fake(monkeypatch, cuts)
    with pytest.raises(ConfigError, match="also wants version"):
        read_corpus("lhotse:fake", Reading(data))
    fake(monkeypatch, of_cuts)
    for source in ("lhotse:fake", "lhotse:fake/all", "lhotse:fake/all/"):
        assert [cut.id for cut in read_corpus(source, Reading(data)).cuts] == ["c"]


def test_only_the_part_that_is_meant_is_prepared(tmp_path, call, monkeypatch):
    asked = []

    def recipe(corpus_dir, dataset_parts="auto", output_dir=None):
        asked.append(dataset_parts)
        names = ("a", "b") if dataset_parts == "auto" else dataset_parts
        if "c" in names:
            raise AssertionError("no part c")
        return {name: manifests(call) for name in names}

    fake(monkeypatch, recipe)
    read_corpus("lhotse:fake/b", Reading(tmp_path))
    assert asked == [("b",)]
    with pytest.raises(ConfigError, match="no part 'c'.*lhotse:fake/a, lhotse:fake/b"):
        read_corpus("lhotse:fake/c", Reading(tmp_path))
    assert asked[1:] == [("c",), "auto"]


def test_recipes_that_warn_or_want_a_library(tmp_path, call, monkeypatch):
    def warns(corpus_dir):
        logging.warning("No such file: x.wav")
        return manifests(call)

    def wants(corpus_dir):
        import no_such_library  # noqa: F401

    fake(monkeypatch, warns)
    assert "1 warnings (the first: No such file: x.wav)" in read_corpus("lhotse:fake", Reading(tmp_path)).notes[0]
    fake(monkeypatch, wants)
    with pytest.raises(MissingDependency, match="no_such_library.*pip install"):
        read_corpus("lhotse:fake", Reading(tmp_path))


def test_every_recipe_of_lhotse_can_be_called_or_says_what_it_wants(tmp_path, monkeypatch):
    """On an empty folder, without a network: never anything but one of our errors, and nothing is written there."""

    def offline(*arguments, **named):
        raise OSError("no network in tests")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, offline)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert len(recipes.names()) > 90
    for name in recipes.names():
        folder = tmp_path / name
        folder.mkdir()
        with pytest.raises((ConfigError, DataError, MissingDependency)) as caught:
            read_corpus(f"lhotse:{name}", Reading(folder))
        assert caught.value.remedy, name
        assert tree(folder) == [] and tree(here) == [] and Path.cwd() == here, name
