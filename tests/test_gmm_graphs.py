"""Training graphs as arrays: against the FSTs they come from, transition costs, files, transcripts without a graph."""

from __future__ import annotations

import pickle

import gmm_tools
import kaldifst
import numpy as np
import pytest

from hybrid.errors import HybridError
from hybrid.fst import ARC, FstArrays, from_arrays, to_arrays
from hybrid.gmm.graphs import NO_FRAMES, Graphs, tid_costs
from hybrid.hmm.graph import TrainingGraphs, min_frames
from hybrid.io import save_tensors

LANG = gmm_tools.make_lang()
TEXTS = ["AB CAB", "BA", "ACE ACE CAB", "CAB"]


def _compiler(kind="bootstrap", scales=(0.0, 0.0), seed=0):
    senones = gmm_tools.make_senones(LANG, kind)
    senones.update_transitions(np.r_[0.0, np.random.default_rng(seed).integers(5, 50, senones.num_tids)])
    return TrainingGraphs(LANG, senones, transition_scale=scales[0], self_loop_scale=scales[1])


def _costs_by_length(fst, without, most=40):
    """Cost of the best path of 0, 1, ... arcs that has no `without`; the FST has no epsilons."""
    arrays = to_arrays(fst)
    used = arrays.arcs["ilabel"] != without
    best = np.full(arrays.num_states, np.inf)
    best[arrays.start] = 0.0
    costs = []
    for _ in range(most):
        costs.append((best + arrays.final).min())
        after = np.full(arrays.num_states, np.inf)
        reached = best[arrays.sources] + arrays.arcs["weight"]
        np.minimum.at(after, arrays.arcs["nextstate"][used], reached[used])
        best = after
    return costs


def _assert_same_costs(one, two):
    labels = to_arrays(one).max_ilabel
    assert labels == to_arrays(two).max_ilabel
    for without in range(labels + 1):
        np.testing.assert_allclose(_costs_by_length(one, without), _costs_by_length(two, without), atol=1e-3)


def _without_outputs(fst):
    arrays = to_arrays(fst)
    arrays.arcs["olabel"] = 0
    plain = from_arrays(arrays)
    kaldifst.rmepsilon(plain)
    return plain


@pytest.mark.parametrize("kind", ["bootstrap", "network"])
def test_a_graph_accepts_what_its_fst_accepts(kind):
    compiler = _compiler(kind)
    fsts = [compiler.compile(LANG.word_ids(text)) for text in TEXTS]
    graphs, reasons = Graphs.compile(compiler, TEXTS, TEXTS)
    assert (len(graphs), reasons) == (4, {})
    for number, fst in enumerate(fsts):
        assert graphs.shortest[number] == min_frames(fst)
        _assert_same_costs(_without_outputs(fst), graphs.fst(number))


@pytest.mark.parametrize("kind", ["bootstrap", "network"])
@pytest.mark.parametrize("scales", [(1.0, 0.1), (1.0, 1.0), (0.5, 2.0), (0.0, 0.0)], ids=str)
def test_transition_costs_are_kaldis(kind, scales):
    """A graph compiled with the scales, and one without plus the costs of its tids, give every path the same cost."""
    with_probs, without = _compiler(kind, scales), _compiler(kind)
    costs = tid_costs(without.senones, transition_scale=scales[0], self_loop_scale=scales[1])
    assert (costs.dtype, costs.shape, costs[0]) == (np.float32, (without.senones.num_tids + 1,), 0.0)
    one = Graphs.from_fsts([with_probs.compile(LANG.word_ids("CAB AB"))])
    two = Graphs.from_fsts([without.compile(LANG.word_ids("CAB AB"))])
    two.weight = two.weight + costs[two.tid]
    _assert_same_costs(one.fst(0), two.fst(0))


