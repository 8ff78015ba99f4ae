"""What is done to features [T, D] after the front end: deltas, splicing, mean normalisation, stacking; and mels."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

import numpy as np
from numpy.typing import ArrayLike

from hybrid.data.cmvn import CmvnStats, cmvn_stats, normalised
from hybrid.data.online_cmvn import OnlineCmvn, OnlineCmvnConfig, online_cmvn_of
from hybrid.errors import ConfigError


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


class NetworkInput:
    """Makes what a network reads of log mel, an utterance at a time: less a mean, `stack` frames side by side.

    cmvn: "speaker" or "utterance": whose mean is taken off; with "+variance" the result is also divided by the
    deviation; "online": the running mean of a stream, as `online` says, each utterance a stream; or "none".
    Raises ConfigError for another `cmvn`.
    """

    def __init__(self, cmvn: str, stack: int = 3, online: Optional[OnlineCmvnConfig] = None) -> None:
        if cmvn == "online" and online is None:
            raise ConfigError(
                "cmvn is 'online', and the mean of the training set is not known",
                remedy="run the features stage again, and train the model again",
            )
        self.level, plus, extra = cmvn.partition("+")
        levels = ("speaker", "utterance") if plus else ("speaker", "utterance", "none", "online")
        if self.level not in levels or (plus and extra != "variance"):
            raise ConfigError(
                f"cmvn is {cmvn!r}",
                remedy="use speaker, speaker+variance, utterance, utterance+variance, online or none",
            )
        self.variance = bool(plus)
        self.stack = stack
        self.online = online if self.level == "online" else None

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> NetworkInput:
        """Return what makes the input as `about`, a model's features.json, says. Raises ConfigError."""
        online = online_cmvn_of(about) if about["cmvn"] == "online" and "online_cmvn" in about else None
        return cls(about["cmvn"], int(about.get("frame_subsampling_factor", 3)), online)

    def num_frames(self, lengths: np.ndarray) -> np.ndarray:
        """Return the frames of the input for so many frames of log mel."""
        return -(-lengths // self.stack)

    def __call__(
        self, x: np.ndarray, mean: Optional[np.ndarray] = None, deviation: Optional[np.ndarray] = None
    ) -> np.ndarray:
        """Make the input of log mel [T, D], float32 [ceil(T / stack), stack D].

        mean, deviation: float32 [D], of the speaker; None: of the utterance itself.
        """
        if self.online is not None:
            x = OnlineCmvn(self.online).apply(x)
        elif self.level != "none":
            if mean is None:
                mean, deviation = CmvnStats.of(x).shift_and_scale(self.variance)
            x = normalised(x, mean, deviation)
        return stack_frames(x, self.stack)


def network_input(
    features: Mapping[str, np.ndarray], speakers: Optional[Mapping[str, str]], cmvn: str, stack: int = 3,
    online: Optional[OnlineCmvnConfig] = None,
) -> Dict[str, np.ndarray]:  # fmt: skip
    """Make what a network reads of log mel [T, D] of several utterances, as NetworkInput says.

    speakers: id -> speaker; None: each utterance is a speaker of its own.
    Raises ConfigError for another `cmvn`, DataError for an utterance without a speaker.
    """
    return _inputs(features, speakers, NetworkInput(cmvn, stack, online))


def model_input(
    features: Mapping[str, np.ndarray], speakers: Optional[Mapping[str, str]], about: Mapping[str, Any]
) -> Dict[str, np.ndarray]:
    """Make what a network reads as `about`, its features.json, says. Raises as `network_input`."""
    return _inputs(features, speakers, NetworkInput.of(about))


def _inputs(
    features: Mapping[str, np.ndarray], speakers: Optional[Mapping[str, str]], make: NetworkInput
) -> Dict[str, np.ndarray]:
    if make.level != "speaker" or speakers is None:
        return {identifier: make(x) for identifier, x in features.items()}
    shifts = {name: sums.shift_and_scale(make.variance) for name, sums in cmvn_stats(features, speakers).items()}
    return {identifier: make(x, *shifts[speakers[identifier]]) for identifier, x in features.items()}
