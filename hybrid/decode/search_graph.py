"""A decoding graph as the search reads it: arrays, each state's epsilon arcs before its others.

    first[s] .. epsilons[s]       the arcs of state s without an input label, the cheapest first
    epsilons[s] .. first[s + 1]   its arcs over a pdf, likewise
    arcs[4 a .. 4 a + 3]          input label, output label, cost and next state of arc a
    entering[enter[s] .. enter[s + 1]]   the arcs that lead to state s, and `sources` the states that they leave
    leads[s]                      whether arcs of state s lead to a state that more than WIDE arcs enter: PDF, EPSILON

An arc is sixteen bytes in one place, so that following it costs one look into memory; the cost is a float32 in an array
of integers, which `costs` shows as what it is. All are unsigned, which saves the compiled loops a test an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Optional, Tuple, Union

import numpy as np

from hybrid.compiled import compiled
from hybrid.errors import ConfigError, GraphError
from hybrid.fst import FstArrays

ILABEL, OLABEL, COST, NEXT = range(4)
WIDE = 64  # arcs into a state: where more enter it, as a back-off state, they are found from their sources
PDF, EPSILON = 1, 2


@dataclass(frozen=True)
class SearchGraph:
    """start: a state; final: float32 [states], inf where not final; first: uint32 [states + 1]; epsilons: uint32
    [states]; arcs: uint32 [4 arcs]; enter: uint32 [states + 1]; entering, sources: uint32 [arcs]; depth: int32
    [states], rises along every epsilon arc; leads: uint8 [states]."""

    start: int
    final: np.ndarray
    first: np.ndarray
    epsilons: np.ndarray
    arcs: np.ndarray
    enter: np.ndarray
    entering: np.ndarray
    sources: np.ndarray
    depth: np.ndarray
    leads: np.ndarray

    @staticmethod
    def of(
        start: int, final: np.ndarray, first: np.ndarray, epsilons: np.ndarray, arcs: np.ndarray, depth: np.ndarray
    ) -> SearchGraph:
        """Return the graph of these arrays, with the tables of entering arcs. arcs: are put into the order of their
        costs, in place."""
        sort_arcs(first, epsilons, arcs, arcs.view(np.float32))
        enter, entering, sources = entering_arcs(first, arcs)
        leads = leads_to_wide(first, epsilons, arcs, enter)
        return SearchGraph(start, final, first, epsilons, arcs, enter, entering, sources, depth, leads)

    @property
    def num_states(self) -> int:
        return len(self.final)

    @property
    def num_arcs(self) -> int:
        return len(self.entering)

    @property
    def num_final(self) -> int:
        return int(np.isfinite(self.final).sum())

    @property
    def max_ilabel(self) -> int:
        return int(self.arcs[ILABEL::4].max(initial=0))

    @property
    def max_olabel(self) -> int:
        return int(self.arcs[OLABEL::4].max(initial=0))

    def with_word_penalty(self, penalty: float) -> SearchGraph:
        """Return a copy in which every arc that puts out a word costs `penalty` more, as FstArrays has it."""
        if not np.isfinite(penalty):
            raise ConfigError(f"word insertion penalty {penalty}", remedy="give a finite number")
        arcs = self.arcs.copy()
        arcs.view(np.float32)[COST::4] += np.float32(penalty) * (arcs[OLABEL::4] > 0)
        return SearchGraph.of(self.start, self.final, self.first, self.epsilons, arcs, self.depth)

    @property
    def costs(self) -> np.ndarray:
        """The same memory as `arcs`, in which 4 a + COST is a number."""
        return self.arcs.view(np.float32)

    @staticmethod
    def from_arrays(
        fst: FstArrays, file: Optional[Union[str, PathLike[str]]] = None, *, breadth_first: bool = False
    ) -> SearchGraph:
        """Return the graph of an automaton with a start state. breadth_first: its states are numbered in the order in
        which a search from the start meets them, so that what is followed at a time lies together in memory.

        Raises GraphError for a cycle of epsilons: a search could go round in it without a frame.
        """
        emitting = fst.arcs["ilabel"] != 0
        order = np.lexsort((emitting, fst.sources))  # stable: arcs keep their order
        if len(order) > 2**30:
            raise GraphError(f"{len(order)} arcs; the search takes 2^30", file=file, remedy="prune the language model")
        arcs: np.ndarray = np.empty((len(order), 4), np.uint32)
        for column, name in ((ILABEL, "ilabel"), (OLABEL, "olabel"), (NEXT, "nextstate")):
            arcs[:, column] = fst.arcs[name][order]
        arcs.view(np.float32)[:, COST] = fst.arcs["weight"][order]
        first = fst.offsets.astype(np.uint32)
        counts = np.bincount(fst.sources[~emitting], minlength=fst.num_states)
        epsilons, arcs = (first[:-1] + counts).astype(np.uint32), arcs.reshape(-1)
        depth = depths(first, epsilons, arcs)
        if depth is None:
            raise GraphError(
                "a cycle of epsilon arcs", file=file, remedy="remove epsilons from it (kaldifst.rmepsilon)"
            )
        start, final = fst.start, fst.final.astype(np.float32)
        if breadth_first:
            start, final, first, epsilons, arcs, depth = _renumbered(start, final, first, epsilons, arcs, depth)
        return SearchGraph.of(start, final, first, epsilons, arcs, depth)


def _renumbered(
    start: int, final: np.ndarray, first: np.ndarray, epsilons: np.ndarray, arcs: np.ndarray, depth: np.ndarray
) -> Tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same arrays, with the states in the order of `_breadth_first`."""
    order = _breadth_first(start, first, arcs)
    number = np.empty(len(order), np.uint32)
    number[order] = np.arange(len(order), dtype=np.uint32)
    counts = np.diff(first)[order]
    begins = np.concatenate([np.zeros(1, np.uint32), np.cumsum(counts, dtype=np.uint32)])
    moved = np.repeat(first[order].astype(np.int64) - begins[:-1], counts) + np.arange(len(arcs) // 4)
    rows = arcs.reshape(-1, 4)[moved]
    rows[:, NEXT] = number[rows[:, NEXT]]
    ends = begins[:-1] + (epsilons - first[:-1])[order]
    return int(number[start]), final[order], begins, ends, rows.reshape(-1), depth[order]


def depths(first: np.ndarray, epsilons: np.ndarray, arcs: np.ndarray) -> Optional[np.ndarray]:
    """Return for each state how long the longest chain of epsilon arcs to it is; None where one is endless."""
    depth = np.zeros(len(epsilons), np.int32)
    return depth if _fill_depths(first, epsilons, arcs, depth) else None


@compiled
def sort_arcs(first, epsilons, arcs, costs):
    """Put each state's epsilon arcs, and those over a pdf, into the order of their costs; equals stay as they stand."""
    for state in range(len(epsilons)):
        _sort(arcs, costs, first[state], epsilons[state])
        _sort(arcs, costs, epsilons[state], first[state + 1])


@compiled
def _sort(arcs, costs, low, high):
    """Put the arcs low .. high into the order of their costs."""
    for arc in range(low + 1, high):
        if costs[4 * arc + COST] < costs[4 * (arc - 1) + COST]:
            break
    else:
        return
    order = np.argsort(costs[4 * low + COST : 4 * high : 4], kind="mergesort")
    moved = arcs[4 * low : 4 * high].copy()
    for place in range(len(order)):
        for column in range(4):
            arcs[4 * (low + place) + column] = moved[4 * order[place] + column]


@compiled
def entering_arcs(first, arcs):
    """Return where each state's entering arcs begin, the arcs by the states that they enter, and those they leave."""
    states = len(first) - 1
    number = len(arcs) // 4
    enter = np.zeros(states + 1, np.uint32)
    for arc in range(number):
        enter[arcs[4 * arc + NEXT] + 1] += 1
    for state in range(states):
        enter[state + 1] += enter[state]
    filled = enter[:-1].copy()
    entering = np.empty(number, np.uint32)
    sources = np.empty(number, np.uint32)
    for state in range(states):
        for arc in range(first[state], first[state + 1]):
            target = arcs[4 * arc + NEXT]
            entering[filled[target]] = arc
            sources[filled[target]] = state
            filled[target] += 1
    return enter, entering, sources


@compiled
def _breadth_first(start, first, arcs):
    """Return all states, those that the start leads to in the order of the arcs to them, then the others."""
    states = len(first) - 1
    order = np.empty(states, np.int64)
    seen = np.zeros(states, np.bool_)
    order[0] = start
    seen[start] = True
    met = 1
    done = 0
    while done < met:
        for arc in range(first[order[done]], first[order[done] + 1]):
            target = arcs[4 * arc + NEXT]
            if not seen[target]:
                seen[target] = True
                order[met] = target
                met += 1
        done += 1
    for state in range(states):
        if not seen[state]:
            order[met] = state
            met += 1
    return order


@compiled
def leads_to_wide(first, epsilons, arcs, enter):
    """Return `leads` of all states."""
    leads = np.zeros(len(epsilons), np.uint8)
    for state in range(len(epsilons)):
        for arc in range(first[state], first[state + 1]):
            target = arcs[4 * arc + NEXT]
            if enter[target + 1] - enter[target] > WIDE:
                leads[state] |= EPSILON if arc < epsilons[state] else PDF
    return leads


@compiled
def _fill_depths(first, epsilons, arcs, depth):
    """Kahn's order: a state is done once all epsilon arcs into it have been followed."""
    states = len(epsilons)
    entering = np.zeros(states, np.int32)
    total = 0
    for state in range(states):
        for arc in range(first[state], epsilons[state]):
            entering[arcs[4 * arc + NEXT]] += 1
            total += 1
    stack = np.empty(states, np.uint32)
    top = 0
    for state in range(states):
        if entering[state] == 0 and epsilons[state] > first[state]:
            stack[top] = state
            top += 1
    while top:
        top -= 1
        state = stack[top]
        for arc in range(first[state], epsilons[state]):
            target = arcs[4 * arc + NEXT]
            total -= 1
            depth[target] = max(depth[target], depth[state] + 1)
            entering[target] -= 1
            if entering[target] == 0 and epsilons[target] > first[target]:
                stack[top] = target
                top += 1
    return total == 0
