"""Words in alignments, against every way to read the phones."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import DataError
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.segment import WordSegment, word_segments

# Homophones, pronunciations that begin others, readings that cross words (A B B: a b, b b or ab, b).
TABLE = {
    "A": [Pronunciation(("a",), 0.5), Pronunciation(("a", "b"), 1.0)],
    "AB": ["a b"],
    "B": ["b", "b b"],
    "HOM": ["a b"],
    "X": ["x y x", "x"],
}


def make(position_dependent=False):
    return Lang.create(Lexicon.from_dict(TABLE), position_dependent=position_dependent, spoken_noise="SPN")


def ids(lang, text):
    return np.array([lang.phones[name] for name in text.split()], dtype=np.int32)


def test_by_hand():
    lang = make()
    phones = ids(lang, "SIL a b SIL SPN x y x")
    got = word_segments(phones, np.array([5, 1, 2, 3, 4, 2, 2, 2]), lang.word_ids("HOM noise X"), lang)
    assert got == [
        WordSegment(lang.words["HOM"], 0, 1, 2, 5, 3),
        WordSegment(lang.words["<UNK>"], 0, 4, 1, 11, 4),
        WordSegment(lang.words["X"], 0, 5, 3, 15, 6),
    ]


def test_prefixes_need_the_whole_sentence():
    lang = make()
    words = lang.word_ids("A B B")
    for text, wanted in [("a b b", [0, 0, 0]), ("a b b b b", [1, 0, 1]), ("a SIL b b b", [0, 0, 1])]:
        phones = ids(lang, text)
        assert [s.pronunciation for s in word_segments(phones, np.ones(len(phones), int), words, lang)] == wanted


def test_silence_alone():
    lang = make()
    assert word_segments(ids(lang, "SIL"), np.array([9]), [], lang) == []
    assert word_segments(ids(lang, ""), np.zeros(0, int), [], lang) == []


def test_a_word_that_sounds_as_silence():
    lang = Lang.create(Lexicon.from_dict({"A": ["a"], "PAUSE": ["SIL"]}))
    phones = ids(lang, "SIL SIL a SIL")
    got = word_segments(phones, np.array([1, 2, 3, 4]), lang.word_ids("PAUSE A PAUSE"), lang)
    assert [s.first for s in got] == [0, 2, 3]  # of equal readings, the earlier words
    got = word_segments(phones, np.array([1, 2, 3, 4]), lang.word_ids("PAUSE PAUSE A"), lang)
    assert [s.first for s in got] == [0, 1, 2]


def readings(lang, phones, words):
    """Every (log probability, [(first, count, pronunciation)]) by recursion."""
    silence = lang.phones["SIL"]
    names = lang.word_names

    def go(place, words):
        if not words:
            if all(p == silence for p in phones[place:]):
                yield 0.0, []
            return
        for begin in range(place, len(phones) + 1):
            if begin > place and phones[begin - 1] != silence:
                return
            name = names[words[0]]
            for number, pron in enumerate(lang.pronunciation_ids(name)):
                if phones[begin : begin + len(pron)] == pron:
                    prob = math.log(lang.lexicon.pronunciations(name)[number].prob)
                    for rest, tail in go(begin + len(pron), words[1:]):
                        yield prob + rest, [(begin, len(pron), number), *tail]

    return list(go(0, words))


@st.composite
def spoken(draw):
    """(lang, phones, words, the segments that were drawn)."""
    lang = make(draw(st.booleans()))
    phones, segments = [], []
    words = draw(st.lists(st.sampled_from(sorted(set(lang.words) - {"<eps>", "#0", "<s>", "</s>"})), max_size=6))
    for name in words:
        phones += [lang.phones["SIL"]] * draw(st.booleans())
        number = draw(st.integers(0, len(lang.pronunciation_ids(name)) - 1))
        pron = lang.pronunciation_ids(name)[number]
        segments.append((len(phones), len(pron), number))
        phones += pron
    phones += [lang.phones["SIL"]] * draw(st.booleans())
    return lang, phones, [lang.words[name] for name in words], segments


@settings(max_examples=300, deadline=None)
@given(spoken(), st.data())
def test_words_are_found_again(example, data):
    lang, phones, words, wanted = example
    durations = data.draw(st.lists(st.integers(1, 9), min_size=len(phones), max_size=len(phones)))
    got = word_segments(np.array(phones, dtype=np.int32), np.array(durations, dtype=np.int32), words, lang)
    assert [s.word for s in got] == words
    found = [(s.first, s.count, s.pronunciation) for s in got]
    every = readings(lang, phones, words)
    scores = {tuple(reading): score for score, reading in every}
    assert tuple(wanted) in scores
    assert scores[tuple(found)] == pytest.approx(max(scores.values()))
    if len(scores) == 1:
        assert found == wanted
    if lang.position_dependent:
        assert found == wanted  # the marks leave one reading
    for segment in got:
        assert segment.start == sum(durations[: segment.first])
        assert segment.frames == sum(durations[segment.first : segment.first + segment.count])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("SIL SPN a b x y".split()), max_size=6), st.lists(st.integers(1, 6), max_size=3))
def test_refused_where_nothing_fits(names, words):
    lang = make()
    phones = [lang.phones[name] for name in names]
    wanted = bool(readings(lang, phones, words))
    try:
        word_segments(np.array(phones, dtype=np.int32), np.ones(len(phones), int), words, lang, utterance="u-1")
        assert wanted
    except DataError as error:
        assert not wanted
        assert error.utterance == "u-1"


@pytest.mark.parametrize(
    "text, words, durations, match",
    [
        ("a b", [2], [1], "2 phones with 1 durations"),
        ("a b", [0], [1, 1], "0 is the number of no word"),
        ("a b", [77], [1, 1], "77 is the number of no word"),
        ("SIL x y", [2, 6], [7, 1, 1], r"A \(word 1 of 2\) does not fit at frame 7: x y"),
        ("a", [2, 6], [1], r"X \(word 2 of 2\) is left"),
        ("a SIL x y", [2], [1, 2, 3, 4], "x y is left after the last of 1 words"),
        ("a", [], [1], "a is left after the last of 0 words"),
    ],
)
def test_bad_input(text, words, durations, match):
    lang = make()
    with pytest.raises(DataError, match=match) as info:
        word_segments(ids(lang, text), np.array(durations), words, lang, utterance="u-7")
    assert info.value.utterance == "u-7"
    assert info.value.remedy


def test_a_long_utterance_with_many_open_readings():
    lang = Lang.create(Lexicon.from_dict({"A": ["a", "a a"]}))
    segments = word_segments(np.full(300, lang.phones["a"]), np.ones(300, int), [1] * 200, lang)
    assert sum(s.count for s in segments) == 300
    assert list(itertools.accumulate(s.count for s in segments))[:-1] == [s.first for s in segments[1:]]


@pytest.mark.parametrize("position_dependent", [False, True])
def test_pieces_of_words(position_dependent):
    table = {"\u2581A": ["a"], "B": ["b", "a"]}
    lang = Lang.create(
        Lexicon.from_dict(table), pieces=SimpleNamespace(names=list(table)), position_dependent=position_dependent
    )
    words = [lang.words[name] for name in ("\u2581A", "B", "B", "\u2581A")]
    text = "SIL a_B a_I b_E SIL a_S" if position_dependent else "SIL a a b SIL a"
    phones = ids(lang, text)
    got = word_segments(phones, np.array([1, 2, 3, 4, 5, 6]), words, lang)
    assert [(s.first, s.start, s.frames) for s in got] == [(1, 1, 2), (2, 3, 3), (3, 6, 4), (5, 15, 6)]
    for segment in got:
        spelled = lang.pronunciation_ids(lang.word_names[segment.word])[segment.pronunciation]
        assert spelled == phones[segment.first : segment.first + segment.count].tolist()
    with pytest.raises(DataError, match="B .word 2 of 2. does not fit at frame 1"):
        word_segments(ids(lang, text.replace("a_B a_I b_E", "a_B SIL b_E").replace("a a b", "a SIL b"))[1:4],
                      np.ones(3, int), words[:2], lang)  # fmt: skip
