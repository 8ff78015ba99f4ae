"""lm/ngram.py against arithmetic by hand, a second implementation written from the definitions, and its sums."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ConfigError, DataError
from hybrid.lm import arpa, ngram
from hybrid.lm.model import NgramModel

SENTENCES = ["a b", "a b", "a c"]


def p(model, word, *history):
    return math.exp(model.logprob(word, history))


def test_bigrams_worked_by_hand():
    # Bigrams: <s>a 3, ab 2, ac 1, b</s> 2, c</s> 1. No count of 4: the discounts are 0.5, 1 and 1.5.
    # Words by what stands before them: a {<s>} 1, b {a} 1, c {a} 1, </s> {b, c} 2; the sum is 5.
    model = ngram.train(SENTENCES, 2)
    assert len(model.notices) == 2
    # Taken from the words: 3 * 0.5 + 1 = 2.5; gamma = 2.5 / 5 = 0.5; four events: 0.5 / 4 = 0.125 each.
    assert p(model, "a") == pytest.approx((1 - 0.5) / 5 + 0.125)  # 0.225
    assert p(model, "</s>") == pytest.approx((2 - 1) / 5 + 0.125)  # 0.325
    # After <s>: 3 times a. gamma = 1.5 / 3 = 0.5.
    assert p(model, "a", "<s>") == pytest.approx((3 - 1.5) / 3 + 0.5 * 0.225)  # 0.6125
    # After a: b 2, c 1. gamma = (1 + 0.5) / 3 = 0.5.
    assert p(model, "b", "a") == pytest.approx((2 - 1) / 3 + 0.5 * 0.225)
    assert p(model, "c", "a") == pytest.approx((1 - 0.5) / 3 + 0.5 * 0.225)
    assert p(model, "a", "a") == pytest.approx(0.5 * 0.225)
    assert p(model, "</s>", "a") == pytest.approx(0.5 * 0.325)
    assert p(model, "</s>", "b") == pytest.approx((2 - 1) / 2 + 1 / 2 * 0.325)
    assert model.sentence_logprob(["a", "b"]) == pytest.approx(
        math.log((0.5 + 0.1125) * (1 / 3 + 0.1125) * (0.5 + 0.1625))
    )


def test_discounts_worked_by_hand():
    # a, b, c and </s> once: n1 = 4; e, f twice: n2 = 2; g three times: n3 = 1; h four times: n4 = 1.
    model = ngram.train(["a b c e e f f g g g h h h h"], 1)
    assert model.notices == []
    # Y = 4 / (4 + 2 * 2) = 0.5; D1 = 1 - 2 * 0.5 * 2/4 = 0.5; D2 = 2 - 3 * 0.5 * 1/2 = 1.25; D3 = 3 - 4 * 0.5 * 1/1 = 1
    assert ngram.discounts([1, 1, 1, 1, 2, 2, 3, 4]) == pytest.approx((0.5, 1.25, 1.0))
    # Taken: 4 * 0.5 + 2 * 1.25 + 2 * 1 = 6.5 of 15, for eight events.
    base = 6.5 / 15 / 8
    for word, value in {"a": 0.5, "e": 0.75, "g": 2.0, "h": 3.0, "</s>": 0.5}.items():
        assert p(model, word) == pytest.approx(value / 15 + base)


@pytest.mark.parametrize(
    "counts", [[], [1, 1], [1, 2, 3], [2, 3, 4], [1] * 9 + [2] + [3] * 9 + [4], [1, 2, 3] + [4] * 9]
)
def test_discounts_that_cannot_be_estimated(counts):
    assert ngram.discounts(counts) is None


def naive(sentences, order, events):
    """p(w | h) straight from the definitions: every count is looked for in the list of all n-grams again."""
    padded = [("<s>", *s, "</s>") for s in sentences]
    runs = {n: [s[i : i + n] for s in padded for i in range(len(s) - n + 1)] for n in range(1, order + 1)}

    def count(gram):
        if len(gram) == order or gram[0] == "<s>":
            return runs[len(gram)].count(gram)
        return len({run[0] for run in runs[len(gram) + 1] if run[1:] == gram})

    tables = {n: {g: count(g) for g in set(runs[n]) if g != ("<s>",)} for n in runs}
    steps = {n: ngram.discounts(tables[n].values()) or ngram.FALLBACK for n in tables}

    def prob(word, history):
        n = len(history) + 1
        here = {g: c for g, c in tables[n].items() if g[:-1] == history}
        lower = prob(word, history[1:]) if history else 1.0 / len(events)
        if not here:
            return lower
        total = sum(here.values())
        gamma = sum(steps[n][min(c, 3) - 1] for c in here.values()) / total
        own = here.get((*history, word), 0)
        return (max(own - steps[n][min(own, 3) - 1], 0.0) if own else 0.0) / total + gamma * lower

    return prob


texts = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 4))
def test_sums_to_one_and_equals_the_definition(sentences, order):
    model = ngram.train(sentences, order, vocabulary=[*"abcd", "never"])
    events = [*"abcd", "never", "</s>"]
    reference = naive([tuple(s) for s in sentences], order, events)
    heads = [("<s>",) * (i == 0) for i in range(2)]
    histories = {
        (*head, *tail)[: order - 1] if order > 1 else ()
        for head, length in itertools.product(heads, range(3))
        for tail in itertools.product("abd", repeat=length)
    }
    for history in histories:
        probs = {word: p(model, word, *history) for word in events}
        assert sum(probs.values()) == pytest.approx(1.0, abs=1e-9)
        assert min(probs.values()) > 0.0
        for word, value in probs.items():
            assert value == pytest.approx(reference(word, history), rel=1e-9)


def test_estimated_discounts_sum_to_one_for_every_history_seen():
    import random

    rng = random.Random(0)
    weights = [1.0 / (i + 1) for i in range(26)]
    letters = [chr(97 + i) for i in range(26)]
    sentences = [rng.choices(letters, weights, k=rng.randint(1, 9)) for _ in range(150)]
    model = ngram.train(sentences, 3)
    assert not any(notice.startswith("2-grams") for notice in model.notices)
    for history in [(), *model.backoffs[0], *model.backoffs[1]]:
        assert sum(p(model, w, *history) for w in model.vocabulary) == pytest.approx(1.0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(texts, st.integers(1, 3))
def test_arpa_keeps_the_model(tmp_path_factory, sentences, order):
    model = ngram.train(sentences, order)
    path = tmp_path_factory.mktemp("arpa") / "lm.gz"
    arpa.write(path, model)
    again = arpa.read(path)
    assert [set(t) for t in again.probs] == [set(t) for t in model.probs]
    for sentence in sentences:
        assert again.sentence_logprob(sentence) == pytest.approx(model.sentence_logprob(sentence), abs=1e-4)


def test_vocabulary_and_unknown_words():
    with pytest.raises(DataError, match="sentence 1: the word c is not in the vocabulary"):
        ngram.train(["a c"], 2, vocabulary=["a", "b"])
    model = ngram.train(["a c", "a d"], 2, vocabulary=["a", "b"], unknown="<unk>")
    assert set(model.vocabulary) == {"a", "b", "<unk>", "</s>"}
    assert p(model, "<unk>", "a") > p(model, "b", "a") > 0.0
    assert p(model, "anything", "a") == p(model, "<unk>", "a")


def test_unseen_words_are_equally_probable():
    model = ngram.train(["a b"], 3, vocabulary=["a", "b", "x", "y"])
    assert p(model, "x", "a") == pytest.approx(p(model, "y", "a"))


@pytest.mark.parametrize(
    "sentences, order, error",
    [
        ([], 2, DataError),
        (["", "  "], 2, DataError),
        (["a"], 0, ConfigError),
        (["a </s> b"], 2, DataError),
        (["a <s>"], 2, DataError),
    ],
)
def test_bad_input(sentences, order, error):
    with pytest.raises(error):
        ngram.train(sentences, order)


def test_perplexity_counts_what_it_leaves_out():
    model = ngram.train(SENTENCES, 1)
    result = model.perplexity(["a b", "a zz", ""])
    assert (result.words, result.sentences, result.oovs, result.zeros, result.events) == (4, 2, 1, 0, 5)
    expected = sum(math.log(p(model, w)) for w in ["a", "b", "</s>", "a", "</s>"])
    assert result.logprob == pytest.approx(expected)
    assert result.perplexity == pytest.approx(math.exp(-expected / 5))
    with pytest.raises(DataError):
        model.perplexity([""])


def test_a_word_out_of_the_vocabulary_cuts_the_history():
    model = NgramModel([{("a",): -1.0, ("b",): -1.0}, {("a", "b"): -0.5}, {("a", "a", "b"): -0.1}], [{}, {}])
    assert model.logprob("b", ["a", "a"]) == pytest.approx(-0.1 * math.log(10))
    assert model.logprob("b", ["zz", "a"]) == pytest.approx(-0.5 * math.log(10))
    assert model.logprob("b", ["a", "zz"]) == pytest.approx(-1.0 * math.log(10))
    assert model.logprob("zz", ["a"]) == -math.inf


def test_higher_orders_fit_the_training_text_better():
    counts = Counter()
    for order in (1, 2, 3):
        counts[order] = ngram.train(SENTENCES * 5, order).perplexity(SENTENCES).perplexity
    assert counts[1] > counts[2] >= counts[3]


def test_sentence_marks_are_counted_once():
    """Whether a text has them or not, it is the same text."""
    bare = ["a b", "a c", "", "b"]
    marked = ["<s> a b </s>", "<s> a c", "<s> </s>", "b </s>"]
    assert ngram.train(marked, 2).probs == ngram.train(bare, 2).probs
    model = ngram.train(bare, 2)
    assert model.perplexity(marked) == model.perplexity(bare)
    assert model.perplexity(bare).words == 5 and model.perplexity(bare).zeros == 0
    with pytest.raises(DataError, match="sentence 2 holds <s> within it"):
        model.perplexity(["a", "a <s> b"])
