"""TextGrids as Praat and others write them: what is read, and sizes that do not agree with what is there."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from test_audio import tone

from hybrid.align.textgrid import format_textgrid, tier
from hybrid.corpus import Reading, read_corpus
from hybrid.corpus.textgrid import Interval, Tier, parse_textgrid, read_textgrid
from hybrid.data.audio import load_samples
from hybrid.errors import DataError

SHORT = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2\n<exists>\n2\n'
SHORT += '"IntervalTier"\n"a ""b"""\n0\n2\n1\n0\n2\n"x"\n"TextTier"\n"p"\n0\n2\n1\n0.5\n"!"\n'


def test_short_form_points_and_utf16(tmp_path):
    expected = [Tier('a "b"', 0, 2, [Interval(0, 2, "x")]), Tier("p", 0, 2, [Interval(0.5, 0.5, "!")], points=True)]
    assert parse_textgrid(SHORT) == expected
    (tmp_path / "a.TextGrid").write_bytes(SHORT.encode("utf-16"))
    assert read_textgrid(tmp_path / "a.TextGrid") == expected
    assert parse_textgrid(SHORT.replace("\n2\n<exists>", "\n2 ! two seconds \n<exists>")) == expected


@pytest.mark.parametrize(
    "text, what",
    [
        ("", "not a TextGrid"),
        ("hello world", "not a TextGrid"),
        (SHORT[:90], "truncated"),
        (SHORT.replace('"TextTier"', '"PitchTier"'), "PitchTier"),
        (SHORT.replace('0\n2\n"x"', '3\n2\n"x"'), "from 3 to 2"),
        (SHORT.replace('0\n2\n"x"', '"y"\n2\n"x"'), "number is wanted"),
    ],
)
def test_broken_textgrids(tmp_path, text, what):
    path = tmp_path / "a.TextGrid"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=what) as error:
        read_textgrid(path)
    assert error.value.file == str(path) and error.value.remedy


def two_tiers(first: int = 3, second: int = 2) -> str:
    """Tiers of so many intervals of a second each."""
    return format_textgrid(
        [
            tier("anna", [Interval(k, k + 1, f"w{k}") for k in range(first)], 0, first),
            tier("bo", [Interval(k, k + 1, f"v{k}") for k in range(second)], 0, second),
        ]
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2), st.integers(0, 9))
def test_any_wrong_size_is_named(first, second, which, said):
    """Of the tiers, or of the intervals of either: nothing vanishes without a word."""
    text = two_tiers(first, second)
    sizes = list(re.finditer(r"size = (\d+)", text))
    assert len(sizes) == 3
    right = int(sizes[which][1])
    begin, end = sizes[which].span(1)
    changed = text[:begin] + str(said) + text[end:]
    if said == right:
        assert parse_textgrid(changed) == parse_textgrid(text)
        return
    with pytest.raises(DataError) as caught:
        parse_textgrid(changed)
    assert caught.value.remedy and re.search("left over|truncated|wanted", caught.value.what)


def test_a_size_that_is_too_small_says_where():
    with pytest.raises(DataError, match="3 numbers or texts are left over after tier 'bo' of 1 intervals"):
        parse_textgrid(two_tiers().replace("intervals: size = 2", "intervals: size = 1"))
    with pytest.raises(DataError, match=r"tier 2, after tier 'anna' of 2 intervals \(are there more\?\)"):
        parse_textgrid(two_tiers().replace("intervals: size = 3", "intervals: size = 2"))


# ------------------------------------------------------------------ in a folder


def call(folder, *names: str, channels: int = 2):
    """A recording of 2 s, channel k a tone of 300 (k + 1) Hz; tier k has an utterance from 0.1 k on."""
    both = np.stack([tone(2.0, hertz=300 * (k + 1)) for k in range(channels)], axis=1)
    soundfile.write(folder / "call.wav", both, 16000)
    tiers = [tier(name, [Interval(0.1 * k, 1.0 + 0.1 * k, "go")], 0, 2) for k, name in enumerate(names)]
    (folder / "call.TextGrid").write_text(format_textgrid(tiers))
    return folder


