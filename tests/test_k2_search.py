"""Search by k2: the lattices of our own search, link by link, and a recogniser that takes it."""

from __future__ import annotations

import builtins
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet
from lhotse.utils import fastcopy
from search_tools import Path as Spelled
from search_tools import every_path, fst_of, noise, paths_of, random_fst, rounded
from small_run import RATE

from hybrid.data.audio import load_samples
from hybrid.decode.epsilon_free import NONE, EpsilonFree
from hybrid.decode.lattice import Lattice
from hybrid.decode.load import load
from hybrid.decode.search import LatticeSearch, SearchOptions
from hybrid.decode.search_graph import OLABEL, SearchGraph
from hybrid.errors import ConfigError, GraphError, MissingDependency
from hybrid.fst import to_arrays
from hybrid.io import read_json, write_json

SCALE = 0.5
WIDE = SearchOptions(beam=1000.0, max_active=10**6, lattice_beam=1000.0)


def graph_of(fst: Any) -> SearchGraph:
    return SearchGraph.from_arrays(to_arrays(fst))


def by_k2(graph: SearchGraph, scaled: Sequence[np.ndarray], options: SearchOptions = WIDE) -> List[Optional[Lattice]]:
    from hybrid.decode.k2_search import K2Search

    return K2Search(graph, options).lattices(scaled, SCALE)


def by_ours(graph: SearchGraph, scaled: np.ndarray, options: SearchOptions = WIDE) -> Optional[Lattice]:
    search = LatticeSearch(graph, options)
    search.advance(scaled)
    raw = search.lattice()
    return None if raw is None else Lattice.from_search(raw, graph, SCALE)


def links(lattice: Optional[Lattice]) -> Any:
    """All that a lattice holds, but for the order of its nodes."""
    if lattice is None:
        return None
    rows = zip(
        lattice.frame[lattice.source].tolist(), lattice.frame[lattice.target].tolist(), lattice.ilabel.tolist(),
        lattice.olabel.tolist(), lattice.graph.tolist(), lattice.acoustic.tolist(), strict=True,
    )  # fmt: skip
    nodes = sorted(zip(lattice.frame.tolist(), lattice.final.tolist(), strict=True))
    return sorted(rows), nodes, lattice.reached_final


@st.composite
def graphs(draw: st.DrawFn) -> Any:
    return random_fst(np.random.default_rng(draw(st.integers(0, 10**6))), draw(st.integers(1, 5)))


def paths_without_epsilons(graph: EpsilonFree, scaled: np.ndarray) -> List[Spelled]:
    """All paths written out, as every_path has them."""
    original, paths, stack = graph.graph, [], [(0, 0, 0.0, (), ())]
    words = original.arcs[OLABEL::4].astype(int).tolist()

    def of_chain(chain: int) -> Tuple[int, ...]:
        arcs = [arc for _, step in graph.chains.steps(np.array([chain])) for arc in step.tolist()]
        return tuple(words[arc] for arc in arcs if words[arc])

    while stack:
        state, frame, cost, ilabels, olabels = stack.pop()
        for number in np.flatnonzero(graph.source == state).tolist():
            pdf, total = int(graph.pdf[number]), cost + float(graph.cost[number])
            if pdf == NONE and frame == len(scaled):
                paths.append((total, ilabels, olabels))
            elif pdf != NONE and frame < len(scaled):
                arc = int(graph.arc[number])
                said = of_chain(graph.before[number]) if state == 0 else ()
                said += (words[arc],) * (words[arc] > 0) + of_chain(graph.chain[number])
                total -= float(scaled[frame, pdf])
                stack.append((int(graph.target[number]), frame + 1, total, (*ilabels, pdf + 1), olabels + said))
    return paths


# ------------------------------------------------------------------ epsilons


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 3))
def test_paths_without_epsilons_are_the_graphs(fst: Any, frames: int) -> None:
    scaled, graph = noise(frames, frames), EpsilonFree.of(graph_of(fst))
    found, wanted = paths_without_epsilons(graph, scaled), every_path(fst, scaled)
    assert [row[:2] for row in rounded(found)] == [row[:2] for row in rounded(wanted)]
    np.testing.assert_allclose(sorted(row[0] for row in found), sorted(row[0] for row in wanted), atol=1e-4)
    assert not (graph.target == 0).any() and not (graph.source == graph.num_states - 1).any()
    assert (np.diff(graph.source) >= 0).all() and len(graph.before) == (graph.source == 0).sum()


