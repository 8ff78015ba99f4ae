"""What is done to features [T, D] after the front end: deltas, splicing, mean normalisation, stacking; and mels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Union

import numpy as np
from numpy.typing import ArrayLike

from hybrid.errors import ConfigError, DataError


def deltas(x: np.ndarray, order: int = 2, window: int = 2) -> np.ndarray:
    """Append to features [T, D] their derivatives, float32 [T, D * (order + 1)] (Kaldi's add-deltas).

    The first derivative is the slope of the least-squares line through 2 * window + 1 frames,
    d[t] = sum_j j x[t + j] / sum_j j^2, j = -window..window; the filter of order k is that filter convolved
    k times with [1]. Frames outside are the first or the last one. As Kaldi does, each order is one filter on
    x itself: repeating frames of d instead would give other numbers at the ends.
    """
    x = np.asarray(x, dtype=np.float32)
    steps = np.arange(-window, window + 1)
    slope = steps / np.square(steps).sum()
    parts = [x]
    taps = np.ones(1)
    for _ in range(order):
        taps = np.convolve(taps, slope)
        reach = len(taps) // 2
        padded = np.pad(x, ((reach, reach), (0, 0)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=0)  # [T, D, taps]
        parts.append(windows @ taps.astype(np.float32))
    return np.concatenate(parts, axis=1)


def splice(x: np.ndarray, left: int, right: int) -> np.ndarray:
    """Put frames t - left .. t + right side by side, [T, D] -> [T, D * (left + 1 + right)] (Kaldi's splice-feats).

    Frames outside are the first or the last one.
    """
    x = np.asarray(x)
    index = np.arange(len(x))[:, None] + np.arange(-left, right + 1)
    return x[np.clip(index, 0, len(x) - 1)].reshape(len(x), -1)


def stack_frames(x: np.ndarray, n: int = 3) -> np.ndarray:
    """Put n frames side by side, without overlap, [T, D] -> [ceil(T / n), n * D]; the last frame fills the end."""
    x = np.asarray(x)
    padding = -len(x) % n
    if padding:
        x = np.concatenate([x, np.repeat(x[-1:], padding, axis=0)])
    return x.reshape(len(x) // n, -1)


def fine_frames(features: np.ndarray, stack: int, setting: str) -> np.ndarray:
    """Return a view [T, stack, bands] of the frames that `stack_frames` stacked, [T, stack * bands].

    Raises ConfigError, naming `setting`, where D is no multiple of the stack.
    """
    frames, dim = features.shape
    if dim % stack:
        raise ConfigError(f"{dim} features are not {stack} stacked frames", remedy=f"set {setting}")
    return features.reshape(frames, stack, dim // stack)


def mel(frequency: ArrayLike) -> np.ndarray:
    """Return Kaldi's mel scale at frequencies in Hz: 1127 ln(1 + f / 700)."""
    return 1127.0 * np.log1p(np.asarray(frequency) / 700.0)


def hertz(value: ArrayLike) -> np.ndarray:
    """Return the frequencies in Hz at places on the mel scale."""
    return 700.0 * np.expm1(np.asarray(value) / 1127.0)


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

    def plus(self, other: CmvnStats) -> CmvnStats:
        """Return the sums over the frames of both."""
        return CmvnStats(self.count + other.count, self.sum + other.sum, self.squares + other.squares)

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


def cmvn_stats(
    features: Mapping[str, np.ndarray], speakers: Optional[Mapping[str, str]] = None
) -> Dict[str, CmvnStats]:
    """Return {speaker: sums over all their utterances}; per utterance where `speakers` (id -> speaker) is None.

    Matches Kaldi's compute-cmvn-stats. Raises DataError for an utterance without a speaker.
    """
    stats: Dict[str, CmvnStats] = {}
    for identifier, x in features.items():
        speaker = _speaker(identifier, speakers)
        sums = CmvnStats.of(x)
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
        speaker_stats = stats[speaker]
        y = np.asarray(x, dtype=np.float32) - speaker_stats.mean.astype(np.float32)
        result[identifier] = y / np.sqrt(speaker_stats.variance).astype(np.float32) if variance else y
    return result


def network_input(
    features: Mapping[str, np.ndarray], speakers: Optional[Mapping[str, str]], cmvn: str, stack: int = 3
) -> Dict[str, np.ndarray]:
    """Make what a network reads of log mel [T, D]: less a mean, `stack` frames side by side [ceil(T / stack), stack D].

    cmvn: "speaker" or "utterance": whose mean is taken off; with "+variance" the result is also divided by the
    deviation; or "none". speakers: id -> speaker; None: each utterance is a speaker of its own.
    Raises ConfigError for another `cmvn`, DataError for an utterance without a speaker.
    """
    level, plus, extra = cmvn.partition("+")
    if level not in ("speaker", "utterance", "none") or (plus and (extra != "variance" or level == "none")):
        raise ConfigError(
            f"cmvn is {cmvn!r}",
            remedy="use speaker, speaker+variance, utterance, utterance+variance or none",
        )
    inputs = dict(features)
    if level != "none":
        inputs = apply_cmvn(features, speakers if level == "speaker" else None, variance=extra == "variance")
    return {identifier: stack_frames(x, stack) for identifier, x in inputs.items()}


def _speaker(identifier: str, speakers: Optional[Mapping[str, str]]) -> str:
    if speakers is None:
        return identifier
    try:
        return speakers[identifier]
    except KeyError:
        raise DataError(
            "no speaker is known for this utterance", utterance=identifier, remedy="normalise per utterance instead"
        ) from None
