"""Vocal tract length perturbation of log mel features (Jaitly and Hinton 2013): other speakers from the ones there are.

The frequency axis is warped by a factor drawn anew for each utterance and epoch,

    G(f) = a f                                     up to  F min(a, 1) / a,
           straight from there to (N, N)           above, N the Nyquist frequency, F = 4800 Hz

and the warped value at a band's centre f is read off the features at G(f), between the two nearest bands in mel.
Warping the bands and not the spectrum under them costs nothing in training, and differs by less than a band's width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from hybrid.data.transforms import fine_frames, hertz, mel
from hybrid.errors import ConfigError

KNEE = 4800.0  # Hz


@dataclass(frozen=True)
class Vtlp:
    """A transform of Batches: features [T, stack * bands] -> the same, warped by a factor uniform in [low, high].

    low_freq, high_freq (Hz; 0 or below: so far from Nyquist) and sampling_rate are those of the filter bank.
    """

    low: float = 0.9
    high: float = 1.1
    stack: int = 3
    low_freq: float = 20.0
    high_freq: float = -400.0
    sampling_rate: int = 16000

    def __post_init__(self) -> None:
        if not 0.5 <= self.low <= self.high <= 2.0:
            raise ConfigError(f"vtlp.low is {self.low}, vtlp.high {self.high}", remedy="0.5 <= low <= high <= 2")
        if self.stack < 1:
            raise ConfigError(f"vtlp.stack is {self.stack}", remedy="at least 1")

    def __call__(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        bands = fine_frames(features, self.stack, "vtlp.stack")
        factor = float(rng.uniform(self.low, self.high))
        below, share = self.places(bands.shape[2], factor)
        warped = bands[:, :, below] * (1 - share) + bands[:, :, below + 1] * share
        return warped.reshape(features.shape)

    def places(self, bands: int, factor: float) -> Tuple[np.ndarray, np.ndarray]:
        """Return for every band the lower of the two that it is read from, int [bands], and the share of the upper."""
        nyquist = self.sampling_rate / 2
        high_freq = self.high_freq if self.high_freq > 0 else nyquist + self.high_freq
        ends = mel(np.array([self.low_freq, high_freq]))
        step = (ends[1] - ends[0]) / (bands + 1)
        centres = hertz(ends[0] + step * np.arange(1, bands + 1))
        source = (mel(warp(centres, factor, nyquist)) - ends[0]) / step - 1
        source = np.clip(source, 0, bands - 1)
        below = np.minimum(source.astype(np.int64), bands - 2)
        return below, (source - below).astype(np.float32)


def warp(frequency: np.ndarray, factor: float, nyquist: float) -> np.ndarray:
    """Return the warped frequencies, G of the head of this file; Hz."""
    knee = min(KNEE, 0.6 * nyquist) * min(factor, 1.0)
    edge = knee / factor
    above = nyquist - (nyquist - knee) / (nyquist - edge) * (nyquist - frequency)
    return np.where(frequency <= edge, factor * frequency, above)
