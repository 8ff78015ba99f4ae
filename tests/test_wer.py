"""Word error rate against kaldialign on random sentences.

By hand once against NIST's sclite (Debian's sctk 2.4.10, `sclite -r ref.trn trn -h hyp.trn trn -i rm -o rsum`) on the
130 transcripts of AN4's test set (773 words) with random errors: 70 sub 24 del 35 ins and 123 sub 40 del 37 ins, equal
one by one; at 87 % WER still 670 errors in both, here 462 sub 95 del 113 ins, there (weights 4, 3, 3) 458, 97, 115.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import DataError
from hybrid.score import wer

kaldialign = pytest.importorskip("kaldialign")

SENTENCE = st.lists(st.sampled_from(["a", "b", "c", "dd"]), max_size=12)


def _minimal(ref, hyp):
    """The plain recursion over prefixes, the last row only: a second implementation."""
    row = list(range(len(hyp) + 1))
    for i, word in enumerate(ref, 1):
        row, above = [i], row
        for j, other in enumerate(hyp, 1):
            row.append(min(above[j - 1] + (word != other), above[j] + 1, row[j - 1] + 1))
    return row[-1]


@settings(max_examples=400, deadline=None)
@given(SENTENCE, SENTENCE)
def test_counts_equal_kaldialign_one_by_one(ref, hyp):
    counts = wer.count(wer.align(ref, hyp))
    theirs = kaldialign.edit_distance(ref, hyp)
    assert (counts.ins, counts.dels, counts.sub) == (theirs["ins"], theirs["del"], theirs["sub"])
    assert counts.errors == theirs["total"] == _minimal(ref, hyp)
    assert counts.words == len(ref)


@settings(max_examples=200, deadline=None)
@given(SENTENCE, SENTENCE)
def test_pairs_spell_both_sides(ref, hyp):
    pairs = wer.align(ref, hyp)
    assert [left for left, _ in pairs if left is not None] == ref
    assert [right for _, right in pairs if right is not None] == hyp
    assert (None, None) not in pairs
    # swapping the sides swaps insertions and deletions in number of errors
    assert wer.count(wer.align(hyp, ref)).errors == wer.count(pairs).errors


@pytest.mark.parametrize(
    "ref, hyp, ins, dels, sub",
    [
        ("", "", 0, 0, 0),
        ("", "x y", 2, 0, 0),
        ("x y", "", 0, 2, 0),
        ("the cat sat", "the cat sat", 0, 0, 0),
        ("the cat sat", "the hat sat down", 1, 0, 1),
        # two substitutions, or a word right with one insertion and one deletion: as compute-wer, the latter
        ("b a", "a b", 1, 1, 0),
        # words are compared as they stand
        ("Yes", "yes", 0, 0, 1),
    ],
)
def test_known_alignments(ref, hyp, ins, dels, sub):
    counts = wer.count(wer.align(ref.split(), hyp.split()))
    assert (counts.ins, counts.dels, counts.sub) == (ins, dels, sub)


def test_score_sums_speakers_and_names_the_missing():
    refs = {"b-2": ["one", "two"], "a-1": ["one"], "a-2": ["three", "four", "five"], "b-1": []}
    hyps = {"a-1": ["one"], "b-2": ["one", "too"], "b-1": ["uh"]}
    result = wer.score(refs, hyps, speakers={"a-1": "a", "a-2": "a", "b-1": "b", "b-2": "b"})
    assert list(result.utterances) == ["a-1", "a-2", "b-1", "b-2"]
    assert result.missing == ["a-2"]
    assert result.utterances["a-2"] == wer.Counts(words=3, dels=3)
    assert result.speakers == {"a": wer.Counts(4, 0, 3, 0), "b": wer.Counts(2, 1, 0, 1)}
    assert result.total == result.speakers["a"] + result.speakers["b"]
    assert result.wer == pytest.approx(100 * 5 / 6)
    found = result.confusions()
    assert found["sub"] == [("two", "too", 1)]
    assert found["ins"] == [("", "uh", 1)]
    assert [row[0] for row in found["del"]] == ["five", "four", "three"]


def test_confusions_are_ordered_by_count_then_word():
    pairs = {"u": [("a", "b"), ("c", "d"), ("a", "b"), ("a", "a")]}
    assert wer.confusions(pairs)["sub"] == [("a", "b", 2), ("c", "d", 1)]


def test_no_word_of_reference_has_no_rate():
    assert math.isnan(wer.score({"u": []}, {"u": ["x"]}).wer)
    assert "%WER -" in wer.format_score(wer.score({"u": []}, {}))


@pytest.mark.parametrize(
    "refs, hyps, speakers, says",
    [
        ({}, {}, None, "no reference"),
        ({"u": ["a"]}, {"u": ["a"], "v": ["b"]}, None, "utterance: v"),
        ({"u": ["a"]}, {"u": ["a"]}, {}, "utterance: u"),
    ],
)
def test_bad_sets(refs, hyps, speakers, says):
    with pytest.raises(DataError, match=says):
        wer.score(refs, hyps, speakers=speakers)


def test_text_files_round_trip_and_score(tmp_path):
    ref, hyp = tmp_path / "ref", tmp_path / "hyp"
    ref.write_text(wer.format_text({"u2": ["straße", "zwei"], "u1": []}), encoding="utf-8")
    assert ref.read_text(encoding="utf-8") == "u1\nu2 straße zwei\n"
    hyp.write_text("u2 straße  drei\n\n", encoding="utf-8")
    result = wer.score_files(ref, hyp)
    assert result.total == wer.Counts(words=2, sub=1)
    text = wer.format_score(result)
    assert text.splitlines()[0] == "%WER 50.00 [ 1 / 2, 0 ins, 0 del, 1 sub ]"
    assert "1 without hypothesis" in text and "u1" in text
    assert "ref straße zwei\n  hyp straße drei\n  op  C      S\n" in wer.format_aligned(result)


@pytest.mark.parametrize(
    "data, says",
    [
        (None, "no such file"),
        (b"", "no utterance"),
        (b"\n \n", "no utterance"),
        (b"u one\nv two\nu three\n", "line 3: the id stands twice .*utterance: u"),
        (b"u one\nv t\xffo\n", "line 2: not UTF-8"),
    ],
)
def test_bad_text_files(tmp_path, data, says):
    path = tmp_path / "text"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        wer.read_text(path)
    assert str(path) in str(caught.value)
    assert "Remedy" in str(caught.value)
