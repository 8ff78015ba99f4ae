"""Lattices from links in any order, as files hold them: put in order, what lies on no path left out, frames counted."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence, Set, Tuple

import numpy as np

from hybrid.decode.lattice import Lattice
from hybrid.decode.word_lattice import WordLattice, take_strings
from hybrid.errors import DataError


class Parts(NamedTuple):
    """links: int64 [links, 4], source, target, ilabel (0 for epsilon; of words arcs unused), olabel; costs: float64
    [links, 2], graph, acoustic; strings: the pdfs of each arc of a lattice of words; finals: state -> graph cost,
    acoustic cost, pdfs."""

    start: int
    links: np.ndarray
    costs: np.ndarray
    strings: Sequence[Sequence[int]]
    finals: Dict[int, Tuple[float, float, Sequence[int]]]


def to_lattice(parts: Parts) -> Lattice:
    """Return the lattice of links over pdfs. A final acoustic cost, which a Lattice has no place for, is put on an
    epsilon link to a new end. Raises DataError for a cycle, for ways of different lengths to one state, and where no
    path ends."""
    links, costs, finals = parts.links, parts.costs, dict(parts.finals)
    new = int(max([links[:, :2].max(initial=0), parts.start, *finals])) + 1
    for state, (graph, acoustic, _) in parts.finals.items():
        if acoustic:
            links = np.vstack([links, [[state, new, 0, 0]]])
            costs = np.vstack([costs, [[graph, acoustic]]])
            finals[new] = (0.0, 0.0, ())
            del finals[state]
            new += 1
    order, links, chosen = _ordered(parts.start, links, finals)
    frame = _frames(order, links, links[:, 2] != 0)
    final = np.array([finals[state][0] if state in finals else np.inf for state in order], np.float32)
    source, target, ilabel, olabel = links.T.astype(np.int32)
    graph, acoustic = costs[chosen].T.astype(np.float32)
    return Lattice(frame, source, target, ilabel, olabel, graph, acoustic, final, True)


def to_word_lattice(parts: Parts) -> WordLattice:
    """Return the lattice of arcs over words; final weights become arcs to a last node. Where words begin is not known:
    `start` is the frame of the node that an arc leaves. Raises DataError as to_lattice."""
    end = int(max([parts.links[:, :2].max(initial=0), parts.start, *parts.finals])) + 1
    closing = [[state, end, 0, 0] for state in parts.finals]
    links = np.vstack([parts.links, np.array(closing, np.int64).reshape(-1, 4)])
    final_costs = [[graph, acoustic] for graph, acoustic, _ in parts.finals.values()]
    costs = np.vstack([parts.costs, np.array(final_costs, np.float64).reshape(-1, 2)])
    strings = [*parts.strings, *(pdfs for _, _, pdfs in parts.finals.values())]
    lengths = np.array([len(string) for string in strings], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    pdfs = np.array([pdf for string in strings for pdf in string], np.int32)
    order, links, chosen = _ordered(parts.start, links, {end: ()})
    frame = _frames(order, links, lengths[chosen])
    source, target, _, word = links.T.astype(np.int32)
    graph, acoustic = costs[chosen].T.astype(np.float32)
    start = np.where(target == len(order) - 1, frame[-1], frame[source]).astype(np.int32)
    return WordLattice(
        frame, source, target, word, graph, acoustic, start, *take_strings(offsets, pdfs, chosen)
    )  # fmt: skip


def expand(lattice: WordLattice) -> Lattice:
    """Return the lattice in which each arc's pdfs are links of their own, its word and costs on the first."""
    rows: List[List[int]] = []
    costs: List[Tuple[float, float]] = []
    new = len(lattice.frame)
    for arc in range(len(lattice.source)):
        pdfs = lattice.pdfs_of(arc).tolist() or [-1]
        source, last = int(lattice.source[arc]), int(lattice.target[arc])
        weight, word = (float(lattice.graph[arc]), float(lattice.acoustic[arc])), int(lattice.word[arc])
        for place, pdf in enumerate(pdfs):
            target = last if place == len(pdfs) - 1 else new
            rows.append([source, target, pdf + 1, word])
            costs.append(weight)
            source, word, weight = target, 0, (0.0, 0.0)
            new += target == new
    links = np.array(rows, np.int64).reshape(-1, 4)
    finals: Dict[int, Tuple[float, float, Sequence[int]]] = {len(lattice.frame) - 1: (0.0, 0.0, ())}
    return to_lattice(Parts(0, links, np.array(costs, np.float64).reshape(-1, 2), (), finals))


def _ordered(start: int, links: np.ndarray, finals: Dict) -> Tuple[List[int], np.ndarray, np.ndarray]:
    """Return the states on paths, each before those that it leads to; the links between them, with the states' new
    numbers, sorted by source; and which links these are."""
    leaving: Dict[int, List[int]] = {}
    for link, source in enumerate(links[:, 0].tolist()):
        leaving.setdefault(source, []).append(link)
    targets = links[:, 1].tolist()
    order: List[int] = []  # depth first, a state once all that it leads to is done
    ends: Set[int] = set()  # states that lead to an end
    opened = {start}
    done: Set[int] = set()
    stack = [(start, iter(leaving.get(start, [])))]
    while stack:
        state, rest = stack[-1]
        link = next(rest, -1)
        if link < 0:
            stack.pop()
            done.add(state)
            if state in finals or any(targets[other] in ends for other in leaving.get(state, [])):
                ends.add(state)
                order.append(state)
            continue
        target = targets[link]
        if target not in opened:
            opened.add(target)
            stack.append((target, iter(leaving.get(target, []))))
        elif target not in done:
            raise DataError(f"a cycle through state {target}", remedy="a lattice has none: write it again")
    if not order:
        raise DataError("no path leads to a final state", remedy="leave the utterance out, or write it again")
    order.reverse()
    states, place = np.sort(order), np.argsort(order)
    at = np.minimum(np.searchsorted(states, links[:, :2]), len(states) - 1)
    renumbered = links.copy()
    renumbered[:, :2] = np.where(states[at] == links[:, :2], place[at], -1)
    chosen = np.flatnonzero((renumbered[:, :2] >= 0).all(1))
    chosen = chosen[np.argsort(renumbered[chosen, 0], kind="stable")]
    return order, renumbered[chosen], chosen


def _frames(order: Sequence[int], links: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the frames before each node."""
    frame = np.full(len(order), -1, np.int32)
    frame[0] = 0
    for (source, target), length in zip(links[:, :2].tolist(), lengths.tolist(), strict=True):
        reached = frame[source] + length
        if frame[target] not in (-1, reached):
            what = f"ways of {frame[target]} and of {reached} frames to state {order[target]}"
            raise DataError(what, remedy="write it again with one label a frame")
        frame[target] = reached
    return frame