CHAIN = """
    0 1 0 5 0.25
    1 2 0 0 0.5
    2 3 0 6 0.125
    1 3 0 0 2
    3 4 1 7 1
    4 5 0 8 0.25
    5 6 0 9 0.5
    6 3 0 0 0.75
    6 1.5
"""


def test_a_chain_of_words_on_epsilons() -> None:
    """Before the first frame, behind a frame into more of the graph, and behind the last one into the end."""
    graph = EpsilonFree.of(graph_of(fst_of(CHAIN)))
    # start (once over 1-2-3, once over 1-3), state 3 and state 6
    rows = zip(graph.source.tolist(), graph.target.tolist(), graph.pdf.tolist(), graph.cost.tolist(), strict=True)
    assert sorted(rows) == [
        (0, 1, 0, 3.375), (0, 1, 0, 4.75), (0, 2, 0, 2.625), (0, 2, 0, 4.0), (1, 1, 0, 2.5), (1, 2, 0, 1.75),
        (2, 3, NONE, 1.5),
    ]  # fmt: skip
    assert set(graph.chains.end.tolist()) == {3, 6}  # others are of no use: no frame and no end
    said = [row[2] for row in paths_without_epsilons(graph, noise(0, 2))]
    assert (5, 6, 7, 8, 9, 7, 8, 9) in said and (5, 7, 8, 9, 7, 8, 9) in said


def test_a_back_off_state_is_entered_and_not_copied() -> None:
    """Histories 1 to 9 back off to state 0, which has 50 arcs: one arc more for each that enters a history."""
    rows = [f"0 {1 + word % 9} {1 + word % 3} {1 + word} 1" for word in range(50)]
    rows += [f"{state} 0 0 0 2" for state in range(1, 10)] + [f"{state} {state} 1 0 0.5" for state in range(1, 10)]
    graph = graph_of(fst_of("\n".join([*rows, "0 0"])))
    assert EpsilonFree.of(graph).num_arcs == 2 * 50 + 2 * 9 + 2 * 50 + 1  # the start has a copy


@pytest.mark.parametrize("open_ended", [False, True])
def test_a_graph_that_grows_too_large_is_refused(open_ended: bool) -> None:
    """Thirty times two parallel epsilons in a row: 2^30 paths."""
    rows = [f"{state} {state + 1} 0 {word} 1" for state in range(1, 31) for word in (1, 2)]
    graph = graph_of(fst_of("\n".join(["0 1 1 0 0", *rows, "31 31 1 0 0", "31 0"])))
    with pytest.raises(GraphError, match="more than 1000000 arcs.*search=\"own\""):
        EpsilonFree.of(graph, open_ended, 1_000_000)
    with pytest.raises(GraphError, match=f"more than {2**30 // 4} arcs"):
        EpsilonFree.of(graph, open_ended, 2**28)


# ------------------------------------------------------------------ lattices


@pytest.mark.k2
@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 10**6), st.sampled_from([0.5, 2.0, 1000.0]))
def test_the_links_of_our_search(fst: Any, seed: int, lattice_beam: float) -> None:
    """Within any lattice beam, to the bit; in a batch of utterances of several lengths; with final states reached and
    not."""
    graph = graph_of(fst)
    options = SearchOptions(beam=1000.0, max_active=10**6, lattice_beam=lattice_beam)
    scaled = [np.float32(SCALE) * noise(seed + frames, frames) for frames in (3, 1, 6, 2)]
    for matrix, found in zip(scaled, by_k2(graph, scaled, options), strict=True):
        wanted = by_ours(graph, matrix, options)
        assert links(found) == links(wanted)
        if wanted is None or found is None:
            continue
        assert found.best_path(SCALE).words == wanted.best_path(SCALE).words
        assert found.best_path(SCALE).cost == pytest.approx(wanted.best_path(SCALE).cost, abs=1e-5)
        order = np.diff(found.source)
        assert (order >= 0).all() and found.frame[0] == 0 and not (found.target == 0).any()


@pytest.mark.k2
@pytest.mark.parametrize("seed", range(5))
def test_the_links_of_longer_utterances(seed: int) -> None:
    """k2 prunes some frames at a time, with what the later ones say yet unknown."""
    graph = graph_of(random_fst(np.random.default_rng(seed), 6))
    options = SearchOptions(beam=200.0, max_active=10**6, lattice_beam=4.0)
    scaled = [8 * noise(seed + frames, frames) for frames in (150, 70)]
    found, wanted = by_k2(graph, scaled, options), [by_ours(graph, matrix, options) for matrix in scaled]
    assert [*map(links, found)] == [*map(links, wanted)]
    assert all(lattice is not None and len(lattice.source) > 70 for lattice in found)


