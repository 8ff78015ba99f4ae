"""Augmentation copies, sampled per epoch: an epoch takes some copies of an utterance, the next epoch the next ones.

So there can be many copies (rooms, noises, speeds) and an epoch is as long as with few, and what is clean and what is
noisy can be weighed. A pool holds the copies of one utterance of one kind. Of a pool of n copies epoch e takes the m
copies numbered  (rank + e m + j) mod n,  j = 0 .. m - 1,  rank being the pool's place among all: after
n / gcd(n, m) epochs each copy has been taken as often as every other, and neighbouring pools are at other copies.
"""

from __future__ import annotations

from typing import Sequence, Tuple, Union

import numpy as np

from hybrid.errors import ConfigError

Column = Union[np.ndarray, Sequence[int]]


class CopySampler:
    """Chooses the copies of an epoch.

    A number for each utterance: pools: of the pool that it belongs to, which are ranked as they first appear; copies:
    of the copy that it is (pieces of one copy share theirs); counts: how many copies of its pool an epoch takes; 0, or
    no fewer than there are: all. Raises ConfigError for a negative count.
    """

    def __init__(self, pools: Column, copies: Column, counts: Column) -> None:
        counts = np.asarray(counts)
        if len(counts) and (counts.dtype.kind not in "iu" or counts.min() < 0):
            remedy = "a whole number, or 0 for all that there are"
            raise ConfigError(f"{counts.min()} copies an epoch", remedy=remedy)
        if not len(pools) == len(copies) == len(counts):
            raise ValueError(f"{len(pools)} pools, {len(copies)} copies, {len(counts)} counts")
        self._ranks = _by_appearance(np.asarray(pools))[0]
        # Of each utterance its copy's place in the pool, and how many the pool has.
        pairs, firsts = _by_appearance(_paired(self._ranks, np.asarray(copies)))
        pools_of_copies = self._ranks[firsts]
        order = np.argsort(pools_of_copies, kind="stable")
        sizes = np.bincount(pools_of_copies)
        starts = np.cumsum(sizes) - sizes
        members = np.empty(len(firsts), np.int64)
        members[order] = np.arange(len(firsts)) - np.repeat(starts, sizes)
        self._members = members[pairs].astype(np.int32)
        self._sizes = sizes[self._ranks].astype(np.int32)
        self._counts = counts.astype(np.int32)

    def __call__(self, epoch: int) -> np.ndarray:
        """Return the places of the utterances of epoch `epoch` (from 0), ascending, int64."""
        whole = (self._counts == 0) | (self._counts >= self._sizes)
        # Copy c is (rank + e m + j) mod n for a j of 0 .. m - 1 just where (c - rank - e m) mod n is below m.
        begins = self._ranks + np.int64(epoch) * self._counts
        return np.flatnonzero(whole | ((self._members - begins) % self._sizes < self._counts))


def _by_appearance(values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Number values in the order in which they first appear, int64 [N]; and the first place of each number."""
    _values, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return numbers[inverse.reshape(-1)], first[order]


def _paired(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return a number for each pair, the same for the same pair."""
    other = np.unique(other, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return one * (int(other.max(initial=0)) + 1) + other
