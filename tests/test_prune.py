"""Entropy pruning: Stolcke's formula against the divergence of whole distributions, and what is taken out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import TEXTS, arrays, histories, slow_distribution

from hybrid.errors import ConfigError
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.model import NgramModel
from hybrid.lm.perplexity import perplexity
from hybrid.lm.prune import prune, relative_entropies

SENTENCES = ["a b c", "a b d", "a b", "b c", "c a b c", "d", "d d a", "a c"]


def ngrams_of(model: NgramArrays):
    """The n-grams in the order of the arrays."""
    return [
        tuple(model.words[word] for word in row) for order in range(1, model.order + 1) for row in model.rows(order)
    ]


def history_prob(model: NgramModel, history) -> float:
    """p(h) along the history; that of <s> is that of </s>."""
    total = 1.0
    for place, word in enumerate(history):
        total *= math.exp(model.logprob("</s>" if word == "<s>" else word, history[:place]))
    return total


def without(model: NgramModel, gone) -> NgramModel:
    """The model without one n-gram, the back-off of its history made anew, by definition."""
    probs = [{ngram: value for ngram, value in prob.items() if ngram != gone} for prob in model.probs]
    history = gone[:-1]
    listed = [ngram[-1] for ngram in probs[len(gone) - 1] if ngram[:-1] == history and ngram[-1] != "<s>"]
    left = 1.0 - sum(math.exp(model.logprob(word, history)) for word in listed)
    lower = 1.0 - sum(math.exp(model.logprob(word, history[1:])) for word in listed)
    backoffs = [dict(backoff) for backoff in model.backoffs]
    backoffs[len(history) - 1][history] = math.log10(left / lower)
    return NgramModel(probs, backoffs)


@settings(max_examples=25, deadline=None)
@given(TEXTS, st.integers(2, 3))
def test_the_formula_is_the_divergence_of_the_whole_distributions(sentences, order):
    model = arrays(sentences, order, vocabulary="abcd")
    slow = model.to_model()
    entropies = relative_entropies(model)
    checked = 0
    for ngram, entropy in zip(ngrams_of(model), entropies):
        if len(ngram) == 1:
            assert entropy == math.inf
            continue
        history = ngram[:-1]
        before = slow_distribution(slow, history)
        after = slow_distribution(without(slow, ngram), history)
        assert sum(after.values()) == pytest.approx(1.0, abs=1e-4)
        divergence = sum(p * math.log(p / after[word]) for word, p in before.items() if p > 0.0)
        assert entropy == pytest.approx(history_prob(slow, history) * divergence, rel=2e-3, abs=2e-6), ngram
        checked += 1
    assert checked == len(model) - model.sizes[0] > 0


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.integers(1, 4), st.sampled_from([0.0, 1e-6, 1e-3, 1e-2, 0.1, 10.0]), st.integers(0, 40))
def test_what_stays_sums_to_one_and_is_what_the_threshold_says(sentences, order, threshold, more):
    model = arrays(sentences, order)
    most = model.sizes[0] + more
    small = prune(model, threshold=threshold, most=most)
    assert len(small) <= most and small.words == model.words
    slow = small.to_model()
    for history in histories(small, order - 1)[:60]:
        assert sum(slow_distribution(slow, history).values()) == pytest.approx(1.0, abs=2e-5)
    kept, large = set(ngrams_of(small)), set(ngrams_of(prune(model, threshold=threshold)))
    for ngram, loss in zip(ngrams_of(model), relative_entropies(model)):
        needed = any(longer[: len(ngram)] == ngram for longer in large if longer != ngram)
        assert (ngram in large) == (math.expm1(min(loss, 700.0)) >= threshold or needed), ngram
    assert kept <= large and all(len(ngram) == 1 or ngram[:-1] in kept for ngram in kept)


def test_a_target_takes_out_those_that_matter_least():
    model = arrays(SENTENCES)
    for most in range(model.sizes[0], len(model) + 1):
        small = prune(model, most=most)
        kept = set(ngrams_of(small))
        losses = dict(zip(ngrams_of(model), relative_entropies(model)))
        largest = {
            ngram: max(loss for longer, loss in losses.items() if longer[: len(ngram)] == ngram) for ngram in losses
        }
        gone = [loss for ngram, loss in largest.items() if ngram not in kept]
        assert max(gone, default=-1.0) <= min(largest[ngram] for ngram in kept)
    assert len(prune(model, most=len(model))) == len(model)


def test_little_is_lost_with_the_first_and_more_with_the_last():
    model = arrays(SENTENCES * 3)
    sizes = [len(model), len(model) - 6, model.sizes[0] + 5, model.sizes[0]]
    losses = [perplexity(prune(model, most=size), SENTENCES).perplexity for size in sizes]
    assert losses[0] == pytest.approx(perplexity(model, SENTENCES).perplexity, rel=1e-4)
    assert losses == sorted(losses) and losses[1] < losses[0] * 1.1 < losses[3]


def test_nothing_but_words_is_a_model_of_order_one():
    small = prune(arrays(SENTENCES), threshold=1e6)
    assert small.order == 1 and len(small.backoff) == 0


@pytest.mark.parametrize(
    "settings_of, said",
    [
        ({"threshold": -1.0}, "pruning with the threshold -1"),
        ({"threshold": math.nan}, "pruning with the threshold nan"),
        ({"threshold": math.inf}, "pruning with the threshold inf"),
        ({"most": 3}, "pruning to 3 n-grams, and the model has 6 words"),
    ],
)
def test_bad_settings(settings_of, said):
    with pytest.raises(ConfigError, match=said) as info:
        prune(arrays(SENTENCES), **settings_of)
    assert info.value.remedy


def test_an_ngram_whose_word_has_no_other_probability_stays():
    probs = [{("<s>",): -99.0, ("</s>",): -0.3, ("a",): -0.4, ("b",): -99.0}, {("a", "b"): -2.0, ("a", "a"): -0.5}]
    model = NgramArrays.from_model(NgramModel(probs, [{("a",): -0.2}]))
    assert relative_entropies(model)[model.find(np.array([[2, 3]]))[0]] == math.inf
    assert ("a", "b") in ngrams_of(prune(model, most=5))