@pytest.mark.k2
@settings(max_examples=40, deadline=None)
@given(graphs(), st.integers(0, 10**6))
def test_all_paths_of_the_graph(fst: Any, seed: int) -> None:
    scaled = np.float32(SCALE) * noise(seed, 3)
    wanted = every_path(fst, scaled)
    found = by_k2(graph_of(fst), [scaled])[0]
    if not wanted:
        assert found is None or not found.reached_final
        return
    assert found is not None and found.reached_final
    paths = paths_of(found, SCALE)
    assert [row[:2] for row in rounded(paths)] == [row[:2] for row in rounded(wanted)]
    np.testing.assert_allclose(sorted(row[0] for row in paths), sorted(row[0] for row in wanted), atol=1e-4)


@pytest.mark.k2
@settings(max_examples=30, deadline=None)
@given(graphs(), st.integers(0, 10**6))
def test_posteriors_are_those_that_k2_computes(fst: Any, seed: int) -> None:
    """k2.get_arc_post of its own lattice, summed over the arcs that have a pdf in a frame."""
    import k2
    import torch

    from hybrid.decode.k2_search import K2Search

    scaled = noise(seed, 5)
    graph = graph_of(fst)
    search = K2Search(graph, WIDE)
    lattice = search.lattices([scaled])[0]
    if lattice is None or not lattice.reached_final:
        return
    fsas = search.on_device().fsas
    dense = k2.DenseFsaVec(torch.from_numpy(scaled)[None], torch.tensor([[0, 0, 5]], dtype=torch.int32))
    theirs = k2.intersect_dense_pruned(fsas, dense, 1000.0, 1000.0, 0, 10**6, frame_idx_name="frame")
    # get_arc_post wants no loose ends: all of this lattice is on a path
    posteriors = theirs.get_arc_post(use_double_scores=True, log_semiring=True).exp().numpy()
    wanted, found = np.zeros((6, 4)), np.zeros((6, 4))
    np.add.at(wanted, (theirs.frame.numpy(), theirs.labels.numpy() + 1), posteriors)
    np.add.at(found, (lattice.frame[lattice.source], lattice.ilabel), lattice.posteriors()[0])
    np.testing.assert_allclose(found[:5, 1:], wanted[:5, 1:], atol=1e-4)
    np.testing.assert_allclose(found[:5, 1:].sum(1), 1.0, atol=1e-6)


@pytest.mark.k2
def test_a_batch_gives_what_each_gives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import hybrid.decode.k2_search as k2_search

    graph = graph_of(random_fst(np.random.default_rng(4), 6))
    scaled = [np.float32(SCALE) * noise(n, n) for n in (40, 3, 200, 1, 77, 40)]
    options = SearchOptions(beam=6.0, max_active=4, min_active=2, lattice_beam=3.0)
    alone = [links(by_k2(graph, [matrix], options)[0]) for matrix in scaled]
    assert all(len(rows[0]) > 0 for rows in alone)
    assert [*map(links, by_k2(graph, scaled, options))] == alone
    sizes = []
    whole = k2_search.K2Search.surviving
    monkeypatch.setattr(
        k2_search.K2Search, "surviving", lambda self, fsas, rows: sizes.append(len(rows)) or whole(self, fsas, rows)
    )
    monkeypatch.setattr(k2_search, "BATCH_FRAMES", 100)
    assert [*map(links, by_k2(graph, scaled, options))] == alone and sizes == [2, 1, 2, 1]
    assert by_k2(graph, []) == []


@pytest.mark.k2
def test_ends_that_are_not_reached() -> None:
    """No final state, no path at all, and a good one, in one batch; and graphs whose start leads nowhere."""
    graph = graph_of(fst_of("0 1 1 4 1\n1 2 2 5 1\n2 3 0 6 1\n3 3 3 0 0.5\n2 1"))
    scaled = [noise(frames, frames) for frames in (1, 2, 4)]
    found = by_k2(graph, scaled)
    assert [one is not None and one.reached_final for one in found] == [False, True, False]
    assert [links(one) for one in found] == [links(by_ours(graph, matrix)) for matrix in scaled]
    assert found[0] is not None and found[0].best_path().words == (4,)
    short = graph_of(fst_of("0 1 1 4 1\n1 0"))
    assert by_k2(short, [scaled[1]]) == [None] and by_ours(short, scaled[1]) is None
    nowhere = graph_of(fst_of("0 1 0 4 1\n1 0"))
    assert by_k2(nowhere, [scaled[0], scaled[1]]) == [None, None] and by_ours(nowhere, scaled[0]) is None


