"""Mixtures of Gaussians: one frame and one Gaussian at a time as oracle, EM against slow maximisation, splitting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gmm_tools import random_gmms
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import norm

from hybrid.errors import ModelError
from hybrid.gmm import log_sums as log_sums_module
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import GmmStats, accumulate, by_pdf, mix_up, split_targets, update

SEEDS = st.integers(0, 2**32 - 1)


def random_data(rng, gmms, frames=200):
    """(features [T, D] float32, pdfs [T]); every pdf has frames."""
    pdfs = np.r_[np.arange(gmms.num_pdfs), rng.integers(0, gmms.num_pdfs, frames - gmms.num_pdfs)]
    return rng.normal(0, 1.5, (frames, gmms.dim)).astype(np.float32), rng.permutation(pdfs)


def slow_loglike(gmms, x, pdf):
    """log sum_m w_m N(x; mu_m, v_m), written out."""
    total = 0.0
    for m in range(gmms.offsets[pdf], gmms.offsets[pdf + 1]):
        density = gmms.weights[m]
        for d in range(gmms.dim):
            v = gmms.variances[m, d]
            density *= math.exp(-((x[d] - gmms.means[m, d]) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
        total += density
    return math.log(total)


# -- likelihoods ------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_likelihoods_one_by_one(seed):
    rng = np.random.default_rng(seed)
    gmms = random_gmms(rng)
    x = rng.normal(0, 1.5, (7, 3)).astype(np.float32)
    got = gmms.loglikes(x)
    assert (got.shape, got.dtype) == ((gmms.num_pdfs, 7), np.float32)
    expected = [[slow_loglike(gmms, row.astype(float), pdf) for row in x] for pdf in range(gmms.num_pdfs)]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def slow_log_sums(scores: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Pdf by pdf."""
    out = np.empty((len(starts) - 1, scores.shape[1]), np.float32)
    for number, (begin, end) in enumerate(zip(starts[:-1], starts[1:])):
        part = scores[begin:end]
        best = part.max(0)
        out[number] = np.log(np.exp(part - best).sum(0)) + best
    return out


@settings(max_examples=100, deadline=None)
@given(
    SEEDS, st.integers(0, 90), st.lists(st.integers(1, 9), min_size=1, max_size=12), st.sampled_from([1, 64, 1 << 18])
)  # fmt: skip
def test_sums_of_blocks_of_pdfs_have_the_bits_of_each_alone(seed, frames, sizes, block):
    scores = np.random.default_rng(seed).normal(-50, 20, (sum(sizes), frames)).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    expected = slow_log_sums(scores, starts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_sums_module, "BLOCK", block)
        assert np.array_equal(log_sums_module.log_sums(scores, starts), expected)


def test_a_frame_that_is_not_finite_spoils_itself_alone():
    scores = np.zeros((4, 3), np.float32)
    scores[1, 0], scores[2, 1] = np.nan, np.inf
    sums = log_sums_module.log_sums(scores, np.array([0, 2, 4]))
    assert np.isnan(sums[0, 0]) and np.isnan(sums[1, 1])
    assert np.isfinite(sums[:, 2]).all() and np.isfinite([sums[1, 0], sums[0, 1]]).all()


def test_likelihoods_of_some_pdfs_are_those_rows():
    rng = np.random.default_rng(0)
    gmms, x = random_gmms(rng, num_pdfs=9), rng.normal(size=(11, 3)).astype(np.float32)
    everything = gmms.loglikes(x)
    for pdfs in ([3], [0, 8], [8, 1, 1, 4], list(range(9))):
        np.testing.assert_allclose(gmms.loglikes(x, np.array(pdfs)), everything[pdfs], rtol=1e-5, atol=1e-5)


def test_likelihoods_are_the_librarys():
    rng = np.random.default_rng(0)
    gmms, x = random_gmms(rng), rng.normal(size=(5, 3)).astype(np.float32)
    theirs = _library(gmms)
    expected = [[theirs.log_likelihood(pdf, row) for row in x] for pdf in range(gmms.num_pdfs)]
    np.testing.assert_allclose(gmms.loglikes(x), expected, rtol=1e-4, atol=1e-4)


