"""Compiled searches in the arrays of an n-gram model (lm/arrays.py), one model or text at a time.

Every function takes the trie as `ids` (the last word of each n-gram) and `children` (where the n-grams begin that are
one word longer; lm/arrays.py), and words by their numbers, -1 for one that the model lacks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hybrid.compiled import compiled
from hybrid.lm.model import LOG10_ZERO


@compiled
def child_of(ids: Any, children: Any, node: int, word: int) -> Any:
    """Return the n-gram that is `node` and `word` behind it, -1 where it is not listed."""
    if node >= children.shape[0] - 1:  # of the highest order
        return -1
    low, high = np.int64(children[node]), np.int64(children[node + 1])
    end = high
    while low < high:
        middle = (low + high) // 2
        if ids[middle] < word:
            low = middle + 1
        else:
            high = middle
    return low if low < end and ids[low] == word else -1


@compiled
def find_row(ids: Any, children: Any, row: Any, begin: int, end: int) -> Any:
    """Return the n-gram of row[begin:end], -1 where it is not listed."""
    node = np.int64(row[begin])
    for position in range(begin + 1, end):
        if node < 0 or row[position] < 0:
            return -1
        node = child_of(ids, children, node, row[position])
    return node


@compiled
def find_rows(ids: Any, children: Any, rows: Any, nodes: Any) -> None:
    """Write into nodes[N] the n-gram of each of rows[N, k], -1 where it is not listed."""
    for index in range(rows.shape[0]):
        nodes[index] = find_row(ids, children, rows[index], 0, rows.shape[1])


@compiled
def log10_prob(ids: Any, children: Any, logprob: Any, backoff: Any, row: Any, begin: int, end: int) -> Any:
    """Return log10 p(row[end] | row[begin:end]), -inf for 0, and the length of the n-gram that it was found at.

    The history is cut behind the last word in it that the model lacks; of such a word itself it is (-inf, 0).
    """
    word = row[end]
    if word < 0:
        return -np.inf, 0
    for position in range(begin, end):
        if row[position] < 0:
            begin = position + 1
    total = 0.0
    for start in range(begin, end):
        history = find_row(ids, children, row, start, end)
        if history < 0:
            continue
        node = child_of(ids, children, history, word)
        if node >= 0:
            return (total + logprob[node] if logprob[node] > LOG10_ZERO else -np.inf), end - start + 1
        if history < backoff.shape[0]:
            total += backoff[history]
    return (total + logprob[word] if logprob[word] > LOG10_ZERO else -np.inf), 1


@compiled
def score_rows(ids: Any, children: Any, logprob: Any, backoff: Any, rows: Any, scores: Any, orders: Any) -> None:
    """Write into scores[N] (float64) log10 p(last word | words before it) of each of rows[N, k], and into orders[N] the
    lengths of the n-grams that they were found at."""
    for index in range(rows.shape[0]):
        scores[index], orders[index] = log10_prob(ids, children, logprob, backoff, rows[index], 0, rows.shape[1] - 1)


@compiled
def score_text(
    ids: Any, children: Any, logprob: Any, backoff: Any, order: int, text: Any, begins: Any, scores: Any, orders: Any
) -> None:
    """Write into scores[N] and orders[N] what score_rows does, of each word of a text given all before it in its
    sentence. begins[N]: True at the first of a sentence, which is <s> and has no score."""
    first = 0
    for index in range(text.shape[0]):
        if begins[index]:
            first = index
            scores[index], orders[index] = 0.0, 0
            continue
        scores[index], orders[index] = log10_prob(
            ids, children, logprob, backoff, text, max(first, index - order + 1), index
        )
