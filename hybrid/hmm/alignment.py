"""What an alignment says: phones and their durations, contexts, and the same in another topology.

An alignment is one transition id a frame. With reordered graphs (self-loops after the transition that leaves
a state) a visit to a state begins at its one transition that is no self-loop, and a phone ends with the
visit whose first transition is final (Kaldi's SplitToPhones with is_reordered = true).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import List, Sequence, Tuple

import numpy as np

from hybrid.errors import DataError, ModelError
from hybrid.hmm.senones import Senones


def phone_segments(tids: np.ndarray, senones: Senones) -> Tuple[np.ndarray, np.ndarray]:
    """Returns phones [n] and durations in frames [n], int32, of tids [T]; the durations sum to T."""
    tids = np.asarray(tids)
    if not len(tids):
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32)
    starts = np.flatnonzero(~senones.is_self_loop[tids])
    final_visits = senones.is_final[tids[starts]]
    # The phone after a final visit begins where the next visit begins.
    begins = np.r_[0, starts[1:][final_visits[:-1]]]
    durations = np.diff(np.r_[begins, len(tids)])
    return senones.tid2phone[tids[begins]].astype(np.int32), durations.astype(np.int32)


def windows(phones: np.ndarray, width: int, central: int, context_free: np.ndarray) -> np.ndarray:
    """Returns the phones around each of phones [n], as [n, width], 0 beyond the edges.

    Phones in `context_free` (silences) see no context themselves (Kaldi's --ci-phones).
    """
    padded = np.r_[np.zeros(central, dtype=np.int64), phones, np.zeros(width - 1 - central, dtype=np.int64)]
    out = np.stack([padded[i : i + len(phones)] for i in range(width)], axis=1)
    free = np.isin(phones, context_free)
    out[free] = 0
    out[free, central] = phones[free]
    return out.astype(np.int32)


def convert(tids: np.ndarray, old: Senones, new: Senones, context_free: np.ndarray) -> np.ndarray:
    """Carries an alignment over to another tree of the same topology: the same states and arcs (Kaldi's convert-ali).

    Raises ModelError where the topologies differ, DataError for a phone that the tree has no pdf for.
    """
    return convert_all([tids], old, new, context_free)[0]


def convert_all(
    alignments: Sequence[np.ndarray], old: Senones, new: Senones, context_free: np.ndarray
) -> List[np.ndarray]:
    """Does `convert` for many utterances, which share one walk through the tree."""
    if old.topology.entries != new.topology.entries:
        raise ModelError("an alignment can only be carried over to a tree of the same topology")
    if not len(alignments):
        return []
    tree = new.tree
    contexts = []
    for alignment in alignments:
        phones, durations = phone_segments(alignment, old)
        contexts.append(
            np.repeat(windows(phones, tree.context_width, tree.central_position, context_free), durations, axis=0)
        )
    tids = np.concatenate([np.asarray(alignment) for alignment in alignments])
    context = np.concatenate(contexts)
    before, after = _tables(old), _tables(new)
    # Each triphone is walked once, however many frames it has.
    forward, loop = before.forward_class[tids], before.loop_class[tids]
    events = np.column_stack([context, forward, loop]).astype(np.int64)
    base = int(events.max(initial=0)) + 2
    _codes, first, inverse = np.unique(
        (events + 1) @ base ** np.arange(events.shape[1]), return_index=True, return_inverse=True
    )
    inverse = inverse.reshape(-1)
    forward_pdf = tree.pdfs(context[first], forward[first])[inverse]
    loop_pdf = tree.pdfs(context[first], loop[first])[inverse]
    # A transition state is a phone, an HMM state and its two pdfs; within it, arcs keep their order.
    size = new.num_pdfs + 1

    def key(phone, state, forward, loop):
        return ((phone.astype(np.int64) * _MAX_STATES + state) * size + forward + 1) * size + loop + 1

    states = key(old.tid2phone[tids], old.tid2hmm_state[tids], forward_pdf, loop_pdf)
    head = after.first[1:]
    keys = key(new.tid2phone[head], new.tid2hmm_state[head], after.forward_pdf[1:], after.loop_pdf[1:])
    order = np.argsort(keys)
    place = order[np.minimum(np.searchsorted(keys, states, sorter=order), len(order) - 1)]
    if np.any(keys[place] != states):
        raise DataError(
            "an alignment has a phone in a context that the tree does not cover",
            remedy="build the tree on the alignments of the same lexicon",
        )
    converted = (head[place] + (tids - before.first[old.tid2state[tids]])).astype(np.int32)
    return np.split(converted, np.cumsum([len(alignment) for alignment in alignments])[:-1])


_MAX_STATES = 1024  # of one phone


@dataclass(frozen=True)
class _Tables:
    """Of every transition state: `first` tid and its pdfs; of every tid: the pdf classes of its HMM state. From 1."""

    first: np.ndarray
    forward_pdf: np.ndarray
    loop_pdf: np.ndarray
    forward_class: np.ndarray
    loop_class: np.ndarray


@lru_cache(maxsize=2)  # of the old and the new tree: a set of utterances is converted one by one
def _tables(senones: Senones) -> _Tables:
    first = np.zeros(senones.tid2state.max() + 1, dtype=np.int64)
    first[senones.tid2state[:0:-1]] = np.arange(senones.num_tids, 0, -1)
    pdfs = np.array([(-1, -1)] + [item.__getstate__()[2:4] for item in senones.transition_model.tuples])
    pairs = {
        (phone, number): (state.forward_class, state.loop_class)
        for entry in senones.topology.entries
        for phone in entry.phones
        for number, state in enumerate(entry.states)
    }
    states = zip(senones.tid2phone[1:].tolist(), senones.tid2hmm_state[1:].tolist())
    classes = np.array([(-1, -1)] + [pairs[state] for state in states])
    return _Tables(first, pdfs[:, 0], pdfs[:, 1], classes[:, 0], classes[:, 1])


def subsample_durations(durations: np.ndarray, factor: int = 3) -> np.ndarray:
    """Returns durations at one frame in `factor`, each phone at least one frame; they sum to ceil(T / factor).

    Phone boundaries go to the nearest of the coarse frames (frame k stands for the fine frames
    factor k .. factor k + factor - 1). A phone that would vanish takes a frame from where the sequence has
    one to spare: the boundaries b_1 < b_2 < ... nearest to the real ones, subject to b_i >= b_{i-1} + 1, are
    found by pushing boundaries right where they are too near, then left from the end.
    Raises DataError where there are more phones than coarse frames.
    """
    durations = np.asarray(durations, dtype=np.int64)
    count, total = len(durations), -(-int(durations.sum()) // factor)
    if count > total:
        raise DataError(f"{count} phones in {total} frames of {10 * factor} ms: too short for its transcript")
    ends = np.floor(np.cumsum(durations) / factor + 0.5).astype(np.int64)
    if count:
        ends[-1] = total
    index = np.arange(1, count + 1)
    # e_i >= e_{i-1} + 1 is e_i - i non-decreasing; from the right, e_i <= total - (count - i).
    ends = np.maximum.accumulate(np.maximum(ends - index, 0)) + index
    ends = np.minimum(ends, total - (count - index))
    return np.diff(np.r_[0, ends]).astype(np.int32)


def network_frames(phones: np.ndarray, durations: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Returns per frame of the network topology the index of its phone, and the pdf class (0 entry, 1 loop)."""
    index = np.repeat(np.arange(len(phones)), durations)
    begins = np.cumsum(durations) - durations
    classes = np.ones(len(index), dtype=np.int32)
    classes[begins] = 0
    return index, classes


def network_pdfs(
    phones: np.ndarray, durations: np.ndarray, senones: Senones, context_free: np.ndarray
) -> np.ndarray:
    """Returns pdfs [T30] int32 under a tree of the network topology, of phones [n] and durations in 30 ms frames.

    Raises DataError for a phone that the tree has no pdf for.
    """
    tree = senones.tree
    index, classes = network_frames(phones, durations)
    context = windows(phones, tree.context_width, tree.central_position, context_free)
    pdfs = tree.pdfs(context[index], classes)
    if np.any(pdfs < 0):
        phone = int(phones[index[np.argmax(pdfs < 0)]])
        raise DataError(
            f"the tree has no pdf for phone {senones.phone_names.get(phone, phone)}",
            remedy="build the tree with the lexicon of the alignments",
        )
    return pdfs


def segments_text(phones: np.ndarray, durations: np.ndarray, senones: Senones) -> List[str]:
    """Returns the segments as 'AH:7' and so on, to read."""
    names = senones.phone_names
    return [f"{names[int(phone)]}:{int(length)}" for phone, length in zip(phones, durations)]
