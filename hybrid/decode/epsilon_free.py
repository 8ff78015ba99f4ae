"""A decoding graph without epsilons, for searches that know none (k2_search.py), and the way back to its own arcs.

An arc over a pdf and the epsilon arcs behind it become one arc. For every chain c of epsilon arcs, the empty one too,
from the target of an arc a to a state q,

    source(a) -> q    label(a),    cost(a) + cost(c),

so that states keep the arcs that leave them: a back-off state with thousands of arcs is entered more often, and nothing
is copied (chains before an arc instead of behind it would give each history all arcs of its back-off states). Only
states q that can go on with a pdf, or end, are entered. Chains from the start state have no arc before them: a start
state of its own has, for each of them, the arcs of its end. Nothing is summed, minimised or pruned: the paths of the
result are those of the graph that have one frame or more, one for one, with the same costs but for rounding.

A chain is named by a number of `Chains`, which shares their ends: the chain n is the arc `arc[n]` and then the chain
`rest[n]`, down to the empty one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Tuple

import numpy as np

from hybrid.compiled import compiled
from hybrid.decode.search_graph import COST, ILABEL, NEXT, SearchGraph
from hybrid.errors import GraphError

MAX_ARCS = 2**30  # of an automaton of k2, and of chains
NONE = -1


@dataclass(frozen=True)
class Chains:
    """Chains of epsilon arcs. first: int64 [states + 1], where those from each state begin; arc: int32 [chains], the
    first arc of each, NONE of the empty one; rest: int32 [chains], the chain behind it; end: int32 [chains], a state;
    cost: float64 [chains]."""

    first: np.ndarray
    arc: np.ndarray
    rest: np.ndarray
    end: np.ndarray
    cost: np.ndarray

    def steps(self, chains: np.ndarray) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield for the first, the second ... arc of chains [N] which of the N have one, and these arcs."""
        rows = np.arange(len(chains))
        while True:
            arcs = self.arc[chains]
            inside = arcs != NONE
            if not inside.any():
                return
            rows, chains = rows[inside], self.rest[chains[inside]]
            yield rows, arcs[inside]


@dataclass(frozen=True)
class EpsilonFree:
    """States 0 (the start, which nothing enters) to num_states - 1; arcs by source, then label.

    source, target: int32 [arcs]; pdf: int32 [arcs], NONE of one that ends a sentence in the last state, which nothing
    leaves; cost: float32 [arcs]. arc: int32 [arcs], of the graph, NONE of one that ends; chain: int32 [arcs], the
    epsilons behind it, or of one that ends its state in the graph; before: int32 [arcs of the start], the epsilons
    before it. open_ended: whether all states end, at no cost, instead of the final ones.
    """

    graph: SearchGraph
    chains: Chains
    num_states: int
    source: np.ndarray
    target: np.ndarray
    pdf: np.ndarray
    cost: np.ndarray
    arc: np.ndarray
    chain: np.ndarray
    before: np.ndarray
    open_ended: bool

    @property
    def num_arcs(self) -> int:
        return len(self.source)

    @staticmethod
    def of(graph: SearchGraph, open_ended: bool = False, max_arcs: int = MAX_ARCS) -> EpsilonFree:
        """Return the graph without epsilons. Raises GraphError where it would have more than max_arcs arcs, or chains,
        whose number grows as the product of parallel epsilons in a row."""
        final = np.zeros_like(graph.final) if open_ended else graph.final
        ends = np.flatnonzero(np.isfinite(final))
        emits = graph.epsilons < graph.first[1:]
        wanted = emits.copy()
        wanted[ends] = True
        chains = _chains(graph, wanted, max_arcs)
        ilabels = graph.arcs[ILABEL::4]
        emitting = np.flatnonzero(ilabels)
        sources = np.searchsorted(graph.first, emitting, side="right") - 1
        targets = graph.arcs[NEXT::4][emitting]
        _check(np.diff(chains.first)[targets].sum() + len(ends), max_arcs)
        rows, chain = _expanded(chains.first[targets], chains.first[targets + 1])
        arc, source = emitting[rows], sources[rows]
        cost = graph.costs[COST::4][arc] + chains.cost[chain]
        begins = np.arange(chains.first[graph.start], chains.first[graph.start + 1])
        at = chains.end[begins]
        low, high = np.searchsorted(source, at), np.searchsorted(source, at, side="right")
        _check((high - low).sum() + len(rows) + len(ends), max_arcs)
        rows, copied = _expanded(low, high)  # the arcs of the start
        places = np.cumsum(wanted)  # 1, 2 ... of the states that are kept
        last = int(places[-1]) + 1
        none = np.full(len(ends), NONE)
        table: List[Tuple[np.ndarray, ...]] = [
            (np.zeros(len(rows), int), source, ends),
            (arc[copied], arc, none),
            (chain[copied], chain, ends),
            (chains.cost[begins][rows] + cost[copied], cost, final[ends]),
        ]  # fmt: skip
        source, arc, chain, cost = (np.concatenate(parts) for parts in table)
        source[len(rows) :] = places[source[len(rows) :]]
        over = arc != NONE
        pdf, target = np.full(len(arc), NONE), np.full(len(arc), last)
        pdf[over] = ilabels[arc[over]].astype(int) - 1
        target[over] = places[chains.end[chain[over]]]
        order = np.lexsort((pdf, source))  # those of the start stay the first
        return EpsilonFree(
            graph, chains, last + 1, source[order].astype(np.int32), target[order].astype(np.int32),
            pdf[order].astype(np.int32), cost[order].astype(np.float32), arc[order].astype(np.int32),
            chain[order].astype(np.int32), begins[rows][order[: len(rows)]].astype(np.int32), open_ended,
        )  # fmt: skip


