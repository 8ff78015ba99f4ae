"""Speakers held out, transcripts withheld, and the one rate of a set of cuts."""

from __future__ import annotations

from collections import Counter
from typing import List, Optional, Sequence

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
from test_audio import tone

from hybrid.corpus import at_rate, choose_speakers, common_rate, hold_out, withhold
from hybrid.data.audio import load_samples
from hybrid.errors import ConfigError, DataError


def cut(identifier: str, speaker: str, gender: Optional[str] = None, *, seconds: float = 1.0, rate: int = 16000):
    source = AudioSource("file", [0], f"/data/{identifier}.wav")
    recording = Recording(identifier, [source], rate, round(seconds * rate), seconds)
    supervision = SupervisionSegment(identifier, identifier, 0.0, seconds, 0, "GO", speaker=speaker, gender=gender)
    return MonoCut(identifier, 0.0, seconds, 0, [supervision], recording=recording)


def corpus(speakers: Sequence[str], each: int = 3, gender=lambda name: None) -> List[MonoCut]:
    return [cut(f"{name}-{number}", name, gender(name)) for number in range(each) for name in speakers]


def ids(cuts: Sequence[MonoCut]) -> List[str]:
    return [one.id for one in cuts]


NAMES = [f"{'fm'[number % 3 > 0]}{number:03d}" for number in range(12)]


@pytest.mark.parametrize("seed", range(4))
def test_speakers_are_held_out_whole_and_genders_by_their_share(seed):
    cuts = corpus(NAMES, gender=lambda name: name[0])
    rest, held = hold_out(cuts, 3, seed)
    chosen = choose_speakers(NAMES, 3, seed, group=lambda name: name[0])  # as AN4's recipe does
    assert {one.supervisions[0].speaker for one in held} == chosen
    assert sorted(name[0] for name in chosen) == ["f", "m", "m"]
    assert ids(held) == [name for name in ids(cuts) if name.split("-")[0] in chosen]
    assert ids(rest) == [name for name in ids(cuts) if name.split("-")[0] not in chosen]


def test_a_speakers_gender_may_stand_in_one_cut_only():
    cuts = corpus(NAMES)
    known = corpus(NAMES, each=1, gender=lambda name: name[0])
    assert ids(hold_out([*known, *cuts[12:]], 3)[1]) == ids(hold_out(corpus(NAMES, gender=lambda name: name[0]), 3)[1])


def test_the_order_of_cuts_does_not_matter():
    cuts = corpus(NAMES)
    assert sorted(ids(hold_out(cuts[::-1], 5, 7)[1])) == sorted(ids(hold_out(cuts, 5, 7)[1]))
    assert sorted(ids(hold_out(cuts, 5, 8)[1])) != sorted(ids(hold_out(cuts, 5, 7)[1]))


@pytest.mark.parametrize("own", [True, False])
def test_without_speakers_utterances_are_held_out_and_that_is_said(own):
    cuts = [cut(f"u{number:03d}", f"u{number:03d}" if own else "one") for number in range(200)]
    said: List[str] = []
    rest, held = hold_out(cuts, 8, log=said.append)
    assert len(held) == 20 and sorted(ids([*rest, *held])) == ids(cuts)
    assert len(said) == 1 and "20 of 200 utterances are held out" in said[0]
    assert len(hold_out(cuts[:30], 8)[1]) == 8
    with pytest.raises(DataError, match="cannot be held out"):
        hold_out(cuts[:8], 8)


@pytest.mark.parametrize("number", [0, 12, 13, -1])
def test_too_few_speakers(number):
    with pytest.raises(DataError, match="cannot be held out of 12"):
        hold_out(corpus(NAMES), number)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(1, 29), st.integers(0, 3), st.booleans())
