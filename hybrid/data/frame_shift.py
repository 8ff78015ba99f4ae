"""Stacked frames from another phase: what a network at 30 ms never sees of features at 10 ms.

A network frame stacks `stack` fine frames; taken from 0, 3, 6, ... it is always the same third of the ways to cut an
utterance. Kaldi's chain training shifts its examples by -1, 0 or 1 fine frames for that reason (nnet3-chain-copy-egs
--frame-shift): the targets stay where they are, for they are no more exact than that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.data.transforms import fine_frames
from hybrid.errors import ConfigError


@dataclass(frozen=True)
class FrameShift:
    """A transform of Batches: features [T, stack * bands], shifted by up to `most` fine frames either way.

    Network frame t then stacks the fine frames stack t + s .. stack t + s + stack - 1; s is uniform over -most .. most.
    At the ends the first or last fine frame is repeated.
    """

    most: int = 1
    stack: int = 3

    def __post_init__(self) -> None:
        if self.stack < 1 or not 0 <= self.most <= self.stack:
            raise ConfigError(f"a shift of {self.most} frames, {self.stack} stacked", remedy="from 0 to the stack")

    def __call__(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        stacked = fine_frames(features, self.stack, "the stack")
        shift = int(rng.integers(-self.most, self.most + 1))
        fine = stacked.reshape(-1, stacked.shape[2])
        index = np.clip(np.arange(len(fine)) + shift, 0, len(fine) - 1)
        return fine[index].reshape(features.shape)
