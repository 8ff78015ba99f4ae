"""Interpolated n-gram models: sums of one, the mixture where its n-grams are listed, weights that EM finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import ABC, TEXTS, arrays, histories, slow_distribution

from hybrid.errors import ConfigError, DataError
from hybrid.lm.arrays import Columns, NgramArrays
from hybrid.lm.backoffs import normalise, restrict
from hybrid.lm.interpolate import check_weights, interpolate, tune_weights
from hybrid.lm.model import NgramModel
from hybrid.lm.perplexity import perplexity

MODELS = st.lists(st.tuples(TEXTS, st.integers(1, 3)), min_size=2, max_size=3)


def mixture(models, weights, word, history) -> float:
    """sum_i lambda_i p_i(word | history), by the readable implementation."""
    return sum(
        weight * math.exp(model.to_model().logprob(word, history)) for model, weight in zip(models, weights)
    )


@settings(max_examples=40, deadline=None)
@given(MODELS, st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_every_distribution_sums_to_one_and_listed_ngrams_have_the_mixture(texts, parts):
    models = [arrays(text, order) for text, order in texts]
    weights = [part / sum(parts[: len(models)]) for part in parts[: len(models)]]
    mixed = interpolate(models, weights)
    slow = mixed.to_model()
    for history in histories(mixed, mixed.order - 1):
        assert sum(slow_distribution(slow, history).values()) == pytest.approx(1.0, abs=2e-5), history
    listed = {ngram for model in models for prob in model.to_model().probs for ngram in prob}
    assert {ngram for prob in slow.probs for ngram in prob} == listed
    scaled = bool(mixed.notices)  # a history after which every word is listed
    for ngram in listed if not scaled else ():
        if ngram != ("<s>",):
            expected = mixture(models, weights, ngram[-1], ngram[:-1])
            assert 10.0 ** slow.probs[len(ngram) - 1][ngram] == pytest.approx(expected, rel=1e-4, abs=1e-7), ngram


def test_words_of_one_model_alone_have_its_share():
    one, other = arrays(["a b", "a"], 2), arrays(["c d", "c"], 2)
    mixed = interpolate([one, other], [0.25, 0.75])
    assert mixed.words == ["</s>", "<s>", "a", "b", "c", "d"]
    for word, model, share in (("a", one, 0.25), ("d", other, 0.75)):
        assert mixed.logprob_of(word) == pytest.approx(model.logprob_of(word) + math.log(share), abs=1e-5)
    assert mixed.logprob_of("b", ["a"]) == pytest.approx(one.logprob_of("b", ["a"]) + math.log(0.25), abs=1e-5)


def test_a_model_of_weight_one_is_that_model():
    one, other = arrays(["a b c", "a c"], 3), arrays(["a d", "b a"], 2)
    mixed = interpolate([one, other], [1.0, 0.0])
    for history in histories(one, 2):
        for word in one.words:
            assert mixed.logprob_of(word, history) == pytest.approx(one.logprob_of(word, history), abs=1e-4)
    assert mixed.logprob_of("d") < -200  # a word of the vocabulary, and no probability to speak of


@settings(max_examples=25, deadline=None)
@given(st.tuples(TEXTS, TEXTS), TEXTS)
def test_weights_are_the_best_of_a_grid(texts, dev):
    """The likelihood of the text, drawn over all weights, has no higher place than EM's."""
    models = [arrays(text, 2, vocabulary=ABC) for text in texts]
    tuned = tune_weights(models, dev)
    assert sum(tuned.weights) == pytest.approx(1.0) and tuned.left_out == 0
    events = [
        (word, ["<s>", *sentence[:place]])
        for sentence in dev
        for place, word in enumerate([*sentence, "</s>"])
    ]
    slow = [model.to_model() for model in models]
    probs = np.array([[math.exp(model.logprob(*event)) for model in slow] for event in events])
    best = min(
        math.exp(-np.log(probs @ [share, 1 - share]).mean()) for share in np.linspace(0.001, 0.999, 999)
    )
    assert tuned.perplexity <= best * (1 + 1e-4) and tuned.words == len(events)


