"""The batched exact search against a dense search in plain Python, and against Kaldi's beam search."""

from __future__ import annotations

from unittest import mock

import gmm_tools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hybrid.gmm.viterbi as viterbi_module
from hybrid.fst import ARC, FstArrays, from_arrays
from hybrid.gmm.align import AlignOptions, beam_search
from hybrid.gmm.graphs import Graphs, tid_costs
from hybrid.gmm.viterbi import shared_rows, viterbi

SEEDS = st.integers(0, 2**32 - 1)
NUM_TIDS = 7
LANG = gmm_tools.make_lang()


def random_fst(rng, most_states=6, epsilons=0.2):
    """States that cannot be reached or left, loops, parallel arcs, epsilons (which lead forward), any final weights."""
    states = int(rng.integers(1, most_states + 1))
    count = int(rng.integers(states, 5 * states + 1))
    arcs = np.zeros(count, ARC)
    source, arcs["nextstate"] = np.sort(rng.integers(0, states, count)), rng.integers(0, states, count)
    arcs["ilabel"] = rng.integers(1, NUM_TIDS + 1, count)
    arcs["olabel"] = rng.integers(0, 3, count)
    arcs["weight"] = rng.normal(0, 2, count)
    arcs["ilabel"][(rng.random(count) < epsilons) & (source < arcs["nextstate"])] = 0
    final = np.where(rng.random(states) < 0.4, rng.normal(size=states), np.inf).astype(np.float32)
    offsets = np.r_[0, np.cumsum(np.bincount(source, minlength=states))]
    return FstArrays(int(rng.integers(states)), final, offsets, arcs)


def slow_search(arrays, loglikes, tid2pdf, costs, only=None):
    """Score of the best path that takes all frames, -inf where there is none. loglikes [num_pdfs, T].

    only [T]: the transition ids that it must take.
    """
    arcs = list(zip(arrays.sources.tolist(), *(arrays.arcs[n].tolist() for n in ("ilabel", "nextstate", "weight"))))
    best = [-np.inf] * arrays.num_states
    best[arrays.start] = 0.0
    for t in range(loglikes.shape[1] + 1):
        for _ in range(arrays.num_states):  # epsilons
            for source, label, to, weight in arcs:
                if label == 0:
                    best[to] = max(best[to], best[source] - weight)
        if t == loglikes.shape[1]:
            break
        after = [-np.inf] * arrays.num_states
        for source, label, to, weight in arcs:
            if label and (only is None or only[t] == label):
                score = best[source] - weight - costs[label] + loglikes[tid2pdf[label], t]
                after[to] = max(after[to], score)
        best = after
    return max(score - end for score, end in zip(best, arrays.final.tolist()))


