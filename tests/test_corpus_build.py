"""From a listing to cuts: bounds, order, ids, channels; the same for every form of corpus."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_tools import cuts_of, listing_of
from test_audio import tone

from hybrid.corpus import Listing, Reading, Utterance, build_corpus
from hybrid.corpus.text import decode, one_line, text_lines
from hybrid.data.audio import load_samples
from hybrid.errors import ConfigError, DataError
from hybrid.parallel import SerialExecutor

RATE = 16000


def test_order_and_reasons_are_the_same_in_any_executor(tmp_path):
    files = []
    for number in range(20):
        files.append(tmp_path / f"u{number}.wav")
        soundfile.write(files[-1], tone(0.2 + 0.01 * number), RATE)
    files[7].unlink()
    expected = [file.stem for file in files if file.stem != "u7"]
    seen = []
    for executor in (None, SerialExecutor()):
        totals = []

        def progress(items, total, desc, totals=totals):
            totals.append(total)
            return items

        listing = listing_of(*files)
        corpus = build_corpus(listing, Reading(), executor=executor, progress=progress)
        assert [cut.id for cut in corpus.cuts] == expected and totals == [20]
        assert corpus.cuts[3].num_samples == 3680
        seen.append(corpus.skipped)
        listing.keep_order = False
        assert [cut.id for cut in build_corpus(listing, Reading()).cuts] == sorted(expected)
    assert seen[0] == seen[1] and seen[0][0].file == str(files[7]) and seen[0][0].remedy


def test_headers_only_finds_less(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(8000), RATE)
    assert len(cuts_of(path, decode=False)) == 1
    with pytest.raises(DataError, match="no signal"):
        cuts_of(path)


def test_decoding_judges_each_channel(tmp_path):
    """The left channel is silent, the right one is not a number in places, the third is speech."""
    samples = np.stack([np.zeros(8000), tone(), tone(hertz=300)], axis=1).astype(np.float32)
    samples[5, 1] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    listing = Listing("test", {"a": tmp_path / "a.wav"})
    listing.utterances = [Utterance(f"u{c}", "a", "GO", "s", channel=c) for c in range(4)]
    for executor in (None, SerialExecutor()):
        corpus = build_corpus(listing, Reading(decode=True), executor=executor)
        assert [(cut.id, cut.channel) for cut in corpus.cuts] == [("u2", 2)]
        reasons = {row.utterance: row.reason for row in corpus.skipped}
        assert "no signal in channel 0 of 3" in reasons["u0"] and "choose another channel" in corpus.skipped[0].remedy
        assert "1 samples are NaN" in reasons["u1"] and "channel 1" in reasons["u1"]
        assert "there is no channel 3: the audio has 0, 1, 2" in reasons["u3"]
    np.testing.assert_allclose(load_samples(corpus.cuts[0]), tone(hertz=300), atol=1e-4)


@pytest.mark.parametrize(
    "start, end, expected",
    [
        (0.0, None, (0.0, 2.0)),
        (0.5, 1.5, (0.5, 1.0)),
        (-0.1, 1.0, (0.0, 1.0)),  # as much slack before the recording as after it
        (1.0, 2.1, (1.0, 1.0)),
        (-0.02, 2.02, (0.0, 2.0)),
        (1e-9, 2.0 - 1e-9, (0.0, 2.0)),  # rounded: the whole recording
        (0.0, 1.99, (0.0, 1.99)),
        (-0.11, 1.0, "lie outside the audio of 2 s"),
        (1.0, 2.11, "lie outside the audio of 2 s"),
        (2.0, 2.05, "lie outside the audio of 2 s"),
        (-3.0, -2.0, "lie outside the audio of 2 s"),
        (1.5, 1.0, "ends, at 1 s, before it starts, at 1.5 s"),
        (1.0, 1.0, "lasts 0.000 s"),
        (1.0, 1.04, "lasts 0.040 s, less than 0.05 s"),
        (1.0, 1.05, (1.0, 0.05)),
        (math.nan, 1.0, "no times"),
        (0.0, math.inf, "no times"),
        (-math.inf, 1.0, "no times"),
    ],
)
def test_bounds(tmp_path, start, end, expected):
    soundfile.write(tmp_path / "a.wav", tone(2.0), RATE)
    listing = Listing("test", {"a": tmp_path / "a.wav"}, [Utterance("u", "a", "GO", "s", start, end)])
    corpus = build_corpus(listing, Reading())
    if isinstance(expected, str):
        assert not corpus.cuts
        (row,) = corpus.skipped
        assert row.utterance == "u" and expected in row.reason and row.remedy
        assert row.file == str(tmp_path / "a.wav")
        return
    (cut,) = corpus.cuts
    assert (cut.start, cut.duration) == expected and cut.supervisions[0].duration == cut.duration
    assert len(load_samples(cut)) == round(expected[1] * RATE)


def test_ids_given_twice_are_named_and_not_used(tmp_path):
    listing = listing_of(tmp_path / "a.wav", tmp_path / "b.wav")
    for file in listing.recordings.values():
        soundfile.write(file, tone(), RATE)
    listing.utterances.append(Utterance("a", "b", "STOP", "s"))
    corpus = build_corpus(listing, Reading())
    assert [cut.id for cut in corpus.cuts] == ["b"] and corpus.total == 2
    (row,) = corpus.skipped
    assert row.utterance == "a" and "2 times (a: GO; b: STOP)" in row.reason


def test_texts_and_speakers(tmp_path):
    listing = listing_of(*(tmp_path / f"{name}.wav" for name in "abc"))
    for file in listing.recordings.values():
        soundfile.write(file, tone(), RATE)
    listing.utterances = [
        Utterance("a", "a", " ONE\u2028TWO\u0085 THREE\u00a0\u3000FOUR\n", "s", gender="f"),
        Utterance("b", "b", "\u00a0\u3000\n", "s"),
        Utterance("c", "c", "GO"),
    ]
    corpus = build_corpus(listing, Reading())
    a, c = corpus.cuts
    assert a.supervisions[0].text == "ONE TWO THREE FOUR" and a.supervisions[0].gender == "f"
    assert "the transcript is empty" in corpus.skipped[0].reason
    assert c.supervisions[0].speaker == "c" and "1 of 2 utterances have no speaker" in corpus.notes[0]
    untold = build_corpus(listing, Reading(transcripts=False))
    assert [cut.supervisions[0].text for cut in untold.cuts] == [None] * 3 and not untold.skipped
    listing.untranscribed = {"b"}
    some = build_corpus(listing, Reading())
    assert [cut.supervisions[0].text for cut in some.cuts] == ["ONE TWO THREE FOUR", None, "GO"]


def test_a_recording_without_utterance_is_named(tmp_path):
    listing = listing_of(tmp_path / "a.wav", tmp_path / "b.wav")
    for file in listing.recordings.values():
        soundfile.write(file, tone(), RATE)
    listing.utterances.pop()
    corpus = build_corpus(listing, Reading())
    assert [(row.utterance, row.reason) for row in corpus.skipped] == [("b", "audio without transcript")]
    assert corpus.durations == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize("rate, fine", [(8000, True), (7999, False), (4000, False), (48000, True)])
def test_rates_from_8_khz_on(tmp_path, rate, fine):
    soundfile.write(tmp_path / "a.wav", tone(0.5, rate), rate)
    corpus = build_corpus(listing_of(tmp_path / "a.wav"), Reading())
    assert [cut.sampling_rate for cut in corpus.cuts] == ([rate] if fine else [])
    assert fine or f"audio at {rate} Hz" in corpus.skipped[0].reason


@pytest.mark.parametrize(
    "options, what",
    [
        ({"speaker": "("}, "no regular expression"),
        ({"speaker": r"\w+"}, "has no group"),
        ({"speaker": -1}, "speaker is -1"),
        ({"speaker": True}, "speaker is True"),
        ({"speaker": 1.5}, "speaker is 1.5"),
        ({"channel": -1}, "channel is -1"),
        ({"channel": "left"}, "channel is 'left'"),
        ({"min_duration": 0.0}, "min_duration"),
        ({"min_duration": math.nan}, "min_duration"),
    ],
)
def test_wrong_readings(options, what):
    with pytest.raises(ConfigError, match=what) as caught:
        Reading(**options)
    assert caught.value.remedy


# ------------------------------------------------------------------ text


def test_text_lines(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfONE\r\n\nTW\xffO\n  GR\xc3\x9cN")
    lines = list(text_lines(path))
    assert [(number, line) for number, line, _ in lines] == [(1, "ONE"), (3, "TW\ufffdO"), (4, "GR\u00dcN")]
    assert [wrong is not None for _, _, wrong in lines] == [False, True, False]
    with pytest.raises(DataError, match="no such file"):
        list(text_lines(tmp_path / "none"))
    with pytest.raises(DataError, match="cannot be read"):
        list(text_lines(tmp_path))


BLANKS = ["\u2028", "\u2029", "\u0085", "\u00a0", "\u3000", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]


@pytest.mark.parametrize("mark", BLANKS)
def test_lines_end_at_the_line_feed_alone(tmp_path, mark):
    path: Path = tmp_path / "text"
    path.write_text(f"a ONE{mark}TWO\n{mark}\n{mark}b THREE{mark}\n", encoding="utf-8", newline="")
    assert [(number, line) for number, line, _ in text_lines(path)] == [(1, f"a ONE{mark}TWO"), (3, "b THREE")]
    assert one_line(f"ONE{mark}TWO") == "ONE TWO"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_that_tell_themselves(encoding):
    assert decode("Grün, „ja“\n".encode(encoding)) == "Grün, „ja“\n"
    with pytest.raises(UnicodeDecodeError):
        decode("Grün".encode("latin-1"))