def test_frames_far_from_every_gaussian_stay_finite():
    gmms = random_gmms(np.random.default_rng(0))
    x = np.full((2, 3), 1e4, np.float32)
    got = gmms.loglikes(x)
    assert np.isfinite(got).all()
    expected = [
        logsumexp(
            [
                np.log(gmms.weights[m]) + norm.logpdf(1e4, gmms.means[m], np.sqrt(gmms.variances[m])).sum()
                for m in range(begin, end)
            ]
        )
        for begin, end in zip(gmms.offsets[:-1], gmms.offsets[1:])
    ]
    np.testing.assert_allclose(got[:, 0], expected, rtol=1e-3)


def test_no_frames_have_no_likelihoods():
    gmms = random_gmms(np.random.default_rng(0))
    assert gmms.loglikes(np.zeros((0, 3), np.float32)).shape == (gmms.num_pdfs, 0)


def test_arrays_bring_back_the_same_mixtures():
    gmms = random_gmms(np.random.default_rng(0))
    again = DiagGmms.from_tensors(gmms.tensors())
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(again.loglikes(x), gmms.loglikes(x))
    assert (again.num_pdfs, again.num_gaussians, again.dim) == (4, len(gmms.weights), 3)


def _tensors(**changes):
    good = random_gmms(np.random.default_rng(0)).tensors()
    return {**good, **{f"gmm.{name}": change(good[f"gmm.{name}"]) for name, change in changes.items()}}


BROKEN = {
    "nothing": {},
    "no offsets": {k: v for k, v in _tensors().items() if k != "gmm.offsets"},
    "offsets short": _tensors(offsets=lambda a: a[:-1]),
    "a pdf without a Gaussian": _tensors(offsets=lambda a: np.r_[a[:2], a[1:]]),
    "offsets fall": _tensors(offsets=lambda a: np.r_[a[0], a[2], a[1], a[3:]]),
    "no pdfs": _tensors(
        offsets=lambda a: a[:1], weights=lambda a: a[:0], means=lambda a: a[:0], variances=lambda a: a[:0]
    ),
    "means short": _tensors(means=lambda a: a[:-1]),
    "means flat": _tensors(means=lambda a: a[:, 0]),
    "variances narrow": _tensors(variances=lambda a: a[:, :1]),
    "variance 0": _tensors(variances=lambda a: a * 0),
    "variance negative": _tensors(variances=lambda a: -a),
    "variance nan": _tensors(variances=lambda a: a * np.nan),
    "weight 0": _tensors(weights=lambda a: a * 0),
    "weight nan": _tensors(weights=lambda a: a * np.nan),
    "mean infinite": _tensors(means=lambda a: a + np.inf),
}


@pytest.mark.parametrize("tensors", BROKEN.values(), ids=BROKEN.keys())
def test_broken_arrays_are_refused_with_a_remedy(tensors):
    with pytest.raises(ModelError) as caught:
        DiagGmms.from_tensors(tensors)
    assert caught.value.remedy


# -- statistics -------------------------------------------------------------------------------------------------------


def _slow_stats(gmms, features, pdfs):
    counts, first = np.zeros(gmms.num_gaussians), np.zeros((gmms.num_gaussians, gmms.dim))
    second, loglike = first.copy(), 0.0
    for x, pdf in zip(features.astype(float), pdfs):
        rows = range(gmms.offsets[pdf], gmms.offsets[pdf + 1])
        scores = [
            np.log(gmms.weights[m]) + norm.logpdf(x, gmms.means[m], np.sqrt(gmms.variances[m])).sum() for m in rows
        ]
        loglike += logsumexp(scores)
        for m, score in zip(rows, scores):
            posterior = np.exp(score - logsumexp(scores))
            counts[m] += posterior
            first[m] += posterior * x
            second[m] += posterior * x**2
    return counts, first, second, loglike