def search(graphs, numbers, loglikes, tid2pdf, costs):
    """viterbi, with the rows that each graph uses."""
    rows = [shared_rows(graphs, number, tid2pdf) for number in numbers]
    return viterbi(
        graphs, numbers, [x[pdfs] for x, (pdfs, _) in zip(loglikes, rows)], [column for _, column in rows], costs
    )


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.integers(1, 5), st.sampled_from([8_000_000, 30, 0]))
def test_paths_and_scores_are_those_of_a_dense_search(seed, count, cells):
    rng = np.random.default_rng(seed)
    arrays = [random_fst(rng) for _ in range(count)]
    graphs = Graphs.from_fsts([from_arrays(one) for one in arrays])
    usable = [n for n in range(count) if graphs.shortest[n] < 10 and graphs.arcs[n] < graphs.arcs[n + 1]]
    tid2pdf = rng.integers(0, 4, NUM_TIDS + 1)
    costs = np.r_[0, rng.normal(size=NUM_TIDS)].astype(np.float32)
    loglikes = [rng.normal(-50, 3, (4, rng.integers(1, 8))).astype(np.float32) for _ in usable]
    with mock.patch.object(viterbi_module, "CELLS", cells):
        found = search(graphs, usable, loglikes, tid2pdf, costs)
    for number, matrix, path in zip(usable, loglikes, found, strict=True):
        best = slow_search(arrays[number], matrix, tid2pdf, costs)
        if path is None:
            assert best == -np.inf
            continue
        assert path.score == pytest.approx(best, abs=1e-3)
        assert (len(path.tids), path.tids.dtype) == (matrix.shape[1], np.int32)
        assert slow_search(arrays[number], matrix, tid2pdf, costs, path.tids) == pytest.approx(best, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_graphs_that_cannot_be_searched_have_no_path_at_all(seed):
    arrays = random_fst(np.random.default_rng(seed))
    graphs = Graphs.from_fsts([from_arrays(arrays)])
    lengths = [t for t in range(8) if slow_search(arrays, np.zeros((1, t)), np.zeros(8, int), np.zeros(8)) > -np.inf]
    if lengths:
        assert graphs.shortest[0] == lengths[0]
    else:
        assert graphs.shortest[0] > 7


@pytest.mark.parametrize("degree", [1, 4, 5, 9])
def test_any_number_of_arcs_into_a_state(degree):
    """One of many parallel arcs is best at each frame; with more than four, some are not in the slots."""
    arcs = np.zeros(degree, ARC)
    arcs["ilabel"] = np.arange(1, degree + 1)
    graph = Graphs.from_fsts([from_arrays(FstArrays(0, np.zeros(1, np.float32), np.array([0, degree]), arcs))])
    loglikes = np.random.default_rng(degree).normal(size=(degree, 20)).astype(np.float32)
    (path,) = viterbi(graph, [0], [loglikes], [graph.tid - 1], np.zeros(degree + 1, np.float32))
    assert (path.tids - 1).tolist() == loglikes.argmax(0).tolist()
    assert path.score == pytest.approx(loglikes.max(0).sum(), rel=1e-5)


def test_many_arcs_into_the_states_of_utterances_that_have_ended():
    """Those beyond the four slots are cut off together with the states of a shorter utterance."""
    arcs = np.zeros(6, ARC)
    arcs["ilabel"] = np.arange(1, 7)
    one = from_arrays(FstArrays(0, np.zeros(1, np.float32), np.array([0, 6]), arcs))
    graphs = Graphs.from_fsts([one] * 4)
    rng = np.random.default_rng(0)
    loglikes = [rng.normal(size=(6, length)).astype(np.float32) for length in (3, 9, 1, 6)]
    found = viterbi(graphs, range(4), loglikes, [graphs.tid[:6] - 1] * 4, np.zeros(7, np.float32))
    for path, matrix in zip(found, loglikes, strict=True):
        assert (path.tids - 1).tolist() == matrix.argmax(0).tolist()


def test_a_batch_of_nothing():
    graphs = Graphs.from_fsts([])
    assert (len(graphs), viterbi(graphs, [], [], [], np.zeros(1, np.float32))) == (0, [])


def test_long_utterances_keep_their_precision():
    """Minutes of scores in the thousands: the paths differ by less than float32 holds of their sum."""
    arcs = np.zeros(2, ARC)
    arcs["ilabel"] = [1, 2]
    graph = Graphs.from_fsts([from_arrays(FstArrays(0, np.zeros(1, np.float32), np.array([0, 2]), arcs))])
    rng = np.random.default_rng(0)
    loglikes = (-5000 + rng.normal(size=(2, 20_000))).astype(np.float32)
    (path,) = viterbi(graph, [0], [loglikes], [graph.tid - 1], np.zeros(3, np.float32))
    assert (path.tids - 1).tolist() == loglikes.argmax(0).tolist()
    assert path.score == pytest.approx(loglikes.max(0).astype(np.float64).sum(), abs=1e-3)


# -- training graphs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bootstrap", "network"])
@pytest.mark.parametrize("seed", range(3))
def test_the_search_agrees_with_kaldis_where_its_beam_is_wide(kind, seed):
    rng = np.random.default_rng(seed)
    senones = gmm_tools.make_senones(LANG, kind)
    senones.update_transitions(np.r_[0.0, rng.integers(5, 50, senones.num_tids)])
    texts = [" ".join(rng.choice(list(gmm_tools.WORDS), rng.integers(1, 6))) for _ in range(6)]
    graphs = gmm_tools.compile_graphs(LANG, senones, texts)
    costs = tid_costs(senones, transition_scale=1.0, self_loop_scale=0.1)
    lengths = [int(graphs.shortest[n]) + int(rng.integers(0, 60)) for n in range(6)]
    loglikes = [rng.normal(-9, 1, (senones.num_pdfs, length)).astype(np.float32) for length in lengths]
    found = search(graphs, range(6), loglikes, senones.tid2pdf, costs)
    wide = AlignOptions(acoustic_scale=1.0, beam=1e4, retry_beam=0.0)
    assert len(found) == 6
    for number, path in enumerate(found):
        pdfs, rows = shared_rows(graphs, number, senones.tid2pdf)
        tids, score, _ = beam_search(graphs, number, loglikes[number][pdfs], rows, costs, wide)
        np.testing.assert_array_equal(path.tids, tids)
        assert path.score == pytest.approx(score * lengths[number], rel=1e-4)
