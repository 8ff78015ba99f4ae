"""The decoder against an exhaustive search; what it must refuse; decoding of sets and the choice of the scale."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import kaldifst
import numpy as np
import pytest

from hybrid.decode import run, tuning
from hybrid.decode.decoder import Decoder
from hybrid.decode.tuning import middle_of_best, tune
from hybrid.errors import ConfigError, DataError, GraphError
from hybrid.fst import add_word_penalty, to_arrays
from hybrid.io import Problems, read_jsonl
from hybrid.score.wer import score

WORDS = {"<eps>": 0, "yes": 1, "no": 2, "well": 3}


def _graph(arcs, finals):
    fst = kaldifst.StdVectorFst()
    for _ in range(1 + max(max(arc[0], arc[4]) for arc in arcs)):
        fst.add_state()
    fst.start = 0
    for state, ilabel, olabel, cost, to in arcs:
        fst.add_arc(state, kaldifst.StdArc(ilabel, olabel, cost, to))
    for state, cost in finals.items():
        fst.set_final(state, cost)
    return fst


def _loop():
    """A loop over three words of one or two one-state phones; 4 pdfs; an epsilon back to the start."""
    arcs = [
        (0, 1, 1, 1.0, 1),  # yes: pdf 0, then pdf 1
        (1, 1, 0, 0.1, 1),
        (1, 2, 0, 0.2, 2),
        (2, 2, 0, 0.1, 2),
        (2, 0, 0, 0.0, 0),
        (0, 3, 2, 0.5, 3),  # no: pdf 2
        (3, 3, 0, 0.1, 3),
        (3, 0, 0, 0.3, 0),
        (0, 4, 3, 0.7, 4),  # well: pdf 3, and only before another word
        (4, 0, 0, 0.0, 0),
    ]
    return _graph(arcs, {2: 0.25, 3: 0.5})


def _loglikes(frames, pdfs=4, seed=0):
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(pdfs), frames)).astype(np.float32)


def _exhaustive(fst, loglikes):
    """Every path of the graph over all frames: (cost, words, pdfs) of the best that ends in a final state."""
    best = (np.inf, (), ())
    stack = [(fst.start, 0, 0.0, (), ())]
    while stack:
        state, frame, cost, words, pdfs = stack.pop()
        if frame == len(loglikes) and np.isfinite(fst.final(state).value):
            best = min(best, (cost + fst.final(state).value, words, pdfs))
        for arc in kaldifst.ArcIterator(fst, state):
            said = words + ((arc.olabel,) if arc.olabel else ())
            if arc.ilabel == 0:
                stack.append((arc.nextstate, frame, cost + arc.weight.value, said, pdfs))
            elif frame < len(loglikes):
                acoustic = -float(loglikes[frame, arc.ilabel - 1])
                total = cost + arc.weight.value + acoustic
                stack.append((arc.nextstate, frame + 1, total, said, (*pdfs, arc.ilabel - 1)))
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale, penalty", [(1.0, 0.0), (0.3, 0.0), (2.0, 1.5), (1.0, -0.5)])
def test_equals_exhaustive_search(seed, scale, penalty):
    loglikes = _loglikes(7, seed=seed)
    found = Decoder(_loop(), num_pdfs=4, beam=100, word_penalty=penalty).decode(loglikes, scale)
    cost, words, pdfs = _exhaustive(_loop(), scale * loglikes)
    if penalty:
        everything = _penalised(_loop(), penalty)
        cost, words, pdfs = _exhaustive(everything, scale * loglikes)
    assert found.cost == pytest.approx(cost, abs=1e-4)
    assert found.words == words
    assert tuple(found.pdfs) == pdfs and found.pdfs.dtype == np.int32
    assert found.reached_final and found.frames == 7


def _penalised(fst, penalty):
    """The word insertion penalty arc by arc: a second implementation."""
    arcs = [
        (state, arc.ilabel, arc.olabel, arc.weight.value + penalty * (arc.olabel > 0), arc.nextstate)
        for state in range(fst.num_states)
        for arc in kaldifst.ArcIterator(fst, state)
    ]
    finals = {state: fst.final(state).value for state in range(fst.num_states)}
    return _graph(arcs, {state: cost for state, cost in finals.items() if np.isfinite(cost)})


def test_penalty_leaves_all_else():
    before, after = to_arrays(_loop()), to_arrays(add_word_penalty(_loop(), 2.0))
    for name in ("ilabel", "olabel", "nextstate"):
        np.testing.assert_array_equal(before.arcs[name], after.arcs[name])
    np.testing.assert_allclose(after.arcs["weight"] - before.arcs["weight"], 2.0 * (before.arcs["olabel"] > 0))
    np.testing.assert_array_equal(before.final, after.final)
    np.testing.assert_array_equal(before.offsets, after.offsets)
    np.testing.assert_array_equal(after.arcs["weight"], to_arrays(_penalised(_loop(), 2.0)).arcs["weight"])
    assert (before.start, before.max_ilabel, before.max_olabel, before.num_final) == (0, 4, 3, 2)


def test_a_start_state_other_than_the_first():
    fst = _graph([(1, 1, 1, 0.0, 0), (0, 1, 0, 0.0, 0)], {0: 0.0})
    fst.start = 1
    assert to_arrays(add_word_penalty(fst, 1.0)).start == 1
    assert Decoder(fst, word_penalty=1.0).decode(np.full((2, 1), -1.0)).words == (1,)


def test_starts_are_the_frames_of_the_words():
    loglikes = np.full((6, 4), -10.0, np.float32)
    for frame, pdf in enumerate([3, 0, 0, 1, 2, 2]):
        loglikes[frame, pdf] = -0.1
    found = Decoder(_loop(), num_pdfs=4).decode(loglikes)
    assert [*zip(found.words, found.starts, strict=True)] == [(3, 0), (1, 1), (2, 4)]


def test_unfinished_paths_are_flagged():
    loglikes = np.full((2, 4), -10.0, np.float32)
    loglikes[:, 3] = loglikes[0, 0] = -0.1
    fst = _graph([(0, 4, 3, 0.0, 1), (1, 4, 0, 0.0, 2), (2, 1, 1, 0.0, 3)], {3: 0.0})
    found = Decoder(fst, num_pdfs=4).decode(loglikes)
    assert not found.reached_final
    assert found.words == (3,) and tuple(found.pdfs) == (3, 3)


def test_no_path_at_all_is_flagged():
    fst = _graph([(0, 1, 1, 0.0, 1)], {1: 0.0})  # one frame long, and no longer
    found = Decoder(fst, num_pdfs=4).decode(_loglikes(5))
    assert (found.words, len(found.pdfs), found.cost, found.reached_final) == ((), 0, np.inf, False)


def test_results_do_not_depend_on_what_came_before():
    decoder = Decoder(_loop(), num_pdfs=4, beam=2.0, max_active=3)
    sets = [_loglikes(40, seed=seed) for seed in range(8)]
    forth = [decoder.decode(matrix) for matrix in sets]
    back = [decoder.decode(matrix) for matrix in reversed(sets)][::-1]
    for one, other in zip(forth, back, strict=True):
        assert (one.words, one.cost, one.pdfs.tolist()) == (other.words, other.cost, other.pdfs.tolist())


BAD_MATRICES = [
    (np.zeros((0, 4), np.float32), "no frames"),
    (np.zeros((3, 3), np.float32), "3 pdfs where the graph needs 4"),
    (np.zeros((3, 5), np.float32), "5 pdfs where the graph needs 4"),
    (np.zeros(4, np.float32), r"shape \[4\]"),
    (np.zeros((2, 3, 4), np.float32), r"shape \[2, 3, 4\]"),
    (np.zeros((3, 4), np.int64), "int64"),
    (np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]], np.float32), "nan at frame 1, pdf 1"),
    (np.array([[0, 0, 0, -np.inf]], np.float32), "-inf at frame 0, pdf 3"),
]


@pytest.mark.parametrize("matrix, says", BAD_MATRICES)
def test_bad_loglikes_name_the_utterance(matrix, says):
    with pytest.raises(DataError, match=says) as caught:
        Decoder(_loop(), num_pdfs=4).decode(matrix, utterance="utt-9")
    assert caught.value.utterance == "utt-9" and caught.value.remedy


def test_overflow_by_the_scale_is_found():
    with pytest.raises(DataError, match="frame 0"):
        Decoder(_loop()).decode(np.full((1, 4), -1e38, np.float32), 100.0)


def test_too_few_columns_without_num_pdfs():
    with pytest.raises(DataError, match="at least 4"):
        Decoder(_loop()).decode(_loglikes(3, pdfs=3))


@pytest.mark.parametrize(
    "graph, options, error, says",
    [
        (lambda: kaldifst.StdVectorFst(), {}, GraphError, "empty"),
        (lambda: _graph([(0, 1, 1, 0.0, 1)], {}), {}, GraphError, "no final state"),
        (lambda: _loop(), {"num_pdfs": 3}, GraphError, "labels up to 4, the model 3 pdfs"),
        (lambda: None, {}, GraphError, "not a graph"),
        (lambda: _loop(), {"beam": 0}, ConfigError, "beam 0"),
        (lambda: _loop(), {"beam": float("inf")}, ConfigError, "beam inf"),
        (lambda: _loop(), {"max_active": 1}, ConfigError, "max_active 1"),
        (lambda: _loop(), {"word_penalty": float("nan")}, ConfigError, "penalty nan"),
    ],
)
def test_bad_graphs_and_settings(graph, options, error, says):
    with pytest.raises(error, match=says):
        Decoder(graph(), **options)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_scales(scale):
    with pytest.raises(ConfigError, match="acoustic scale"):
        Decoder(_loop()).decode(_loglikes(3), scale)


def test_bad_graph_files(tmp_path):
    whole = tmp_path / "whole.fst"
    _loop().write(str(whole))
    assert Decoder(whole).min_columns == 4
    (tmp_path / "cut.fst").write_bytes(whole.read_bytes()[:-40])
    (tmp_path / "text.fst").write_text("0 1 1 1\n1\n")
    (tmp_path / "void.fst").write_bytes(b"")
    (tmp_path / "folder.fst").mkdir()
    for name in ("cut", "text", "void", "folder", "absent"):
        with pytest.raises(GraphError, match=f"{name}.fst.*Remedy: .*graph stage") as caught:
            Decoder(tmp_path / f"{name}.fst")
        assert caught.value.remedy


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "graph.fst"
    _loop().write(str(path))
    return path


@pytest.fixture
def loglikes():
    return {f"u{k:02d}": _loglikes(8 + k, seed=k) for k in range(40)}


def test_a_set_is_the_same_over_any_executor(graph, loglikes):
    alone = run.decode_set(loglikes, graph, WORDS, acoustic_scale=0.5, word_penalty=0.5)
    decoder = Decoder(graph, word_penalty=0.5)
    names = run.word_names(WORDS)
    assert list(alone) == sorted(loglikes)
    for name, words in alone.items():
        assert words == [names[word] for word in decoder.decode(loglikes[name], 0.5).words]
    backwards = dict(reversed(loglikes.items()))
    done = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        spread = run.decode_set(
            backwards, graph, WORDS, acoustic_scale=0.5, word_penalty=0.5, executor=pool, progress=done.append
        )
    assert spread == alone and list(spread) == list(alone)
    assert sum(done) == len(loglikes)


class _Loader:
    def __init__(self, matrix):
        self.matrix = matrix

    def __call__(self):
        if self.matrix is None:
            raise DataError("truncated", utterance="late", remedy="compute it again")
        return self.matrix


def test_bad_utterances_are_noted_and_left_out(tmp_path, graph, loglikes):
    loglikes.update({"nan": np.full((5, 4), np.nan, np.float32), "late": _Loader(None)})
    loglikes["u05"] = _Loader(loglikes["u05"])
    problems = Problems(tmp_path / "problems.jsonl", "decode")
    found = run.decode_set(loglikes, graph, WORDS, acoustic_scale=1.0, problems=problems)
    assert sorted(set(loglikes) - set(found)) == ["late", "nan"]
    reasons = {row["utterance"]: row["reason"] for row in problems.rows}
    assert reasons["late"] == "truncated" and "nan at frame 0" in reasons["nan"]
    with pytest.raises(DataError, match="late|nan"):
        run.decode_set(loglikes, graph, WORDS, acoustic_scale=1.0)


def test_utterances_without_a_path_are_noted(tmp_path):
    path = tmp_path / "graph.fst"
    _graph([(0, 1, 1, 0.0, 1)], {1: 0.0}).write(str(path))
    problems = Problems(tmp_path / "problems.jsonl", "decode")
    found = run.decode_set({"u": _loglikes(5)}, path, WORDS, acoustic_scale=1.0, problems=problems)
    assert found == {"u": []} and problems.rows[0]["utterance"] == "u"
    with pytest.raises(DataError, match="1 of 1 utterances cannot be used.*no path through the graph"):
        problems.close(1, 0.0)


def test_unfinished_utterances_are_noted_and_used(tmp_path):
    """In noise that the models have not heard many end so: that is an error rate, and no reason to stop."""
    path = tmp_path / "graph.fst"
    _graph([(0, 4, 3, 0.0, 1), (1, 4, 0, 0.0, 2), (2, 1, 1, 0.0, 3)], {3: 0.0}).write(str(path))
    problems = Problems(tmp_path / "problems.jsonl", "decode")
    found = run.decode_set({"u": _loglikes(2)}, path, WORDS, acoustic_scale=1.0, problems=problems)
    assert found == {"u": ["well"]}
    assert problems.close(1, 0.0) == (0, 1)
    (row,) = read_jsonl(tmp_path / "problems.jsonl")
    assert row["utterance"] == "u" and row["used"] and "did not reach the end" in row["reason"]


def test_a_graph_made_again_is_loaded_again(tmp_path, graph):
    matrix = {"u": _loglikes(4)}
    before = run.decode_set(matrix, graph, WORDS, acoustic_scale=1.0)
    _graph([(0, 1, 3, 0.0, 0)], {0: 0.0}).write(str(graph))
    os.utime(graph, ns=(1, 1))
    assert run.decode_set(matrix, graph, WORDS, acoustic_scale=1.0) == {"u": ["well"] * 4} != before


def test_word_table_of_another_graph(graph):
    with pytest.raises(GraphError, match="not in the word table"):
        run.decode_set({"u": _loglikes(20)}, graph, {"<eps>": 0}, acoustic_scale=1.0)


def test_in_order_sends_no_more_than_the_window():
    taken = []

    def tasks():
        for k in range(20):
            taken.append(k)
            yield k

    with ThreadPoolExecutor(2) as pool:
        answers = run.in_order(pool, lambda x: x * x, tasks(), window=4)
        assert next(answers) == 0 and len(taken) == 4
        assert list(answers) == [k * k for k in range(1, 20)]


def _noisy_truth(seed=0):
    """Utterances whose truth a scale of about 1 finds and smaller ones miss."""
    generator = np.random.default_rng(seed)
    loglikes, refs = {}, {}
    for k in range(20):
        words, pdfs = [], []
        for word in generator.integers(1, 4, 5).tolist() + [2]:
            words.append(word)
            pdfs += {1: [0, 0, 1, 1], 2: [2, 2, 2], 3: [3]}[word]
        matrix = generator.normal(0, 1.0, (len(pdfs), 4)).astype(np.float32)
        matrix[np.arange(len(pdfs)), pdfs] += 2.5
        name = f"t{k}"
        loglikes[name] = matrix
        refs[name] = [run.word_names(WORDS)[word] for word in words]
    return loglikes, refs


@pytest.mark.parametrize("lattice_beam", [1000.0, tuning.LATTICE_BEAM])
def test_tuning_finds_the_point_that_single_decodes_find(graph, monkeypatch, lattice_beam):
    """On lattices that hold all paths each point has the errors of a search there; on others the choice has."""
    monkeypatch.setattr(tuning, "LATTICE_BEAM", lattice_beam)
    loglikes, refs = _noisy_truth()
    scales, penalties = (0.05, 0.5, 1.0, 4.0), (-1.0, 0.0, 1.0, 8.0)
    choice = tune(loglikes, refs, graph, WORDS, scales=scales, penalties=penalties, beam=100.0)
    totals = {}
    for scale, penalty in itertools.product(scales, penalties):
        hyps = run.decode_set(loglikes, graph, WORDS, acoustic_scale=scale, word_penalty=penalty, beam=100.0)
        totals[scale, penalty] = score(refs, hyps).total
    errors = {point: counts.errors for point, counts in totals.items()}
    if lattice_beam == 1000.0:
        assert {(row["acoustic_scale"], row["word_penalty"]): row["errors"] for row in choice.grid} == errors
    assert choice.counts == totals[choice.scale, choice.penalty]
    there = run.decode_set(
        loglikes, graph, WORDS, acoustic_scale=choice.scale, word_penalty=choice.penalty, beam=100.0
    )
    assert run.words_of_set(choice.best, graph, WORDS) == there
    fewest = min(errors.values())
    assert fewest <= choice.counts.errors <= fewest + 0.5 * fewest**0.5
    assert len({counts.errors for counts in totals.values()}) > 3


def test_a_choice_at_the_end_of_the_grid_is_said(graph):
    loglikes, refs = _noisy_truth()
    choice = tune(loglikes, refs, graph, WORDS, scales=(0.1, 0.2, 0.5), penalties=(0.0,))
    assert choice.edges == ("acoustic_scale",) and choice.as_dict()["edge"]


def test_undecodable_utterances_count_as_deleted_in_tuning(tmp_path, graph):
    loglikes, refs = _noisy_truth()
    full = tune(loglikes, refs, graph, WORDS, scales=(1.0,), penalties=(0.0,))
    loglikes["t3"] = np.zeros((0, 4), np.float32)
    del loglikes["t4"]
    problems = Problems(tmp_path / "problems.jsonl", "decode")
    part = tune(loglikes, refs, graph, WORDS, scales=(1.0,), penalties=(0.0,), problems=problems)
    assert part.counts.words == full.counts.words
    assert part.counts.dels >= len(refs["t3"]) + len(refs["t4"])
    assert [row["utterance"] for row in problems.rows] == ["t3"]


@pytest.mark.parametrize(
    "errors, cell",
    [
        ([[5, 4, 3, 4]], (0, 2)),
        ([[5, 3, 3, 3, 4]], (0, 2)),
        ([[3, 3]], (0, 0)),
        ([[3, 9, 3, 3, 3]], (0, 3)),  # the larger region
        ([[4, 3, 4], [3, 3, 3], [4, 3, 4]], (1, 1)),
        ([[3, 9], [9, 3]], (0, 0)),  # corners do not touch
        ([[3, 3, 3], [3, 9, 3], [3, 3, 3]], (0, 1)),  # a ring: its centre is no member
        ([[60, 49, 51, 50, 51, 52, 52, 60]], (0, 3)),  # within half of the square root of 49
        ([[49, 60, 53, 52, 51, 52, 53]], (0, 0)),  # a larger region that does not hold the fewest
        ([[0, 1, 0, 0]], (0, 2)),
        ([[10, 3, 4, 7], [3, 3, 2, 6], [3, 3, 4, 8], [5, 3, 4, 6]], (1, 1)),  # 3 and 2 errors are alike
        ([[196], [55], [53], [73]], (2, 0)),  # two in the middle: the one of fewer errors
    ],
)
def test_middle_of_best(errors, cell):
    assert middle_of_best(np.array(errors)) == cell


def test_without_slack_the_fewest_errors_win():
    assert middle_of_best(np.array([[60, 51, 51, 51, 49, 60]]), slack=0.0) == (0, 4)
