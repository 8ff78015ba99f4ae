"""Counts in sorted tables, and Kneser-Ney from them: the same as from dictionaries, written down here as the book has
it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Dict, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import TEXTS

from hybrid.errors import DataError
from hybrid.lm import ngram
from hybrid.lm.counts import Table, count


def plain_counts(sentences, order: int) -> List[Counter]:
    """c(g) of each order."""
    counts = [Counter() for _ in range(order)]
    for words in sentences:
        padded = ("<s>", *words, "</s>")
        for length in range(1, order + 1):
            counts[length - 1].update(padded[i : i + length] for i in range(len(padded) - length + 1))
    del counts[0][("<s>",)]
    return counts


def plain_adjusted(sentences, order: int) -> List[Dict]:
    """a(g): the number of different words before g, but for the highest order and at the beginning of sentences."""
    counts = plain_counts(sentences, order)
    adjusted = []
    for index, table in enumerate(counts[:-1]):
        before = Counter(longer[1:] for longer in counts[index + 1])
        adjusted.append({gram: number if gram[0] == "<s>" else before[gram] for gram, number in table.items()})
    return [*adjusted, dict(counts[-1])]


def plain_model(sentences, order: int, vocabulary):
    """{n-gram: p} and {history: gamma} of each order, by the equations of lm/ngram.py, one n-gram at a time."""
    adjusted = plain_adjusted(sentences, order)
    events = [*vocabulary, "</s>"]
    lower, probs, backoffs = {}, [], []
    for index, table in enumerate(adjusted):
        discount = ngram.discounts(table.values()) or ngram.FALLBACK
        sums: Dict = {}
        for gram, number in table.items():
            total, taken = sums.get(gram[:-1], (0, 0.0))
            sums[gram[:-1]] = (total + number, taken + discount[min(number, 3) - 1])
        gammas = {history: taken / total for history, (total, taken) in sums.items()}
        current = {(word,): gammas[()] / len(events) for word in events} if index == 0 else {}
        for gram, number in table.items():
            history = gram[:-1]
            rest = current[gram] if index == 0 else gammas[history] * lower[gram[1:]]
            current[gram] = (number - discount[min(number, 3) - 1]) / sums[history][0] + rest
        probs.append(current)
        backoffs.append(gammas)
        lower = current
    return probs, backoffs[1:]


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 4), st.integers(1, 40))
def test_blocks_of_any_size_have_the_adjusted_counts_of_dictionaries(sentences, order, block):
    counts = count(iter(sentences), order, block=block)
    assert counts.words[:2] == ["<s>", "</s>"] and len(set(counts.words)) == len(counts.words)
    found = [
        {tuple(counts.words[word] for word in row): number for row, number in zip(table.rows, table.counts.tolist())}
        for table in counts.adjusted()
    ]
    assert found == plain_adjusted(sentences, order)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 4), st.booleans())
def test_the_same_estimates_as_one_ngram_at_a_time(sentences, order, closed):
    words = sorted({word for sentence in sentences for word in sentence} | ({"x", "y"} if closed else set()))
    model = ngram.train(sentences, order, vocabulary=words if closed else None)
    probs, gammas = plain_model(sentences, order, words)
    del model.probs[0][("<s>",)]
    for mine, expected in zip(model.probs, probs, strict=True):
        assert mine.keys() == expected.keys()
        assert all(10.0 ** mine[gram] == pytest.approx(min(expected[gram], 1.0), rel=1e-12) for gram in mine)
    for mine, expected in zip(model.backoffs, gammas, strict=True):
        assert {gram for gram in mine} <= expected.keys()
        assert all(10.0 ** mine.get(gram, 0.0) == pytest.approx(value, rel=1e-12) for gram, value in expected.items())
    compact = ngram.train_arrays(sentences, order, vocabulary=words if closed else None)
    again = compact.to_model()
    assert all(
        mine[gram] == pytest.approx(value, abs=1e-6)
        for mine, theirs in zip(again.probs, model.probs)
        for gram, value in theirs.items()
    )


def test_memory_follows_the_different_ngrams_and_not_the_text(monkeypatch):
    """Tables of like size are merged: what is held is never more than some times the different n-grams."""
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(30)]
    sizes = []
    joined = Table.joined

    def watched(tables):
        sizes.append(sum(len(table.rows) for table in tables))
        return joined(tables)

    monkeypatch.setattr(Table, "joined", watched)
    text = ([words[index] for index in rng.integers(0, 30, 10)] for _ in range(20_000))
    counts = count(text, 2, block=500)
    different = len(counts.tables[1].rows)
    assert different == 30 * 30 + 60 and counts.tables[1].counts.sum() == 20_000 * 11
    assert max(sizes) <= 3 * different


def test_words_outside_the_vocabulary():
    counts = count(["a c", "a d"], 2, {"a", "<unk>"}, "<unk>")
    assert counts.words == ["<s>", "</s>", "a", "<unk>"]
    assert counts.tables[1].counts.tolist() == [2, 2, 2]
    with pytest.raises(DataError, match="sentence 2: the word d is not in the vocabulary"):
        count(["a", "a d"], 2, {"a"})
    with pytest.raises(DataError, match="no sentence"):
        count(["", ""], 2)


def test_sentences_shorter_than_the_order():
    model = ngram.train(["a", "b"], 5)
    assert model.order == 5 and len(model.probs[2]) == 2 and not model.probs[3]
    assert sum(math.exp(model.logprob(word, ["<s>"])) for word in model.vocabulary) == pytest.approx(1.0)
