"""Alignment against a dense Viterbi search in numpy; utterances that fail are named; any executor gives the same."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import gmm_tools
import numpy as np
import pytest

from hybrid.errors import ConfigError
from hybrid.fst import to_arrays
from hybrid.gmm.align import AlignOptions, UtteranceGraph, align, equal_alignments
from hybrid.gmm.diag import DiagGmms
from hybrid.hmm.alignment import phone_segments
from hybrid.parallel import SerialExecutor

LANG = gmm_tools.make_lang()
WIDE = AlignOptions(beam=1e4, retry_beam=0.0)


def _setup(kind="bootstrap", texts=("AB CAB", "BA"), frames=(40, 25), seed=0):
    rng = np.random.default_rng(seed)
    senones = gmm_tools.make_senones(LANG, kind)
    senones.update_transitions(np.r_[0.0, rng.integers(5, 50, senones.num_tids)])
    gmms = DiagGmms(
        np.tile([0.4, 0.6], senones.num_pdfs),
        rng.normal(0, 2, (2 * senones.num_pdfs, 3)),
        rng.uniform(0.5, 2, (2 * senones.num_pdfs, 3)),
        np.arange(senones.num_pdfs + 1) * 2,
    )
    names = [f"u{n}" for n in range(len(texts))]
    graphs = gmm_tools.compile_graphs(LANG, senones, dict(zip(names, texts)))
    features = {i: rng.normal(0, 2, (n, 3)).astype(np.float32) for i, n in zip(names, frames)}
    return names, features, graphs, gmms, senones


def _slow_viterbi(graph, loglikes, senones, options):
    """All states at all frames. loglikes [num_pdfs, T]. Returns (log-likelihood over the scale, tids of the best path).

    The cost of a transition id t of state s with loop probability p: -self_loop_scale log p for the loop, and
    -transition_scale log(P(t) / (1 - p)) - self_loop_scale log(1 - p) for the others (Kaldi's AddTransitionProbs).
    """
    arrays = to_arrays(graph.fst())
    loops = {int(senones.tid2state[t]): t for t in np.flatnonzero(senones.is_self_loop)}

    def cost(tid):
        log_prob = float(senones.log_probs[tid])
        if senones.is_self_loop[tid]:
            return -options.self_loop_scale * log_prob
        loop = loops.get(int(senones.tid2state[tid]))
        leave = np.log(1 - np.exp(float(senones.log_probs[loop]))) if loop else 0.0
        return -options.transition_scale * (log_prob - leave) - options.self_loop_scale * leave

    frames = loglikes.shape[1]
    best = np.full((frames + 1, arrays.num_states), np.inf)
    best[0, arrays.start] = 0.0
    trace = {}
    arcs = list(zip(arrays.sources.tolist(), arrays.arcs["ilabel"], arrays.arcs["nextstate"], arrays.arcs["weight"]))
    for t in range(frames + 1):
        changed = True
        while changed:  # epsilons
            changed = False
            for source, label, to, weight in arcs:
                if label == 0 and best[t, source] + weight < best[t, to] - 1e-9:
                    best[t, to] = best[t, source] + weight
                    trace[t, to] = (t, source, 0)
                    changed = True
        if t == frames:
            break
        for source, label, to, weight in arcs:
            if label == 0 or not np.isfinite(best[t, source]):
                continue
            acoustic = -options.acoustic_scale * float(loglikes[senones.tid2pdf[label], t])
            total = best[t, source] + weight + cost(label) + acoustic
            if total < best[t + 1, to]:
                best[t + 1, to] = total
                trace[t + 1, to] = (t, source, int(label))
    ends = best[frames] + arrays.final
    if not np.isfinite(ends.min()):
        return None, None
    at, tids = (frames, int(np.argmin(ends))), []
    while at in trace:
        t, source, label = trace[at]
        tids += [label] if label else []
        at = (t, source)
    return -ends.min() / options.acoustic_scale, tids[::-1]


@pytest.mark.parametrize("kind", ["bootstrap", "network"])
@pytest.mark.parametrize(
    "scales", [(0.1, 1.0, 0.1), (1.0, 1.0, 1.0), (0.3, 0.0, 0.0), (0.05, 2.0, 0.5)], ids=lambda s: "-".join(map(str, s))
)
@pytest.mark.parametrize("seed", range(2))
def test_alignments_are_those_of_a_dense_search(kind, scales, seed):
    names, features, graphs, gmms, senones = _setup(kind, seed=seed)
    options = AlignOptions(*scales, beam=1e4, retry_beam=0.0)
    got = align(names, features, graphs, gmms, senones, options)
    assert got.failed == []
    for name in names:
        loglike, tids = _slow_viterbi(graphs[name], gmms.loglikes(features[name]), senones, options)
        assert got.tids[name].tolist() == tids
        assert got.tids[name].dtype == np.int32
        assert got.loglike[name] * len(tids) == pytest.approx(loglike, rel=1e-3)
    assert got.frames == sum(len(features[name]) for name in names)
    assert got.retried == 0


def test_the_alignment_spells_the_transcript():
    names, features, graphs, gmms, senones = _setup(texts=("AB BA",), frames=(60,))
    got = align(names, features, graphs, gmms, senones, WIDE)
    phones, durations = phone_segments(got.tids["u0"], senones)
    heard = [LANG.phone_names[p] for p in phones.tolist() if p not in LANG.silence_ids]
    assert heard == ["a", "b", "b", "a"]
    assert durations.min() >= 3


def test_pdfs_that_the_transcript_does_not_use_do_not_matter():
    names, features, graphs, gmms, senones = _setup()
    used = np.unique(senones.tid2pdf[graphs["u1"].tids])
    other = np.setdiff1d(np.arange(senones.num_pdfs), used)
    assert len(other)
    means = gmms.means.copy()
    means[np.isin(np.repeat(np.arange(senones.num_pdfs), 2), other)] += 1000
    changed = DiagGmms(gmms.weights, means, gmms.variances, gmms.offsets)
    one, two = (align(["u1"], features, graphs, g, senones, WIDE) for g in (gmms, changed))
    assert one.tids["u1"].tolist() == two.tids["u1"].tolist()
    assert one.loglike == two.loglike


def test_a_narrow_beam_fails_and_the_wider_one_is_tried():
    # Long enough for the 20 paths that a narrow beam always keeps to be the wrong ones: too slow to reach the end.
    names, features, graphs, gmms, senones = _setup(texts=["CAB " * 12] * 2, frames=(125, 130))
    narrow = AlignOptions(beam=1e-3, retry_beam=0.0, acoustic_scale=1.0)
    failed = align(names, features, graphs, gmms, senones, narrow)
    assert failed.failed == names
    assert (failed.tids, failed.loglike) == ({}, {})
    again = align(
        names, features, graphs, gmms, senones, AlignOptions(beam=1e-3, retry_beam=1e4, acoustic_scale=1.0)
    )
    wide = align(names, features, graphs, gmms, senones, AlignOptions(beam=1e4, retry_beam=0.0, acoustic_scale=1.0))
    assert (again.failed, again.retried, wide.retried) == ([], 2, 0)
    for name in names:
        assert again.tids[name].tolist() == wide.tids[name].tolist()


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
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_utterance_that_fails_is_named_and_the_others_are_as_without_it(spoil):
    names, features, graphs, gmms, senones = _setup(texts=("AB CAB", "BA", "ACE"), frames=(40, 25, 30))
    good = align(names, features, graphs, gmms, senones, WIDE)
    got = align(names, {**features, "u1": spoil(features["u1"])}, graphs, gmms, senones, WIDE)
    assert got.failed == ["u1"]
    assert list(got.tids) == list(got.loglike) == ["u0", "u2"]
    for name in ("u0", "u2"):
        assert got.tids[name].tolist() == good.tids[name].tolist()
        assert got.loglike[name] == good.loglike[name]


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


def test_no_utterances_align_to_nothing():
    _, features, graphs, gmms, senones = _setup()
    got = align([], features, graphs, gmms, senones)
    assert (got.tids, got.failed, got.frames) == ({}, [], 0)


@pytest.mark.parametrize("kind", ["one by one", "threads", "processes"])
def test_workers_give_the_same_in_the_same_order(kind):
    texts = ["AB", "BA CAB", "ACE", "CAB CAB", "BA"]
    names, features, graphs, gmms, senones = _setup(texts=texts, frames=(20, 45, 25, 40, 4))
    alone = align(names, features, graphs, gmms, senones)
    executor = {
        "one by one": SerialExecutor,
        "threads": lambda: ThreadPoolExecutor(3),
        "processes": lambda: ProcessPoolExecutor(1, mp_context=get_context("spawn")),
    }[kind]()
    with executor:
        got = align(names, features, graphs, gmms, senones, executor=executor, chunk=2)
    assert list(got.tids) == list(alone.tids) == names[:4]
    assert got.failed == alone.failed == ["u4"]
    assert got.loglike == alone.loglike
    assert got.retried == alone.retried
    for name in alone.tids:
        np.testing.assert_array_equal(got.tids[name], alone.tids[name])


def test_alignment_leaves_its_graphs_as_they_were():
    names, features, graphs, gmms, senones = _setup()
    before = {name: graph.data for name, graph in graphs.items()}
    first = align(names, features, graphs, gmms, senones)
    assert {name: graph.data for name, graph in graphs.items()} == before
    assert align(names, features, graphs, gmms, senones).loglike == first.loglike


def test_a_graph_knows_its_transition_ids_and_can_be_sent():
    _, _, graphs, _, senones = _setup()
    graph = graphs["u0"]
    arrays = to_arrays(graph.fst())
    assert graph.tids.tolist() == sorted(set(arrays.arcs["ilabel"].tolist()) - {0})
    again = pickle.loads(pickle.dumps(graph))
    assert isinstance(again, UtteranceGraph)
    np.testing.assert_array_equal(to_arrays(again.fst()).arcs, arrays.arcs)


# -- the flat start ---------------------------------------------------------------------------------------------------


def test_the_flat_start_shares_out_the_frames():
    names, _, graphs, _, senones = _setup(texts=("AB CAB", "BA", "ACE ACE"))
    got = equal_alignments(names, {"u0": 100, "u1": 57, "u2": 200}, graphs)
    assert got.failed == []
    for name, frames in (("u0", 100), ("u1", 57), ("u2", 200)):
        tids = got.tids[name]
        assert (len(tids), tids.dtype) == (frames, np.int32)
        visits = np.flatnonzero(~senones.is_self_loop[tids])
        lengths = np.diff(np.r_[visits, frames])
        assert lengths.max() - lengths.min() <= 1
        phones, _ = phone_segments(tids, senones)
        heard = [LANG.phone_names[p] for p in phones.tolist() if p not in LANG.silence_ids]
        assert heard in {"u0": [list("abcab"), list("abcb")], "u1": [list("ba")], "u2": [list("acac")]}[name]


def test_the_flat_start_is_the_same_every_time_and_names_what_is_too_short():
    names, _, graphs, _, _ = _setup(texts=("AB CAB", "BA"))
    frames = {"u0": 7, "u1": 60}
    one, two = (equal_alignments(names, frames, graphs) for _ in range(2))
    assert one.failed == two.failed == ["u0"]
    assert list(one.tids) == ["u1"]
    np.testing.assert_array_equal(one.tids["u1"], two.tids["u1"])
