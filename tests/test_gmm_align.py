"""Alignment of a chunk: failures, the beam for long utterances, the flat start, files; any executor gives the same.

The search itself is tested in test_viterbi.py.
"""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import gmm_tools
import numpy as np
import pytest

import hybrid.gmm.align as align_module
from hybrid.errors import ConfigError, HybridError
from hybrid.gmm.align import Aligned, AlignOptions, align_chunk, equal_alignments
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.graphs import tid_costs
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import align_all
from hybrid.hmm.alignment import phone_segments
from hybrid.io import load_tensors, save_tensors
from hybrid.parallel import SerialExecutor

LANG = gmm_tools.make_lang()
SCALES = AlignOptions()


def _setup(kind="bootstrap", texts=("AB CAB", "BA"), frames=(40, 25), seed=0):
    """Features [sum, 3] that mean nothing, lengths, graphs, mixtures, senones with transitions of some data."""
    rng = np.random.default_rng(seed)
    senones = gmm_tools.make_senones(LANG, kind)
    senones.update_transitions(np.r_[0.0, rng.integers(5, 50, senones.num_tids)])
    gmms = DiagGmms(
        np.tile([0.4, 0.6], senones.num_pdfs),
        rng.normal(0, 2, (2 * senones.num_pdfs, 3)),
        rng.uniform(0.5, 2, (2 * senones.num_pdfs, 3)),
        np.arange(senones.num_pdfs + 1) * 2,
    )
    features = rng.normal(0, 2, (sum(frames), 3)).astype(np.float32)
    return features, np.array(frames), gmm_tools.compile_graphs(LANG, senones, texts), gmms, senones


def _align(features, lengths, graphs, gmms, senones, options=SCALES):
    costs = tid_costs(
        senones, transition_scale=options.transition_scale, self_loop_scale=options.self_loop_scale
    )
    return align_chunk(features, lengths, graphs, gmms, senones.tid2pdf, costs, options)


def _same(one, other):
    np.testing.assert_array_equal(one.tids, other.tids)
    np.testing.assert_array_equal(one.lengths, other.lengths)
    np.testing.assert_array_equal(one.loglike, other.loglike)


@pytest.mark.parametrize("kind", ["bootstrap", "network"])
@pytest.mark.parametrize(
    "scales", [(0.1, 1.0, 0.1), (1.0, 1.0, 1.0), (0.3, 0.0, 0.0), (0.05, 2.0, 0.5)], ids=lambda s: "-".join(map(str, s))
)
def test_the_score_is_that_of_the_path(kind, scales):
    """Acoustics and transition probabilities of the tids that came out, added one by one."""
    features, lengths, graphs, gmms, senones = _setup(kind)
    options = AlignOptions(*scales)
    got = _align(features, lengths, graphs, gmms, senones, options)
    loops = {int(senones.tid2state[t]): t for t in np.flatnonzero(senones.is_self_loop)}
    begin = 0
    for number, tids in enumerate(got.each()):
        assert tids.dtype == np.int32 and len(tids) == lengths[number]
        loglikes = gmms.loglikes(features[begin : begin + len(tids)])
        total = 0.0
        for t, tid in enumerate(tids):
            log_prob = float(senones.log_probs[tid])
            loop = loops.get(int(senones.tid2state[tid]))
            leave = np.log(1 - np.exp(float(senones.log_probs[loop]))) if loop else 0.0
            total += options.acoustic_scale * float(loglikes[senones.tid2pdf[tid], t])
            if senones.is_self_loop[tid]:
                total += options.self_loop_scale * log_prob
            else:
                total += options.transition_scale * (log_prob - leave) + options.self_loop_scale * leave
        # What else the score holds are the lexicon's costs of pauses, at most log 2 at each of the places for one.
        lexicon = total - got.loglike[number] * len(tids) * options.acoustic_scale
        assert -1e-2 < lexicon < 4 * np.log(2) + 1e-2
        begin += len(tids)


def test_the_alignment_spells_the_transcript():
    features, lengths, graphs, gmms, senones = _setup(texts=("AB BA",), frames=(60,))
    got = _align(features, lengths, graphs, gmms, senones)
    phones, durations = phone_segments(got.tids, senones)
    heard = [LANG.phone_names[p] for p in phones.tolist() if p not in LANG.silence_ids]
    assert heard == ["a", "b", "b", "a"]
    assert durations.min() >= 3


def test_pdfs_that_the_transcript_does_not_use_do_not_matter():
    features, lengths, graphs, gmms, senones = _setup(texts=("BA",), frames=(25,))
    other = np.setdiff1d(np.arange(senones.num_pdfs), senones.tid2pdf[graphs.tid])
    assert len(other)
    means = gmms.means.copy()
    means[np.isin(np.repeat(np.arange(senones.num_pdfs), 2), other)] += 1000
    changed = DiagGmms(gmms.weights, means, gmms.variances, gmms.offsets)
    one, two = (_align(features, lengths, graphs, g, senones) for g in (gmms, changed))
    _same(one, two)


