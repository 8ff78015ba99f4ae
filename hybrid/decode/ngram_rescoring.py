"""Lattices of words with another n-gram model in the place of the first pass's: Kaldi's lattice-lmrescore-const-arpa.

A lattice's graph costs hold -log p of the model that the graph was made of, mixed with pronunciations and transitions.
Along each path the first model's cost is taken off and the second's put on, so a node is parted into as many as there
are histories that lead to it and that either model tells apart: of the words before, the longest row that either lists
as an n-gram shorter than its order. Each state (node, history) has the best way to it. To that is added the least cost
ahead in the lattice as it was; a state whose sum is more than `beam` above the lowest of its frame, where paths have
about the same words behind them, goes no further. Where more than `most` arcs are followed, the beam is halved until
they are fewer: memory is bounded whatever the lattice and the models are. (Models are arrays of some 12 bytes an
n-gram, lm/arrays.py.)

Words that the second model lacks, and that it has no unknown word for, keep their first cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Mapping, Optional, Tuple

import numpy as np

from hybrid.compiled import compiled
from hybrid.decode import paths
from hybrid.decode.word_lattice import WordLattice, take_strings
from hybrid.errors import DataError
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.model import LN10
from hybrid.lm.text import END, START
from hybrid.lm.trie import find_row, log10_prob

BEAM = 8.0
MOST = 1_000_000  # arcs of one lattice


@dataclass(frozen=True)
class Rescored:
    """lattice: with the first pass's graph costs, a path for each word sequence that is left; difference: float32
    [arcs], what the second model's cost of an arc is above the first's, natural log. beam: the one that fitted."""

    lattice: WordLattice
    difference: np.ndarray
    beam: float

    def scaled(self, lm_scale: float = 1.0) -> WordLattice:
        """Return the lattice with a share of the second model's cost and the rest of the first's: 0 is the first pass,
        1 the second model alone."""
        graph = self.lattice.graph.astype(np.float64) + lm_scale * self.difference.astype(np.float64)
        return replace(self.lattice, graph=graph.astype(np.float32))


class NgramRescorer:
    """first: the model whose costs the lattices hold, None for none; second: the one that is to take its place; words:
    {word: its id in the lattices}."""

    def __init__(self, first: Optional[NgramArrays], second: NgramArrays, words: Mapping[str, int]) -> None:
        self.names = {number: word for word, number in words.items()}
        self.has_first = first is not None
        models = (second if first is None else first, second)
        self._history = max(max(model.order for model in models) - 1, 1)
        self._tables = [ModelTable.of(model, words) for model in models]

    def __call__(
        self, lattice: WordLattice, *, acoustic_scale: float = 1.0, word_penalty: float = 0.0, lm_scale: float = 1.0,
        beam: float = BEAM, most: int = MOST,
    ) -> Rescored:  # fmt: skip
        """Return the lattice with the second model's costs beside the first's.

        acoustic_scale, word_penalty, lm_scale: at which the beam holds. Raises DataError for a word that the first
        model lacks: then it is not the one of these lattices.
        """
        first, second = self._tables
        if self.has_first:
            check_first(first, lattice, self.names)
        costs = lattice.costs(acoustic_scale, word_penalty)
        ahead = paths.costs_ahead(lattice.source, lattice.target, costs, lattice.final)
        begin = np.searchsorted(lattice.source, np.arange(len(lattice.frame) + 1))
        while True:
            fits, arc, source, target, difference, state_node = _expand(
                lattice.frame, begin, lattice.target, lattice.word, costs, ahead, self._history, self.has_first,
                first.number, *first.arrays, second.number, *second.arrays, lm_scale, beam, most,
            )  # fmt: skip
            if fits:
                return rescored(lattice, arc, source, target, difference, state_node, beam)
            beam /= 2.0


@dataclass(frozen=True)
class ModelTable:
    """number: int32, of each word id its number in the model, -1 where it lacks it, and last that of <s>; arrays: ids,
    children, logprob, backoff, order, the number of </s>."""

    number: np.ndarray
    arrays: Tuple[Any, ...]

    @classmethod
    def of(cls, model: NgramArrays, words: Mapping[str, int]) -> ModelTable:
        number = np.full(max(words.values(), default=0) + 2, -1, np.int32)
        number[list(words.values())] = model.numbers(list(words))
        number[-1], end = (model.number_of.get(name, -1) for name in (START, END))
        return cls(number, (model.ids, model.children, model.logprob, model.backoff, model.order, end))


def check_first(first: ModelTable, lattice: WordLattice, names: Mapping[int, str]) -> None:
    """Raise DataError for a word of the lattice that the first pass's model lacks. names: {word id: word}."""
    spoken = np.unique(lattice.word[lattice.word != 0])
    known = spoken < len(first.number) - 1
    known[known] = first.number[spoken[known]] >= 0
    if not known.all():
        word = int(spoken[~known][0])
        raise DataError(
            f"the first pass's language model lacks the word {names.get(word, word)} of the lattice",
            remedy="give the model that the graph was made of",
        )


