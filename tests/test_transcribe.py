"""`hybrid transcribe`: what can be given, what is written, what is said of what cannot be used, and how it goes on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from small_run import RATE

from hybrid.align.ctm import read_ctm
from hybrid.cli import main
from hybrid.corpus.textgrid import read_textgrid
from hybrid.data.audio import load_samples
from hybrid.decode.load import load
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.result import Result, Word
from hybrid.io import read_jsonl
from hybrid.transcribe.captions import captions, format_srt, format_vtt
from hybrid.transcribe.outputs import Transcript


@pytest.fixture
def speech(small_cuts: CutSet, tmp_path: Path) -> Path:
    """Two folders of audio, of which one is no audio."""
    folder = tmp_path / "speech"
    for number, cut in enumerate(small_cuts):
        path = folder / f"day{number % 2}" / f"u{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cut.recording.sources[0].source, path)
    (folder / "day1" / "broken.wav").write_bytes(b"RIFF")
    return folder


def texts(path: Path) -> Dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split(" ", 1)[0]: line.partition(" ")[2] for line in lines}


def run(*arguments: Any) -> int:
    return main(["transcribe", *map(str, arguments), "--jobs", "1"])


def test_a_file_is_printed(small_run: Path, speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = speech / "day0" / "u0.wav"
    assert run(small_run, path, "--no-endpoints") == 0
    assert capsys.readouterr().out.strip() == load(small_run)(path).text != ""


def test_a_folder_in_all_forms(small_run: Path, speech: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert run(
        small_run, speech, "--system", "ce", "--out", out, "--nbest", 3, "--no-endpoints", "--format",
        "text,json,ctm,srt,vtt,textgrid",
    ) == 0  # fmt: skip
    said = capsys.readouterr()
    assert "8 transcribed, 1 not" in said.out
    assert re.search("not transcribed: day1/broken.*broken.wav.*Remedy", said.err)
    (problem,) = read_jsonl(out / "problems.jsonl")
    assert problem["utterance"] == "day1/broken" and problem["level"] == "error"
    asr = load(small_run, "ce")
    wanted = {f"day{k % 2}/u{k}": asr(speech / f"day{k % 2}" / f"u{k}.wav") for k in range(8)}
    assert texts(out / "text") == {name: wanted[name].text for name in sorted(wanted)}
    rows = {row["id"]: row for row in read_jsonl(out / "transcripts.jsonl")}
    ctm = read_ctm(out / "words.ctm")
    for name, result in wanted.items():
        row, words = rows[name], [word.word for word in result.words]
        assert row["text"] == result.text and row["final"] is True and (row["start"], row["channel"]) == (0.0, 0)
        assert [word["word"] for word in row["words"]] == words == [one.label for one in ctm if one.recording == name]
        (segment,) = row["segments"]
        assert [one["text"] for one in segment["nbest"]] == [one.text for one in result.nbest(3)]
        grid = read_textgrid(out / "textgrid" / f"{name}.TextGrid")
        assert [tier.name for tier in grid] == ["utterances", "words"]
        assert [part.text for part in grid[1].intervals if part.text] == words
        for ending, start in (("srt", "1\n00:00:0"), ("vtt", "WEBVTT\n\n00:00:0")):
            captioned = (out / "captions" / f"{name}.{ending}").read_text(encoding="utf-8")
            assert captioned.startswith(start) and words[0] in captioned


def test_workers_give_the_same(small_run: Path, speech: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        out = str(tmp_path / f"{jobs}")
        assert main(["transcribe", str(small_run), str(speech), "--out", out, "--jobs", f"{jobs}"]) == 0
    for name in ("text", "transcripts.jsonl", "words.ctm"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_it_goes_on_where_it_was(small_run: Path, speech: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out, done, real = tmp_path / "out", [], Recogniser.recording

    def counted(self: Recogniser, cut: Any, **options: Any) -> Any:
        done.append(cut.id)
        if len(done) == 4:
            raise KeyboardInterrupt
        return real(self, cut, **options)

    monkeypatch.setattr(Recogniser, "recording", counted)
    (speech / "day1" / "broken.wav").unlink()
    assert run(small_run, speech, "--out", out) == 130
    store = out / "work" / "done.jsonl"
    assert len(read_jsonl(store)) == 3
    store.write_bytes(store.read_bytes()[:-9])  # the last line torn
    assert run(small_run, speech, "--out", out) == 0
    assert done[:4] + done[4:] == ["day0/u0", "day0/u2", "day0/u4", "day0/u6", "day0/u4", "day0/u6"] + [
        f"day1/u{k}" for k in (1, 3, 5, 7)
    ]
    first = (out / "text").read_bytes()
    assert run(small_run, speech, "--out", out) == 0 and len(done) == 10, "all is done"
    assert (out / "text").read_bytes() == first
    # a file that has changed, and another setting, are done anew
    samples, _ = soundfile.read(speech / "day0" / "u0.wav")
    soundfile.write(speech / "day0" / "u0.wav", samples[::-1], RATE)
    assert run(small_run, speech, "--out", out) == 0 and done[10:] == ["day0/u0"]
    assert run(small_run, speech, "--out", out, "--nbest", 2) == 0 and len(done) == 19


def test_speakers_of_a_manifest_have_their_means(small_run: Path, small_cuts: CutSet, tmp_path: Path) -> None:
    """The words of a run's decoding."""
    small_cuts.to_file(tmp_path / "cuts.jsonl.gz")
    assert run(small_run, tmp_path / "cuts.jsonl.gz", "--system", "ce", "--no-endpoints", "--out", tmp_path / "o") == 0
    expected = load(small_run, "ce").many(small_cuts)
    assert texts(tmp_path / "o" / "text") == {name: result.text for name, result in sorted(expected.items())}
    alone = {cut.id: load(small_run, "ce")(cut).text for cut in small_cuts}
    assert alone != {name: result.text for name, result in expected.items()}