def test_any_choice_is_a_partition_with_fair_shares(speakers, number, seed, genders):
    number = min(number, speakers - 1)
    names = [f"{'fm'[k * k % 5 < 2]}{k}" for k in range(speakers)]
    cuts = corpus(names, each=2, gender=(lambda name: name[0]) if genders else (lambda name: None))
    rest, held = hold_out(cuts, number, seed)
    if speakers > 1:
        people = {one.supervisions[0].speaker for one in held}
        assert len(people) == number and not people & {one.supervisions[0].speaker for one in rest}
        if genders:
            have, all_of = Counter(name[0] for name in people), Counter(name[0] for name in names)
            assert all(abs(have[g] - number * all_of[g] / speakers) < 1 for g in all_of)
    assert sorted(ids([*rest, *held])) == sorted(ids(cuts))


@pytest.mark.parametrize("share, speakers", [(1.0, 12), (0.5, 6), (0.25, 3), (0.01, 1)])
def test_withheld_transcripts(share, speakers):
    cuts = corpus(NAMES, gender=lambda name: name[0])
    labelled, unlabelled = withhold(cuts, share, 0)
    assert len({one.supervisions[0].speaker for one in labelled}) == speakers
    assert sorted(ids([*labelled, *unlabelled])) == sorted(ids(cuts))
    assert all(one.supervisions[0].text == "GO" for one in labelled)
    assert all(one.supervisions[0].text is None and one.supervisions[0].speaker for one in unlabelled)
    assert all(one.supervisions[0].text == "GO" for one in cuts)  # the cuts given are as they were
    if share < 1:
        assert labelled != withhold(cuts, share, 1)[0]


def test_withheld_of_unknown_speakers_is_a_share_of_utterances():
    cuts = [cut(f"u{number:03d}", f"u{number:03d}") for number in range(40)]
    labelled, unlabelled = withhold(cuts, 0.25, 0)
    assert (len(labelled), len(unlabelled)) == (10, 30)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_wrong_shares(share):
    with pytest.raises(ConfigError, match="share"):
        withhold(corpus(NAMES), share, 0)


# ------------------------------------------------------------------ rates


def test_the_common_rate_goes_by_seconds():
    cuts = [cut("a", "s", rate=16000), cut("b", "s", rate=16000), cut("c", "s", rate=8000, seconds=3.0)]
    assert common_rate(cuts) == 8000
    assert common_rate(cuts[:2]) == 16000
    assert common_rate([cut("a", "s", rate=16000), cut("c", "s", rate=8000)]) == 8000
    with pytest.raises(DataError):
        common_rate([])


@pytest.mark.parametrize("target", [8000, 16000, 44100])
def test_all_at_one_rate(tmp_path, target):
    cuts = []
    for name, rate in (("a", 8000), ("b", 16000), ("c", 44100), ("d", 44100)):
        soundfile.write(tmp_path / f"{name}.wav", tone(1.001, rate), rate)
        recording = Recording.from_file(tmp_path / f"{name}.wav", recording_id=name)
        for part, start, seconds in (("whole", 0.0, recording.duration), ("end", 0.5, recording.duration - 0.5)):
            said = SupervisionSegment(f"{name}-{part}", name, 0.0, seconds, 0, "GO", speaker="s")
            cuts.append(MonoCut(f"{name}-{part}", start, round(seconds, 8), 0, [said], recording=recording))
    out, notes = at_rate(cuts, target)
    assert ids(out) == ids(cuts) and {one.sampling_rate for one in out} == {target}
    others = {8000: 1, 16000: 1, 44100: 2}
    others.pop(target)
    assert [note.split(" (")[0] for note in notes] == [
        f"{count} recordings at {rate} Hz are resampled to {target} Hz" for rate, count in others.items()
    ]
    for before, after in zip(cuts, out, strict=True):
        assert abs(before.duration - after.duration) < 1e-3 and after.end <= after.recording.duration + 1e-8
        assert after.supervisions[0].duration == pytest.approx(after.duration, abs=1e-3)
        whole = before.start == 0
        assert len(load_samples(after, target)) == (after.recording.num_samples if whole else after.num_samples)
        expected = tone(1.001, target)[round(before.start * target) :]
        got = load_samples(after, target)
        length = min(len(got), len(expected))
        assert abs(len(got) - len(expected)) <= 2
        middle = slice(500, length - 500)
        assert np.corrcoef(got[middle], expected[middle])[0, 1] > 0.99