def rescored(
    lattice: WordLattice, arc: np.ndarray, source: np.ndarray, target: np.ndarray, difference: np.ndarray,
    state_node: np.ndarray, beam: float,
) -> Rescored:  # fmt: skip
    """Make a lattice of arcs between states: those on a way to the end, states in the order of their nodes."""
    order = np.argsort(state_node, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    source, target = rank[source], rank[target]
    by_source = np.argsort(source, kind="stable")
    arc, source, target, difference = arc[by_source], source[by_source], target[by_source], difference[by_source]
    final = np.full(len(order), np.inf)
    final[-1] = 0.0
    alive = np.isfinite(paths.costs_ahead(source, target, np.zeros(len(source)), final))
    kept = np.flatnonzero(alive[target])
    arc = arc[kept]
    offsets, pdfs = take_strings(lattice.offsets, lattice.pdfs, arc)
    whole = WordLattice(
        frame=lattice.frame[state_node[order]], source=source[kept].astype(np.int32),
        target=target[kept].astype(np.int32), word=lattice.word[arc], graph=lattice.graph[arc],
        acoustic=lattice.acoustic[arc], start=lattice.start[arc], offsets=offsets, pdfs=pdfs,
        beam=min(lattice.beam, beam), reached_final=lattice.reached_final,
    )  # fmt: skip
    return Rescored(whole.select(np.arange(len(arc))), difference[kept].astype(np.float32), beam)


@compiled
def _cut(row, length, first_number, ids1, children1, order1, second_number, ids2, children2, order2, work):  # type: ignore[no-untyped-def]
    """Return how many of the last words of row[:length] either model tells apart as a history."""
    for begin in range(length):
        size = length - begin
        for model in range(2):
            number, ids, children, order = (
                (first_number, ids1, children1, order1) if model == 0 else (second_number, ids2, children2, order2)
            )
            if size >= order:
                continue
            for place in range(size):
                work[place] = number[row[begin + place]]
            if work[0] >= 0 and find_row(ids, children, work, 0, size) >= 0:
                return size
    return 0


@compiled
def ngram_cost(row, length, number, ids, children, logprob, backoff, order, word, work):  # type: ignore[no-untyped-def]
    """Return -log p(word | row[:length]), inf for 0; `word` by its number in the model."""
    begin = max(0, length - order + 1)
    for place in range(begin, length):
        work[place - begin] = number[row[place]]
    work[length - begin] = word
    score, _ = log10_prob(ids, children, logprob, backoff, work, 0, length - begin)
    return -LN10 * score


@compiled
def _difference(  # type: ignore[no-untyped-def]
    row, length, has_first, number1, ids1, children1, logprob1, backoff1, order1, word1, number2, ids2, children2,
    logprob2, backoff2, order2, word2, work,
):  # fmt: skip
    """Return what the second model's cost of a word is above the first's; 0 where the second lacks it."""
    after = ngram_cost(row, length, number2, ids2, children2, logprob2, backoff2, order2, word2, work)
    if after == np.inf:
        return 0.0
    if not has_first:
        return after
    before = ngram_cost(row, length, number1, ids1, children1, logprob1, backoff1, order1, word1, work)
    return after - before if before < np.inf else 0.0


@compiled
def _expand(  # type: ignore[no-untyped-def]
    frame, begin, target, word, costs, ahead, history, has_first, number1, ids1, children1, logprob1, backoff1, order1,
    end1, number2, ids2, children2, logprob2, backoff2, order2, end2, lm_scale, beam, most,
):  # fmt: skip
    """Return whether the arcs fit, and of each arc that is followed its arc in the lattice, the states that it leaves
    and reaches, and the difference of the models' costs; and the node of each state, of which the end has one.

    begin [nodes + 1]: where the arcs of each node begin. A state's history is rows[state, :lengths[state]], word ids.
    """
    nodes = len(begin) - 1
    room = 1024
    rows = np.empty((room, history), np.int32)
    lengths = np.empty(room, np.int32)
    cost = np.empty(room)
    node_of = np.empty(room, np.int32)
    chain = np.empty(room, np.int32)  # the next state of the same node
    newest = np.full(nodes, -1, np.int32)
    arcs_room = 4096
    of_arc = np.empty(arcs_room, np.int32)
    source = np.empty(arcs_room, np.int32)
    to = np.empty(arcs_room, np.int32)
    difference = np.empty(arcs_room)
    work = np.empty(history + 2, np.int32)
    row = np.empty(history + 1, np.int32)
    states, arcs = 1, 0
    rows[0, 0] = len(number1) - 1
    lengths[0], cost[0], node_of[0], chain[0] = 1, 0.0, 0, -1
    newest[0] = 0
    lowest = np.full(frame.max() + 1, np.inf)  # of a frame's states, with the cost ahead
    lowest[frame[0]] = ahead[0]
    for node in range(nodes):
        state = newest[node]
        while state >= 0:
            if cost[state] + ahead[node] > lowest[frame[node]] + beam:
                state = chain[state]
                continue
            for arc in range(begin[node], begin[node + 1]):
                length = lengths[state]
                for place in range(length):
                    row[place] = rows[state, place]
                extra = 0.0
                said = word[arc]
                if said != 0:
                    extra = _difference(
                        row, length, has_first, number1, ids1, children1, logprob1, backoff1, order1, number1[said],
                        number2, ids2, children2, logprob2, backoff2, order2, number2[said], work,
                    )  # fmt: skip
                    if length == history:
                        for place in range(1, length):
                            row[place - 1] = row[place]
                        length -= 1
                    row[length] = said
                    length += 1
                    kept = _cut(
                        row, length, number1, ids1, children1, order1, number2, ids2, children2, order2, work
                    )  # fmt: skip
                    for place in range(kept):
                        row[place] = row[length - kept + place]
                    length = kept
                reached = target[arc]
                if reached == nodes - 1:
                    extra += _difference(
                        row, length, has_first, number1, ids1, children1, logprob1, backoff1, order1, end1, number2,
                        ids2, children2, logprob2, backoff2, order2, end2, work,
                    )  # fmt: skip
                    length = 0
                total = cost[state] + costs[arc] + lm_scale * extra
                lowest[frame[reached]] = min(lowest[frame[reached]], total + ahead[reached])
                other = newest[reached]
                while other >= 0:
                    same = lengths[other] == length
                    for place in range(length):
                        same = same and rows[other, place] == row[place]
                    if same:
                        break
                    other = chain[other]
                if other < 0:
                    if states == room:
                        room *= 2
                        grown = np.empty((room, history), np.int32)
                        grown[:states] = rows
                        rows = grown
                        lengths, node_of, chain = _grown(lengths), _grown(node_of), _grown(chain)
                        cost = _grown(cost)
                    other = states
                    states += 1
                    for place in range(length):
                        rows[other, place] = row[place]
                    lengths[other], cost[other], node_of[other] = length, total, reached
                    chain[other] = newest[reached]
                    newest[reached] = other
                elif total < cost[other]:
                    cost[other] = total
                if arcs == most:
                    return False, of_arc[:0], source[:0], to[:0], difference[:0], node_of[:0]
                if arcs == arcs_room:
                    arcs_room *= 2
                    of_arc, source, to = _grown(of_arc), _grown(source), _grown(to)
                    difference = _grown(difference)
                of_arc[arcs], source[arcs], to[arcs], difference[arcs] = arc, state, other, extra
                arcs += 1
            state = chain[state]
    return True, of_arc[:arcs], source[:arcs], to[:arcs], difference[:arcs], node_of[:states]


@compiled
def _grown(values):  # type: ignore[no-untyped-def]
    """Return an array of twice the size that begins with these values."""
    larger = np.empty(2 * len(values), values.dtype)
    larger[: len(values)] = values
    return larger
