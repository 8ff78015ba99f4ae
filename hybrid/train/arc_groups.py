"""The arcs of a graph with those that several states share written once.

T [K, N] is the matrix of arc probabilities from a state to a slot (forward_backward.py). A denominator's states differ
in how they were entered: those of one history of the phone LM that stand for the same phone with other pdfs go on to
the same phones, with the same weights, and differ in their loops alone. So their columns of T are equal but for the
loops, and

    T = A B,    A [K, G + N] = [columns of the G groups | loops],    B [G + N, N] = [one row a group: its states | I],

exactly: T alpha = A (B alpha), and T' w = B' (A' w). Of 386,309 arcs of 2,445 states, a phone LM of 158 phones with
biphone senones, A has 125,846.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

WORTH = 0.75  # of the elements of T at most, or it is not parted


def part(slot: np.ndarray, src: np.ndarray, dst: np.ndarray, weight: np.ndarray, shape: Tuple[int, int]) -> Any:
    """Return (A, B) of arcs [arcs], CSR float64; shape: (K, N). Where that would spare little, (T, None)."""
    from scipy.sparse import csr_matrix

    groups = _groups(slot, src, dst, weight, shape[1])
    if groups is not None:
        group, first, loop = groups
        number = len(first)
        kept = loop | np.isin(src, first)  # the arcs of a group are those of its first state
        column = np.where(loop, number + src, group[src])[kept]
        arcs = csr_matrix((weight[kept], (slot[kept], column)), shape=(shape[0], number + shape[1]))
        states = np.arange(shape[1])
        rows = np.concatenate([group, number + states])
        gather = csr_matrix((np.ones(len(rows)), (rows, np.tile(states, 2))), shape=(number + shape[1], shape[1]))
        if arcs.nnz + gather.nnz < WORTH * len(weight):
            return arcs, gather
    return csr_matrix((weight, (slot, src)), shape=shape), None


def _groups(
    slot: np.ndarray, src: np.ndarray, dst: np.ndarray, weight: np.ndarray, num_states: int
) -> Optional[Tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return the group of each state [N], the first state of each group [G], and which arcs are loops, bool [arcs].

    A state's loop is the heaviest arc from it to itself: the same phone once more is an arc to itself, too, and as rare
    as other phones. None: there are no arcs.
    """
    if not len(src):
        return None
    loop = np.zeros(len(src), dtype=bool)
    own = np.flatnonzero(src == dst)
    own = own[np.lexsort((-weight[own], src[own]))]
    loop[own[np.diff(src[own], prepend=-1) > 0]] = True
    order = np.lexsort((slot, src))
    order = order[~loop[order]]
    bounds = np.searchsorted(src[order], np.arange(num_states + 1))
    slots, weights = slot[order], weight[order]
    numbers: Dict[bytes, int] = {}
    group = np.zeros(num_states, dtype=np.int64)
    first: List[int] = []
    for state in range(num_states):
        span = slice(bounds[state], bounds[state + 1])
        key = slots[span].tobytes() + weights[span].tobytes()
        group[state] = numbers.setdefault(key, len(numbers))
        if len(numbers) > len(first):
            first.append(state)
    return group, np.asarray(first), loop
