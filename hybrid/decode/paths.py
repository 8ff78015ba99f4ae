"""Best paths, n-best lists and posteriors of any lattice whose links are sorted so that one pass over them goes
forward.

source, target: int32 [links], nodes; costs: float64 [links]; final: [nodes], the cost of ending in each, inf where no
path ends. Node 0 is the first.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from hybrid.compiled import compiled


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
    """A sequence of an n-best list: word ids, and the cost of its best path; part: what of `parts` is on that path."""

    words: Tuple[int, ...]
    cost: float
    part: float = 0.0


def nothing(frames: int) -> Hypothesis:
    """Return the hypothesis of an utterance through which no path leads."""
    return Hypothesis((), (), np.zeros(0, np.int32), float("inf"), False, frames)


def nbest(
    source: np.ndarray, target: np.ndarray, words: np.ndarray, costs: np.ndarray, final: np.ndarray, number: int,
    parts: Optional[np.ndarray] = None,
) -> List[Entry]:  # fmt: skip
    """Return the `number` word sequences of the lowest costs, the best first; no sequence twice.

    words: int32 [links], word ids, 0 for none; parts: [links], what is summed along each path beside its cost. A search
    from the best on (A*): a path as far as a node is followed by its cost so far and the least cost from there to an
    end, which is known exactly, so that whole paths come out in the order of their costs. Of the paths that have the
    same words as far as the same node only the first, the best, is followed.
    """
    ahead = costs_ahead(source, target, costs, final)
    links = np.argsort(source, kind="stable")
    first = np.searchsorted(source[links], np.arange(len(final) + 1))
    histories: List[Tuple[int, int]] = [(-1, 0)]  # of words: history before, word
    known: Dict[Tuple[int, int], int] = {}
    seen: Set[Tuple[int, int]] = set()
    entries: List[Entry] = []
    end = len(final)  # stands for the end of a path
    heap = [(float(ahead[0]), 0, 0, 0.0)] if len(final) and np.isfinite(ahead[0]) else []
    while heap and len(entries) < number:
        cost, node, history, part = heapq.heappop(heap)
        if (node, history) in seen:
            continue
        seen.add((node, history))
        if node == end:
            entries.append(Entry(_spelt(histories, history), cost, part))
            continue
        before = cost - ahead[node]
        if np.isfinite(final[node]):
            heapq.heappush(heap, (before + float(final[node]), end, history, part))
        for link in links[first[node] : first[node + 1]].tolist():
            reached, word, after = int(target[link]), int(words[link]), history
            if not np.isfinite(ahead[reached]):
                continue
            if word:
                after = known.setdefault((history, word), len(histories))
                if after == len(histories):
                    histories.append((history, word))
            if (reached, after) not in seen:
                total = before + float(costs[link] + ahead[reached])
                more = 0.0 if parts is None else float(parts[link])
                heapq.heappush(heap, (total, reached, after, part + more))
    return entries


@compiled
def best_path(source, target, costs, final):
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
def costs_before(source, target, costs, nodes):
    """Return the least cost from the first node to each."""
    before = np.full(nodes, np.inf)
    before[0] = 0.0
    for link in range(len(source)):
        before[target[link]] = min(before[target[link]], before[source[link]] + costs[link])
    return before


@compiled
def costs_ahead(source, target, costs, final):
    """Return the least cost from each node to an end."""
    ahead = final.astype(np.float64)
    for link in range(len(source) - 1, -1, -1):
        ahead[source[link]] = min(ahead[source[link]], costs[link] + ahead[target[link]])
    return ahead


@compiled
def log_add(a, b):
    """Return log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == -np.inf else a + np.log1p(np.exp(b - a))


@compiled
def posteriors(source, target, costs, final):
    nodes = len(final)
    alpha = np.full(nodes, -np.inf)
    alpha[0] = 0.0
    for link in range(len(source)):
        alpha[target[link]] = log_add(alpha[target[link]], alpha[source[link]] - costs[link])
    beta = -final.astype(np.float64)
    for link in range(len(source) - 1, -1, -1):
        beta[source[link]] = log_add(beta[source[link]], beta[target[link]] - costs[link])
    total = beta[0]
    posteriors = np.empty(len(source), np.float64)
    for link in range(len(source)):
        posteriors[link] = np.exp(alpha[source[link]] - costs[link] + beta[target[link]] - total)
    return posteriors, total