def _accumulated(gmms, features, pdfs):
    stats = GmmStats.zeros(gmms)
    accumulate(gmms, features, pdfs, stats)
    return stats


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_statistics_one_by_one(seed):
    rng = np.random.default_rng(seed)
    gmms = random_gmms(rng)
    features, pdfs = random_data(rng, gmms, 60)
    stats = _accumulated(gmms, features, pdfs)
    counts, first, second, loglike = _slow_stats(gmms, features, pdfs)
    np.testing.assert_allclose(stats.counts, counts, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(stats.first, first, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(stats.second, second, rtol=1e-3, atol=1e-3)
    assert stats.loglike == pytest.approx(loglike, rel=1e-5)
    assert stats.frames == 60
    np.testing.assert_allclose(stats.occupancy(gmms), np.bincount(pdfs, minlength=gmms.num_pdfs), rtol=1e-5)


def test_sums_over_other_features_have_the_posteriors_of_these():
    """The speaker-independent mixtures of an adapted system: gmm-acc-stats-twofeats."""
    rng = np.random.default_rng(0)
    gmms = random_gmms(rng)
    features, pdfs = random_data(rng, gmms, 60)
    others = (2 * features + 1).astype(np.float32)
    one, two = GmmStats.zeros(gmms), GmmStats.zeros(gmms)
    accumulate(gmms, features, pdfs, one)
    accumulate(gmms, features, pdfs, two, others=others)
    np.testing.assert_array_equal(two.counts, one.counts)
    assert (two.loglike, two.frames) == (one.loglike, one.frames)
    np.testing.assert_allclose(two.first, 2 * one.first + one.counts[:, None], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        two.second, 4 * one.second + 4 * one.first + one.counts[:, None], rtol=1e-4, atol=1e-3
    )


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_frames_of_one_pdf_stand_together_once(seed):
    rng = np.random.default_rng(seed)
    gmms = random_gmms(rng)
    pdfs = rng.integers(0, gmms.num_pdfs, rng.integers(0, 30))
    order, groups = by_pdf(gmms, pdfs)
    assert sorted(order.tolist()) == list(range(len(pdfs)))
    assert sum(some.stop - some.start for _, some in groups) == len(pdfs)
    for rows, some in groups:
        frames = order[some]
        (pdf,) = set(pdfs[frames].tolist())
        assert (rows.start, rows.stop) == tuple(gmms.offsets[pdf : pdf + 2])
        assert np.all(np.diff(frames) > 0)


def test_statistics_add_up_over_parts():
    rng = np.random.default_rng(0)
    gmms = random_gmms(rng)
    features, pdfs = random_data(rng, gmms)
    whole = _accumulated(gmms, features, pdfs)
    sum_of_parts = _accumulated(gmms, features[:70], pdfs[:70]) + _accumulated(gmms, features[70:], pdfs[70:])
    np.testing.assert_allclose(sum_of_parts.counts, whole.counts, rtol=1e-5)
    np.testing.assert_allclose(sum_of_parts.first, whole.first, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sum_of_parts.second, whole.second, rtol=1e-4)
    assert sum_of_parts.loglike == pytest.approx(whole.loglike)
    assert sum_of_parts.frames == whole.frames


def test_pdfs_without_frames_have_no_statistics():
    gmms = random_gmms(np.random.default_rng(0))
    stats = _accumulated(gmms, np.ones((3, 3), np.float32), np.array([2, 2, 2]))
    assert stats.occupancy(gmms).tolist() == pytest.approx([0, 0, 3, 0])


# -- the update -------------------------------------------------------------------------------------------------------

NOTHING_LOST = {"min_count": 0.0, "min_weight": 0.0, "variance_floor": 1e-6}


def _objective(gmms, features, pdfs):
    return _slow_stats(gmms, features, pdfs)[3]


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_likelihood_never_falls_over_passes(seed):
    rng = np.random.default_rng(seed)
    gmms = random_gmms(rng, most=3)
    features, pdfs = random_data(rng, gmms, 300)
    previous = -np.inf
    for _ in range(8):
        stats = _accumulated(gmms, features, pdfs)
        assert stats.loglike >= previous - 1e-3 * abs(stats.loglike) / 100
        previous = stats.loglike
        gmms = update(gmms, stats, **NOTHING_LOST)
        sums = np.add.reduceat(gmms.weights, gmms.offsets[:-1])
        np.testing.assert_allclose(sums, 1.0)


def test_single_gaussians_get_the_mean_and_variance_of_their_frames():
    rng = np.random.default_rng(0)
    gmms = DiagGmms.single(np.zeros((3, 2)), np.ones((3, 2)))
    features, pdfs = rng.normal(3, 2, (300, 2)).astype(np.float32), rng.integers(0, 3, 300)
    new = update(gmms, _accumulated(gmms, features, pdfs))
    for pdf in range(3):
        mine = features[pdfs == pdf].astype(float)
        np.testing.assert_allclose(new.means[pdf], mine.mean(0), rtol=1e-5)
        np.testing.assert_allclose(new.variances[pdf], mine.var(0), rtol=1e-4)
    assert new.weights.tolist() == [1, 1, 1]


def _auxiliary(stats, weights, means, variances):
    """sum_m n_m log w_m + sum_t gamma log N, from the sums alone."""
    quadratic = stats.second - 2 * means * stats.first + means**2 * stats.counts[:, None]
    return float(
        (stats.counts * np.log(weights)).sum()
        - 0.5 * (stats.counts[:, None] * np.log(2 * np.pi * variances) + quadratic / variances).sum()
    )


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_the_update_is_where_the_auxiliary_function_is_flat(seed):
    """Finite differences in every mean, variance, and pair of weights of one pdf; and small steps only lose."""
    rng = np.random.default_rng(seed)
    gmms = random_gmms(rng, num_pdfs=2, dim=2, most=3)
    features, pdfs = random_data(rng, gmms, 400)
    stats = _accumulated(gmms, features, pdfs)
    new = update(gmms, stats, **NOTHING_LOST)
    parts = {"weights": new.weights, "means": new.means, "variances": new.variances}
    best = _auxiliary(stats, **parts)

    def at(name, index, step):
        moved = {key: value.copy() for key, value in parts.items()}
        moved[name][index] += step
        return moved

    epsilon = 1e-4
    for name in ("means", "variances"):
        for index in np.ndindex(parts[name].shape):
            up, down = (_auxiliary(stats, **at(name, index, step)) for step in (epsilon, -epsilon))
            scale = stats.counts[index[0]] / new.variances[index] ** (1 if name == "means" else 2)
            assert abs(up - down) / (2 * epsilon) < 1e-3 * max(scale, 1.0)
            assert max(up, down) <= best + 1e-9
    for begin, end in zip(new.offsets[:-1], new.offsets[1:]):
        for m in range(begin, end - 1):
            step = 1e-4 * new.weights[m : m + 2].min()
            for sign in (1, -1):
                moved = at("weights", m, sign * step)
                moved["weights"][m + 1] -= sign * step
                assert _auxiliary(stats, **moved) <= best + 1e-9


def test_the_update_is_what_a_slow_optimiser_finds():
    rng = np.random.default_rng(4)
    gmms = random_gmms(rng, num_pdfs=1, dim=2, most=3)
    gmms = DiagGmms(np.full(2, 0.5), rng.normal(size=(2, 2)), np.ones((2, 2)), np.array([0, 2]))
    features, pdfs = random_data(rng, gmms, 300)
    stats = _accumulated(gmms, features, pdfs)

    def unpack(z):
        weights = np.exp(z[:2]) / np.exp(z[:2]).sum()
        return weights, z[2:6].reshape(2, 2), np.exp(z[6:]).reshape(2, 2)

    found = minimize(lambda z: -_auxiliary(stats, *unpack(z)), np.zeros(10), method="BFGS", options={"gtol": 1e-4})
    weights, means, variances = unpack(found.x)
    new = update(gmms, stats, **NOTHING_LOST)
    np.testing.assert_allclose(new.weights, weights, atol=1e-4)
    np.testing.assert_allclose(new.means, means, atol=1e-3)
    np.testing.assert_allclose(new.variances, variances, rtol=1e-3)


def test_many_passes_find_the_mixture_that_made_the_frames():
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(-3, 1, (600, 1)), rng.normal(2, 0.5, (1400, 1))].astype(np.float32)
    gmms = DiagGmms(np.full(2, 0.5), np.array([[-0.5], [0.5]]), np.full((2, 1), 4.0), np.array([0, 2]))
    for _ in range(30):
        gmms = update(gmms, _accumulated(gmms, x, np.zeros(2000, int)))
    np.testing.assert_allclose(gmms.weights, [0.3, 0.7], atol=0.02)
    np.testing.assert_allclose(gmms.means[:, 0], [-3, 2], atol=0.1)
    np.testing.assert_allclose(np.sqrt(gmms.variances[:, 0]), [1, 0.5], atol=0.05)


def _stats(counts, first, second):
    return GmmStats(*(np.asarray(a, float) for a in (counts, first, second)))


def test_variances_are_floored():
    gmms = DiagGmms.single(np.zeros((1, 2)), np.ones((1, 2)))
    new = update(gmms, _stats([100], [[200, 0]], [[400, 900]]), variance_floor=0.01)
    np.testing.assert_allclose(new.variances, [[0.01, 9.0]])


def test_gaussians_with_few_frames_or_little_weight_are_removed():
    gmms = DiagGmms(
        np.array([0.5, 0.3, 0.2, 0.6, 0.4]), np.arange(5.0)[:, None], np.ones((5, 1)), np.array([0, 3, 5])
    )
    stats = _stats([100, 9, 50, 2e7, 30], [[0], [0], [50], [0], [0]], [[400], [9], [100], [2e7], [30]])
    new = update(gmms, stats, min_count=10.0, min_weight=1e-5)
    assert new.offsets.tolist() == [0, 2, 3]
    np.testing.assert_allclose(new.weights, [100 / 150, 50 / 150, 1.0])
    np.testing.assert_allclose(new.means[:, 0], [0, 1, 0])
    np.testing.assert_allclose(new.variances[:, 0], [4, 1, 1])


@pytest.mark.parametrize("counts", [[0, 0], [3, 5], [10, 9.99]])
def test_a_pdf_keeps_its_heaviest_gaussian_as_it_is_where_all_have_too_few_frames(counts):
    gmms = DiagGmms(np.array([0.7, 0.3]), np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]), np.array([0, 2]))
    new = update(gmms, _stats(counts, [[7], [7]], [[90], [90]]), min_count=10.0)
    heaviest = int(np.argmax(counts)) if any(counts) else 0
    assert new.weights.tolist() == [1.0]
    assert new.means.tolist() == gmms.means[heaviest : heaviest + 1].tolist()
    assert new.variances.tolist() == gmms.variances[heaviest : heaviest + 1].tolist()


