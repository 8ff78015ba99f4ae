"""Feature-space MLLR: statistics one by one, its optimum against a slow optimiser, known distortions undone."""

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

from hybrid.errors import DataError
from hybrid.gmm.adapt import adapt_speakers, silent_pdfs
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import GmmStats, accumulate
from hybrid.gmm.feature_transform import FeatureTransform, adapt
from hybrid.gmm.fmllr import (
    MIN_COUNT,
    FmllrStats,
    compose,
    estimate_fmllr,
    frame_terms,
    identity,
    objective,
    speaker_stats,
)
from hybrid.gmm.model import GmmModel

SEEDS = st.integers(0, 2**32 - 1)
LANG = gmm_tools.make_lang()


def _spoken(seed, dim=3, count=600, amount=0.3):
    """(mixtures, features [T, D] of one speaker, pdfs, what he sounds like without his distortion)."""
    rng = np.random.default_rng(seed)
    gmms = gmm_tools.random_gmms(rng, dim=dim)
    gmms = replace(gmms, means=3 * gmms.means)
    pdfs = rng.integers(0, gmms.num_pdfs, count)
    clean = gmm_tools.draw(rng, gmms, pdfs)
    voice = identity(dim) + amount * rng.normal(size=(dim, dim + 1))
    return gmms, adapt(clean, voice), pdfs, clean


def _stats(gmms, features, pdfs, weights=None, posteriors_from=None):
    a, b = frame_terms(gmms, features, pdfs, posteriors_from)
    return speaker_stats(features, a, b, np.ones(len(pdfs)) if weights is None else weights)


def _estimate(stats, **more):
    return estimate_fmllr([stats], **{"min_count": 0.0, **more})[0]


def _slow_stats(gmms, features, pdfs, weights, model=None, others=None):
    model, others = model or gmms, features if others is None else others
    dim = gmms.dim
    k, g = np.zeros((dim, dim + 1)), np.zeros((dim, dim + 1, dim + 1))
    for x, y, pdf, weight in zip(features.astype(np.float64), others.astype(np.float64), pdfs, weights):
        rows = range(model.offsets[pdf], model.offsets[pdf + 1])
        gammas = softmax(
            [np.log(model.weights[m]) + norm.logpdf(y, model.means[m], np.sqrt(model.variances[m])).sum() for m in rows]
        )
        xi = np.r_[x, 1.0]
        for m, gamma in zip(rows, weight * gammas):
            for i in range(dim):
                k[i] += gamma * gmms.means[m, i] / gmms.variances[m, i] * xi
                g[i] += gamma / gmms.variances[m, i] * np.outer(xi, xi)
    return k, g


# -- statistics -------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.booleans())
def test_statistics_one_by_one(seed, two_models):
    gmms, features, pdfs, clean = _spoken(seed, count=40)
    rng = np.random.default_rng(seed)
    weights = rng.choice([0.0, 0.01, 1.0], 40)
    other = replace(gmms, means=gmms.means + rng.normal(0, 0.5, gmms.means.shape)) if two_models else None
    stats = _stats(gmms, features, pdfs, weights, (other, clean) if two_models else None)
    k, g = _slow_stats(gmms, features, pdfs, weights, other, clean if two_models else None)
    assert stats.beta == pytest.approx(weights.sum())
    np.testing.assert_allclose(stats.k, k, rtol=1e-3, atol=1e-3 * np.abs(k).max())
    np.testing.assert_allclose(stats.g, g, rtol=1e-3, atol=1e-3 * np.abs(g).max())