def test_an_utterance_is_aligned_as_if_it_were_alone():
    features, lengths, graphs, gmms, senones = _setup(texts=("AB CAB", "BA", "ACE"), frames=(40, 25, 30))
    together = _align(features, lengths, graphs, gmms, senones)
    ends = np.cumsum(lengths)
    for number, text in enumerate(("AB CAB", "BA", "ACE")):
        alone = _align(
            features[ends[number] - lengths[number] : ends[number]], lengths[number : number + 1],
            gmm_tools.compile_graphs(LANG, senones, [text]), gmms, senones,
        )
        np.testing.assert_array_equal(alone.tids, together.each()[number])
        assert alone.loglike[0] == together.loglike[number]


# -- very long utterances ---------------------------------------------------------------------------------------------


def test_a_long_utterance_goes_to_the_beam_and_the_result_is_the_same(monkeypatch):
    setup = _setup(texts=("AB CAB", "BA", "ACE"), frames=(40, 25, 30))
    options = AlignOptions(beam=1e4, retry_beam=0.0)
    exact = _align(*setup, options)
    monkeypatch.setattr(align_module, "LONG", 0)
    got = _align(*setup, options)
    np.testing.assert_array_equal(got.tids, exact.tids)
    np.testing.assert_allclose(got.loglike, exact.loglike, rtol=1e-4)


def test_a_narrow_beam_fails_and_the_wider_one_is_tried(monkeypatch):
    monkeypatch.setattr(align_module, "LONG", 0)
    # Long enough for the 20 paths that a narrow beam always keeps to be the wrong ones: too slow to reach the end.
    setup = _setup(texts=["CAB " * 12] * 2, frames=(125, 130))
    narrow = AlignOptions(beam=1e-3, retry_beam=0.0, acoustic_scale=1.0)
    failed = _align(*setup, narrow)
    assert failed.lengths.tolist() == [0, 0] and not len(failed.tids)
    again = _align(*setup, AlignOptions(beam=1e-3, retry_beam=1e4, acoustic_scale=1.0))
    wide = _align(*setup, AlignOptions(beam=1e4, retry_beam=0.0, acoustic_scale=1.0))
    assert (again.retried, wide.retried) == (2, 0)
    np.testing.assert_array_equal(again.tids, wide.tids)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ("beam", "searched with a beam, and no path .*--retry-beam"),
        ("short", "too short for its words"),
        ("graph", "no training graph"),
        ("infinite", "no path through its words has a finite likelihood"),
    ],
)
def test_what_kept_an_utterance_from_being_aligned_is_said_and_kept(monkeypatch, tmp_path, wrong, said):
    features, lengths, graphs, gmms, senones = _setup(texts=("CAB " * 12, "BA"), frames=(125, 25))
    options = SCALES
    if wrong == "beam":
        monkeypatch.setattr(align_module, "LONG", 2000)
        options = AlignOptions(beam=1e-3, retry_beam=0.0, acoustic_scale=1.0)
    elif wrong == "short":
        features, lengths = np.concatenate([features[:3], features[125:]]), np.array([3, 25])
    elif wrong == "graph":
        graphs.start[0] = -1
    else:
        features[50] = np.nan
    found = _align(features, lengths, graphs, gmms, senones, options)
    assert found.lengths.tolist() == [0, 25] and re.search(said, found.reason(0))
    found.save(tmp_path / "a.safetensors")
    assert Aligned.load(tmp_path / "a.safetensors").reason(0) == found.reason(0)
    tensors = load_tensors(tmp_path / "a.safetensors")
    del tensors["why"]  # as it was written before
    save_tensors(tmp_path / "a.safetensors", tensors)
    assert "transcript is probably not what is said" in Aligned.load(tmp_path / "a.safetensors").reason(0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam": 0.0},
        {"beam": -1.0},
        {"beam": float("nan")},
        {"beam": 50.0},
        {"retry_beam": 10.0},
        {"retry_beam": -1.0},
        {"acoustic_scale": 0.0},
    ],
    ids=str,
)
def test_beams_that_do_not_make_sense_are_refused_before_the_search(wrong):
    with pytest.raises(ConfigError) as caught:
        AlignOptions(**wrong)
    assert caught.value.remedy