def test_a_kaldi_folder_with_segments(small_run: Path, small_cuts: CutSet, tmp_path: Path) -> None:
    """Times are those of the recording; an utterance has no endpoint within it."""
    joined = np.concatenate([load_samples(cut, RATE) for cut in small_cuts])
    soundfile.write(tmp_path / "all.wav", joined / np.abs(joined).max(), RATE)
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text(f"all {tmp_path / 'all.wav'}\n")
    (data / "segments").write_text("one all 0.0 1.1\ntwo all 2.5 3.7\n")
    (data / "utt2spk").write_text("one anna\ntwo bert\n")
    assert run(small_run, data, "--system", "mono", "--out", tmp_path / "o") == 0
    rows = read_jsonl(tmp_path / "o" / "transcripts.jsonl")
    assert [(row["id"], row["recording"], row["start"], row["end"]) for row in rows] == [
        ("one", "all", 0.0, 1.1), ("two", "all", 2.5, 3.7),
    ]  # fmt: skip
    assert len(rows[1]["segments"]) == 1
    assert all(2.5 <= word["start"] <= word["end"] <= 3.7 for word in rows[1]["words"]) and rows[1]["words"]
    assert {row.recording for row in read_ctm(tmp_path / "o" / "words.ctm")} == {"all"}


def test_channels(small_run: Path, small_cuts: CutSet, tmp_path: Path, capsys) -> None:
    one, other = (load_samples(cut, RATE)[:7000] for cut in list(small_cuts)[:2])
    soundfile.write(tmp_path / "call.wav", np.stack([one, other], 1) / np.abs([one, other]).max(), RATE)
    assert run(small_run, tmp_path / "call.wav", "--channel", "all", "--out", tmp_path / "o") == 0
    rows = read_jsonl(tmp_path / "o" / "transcripts.jsonl")
    assert [(row["id"], row["channel"]) for row in rows] == [("call-0", 0), ("call-1", 1)]
    assert {row.channel for row in read_ctm(tmp_path / "o" / "words.ctm")} <= {"1", "2"}
    capsys.readouterr()
    assert run(small_run, tmp_path / "call.wav", "--channel", 1) == 0
    assert capsys.readouterr().out.strip() == rows[1]["text"]
    assert run(small_run, tmp_path / "call.wav") == 0
    said = capsys.readouterr()
    assert "has 2 channels: the first" in said.err and said.out.strip() == rows[0]["text"]


