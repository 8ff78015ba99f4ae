"""C and the tree as one automaton: which HMM a phone has after and before others.

A state is what must be remembered of the phones said so far, the last width - 1; the arc over the next phone d puts out
the HMM of the phone in the middle of the window, which is then known whole:

    monophones      () -d-> ()             HMM(d)
    left biphones   (c) -d-> (d)           HMM of d after c
    triphones       (b, c) -d-> (c, d)     HMM of c between b and d; none while c is not there yet

Contexts that the tree does not tell apart, now or later, are one state (partition refinement, Hopcroft 1971): of some
1600 pairs of phones a tree leaves a few hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

from hybrid.errors import ModelError
from hybrid.hmm.phone_hmms import Pdfs
from hybrid.hmm.senones import Senones


@dataclass(frozen=True)
class PhoneContexts:
    """hmm, next: int32 [states, phones], by state and next phone (0: the end): the number of the HMM put out (0: none),
    and the state then; start: before the first phone; hmms: phone and pdfs of HMM 1, 2, ..."""

    hmm: np.ndarray
    next: np.ndarray
    start: int
    hmms: List[Tuple[int, Pdfs]]


def phone_contexts(senones: Senones, follows: np.ndarray) -> PhoneContexts:
    """Make the automaton. follows: bool [phones, phones], whether the second may stand after the first, 0 for the edges
    of an utterance; what cannot be is not asked of the tree. Raises ModelError for what the tree does not cover."""
    width, central = senones.tree.context_width, senones.tree.central_position
    phones = len(follows)
    contexts = phones ** (width - 1)
    topology = {phone: entry.states for entry in senones.topology.entries for phone in entry.phones}
    table = np.zeros((contexts, phones), np.int32)
    hmms: List[Tuple[int, Pdfs]] = []
    for phone in np.flatnonzero(follows.any(axis=0))[1:].tolist():
        windows = _windows(phone, follows, width, central)
        classes = sorted({number for state in topology[phone] for number in (state.forward_class, state.loop_class)})
        pdfs = np.stack(
            [senones.tree.pdfs(windows, np.full(len(windows), number)) for number in classes], axis=1
        )
        if (pdfs < 0).any():
            row, column = np.argwhere(pdfs < 0)[0]
            window = tuple(windows[row].tolist())
            raise ModelError(f"the tree does not cover phones {window}, pdf class {classes[column]}")
        distinct, which = np.unique(pdfs, axis=0, return_inverse=True)
        context = np.zeros(len(windows), np.int64)
        for place in range(width - 1):
            context = context * phones + windows[:, place]
        table[context, windows[:, -1]] = len(hmms) + 1 + which.reshape(-1)
        for row in distinct.tolist():
            pdf = dict(zip(classes, row, strict=True))
            hmms.append((phone, tuple((pdf[state.forward_class], pdf[state.loop_class]) for state in topology[phone])))
    number, first = _classes(table, follows)
    following = _following(contexts, phones)[first]
    return PhoneContexts(table[first], number[following].astype(np.int32), int(number[0]), hmms)


def _windows(phone: int, follows: np.ndarray, width: int, central: int) -> np.ndarray:
    """All windows [n, width] with the phone in its place, of phones that may stand side by side."""
    windows = np.array([[phone]])
    for _ in range(central):
        row, before = np.nonzero(follows[:, windows[:, 0]].T)
        windows = np.concatenate([before[:, None], windows[row]], axis=1)
    for _ in range(width - 1 - central):
        row, after = np.nonzero(follows[windows[:, -1]])
        windows = np.concatenate([windows[row], after[:, None]], axis=1)
    return windows


def _following(contexts: int, phones: int) -> np.ndarray:
    return (np.arange(contexts)[:, None] * phones + np.arange(phones)) % contexts


def _classes(table: np.ndarray, follows: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the class of each context, and the first context of each class."""
    contexts, phones = table.shape
    _, first, number = np.unique(table, axis=0, return_index=True, return_inverse=True)
    number = number.reshape(-1)
    if contexts == 1:
        return number, first
    possible = follows[np.arange(contexts) % phones]
    while True:
        onward = np.where(possible, number[_following(contexts, phones)], -1)
        rows = np.concatenate([number[:, None], onward], axis=1)
        _, first, refined = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        if len(first) == number.max() + 1:
            return number, first
        number = refined.reshape(-1)
