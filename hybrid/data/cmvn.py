"""Mean and variance normalisation by speaker or utterance: Kaldi's compute-cmvn-stats and apply-cmvn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Tuple, Union

import numpy as np

from hybrid.errors import DataError


@dataclass
class CmvnStats:
    """Sums over frames: count, sum [D], sum of squares [D], float64."""

    count: float
    sum: np.ndarray
    squares: np.ndarray

    @staticmethod
    def zeros(dim: int) -> CmvnStats:
        """Return the sums over no frame."""
        return CmvnStats(0.0, np.zeros(dim), np.zeros(dim))

    @staticmethod
    def of(frames: np.ndarray) -> CmvnStats:
        """Return the sums over frames [N, D]."""
        values = np.asarray(frames, dtype=np.float64)
        return CmvnStats(float(len(values)), values.sum(axis=0), np.square(values).sum(axis=0))

    @property
    def mean(self) -> np.ndarray:
        return self.sum / self.count

    @property
    def variance(self) -> np.ndarray:
        return np.maximum(self.squares / self.count - np.square(self.mean), 1e-10)

    def shift_and_scale(self, variance: bool) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Return what features are normalised with: the mean to take off, and with `variance` the deviation to divide
        by (else None), float32 [D]."""
        return self.mean.astype(np.float32), np.sqrt(self.variance).astype(np.float32) if variance else None

    def plus(self, other: CmvnStats, share: float = 1.0) -> CmvnStats:
        """Return the sums over both, the other's weighted by `share`."""
        return CmvnStats(
            self.count + share * other.count, self.sum + share * other.sum, self.squares + share * other.squares
        )


def cmvn_stats(
    features: Mapping[str, np.ndarray], speakers: Optional[Mapping[str, str]] = None
) -> Dict[str, CmvnStats]:
    """Return {speaker: sums over all their utterances}; per utterance where `speakers` (id -> speaker) is None.

    Matches Kaldi's compute-cmvn-stats. Raises DataError for an utterance without a speaker.
    """
    stats: Dict[str, CmvnStats] = {}
    for identifier, x in features.items():
        speaker, sums = _speaker(identifier, speakers), CmvnStats.of(x)
        stats[speaker] = stats[speaker].plus(sums) if speaker in stats else sums
    return stats


def apply_cmvn(
    features: Mapping[str, np.ndarray],
    speakers: Optional[Mapping[str, str]] = None,
    *,
    stats: Union[Mapping[str, CmvnStats], None] = None,
    variance: bool = False,
) -> Dict[str, np.ndarray]:
    """Subtracts each speaker's mean (of each utterance, without `speakers`); divides by the deviation on request.

    `stats` defaults to those of `features` themselves. Kaldi's apply-cmvn, --norm-vars as `variance`.
    Returns new float32 arrays.
    """
    stats = cmvn_stats(features, speakers) if stats is None else stats
    result = {}
    for identifier, x in features.items():
        speaker = _speaker(identifier, speakers)
        if speaker not in stats:
            raise DataError(f"no mean for speaker '{speaker}'", utterance=identifier, remedy="compute it first")
        result[identifier] = normalised(x, *stats[speaker].shift_and_scale(variance))
    return result


def normalised(x: np.ndarray, mean: np.ndarray, deviation: Optional[np.ndarray] = None) -> np.ndarray:
    """Return features [T, D] less a mean, and divided by a deviation where there is one, new float32 [T, D]."""
    y: np.ndarray = np.asarray(x, dtype=np.float32) - mean
    return y if deviation is None else y / deviation


def _speaker(identifier: str, speakers: Optional[Mapping[str, str]]) -> str:
    if speakers is None:
        return identifier
    try:
        return speakers[identifier]
    except KeyError:
        raise DataError(
            "no speaker is known for this utterance", utterance=identifier, remedy="normalise per utterance instead"
        ) from None
