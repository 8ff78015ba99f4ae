"""A search over speech that goes on: what it has found so far, what will not change, and cuts that lose nothing."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import kaldifst
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from search_tools import lattice_of, noise, random_fst

from hybrid.decode.lattice import Lattice
from hybrid.decode.running_search import RunningSearch
from hybrid.decode.search import SearchOptions
from hybrid.decode.search_graph import SearchGraph
from hybrid.fst import to_arrays

WIDE: Dict[str, Any] = {"beam": 1000.0, "max_active": 10**6}


def running_search(fst: kaldifst.StdVectorFst, **options: Any) -> RunningSearch:
    return RunningSearch(SearchGraph.from_arrays(to_arrays(fst)), SearchOptions(**{**WIDE, **options}))


def all_predecessors(fst: kaldifst.StdVectorFst, scaled: np.ndarray) -> List[Dict[int, Tuple[float, List[int]]]]:
    """The slow readable search: each token of each frame keeps its best path, as the states that it was at when a frame
    of speech began (that is, the tokens that speech left), and its labels. Two best paths to one token (the same arcs
    in another order cost the same): no example, for either is right."""
    states = range(fst.num_states)
    arcs = [
        (state, arc.nextstate, arc.ilabel, arc.olabel, arc.weight.value)
        for state in states
        for arc in kaldifst.ArcIterator(fst, state)
    ]

    def take(tokens: Dict[int, Any], state: int, new: Tuple[float, List[int], List[int]]) -> None:
        old = tokens.get(state)
        assume(old is None or abs(new[0] - old[0]) > 1e-9 or new[1:] == old[1:])
        if old is None or new[0] < old[0]:
            tokens[state] = new

    def closed(tokens: Dict[int, Any]) -> Dict[int, Any]:
        for _ in states:
            for source, target, ilabel, olabel, weight in arcs:
                if ilabel == 0 and source in tokens:
                    cost, left, words = tokens[source]
                    take(tokens, target, (cost + weight, left, words + ([olabel] if olabel else [])))
        return tokens

    frames = [closed({fst.start: (0.0, [], [])})]
    for row in scaled:
        tokens: Dict[int, Any] = {}
        for source, target, ilabel, olabel, weight in arcs:
            if ilabel and source in frames[-1]:
                cost, left, words = frames[-1][source]
                acoustic = -float(row[ilabel - 1])
                take(tokens, target, (cost + weight + acoustic, [*left, source], words + ([olabel] if olabel else [])))
        frames.append(closed(tokens))
    return frames


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 12), st.integers(1, 4))
@example(seed=3848, states=4, frames=2, chunk=1)  # two paths of the same arcs
def test_what_has_been_found_so_far_is_the_best_path_and_what_all_paths_share(
    seed: int, states: int, frames: int, chunk: int
) -> None:
    fst, scaled = random_fst(np.random.default_rng(seed), states), noise(seed, frames)
    search = running_search(fst, prune_interval=3, lag=1, lattice_beam=2.0)
    expected = all_predecessors(fst, scaled)
    agreed: List[int] = []
    for begin in range(0, frames, chunk):
        search.advance(np.ascontiguousarray(scaled[begin : begin + chunk]))
        tokens = expected[min(begin + chunk, frames)]
        if not tokens:
            assert not search.alive
            return
        search.look()
        _, left, words = min(tokens.values(), key=lambda token: token[0])
        path = search.agreed + search.rest
        assert path.words(search.graph).tolist() == words
        assert len(path.pdfs(search.graph)) == search.frames == len(left)
        emitting = search.graph.arcs[4 * path.arcs] != 0
        assert path.states[emitting].tolist() == left
        shared = max((k for k in range(len(left)) if len({token[1][k] for token in tokens.values()}) == 1), default=0)
        assert search.agreed_frames == shared
        now = search.agreed.words(search.graph).tolist()
        assert now[: len(agreed)] == agreed, "what was agreed has changed"
        agreed = now


@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(4, 40), st.integers(1, 7), st.integers(0, 3),
    st.sampled_from([1.0, 6.0]),
)  # fmt: skip
def test_cuts_lose_and_double_nothing(
    seed: int, states: int, frames: int, chunk: int, behind: int, lattice_beam: float
) -> None:
    """Cut wherever it can be, `behind` frames before what is agreed: the parts make up the path without a cut."""
    fst, scaled = random_fst(np.random.default_rng(seed), states), noise(seed, frames)
    whole = lattice_of(fst, scaled, lattice_beam=lattice_beam)
    search = running_search(fst, prune_interval=4, lag=2, lattice_beam=lattice_beam)
    graph, parts, cuts = search.graph, [], 0
    for begin in range(0, frames, chunk):
        search.advance(np.ascontiguousarray(scaled[begin : begin + chunk]))
        search.look()
        frame = search.agreed_frames - behind
        if search.alive and search.can_cut(frame):
            parts.append(search.cut(frame))
            cuts += frame
            assert search.frames == min(begin + chunk, frames) - cuts
    last = search.lattice()
    if whole is None:
        assert last is None
        return
    assert last is not None and last.reached_final == whole.reached_final
    lattices = [Lattice.from_search(raw, graph, 1.0) for raw in [*parts, last]]
    assert sum(lattice.num_frames for lattice in lattices) == frames
    paths = [lattice.best_path() for lattice in lattices]
    best = whole.best_path()
    assert sum(path.cost for path in paths) == pytest.approx(best.cost, abs=1e-3)
    assert [word for path in paths for word in path.words] == list(best.words)
    assert np.concatenate([path.pdfs for path in paths]).tolist() == best.pdfs.tolist()
    for lattice in lattices:  # no loose ends: each link lies on a path
        assert np.isfinite(lattice.posteriors()[0]).all() and (lattice.posteriors()[0] > 0).all()


def test_a_cut_must_be_agreed() -> None:
    search = running_search(random_fst(np.random.default_rng(3), 3))
    search.advance(noise(3, 5))
    search.look()
    for frame in (0, search.agreed_frames + 1, 99):
        assert not search.can_cut(frame)
        with pytest.raises(ValueError, match="agreed"):
            search.cut(frame)