def test_weights_of_a_text_that_only_one_model_knows():
    one, other = arrays(["a b", "a"], 2), arrays(["c d", "c"], 2)
    tuned = tune_weights([one, other], ["a b b a zz"])
    assert tuned.left_out == 1 and tuned.words == 5 and tuned.weights[0] > 0.9
    with pytest.raises(DataError, match="no word of the text"):
        broken = arrays(["a"], 1)
        broken.logprob[:] = -99.0
        tune_weights([broken, broken], ["zz"])
    with pytest.raises(DataError, match="no sentence"):
        tune_weights([one, other], ["", ""])


@pytest.mark.parametrize(
    "weights, said",
    [
        ([0.5], "1 weights for 2 models"),
        ([0.5, 0.3, 0.2], "3 weights for 2 models"),
        ([0.5, 0.6], "the weights 0.5, 0.6 sum to 1.1"),
        ([1.5, -0.5], "the weights 1.5, -0.5 sum to 1"),
        ([math.nan, 1.0], "the weights nan, 1 sum to nan"),
    ],
)
def test_weights_that_are_none(weights, said):
    with pytest.raises(ConfigError, match=said):
        check_weights(weights, 2)
    with pytest.raises(ConfigError, match=said):
        interpolate([arrays(["a"], 1)] * 2, weights)


def test_probabilities_that_do_not_sum_to_one_are_scaled_and_told():
    """As CMU's model of AN4 has it: p(</s> | <s>) = 1 beside another word after <s>."""
    probs = [{("<s>",): -99.0, ("</s>",): -0.5, ("a",): -0.6, ("b",): -0.9}, {("<s>", "</s>"): 0.0, ("<s>", "a"): -1.0}]
    model = normalise(NgramArrays.from_model(NgramModel(probs, [{("<s>",): -0.2}])))
    assert any("1 histories did not sum to one" in notice for notice in model.notices)
    slow = model.to_model()
    for history in histories(model, 1):
        assert sum(slow_distribution(slow, history).values()) == pytest.approx(1.0, abs=1e-6)
    assert math.exp(slow.logprob("a", ["<s>"])) == pytest.approx(0.1 / 1.1)
    rows = np.zeros((1, 1), np.int32)
    with pytest.raises(DataError, match="no word of the n-gram model has a probability"):
        normalise(NgramArrays.from_columns(["<s>"], [Columns(rows, np.zeros(1), np.zeros(1))]))


@settings(max_examples=30, deadline=None)
@given(TEXTS, st.integers(1, 3), st.sets(st.sampled_from([*ABC, "zz"]), min_size=1))
def test_a_smaller_vocabulary_sums_to_one_and_keeps_its_ngrams(sentences, order, words):
    model = arrays(sentences, order)
    if words.isdisjoint(model.words):
        with pytest.raises(DataError, match="no word of the language model is in the vocabulary"):
            restrict(model, words)
        return
    small = restrict(model, words)
    assert set(small.words) == ({*words} & {*model.words}) | {"<s>", "</s>"}
    slow = small.to_model()
    for history in histories(small, order - 1):
        assert sum(slow_distribution(slow, history).values()) == pytest.approx(1.0, abs=2e-5)
    kept = {ngram for prob in model.to_model().probs for ngram in prob if {*words, "<s>", "</s>"} >= {*ngram}}
    assert {ngram for prob in slow.probs for ngram in prob} == kept


def test_the_mixture_predicts_better_than_either():
    one, other = arrays(["a b c", "a b"] * 5 + ["d"]), arrays(["c d d", "d c"] * 5 + ["a b"])
    dev = ["a b c", "c d d", "a b", "d c"]
    tuned = tune_weights([one, other], dev)
    mixed = interpolate([one, other], tuned.weights)
    measured = perplexity(mixed, dev).perplexity
    assert measured == pytest.approx(tuned.perplexity, rel=0.2)
    assert measured < min(perplexity(one, dev).perplexity, perplexity(other, dev).perplexity)