def test_statistics_add_up_in_blocks_and_of_nothing_are_zeros(monkeypatch):
    gmms, features, pdfs, _ = _spoken(0)
    whole = _stats(gmms, features, pdfs)
    parts = _stats(gmms, features[:99], pdfs[:99]) + _stats(gmms, features[99:], pdfs[99:])
    monkeypatch.setattr("hybrid.gmm.fmllr._BLOCK", 7)
    for other in (parts, _stats(gmms, features, pdfs)):
        assert other.beta == pytest.approx(whole.beta)
        np.testing.assert_allclose(other.k, whole.k, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(other.g, whole.g, rtol=1e-3, atol=1e-2)
    nothing = _stats(gmms, features[:0], pdfs[:0])
    assert nothing.beta == 0 and not nothing.k.any() and not nothing.g.any()


# -- the estimate -----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_the_objective_never_falls_and_is_flat_at_the_end(seed, dim):
    gmms, features, pdfs, _ = _spoken(seed, dim)
    stats = _stats(gmms, features, pdfs)
    last = start = objective(stats, identity(dim))
    for sweeps in (1, 2, 3, 5, 10, 300):
        transform, gain = _estimate(stats, sweeps=sweeps)
        now = objective(stats, transform)
        assert now >= last - 1e-6 * stats.beta
        assert gain == pytest.approx(now - start, abs=1e-6)
        last = now
    for index in np.ndindex(dim, dim + 1):
        step = np.zeros((dim, dim + 1))
        step[index] = 1e-4
        up, down = objective(stats, transform + step), objective(stats, transform - step)
        curvature = stats.g[index[0], index[1], index[1]]
        assert abs(up - down) / 2e-4 < 1e-3 * max(curvature, stats.beta)
        assert max(up, down) <= now + 1e-6 * stats.beta


@pytest.mark.parametrize("seed", range(4))
def test_the_estimate_is_what_a_slow_optimiser_finds(seed):
    gmms, features, pdfs, _ = _spoken(seed, dim=2)
    stats = _stats(gmms, features, pdfs)
    best = objective(stats, _estimate(stats, sweeps=300)[0])
    rng = np.random.default_rng(seed)

    def loss(flat):
        return -objective(stats, flat.reshape(2, 3)) / stats.beta

    starts = [identity(2).ravel()] + [identity(2).ravel() + 0.5 * rng.normal(size=6) for _ in range(3)]
    found = [-minimize(loss, start, method="BFGS", options={"gtol": 1e-6}).fun * stats.beta for start in starts]
    assert max(found) <= best + 1e-4 * stats.beta
    assert max(found) == pytest.approx(best, abs=1e-3 * stats.beta)


@pytest.mark.parametrize("seed", range(4))
def test_a_known_distortion_is_undone(seed):
    gmms, features, pdfs, clean = _spoken(seed, count=6000)
    total = identity(3)
    for _round in range(3):  # posteriors get better with the transform
        transform, _ = _estimate(_stats(gmms, adapt(features, total), pdfs), sweeps=300)
        total = compose(transform, total)
    distance = np.sqrt(np.square(adapt(features, total) - clean).mean())
    assert distance < 0.1 * clean.std()
    assert distance < 0.25 * np.sqrt(np.square(features - clean).mean())


@pytest.mark.parametrize("seed", range(4))
def test_the_likelihood_of_the_frames_rises_by_at_least_the_gain(seed):
    """With log |det A| a frame. The auxiliary function is a lower bound, tight where each pdf has one Gaussian."""
    for most in (1, 4):
        rng = np.random.default_rng(seed)
        gmms = gmm_tools.random_gmms(rng, most=most)
        pdfs = rng.integers(0, gmms.num_pdfs, 800)
        features = adapt(gmm_tools.draw(rng, gmms, pdfs), identity(3) + 0.3 * rng.normal(size=(3, 4)))
        transform, gain = _estimate(_stats(gmms, features, pdfs))
        before, after = GmmStats.zeros(gmms), GmmStats.zeros(gmms)
        accumulate(gmms, features, pdfs, before)
        accumulate(gmms, adapt(features, transform), pdfs, after)
        rise = after.loglike - before.loglike + len(pdfs) * np.linalg.slogdet(transform[:, :-1])[1]
        assert gain > 1.0
        assert rise >= gain - 1e-3 * len(pdfs)
        if most == 1:
            assert rise == pytest.approx(gain, abs=1e-3 * len(pdfs))


def test_speakers_are_solved_as_if_each_were_alone():
    every = []
    for seed in range(5):
        gmms, features, pdfs, _ = _spoken(seed, count=200 * (seed + 1), amount=0.1 * seed)
        every.append(_stats(gmms, features, pdfs))
    together = estimate_fmllr(every, min_count=300.0)
    np.testing.assert_array_equal(together[0][0], identity(3))
    assert together[0][1] == 0.0
    for stats, (transform, gain) in zip(every[1:], together[1:], strict=True):
        alone = estimate_fmllr([stats], min_count=300.0)[0]
        np.testing.assert_allclose(transform, alone[0], rtol=1e-12, atol=1e-12)
        assert gain == pytest.approx(alone[1])
    assert estimate_fmllr([]) == []


@pytest.mark.parametrize("count, adapted", [(0, False), (499, False), (500, True)])
def test_too_few_frames_give_no_transform(count, adapted):
    assert MIN_COUNT == 500
    gmms, features, pdfs, _ = _spoken(0)
    transform, gain = estimate_fmllr([_stats(gmms, features[:count], pdfs[:count])])[0]
    assert np.array_equal(transform, identity(3)) != adapted
    assert (gain > 0) == adapted


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_single_frame_or_none_does_no_harm_however_low_the_count():
    gmms, features, pdfs, _ = _spoken(0)
    for count in (0, 1, 2):
        transform, gain = _estimate(_stats(gmms, features[:count], pdfs[:count]))
        assert np.isfinite(transform).all() and gain >= 0
    assert _estimate(FmllrStats.zeros(3))[1] == 0.0


def test_a_dimension_that_never_varies_does_not_stop_the_others():
    gmms, features, pdfs, _ = _spoken(0, count=2000)
    still = features.copy()
    still[:, 1] = 0.0
    transform, gain = _estimate(_stats(gmms, still, pdfs))
    assert np.isfinite(transform).all() and gain > 0
    mixed = estimate_fmllr([_stats(gmms, still, pdfs), _stats(gmms, features, pdfs)])
    alone = estimate_fmllr([_stats(gmms, features, pdfs)])
    np.testing.assert_allclose(mixed[1][0], alone[0][0], rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_frames_that_are_not_finite_cost_their_speaker_his_transform_alone():
    gmms, features, pdfs, _ = _spoken(0)
    bad = features.copy()
    bad[7] = np.nan
    (broken, no_gain), (transform, gain) = estimate_fmllr([_stats(gmms, bad, pdfs), _stats(gmms, features, pdfs)])
    np.testing.assert_array_equal(broken, identity(3))
    assert no_gain == 0.0 and gain > 0
    np.testing.assert_allclose(transform, estimate_fmllr([_stats(gmms, features, pdfs)])[0][0], rtol=1e-9, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_composed_transforms_are_one_after_the_other(seed):
    rng = np.random.default_rng(seed)
    x, one, two = rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    first = x @ one[:, :3].T + one[:, 3]
    np.testing.assert_allclose(
        adapt(x.astype(np.float32), compose(two, one)), first @ two[:, :3].T + two[:, 3], atol=1e-4
    )
    np.testing.assert_allclose(compose(identity(3), one), one)
    np.testing.assert_allclose(compose(one, identity(3)), one)


# -- speakers without transcripts -------------------------------------------------------------------------------------


def _model(seed=0, independent=True):
    """A model of single Gaussians for the sounds of `gmm_tools.speech`, and its language."""
    senones = gmm_tools.make_senones(LANG)
    rng = np.random.default_rng(seed)
    means = rng.normal(0, 3, (senones.num_pdfs, gmm_tools.DIM))
    gmms = DiagGmms.single(means, np.ones_like(means))
    wide = DiagGmms.single(means, 2 * np.ones_like(means)) if independent else None
    return GmmModel(senones, gmms, FeatureTransform.splice(gmm_tools.DIM, 0, 0), wide)


def _voices(model, seed=0, count=700):
    """{id: features}, {id: pdfs}, {id: speaker}: two utterances of each of two speakers."""
    rng = np.random.default_rng(seed)
    voices = gmm_tools.distortions(2, 0.3)
    features, pdfs, speakers = {}, {}, {}
    for number in range(4):
        name = f"u{number}"
        pdfs[name] = rng.integers(0, model.gmms.num_pdfs, count)
        features[name] = adapt(gmm_tools.draw(rng, model.gmms, pdfs[name]), voices[number % 2])
        speakers[name] = f"s{number % 2}"
    return features, pdfs, speakers


def _loglike(model, features, pdfs, speakers, transforms):
    """A frame, the Jacobian included."""
    stats, jacobian = GmmStats.zeros(model.gmms), 0.0
    for name, x in features.items():
        transform = transforms[speakers[name]]
        accumulate(model.gmms, adapt(x, transform), pdfs[name], stats)
        jacobian += len(x) * np.linalg.slogdet(transform[:, :-1])[1]
    return (stats.loglike + jacobian) / stats.frames


@pytest.mark.parametrize("independent", [True, False])
def test_speakers_are_adapted_from_paths_and_again_on_top(independent):
    model = _model(independent=independent)
    features, pdfs, speakers = _voices(model)
    none = np.zeros(0, int)
    plain = {name: identity(gmm_tools.DIM) for name in ("s0", "s1")}
    first = adapt_speakers(model, features, pdfs, speakers, none)
    again = adapt_speakers(model, features, pdfs, speakers, none, first)
    values = [_loglike(model, features, pdfs, speakers, t) for t in (plain, first, again)]
    assert sorted(first) == ["s0", "s1"]
    assert values[1] > values[0] + 0.2
    assert values[2] >= values[1] - 1e-4


def test_a_speaker_without_paths_keeps_what_he_has():
    model = _model()
    features, pdfs, speakers = _voices(model)
    heard = {name: path for name, path in pdfs.items() if speakers[name] == "s0"}
    first = adapt_speakers(model, features, heard, speakers, np.zeros(0, int))
    np.testing.assert_array_equal(first["s1"], identity(gmm_tools.DIM))
    assert not np.array_equal(first["s0"], identity(gmm_tools.DIM))
    before = {name: identity(gmm_tools.DIM) + 0.1 for name in ("s0", "s1")}
    some = {"u0": pdfs["u0"], "u1": pdfs["u1"][:0]}
    second = adapt_speakers(model, features, some, speakers, np.zeros(0, int), before)
    np.testing.assert_allclose(second["s1"], before["s1"])


def test_silence_hardly_counts():
    """With every pdf silent there are too few frames; a silent pdf's frames may say what they like."""
    model = _model()
    features, pdfs, speakers = _voices(model)
    everything = np.arange(model.gmms.num_pdfs)
    for transform in adapt_speakers(model, features, pdfs, speakers, everything).values():
        np.testing.assert_array_equal(transform, identity(gmm_tools.DIM))
    silent = silent_pdfs(model, np.array(LANG.silence_ids))
    assert len(silent) == 3
    loud = {name: np.where(np.isin(pdfs[name], silent)[:, None], x + 5, x) for name, x in features.items()}
    one, two = (adapt_speakers(model, x, pdfs, speakers, silent, silence_weight=0.0) for x in (features, loud))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_a_path_of_another_length_is_named():
    model = _model()
    features, pdfs, speakers = _voices(model)
    with pytest.raises(DataError, match="path of 699 frames for 700") as caught:
        adapt_speakers(model, features, {**pdfs, "u2": pdfs["u2"][:-1]}, speakers, np.zeros(0, int))
    assert caught.value.utterance == "u2" and caught.value.remedy