def test_gaussians_can_all_be_kept_those_with_few_frames_as_they_are():
    gmms = DiagGmms(
        np.array([0.5, 0.5, 0.6, 0.4]), np.arange(4.0)[:, None], np.full((4, 1), 7.0), np.array([0, 2, 4])
    )
    stats = _stats([90, 10, 0, 0], [[180], [55], [0], [0]], [[720], [400], [0], [0]])
    new = update(gmms, stats, min_count=10.0, remove=False)
    assert new.offsets.tolist() == gmms.offsets.tolist()
    np.testing.assert_allclose(new.weights, [0.9, 0.1, 0.6, 0.4])
    np.testing.assert_allclose(new.means[:, 0], [2, 1, 2, 3])
    np.testing.assert_allclose(new.variances[:, 0], [4, 7, 7, 7])


def _library(gmms):
    """The same mixtures as a kaldi_hmm_gmm.AmDiagGmm."""
    import kaldi_hmm_gmm as khg

    model = khg.AmDiagGmm()
    for begin, end in zip(gmms.offsets[:-1], gmms.offsets[1:]):
        one = khg.DiagGmm(int(end - begin), gmms.dim)
        one.set_weights(gmms.weights[begin:end].astype(np.float32))
        one.set_invvars_and_means(
            (1 / gmms.variances[begin:end]).astype(np.float32), gmms.means[begin:end].astype(np.float32)
        )
        one.compute_gconsts()
        model.add_pdf(one)
    return model