def test_words_phrases_and_grammars(small_run: Path, small_cuts: CutSet, tmp_path: Path, capsys) -> None:
    path = next(iter(small_cuts)).recording.sources[0].source
    (tmp_path / "words").write_text("AAA a\n\nCAAB\n")
    (tmp_path / "phrases").write_text("ACE CAB ACE :20\n")
    (tmp_path / "grammar").write_text("AB BA\nCAB\n")
    asr = load(small_run, "ce")
    expected = {
        "grammar": asr.with_grammar(["AB BA", "CAB"])(path).text,
        "phrases": asr.context({"ACE CAB ACE": 20.0})(path).text,
    }
    asr.add_words([("AAA", "a"), "CAAB"])
    expected["words"] = asr(path).text
    for name, text in expected.items():
        assert run(small_run, path, "--system", "ce", "--no-endpoints", f"--{name}", tmp_path / name) == 0
        assert capsys.readouterr().out.strip() == text
    (tmp_path / "words").write_text("\n")
    assert run(small_run, path, "--words", tmp_path / "words") == 1
    assert "no word" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["none.wav"], 1, "no such audio file"),
        (["empty"], 1, "no utterance"),
        (["u.wav", "--format", "doc"], 2, "no output format 'doc'"),
        (["u.wav", "--format", ","], 2, "no output format"),
        (["u.wav", "--channel", "left"], 2, "channel 'left'"),
        (["u.wav", "--channel", "3"], 1, "no channel 3"),
        (["u.wav", "--system", "tdnn"], 2, "no system 'tdnn'"),
        (["u.wav", "--longest", "0"], 2, "longest"),
        (["u.wav", "--nbest", "-1"], 2, "--nbest"),
        (["u.wav", "other/u.wav"], 1, "two recordings of the name 'u'"),
    ],
)
def test_what_cannot_be_meant(
    small_run: Path, small_cuts: CutSet, tmp_path: Path, monkeypatch, capsys, arguments: List[str], code: int,
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "other"):
        Path(folder).mkdir()
    for path in ("u.wav", "other/u.wav"):
        shutil.copy(next(iter(small_cuts)).recording.sources[0].source, path)
    assert run(small_run, *arguments) == code
    assert message in capsys.readouterr().err


def test_a_model_that_is_none(tmp_path: Path, capsys) -> None:
    assert run(tmp_path / "exp", tmp_path / "a.wav") == 1
    assert "no such folder" in capsys.readouterr().err


def words(*rows: Any) -> tuple:
    return tuple(Word(text, start, end) for text, start, end in rows)


def test_captions_are_short_and_end_at_pauses() -> None:
    said = words(*((f"word{k}", 0.5 * k, 0.5 * k + 0.4) for k in range(30)), ("late", 17.0, 17.2))
    made = captions([Result(said, 20.0)])
    assert [word for row in made for word in row.text.split()] == [word.word for word in said]
    assert made[-1].text == "late" and made[-1].end == 18.0, "a short one stands for a second"
    for row in made:
        assert row.end - row.start <= 7.0 and all(len(line) <= 42 for line in row.text.split("\n"))
        assert row.text.count("\n") <= 1
    for one, other in zip(made, made[1:]):
        assert one.end <= other.start


def test_captions_of_words_without_times_are_spread() -> None:
    (row,) = captions([Result(words(("a", None, None), ("b", None, None)), 4.0, start=10.0)])
    assert (row.start, row.end) == (10.0, 14.0)


def test_caption_formats() -> None:
    rows = captions([Result(words(("<b>", 3599.9996, 3601.5), ("&", 3601.6, 3602.0)), 4.0)])
    assert format_srt(rows) == "1\n01:00:00,000 --> 01:00:02,000\n<b> &\n\n"
    assert format_vtt(rows) == "WEBVTT\n\n01:00:00.000 --> 01:00:02.000\n&lt;b&gt; &amp;\n\n"


def test_a_transcript_comes_back_from_json() -> None:
    results = (
        Result(words(("a", 1.0, 1.5)), 2.0, start=1.0),
        Result(words(("b", None, None)), 1.5, start=3.0, rejected=True),
    )
    alternatives = ([{"text": "a", "cost": 1.5}], [])
    one = Transcript("x", "rec", 1, 1.0, 3.5, results, alternatives)
    back = Transcript.from_json(json.loads(json.dumps(one.to_json())))
    assert back == one
