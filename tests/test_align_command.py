"""`hybrid align` from audio to files, on a language of three hummed phones whose places are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Dict, List, Tuple

import lhotse
import numpy as np
import pytest
import soundfile

from hybrid.align import aligner
from hybrid.align.ctm import read_ctm
from hybrid.align.run import run_align
from hybrid.align.summary import Options
from hybrid.align.textgrid import tier, write_textgrid
from hybrid.cli import main
from hybrid.corpus.textgrid import Interval, read_textgrid
from hybrid.gmm import chunks
from hybrid.io import read_json, read_jsonl
from hybrid.parallel import SerialExecutor
from hybrid.run import Run

RATE = 16000
LEXICON = "ABBA a b b a\nCAB c a b\nBACH b a c\nCC c c\n"
HERTZ = {"a": (400, 1100), "b": (250, 2300), "c": (900, 3200)}


def sound(phone: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    noise = rng.normal(0, 0.01, len(t))
    return noise + 0.2 * sum(np.sin(2 * np.pi * hertz * t) for hertz in HERTZ.get(phone, ()))


def speak(path: Path, text: str, seed: int) -> List[Tuple[str, float, float]]:
    """Writes the audio; returns (word, start, end)."""
    rng = np.random.default_rng(seed)
    spelled = {line.split()[0]: line.split()[1:] for line in LEXICON.splitlines()}
    parts = [sound("", 0.25, rng)]
    times = []
    for word in text.split():
        begin = sum(map(len, parts)) / RATE
        parts += [sound(phone, rng.uniform(0.08, 0.14), rng) for phone in spelled[word]]
        times.append((word, begin, sum(map(len, parts)) / RATE))
        parts.append(sound("", rng.uniform(0.15, 0.3), rng))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate(parts), RATE, subtype="PCM_16")
    return times


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Tuple[Path, Dict[str, List[Tuple[str, float, float]]]]:
    """32 good utterances, and one of each kind of trouble."""
    folder = tmp_path_factory.mktemp("data") / "corpus"
    rng = np.random.default_rng(0)
    words = [line.split()[0] for line in LEXICON.splitlines()]
    times = {}
    for number in range(32):
        name = f"s{number % 2}/u{number:02d}"
        text = " ".join(rng.choice(words, rng.integers(2, 5)))
        times[name] = speak(folder / f"{name}.wav", text, number)
        (folder / f"{name}.lab").write_text(text.lower() + ".")
    for name, text in (("oov", "cab dada"), ("none", "?!"), ("short", " ".join(["abba"] * 30)), ("silent", "cab")):
        speak(folder / f"s0/{name}.wav", "CAB", 99)
        (folder / f"s0/{name}.lab").write_text(text)
    soundfile.write(folder / "s0/silent.wav", np.zeros(RATE), RATE)
    (folder / "s0/broken.wav").write_bytes(b"RIFF")
    (folder / "s0/broken.lab").write_text("cab")
    (folder.parent / "lexicon.txt").write_text(LEXICON)
    return folder, times


@pytest.fixture(scope="module")
def aligned(corpus) -> Path:
    out = corpus[0].parent / "out"
    assert main(["align", str(corpus[0]), str(corpus[0].parent / "lexicon.txt"), str(out), "--jobs", "1"]) == 0
    return out


def test_words_are_where_they_are_said(corpus, aligned):
    found: Dict[str, List[Tuple[str, float, float]]] = {}
    for row in read_ctm(aligned / "words.ctm"):
        found.setdefault(row.recording, []).append((row.label, row.start, row.start + row.duration))
        assert 0.0 <= row.confidence <= 1.0
    assert sorted(found) == sorted(corpus[1])
    off = []
    for name, expected in corpus[1].items():
        assert [row[0] for row in found[name]] == [row[0] for row in expected]
        off += [abs(a - b) for one, two in zip(found[name], expected) for a, b in zip(one[1:], two[1:])]
    # A loud tone fills the 25 ms window, and deltas the frames beside it, before it begins and after it ends.
    assert np.median(off) <= 0.02 and np.quantile(off, 0.9) <= 0.06


def test_everything_left_out_is_named_with_its_reason(aligned):
    problems = read_jsonl(aligned / "problems.jsonl")
    rows = {row["utterance"]: row["reason"] for row in problems if row["level"] == "error"}
    assert {name: rows[f"s0/{name}"][:26] for name in ("oov", "none", "short", "silent", "broken")} == {
        "oov": "not in the lexicon: DADA",
        "none": "no word in the transcript ",
        "short": "too short for its words: 8",
        "silent": "no signal: every sample ha",
        "broken": "not an audio file that lib",
    }
    assert len(rows) == 5
    summary = read_json(aligned / "summary.json")
    assert (summary["utterances"], summary["aligned"], summary["not_aligned"]) == (37, 32, 5)
    assert (aligned / "oov.tsv").read_text() == "DADA\t1\n"
    assert "32 of 37 utterances aligned" in (aligned / "align.log").read_text()


def test_all_forms_agree(aligned):
    rows = {row["id"]: row for row in read_jsonl(aligned / "alignment.jsonl")}
    supervisions = {one.id: one for one in lhotse.load_manifest(aligned / "supervisions.jsonl.gz")}
    assert len(list((aligned / "textgrid").rglob("*.TextGrid"))) == len(rows) == len(supervisions) == 32
    for name, row in rows.items():
        words = supervisions[name].alignment["word"]
        assert [one.symbol for one in words] == [word["word"] for word in row["words"]]
        phones = supervisions[name].alignment["phone"]
        assert phones[0].start == row["start"] and phones[-1].end == pytest.approx(row["end"])
        for before, after in zip(phones, phones[1:]):
            assert before.end == pytest.approx(after.start)
        for phone in (phone for word in row["words"] for phone in word["phones"]):
            assert [state for state, _, _ in phone["states"]] == [0, 1, 2]
    assert not (aligned / "work").exists()


def test_a_model_is_used_again(corpus, aligned, capsys):
    """Fewer utterances, the model of before: the times do not change, and nothing is trained."""
    few = corpus[0].parent / "few"
    shutil.copytree(corpus[0] / "s1", few / "s1", dirs_exist_ok=True)
    out = corpus[0].parent / "out-few"
    command = ["align", str(few), str(corpus[0].parent / "lexicon.txt"), str(out), "--jobs", "1", "--format", "ctm"]
    assert main([*command, "--model", str(aligned)]) == 0
    assert "Gaussians" not in capsys.readouterr().out and not (out / "model").exists()
    assert sorted(path.name for path in out.glob("*.ctm")) == ["phones.ctm", "words.ctm"]
    assert not (out / "textgrid").exists()
    before = [row for row in read_ctm(aligned / "words.ctm") if row.recording.startswith("s1")]
    after = read_ctm(out / "words.ctm")
    assert [row.label for row in after] == [row.label for row in before]
    assert np.mean([abs(a.start - b.start) < 0.011 for a, b in zip(after, before)]) > 0.95


def test_unknown_words(corpus, aligned):
    """--oov spn and --g2p align what is left out otherwise."""
    lexicon = corpus[0].parent / "lexicon.txt"
    some = corpus[0].parent / "some"
    some.mkdir()
    for number in range(12):
        for suffix in (".wav", ".lab"):
            shutil.copy(corpus[0] / f"s0/u{2 * number:02d}{suffix}", some)
    speak(some / "new.wav", "CAB BACH", 5)
    (some / "new.lab").write_text("cab bac")
    speak(some / "note.wav", "BACH CAB", 6)
    (some / "note.lab").write_text("[bach] cab")
    out = some.parent / "out-g2p"
    assert main(["align", str(some), str(lexicon), str(out), "--jobs", "1", "--g2p", "--model", str(aligned)]) == 0
    (row,) = [row for row in read_jsonl(out / "alignment.jsonl") if row["id"] == "new"]
    assert [(word["word"], word["source"]) for word in row["words"]] == [("CAB", "lexicon"), ("BAC", "g2p")]
    assert (out / "g2p.txt").read_text() == "BAC\tb a c\n"
    (row,) = [row for row in read_jsonl(out / "alignment.jsonl") if row["id"] == "note"]
    assert [word["word"] for word in row["words"]] == ["CAB"]
    assert "1 notes in brackets are no words, left out: [bach] (1)" in (out / "align.log").read_text()
    out = some.parent / "out-spn"
    assert main(["align", str(some), str(lexicon), str(out), "--jobs", "1", "--oov", "spn"]) == 0
    (row,) = [row for row in read_jsonl(out / "alignment.jsonl") if row["id"] == "new"]
    assert [(word["word"], word["source"]) for word in row["words"]] == [("CAB", "lexicon"), ("BAC", "unknown")]
    assert [phone["phone"] for phone in row["words"][1]["phones"]] == ["SPN"]
    (row,) = [row for row in read_jsonl(out / "alignment.jsonl") if row["id"] == "note"]
    assert [(word["word"], word["source"]) for word in row["words"]] == [("<UNK>", "unknown"), ("CAB", "lexicon")]
    assert (out / "oov.tsv").read_text() == "BAC\t1\n"


def test_a_wrong_transcript_is_found(corpus, aligned):
    wrong = corpus[0].parent / "wrong"
    shutil.copytree(corpus[0] / "s1", wrong / "s1")
    text = (wrong / "s1/u05.lab").read_text().split()
    (wrong / "s1/u05.lab").write_text(" ".join(["bach" if text[0] == "cc" else "cc", *text[1:]]))
    out = corpus[0].parent / "out-wrong"
    command = ["align", str(wrong), str(corpus[0].parent / "lexicon.txt"), str(out), "--jobs", "1"]
    # These sounds vary so little that another one is far outside of any beam used for speech.
    assert main([*command, "--model", str(aligned), "--retry-beam", "1000"]) == 0
    rows = [line.split("\t") for line in (out / "suspicious.tsv").read_text().splitlines()]
    assert rows[1][2] == "s1/u05" and float(rows[1][1]) > 1
    (warning,) = [row for row in read_jsonl(out / "problems.jsonl") if row["utterance"] == "s1/u05"]
    assert warning["level"] == "warning" and warning["reason"] == rows[1][3]


def test_resumes_after_a_kill(corpus, aligned, monkeypatch, tmp_path):
    """Killed while aligning: the chunks that are on disk by then are not aligned again."""
    executor = SerialExecutor()
    executor._max_workers = 1  # type: ignore[attr-defined]  # four chunks under way
    monkeypatch.setattr(Run, "executor", lambda self: executor)
    monkeypatch.setattr(aligner, "CHUNK_FRAMES", 500)
    options = Options(corpus[0], corpus[0].parent / "lexicon.txt", tmp_path / "out", model=aligned, formats=["json"])
    calls = []

    def align_chunk(*arguments, real=chunks.align_chunk):
        calls.append(len(arguments[1]))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(chunks, "align_chunk", align_chunk)
    with pytest.raises(KeyboardInterrupt):
        run_align(options)
    assert (tmp_path / "out/problems.jsonl").exists()
    result = run_align(options)
    assert len(result.utterances) == 32
    first = sum(calls[:3])
    assert sum(calls[3:]) == calls[3] + 33 - first  # one is too short: it is in a chunk, and has no path
    expected = {row["id"]: row["words"] for row in read_jsonl(aligned / "alignment.jsonl")}
    for row in read_jsonl(tmp_path / "out/alignment.jsonl"):
        assert [word["word"] for word in row["words"]] == [word["word"] for word in expected[row["id"]]]


def test_too_many_problems_is_exit_code_1_with_all_output(corpus, aligned):
    out = corpus[0].parent / "out-strict"
    command = ["align", str(corpus[0]), str(corpus[0].parent / "lexicon.txt"), str(out), "--jobs", "1"]
    assert main([*command, "--model", str(aligned), "--max-problems", "0.1"]) == 1
    assert len(read_jsonl(out / "alignment.jsonl")) == 32


@pytest.mark.parametrize("form", ["textgrid", "lhotse", "kaldi"])
def test_each_talker_of_a_call_is_aligned_on_their_own_channel(corpus, aligned, tmp_path, form):
    """Anna is on the left, Bo on the right, at the same time."""
    folder = tmp_path / "c"
    times = {"anna": speak(tmp_path / "anna.wav", "CAB ABBA CC", 7), "bo": speak(tmp_path / "bo.wav", "BACH CAB", 8)}
    sides = [soundfile.read(tmp_path / f"{name}.wav")[0] for name in times]
    length = max(map(len, sides))
    both = np.stack([np.pad(side, (0, length - len(side))) for side in sides], axis=1)
    folder.mkdir()
    soundfile.write(folder / "call.wav", both, RATE, subtype="PCM_16")
    ends = {name: len(side) / RATE for name, side in zip(times, sides)}
    text = {name: " ".join(row[0] for row in rows) for name, rows in times.items()}
    if form == "textgrid":
        tiers = [tier(name, [Interval(0, ends[name], text[name])], 0, length / RATE) for name in times]
        write_textgrid(folder / "call.TextGrid", tiers)
    elif form == "lhotse":
        recording = lhotse.Recording.from_file(folder / "call.wav")
        lhotse.RecordingSet.from_recordings([recording]).to_file(folder / "recordings.jsonl.gz")
        said = [
            lhotse.SupervisionSegment(name, "call", 0.0, ends[name], channel, text[name], speaker=name)
            for channel, name in enumerate(times)
        ]
        lhotse.SupervisionSet.from_segments(said).to_file(folder / "supervisions.jsonl.gz")
    else:
        rows = {
            "wav.scp": ["call call.wav"],
            "segments": [f"{name} call 0 {ends[name]} {channel}" for channel, name in enumerate(times)],
            "text": [f"{name} {text[name]}" for name in times],
            "utt2spk": [f"{name} {name}" for name in times],
        }
        for name, lines in rows.items():
            (folder / name).write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    lexicon = corpus[0].parent / "lexicon.txt"
    assert main(["align", str(folder), str(lexicon), str(out), "--jobs", "1", "--model", str(aligned)]) == 0
    found = read_ctm(out / "words.ctm")
    for channel, (name, expected) in enumerate(times.items()):
        rows_of = [row for row in found if row.channel == str(channel + 1)]
        assert [row.label for row in rows_of] == [word for word, _, _ in expected]
        assert np.mean([abs(row.start - start) for row, (_, start, _) in zip(rows_of, expected)]) < 0.05, name
    assert {(row["speaker"], row["channel"]) for row in read_jsonl(out / "alignment.jsonl")} == {("anna", 0), ("bo", 1)}
    assert {one.speaker: one.channel for one in lhotse.load_manifest(out / "supervisions.jsonl.gz")} == {
        "anna": 0, "bo": 1
    }


def test_words_of_overlapping_segments_and_remedies_are_kept(corpus, aligned, tmp_path):
    """Three segments of one speaker, all at the same time in part; one more beyond the recording."""
    folder = tmp_path / "c"
    speak(folder / "rec.wav", "CAB ABBA BACH", 3)
    end = soundfile.info(folder / "rec.wav").duration
    (folder / "wav.scp").write_text("rec rec.wav\n")
    (folder / "segments").write_text(f"u1 rec 0 {end}\nu2 rec 0.05 {end}\nu3 rec 0 {end - 0.05}\nu4 rec 9 10\n")
    (folder / "text").write_text("".join(f"u{k} CAB ABBA BACH\n" for k in range(1, 5)))
    (folder / "utt2spk").write_text("".join(f"u{k} anna\n" for k in range(1, 5)))
    out = tmp_path / "out"
    lexicon = corpus[0].parent / "lexicon.txt"
    assert main(["align", str(folder), str(lexicon), str(out), "--jobs", "1", "--model", str(aligned)]) == 0
    tiers = {one.name: one for one in read_textgrid(out / "textgrid" / "rec.TextGrid")}
    said = [item.text for name, one in tiers.items() if name.startswith("words") for item in one.intervals if item.text]
    assert len(read_ctm(out / "words.ctm")) == len(said) == 9 and set(tiers) >= {"words", "words 2", "words 3"}
    (row,) = [row for row in read_jsonl(out / "problems.jsonl") if row["level"] == "error"]
    assert row["utterance"] == "u4" and "outside the audio" in row["reason"] and row["remedy"] == "mend its times"


def test_nothing_to_align(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c/a.wav").write_bytes(b"")
    (tmp_path / "c/a.lab").write_text("cab")
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    assert main(["align", str(tmp_path / "c"), str(tmp_path / "lexicon.txt"), str(tmp_path / "out")]) == 1
    (row,) = read_jsonl(tmp_path / "out/problems.jsonl")
    assert row["utterance"] == "a" and "0 bytes" in row["reason"]
    assert json.loads((tmp_path / "out/summary.json").read_text())["aligned"] == 0


@pytest.mark.parametrize(
    "more, code, what",
    [
        (["--format", "emu"], 2, "no output format 'emu'"),
        (["--max-problems", "7"], 2, "--max-problems 7"),
        (["--channel", "-1"], 2, "channel is -1"),
        (["--speaker", "an"], 2, "has no group"),
        (["--model", "lexicon.txt"], 1, "no GMM here"),
    ],
)
def test_wrong_options_say_so(corpus, monkeypatch, capsys, more, code, what):
    monkeypatch.chdir(corpus[0].parent)
    assert main(["align", "corpus", "lexicon.txt", "out-x", *more]) == code
    assert what in capsys.readouterr().err


def test_out_inside_the_corpus_is_refused(corpus, capsys):
    folder = corpus[0]
    assert main(["align", str(folder), str(folder.parent / "lexicon.txt"), str(folder / "out")]) == 2
    assert "beside the corpus" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["align", "--help"])
    text = capsys.readouterr().out
    assert "example:" in text and "hybrid align corpus/ lexicon.txt aligned/ --g2p" in text
