"""The edit distance of many hypotheses of one reference: the number of errors alone, without the alignment.

It is that of score/wer.py, D(i, j) = min(D(i-1, j-1) + [ref_i != hyp_j], D(i-1, j) + 1, D(i, j-1) + 1), with one row of
D held, and compiled: lists of a thousand hypotheses want it.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Dict, Sequence

import numpy as np

from hybrid.compiled import compiled


def edit_distances(reference: Sequence[str], hypotheses: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the fewest substitutions, insertions and deletions that make the reference each hypothesis: int64 [n]."""
    number: Dict[str, int] = {}
    words = [number.setdefault(word, len(number)) for word in chain(reference, *hypotheses)]
    ends = np.cumsum([len(reference), *map(len, hypotheses)])
    distances = np.empty(len(hypotheses), np.int64)
    _distances(np.array(words, np.int64), ends, distances)
    return distances


@compiled
def _distances(words: Any, ends: Any, distances: Any) -> None:
    """Write into distances[n] that of words[:ends[0]] to each of words[ends[i]:ends[i + 1]]."""
    length = ends[0]
    for index in range(distances.shape[0]):
        begin, end = ends[index], ends[index + 1]
        row = np.arange(end - begin + 1)
        for i in range(length):
            diagonal = row[0]
            row[0] = i + 1
            for j in range(begin, end):
                above = row[j - begin + 1]
                best = min(diagonal + (words[i] != words[j]), min(above, row[j - begin]) + 1)
                row[j - begin + 1] = best
                diagonal = above
        distances[index] = row[end - begin]
