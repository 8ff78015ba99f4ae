"""Mean normalisation of a stream: what a frame is normalised by is known when the frame comes.

Offline the mean of all of a speaker's speech is taken off. A stream knows its past alone, so the mean at frame t is of
the last frames up to t; while these are few, of earlier utterances of the same stream; while these are few, of a number
of frames of the training set's mean (Kaldi's OnlineCmvn, options cmn-window, speaker-frames, global-frames):

    n = min(t + 1, window)           the frames t - n + 1 .. t, with the sum S[t]
    s = min(window - n, earlier)     of the earlier utterances, whose mean is E
    g = min(global, window - n - s)  of the training set, whose mean is G
    mean[t] = (S[t] + s E + g G) / (n + s + g)

S[t] = S[t - 1] + x[t] - x[t - window] is summed in float64, frame after frame: the numbers do not depend on how the
frames come. A model that streams is trained on the output of this function (model.cmvn = "online").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Union

import numpy as np

from hybrid.data.cmvn import CmvnStats, apply_cmvn
from hybrid.errors import ConfigError, DataError

WINDOW = 600  # frames, 6 s, as Kaldi
# Kaldi: 200. AN4's development sets say little between 50 and 200 (benchmarks/README.md), and much against 0.
GLOBAL_FRAMES = 100


@dataclass(frozen=True)
class OnlineCmvnConfig:
    """mean [D], variance [D] of the training set; None: nothing is known of it. window, global_frames: as above."""

    mean: Optional[np.ndarray] = None
    variance: Optional[np.ndarray] = None
    window: int = WINDOW
    global_frames: int = GLOBAL_FRAMES
    norm_vars: bool = False  # divide by the deviation too

    def __post_init__(self) -> None:
        if self.window < 1 or not 0 <= self.global_frames <= self.window:
            raise ConfigError(
                f"a window of {self.window} frames and {self.global_frames} of the training set",
                remedy="a window of at least 1, and no more of the training set than that",
            )
        for value in (self.mean, self.variance):
            if value is not None and not np.isfinite(value).all():
                raise ConfigError("a mean of the training set that is not finite", remedy="compute it again")

    def to_json(self) -> Dict[str, Any]:
        return {
            "mean": None if self.mean is None else np.asarray(self.mean).tolist(),
            "variance": None if self.variance is None else np.asarray(self.variance).tolist(),
            "window": self.window,
            "global_frames": self.global_frames,
        }


def online_cmvn_of(about: Mapping[str, Any], norm_vars: bool = False) -> OnlineCmvnConfig:
    """Read about["online_cmvn"], which `to_json` made; where there is none, nothing is known of the training set.

    Raises ConfigError for what is no such.
    """
    values = about.get("online_cmvn")
    if values is None:
        return OnlineCmvnConfig(norm_vars=norm_vars)
    try:
        mean, variance = (
            None if values[name] is None else np.asarray(values[name], np.float64) for name in ("mean", "variance")
        )
        return OnlineCmvnConfig(mean, variance, int(values["window"]), int(values["global_frames"]), norm_vars)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"not settings of online cmvn: {error!r}", remedy="train the model again") from error


@dataclass
class OnlineCmvn:
    """apply(x [n, D]) -> float32 [n, D], the next n frames of a stream; `next_utterance` before another one."""

    config: OnlineCmvnConfig
    _earlier: Optional[CmvnStats] = field(default=None, init=False)
    _sums: Optional[np.ndarray] = field(default=None, init=False)  # of x and of x^2 over the window, [2, D]
    _window: Optional[np.ndarray] = field(default=None, init=False)  # its frames, float32
    _frames: int = field(default=0, init=False)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Normalise frames. Raises DataError for another number of features than before, or than the mean has."""
        x = np.asarray(x, dtype=np.float32)
        if not len(x):
            return x
        config, (frames, dim) = self.config, x.shape
        if self._sums is None or self._window is None:
            self._sums, self._window = np.zeros((2, dim)), np.zeros((0, dim), np.float32)
        if dim != self._sums.shape[1] or (config.mean is not None and dim != len(config.mean)):
            raise DataError(f"{dim} features a frame, not as the mean", remedy="compute the model's own features")
        known = np.concatenate([self._window, x])
        # The frame that leaves the window as another comes: zeros while the window is not full.
        leaving = np.zeros_like(x)
        gone = max(0, len(known) - config.window)  # that leave, the oldest first
        if gone:
            leaving[frames - gone :] = known[:gone]
        come, go = x.astype(np.float64), leaving.astype(np.float64)
        steps = np.stack([come - go, np.square(come) - np.square(go)], axis=1)  # [n, 2, D]
        sums = np.add.accumulate(np.concatenate([self._sums[None], steps]), axis=0)[1:]
        counts = np.minimum(np.arange(self._frames + 1, self._frames + frames + 1), config.window).astype(np.float64)
        self._sums, self._window = sums[-1].copy(), known[gone:].copy()
        self._frames += frames
        mean, variance = self._moments(sums, counts)
        y: np.ndarray = x - mean.astype(np.float32)
        return y / np.sqrt(variance).astype(np.float32) if config.norm_vars else y

    def normalise(self, frames: np.ndarray, known: Union[np.ndarray, CmvnStats, None]) -> np.ndarray:
        """Return the next frames [T, D] less a mean that is known beforehand, float [D], or as CmvnStats with the
        deviation (norm_vars) taken out too; None: less the running one, as `apply` does."""
        if known is None:
            return self.apply(frames)
        if isinstance(known, CmvnStats):
            return apply_cmvn({"": frames}, stats={"": known}, variance=self.config.norm_vars)[""]
        return frames - np.asarray(known, np.float32)

    def _moments(self, sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the variance [n, D] at frames with these sums [n, 2, D] over so many frames."""
        config, total = self.config, counts
        if self._earlier is not None and self._earlier.count:
            share = np.minimum(config.window - counts, self._earlier.count)
            means = np.stack([self._earlier.sum, self._earlier.squares]) / self._earlier.count
            sums, total = sums + share[:, None, None] * means, total + share
        if config.mean is not None:
            share = np.minimum(config.window - total, config.global_frames)
            mean = np.asarray(config.mean, np.float64)
            square = np.square(mean) + (1.0 if config.variance is None else np.asarray(config.variance, np.float64))
            sums, total = sums + share[:, None, None] * np.stack([mean, square]), total + share
        moments = sums / total[:, None, None]
        return moments[:, 0], np.maximum(moments[:, 1] - np.square(moments[:, 0]), 1e-10)

    def next_utterance(self, keep: bool = True) -> None:
        """Begin another utterance. keep: of the same speaker, whose mean so far it begins with."""
        self._earlier = self.stats if keep else None
        self._sums = self._window = None
        self._frames = 0

    @property
    def stats(self) -> Optional[CmvnStats]:
        """The sums over the last frames, those of earlier utterances among them: of at most `window` frames."""
        if self._sums is None:
            return self._earlier
        count = float(min(self._frames, self.config.window))
        total = CmvnStats(count, *self._sums)
        if self._earlier is None or not self._earlier.count:
            return total
        return total.plus(self._earlier, min(self.config.window - count, self._earlier.count) / self._earlier.count)
