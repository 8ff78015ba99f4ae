"""A phone that training heard once: its Gaussians lean on those of all, so that long recordings with it are aligned."""

from __future__ import annotations

from dataclasses import replace

import hmm_tools
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybrid.gmm.align as align_module
from hybrid.gmm import deltas, mono
from hybrid.gmm.align import AlignOptions
from hybrid.gmm.apply import align_store
from hybrid.gmm.bootstrap import monophone_senones
from hybrid.gmm.chunks import Data
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import GmmStats, lean, update, within_variance
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.passes import Context, align_all
from hybrid.gmm.store import Store, StoredUtterance
from hybrid.gmm.trees import TreeOptions, compile_all
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon

WORDS = {"AB": ["a b"], "BA": ["b a"], "ACE": ["a c"], "CAB": ["c a b"], "ZA": ["z a"]}
LANG = Lang.create(Lexicon.from_dict(WORDS))
DIM = 13


def utterance(rng, words, name):
    """Frames of a state sound alike, as in speech: what differs is mostly drawn once a state."""
    senones = monophone_senones(LANG)
    points = np.random.default_rng(0).normal(0, 1, (senones.num_pdfs, DIM))
    silence = LANG.silence_ids[:1]
    phones = [*silence, *(LANG.phones[name] for word in words for name in WORDS[word][0].split()), *silence]
    _, _, pdfs = hmm_tools.random_walk(senones, phones, rng, LANG.silence_ids)
    state = np.r_[True, np.diff(pdfs) != 0].cumsum() - 1
    moves = 0.6 * rng.normal(size=(state[-1] + 1, DIM))
    x = points[pdfs] + moves[state] + 0.15 * rng.normal(size=(len(pdfs), DIM))
    return StoredUtterance(name, "s", " ".join(words), x.astype(np.float32))


def context(folder):
    folder.mkdir()
    return Context(folder, LANG.silence_ids, log=lambda message: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Triphones of 80 utterances without the phone z and one with it."""
    folder = tmp_path_factory.mktemp("once")
    rng = np.random.default_rng(1)
    items = [utterance(rng, rng.choice(list(WORDS)[:4], rng.integers(2, 6)).tolist(), f"u{n:03d}") for n in range(80)]
    items.append(utterance(rng, ["AB", "ZA", "CAB"], "u999"))
    store = Store.create(folder / "store", lambda: items, variance=True)
    senones = monophone_senones(LANG)
    start = context(folder / "mono")
    data, _ = compile_all(LANG, senones, Data(store, FeatureTransform.deltas(DIM)), folder / "graphs", start)
    model, data = mono.train_mono(senones, data, mono.options(passes=20, gaussians=60), start)
    data, _ = align_all(model, data, AlignOptions(), start, folder / "mono" / "final")
    options = deltas.options(passes=20, gaussians=100)
    tree = TreeOptions(40, 100.0)
    return deltas.train_deltas(
        model.senones, replace(data, graphs=None), LANG, tree, options, context(folder / "tri1")
    )[0]


def of_phone(model, name):
    """The Gaussians of the pdfs that are this phone's alone."""
    senones = model.senones
    own = senones.tid2phone[1:] == LANG.phones[name]
    pdfs = np.setdiff1d(senones.tid2pdf[1:][own], senones.tid2pdf[1:][~own])
    assert len(pdfs) == 3
    return model.gmms.rows(pdfs)[0]


def test_its_variances_are_of_the_size_of_all_others(trained):
    once, all_ = trained.gmms.variances[of_phone(trained, "z")], trained.gmms.variances
    assert np.median(once / np.median(all_, axis=0)) > 0.5  # 0.04 with a floor of 0.001 alone
    assert once.min() > 0.005


def test_long_recordings_with_it_are_aligned(trained, tmp_path, monkeypatch):
    """Of these ten none is with a floor alone, be it 0.001 or 0.01."""
    monkeypatch.setattr(align_module, "LONG", 0)  # as recordings of ten minutes are
    rng = np.random.default_rng(7)
    words = ["AB", "BA"] * 15 + ["ZA"] + ["CAB", "ACE"] * 15
    items = [utterance(rng, words, f"l{n}") for n in range(10)]
    store = Store.create(tmp_path / "store", lambda: items, variance=True)
    data, reasons = align_store(trained, store, LANG, AlignOptions(), context(tmp_path / "aligned"))
    lengths = np.concatenate([data.aligned(index).lengths for index in range(store.num_chunks)])
    assert len(lengths) == 10 and (lengths > 0).all() and not reasons


def stats_of(frames):
    """Single Gaussians of pdfs with these frames [n, D] each, and their statistics."""
    dim = frames[0].shape[1]
    gmms = DiagGmms.single(np.zeros((len(frames), dim)), np.ones((len(frames), dim)))
    sums = [np.array([of(x) for x in frames]) for of in (len, lambda x: x.sum(0), lambda x: (x**2).sum(0))]
    return gmms, GmmStats(sums[0].astype(float), sums[1], sums[2])


@given(seed=st.integers(0, 1000), few=st.integers(3, 60))
def test_the_formula_in_plain_numbers(seed, few):
    """And bit for bit the old numbers from 20 frames on."""
    rng, dim = np.random.default_rng(seed), 7
    frames = [rng.normal(rng.normal(0, 5, dim), 1 + rng.random(dim), (n, dim)) for n in (200, few, 90)]
    gmms, stats = stats_of(frames)
    found = update(gmms, stats, min_count=2.0)
    deviations = np.concatenate([x - x.mean(0) for x in frames])
    within = (deviations**2).mean(0)
    np.testing.assert_allclose(within_variance(stats.counts, stats.first, stats.second), within)
    for pdf, x in enumerate(frames):
        share = min(1.0, len(x) / 20)
        np.testing.assert_allclose(found.variances[pdf], share * x.var(0) + (1 - share) * within)
        if len(x) >= 20:
            mean = stats.first[pdf] / stats.counts[pdf]
            assert np.array_equal(found.variances[pdf], stats.second[pdf] / stats.counts[pdf] - mean**2)
        np.testing.assert_allclose(found.means[pdf], x.mean(0))


def test_one_frame_has_the_variance_of_all():
    within = np.array([0.5, 2.0])
    assert lean(np.zeros(2), 1.0, within).tolist() == [0.475, 1.9]
    assert lean(np.array([0.1, 0.1]), 10.0, within).tolist() == [0.3, 1.05]
    assert lean(np.array([0.1, 0.1]), 20.0, within).tolist() == [0.1, 0.1]
    assert within_variance(np.zeros(3), np.zeros((3, 2)), np.zeros((3, 2))).tolist() == [0.0, 0.0]
