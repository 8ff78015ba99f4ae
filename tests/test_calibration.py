"""Probabilities that words are right: what is learnt from a development set, and how it is judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.decode.calibration import (
    FEATURES,
    PRIOR,
    USUAL,
    Calibration,
    by_chance,
    calibration_error,
    normalised_cross_entropy,
    reliability,
    summary,
)
from hybrid.errors import ModelError


def words(number: int, bias: float, weights: np.ndarray, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(2, 3, number), rng.gamma(1.0, 2.0, number), rng.normal(3, 0.5, number)])
    return x, rng.random(number) < 1 / (1 + np.exp(-(bias + x @ weights)))


def test_many_words_tell_the_truth() -> None:
    truth = np.array([0.7, -0.9, 0.4])
    x, right = words(40_000, 0.5, truth)
    one = Calibration.fit(x, right)
    assert one.weights == pytest.approx(truth, abs=0.08) and one.bias == pytest.approx(0.5, abs=0.25)
    assert (one.words, one.wrong) == (40_000, int((~right).sum()))
    held_x, held = words(10_000, 0.5, truth, seed=1)
    assert calibration_error(one.conf(held_x), held) < 0.01
    assert 0 < normalised_cross_entropy(one.conf(held_x), held) < 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 60), st.integers(0, 99))
def test_it_is_the_maximum(number: int, seed: int) -> None:
    """Of what it maximises, by finite differences; where a weight was held at 0 it pulls to the wrong side."""
    x, right = words(number, 0.0, np.array([0.5, -0.5, 0.3]), seed)
    one = Calibration.fit(x, right)

    def objective(values: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-(values[0] + x @ values[1:])))
        said = np.log(np.where(right, p, 1 - p)).sum()
        return said - 0.5 * (1e-3 * values[0] ** 2 + PRIOR * ((values[1:] - USUAL) ** 2).sum())

    found = np.array([one.bias, *one.weights])
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-4
        slope = (objective(found + step) - objective(found - step)) / 2e-4
        if k and found[k] == 0.0:
            continue
        assert abs(slope) < 1e-2
    assert (np.array(one.weights) * USUAL >= 0).all()


def test_where_there_is_no_error_it_stays_usual_and_sure() -> None:
    x, _ = words(200, 0.0, USUAL)
    one = Calibration.fit(x, np.ones(200, bool))
    assert one.conf(x).mean() > 0.98 and (one.conf(x) <= 1.0).all()
    assert Calibration.fit(np.zeros((0, 3)), np.zeros(0, bool)).weights == pytest.approx(USUAL)


def test_a_feature_that_points_the_wrong_way_is_left_out() -> None:
    x, right = words(5000, 0.0, np.array([-1.0, -0.5, 0.3]))
    one = Calibration.fit(x, right)
    assert one.weights[0] == 0.0 and one.weights[1] < 0


def test_reliability_by_hand() -> None:
    conf, right = np.array([0.05, 0.95, 0.97, 1.0, 0.55]), np.array([False, True, False, True, True])
    rows = reliability(conf, right)
    assert [(row.low, row.words) for row in rows] == [(0.0, 1), (0.5, 1), (0.9, 3)]
    assert rows[2].conf == pytest.approx(2.92 / 3) and rows[2].right == pytest.approx(2 / 3)
    assert calibration_error(conf, right) == pytest.approx((0.05 + 0.45 + (2.92 - 2)) / 5)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0


@pytest.mark.parametrize("words, share", [(60, 0.5), (600, 0.5), (800, 0.95)])
def test_by_chance_is_what_probabilities_stray_by(words: int, share: float) -> None:
    rng = np.random.default_rng(words)
    conf = np.clip(rng.beta(4 * share, 4 * (1 - share), words), 0.02, 0.98)
    errors = [calibration_error(conf, rng.random(words) < conf) for _ in range(400)]
    assert by_chance(reliability(conf, conf > 2)) == pytest.approx(np.mean(errors), rel=0.1)


def test_normalised_cross_entropy() -> None:
    right = np.array([True, True, True, False])
    assert normalised_cross_entropy(np.full(4, 0.75), right) == pytest.approx(0.0)
    assert normalised_cross_entropy(right.astype(float), right) == pytest.approx(1.0, abs=1e-5)
    assert normalised_cross_entropy(1.0 - right, right) < -5
    assert np.isnan(normalised_cross_entropy(np.ones(3), np.ones(3, bool)))
    assert summary(np.ones(3), np.ones(3, bool))["nce"] is None


def test_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    one = Calibration(0.25, (0.5, -0.125, 0.0), 10, 2)
    one.save(path)
    assert Calibration.load(path) == one
    sound = json.loads(path.read_text())
    for row in ({}, [], {**sound, "bias": "high"}, {**sound, "weights": {FEATURES[0]: 1.0}}, {**sound, "bias": 1e999}):
        path.write_text(json.dumps(row))
        with pytest.raises(ModelError, match="calibration.*decode stage"):
            Calibration.load(path)
