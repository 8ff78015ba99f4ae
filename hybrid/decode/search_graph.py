"""A decoding graph as the search reads it: arrays, each state's epsilon arcs before its others.

    first[s] .. epsilons[s]       the arcs of state s without an input label
    epsilons[s] .. first[s + 1]   its arcs over a pdf
    arcs[4 a .. 4 a + 3]          input label, output label, cost and next state of arc a
    entering[enter[s] .. enter[s + 1]]   the arcs that lead to state s, and `sources` the states that they leave

An arc is sixteen bytes in one place, so that following it costs one look into memory; the cost is a float32 in an array
of integers, which `costs` shows as what it is. All are unsigned, which saves the compiled loops a test an index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from typing import Optional, Union

import numpy as np

from hybrid.compiled import compiled
from hybrid.errors import ConfigError, GraphError
from hybrid.fst import FstArrays

ILABEL, OLABEL, COST, NEXT = range(4)


@dataclass(frozen=True)
class SearchGraph:
    """start: a state; final: float32 [states], inf where not final; first: uint32 [states + 1]; epsilons: uint32
    [states]; arcs: uint32 [4 arcs]; enter: uint32 [states + 1]; entering, sources: uint32 [arcs]; depth: int32
    [states], rises along every epsilon arc."""

    start: int
    final: np.ndarray
    first: np.ndarray
    epsilons: np.ndarray
    arcs: np.ndarray
    enter: np.ndarray
    entering: np.ndarray
    sources: np.ndarray
    depth: np.ndarray

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
        return replace(self, arcs=arcs)

    @property
    def costs(self) -> np.ndarray:
        """The same memory as `arcs`, in which 4 a + COST is a number."""
        return self.arcs.view(np.float32)

    @staticmethod
    def from_arrays(fst: FstArrays, file: Optional[Union[str, PathLike[str]]] = None) -> SearchGraph:
        """Return the graph of an automaton with a start state.

        Raises GraphError for a cycle of epsilons: a search could go round in it without a frame.
        """
        emitting = fst.arcs["ilabel"] != 0
        order = np.lexsort((emitting, fst.sources))  # stable: arcs keep their order
        if len(order) > 2**30:
            raise GraphError(f"{len(order)} arcs; the search takes 2^30", file=file, remedy="prune the language model")
        arcs = np.empty((len(order), 4), np.uint32)
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
        enter, entering, sources = entering_arcs(first, arcs)
        final = fst.final.astype(np.float32)
        return SearchGraph(fst.start, final, first, epsilons, arcs, enter, entering, sources, depth)


def depths(first: np.ndarray, epsilons: np.ndarray, arcs: np.ndarray) -> Optional[np.ndarray]:
    """Return for each state how long the longest chain of epsilon arcs to it is; None where one is endless."""
    depth = np.zeros(len(epsilons), np.int32)
    return depth if _fill_depths(first, epsilons, arcs, depth) else None


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
