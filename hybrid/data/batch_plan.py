"""Which utterances make a batch: similar lengths together, and no more padded frames than allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

import numpy as np

from hybrid.errors import ConfigError


@dataclass(frozen=True)
class BatchPlan:
    """Sorts by length times exp(u), u uniform in [-jitter, jitter], cuts the row wherever the padded batch would exceed
    `max_frames`, and shuffles the batches. A longer utterance is a batch of its own. max_utterances: 0 for no limit.
    """

    max_frames: int
    jitter: float = 0.15
    max_utterances: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.max_frames, bool) or not isinstance(self.max_frames, int) or self.max_frames < 1:
            raise ConfigError(
                f"max_frames is {self.max_frames!r}", remedy="a whole number of network frames, e.g. 4000"
            )
        if self.max_utterances < 0:
            raise ConfigError(
                f"max_utterances is {self.max_utterances}", remedy="0 for no limit, or a positive number"
            )
        if not 0 <= self.jitter < 10:
            raise ConfigError(f"jitter is {self.jitter}", remedy="a share of the length, e.g. 0.15")

    def batches(self, lengths: np.ndarray, rng: Optional[np.random.Generator]) -> List[List[int]]:
        """Return the places in `lengths` (int [N], frames) of each batch.

        Without a generator the batches come longest first, unshuffled.
        A length of 0 is one that is not there: it is in no batch, and the others' random numbers are as with it.
        """
        keys = lengths.astype(np.float64)
        if rng is not None:
            # A random order first: utterances of the same length do not keep each other's company.
            order = rng.permutation(len(keys))
            keys = keys * np.exp(rng.uniform(-self.jitter, self.jitter, size=len(keys)))
            order = order[np.argsort(-keys[order], kind="stable")]
        else:
            order = np.argsort(-keys, kind="stable")
        batches: List[List[int]] = []
        current: List[int] = []
        longest = 0
        for i in order[lengths[order] > 0].tolist():
            length = max(longest, int(lengths[i]))
            full = self.max_utterances and len(current) == self.max_utterances
            if current and (full or length * (len(current) + 1) > self.max_frames):
                batches.append(current)
                current, length = [], int(lengths[i])
            current.append(i)
            longest = length
        if current:
            batches.append(current)
        if rng is not None:
            batches = [batches[i] for i in rng.permutation(len(batches)).tolist()]
        return batches