@pytest.mark.parametrize(
    "names, channels, expected",
    [
        (["anna", "bo"], 2, [0, 1]),
        (["anna"], 2, [0]),
        (["anna", "bo"], 1, [0, 0]),
        (["a", "b", "c", "d"], 2, [0, 0, 1, 1]),
        (["a", "b", "c"], 3, [0, 1, 2]),
        (["anna", "bo", "notes"], 2, [0, 1]),
        (["anna - words", "anna - phones", "bo - words", "bo - phones"], 2, [0, 1]),
    ],
)
def test_tiers_are_shared_out_over_channels(tmp_path, names, channels, expected):
    corpus = read_corpus(call(tmp_path, *names, channels=channels))
    assert not corpus.skipped and [cut.channel for cut in corpus.cuts] == expected
    speech = [name for name in names if not name.endswith(("notes", "phones"))]
    assert [cut.supervisions[0].speaker for cut in corpus.cuts] == [re.sub(" ", "_", name) for name in speech]
    for cut, channel in zip(corpus.cuts, expected, strict=True):
        assert cut.supervisions[0].channel == channel
        spectrum = np.abs(np.fft.rfft(load_samples(cut)))
        assert np.argmax(spectrum) == 300 * (channel + 1)  # a second: a bin a hertz
    several = [note for note in corpus.notes if "several channels" in note]
    assert len(several) == (channels > 1) and len(corpus.notes) == len(several) + (len(speech) < len(names))


def test_tiers_that_cannot_be_shared_out(tmp_path):
    corpus = read_corpus(call(tmp_path, "a", "b", "c"))
    assert not corpus.cuts and len(corpus.skipped) == 3
    assert "which of 2 channels each of the 3 tiers" in corpus.skipped[0].reason and "choose a channel" in str(
        corpus.skipped[0].remedy
    )
    chosen = read_corpus(tmp_path, Reading(channel=1))
    assert [cut.channel for cut in chosen.cuts] == [1, 1, 1] and not chosen.notes
    assert [cut.supervisions[0].speaker for cut in chosen.cuts] == ["a", "b", "c"]
    by_name = read_corpus(tmp_path, Reading(channel=1, speaker=2))
    assert {cut.supervisions[0].speaker for cut in by_name.cuts} == {"ca"}


def test_one_silent_channel(tmp_path):
    """What is said is on the right."""
    both = np.stack([np.zeros(16000), tone(1.0)], axis=1)
    soundfile.write(tmp_path / "right.wav", both, 16000)
    (tmp_path / "right.lab").write_text("go")
    (row,) = read_corpus(tmp_path, Reading(decode=True)).skipped
    assert "no signal in channel 0 of 2" in row.reason and "choose another channel" in row.remedy
    with pytest.raises(DataError, match="no signal in channel 0 of 2.*choose another channel"):
        load_samples(read_corpus(tmp_path).cuts[0])
    (cut,) = read_corpus(tmp_path, Reading(decode=True, channel=1)).cuts
    np.testing.assert_allclose(load_samples(cut), tone(1.0), atol=1e-4)
    (row,) = read_corpus(tmp_path, Reading(channel=2)).skipped
    assert "no channel 2: the audio has 0, 1" in row.reason


def test_the_speaker_by_a_pattern(tmp_path):
    for name in ("x/an1-fash-b", "y/an2-mblb-b", "y/odd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"{name}.wav", tone(), 16000)
        (tmp_path / f"{name}.lab").write_text("go")
    corpus = read_corpus(tmp_path, Reading(speaker=r"-(\w+)-"))
    assert {cut.id: cut.supervisions[0].speaker for cut in corpus.cuts} == {
        "x/an1-fash-b": "fash", "y/an2-mblb-b": "mblb", "y/odd": "y/odd"
    }
    assert "1 of 3 utterances have no speaker" in corpus.notes[0]
