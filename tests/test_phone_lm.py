from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from lfmmi_tools import random_sequences

from hybrid.errors import ConfigError, DataError
from hybrid.train.fsa import NEG_INF
from hybrid.train.phone_lm import load_phone_lm, save_phone_lm, train_phone_lm

HAND = {"a": [1, 2, 1, 3], "b": [1, 2, 2], "c": [1, 2, 1]}


def arc(lm, *phones):
    """Probability of the last of the phones after the others, from the start."""
    state = 0
    for phone in phones[:-1]:
        state = lm.arcs[state][phone][0]
    return math.exp(lm.arcs[state][phones[-1]][1])


def test_bigram_by_hand():
    lm = train_phone_lm(HAND, order=2, no_prune_order=2)
    # After 1 (5 times): 2 three times, 3 once, the end once.
    assert arc(lm, 1) == 1.0
    assert arc(lm, 1, 2) == pytest.approx(3 / 5)
    assert arc(lm, 1, 2, 1, 3) == pytest.approx(1 / 5)
    # After 2 (4 times): 1 twice, 2 once, the end once.
    assert arc(lm, 1, 2, 1) == pytest.approx(2 / 4)
    assert lm.score([1, 2, 2]) == pytest.approx(math.log(1 * 3 / 5 * 1 / 4 * 1 / 4))
    assert lm.score([2]) == float("-inf")
    assert lm.num_states == 4  # the start, 1, 2, 3


def test_trigram_by_hand_and_pruned_history_backs_off_to_what_is_walked_there():
    lm = train_phone_lm(HAND, order=3, no_prune_order=3)
    assert arc(lm, 1, 2, 1) == pytest.approx(2 / 3)  # after 1 2
    assert lm.score([1, 2, 1]) == pytest.approx(math.log(1 * 1 * 2 / 3 * 1 / 2))
    # One extra history: the one that loses most, (start 1): 3 log 1 - 3 log(3/5).
    lm = train_phone_lm(HAND, order=3, no_prune_order=2, max_extra_states=1)
    assert arc(lm, 1, 2) == 1.0
    # State (1) is now walked only from inside: after "2 1" once 3, once the end.
    assert arc(lm, 1, 2, 1, 3) == pytest.approx(1 / 2)


def test_interpolation_by_hand():
    lm = train_phone_lm(HAND, order=2, no_prune_order=2, smoothing="interpolated")
    # Unigram: 13 tokens with the ends; 1: 5, 2: 4, 3: 1, end: 3; add one over 4 types.
    unigram = {1: 6 / 17, 2: 5 / 17, 3: 2 / 17}
    # History 1: 5 tokens of 3 types (2, 3, end).
    assert arc(lm, 1, 2) == pytest.approx((3 + 3 * unigram[2]) / 8)
    assert arc(lm, 1, 1) == pytest.approx((0 + 3 * unigram[1]) / 8)
    assert lm.score([3, 3, 3, 2]) > float("-inf")


def test_bigrams_by_hand():
    lm = train_phone_lm(HAND, order=3, no_prune_order=3, smoothing="bigrams")
    # After 1: 2 three times of 5, 3 and the end once. After 2 1, two tokens of two types: 3 and the end.
    assert arc(lm, 1, 2, 1, 3) == pytest.approx((1 + 2 * 1 / 5) / 4)
    assert arc(lm, 1, 2, 1, 2) == pytest.approx((0 + 2 * 3 / 5) / 4)
    seen = {(a, b) for s in HAND.values() for a, b in zip([0, *s], [*s, 0])}
    for length in range(1, 6):
        for phones in itertools.product((1, 2, 3), repeat=length):
            pairs = set(zip([0, *phones], [*phones, 0]))
            assert (lm.score(list(phones)) > NEG_INF) == (pairs <= seen), phones


@pytest.mark.parametrize("smoothing", ["none", "bigrams", "interpolated"])
@pytest.mark.parametrize(
    "order, no_prune, extra", [(1, 1, 0), (2, 2, 0), (3, 2, 4), (4, 3, 2000), (4, 1, 3), (5, 2, 7)]
)
def test_every_state_sums_to_one_and_training_is_covered(smoothing, order, no_prune, extra):
    if smoothing == "bigrams" and min(order, no_prune) < 2:
        pytest.skip("an n-gram without all bigrams")
    sequences = random_sequences(np.random.default_rng(order), 20)
    lm = train_phone_lm(
        sequences,
        order=order,
        no_prune_order=no_prune,
        max_extra_states=extra,
        smoothing=smoothing,
        phones=[1, 2, 3, 4, 9],
    )
    for leaving, final in zip(lm.arcs, lm.final, strict=True):
        assert sum(math.exp(w) for _, w in leaving.values()) + math.exp(final) == pytest.approx(1.0)
    assert all(lm.score(sequence) > float("-inf") for sequence in sequences.values())
    if smoothing == "interpolated":
        assert lm.score([9, 9, 4, 1]) > float("-inf")
        assert all(len(leaving) == 5 for leaving in lm.arcs)


def test_states_are_bounded_and_more_states_fit_better():
    sequences = random_sequences(np.random.default_rng(7), 40)
    fits, sizes = [], []
    for extra in (0, 3, 10, 1000):
        lm = train_phone_lm(sequences, order=4, no_prune_order=2, max_extra_states=extra)
        fits.append(sum(lm.score(sequence) for sequence in sequences.values()))
        sizes.append(lm.num_states)
    base = sizes[0]
    assert all(size <= base + extra for size, extra in zip(sizes, (0, 3, 10, 1000), strict=True))
    assert fits == sorted(fits) and fits[0] < fits[-1]


def test_same_bytes_whatever_the_order_of_utterances(tmp_path):
    sequences = random_sequences(np.random.default_rng(3), 20)
    for name, items in (("a", sequences), ("b", dict(reversed(list(sequences.items()))))):
        save_phone_lm(tmp_path / name, train_phone_lm(items, order=3, no_prune_order=2, max_extra_states=5))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_phone_lm(tmp_path / "a").score(sequences["u0"]) > float("-inf")


@pytest.mark.parametrize(
    "sequences, options, error, words",
    [
        ({}, {}, DataError, "no phone sequences"),
        ({"a": [1], "b": []}, {}, DataError, "utterance: b"),
        ({"a": [1, 0]}, {}, DataError, "utterance: a"),
        (HAND, {"smoothing": "kneser"}, ConfigError, "kneser"),
        (HAND, {"order": 0}, ConfigError, "order 0"),
        (HAND, {"order": 1, "smoothing": "bigrams"}, ConfigError, "bigrams"),
        (HAND, {"order": 3, "no_prune_order": 1, "smoothing": "bigrams"}, ConfigError, "bigrams"),
        (HAND, {"no_prune_order": 0}, ConfigError, "order"),
        (HAND, {"max_extra_states": -1}, ConfigError, "-1"),
    ],
)
def test_bad_input(sequences, options, error, words):
    with pytest.raises(error, match=words):
        train_phone_lm(sequences, **options)


@pytest.mark.parametrize("text", ["{", "{}", '{"arcs": 3, "final": []}', '{"arcs": [[[1]]], "final": [null]}'])
def test_broken_file(tmp_path, text):
    (tmp_path / "lm.json").write_text(text)
    with pytest.raises(DataError, match="lm.json"):
        load_phone_lm(tmp_path / "lm.json")
