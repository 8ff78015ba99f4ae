"""The search against every path of small graphs, and against Kaldi's; lattices and what is read from them."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Tuple

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_tools import every_path, fst_of, lattice_of, noise, paths_of, random_fst, rounded

from hybrid.decode import search
from hybrid.decode.decoder import Decoder
from hybrid.decode.kaldi import FasterDecoder
from hybrid.decode.lattice import Lattice
from hybrid.decode.search import LatticeSearch, SearchOptions
from hybrid.decode.search_graph import WIDE, SearchGraph
from hybrid.errors import ConfigError, GraphError
from hybrid.fst import to_arrays


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.5, 2.0, 5.0]),
    st.integers(1, 3), st.integers(0, 2), st.integers(1, 3),
)  # fmt: skip
def test_a_lattice_holds_the_paths_within_its_beam_and_its_links_lie_on_such_paths(
    seed: int, states: int, frames: int, beam: float, interval: int, lag: int, chunk: int
) -> None:
    """Settled after every frame or at the end, fed in whatever chunks."""
    fst, scaled = random_fst(np.random.default_rng(seed), states), noise(seed, frames)
    expected = every_path(fst, scaled)
    lattice = lattice_of(fst, scaled, chunk, lattice_beam=beam, prune_interval=interval, lag=lag)
    if not expected:
        assert lattice is None or not lattice.reached_final
        return
    best = min(expected)[0]
    paths = paths_of(lattice)
    near = rounded([path for path in expected if path[0] <= best + beam - 1e-3])
    assert set(near) <= set(rounded(paths)) <= set(rounded(expected))
    hypothesis = lattice.best_path()
    assert hypothesis.cost == pytest.approx(best, abs=1e-4) and hypothesis.reached_final
    assert (hypothesis.words, tuple(hypothesis.pdfs + 1)) in [
        (olabels, ilabels) for cost, ilabels, olabels in expected if cost < best + 1e-3
    ]
    # a link is there only if the best path through it is within the beam
    before, after = np.full(len(lattice.final), np.inf), lattice.final.astype(np.float64)
    before[0] = 0.0
    costs = lattice.costs()
    for link in range(len(costs)):
        source, target = lattice.source[link], lattice.target[link]
        before[target] = min(before[target], before[source] + costs[link])
    for link in reversed(range(len(costs))):
        source, target = lattice.source[link], lattice.target[link]
        after[source] = min(after[source], costs[link] + after[target])
    through = before[lattice.source] + costs + after[lattice.target]
    assert (through <= best + beam + 1e-3).all()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.5, -0.5]), st.sampled_from([0.3, 1.0, 2.0]))
def test_posteriors_and_rescored_paths_are_those_of_all_paths(seed: int, penalty: float, scale: float) -> None:
    fst, scaled = random_fst(np.random.default_rng(seed), 4), noise(seed, 4)
    expected = [
        (cost, ilabels, olabels) for cost, ilabels, olabels in every_path(fst, np.float32(scale) * scaled)
    ]
    lattice = lattice_of(fst, scaled, lattice_beam=1000.0)
    if not expected:
        return
    weights = [(cost + penalty * len(olabels), ilabels, olabels) for cost, ilabels, olabels in expected]
    hypothesis = lattice.best_path(scale, penalty)
    assert hypothesis.cost == pytest.approx(min(weights)[0], abs=1e-3)
    assert lattice.best_words([(scale, penalty)]) == [hypothesis.words]
    posteriors, total = lattice.posteriors(scale, penalty)
    costs = np.array([cost for cost, _, _ in weights])
    assert total == pytest.approx(np.logaddexp.reduce(-costs), abs=1e-3)
    for frame in range(4):  # of each pdf at each frame
        inside = (lattice.frame[lattice.source] == frame) & (lattice.ilabel != 0)
        got = np.bincount(lattice.ilabel[inside], posteriors[inside], minlength=4)
        want = np.zeros(4)
        for cost, ilabels, _ in weights:
            want[ilabels[frame]] += np.exp(-cost - total)
        np.testing.assert_allclose(got, want, atol=2e-3)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([0.0, 1.5]), st.sampled_from([0.3, 1.0]))
def test_an_n_best_list_is_that_of_all_paths(seed: int, number: int, penalty: float, scale: float) -> None:
    fst, scaled = random_fst(np.random.default_rng(seed), 4), noise(seed, 4)
    lattice = lattice_of(fst, scaled, lattice_beam=1000.0)
    least: Dict[Tuple[int, ...], float] = {}
    for cost, _, olabels in every_path(fst, np.float32(scale) * scaled):
        least[olabels] = min(cost + penalty * len(olabels), least.get(olabels, np.inf))
    if not least:
        return
    entries = lattice.nbest(number, scale, penalty)
    costs = [entry.cost for entry in entries]
    assert len(entries) == min(number, len(least)) and costs == sorted(costs)
    assert costs == pytest.approx(sorted(least.values())[:number], abs=1e-3)
    assert len({entry.words for entry in entries}) == len(entries)
    assert [least[entry.words] for entry in entries] == pytest.approx(costs, abs=1e-3)
    assert entries[0].cost == pytest.approx(lattice.best_path(scale, penalty).cost)


def hubs(rng: np.random.Generator, states: int) -> kaldifst.StdVectorFst:
    """Many states, from each of which arcs over pdfs lead to one hub and epsilons to another, as to back-off states."""
    fst = kaldifst.StdVectorFst()
    for _ in range(states + 2):
        fst.add_state()
    fst.start, hub, silent = 0, states, states + 1
    for state in range(states):
        for target, emits in [(hub, True)] * 3 + [(silent, False)] * 3 + [(int(rng.integers(states)), True)]:
            label = int(rng.integers(1, 4)) if emits else 0
            fst.add_arc(state, kaldifst.StdArc(label, int(rng.integers(3)), float(rng.gamma(2.0)), target))
    for source in (hub, silent):
        for target in range(states):
            fst.add_arc(source, kaldifst.StdArc(int(rng.integers(1, 4)), 0, float(rng.gamma(2.0)), target))
        fst.set_final(source, 1.0)
    return fst


def links_within(fst: kaldifst.StdVectorFst, scaled: np.ndarray, beam: float) -> Dict[Tuple[int, int], int]:
    """The slow readable lattice: how many links of each input label leave each frame on paths within the beam of the
    best. Epsilons lead to the last state, which none leaves."""
    states, frames = range(fst.num_states), len(scaled)
    arcs = [(s, a.nextstate, a.ilabel, a.weight.value) for s in states for a in kaldifst.ArcIterator(fst, s)]
    arcs.sort(key=lambda arc: arc[2] != 0)
    before = np.full((frames + 1, fst.num_states), np.inf)
    before[0, fst.start] = 0.0
    after = np.full_like(before, np.inf)
    after[frames] = [fst.final(state).value for state in states]

    def cost(frame: int, label: int, weight: float) -> float:
        return weight - (float(scaled[frame, label - 1]) if label else 0.0)

    for frame in range(frames + 1):
        for source, target, label, weight in arcs:  # epsilons first: before[frame] is complete when it is handed on
            if label == 0 or frame < frames:
                cell = (frame + (label != 0), target)
                before[cell] = min(before[cell], before[frame, source] + cost(frame, label, weight))
    for frame in range(frames, -1, -1):
        if frame < frames:
            for source, target, label, weight in arcs:
                if label:
                    total = cost(frame, label, weight) + after[frame + 1, target]
                    after[frame, source] = min(after[frame, source], total)
        for source, target, label, weight in arcs:
            if label == 0:
                after[frame, source] = min(after[frame, source], weight + after[frame, target])
    limit = before[frames] + after[frames]
    links: Dict[Tuple[int, int], int] = {}
    for frame in range(frames + 1):
        for source, target, label, weight in arcs:
            if label and frame == frames:
                continue
            whole = before[frame, source] + cost(frame, label, weight) + after[frame + (label != 0), target]
            if whole <= limit.min() + beam:
                links[frame, label] = links.get((frame, label), 0) + 1
    return links


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(WIDE + 2, 2 * WIDE), st.sampled_from([0.5, 2.0, 6.0]))
def test_links_into_a_state_that_very_many_arcs_enter(seed: int, states: int, beam: float) -> None:
    """Back-off states are looked for from their sources, others from themselves; no link is lost or doubled."""
    fst, scaled = hubs(np.random.default_rng(seed), states), noise(seed, 4)
    for breadth_first in (False, True):
        graph = SearchGraph.from_arrays(to_arrays(fst), breadth_first=breadth_first)
        search = LatticeSearch(graph, SearchOptions(1000.0, 10**6, lattice_beam=beam))
        search.advance(scaled)
        raw = search.lattice()
        assert raw is not None and raw.reached_final
        lattice = Lattice.from_search(raw, graph, 1.0)
        leaving = Counter(zip(lattice.frame[lattice.source].tolist(), lattice.ilabel.tolist()))
        assert dict(leaving) == links_within(fst, scaled, beam)


def word_loop(words: int, seed: int) -> kaldifst.StdVectorFst:
    """A loop of words of two to four pdfs with self-loops, and a back-off state that all words enter by an epsilon."""
    rng = np.random.default_rng(seed)
    lines, state = [], 2
    for word in range(1, words + 1):
        source, length = 0, int(rng.integers(2, 5))
        for phone in range(length):
            label, cost = int(rng.integers(1, 31)), rng.gamma(1.0)
            lines.append(f"{source} {state} {label} {word if phone == 0 else 0} {cost:.4f}")
            lines.append(f"{state} {state} {label} 0 0.3")
            source, state = state, state + 1
        lines.append(f"{source} 1 0 0 {rng.gamma(0.5):.4f}")
    return fst_of("\n".join([*lines, "1 0 0 0 0.1", "1 0.5"]).replace("1 0 0 0 0.1", "1 0 31 0 0.1"))


@pytest.mark.parametrize("beam, max_active", [(6.0, 10000), (12.0, 10000), (12.0, 60)])
def test_costs_are_those_of_kaldis_search(beam: float, max_active: int) -> None:
    """Where max_active prunes, which tokens go depends on their order: there no worse on average."""
    fst = word_loop(200, 1)
    ours = Decoder(fst, beam=beam, max_active=max_active)
    kaldis = FasterDecoder(fst, beam=beam, max_active=max_active)
    differences = []
    for seed in range(20):
        scaled = 2 * noise(seed, 40, 31)
        hypothesis, reference = ours.decode(scaled), kaldis.decode(scaled)
        lattice = ours.lattice(scaled)
        assert lattice is not None and lattice.best_path().words == hypothesis.words
        assert lattice.best_path().cost == pytest.approx(hypothesis.cost)
        assert hypothesis.reached_final == reference.reached_final
        differences.append(hypothesis.cost - reference.cost)
        if max_active == 10000:
            assert hypothesis.words == reference.words and np.array_equal(hypothesis.pdfs, reference.pdfs)
    assert max(differences) < 1e-3 if max_active == 10000 else np.mean(differences) < 0.05


def test_settling_on_the_way_frees_memory_and_changes_nothing_at_the_end() -> None:
    fst, scaled = word_loop(100, 2), 2 * noise(3, 600, 31)
    graph = SearchGraph.from_arrays(to_arrays(fst))
    most, lattices = [], []
    for interval in (10, 10**6):
        running = LatticeSearch(graph, SearchOptions(beam=10.0, lattice_beam=4.0, prune_interval=interval, lag=20))
        held = 0
        for begin in range(0, 600, 7):
            running.advance(scaled[begin : begin + 7])
            held = max(held, running.counts["tokens"])
        assert running.counts["frames"] == 600
        most.append(held)
        raw = running.lattice()
        assert raw is not None
        lattices.append(raw)
    assert most[0] < 0.3 * most[1]
    for name in ("state", "cost", "final", "frame", "source", "target", "arc"):
        np.testing.assert_array_equal(getattr(lattices[0], name), getattr(lattices[1], name))


def test_arrays_grow_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    fst, scaled = word_loop(100, 2), 2 * noise(3, 80, 31)
    reference = lattice_of(fst, scaled, beam=10.0)
    monkeypatch.setattr(search, "ROOM", (2, 2, 4))
    for chunk in (0, 1, 30):
        lattice = lattice_of(fst, scaled, chunk, beam=10.0, prune_interval=5, lag=3)
        assert rounded(paths_of(lattice_of(fst, scaled[:12], chunk, beam=5.0, lattice_beam=1.0)))
        assert lattice.best_path().cost == reference.best_path().cost
        assert len(lattice.source) == len(reference.source)


def test_a_searchs_past_is_forgotten_and_threads_share_a_graph() -> None:
    decoder = Decoder(word_loop(100, 4), beam=10.0)
    matrices = [2 * noise(seed, 20 + 5 * seed, 31) for seed in range(8)]
    first = [decoder.lattice(matrix) for matrix in matrices]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(decoder.lattice, matrices[::-1]))[::-1]
    for before, after in zip(first, again, strict=True):
        assert before is not None and after is not None
        for name in ("frame", "source", "target", "graph", "acoustic", "final"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_a_search_that_dies_stays_dead_until_the_next_utterance() -> None:
    fst = fst_of("0 1 1 1 0.0\n1 0.0")  # one frame, and no more
    graph = SearchGraph.from_arrays(to_arrays(fst))
    running = LatticeSearch(graph, SearchOptions(prune_interval=2, lag=1))
    for _ in range(30):
        running.advance(noise(0, 3))
    assert running.lattice() is None
    running.start()
    running.advance(noise(0, 1))
    raw = running.lattice()
    assert raw is not None and raw.reached_final and len(raw.arc) == 1


def test_a_cycle_of_epsilons_is_refused() -> None:
    fst = fst_of("0 1 1 1 0.1\n1 2 0 0 0.1\n2 1 0 0 0.1\n2 0.0")
    with pytest.raises(GraphError, match="cycle of epsilon arcs"):
        SearchGraph.from_arrays(to_arrays(fst))


@pytest.mark.parametrize(
    ("options", "says"),
    [({"beam": 0.0}, "beam 0"), ({"beam": float("nan")}, "beam nan"), ({"max_active": 1}, "max_active 1"),
     ({"lattice_beam": -1.0}, "lattice_beam -1"), ({"prune_interval": 0}, "prune_interval 0"), ({"lag": -1}, "lag -1")],
)  # fmt: skip
def test_options_that_are_none(options: Dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SearchOptions(**options)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([0.5, 2.0, 5.0]), st.sampled_from([0.5, 1.0]))
def test_a_lattice_that_is_pruned_is_that_of_a_narrower_beam(
    seed: int, states: int, beam: float, scale: float
) -> None:
    fst, scaled = random_fst(np.random.default_rng(seed), states), noise(seed, 5)
    wide, narrow = (
        lattice_of(fst, np.float32(scale) * scaled, lattice_beam=lattice_beam) for lattice_beam in (1000.0, beam)
    )
    if wide is None:
        return
    pruned = wide.prune(beam)
    assert rounded(paths_of(pruned)) == rounded(paths_of(narrow))
    assert len(pruned.final) == len(narrow.final) and pruned.reached_final == narrow.reached_final
    first = {source: link for link, source in reversed([*enumerate(pruned.source.tolist())])}
    assert all(first.get(target, link + 1) > link for link, target in enumerate(pruned.target.tolist()))
    assert pruned.best_path().words == wide.best_path().words
