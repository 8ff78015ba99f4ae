"""SpecAugment (Park et al. 2019) without time warping: blocks of frames and of mel bands set to the mean.

The features are expected to be mean-normalised, so that 0 is the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.data.transforms import fine_frames
from hybrid.errors import ConfigError


@dataclass(frozen=True)
class SpecAugment:
    """A transform of Batches: features [T, stack * bands] -> a masked copy.

    time_masks blocks of 0 to time_width frames, together at most time_share of the utterance; band_masks blocks of
    0 to band_width mel bands, the same in all `stack` frames that a network frame holds.
    """

    time_masks: int = 1
    time_width: int = 10
    time_share: float = 0.2
    band_masks: int = 1
    band_width: int = 8
    stack: int = 3

    def __post_init__(self) -> None:
        for name in ("time_masks", "time_width", "band_masks", "band_width"):
            if getattr(self, name) < 0:
                raise ConfigError(f"specaugment.{name} is {getattr(self, name)}", remedy="0 or more")
        if self.stack < 1 or not 0 <= self.time_share <= 1:
            raise ConfigError("specaugment.stack must be at least 1, time_share from 0 to 1")

    def __call__(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        out = features.copy()
        view = fine_frames(out, self.stack, "specaugment.stack")
        frames, _, bands = view.shape
        budget = int(self.time_share * frames)
        for _ in range(self.time_masks):
            width = min(int(rng.integers(0, self.time_width + 1)), budget)
            start = int(rng.integers(0, frames - width + 1))
            out[start : start + width] = 0
            budget -= width
        for _ in range(self.band_masks):
            width = min(int(rng.integers(0, self.band_width + 1)), bands)
            start = int(rng.integers(0, bands - width + 1))
            view[:, :, start : start + width] = 0
        return out
