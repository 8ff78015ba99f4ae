"""The maximum likelihood linear transform: its statistics one by one, its optimum against a slow optimiser."""

from __future__ import annotations

from dataclasses import replace

import gmm_tools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import norm

from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import GmmStats, accumulate, update
from hybrid.gmm.mllt import MlltStats, estimate_mllt, objective
from hybrid.gmm.rows import replace_row

SEEDS = st.integers(0, 2**32 - 1)


def _turned(seed, dim=3, count=600):
    """(mixtures, features [T, D], pdfs): drawn from the mixtures, then turned out of their axes."""
    rng = np.random.default_rng(seed)
    gmms = gmm_tools.random_gmms(rng, dim=dim)
    pdfs = rng.integers(0, gmms.num_pdfs, count)
    turn = np.eye(dim) + 0.5 * rng.normal(size=(dim, dim))
    x = gmm_tools.draw(rng, gmms, pdfs)
    return replace(gmms, means=gmms.means @ turn.T), (x @ turn.T).astype(np.float32), pdfs


def posteriors(gmms, x, pdf):
    """[M] of the Gaussians of a pdf, one frame."""
    rows = range(gmms.offsets[pdf], gmms.offsets[pdf + 1])
    return rows, softmax(
        [np.log(gmms.weights[m]) + norm.logpdf(x, gmms.means[m], np.sqrt(gmms.variances[m])).sum() for m in rows]
    )


# -- one row at a time ------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(0, 3))
def test_a_replaced_row_has_the_inverse_that_numpy_finds(seed, dim, batch):
    rng = np.random.default_rng(seed)
    shape = (batch, dim, dim) if batch else (dim, dim)
    matrix = rng.normal(size=shape) + 3 * np.eye(dim)
    inverse, row = np.linalg.inv(matrix), int(rng.integers(dim))
    expected, new = matrix.copy(), rng.normal(size=shape[:-1])
    new[..., row] += 3
    expected[..., row, :] = new
    replace_row(matrix, inverse, row, new)
    np.testing.assert_array_equal(matrix, expected)
    wanted = np.linalg.inv(expected)
    np.testing.assert_allclose(inverse, wanted, atol=1e-9 * np.abs(wanted).max() * np.linalg.cond(expected).max())


# -- statistics -------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_statistics_one_by_one(seed):
    gmms, features, pdfs = _turned(seed, count=40)
    g = np.zeros((3, 3, 3))
    for x, pdf in zip(features.astype(np.float64), pdfs):
        for m, gamma in zip(*posteriors(gmms, x, pdf)):
            offset = x - gmms.means[m]
            for i in range(3):
                g[i] += gamma * np.outer(offset, offset) / gmms.variances[m, i]
    stats = MlltStats.from_frames(gmms, features, pdfs)
    assert stats.beta == 40
    np.testing.assert_allclose(stats.g, g, rtol=1e-3, atol=1e-3 * np.abs(g).max())


def test_statistics_add_up_and_of_nothing_are_zeros():
    gmms, features, pdfs = _turned(0)
    whole = MlltStats.from_frames(gmms, features, pdfs)
    parts = MlltStats.from_frames(gmms, features[:99], pdfs[:99]) + MlltStats.from_frames(
        gmms, features[99:], pdfs[99:]
    )
    assert parts.beta == whole.beta
    np.testing.assert_allclose(parts.g, whole.g, rtol=1e-4, atol=1e-2)
    nothing = MlltStats.from_frames(gmms, features[:0], pdfs[:0])
    assert nothing.beta == 0 and not nothing.g.any()


# -- the estimate -----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_the_objective_never_falls_and_is_flat_at_the_end(seed, dim):
    gmms, features, pdfs = _turned(seed, dim)
    stats = MlltStats.from_frames(gmms, features, pdfs)
    last = objective(stats, np.eye(dim))
    for sweeps in (1, 2, 3, 5, 10, 200):
        matrix, gain = estimate_mllt(stats, sweeps)
        now = objective(stats, matrix)
        assert now >= last - 1e-7 * stats.beta
        assert gain == pytest.approx((now - objective(stats, np.eye(dim))) / stats.beta)
        last = now
    assert gain >= 0
    for index in np.ndindex(dim, dim):
        step = np.zeros((dim, dim))
        step[index] = 1e-5
        slope = (objective(stats, matrix + step) - objective(stats, matrix - step)) / 2e-5
        assert abs(slope) < 2e-2 * stats.beta


@pytest.mark.parametrize("seed", range(4))
def test_the_estimate_is_what_a_slow_optimiser_finds(seed):
    gmms, features, pdfs = _turned(seed, dim=2)
    stats = MlltStats.from_frames(gmms, features, pdfs)
    best = objective(stats, estimate_mllt(stats)[0])
    rng = np.random.default_rng(seed)
    found = [
        -minimize(lambda a: -objective(stats, a.reshape(2, 2)), rng.normal(size=4), method="Nelder-Mead").fun
        for _ in range(4)
    ]
    assert max(found) <= best + 1e-5 * stats.beta
    assert max(found) == pytest.approx(best, abs=1e-3 * stats.beta)


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_of_the_frames_rises_by_at_least_the_gain(seed):
    """With log |det A| a frame; the auxiliary function is a lower bound of what is gained."""
    gmms, features, pdfs = _turned(seed)
    matrix, gain = estimate_mllt(MlltStats.from_frames(gmms, features, pdfs))
    before, after = GmmStats.zeros(gmms), GmmStats.zeros(gmms)
    accumulate(gmms, features, pdfs, before)
    turned = replace(gmms, means=gmms.means @ matrix.T)
    accumulate(turned, (features @ matrix.T).astype(np.float32), pdfs, after)
    rise = (after.loglike - before.loglike) / len(features) + np.linalg.slogdet(matrix)[1]
    assert rise >= gain - 1e-3
    assert gain > 0.01


def test_turned_features_are_turned_back_to_where_diagonal_covariances_fit():
    """Correlated frames of one Gaussian: after the transform and an update the full covariance is diagonal."""
    rng = np.random.default_rng(0)
    shape = np.array([[1.0, 0.9, 0.0], [0.0, 0.5, 0.3], [0.0, 0.0, 1.0]])
    x = (rng.normal(size=(5000, 3)) @ shape.T).astype(np.float32)
    pdfs = np.zeros(5000, int)
    gmms = DiagGmms.single(np.zeros((1, 3)), np.ones((1, 3)))
    for _ in range(30):
        matrix, gain = estimate_mllt(MlltStats.from_frames(gmms, x, pdfs))
        x = (x @ matrix.T).astype(np.float32)
        stats = GmmStats.zeros(gmms)
        gmms = replace(gmms, means=gmms.means @ matrix.T)
        accumulate(gmms, x, pdfs, stats)
        gmms = update(gmms, stats)
    assert gain < 1e-4
    correlation = np.corrcoef(x.T)
    np.testing.assert_allclose(correlation, np.eye(3), atol=0.01)


def test_too_little_data_give_no_transform():
    gmms, features, pdfs = _turned(0)
    for count in (0, 1, 5):
        matrix, gain = estimate_mllt(MlltStats.from_frames(gmms, features[:count], pdfs[:count]))
        np.testing.assert_array_equal(matrix, np.eye(3))
        assert gain == 0.0
