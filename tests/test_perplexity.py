"""Perplexities of compact models: those of the readable implementation (KenLM's: test_kenlm.py)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import TEXTS, arrays

from hybrid.errors import DataError
from hybrid.lm import ngram, perplexity
from hybrid.lm.arrays import NgramArrays

TOKENS = st.sampled_from([*"abcd", "zz", "<unk>"])


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.integers(1, 3), st.lists(st.lists(TOKENS, max_size=6), min_size=1), st.sampled_from([None, "<unk>"]))
def test_the_numbers_of_the_readable_one(sentences, order, text, unknown):
    model = ngram.train(sentences, order, vocabulary="abcd", unknown=unknown)
    compact = NgramArrays.from_model(model)
    if not any(text):
        with pytest.raises(DataError, match="no sentence"):
            perplexity.perplexity(compact, text)
        return
    expected, result = model.perplexity(text), perplexity.perplexity(compact, text)
    assert result.logprob == pytest.approx(expected.logprob, abs=1e-4)
    for name in ("words", "sentences", "oovs", "zeros", "events"):
        assert getattr(result, name) == getattr(expected, name), name
    assert sum(result.hits) == result.events + result.zeros and len(result.hits) == model.order


def test_hits_are_the_lengths_of_the_ngrams_that_were_found():
    model = arrays(["a b c", "a b"])
    # a: <s> a; b: <s> a b; d is unknown; c: alone, behind it; </s>: c </s>
    assert perplexity.perplexity(model, ["a b d c"]).hits == (1, 2, 1)
    assert perplexity.perplexity(model, ["c"]).hits == (1, 1, 0)


def test_a_word_of_probability_zero_is_counted_and_left_out():
    model = arrays(["a b"], 1)
    model.logprob[model.number_of["b"]] = -99.0
    result = perplexity.perplexity(model, ["a b a"])
    assert (result.zeros, result.events, result.oovs) == (1, 3, 0) and math.isfinite(result.logprob)


def test_blocks_of_a_long_text_give_the_same_number(monkeypatch):
    model = arrays(["a b c", "b b", "a b d"])
    text = ["a b", "c a d zz", "", "d"] * 50
    whole = perplexity.perplexity(model, iter(text))
    monkeypatch.setattr(perplexity, "_BLOCK", 7)
    parts = perplexity.perplexity(model, iter(text))
    assert parts.logprob == pytest.approx(whole.logprob)
    assert (parts.words, parts.sentences, parts.oovs, parts.events, parts.hits) == (
        whole.words, whole.sentences, whole.oovs, whole.events, whole.hits,
    )  # fmt: skip
    with pytest.raises(DataError, match="sentence 3 holds <s> within it"):
        perplexity.perplexity(model, ["a", "a b c d a", "a <s> b"])