# -- utterances that fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x[:5],
        lambda x: x[:0],
        lambda x: np.full_like(x, np.nan),
        lambda x: np.where(np.arange(len(x))[:, None] == 7, np.inf, x).astype(np.float32),
    ],
    ids=["too short", "empty", "nan", "infinite"],
)
@pytest.mark.parametrize("long", [40_000_000, 0], ids=["exact", "beam"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_utterance_that_fails_has_length_0_and_the_others_are_as_without_it(spoil, long, monkeypatch):
    monkeypatch.setattr(align_module, "LONG", long)
    features, lengths, graphs, gmms, senones = _setup(texts=("AB CAB", "BA", "ACE"), frames=(40, 25, 30))
    good = _align(features, lengths, graphs, gmms, senones)
    bad = spoil(features[40:65])
    got = _align(
        np.concatenate([features[:40], bad, features[65:]]), np.array([40, len(bad), 30]), graphs, gmms, senones
    )
    assert got.lengths.tolist() == [40, 0, 30]
    assert got.each()[1] is None
    for number in (0, 2):
        np.testing.assert_array_equal(got.each()[number], good.each()[number])
        assert got.loglike[number] == good.loglike[number]


def test_no_utterances_align_to_nothing():
    _, _, _, gmms, senones = _setup()
    got = _align(
        np.zeros((0, 3), np.float32), np.zeros(0, int), gmm_tools.compile_graphs(LANG, senones, []), gmms, senones
    )
    assert (len(got.tids), got.each(), got.retried) == (0, [], 0)


# -- chunks and workers -----------------------------------------------------------------------------------------------

ITEMS = gmm_tools.speech(LANG, 8, speakers=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight utterances of three speakers, one too short, in three chunks."""
    items = [item._replace(features=item.features[:4]) if item.id == "u005" else item for item in ITEMS]
    folder = tmp_path_factory.mktemp("data")
    return gmm_tools.make_data(folder, LANG, gmm_tools.make_senones(LANG), items, 150)


def _model(data):
    senones = gmm_tools.make_senones(LANG)
    rng = np.random.default_rng(0)
    means = rng.normal(0, 3, (senones.num_pdfs, gmm_tools.DIM))
    return GmmModel(senones, DiagGmms.single(means, np.ones_like(means)), data.feature_transform)


@pytest.mark.parametrize("kind", ["one by one", "threads", "processes"])
def test_workers_give_the_same_in_the_same_order(kind, data, tmp_path):
    assert data.store.num_chunks > 1
    context = gmm_tools.quiet(tmp_path, LANG)
    model = _model(data)
    alone, result = align_all(model, data, SCALES, context, tmp_path / "alone")
    executor = {
        "one by one": SerialExecutor,
        "threads": lambda: ThreadPoolExecutor(3),
        "processes": lambda: ProcessPoolExecutor(1, mp_context=get_context("spawn")),
    }[kind]()
    with executor:
        got, again = align_all(model, data, SCALES, replace(context, executor=executor), tmp_path / "workers")
    assert result.failed == again.failed == ["u005"]
    assert result.aligned == again.aligned == 7
    for index in range(data.store.num_chunks):
        _same(alone.aligned(index), got.aligned(index))
    np.testing.assert_array_equal(result.stats.first, again.stats.first)
    np.testing.assert_array_equal(result.counts, again.counts)
    assert result.stats.loglike == again.stats.loglike


def test_alignment_leaves_its_graphs_as_they_were(data, tmp_path):
    files = sorted(data.graphs.iterdir())
    before = [path.read_bytes() for path in files]
    one, two = (align_all(_model(data), data, SCALES, gmm_tools.quiet(tmp_path), tmp_path / n)[0] for n in "ab")
    assert [path.read_bytes() for path in files] == before
    for index in range(data.store.num_chunks):
        _same(one.aligned(index), two.aligned(index))


# -- the flat start ---------------------------------------------------------------------------------------------------


def test_the_flat_start_shares_out_the_frames():
    _, _, graphs, _, senones = _setup(texts=("AB CAB", "BA", "ACE ACE"))
    got = equal_alignments(graphs, np.array([100, 57, 200]), seed=0)
    spelled = [{"abcab", "abcb"}, {"ba"}, {"acac"}]
    for tids, frames, words in zip(got.each(), (100, 57, 200), spelled, strict=True):
        assert (len(tids), tids.dtype) == (frames, np.int32)
        visits = np.flatnonzero(~senones.is_self_loop[tids])
        lengths = np.diff(np.r_[visits, frames])
        assert lengths.max() - lengths.min() <= 1
        phones, _ = phone_segments(tids, senones)
        assert "".join(LANG.phone_names[p] for p in phones.tolist() if p not in LANG.silence_ids) in words


def test_the_flat_start_is_the_same_every_time_and_leaves_out_what_is_too_short():
    _, _, graphs, _, _ = _setup(texts=("AB CAB", "BA"))
    one, two = (equal_alignments(graphs, np.array([7, 60]), seed=3) for _ in range(2))
    assert one.lengths.tolist() == [0, 60]
    _same(one, two)


# -- on disk ----------------------------------------------------------------------------------------------------------


def test_a_file_brings_back_the_same(tmp_path):
    made = Aligned.of([np.array([1, 2, 2]), None, np.array([5])], [-3.0, 0.0, -1.5], retried=1)
    made.save(tmp_path / "a.safetensors")
    again = Aligned.load(tmp_path / "a.safetensors")
    _same(again, made)
    assert again.retried == 1
    assert [None if tids is None else tids.tolist() for tids in again.each()] == [[1, 2, 2], None, [5]]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: save_tensors(path, {"tids": np.zeros(2, np.int32)}),
    ],
    ids=["missing", "empty", "cut off", "something else"],
)
def test_a_broken_file_is_refused_with_its_name_and_a_remedy(tmp_path, break_it):
    path = tmp_path / "a.safetensors"
    Aligned.of([np.array([1])], [0.0]).save(path)
    break_it(path)
    with pytest.raises(HybridError, match="a.safetensors") as caught:
        Aligned.load(path)
    assert caught.value.remedy
