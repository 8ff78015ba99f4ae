"""A lattice: every path that a search found within its lattice beam, graph and acoustic costs apart.

So acoustic scale and word insertion penalty can be chosen without another search: the cost of a path is

    sum over its links of graph + scale * acoustic + penalty * [the link has a word],

and one pass over the links, in the order of time, gives the best path of each choice (Kaldi's lattice-scale and
lattice-add-penalty before lattice-best-path). What the search did not find cannot come back: far from the scale that it
was done with, a lattice is too small.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from typing import Dict, List, NamedTuple, Sequence, Set, Tuple, cast

import numpy as np

from hybrid.decode.search import RawLattice
from hybrid.decode.search_graph import COST, ILABEL, OLABEL, SearchGraph, compiled


@dataclass(frozen=True)
class Hypothesis:
    """What was recognised in one utterance.

    words: word ids, in order; starts: the frame in which each word's label stands on the path (the label stands
    at or near the word's first phone; composition may move it, so take it for an estimate, an alignment for the
    truth). pdfs: int32 [frames], the pdf of each frame; empty where no path survived. cost: natural log, graph cost
    plus scaled acoustic cost. reached_final: False where the words are the best unfinished path, or none.
    """

    words: Tuple[int, ...]
    starts: Tuple[int, ...]
    pdfs: np.ndarray
    cost: float
    reached_final: bool
    frames: int


class Entry(NamedTuple):
    """A sequence of an n-best list: word ids, and the cost of its best path."""

    words: Tuple[int, ...]
    cost: float


@dataclass(frozen=True)
class Lattice:
    """frame: int32 [nodes], the frames before each; source, target: int32 [links], nodes; ilabel: int32 [links],
    pdf + 1, 0 for epsilon; olabel: int32 [links], word ids, 0 for none; graph, acoustic: float32 [links], costs,
    natural log, acoustic without a scale; final: float32 [nodes], inf where a path cannot end.

    Node 0 is the first. Links are sorted by their sources in the order of time and epsilons. reached_final: as
    Hypothesis has it.
    """

    frame: np.ndarray
    source: np.ndarray
    target: np.ndarray
    ilabel: np.ndarray
    olabel: np.ndarray
    graph: np.ndarray
    acoustic: np.ndarray
    final: np.ndarray
    reached_final: bool

    @staticmethod
    def from_search(raw: RawLattice, graph: SearchGraph, acoustic_scale: float) -> Lattice:
        """Return the lattice of a search over `graph` whose log-likelihoods were scaled by acoustic_scale."""
        arcs = 4 * raw.arc.astype(np.int64)
        return Lattice(
            raw.frame, raw.source, raw.target, graph.arcs[arcs + ILABEL].astype(np.int32),
            graph.arcs[arcs + OLABEL].astype(np.int32), graph.costs[arcs + COST],
            raw.acoustic / np.float32(acoustic_scale), raw.final, raw.reached_final,
        )  # fmt: skip

    @property
    def num_frames(self) -> int:
        return int(self.frame.max(initial=0))

    def costs(self, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> np.ndarray:
        """Return the cost of each link, float64 [links]."""
        costs = self.graph.astype(np.float64) + acoustic_scale * self.acoustic.astype(np.float64)
        return costs + word_penalty * (self.olabel != 0) if word_penalty else costs

    def best_path(self, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> Hypothesis:
        """Return the path of the lowest cost."""
        links, cost = self._best_links(acoustic_scale, word_penalty)
        words = self.olabel[links]
        said = words != 0
        starts = np.minimum(self.frame[self.source[links[said]]], max(self.num_frames - 1, 0))
        ilabels = self.ilabel[links]
        pdfs = (ilabels[ilabels != 0] - 1).astype(np.int32)
        words, starts = tuple(words[said].tolist()), tuple(starts.tolist())
        return Hypothesis(words, starts, pdfs, float(cost), self.reached_final, self.num_frames)

    def best_words(self, points: Sequence[Tuple[float, float]]) -> List[Tuple[int, ...]]:
        """Return the words of the best path at each point (acoustic scale, word insertion penalty)."""
        words = []
        for scale, penalty in points:
            path = self.olabel[self._best_links(scale, penalty)[0]]
            words.append(tuple(path[path != 0].tolist()))
        return words

    def _best_links(self, acoustic_scale: float, word_penalty: float) -> Tuple[np.ndarray, float]:
        return cast(
            Tuple[np.ndarray, float],
            _best_path(self.source, self.target, self.costs(acoustic_scale, word_penalty), self.final),
        )

    def nbest(self, number: int, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> List[Entry]:
        """Return the `number` word sequences of the lowest costs, the best first; no sequence twice.

        A search from the best on (A*): a path as far as a node is followed by its cost so far and the least cost from
        there to an end, which is known exactly, so that whole paths come out in the order of their costs. Of the paths
        that have the same words as far as the same node only the first, the best, is followed.
        """
        costs = self.costs(acoustic_scale, word_penalty)
        ahead = _costs_ahead(self.source, self.target, costs, self.final)
        first = np.searchsorted(self._by_source[0], np.arange(len(self.final) + 1))
        links = self._by_source[1]
        histories: List[Tuple[int, int]] = [(-1, 0)]  # of words: history before, word
        known: Dict[Tuple[int, int], int] = {}
        seen: Set[Tuple[int, int]] = set()
        entries: List[Entry] = []
        end = len(self.final)  # stands for the end of a path
        heap = [(float(ahead[0]), 0, 0)] if np.isfinite(ahead[0]) else []
        while heap and len(entries) < number:
            cost, node, history = heapq.heappop(heap)
            if (node, history) in seen:
                continue
            seen.add((node, history))
            if node == end:
                entries.append(Entry(_spelt(histories, history), cost))
                continue
            before = cost - ahead[node]
            if np.isfinite(self.final[node]):
                heapq.heappush(heap, (before + float(self.final[node]), end, history))
            for link in links[first[node] : first[node + 1]].tolist():
                target, word, after = int(self.target[link]), int(self.olabel[link]), history
                if not np.isfinite(ahead[target]):
                    continue
                if word:
                    after = known.setdefault((history, word), len(histories))
                    if after == len(histories):
                        histories.append((history, word))
                if (target, after) not in seen:
                    heapq.heappush(heap, (before + float(costs[link] + ahead[target]), target, after))
        return entries

    @cached_property
    def _by_source(self) -> Tuple[np.ndarray, np.ndarray]:
        """The sources in rising order, and the links in that order."""
        order = np.argsort(self.source, kind="stable")
        return self.source[order], order

    def posteriors(self, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> Tuple[np.ndarray, float]:
        """Return the posterior of each link, float64 [links], and the log of the sum over all paths of exp(-cost).

        alpha(n) = log sum over links into n of exp(alpha(source) - cost), beta likewise from the end, and the posterior
        of a link exp(alpha(source) - cost + beta(target) - total): Kaldi's lattice-arc-post.
        """
        costs = self.costs(acoustic_scale, word_penalty)
        posteriors, total = _posteriors(self.source, self.target, costs, self.final)
        return posteriors, float(total)


def nothing(frames: int) -> Hypothesis:
    """Return the hypothesis of an utterance through which no path leads."""
    return Hypothesis((), (), np.zeros(0, np.int32), float("inf"), False, frames)


@compiled
def _best_path(source, target, costs, final):
    """Return the links of the best path in their order, and its cost."""
    nodes = len(final)
    best = np.full(nodes, np.inf)
    entered = np.full(nodes, -1, np.int32)
    best[0] = 0.0
    for link in range(len(source)):
        total = best[source[link]] + costs[link]
        if total < best[target[link]]:
            best[target[link]] = total
            entered[target[link]] = link
    end = 0
    cost = np.inf
    for node in range(nodes):
        if best[node] + final[node] < cost:
            end, cost = node, best[node] + final[node]
    length = 0
    node = end
    while entered[node] >= 0:
        length += 1
        node = source[entered[node]]
    links = np.empty(length, np.int64)
    node = end
    while entered[node] >= 0:
        length -= 1
        links[length] = entered[node]
        node = source[entered[node]]
    return links, cost


def _spelt(histories: Sequence[Tuple[int, int]], history: int) -> Tuple[int, ...]:
    words = []
    while history:
        history, word = histories[history]
        words.append(word)
    return tuple(reversed(words))


@compiled
def _costs_ahead(source, target, costs, final):
    """Return the least cost from each node to an end."""
    ahead = final.astype(np.float64)
    for link in range(len(source) - 1, -1, -1):
        ahead[source[link]] = min(ahead[source[link]], costs[link] + ahead[target[link]])
    return ahead


@compiled
def _log_add(a, b):
    if a < b:
        a, b = b, a
    return a if b == -np.inf else a + np.log1p(np.exp(b - a))


@compiled
def _posteriors(source, target, costs, final):
    nodes = len(final)
    alpha = np.full(nodes, -np.inf)
    alpha[0] = 0.0
    for link in range(len(source)):
        alpha[target[link]] = _log_add(alpha[target[link]], alpha[source[link]] - costs[link])
    beta = -final.astype(np.float64)
    for link in range(len(source) - 1, -1, -1):
        beta[source[link]] = _log_add(beta[source[link]], beta[target[link]] - costs[link])
    total = beta[0]
    posteriors = np.empty(len(source), np.float64)
    for link in range(len(source)):
        posteriors[link] = np.exp(alpha[source[link]] - costs[link] + beta[target[link]] - total)
    return posteriors, total
