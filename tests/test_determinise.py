"""Determinised lattices against all paths of small ones; bounds; what is read from lattices of words."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search import lattice_of, noise, random_fst, word_loop

from hybrid.decode import determinise as module
from hybrid.decode.lattice import Lattice
from hybrid.decode.word_lattice import WordLattice
from hybrid.errors import ConfigError, DataError


class Path(NamedTuple):
    cost: float
    words: Tuple[int, ...]
    pdfs: Tuple[int, ...]
    graph: float
    acoustic: float


def random_lattice(rng: np.random.Generator, coarse: bool = False, frames: int = 5) -> Lattice:
    """Some nodes a frame, links to the next frame and epsilons within one, words on either kind, several ends; few
    pdfs, so that different links bear the same. coarse: many paths cost the same."""
    frame = np.sort(np.concatenate([np.arange(frames + 1), rng.integers(0, frames + 1, rng.integers(0, 2 * frames))]))
    links = []
    for source in range(len(frame)):
        for target in range(source + 1, len(frame)):
            step = frame[target] - frame[source]
            if (step == 0 and source and rng.random() < 0.5) or (step == 1 and rng.random() < 0.9):
                for _ in range(rng.choice([1, 2], p=[0.8, 0.2])):
                    word = int(rng.integers(1, 4)) if rng.random() < 0.35 else 0
                    links.append((source, target, int(rng.integers(1, 3)) if step else 0, word))
    costs = rng.gamma(1.0, 1.0, (len(links), 2)) * [1.0, rng.choice([-1.0, 1.0])]
    costs = np.round(costs) if coarse else costs
    final = np.where((frame == frames) & (rng.random(len(frame)) < 0.7), rng.gamma(1.0, 1.0, len(frame)), np.inf)
    final[-1] = 0.5
    columns = np.array(links, np.int32).reshape(-1, 4).T
    return Lattice(
        frame.astype(np.int32), *columns, costs[:, 0].astype(np.float32), costs[:, 1].astype(np.float32),
        final.astype(np.float32), True,
    )  # fmt: skip


def every_path(lattice: Lattice, scale: float, penalty: float) -> List[Path]:
    """The slow readable one: all paths that end, each written out."""
    leaving: Dict[int, List[int]] = {}
    for link, source in enumerate(lattice.source.tolist()):
        leaving.setdefault(source, []).append(link)
    paths: List[Path] = []
    stack: List[Any] = [(0, 0.0, 0.0, (), ())]
    while stack:
        node, graph, acoustic, pdfs, words = stack.pop()
        if np.isfinite(lattice.final[node]):
            total = graph + float(lattice.final[node])
            paths.append(Path(total + scale * acoustic + penalty * len(words), words, pdfs, total, acoustic))
        for link in leaving.get(node, []):
            ilabel, olabel = int(lattice.ilabel[link]), int(lattice.olabel[link])
            stack.append((
                int(lattice.target[link]), graph + float(lattice.graph[link]), acoustic + float(lattice.acoustic[link]),
                pdfs + ((ilabel - 1,) if ilabel else ()), words + ((olabel,) if olabel else ()),
            ))  # fmt: skip
    return paths


def word_paths(lattice: WordLattice, scale: float = 1.0, penalty: float = 0.0, pdfs: bool = True) -> List[Path]:
    """All paths of a lattice of words; that its arcs and nodes are in order is looked at on the way, and where it has
    pdfs that there is one a frame."""
    assert (lattice.source < lattice.target).all() and (np.diff(lattice.source) >= 0).all()
    paths: List[Path] = []
    stack: List[Any] = [(0, 0.0, 0.0, (), ())]
    while stack:
        node, graph, acoustic, said, words = stack.pop()
        assert not pdfs or lattice.frame[node] == len(said)
        if node == len(lattice.frame) - 1:
            paths.append(Path(graph + scale * acoustic + penalty * len(words), words, said, graph, acoustic))
        for arc in np.flatnonzero(lattice.source == node).tolist():
            word = int(lattice.word[arc])
            stack.append((
                int(lattice.target[arc]), graph + float(lattice.graph[arc]), acoustic + float(lattice.acoustic[arc]),
                said + tuple(lattice.pdfs_of(arc).tolist()), words + ((word,) if word else ()),
            ))  # fmt: skip
    return paths


def best_of_each(paths: List[Path]) -> Dict[Tuple[int, ...], Path]:
    best: Dict[Tuple[int, ...], Path] = {}
    for path in paths:
        if path.words not in best or path.cost < best[path.words].cost:
            best[path.words] = path
    return best


@settings(deadline=None, max_examples=400)
@given(
    st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([0.0, 0.5, 2.0, 6.0, 1000.0]),
    st.sampled_from([0.1, 0.3, 1.0]), st.sampled_from([0.0, 1.5, -0.7]),
)  # fmt: skip
def test_each_word_sequence_within_the_beam_has_its_best_path_and_no_other(
    seed: int, coarse: bool, beam: float, scale: float, penalty: float
) -> None:
    lattice = random_lattice(np.random.default_rng(seed), coarse)
    paths = every_path(lattice, scale, penalty)
    expected = best_of_each(paths)
    if not paths:
        with pytest.raises(DataError, match="no path leads"):
            lattice.determinised(scale, penalty, lattice_beam=beam)
        return
    words = lattice.determinised(scale, penalty, lattice_beam=beam)
    found = word_paths(words, scale, penalty)
    assert len({path.words for path in found}) == len(found)
    lowest = min(path.cost for path in paths)
    within = {key for key, path in expected.items() if path.cost <= lowest + beam - 1e-3}
    assert within <= {path.words for path in found} <= set(expected)
    for path in found:
        if path.words in within:
            assert path.cost == pytest.approx(expected[path.words].cost, abs=1e-3)
        same = [other for other in paths if other.words == path.words and other.pdfs == path.pdfs]
        assert any(
            abs(other.graph - path.graph) < 1e-3 and abs(other.acoustic - path.acoustic) < 1e-3 for other in same
        )
    assert words.beam == beam and words.reached_final
    # every arc lies on a path within the beam
    through = words.prune(beam + 1e-3, scale, penalty)
    assert len(through.source) == len(words.source)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([0.5, 6.0, 1000.0]), st.sampled_from([0.1, 1.0]))
def test_without_pdfs_the_words_and_their_costs_are_the_same(
    seed: int, coarse: bool, beam: float, scale: float
) -> None:
    lattice = random_lattice(np.random.default_rng(seed), coarse)
    if not every_path(lattice, scale, 0.0):
        return
    expected, bare = (lattice.determinised(scale, lattice_beam=beam, pdfs=pdfs) for pdfs in (True, False))
    assert not len(bare.pdfs) and bare.num_frames == expected.num_frames
    costs = [
        {path.words: path.cost for path in word_paths(words, scale, pdfs=words is expected)}
        for words in (expected, bare)
    ]
    lowest = min(costs[0].values())
    within = [{key for key, cost in one.items() if cost <= lowest + beam - 1e-3} for one in costs]
    assert within[0] == within[1]
    for words in within[0]:
        assert costs[1][words] == pytest.approx(costs[0][words], abs=1e-3)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_where_the_bound_is_met_all_is_there_up_to_the_beam_that_is_said(seed: int, bound: int) -> None:
    lattice = random_lattice(np.random.default_rng(seed))
    paths = every_path(lattice, 1.0, 0.0)
    if not paths:
        return
    words = lattice.determinised(lattice_beam=1000.0, max_arcs=bound)
    longest = max(len(path.words) for path in paths) + 1
    assert len(words.source) <= max(bound, longest)
    expected, lowest = best_of_each(paths), min(path.cost for path in paths)
    found = {path.words: path.cost for path in word_paths(words)}
    assert min(found.values()) == pytest.approx(lowest, abs=1e-3)
    within = {key: path.cost for key, path in expected.items() if path.cost < lowest + words.beam - 1e-3}
    assert {key: found[key] for key in within} == pytest.approx(within, abs=1e-3)
    if words.beam < 1000.0:
        assert len(words.source) <= bound or len(found) == 1


def test_room_grows_as_it_is_needed_and_what_cannot_grow_narrows_the_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    lattice = lattice_of(word_loop(60, 2), 3 * noise(3, 25, 31), beam=12.0, lattice_beam=6.0)
    whole = lattice.determinised(lattice_beam=6.0)
    assert len(whole.source) > 150 and whole.beam == 6.0
    for room in (8, 100):
        monkeypatch.setattr(module, "MIN_ROOM", room)
        monkeypatch.setattr(module, "ROOM_OF_A_LINK", 0)
        again = lattice.determinised(lattice_beam=6.0)
        np.testing.assert_array_equal(again.word, whole.word)
        np.testing.assert_array_equal(again.graph, whole.graph)
    monkeypatch.setattr(module, "MAX_ROOM", 300)
    part = lattice.determinised(lattice_beam=6.0)
    assert 0 < part.beam < 6.0 and len(part.source) < len(whole.source)
    reach = whole.best_path().cost + part.beam - 1e-3
    near = {path.words for path in word_paths(whole.prune(part.beam)) if path.cost < reach}
    assert len(near) > 3 and near <= {path.words for path in word_paths(part)}
    monkeypatch.setattr(module, "MIN_ROOM", 8)
    monkeypatch.setattr(module, "MAX_ROOM", 8)
    with pytest.raises(DataError, match="too large to be determinised"):
        lattice.determinised(lattice_beam=6.0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 1.0]), st.sampled_from([0.0, 0.8]))
def test_best_paths_and_n_best_lists_are_those_of_the_search(seed: int, scale: float, penalty: float) -> None:
    fst = random_fst(np.random.default_rng(seed), 4)
    lattice = lattice_of(fst, noise(seed, 5), lattice_beam=1000.0)
    if lattice is None:
        return
    words = lattice.determinised(scale, penalty, lattice_beam=1000.0)
    ours, theirs = words.best_path(scale, penalty), lattice.best_path(scale, penalty)
    assert ours.cost == pytest.approx(theirs.cost, abs=1e-3)
    assert (ours.frames, ours.reached_final) == (theirs.frames, theirs.reached_final)
    costs = sorted(path.cost for path in every_path(lattice, scale, penalty))
    if len(costs) == 1 or costs[1] > costs[0] + 1e-3:  # else rounding chooses
        assert (ours.words, ours.starts) == (theirs.words, theirs.starts)
        np.testing.assert_array_equal(ours.pdfs, theirs.pdfs)
    entries, expected = words.nbest(20, scale, penalty), lattice.nbest(20, scale, penalty)
    assert [entry.cost for entry in entries] == pytest.approx([entry.cost for entry in expected], abs=1e-3)
    again = {entry.words: entry.cost for entry in words.nbest(20, 0.5 * scale, penalty)}
    for entry in entries:  # the one path of its words, at another scale
        if entry.words in again:
            assert again[entry.words] == pytest.approx(entry.cost - 0.5 * scale * entry.part, abs=1e-3)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 1.0]), st.sampled_from([0.0, 0.8]))
def test_scaled_pruned_and_posteriors_are_those_of_all_paths(seed: int, scale: float, penalty: float) -> None:
    lattice = random_lattice(np.random.default_rng(seed))
    if not every_path(lattice, 1.0, 0.0):
        return
    words = lattice.determinised(lattice_beam=1000.0)
    paths = {path.words: path for path in word_paths(words, scale, penalty)}
    scaled = {path.words: path.cost for path in word_paths(words.scaled(scale, word_penalty=penalty))}
    assert scaled == pytest.approx({key: path.cost for key, path in paths.items()}, abs=1e-4)
    halved = {path.words: path.cost for path in word_paths(words.scaled(0.0, 0.5))}
    assert halved == pytest.approx({key: 0.5 * path.graph for key, path in paths.items()}, abs=1e-4)
    posteriors, total = words.posteriors(scale, penalty)
    assert total == pytest.approx(np.logaddexp.reduce([-path.cost for path in paths.values()]), abs=1e-4)
    expected = np.zeros(len(words.source))
    ways: List[Tuple[int, float, Tuple[int, ...]]] = [(0, 0.0, ())]
    costs = words.costs(scale, penalty)
    for node, cost, arcs in ways:
        if node == len(words.frame) - 1:
            expected[list(arcs)] += np.exp(-cost - total)
        ways.extend((int(words.target[arc]), cost + costs[arc], (*arcs, arc))
                    for arc in np.flatnonzero(words.source == node))  # fmt: skip
    np.testing.assert_allclose(posteriors, expected, atol=1e-6)
    lowest = min(path.cost for path in paths.values())
    pruned = words.prune(1.0, scale, penalty)
    left = {path.words for path in word_paths(pruned)}
    assert {key for key, path in paths.items() if path.cost < lowest + 1.0 - 1e-3} <= left <= set(paths)
    assert pruned.beam == 1.0 and pruned.num_frames == words.num_frames


@pytest.mark.parametrize(
    ("options", "says"),
    [({"acoustic_scale": 0.0}, "acoustic scale 0"), ({"acoustic_scale": float("nan")}, "acoustic scale nan"),
     ({"word_penalty": float("inf")}, "word penalty inf"), ({"lattice_beam": -1.0}, "lattice beam -1"),
     ({"lattice_beam": float("nan")}, "lattice beam nan"), ({"max_arcs": 0}, "at most 0 arcs")],
)  # fmt: skip
def test_options_that_are_none(options: Dict[str, Any], says: str) -> None:
    lattice = lattice_of(word_loop(5, 2), noise(3, 20, 31))
    with pytest.raises(ConfigError, match=says):
        lattice.determinised(**options)


def test_figures_of_size() -> None:
    lattice = lattice_of(word_loop(20, 2), noise(3, 30, 31), lattice_beam=4.0)
    words = lattice.determinised(lattice_beam=4.0)
    assert words.num_frames == 30 and words.density == len(words.source) / 30
    crossing = [np.sum((words.frame[words.source] <= t) & (words.frame[words.target] > t)) for t in range(30)]
    assert words.depth == pytest.approx(np.mean(crossing))
    best = words.prune(0.0)
    assert best.depth == 1.0 and best.best_path().words == words.best_path().words