@pytest.mark.k2
def test_a_long_utterance_loses_nothing_to_rounding() -> None:
    """Scores of a thousand a frame over some minutes: their sums in float32 would be wrong by whole units."""
    graph = graph_of(random_fst(np.random.default_rng(8), 5))
    scaled = (5 * noise(1, 5_000) - 1000).astype(np.float32)
    options = SearchOptions(beam=30.0, lattice_beam=2.0)
    found, wanted = by_k2(graph, [scaled], options)[0], by_ours(graph, scaled, options)
    assert found is not None and wanted is not None
    assert found.best_path(SCALE).words == wanted.best_path(SCALE).words
    ours, theirs = set(links(wanted)[0]), set(links(found)[0])
    assert len(ours ^ theirs) < 0.003 * len(ours)  # those at the edge of the lattice beam


# ------------------------------------------------------------------ recognisers


@pytest.fixture(scope="module")
def wide_run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose beam prunes next to nothing: k2 prunes a frame later and less than our search."""
    exp = Path(shutil.copytree(small_run, tmp_path_factory.mktemp("wide") / "exp"))
    for file in exp.glob("decode/*/*/dev/wer.json"):
        about = read_json(file)
        about["settings"]["beam"] = 300.0
        write_json(file, about)
    return exp


@pytest.mark.k2
@pytest.mark.parametrize("system", ["lfmmi", "ce", "mono"])
def test_a_recogniser_by_k2(wide_run: Path, small_cuts: CutSet, system: str) -> None:
    """Words, times and alternatives are those of our search."""
    asr, own = load(wide_run, system, search="k2"), load(wide_run, system)
    found, wanted = asr.many(small_cuts), own.many(small_cuts)
    assert list(found) == list(wanted)
    assert {name: result.text for name, result in found.items()} == {n: result.text for n, result in wanted.items()}
    assert len({result.text for result in wanted.values()}) > 3
    for name, result in found.items():
        assert result == wanted[name] and result.complete == wanted[name].complete
        assert [one.text for one in result.nbest(3)] == [one.text for one in wanted[name].nbest(3)]
        assert all(word.start is not None and word.end is not None for word in result.words)
    cut = next(iter(small_cuts))
    assert asr(cut) == own(cut) and asr(load_samples(cut, RATE), RATE) == own(cut)
    assert asr.context({"BA": 5.0})(cut) == own.context({"BA": 5.0})(cut)


@pytest.mark.k2
def test_confidences_of_k2s_lattices(wide_run: Path, small_cuts: CutSet) -> None:
    cuts = [
        fastcopy(cut, supervisions=[fastcopy(one, text="AB") for one in cut.supervisions]) for cut in small_cuts
    ]
    asr, own = load(wide_run, "lfmmi", search="k2"), load(wide_run, "lfmmi")
    ours, theirs = own.calibrated(cuts).many(cuts), asr.calibrated(cuts).many(cuts)
    assert any(result.words for result in ours.values())
    for name, result in ours.items():
        conf = [word.conf for word in theirs[name].words]
        assert None not in conf and conf == pytest.approx([word.conf for word in result.words], abs=1e-3)


@pytest.mark.k2
def test_streams_take_our_search_and_say_so(wide_run: Path, small_cuts: CutSet) -> None:
    asr, own = load(wide_run, "lfmmi", search="k2"), load(wide_run, "lfmmi")
    cut = next(iter(small_cuts))
    with pytest.warns(UserWarning, match="take our own search"):
        found = [*asr.transcribe(cut)]
    assert found == [*own.transcribe(cut)]
    with pytest.warns(UserWarning, match="take our own search"):
        asr.create_stream()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own.create_stream()
        asr(cut)


def test_without_k2(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *more: Any) -> Any:
        if name == "k2":
            raise ImportError("no k2 here")
        return imported(name, *more)

    monkeypatch.delitem(sys.modules, "k2", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependency, match='k2 cannot be imported: no k2 here.*search="own"'):
        load(small_run, "lfmmi", search="k2")
    assert load(small_run, "lfmmi").search  # and nothing else needs it


def test_a_search_that_there_is_not(small_run: Path) -> None:
    with pytest.raises(ConfigError, match="search 'K2'.*own, k2"):
        load(small_run, "lfmmi", search="K2")
