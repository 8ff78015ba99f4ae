"""The automaton of phrases: what each of their words is worth, so that a whole phrase is worth its weight.

The words of phrases lie in a trie whose nodes c are beginnings of phrases (Aho and Corasick, "Efficient string
matching", CACM 18, 1975; icefall's and sherpa's ContextGraph). With

    fail(c)  the longest proper end of c that is a node as well
    won(c)   the sum of the weights of all phrases that c ends with
    lent(c)  the largest w * length(c) / length(p) over phrases p that c begins, p longer than c, and `most_lent` at
             most: a loan as wide as the beam would drop all that does not take it; lent(root) = 0

a word that leads from node c to c' costs  lent(c) - lent(c') - won(c'),  and going back from c to fail(c) costs
lent(c) - lent(fail(c)): what a beginning was lent, so that the search does not drop it, it gives back where it does not
become a phrase. Whatever the path, lent sums to 0.
"""

from __future__ import annotations

import math
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np


class Trie(NamedTuple):
    """Nodes that have words after them, the root first. Of node c: the words after it, rising, word[first[c] ..
    first[c + 1]], with the node that each leads to and what is gained by it; fail and the cost of going there."""

    first: np.ndarray
    word: np.ndarray
    node: np.ndarray
    gain: np.ndarray
    fail: np.ndarray
    fail_cost: np.ndarray


def phrase_trie(phrases: Iterable[Tuple[Sequence[int], float]], most_lent: float = math.inf) -> Trie:
    """Return the automaton of phrases: word ids, at least one, and a weight above 0; of two that are alike the second
    counts."""
    weights = {tuple(words): float(weight) for words, weight in phrases}
    after: List[Dict[int, int]] = [{}]
    won, lent = [0.0], [0.0]
    for words, weight in sorted(weights.items()):
        node = 0
        for place, word in enumerate(words):
            if place:
                lent[node] = max(lent[node], min(weight * place / len(words), most_lent))
            if word not in after[node]:
                after[node][word] = len(after)
                after.append({})
                won.append(0.0)
                lent.append(0.0)
            node = after[node][word]
        won[node] = weight
    fail = [0] * len(after)
    queue = [0]
    for node in queue:
        for word, child in sorted(after[node].items()):
            queue.append(child)
            if node:
                back = fail[node]
                while back and word not in after[back]:
                    back = fail[back]
                fail[child] = after[back].get(word, 0)
            won[child] += won[fail[child]]
    live = list(range(len(after)))  # a node that nothing follows is the one that it fails to
    for node in queue[1:]:
        live[node] = node if after[node] else live[fail[node]]
    number = {node: place for place, node in enumerate(node for node in queue if after[node])}
    number.setdefault(0, 0)
    nodes = list(number)
    rows = [sorted(after[node].items()) for node in nodes]
    arcs = [(word, child, lent[live[child]] + won[child] - lent[node])
            for node, row in zip(nodes, rows, strict=True) for word, child in row]  # fmt: skip
    return Trie(
        np.cumsum([0, *map(len, rows)]).astype(np.int64),
        np.array([word for word, _, _ in arcs], np.uint32),
        np.array([number[live[child]] for _, child, _ in arcs], np.int64),
        np.array([gain for _, _, gain in arcs], np.float32),
        np.array([number[live[fail[node]]] for node in nodes], np.int64),
        np.array([lent[node] - lent[live[fail[node]]] for node in nodes], np.float32),
    )