@pytest.mark.parametrize("seed", range(4))
def test_the_update_is_the_librarys(seed):
    import kaldi_hmm_gmm as khg

    rng = np.random.default_rng(seed)
    gmms = random_gmms(rng)
    features, pdfs = random_data(rng, gmms, 500)
    features[:, 0] *= 0.001  # meets the floor of variances
    theirs = _library(gmms)
    accs = khg.AccumAmDiagGmm()
    flags = khg.GmmUpdateFlags.kGmmAll.value
    accs.init(theirs, flags)
    for row, pdf in zip(features, pdfs):
        accs.accumulate_for_gmm(theirs, row, int(pdf), 1.0)
    stats = _accumulated(gmms, features, pdfs)
    assert stats.loglike == pytest.approx(accs.tot_log_like, rel=1e-4)
    khg.mle_am_diag_gmm_update(khg.MleDiagGmmOptions(), accs, flags, theirs)
    new = update(gmms, stats)
    for pdf in range(gmms.num_pdfs):
        rows, one = slice(*new.offsets[pdf : pdf + 2]), theirs.get_pdf(pdf)
        np.testing.assert_allclose(new.weights[rows], one.weights, rtol=2e-3)
        np.testing.assert_allclose(new.means[rows], one.means, rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(new.variances[rows], one.vars, rtol=2e-3)


# -- growing ----------------------------------------------------------------------------------------------------------


def _slow_targets(occupancy, target, power, min_count):
    """Kaldi's GetSplitTargets word by word: a full scan for the next pdf, whose place is set to 0 when it is done."""
    components = [1] * len(occupancy)
    value = [occ**power for occ in occupancy]
    total = len(occupancy)
    while total < target:
        ratios = [v / c for v, c in zip(value, components)]
        pdf = int(np.argmax(ratios))
        if value[pdf] == 0:
            break
        if (components[pdf] + 1) * min_count >= occupancy[pdf]:
            value[pdf] = 0.0
        else:
            components[pdf] += 1
            total += 1
    return components


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 3.0, 19.0, 41.5, 200.0, 777.0, 5000.0, 1e5]), min_size=1, max_size=8),
    st.integers(0, 80),
    st.sampled_from([0.0, 0.2, 0.25, 0.5, 1.0]),
    st.sampled_from([0.0, 1.0, 20.0]),
)
def test_targets_are_those_of_a_naive_search(occupancy, target, power, min_count):
    occupancy = [o + 0.01 * i for i, o in enumerate(occupancy)]  # no ties, whose order is nobody's promise
    got = split_targets(np.array(occupancy), target, power=power, min_count=min_count)
    if power == 0.0:
        assert sorted(got.tolist()) == sorted(_slow_targets(occupancy, target, power, min_count))
    else:
        assert got.tolist() == _slow_targets(occupancy, target, power, min_count)
    assert got.sum() <= max(target, len(occupancy))
    assert all(c == 1 or c * min_count < o for c, o in zip(got, occupancy, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_targets_are_the_librarys(seed):
    rng = np.random.default_rng(seed)
    gmms = random_gmms(rng, num_pdfs=6, most=2)
    occupancy = np.round(rng.uniform(0, 30, 6) ** 2)
    theirs = _library(gmms)
    theirs.split_by_count(occupancy.astype(np.float32), 40, 0.01, 0.25, 20.0)
    new = mix_up(gmms, occupancy, 40, rng=rng)
    assert np.diff(new.offsets).tolist() == [theirs.num_gauss_in_pdf(pdf) for pdf in range(6)]
    for pdf in range(6):
        rows = slice(*new.offsets[pdf : pdf + 2])
        np.testing.assert_allclose(sorted(new.weights[rows]), sorted(theirs.get_pdf(pdf).weights), rtol=1e-5)


def test_rare_pdfs_get_more_than_their_share():
    got = split_targets(np.array([160000.0, 10000.0]), 30, power=0.25)
    assert got.tolist() == [20, 10]
    assert split_targets(np.array([160000.0, 10000.0]), 34, power=1.0).tolist() == [32, 2]


def test_targets_stop_where_there_are_too_few_frames():
    assert split_targets(np.array([50.0, 30.0]), 1000).tolist() == [2, 1]
    assert split_targets(np.zeros(3), 1000).tolist() == [1, 1, 1]


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 40))
def test_splitting_keeps_the_mean_and_the_weight_of_every_pdf(seed, target):
    rng = np.random.default_rng(seed)
    gmms = random_gmms(rng)
    occupancy = rng.uniform(0, 5000, gmms.num_pdfs)
    new = mix_up(gmms, occupancy, target, rng=np.random.default_rng(1))
    wanted = split_targets(occupancy, target)
    np.testing.assert_array_equal(np.diff(new.offsets), np.maximum(wanted, np.diff(gmms.offsets)))
    assert new.num_gaussians == new.offsets[-1]
    for pdf in range(gmms.num_pdfs):
        a, b = slice(*gmms.offsets[pdf : pdf + 2]), slice(*new.offsets[pdf : pdf + 2])
        assert new.weights[b].sum() == pytest.approx(1.0)
        np.testing.assert_allclose(new.weights[b] @ new.means[b], gmms.weights[a] @ gmms.means[a], atol=1e-9)
        np.testing.assert_allclose(new.weights[b] @ new.variances[b], gmms.weights[a] @ gmms.variances[a])