def test_transcripts_without_a_graph_are_named_and_the_others_are_as_without_them():
    compiler = _compiler()
    compiler.lang = LANG
    graphs, reasons = Graphs.compile(compiler, ["BA", "BA NOWORD", "AB"], ["u0", "u1", "u2"])
    assert list(reasons) == ["u1"] and "NOWORD" in reasons["u1"]
    assert graphs.start[1] == -1 and graphs.shortest[1] == NO_FRAMES
    assert graphs.arcs[1] == graphs.arcs[2] and graphs.states[1] == graphs.states[2]
    alone = Graphs.compile(compiler, ["BA", "AB"], ["u0", "u2"])[0]
    for name in ("source", "target", "tid", "weight", "final"):
        np.testing.assert_array_equal(getattr(graphs, name), getattr(alone, name))


def test_arcs_are_sorted_by_the_state_they_enter():
    graphs = gmm_tools.compile_graphs(LANG, gmm_tools.make_senones(LANG), TEXTS)
    for begin, end in zip(graphs.arcs[:-1], graphs.arcs[1:]):
        assert np.all(np.diff(graphs.target[begin:end]) >= 0)
    assert (graphs.tid > 0).all()


def test_the_callers_graphs_stay_as_they_were():
    arcs = np.array([(0, 3, 0.5, 1), (2, 4, 0.25, 1)], ARC)
    fst = from_arrays(FstArrays(0, np.array([np.inf, 1.0], np.float32), np.array([0, 1, 2]), arcs))
    graphs = Graphs.from_fsts([fst])
    np.testing.assert_array_equal(to_arrays(fst).arcs, arcs)
    assert graphs.shortest.tolist() == [0] and set(graphs.tid.tolist()) == {2}


def test_a_graph_whose_end_cannot_be_reached_has_no_shortest_path():
    arcs = np.array([(1, 0, 0.0, 0)], ARC)
    fst = from_arrays(FstArrays(0, np.array([np.inf, 0.0], np.float32), np.array([0, 1, 1]), arcs))
    assert Graphs.from_fsts([fst]).shortest.tolist() == [NO_FRAMES]


def test_a_file_brings_back_the_same(tmp_path):
    graphs = gmm_tools.compile_graphs(LANG, gmm_tools.make_senones(LANG), TEXTS)
    graphs.save(tmp_path / "g.safetensors")
    again = Graphs.load(tmp_path / "g.safetensors")
    for name, value in vars(graphs).items():
        np.testing.assert_array_equal(getattr(again, name), value)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: save_tensors(path, {"tid": np.zeros(2, np.int32)}),
        lambda path: save_tensors(path, {"x": np.zeros(2, np.int32)}),
    ],
    ids=["missing", "cut off", "arrays missing", "something else"],
)
def test_a_broken_file_is_refused_with_its_name_and_a_remedy(tmp_path, break_it):
    path = tmp_path / "g.safetensors"
    gmm_tools.compile_graphs(LANG, gmm_tools.make_senones(LANG), ["AB"]).save(path)
    break_it(path)
    with pytest.raises(HybridError, match="g.safetensors") as caught:
        Graphs.load(path)
    assert caught.value.remedy


@pytest.mark.parametrize("kind", ["bootstrap", "network"])
def test_some_words_of_a_lexicon_make_the_same_graphs(kind):
    texts = ["BA CAB", "CAB", "NONE OF THEM"]
    part = LANG.of_words({word for text in texts for word in text.split()})
    assert set(part.lexicon.words) == {"BA", "CAB"} and len(LANG.lexicon) > 2
    assert [part.word_names[number] for number in part.word_ids("CAB BA")] == ["CAB", "BA"]
    assert part.word_ids("CAB BA") == LANG.word_ids("CAB BA")
    whole = _compiler(kind)
    found, wanted = (
        Graphs.compile(TrainingGraphs(lang, whole.senones, transition_scale=0.0, self_loop_scale=0.0), texts, texts)
        for lang in (pickle.loads(pickle.dumps(part)), LANG)
    )
    assert found[1] == wanted[1] and set(found[1]) == {"NONE OF THEM"}
    for name, value in vars(wanted[0]).items():
        np.testing.assert_array_equal(getattr(found[0], name), value, err_msg=name)
    assert LANG.of_words(["NONE"]) is LANG