def _chains(graph: SearchGraph, wanted: np.ndarray, max_arcs: int) -> Chains:
    """The chains from each state to the states wanted."""
    order = np.argsort(-graph.depth, kind="stable")  # the targets of epsilons before their sources
    counts = _count_chains(graph.first, graph.epsilons, graph.arcs, order, wanted)
    _check(counts.sum(), max_arcs)
    first = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts.astype(np.int64), out=first[1:])
    arc, rest, end = (np.empty(first[-1], np.int32) for _ in range(3))
    cost = np.empty(first[-1], np.float64)
    _fill_chains(graph.first, graph.epsilons, graph.arcs, graph.costs, order, wanted, first, arc, rest, end, cost)
    return Chains(first, arc, rest, end, cost)


def _check(number: float, max_arcs: int) -> None:
    if number > max_arcs:
        raise GraphError(
            f"without its epsilons the graph has more than {max_arcs} arcs",
            remedy='use the search that takes epsilons (search="own"), or prune the language model',
        )


def _expanded(begin: np.ndarray, end: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """[2, 7], [4, 8] -> rows [0, 0, 1], numbers [2, 3, 7]."""
    counts = (end - begin).astype(np.int64)
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(len(rows)) + (begin - np.cumsum(counts) + counts)[rows]


@compiled
def _count_chains(first, epsilons, arcs, order, wanted):
    """Return how many chains lead from each state to one that is wanted, as floats: they may be very many."""
    counts = np.zeros(len(epsilons), np.float64)
    for state in order:
        count = 1.0 if wanted[state] else 0.0
        for arc in range(first[state], epsilons[state]):
            count += counts[arcs[4 * arc + NEXT]]
        counts[state] = count
    return counts


@compiled
def _fill_chains(first, epsilons, arcs, costs, order, wanted, begin, chain_arc, chain_rest, chain_end, chain_cost):
    for state in order:
        chain = begin[state]
        if wanted[state]:
            chain_arc[chain], chain_rest[chain], chain_end[chain], chain_cost[chain] = NONE, NONE, state, 0.0
            chain += 1
        for arc in range(first[state], epsilons[state]):
            target = arcs[4 * arc + NEXT]
            for rest in range(begin[target], begin[target + 1]):
                chain_arc[chain], chain_rest[chain], chain_end[chain] = arc, rest, chain_end[rest]
                chain_cost[chain] = costs[4 * arc + COST] + chain_cost[rest]
                chain += 1
