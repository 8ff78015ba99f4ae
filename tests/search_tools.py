"""Small graphs, and the slow readable search over them."""

from __future__ import annotations

import itertools
from typing import Any, Dict, List, Tuple

import kaldifst
import numpy as np

from hybrid.decode.lattice import Lattice
from hybrid.decode.search import LatticeSearch, SearchOptions
from hybrid.decode.search_graph import SearchGraph
from hybrid.fst import to_arrays

Path = Tuple[float, Tuple[int, ...], Tuple[int, ...]]  # cost, input labels, output labels


def fst_of(text: str) -> kaldifst.StdVectorFst:
    """`0 1 5 2 0.5`: state, next state, input label, output label, cost; `1 0.5`: a final state."""
    return kaldifst.compile("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")


def random_fst(rng: np.random.Generator, states: int, labels: int = 3, words: int = 3) -> kaldifst.StdVectorFst:
    """Arcs over pdfs between any states, epsilons from lower to higher ones only."""
    fst = kaldifst.StdVectorFst()
    for _ in range(states):
        fst.add_state()
    fst.start = 0
    for source, target in itertools.product(range(states), range(states)):
        for _ in range(rng.choice(3, p=[0.45, 0.45, 0.1])):
            ilabel = int(rng.integers(1, labels + 1)) if target <= source or rng.random() < 0.7 else 0
            arc = kaldifst.StdArc(ilabel, int(rng.integers(0, words + 1)), float(rng.gamma(1.0)), target)
            fst.add_arc(source, arc)
    for state in range(states):
        if rng.random() < 0.5 or state == states - 1:
            fst.set_final(state, float(rng.gamma(1.0)))
    return fst


def every_path(fst: kaldifst.StdVectorFst, scaled: np.ndarray) -> List[Path]:
    """The slow readable search: all paths over all frames that end in a final state, each written out."""
    paths: List[Path] = []
    stack: List[Any] = [(fst.start, 0, 0.0, (), ())]
    while stack:
        state, frame, cost, ilabels, olabels = stack.pop()
        if frame == len(scaled) and np.isfinite(fst.final(state).value):
            paths.append((cost + fst.final(state).value, ilabels, olabels))
        for arc in kaldifst.ArcIterator(fst, state):
            words = olabels + ((arc.olabel,) if arc.olabel else ())
            total = cost + arc.weight.value
            if arc.ilabel == 0:
                stack.append((arc.nextstate, frame, total, ilabels, words))
            elif frame < len(scaled):
                acoustic = -float(scaled[frame, arc.ilabel - 1])
                stack.append((arc.nextstate, frame + 1, total + acoustic, (*ilabels, arc.ilabel), words))
    return paths


def paths_of(lattice: Lattice, scale: float = 1.0) -> List[Path]:
    """All paths of a lattice, written out."""
    costs = lattice.costs(scale)
    leaving: Dict[int, List[int]] = {}
    for link, source in enumerate(lattice.source.tolist()):
        leaving.setdefault(source, []).append(link)
    paths: List[Path] = []
    stack: List[Any] = [(0, 0.0, (), ())]
    while stack:
        node, cost, ilabels, olabels = stack.pop()
        if np.isfinite(lattice.final[node]):
            paths.append((cost + float(lattice.final[node]), ilabels, olabels))
        for link in leaving.get(node, []):
            ilabel, olabel = int(lattice.ilabel[link]), int(lattice.olabel[link])
            stack.append((
                int(lattice.target[link]), cost + costs[link], ilabels + ((ilabel,) if ilabel else ()),
                olabels + ((olabel,) if olabel else ()),
            ))  # fmt: skip
    return paths


def rounded(paths: List[Path]) -> List[Tuple[Tuple[int, ...], Tuple[int, ...], int]]:
    return sorted((ilabels, olabels, round(1000 * cost)) for cost, ilabels, olabels in paths)


def lattice_of(fst: kaldifst.StdVectorFst, scaled: np.ndarray, chunk: int = 0, **options: Any) -> Any:
    """By the search itself, fed `chunk` frames at a time."""
    graph = SearchGraph.from_arrays(to_arrays(fst))
    running = LatticeSearch(graph, SearchOptions(**{"beam": 1000.0, "max_active": 10**6, **options}))
    for begin in range(0, len(scaled), chunk or max(len(scaled), 1)):
        running.advance(np.ascontiguousarray(scaled[begin : begin + (chunk or len(scaled))]))
    raw = running.lattice()
    return None if raw is None else Lattice.from_search(raw, graph, 1.0)


def noise(seed: int, frames: int, pdfs: int = 3) -> np.ndarray:
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(pdfs), frames)).astype(np.float32)
