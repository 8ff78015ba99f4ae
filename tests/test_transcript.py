"""From transcripts to words of the lexicon: forms of characters, notes, variants, punctuation."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.lexicon.lexicon import Lexicon
from hybrid.lexicon.transcript import Normaliser, is_note


def normaliser(*words: str, **more) -> Normaliser:
    return Normaliser(Lexicon.from_dict({word: ["x"] for word in words}), **more)


@pytest.mark.parametrize(
    "words, text, expected",
    [
        (["HELLO", "WORLD"], "“Hello,” world!", ["HELLO", "WORLD"]),
        (["hello", "world's"], "HELLO World’s -- …", ["hello", "world's"]),
        (["Polish", "polish"], "Polish polish.", ["Polish", "polish"]),
        (["Polish", "polish", "US", "us"], "POLISH US Us", ["polish", "US", "us"]),
        (["'TIS", "DOGS'"], "'tis the dogs'.", ["'TIS", "THE", "DOGS'"]),
        (["WELL", "KNOWN", "X-RAY"], "Well-known x-ray half-known", ["WELL", "KNOWN", "X-RAY", "HALF-KNOWN"]),
        (["<unk>", "a"], "<unk> <s> A </s>", ["<unk>", "a"]),
        (["MR.", "SMITH"], "Mr. Smith.", ["MR.", "SMITH"]),
        (["a"], " ... !? ", []),
        (["a", "b"], "a\u2028b\x85a\u00a0b", ["a", "b", "a", "b"]),
        (["the", "Paris"], "The PARIS the", ["the", "Paris", "the"]),  # of both cases: still found
        (["STRASSE"], "Straße", ["STRASSE"]),
    ],
)
def test_words(words, text, expected):
    assert normaliser(*words)(text) == expected


NFD_BE, NUKTA = "be\u0301", "\u095e\u093e\u0907\u0935"


@pytest.mark.parametrize(
    "word, token",
    [
        (NFD_BE, NFD_BE),
        (NFD_BE, "b\u00e9"),
        ("b\u00e9", NFD_BE),
        (NFD_BE, "B\u00c9,"),
        ("ze\u0302\u0301", "z\u1ebf"),
        (NUKTA, NUKTA),
        (NUKTA, unicodedata.normalize("NFC", NUKTA)),
        (unicodedata.normalize("NFC", NUKTA), NUKTA),
        ("thr’ee", "thr'ee"),
        ("thr'ee", "thr’ee"),
        ("thr’ee", "THR`EE"),
        ("x-ray", "x‐ray"),
        ("x–ray", "x-ray"),
        ("x-ray", "“X—RAY”"),
        ("soft", "so\u00adft"),
        ("CAFÉ", "cafe\u0301"),
    ],
)
def test_the_lexicons_spelling_comes_out(word, token):
    assert normaliser(word, "other")(token) == [word]


def test_byte_for_byte_comes_first():
    words = ["b\u00e9", NFD_BE, "it's", "it’s", "IT'S"]
    assert normaliser(*words)(" ".join(words)) == words
    assert normaliser(*words)("IT’S") == ["IT'S"]


@pytest.mark.parametrize("note", ["[laughter]", "<noise>", "(pause)", "{BR}", "--", "++NOISE++", "<b_aside>", "[unk]"])
def test_notes_are_no_words(note):
    words = ["NOISE", "LAUGHTER", "PAUSE", "BR", "UNK", "B", "ASIDE", "FIVE"]
    normalise = normaliser(*words)
    assert normalise(f"{note} FIVE {note}, five") == ["FIVE", "FIVE"]
    assert normalise.notes == {note: 2} and is_note(note)
    known = normaliser(*words, note)
    assert known(f"five {note}") == ["FIVE", note] and not known.notes  # the lexicon has it as it stands
    if note != "--":
        assert normaliser(*words, unknown="<UNK>")(f"{note} FIVE") == ["<UNK>", "FIVE"]


def test_notes_of_several_words_and_within_tokens():
    normalise = normaliser("door", "slams", "five", "the", "man", "b", "c", "o[k]")
    assert normalise("five [door  slams] <door slams> {door slams}") == ["five"]
    assert normalise("five[door] [door].") == ["five"]
    assert normalise("o[k] o[k], five") == ["o[k]", "o[k]", "five"]
    assert normalise.notes == {"[door slams]": 1, "<door slams>": 1, "{door slams}": 1, "[door]": 2}
    # said, in brackets
    assert normaliser("the", "man", "b", "c")("(the man) b < c > b") == ["the", "man", "b", "c", "b"]
    assert normaliser("the")("[the") == ["the"]
    assert normaliser("<NOISE>", "A")("<noise> a") == ["<NOISE>", "A"]


def test_variants():
    normalise = normaliser("AND", "z(z)", "B(2)x")
    assert normalise("AND(2) and(3), z(z) for(2) B(2)x") == ["AND", "AND", "z(z)", "for", "B(2)x"]
    assert not normalise.notes


@given(st.lists(st.text("abé’'-[](<>){}2 \u0301", min_size=1, max_size=6), min_size=1), st.text("abé’'-[]<>(2)é. "))
def test_words_of_the_lexicon_are_taken_as_they_stand(words, text):
    words = [word for word in ("".join(word.split()) for word in words) if word and not word.endswith("(2)")]
    if not words:
        return
    normalise = normaliser(*words)
    assert normalise(" ".join(words)) == words
    once = normalise(text)
    assert all(word.strip() for word in once)
    found = [word for word in once if word in normalise.lexicon]
    assert normalise(" ".join(found)) == found  # what was found stays


def test_speed():
    words = [f"WORD{number}’S" for number in range(50_000)]
    normalise = normaliser(*words)
    text = " ".join(word.lower().replace("’", "'") for word in words)
    began = time.process_time()
    assert normalise(text) == words
    first = time.process_time() - began
    began = time.process_time()
    for _ in range(10):
        normalise(text)
    again = time.process_time() - began
    assert first < 10 and again < 4  # seconds; measured: 0.5, and 0.3 for half a million tokens