def test_the_heaviest_is_split_first_and_its_halves_move_by_a_share_of_the_deviation():
    gmms = DiagGmms(np.array([0.3, 0.7]), np.zeros((2, 1000)), np.full((2, 1000), 4.0), np.array([0, 2]))
    new = mix_up(gmms, np.array([1e6]), 3, rng=np.random.default_rng(0), perturb=0.01)
    np.testing.assert_allclose(new.weights, [0.3, 0.35, 0.35])
    np.testing.assert_array_equal(new.means[0], 0)
    np.testing.assert_array_equal(new.means[1], -new.means[2])
    assert np.std(new.means[1]) == pytest.approx(0.01 * 2.0, rel=0.1)
    # the original is as it was
    assert gmms.weights.tolist() == [0.3, 0.7]
    assert not gmms.means.any()


def test_splitting_hardly_changes_the_likelihood_and_the_next_passes_gain():
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(-2, 1, (500, 2)), rng.normal(2, 1, (500, 2))].astype(np.float32)
    pdfs = np.zeros(1000, int)
    gmms = update(DiagGmms.single(np.zeros((1, 2)), np.ones((1, 2))), _accumulated_one(x))
    before = _accumulated(gmms, x, pdfs).loglike
    gmms = mix_up(gmms, np.array([1000.0]), 2, rng=np.random.default_rng(1), perturb=0.2)
    assert _accumulated(gmms, x, pdfs).loglike == pytest.approx(before, rel=0.02)
    for _ in range(15):
        gmms = update(gmms, _accumulated(gmms, x, pdfs))
    assert _accumulated(gmms, x, pdfs).loglike > before + 100


def _accumulated_one(x):
    return _accumulated(DiagGmms.single(np.zeros((1, 2)), np.ones((1, 2))), x, np.zeros(len(x), int))


def test_the_same_seed_splits_the_same_way():
    gmms = random_gmms(np.random.default_rng(0))
    made = [mix_up(gmms, np.full(4, 1e4), 20, rng=np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(made[0].means, made[1].means)
    other = mix_up(gmms, np.full(4, 1e4), 20, rng=np.random.default_rng(4))
    assert not np.array_equal(made[0].means, other.means)
