"""Linear discriminant analysis against scipy's generalised eigenproblem and against direct maximisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from scipy.optimize import minimize

from hybrid.errors import DataError
from hybrid.gmm.lda import LdaStats, estimate_lda

SEEDS = st.integers(0, 2**32 - 1)


def _frames(seed, classes=5, dim=6, count=800):
    """(features float32 [T, n], classes [T]): clouds of one shape, of unequal sizes, one class without a frame."""
    rng = np.random.default_rng(seed)
    share = np.r_[rng.dirichlet(np.ones(classes - 1)), 0.0]
    labels = rng.choice(classes, count, p=share)
    shape = rng.normal(size=(dim, dim)) + 2 * np.eye(dim)
    x = rng.normal(0, 2, (classes, dim))[labels] + rng.normal(size=(count, dim)) @ shape.T + rng.normal(0, 3, dim)
    return x.astype(np.float32), labels


def _scatter(features, labels):
    """(within, between) covariance, frame by frame."""
    x = features.astype(np.float64)
    mean = x.mean(0)
    within, between = np.zeros((2, x.shape[1], x.shape[1]))
    for row, label in zip(x, labels):
        own = x[labels == label].mean(0)
        within += np.outer(row - own, row - own) / len(x)
        between += np.outer(own - mean, own - mean) / len(x)
    return within, between


def _stats(features, labels, classes=5):
    return LdaStats.from_frames(features, labels, classes)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_statistics_frame_by_frame(seed):
    features, labels = _frames(seed, count=60)
    stats = _stats(features, labels)
    for label in range(5):
        mine = features[labels == label].astype(np.float64)
        assert stats.counts[label] == len(mine)
        np.testing.assert_allclose(stats.sums[label], mine.sum(0), atol=1e-9)
    x = features.astype(np.float64)
    np.testing.assert_allclose(stats.second, sum(np.outer(row, row) for row in x))


def test_statistics_add_up_and_of_nothing_are_zeros():
    features, labels = _frames(0)
    parts = _stats(features[:300], labels[:300]) + _stats(features[300:], labels[300:])
    for name, value in vars(_stats(features, labels)).items():
        np.testing.assert_allclose(getattr(parts, name), value)
    nothing = _stats(features[:0], labels[:0])
    for name, value in vars(LdaStats.zeros(5, 6)).items():
        np.testing.assert_array_equal(getattr(nothing, name), value)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 6))
def test_the_directions_are_scipys(seed, dim):
    features, labels = _frames(seed)
    within, between = _scatter(features, labels)
    values, vectors = eigh(between, within)
    matrix, got = estimate_lda(_stats(features, labels), dim)
    assert matrix.shape == (dim, 6)
    np.testing.assert_allclose(got, values[::-1], atol=1e-6 * values.max())
    # up to sign; directions without between-class variance (five classes span four) are anybody's choice
    for row, direction, value in zip(matrix, vectors.T[::-1], got):
        if value > 1e-3 * got[0]:
            assert min(np.abs(row - direction).max(), np.abs(row + direction).max()) < 1e-3 * np.abs(direction).max()
        assert row[np.argmax(np.abs(row))] > 0


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_round_afterwards_and_no_two_directions_share_their_differences(seed):
    features, labels = _frames(seed)
    matrix, values = estimate_lda(_stats(features, labels), 4)
    within, between = _scatter(features @ matrix.T.astype(np.float32), labels)
    np.testing.assert_allclose(within, np.eye(4), atol=1e-3)
    np.testing.assert_allclose(between, np.diag(values[:4]), atol=1e-3 * values[0])


@pytest.mark.parametrize("seed", range(3))
def test_no_other_projection_separates_better(seed):
    """tr((A W A')^-1 A B A'), maximised from a few starts by a slow optimiser that knows nothing of eigenvectors."""
    features, labels = _frames(seed, dim=4)
    within, between = _scatter(features, labels)

    def ratio(flat):
        a = flat.reshape(2, 4)
        return float(np.trace(np.linalg.solve(a @ within @ a.T, a @ between @ a.T)))

    matrix, values = estimate_lda(_stats(features, labels), 2)
    best = ratio(matrix.ravel())
    assert best == pytest.approx(values[:2].sum(), rel=1e-5)
    rng = np.random.default_rng(seed)
    found = [-minimize(lambda flat: -ratio(flat), rng.normal(size=8), method="BFGS").fun for _ in range(4)]
    assert max(found) <= best * (1 + 1e-6)
    assert max(found) == pytest.approx(best, rel=1e-3)


def test_the_result_does_not_depend_on_where_the_features_lie():
    features, labels = _frames(1)
    one = estimate_lda(_stats(features, labels), 3)[0]
    other = estimate_lda(_stats(features + np.float32(8.0), labels), 3)[0]
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def _constant(x):
    x[:, 2] = 5.0
    return x


def _copied(x):
    x[:, 2] = x[:, 0]
    return x


def _summed(x):
    x[:, 2] = x[:, 0] - 2 * x[:, 1]
    return x


@pytest.mark.parametrize(
    "spoil", [_constant, _copied, _summed, lambda x: x * 0], ids=["constant", "copied", "summed", "all zero"]
)
def test_features_without_an_inverse_are_refused_with_a_remedy(spoil):
    for seed in range(20):  # how rounding falls must not matter
        features, labels = _frames(seed, count=100)
        with pytest.raises(DataError, match="constant, or copies") as caught:
            estimate_lda(_stats(spoil(features), labels), 3)
        assert caught.value.remedy


@pytest.mark.parametrize("frames, dim, what", [(800, 7, "LDA to 7 dimensions from 6"), (11, 3, "on 11 frames"),
                                                (0, 3, "on 0 frames")])  # fmt: skip
def test_too_few_dimensions_or_frames_are_refused_with_a_remedy(frames, dim, what):
    features, labels = _frames(0)
    with pytest.raises(DataError, match=what) as caught:
        estimate_lda(_stats(features[:frames], labels[:frames]), dim)
    assert caught.value.remedy
