"""The linear rescorer and n-gram scores: gradients, brute force, what is learnt, what is saved."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import read_json, write_json
from hybrid.lm.ngram import train_arrays
from hybrid.rescore.linear import LinearRescorer, _Objective, features_of, train_linear
from hybrid.rescore.nbest import NbestList, make_list
from hybrid.rescore.scorers import NgramScorer, load_scorer


def lists(count: int = 40, seed: int = 0) -> list[NbestList]:
    """The recogniser hears `fair` for `fare` behind `the`, and prefers it."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        rest = list(random.choice(["show", "list", "cheap"], 2))
        right, wrong = ["the", "fare", *rest], ["the", "fair", *rest]
        other = ["the", "fare", *rest[:1]]
        found.append(make_list(f"u{number}", [wrong, right, other], [-1.0, -1.4, -2.0 - random.random()], right, "s"))
    return found


def slow_loss(objective: _Objective, items: list[NbestList], parameters: np.ndarray, l2: float) -> float:
    theta = dict(zip(objective.names, parameters[1:], strict=True))
    total = 0.5 * l2 * sum(value * value for value in theta.values())
    for item in items:
        scores = [
            parameters[0] * first + sum(theta.get(name, 0.0) for name in features_of(words))
            for first, words in zip(item.scores, item.hypotheses, strict=True)
        ]
        exps = [math.exp(score - max(scores)) for score in scores]
        errors = item.errors().tolist()
        mean = sum(errors) / len(errors)
        total += sum(e / sum(exps) * (n - mean) for e, n in zip(exps, errors, strict=True))
    return total


def test_loss_and_gradient_against_sums_and_differences():
    items = lists(6)
    objective = _Objective(items, 0.3, 1)
    random = np.random.default_rng(1)
    at = random.standard_normal(1 + len(objective.names))
    loss, gradient = objective(at)
    assert loss == pytest.approx(slow_loss(objective, items, at, 0.3), abs=1e-10)
    for place in range(len(at)):
        step = np.zeros(len(at))
        step[place] = 1e-5
        difference = (objective(at + step)[0] - objective(at - step)[0]) / 2e-5
        assert gradient[place] == pytest.approx(difference, abs=1e-7)


def test_features():
    assert list(features_of(["a", "b"])) == ["a", "b", "<s> a", "a b", "b </s>"]
    assert list(features_of([])) == ["<s> </s>"]


def test_what_all_hypotheses_share_is_no_feature():
    names = _Objective(lists(), 0.1, 1).names
    assert "the fare" in names and "fair" in names and "the" not in names and "<s> the" not in names
    assert "fair list" in _Objective(lists(), 0.1, 2).names
    assert len(_Objective(lists(), 0.1, 30).names) < len(names)


def test_it_learns_what_is_misheard():
    model = train_linear(lists())
    for item in lists(20, seed=5):
        total = model.first_weight * item.scores + model.score(item.hypotheses)
        assert item.hypotheses[int(np.argmax(total))] == item.reference
    again = train_linear(lists())
    assert (again.theta == model.theta).all()


def test_saved_and_loaded(tmp_path):
    model = train_linear(lists())
    model.save(tmp_path / "m")
    loaded = load_scorer(f"linear:{tmp_path / 'm'}")
    sentences = [words for item in lists(5) for words in item.hypotheses]
    assert (loaded.score(sentences) == model.score(sentences)).all()


@pytest.mark.parametrize("change", [{"kind": "x"}, {"features": ["a"]}, {"first_weight": "1"}, {"features": 3}])
def test_a_damaged_folder(tmp_path, change):
    train_linear(lists()).save(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    write_json(path, {**read_json(path), **change})
    with pytest.raises(ModelError, match="not a linear rescorer"):
        LinearRescorer.load(tmp_path / "m")


@pytest.mark.parametrize(
    "items, options, error, what",
    [
        ([], {}, DataError, "no list has two"),
        ([make_list("u", [["a"]], None, ["a"])], {}, DataError, "no list has two"),
        ([make_list("u", [["a"], ["b"]])], {}, DataError, "without a reference"),
        (lists(2), {"l2": -1}, ConfigError, "l2"),
        (lists(2), {"least": 0}, ConfigError, "least"),
    ],
)
def test_what_cannot_be_trained_on(items, options, error, what):
    with pytest.raises(error, match=what):
        train_linear(items, **options)


# ------------------------------------------------------------------ n-grams

TEXT = [line.split() for line in ("show the fare", "show the cheap fare", "list the fare", "list cheap")]


@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_ngram_scores_word_by_word(tmp_path, unknown):
    arrays = train_arrays(TEXT, 3, unknown=unknown)
    model = arrays.to_model()
    sentences = [*TEXT, [], ["show", "zebra"], ["zebra"], ["fare", "fare", "the"]]
    expected = []
    for words in sentences:
        history, total = ["<s>"], 0.0
        for word in [*words, "</s>"]:
            value = model.logprob(word, history)
            total += value if np.isfinite(value) else -20.0
            history.append(word)
        expected.append(total)
    assert NgramScorer(arrays).score(sentences) == pytest.approx(expected, abs=1e-4)
    assert NgramScorer(arrays).score([[]]) == pytest.approx([model.logprob("</s>", ["<s>"])], abs=1e-5)
    assert NgramScorer(arrays).score([]).shape == (0,)
    arrays.save(tmp_path / "lm.safetensors")
    loaded = load_scorer(f"ngram:{tmp_path / 'lm.safetensors'}")
    assert loaded.score(sentences) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "spec, error",
    [("lm.arpa", ConfigError), ("gpt:x", ConfigError), ("ngram:", ConfigError), ("ngram:/no/lm", DataError)],
)
def test_no_scorer(spec, error):
    with pytest.raises(error):
        load_scorer(spec)
