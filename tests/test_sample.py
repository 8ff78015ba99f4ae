from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import DataError
from hybrid.lm import arpa
from hybrid.lm.model import END, START, NgramModel
from hybrid.lm.ngram import train
from hybrid.lm.sample import Sampler

TEXT = ["a b a c", "a b b", "c a", "b b a b c", "a", "c c b a"]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(0, 2**31), st.data())
def test_words_are_drawn_as_the_model_says(order, seed, data):
    model = train([line.split() for line in TEXT], order)
    history = tuple(data.draw(st.sampled_from([(START,), ("a",), ("b", "b"), ("c", "a"), (START, "c"), ("b", "c")])))
    history = history[len(history) - min(len(history), order - 1) :]
    sampler = Sampler(model, np.random.default_rng(seed))
    words = [word for word in (*"abc", END)]
    wanted = np.exp([model.logprob(word, history) for word in words])
    count = 2000
    drawn = Counter(sampler.word(history) for _ in range(count))
    assert set(drawn) <= set(words)
    for word, share in zip(words, wanted / wanted.sum()):
        assert abs(drawn[word] / count - share) < 5 * np.sqrt(share * (1 - share) / count) + 1e-9


def test_sentences_of_a_trained_model_are_as_long_as_its_text():
    model = train([line.split() for line in TEXT], 2)
    text = list(Sampler(model, np.random.default_rng(1)).text(5000))
    assert all(text) and {word for sentence in text for word in sentence} == set("abc")
    again = list(Sampler(model, np.random.default_rng(1)).text(5000))
    assert text == again and sum(map(len, text)) >= 5000 > sum(map(len, text[:-1]))
    found = sum(map(len, text)) / len(text)
    assert 2.0 < found < 5.0, found


def test_a_model_that_does_not_sum_to_one(tmp_path):
    """CMU's of AN4: p(</s> | <s>) is 1 beside a back-off to all words. Half of its sentences are empty, as in G."""
    (tmp_path / "lm.arpa").write_text(
        "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-0.4771 </s>\n-99 <s> 0\n-0.4771 x\n-0.4771 <UNK>\n\n"
        "\\2-grams:\n0 <s> </s>\n\n\\end\\\n"
    )
    sampler = Sampler(arpa.read(tmp_path / "lm.arpa"), np.random.default_rng(0))
    first = Counter(sampler.word((START,)) for _ in range(4000))
    assert set(first) == {END, "x"} and abs(first["x"] / 4000 - 0.25) < 0.04  # 1 to 1/3
    later = Counter(sampler.word(("x",)) for _ in range(4000))
    assert set(later) == {END, "x"} and abs(later["x"] / 4000 - 0.5) < 0.04


def test_a_word_that_is_listed_with_probability_zero_is_not_drawn_from_the_shorter_history():
    bigrams = {("a", "a"): -99.0, ("a", "b"): -0.30103}
    model = NgramModel(
        [{(START,): -99.0, (END,): -0.60206, ("a",): -0.30103, ("b",): -0.60206}, bigrams], [{("a",): 0.30103}]
    )
    sampler = Sampler(model, np.random.default_rng(0))
    found = Counter(sampler.word(("a",)) for _ in range(4000))
    assert set(found) == {"b", END} and abs(found["b"] / 4000 - 0.5) < 0.04


@pytest.mark.parametrize(
    "words, message",
    [({}, "no word of the n-gram model"), ({"a": -60.0}, "hardly has other than empty sentences")],
)
def test_models_that_nothing_can_be_drawn_from(words, message):
    model = NgramModel([{(START,): -99.0, (END,): 0.0, **{(w,): p for w, p in words.items()}}], [])
    with pytest.raises(DataError, match=message):
        list(Sampler(model, np.random.default_rng(0)).text(10))
