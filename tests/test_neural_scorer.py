"""Scores of sentences by neural models against their definitions, one token and one forward pass at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.tokens import END, MASK, START, UNKNOWN, Tokens
from hybrid.errors import ConfigError
from hybrid.nnet.text import LstmLm, LstmLmConfig
from hybrid.nnet.text_io import save_text_model
from hybrid.nnet.transformer import SentenceScorer, TransformerConfig, TransformerLm
from hybrid.rescore.neural import NeuralScorer, perplexity

NAMES = ["a", "b", "c", "d", "e"]
TOKENS = Tokens.of_words([NAMES], vocabulary=["zebra", "yak", "e"])
SMALL = TransformerConfig(len(TOKENS), dim=16, layers=2, heads=2)
MODELS = {
    "lstm": LstmLm(LstmLmConfig(len(TOKENS), hidden=12, layers=2), 1),
    "causal": TransformerLm(TransformerConfig(len(TOKENS), dim=16, layers=2, heads=2, causal=True), 1),
    "masked": TransformerLm(SMALL, 1),
    "scorer": SentenceScorer(SMALL, 1),
}
SENTENCES = [["a"], ["b", "a", "e", "e", "c"], [], ["d", "zebra"], ["a"]]


def share(token: int) -> float:
    """zebra and yak: each has half of what <unk> has."""
    return math.log(2) if token == UNKNOWN else 0.0


def slow(name: str, words: list[str]) -> float:
    model = MODELS[name].eval()
    row = TOKENS.encode(words).tolist()

    def outputs(tokens):
        with torch.no_grad():
            return model(torch.tensor([tokens]), torch.tensor([len(tokens)]))

    if name == "scorer":
        return float(outputs(row)["score"])
    total = 0.0
    if name == "masked":
        for place in range(1, len(row) - 1):
            hidden = [*row[:place], MASK, *row[place + 1 :]]
            total += float(outputs(hidden)["logits"][0, place].log_softmax(0)[row[place]]) - share(row[place])
        return total
    assert row[0] == START and row[-1] == END
    for place in range(1, len(row)):
        total += float(outputs(row[:place])["logits"][0, -1].log_softmax(0)[row[place]]) - share(row[place])
    return total


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("max_tokens", [1, 9, 4000])
def test_scores_by_definition(name, max_tokens):
    found = NeuralScorer(MODELS[name], TOKENS, max_tokens=max_tokens).score(SENTENCES)
    assert found.dtype == np.float64
    assert found == pytest.approx([slow(name, words) for words in SENTENCES], abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(NAMES), max_size=6), max_size=8), st.randoms(use_true_random=False))
def test_order_and_company_change_nothing(sentences, random):
    scorer = NeuralScorer(MODELS["masked"], TOKENS, max_tokens=40)
    order = list(range(len(sentences)))
    random.shuffle(order)
    found, shuffled = scorer.score(sentences), scorer.score([sentences[i] for i in order])
    assert shuffled == pytest.approx(found[order], abs=1e-4)


@pytest.mark.parametrize("name", ["lstm", "causal"])
def test_probabilities_of_all_sentences_of_two_tokens_sum_to_one(name):
    """With what goes on after them: p(</s>) + sum p(x </s>) + sum p(x y ...) = 1."""
    logits = MODELS[name].eval()(torch.tensor([[START]]), torch.tensor([1]))["logits"][0, 0]
    first = logits.log_softmax(0).exp()
    scorer = NeuralScorer(MODELS[name], TOKENS)
    ended = sum(math.exp(s) for s in scorer.score([[], *([name] for name in NAMES), ["zebra"]]))
    assert float(first[END]) < ended < 1


def test_a_score_is_made_once_for_what_stands_twice():
    class Counting(SentenceScorer):
        rows = 0

        def forward(self, tokens, lengths):
            Counting.rows += len(tokens)
            return super().forward(tokens, lengths)

    scores = NeuralScorer(Counting(SMALL, 1), TOKENS).score([["a"], ["b"], ["a"], ["zebra"], ["yak"]])
    assert Counting.rows == 3  # <unk> is one token, whichever word it stands for
    assert scores[0] == scores[2] and scores[3] == scores[4]


def test_perplexity_counts_ends_of_what_predicts_them():
    sentences = [words for words in SENTENCES if words]
    value, tokens = perplexity(NeuralScorer(MODELS["lstm"], TOKENS), sentences)
    assert tokens == 1 + 5 + 2 + 1 + 4
    assert value == pytest.approx(math.exp(-sum(slow("lstm", words) for words in sentences) / tokens), rel=1e-5)
    value, tokens = perplexity(NeuralScorer(MODELS["masked"], TOKENS), sentences)
    assert tokens == 1 + 5 + 2 + 1
    assert value == pytest.approx(math.exp(-sum(slow("masked", words) for words in sentences) / tokens), rel=1e-5)


def test_from_a_folder(tmp_path):
    save_text_model(tmp_path / "m", MODELS["scorer"], TOKENS)
    expected = NeuralScorer(MODELS["scorer"], TOKENS).score(SENTENCES)
    assert (NeuralScorer.load(tmp_path / "m").score(SENTENCES) == expected).all()


def test_nothing_to_score():
    assert NeuralScorer(MODELS["lstm"], TOKENS).score([]).shape == (0,)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="max_tokens"):
        NeuralScorer(MODELS["lstm"], TOKENS, max_tokens=0)
