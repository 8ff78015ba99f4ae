"""MD, MWER and MWED against their sums written out, and their gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hybrid.data.hypothesis_batches import Hypotheses, HypothesisLists, ListBatches
from hybrid.errors import ConfigError, DataError
from hybrid.train.rescoring import RescoringLoss, mwed, mwer

SCORES = [-7.0, -6.5, -9.0, -6.0]
ERRORS = [1.0, 0.0, 3.0, 2.0]


def softmax(values):
    exps = [math.exp(v - max(values)) for v in values]
    return [e / sum(exps) for e in exps]


def slow_mwer(scores, errors):
    return sum(p * (e - sum(errors) / len(errors)) for p, e in zip(softmax(scores), errors, strict=True))


def slow_mwed(scores, errors, temperature=None):
    temperature = temperature or abs(sum(-s for s in scores) / sum(errors))
    q = softmax([-s / temperature for s in scores])
    return -sum(d * math.log(x) for d, x in zip(softmax(errors), q, strict=True))


@pytest.mark.parametrize("fast, slow", [(mwer, slow_mwer), (mwed, slow_mwed)])
def test_sums_written_out(fast, slow):
    value = fast(torch.tensor(SCORES, dtype=torch.float64), torch.tensor(ERRORS, dtype=torch.float64))
    assert float(value) == pytest.approx(slow(SCORES, ERRORS), abs=1e-12)


@pytest.mark.parametrize("fast, slow", [(mwer, slow_mwer), (mwed, slow_mwed)])
def test_gradients_are_differences(fast, slow):
    """Of MWED with its temperature held."""
    more = {} if fast is mwer else {"temperature": abs(sum(SCORES) / sum(ERRORS))}
    scores = torch.tensor(SCORES, dtype=torch.float64, requires_grad=True)
    fast(scores, torch.tensor(ERRORS, dtype=torch.float64)).backward()
    for place in range(4):
        up, down = list(SCORES), list(SCORES)
        up[place] += 1e-5
        down[place] -= 1e-5
        difference = (slow(up, ERRORS, **more) - slow(down, ERRORS, **more)) / 2e-5
        assert float(scores.grad[place]) == pytest.approx(difference, abs=1e-8)


@pytest.mark.parametrize("fast", [mwer, mwed])
def test_one_step_down_raises_the_best_and_lowers_the_worst(fast):
    scores = torch.tensor(SCORES, requires_grad=True)
    fast(scores, torch.tensor(ERRORS)).backward()
    assert scores.grad[1] < 0 < scores.grad[2]


@pytest.mark.parametrize("fast", [mwer, mwed])
@pytest.mark.parametrize("errors", [[0.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
def test_lists_without_a_choice_teach_nothing_or_little(fast, errors):
    scores = torch.tensor(SCORES, requires_grad=True)
    fast(scores, torch.tensor(errors)).backward()
    if fast is mwer or errors[0] == 0:
        assert float(scores.grad.abs().max()) < 1e-6
    assert torch.isfinite(scores.grad).all()


def lists() -> HypothesisLists:
    row = np.array([0, 5, 1], np.int32)
    nan = np.full(1, np.nan)
    return HypothesisLists([
        Hypotheses("one", [row] * 4, np.array([-1.0, -2.0, -1.5, -3.0]), np.array(ERRORS), np.array(SCORES) + 1),
        Hypotheses("two", [row] * 2, np.array([-1.0, -0.5]), np.array([2.0, 1.0]), np.array([-3.0, -4.0])),
        Hypotheses("three", [row], np.array([-1.0]), np.array([0.0]), nan),
    ])  # fmt: skip


def batch_of(*ids: str):
    (batch,) = ListBatches(lists(), 100, shuffle=False).epoch(0)
    keep = [u for u in batch.utterances if u.id in ids]
    batch.utterances = sorted(keep, key=lambda u: ids.index(u.id))
    return batch


@pytest.mark.parametrize("discriminative", ["", "mwer", "mwed"])
@pytest.mark.parametrize("distillation", [0.0, 0.25])
def test_a_batch_is_the_sum_of_its_lists(discriminative, distillation):
    if not discriminative and not distillation:
        return
    learnt = torch.tensor([-7.0, -6.5, -9.0, -6.0, -3.5, -3.0], dtype=torch.float64)
    loss = RescoringLoss(discriminative, distillation, first_weight=2.0)({"score": learnt}, batch_of("one", "two"))
    wanted = 0.0
    for item, scores in zip([lists().list(0), lists().list(1)], [learnt[:4], learnt[4:]], strict=True):
        total = [2 * first + float(r) for first, r in zip(item.first, scores, strict=True)]
        slow = {"mwer": slow_mwer, "mwed": slow_mwed}.get(discriminative)
        wanted += slow(total, item.errors.tolist()) if slow else 0.0
        wanted += distillation * np.mean((scores.numpy() - item.targets) ** 2)
    assert float(loss.value) == pytest.approx(wanted, abs=1e-9)
    assert loss.frames == 2
    totals = [[-9.0, -10.5, -12.0, -12.0], [-5.5, -4.0]]
    assert loss.stats["chosen_errors"] == 1 + 1
    expected = sum(p * e for t, e in zip(totals, [ERRORS, [2.0, 1.0]], strict=True) for p, e in zip(softmax(t), e))
    assert loss.stats["expected_errors"] == pytest.approx(expected)


def test_no_targets_to_distil():
    with pytest.raises(DataError, match="pseudo-log-likelihoods") as caught:
        RescoringLoss("mwer", 1e-4)({"score": torch.zeros(1)}, batch_of("three"))
    assert caught.value.utterance == "three"
    RescoringLoss("mwer", 0.0)({"score": torch.zeros(1)}, batch_of("three"))


@pytest.mark.parametrize(
    "settings",
    [
        {"discriminative": "mpe"}, {"distillation": -1.0}, {"distillation": float("inf")}, {"first_weight": True},
        {"discriminative": "", "distillation": 0.0},
    ],
)  # fmt: skip
def test_settings_that_are_refused(settings):
    with pytest.raises(ConfigError):
        RescoringLoss(**settings)


def test_batches_hold_whole_lists_in_order():
    batches = ListBatches(lists(), 9, seed=2)
    seen = []
    for batch in batches.epoch(1):
        assert batch.features.shape == (sum(len(u.extra["hypotheses"].tokens) for u in batch.utterances), 3)
        assert batch.lengths.tolist() == [3] * len(batch.features) and batch.pdfs is None
        seen += batch.ids
    assert sorted(seen) == ["one", "three", "two"]


@pytest.mark.parametrize(
    "change, what",
    [
        ({"first": np.zeros(3)}, "different numbers"),
        ({"tokens": []}, "different numbers"),
        ({"first": np.array([0.0, np.nan])}, "not finite"),
        ({"errors": np.array([0.0, np.inf])}, "not finite"),
    ],
)
def test_lists_that_are_refused(change, what):
    row = np.array([0, 1], np.int32)
    good = {"id": "x", "tokens": [row, row], "first": np.zeros(2), "errors": np.zeros(2), "targets": np.zeros(2)}
    with pytest.raises(DataError, match=what) as caught:
        HypothesisLists([Hypotheses(**{**good, **change})])
    assert caught.value.utterance == "x"


def test_nothing_to_train_on():
    with pytest.raises(DataError, match="no lists"):
        HypothesisLists([])
