"""The k highest logits of every frame, exactly and in one order, some times faster than a partition of each row.

A row of num_pdfs logits is cut into blocks, block b being the ids b, b + nb, b + 2 nb, ... (so that the maxima of all
blocks are `WIDTH` vector operations). A logit among the k highest lies in one of the k blocks with the highest maxima:
were it in another, these k blocks would each hold a higher one. Only those blocks' logits are sorted. With equal maxima
the k blocks are not unique, and the wrong one of two equal logits might be kept; so `SPARE` more blocks are taken, and
the argument holds if the first block left out has a maximum below that of the k-th. Rows where it has not are sorted
whole: they are rare among float32 logits, and right among those that are all equal.

Sorting is of whole numbers that hold the logit in the high and the id in the low 32 bits: no two are equal.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError

WIDTH = 12  # ids a block; about sqrt(num_pdfs / k) balances the two sorts
SPARE = 8  # blocks
ROWS = 64  # frames at a time: 3000 logits of each stay in the cache


def check_k(num_pdfs: int, k: int) -> None:
    """Raises ConfigError unless 1 <= k <= num_pdfs, both whole numbers."""
    for name, value in (("num_pdfs", num_pdfs), ("k", k)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ConfigError(f"{name} is {value!r}", remedy="a whole number, 1 or more")
    if k > num_pdfs:
        raise ConfigError(f"the {k} highest of {num_pdfs} logits", remedy=f"k is at most {num_pdfs}, which keeps all")


def top_k(logits: np.ndarray, k: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the k highest logits of each frame: ids int32 [T, k], values float32 [T, k], rest float32 [T].

    logits: float32 [T, num_pdfs]. Highest first, of equal ones the lower id first. rest = logsumexp(all logits) -
    highest, in nats: the log of the highest's posterior, with the sign turned.
    Raises DataError for logits that are not finite or not a matrix,
    ConfigError for a k that they do not have.
    """
    if not isinstance(logits, np.ndarray) or logits.ndim != 2 or logits.dtype.kind != "f":
        raise DataError("logits are not a float matrix [frames, pdfs]", remedy="give what a network's output is")
    frames, num_pdfs = logits.shape
    check_k(num_pdfs, k)
    ids = np.empty((frames, k), dtype=np.int32)
    values = np.empty((frames, k), dtype=np.float32)
    rest = np.empty(frames, dtype=np.float32)
    for begin in range(0, frames, ROWS):
        rows = slice(begin, begin + ROWS)
        chunk = logits[rows].astype(np.float32, copy=False)
        # The extremes carry NaN and infinities of either sign, at a tenth of the cost of isfinite of everything.
        highest = chunk.max(axis=1, keepdims=True)
        if not (np.isfinite(highest).all() and np.isfinite(chunk.min())):
            raise DataError("logits are not finite", remedy="the teacher diverged on this: leave the utterance out")
        rest[rows] = np.log(np.exp(chunk - highest).sum(axis=1))
        ids[rows] = _sorted_top(chunk, k)
        values[rows] = np.take_along_axis(chunk, ids[rows], axis=1)
    return ids, values, rest


def _sorted_top(chunk: np.ndarray, k: int) -> np.ndarray:
    """ids [T, k] of the highest of chunk float32 [T, num_pdfs], in order."""
    num_pdfs = chunk.shape[1]
    count = num_pdfs // WIDTH  # blocks; the ids from WIDTH count on belong to none and are always looked at
    num_blocks = k + SPARE
    if 2 * num_blocks > count:
        return _highest(chunk, np.broadcast_to(np.arange(num_pdfs, dtype=np.uint32), chunk.shape), k)
    maxima = chunk[:, : WIDTH * count].reshape(-1, WIDTH, count).max(axis=1)
    numbers = np.broadcast_to(np.arange(count, dtype=np.uint32), maxima.shape)
    best = _highest(maxima, numbers, num_blocks + 1)
    inside = (best[:, :num_blocks, None] + count * np.arange(WIDTH)).reshape(len(chunk), -1)
    tail = np.broadcast_to(np.arange(WIDTH * count, num_pdfs), (len(chunk), num_pdfs - WIDTH * count))
    candidates = np.concatenate([inside, tail], axis=1)
    ids = _highest(np.take_along_axis(chunk, candidates, axis=1), candidates.astype(np.uint32), k)
    edge = np.take_along_axis(maxima, best[:, [k - 1, num_blocks]], axis=1)
    tied = np.flatnonzero(edge[:, 0] == edge[:, 1])
    if len(tied):
        all_ids = np.broadcast_to(np.arange(num_pdfs, dtype=np.uint32), (len(tied), num_pdfs))
        ids[tied] = _highest(chunk[tied], all_ids, k)
    return ids


def _highest(values: np.ndarray, ids: np.ndarray, k: int) -> np.ndarray:
    """int32 [T, k]: those of `ids` whose float32 `values` are the highest, in order; of equal ones the lower id."""
    # + 0 makes -0 to 0. With all bits turned for negative numbers and the sign for the others, floats sort as integers.
    bits = (values + np.float32(0)).view(np.uint32)
    bits ^= (bits >> np.uint32(31)) * np.uint32(0x7FFFFFFF) | np.uint32(0x80000000)
    # Descending: all bits turned, so that the lowest keys are the highest values, and then the lowest ids.
    keys = (~bits).astype(np.uint64) << np.uint64(32) | ids
    keys.sort(axis=1)
    return (keys[:, :k] & np.uint64(0xFFFFFFFF)).astype(np.int32)
