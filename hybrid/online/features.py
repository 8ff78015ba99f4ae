"""Samples as they come to features: checked, resampled, and framed as the whole signal would be."""

from __future__ import annotations

from typing import Optional, Union

import numpy as np

from hybrid.data.feature_config import FeatureConfig
from hybrid.data.features import FeatureExtractor
from hybrid.data.resampling import OnlineResampler
from hybrid.errors import ConfigError, DataError


class OnlineFeatures:
    """accept(samples) -> the frames that they complete, finish() -> the rest: float32 [frames, D], together the bits of
    FeatureExtractor.compute on the whole signal.

    rate: of the samples, in Hz; None: that of the features, else they are resampled, to the bits of `resample` on the
    whole signal. A signal that is shorter than one window, where the extractor raises an error, has no frame.
    """

    def __init__(
        self, features: Union[FeatureConfig, FeatureExtractor], *, rate: Optional[int] = None, backend: str = "auto"
    ) -> None:
        self.extractor = features if isinstance(features, FeatureExtractor) else FeatureExtractor(features, backend)
        self._blocks = self.extractor.blocks()
        target = self.extractor.config.sampling_rate
        self._resampler = OnlineResampler(target if rate is None else rate, target)

    @property
    def latency(self) -> float:
        """Seconds that a frame waits for beyond its own shift."""
        return self._blocks.lookahead / self.extractor.config.sampling_rate + self._resampler.lookahead

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Take samples [N], floats in [-1, 1], N from 0 on. Raises DataError for another shape, NaN or infinity."""
        return self._blocks.accept(self._resampler.accept(checked_samples(samples)))

    def finish(self) -> np.ndarray:
        """Return the frames that reach beyond the end; what is accepted next is another signal."""
        frames = self._blocks.accept(self._resampler.finish())
        return np.concatenate([frames, self._blocks.finish()])

    def reset(self) -> None:
        """Forget the signal."""
        self._resampler.reset()
        self._blocks.reset()


def checked_samples(samples: np.ndarray) -> np.ndarray:
    """Return a copy of samples [N] as float32. Raises DataError for another shape or type, NaN or infinity."""
    given = np.asarray(samples)
    if given.ndim != 1 or given.dtype.kind != "f":
        raise DataError(
            f"samples of type {given.dtype} and shape {list(given.shape)}",
            remedy="give floats in [-1, 1] of one channel, [N]; integers of 16 bits divided by 32768",
        )
    if not np.isfinite(given).all():
        raise DataError("samples that are NaN or infinite", remedy="look at what made them")
    return np.array(given, dtype=np.float32)


class FrameStack:
    """`stack_frames` on a stream: n frames side by side, [ceil(T / n), n D]; the last one fills the end."""

    def __init__(self, n: int) -> None:
        if n < 1:
            raise ConfigError(f"{n} frames side by side", remedy="1 or more")
        self._n = n
        self._rest: Optional[np.ndarray] = None

    def accept(self, x: np.ndarray) -> np.ndarray:
        """Take frames [T, D] and return those that are full."""
        if self._rest is not None:
            x = np.concatenate([self._rest, x])
        full = len(x) // self._n
        self._rest = x[full * self._n :].copy()
        return x[: full * self._n].reshape(full, x.shape[1] * self._n)

    def finish(self, dim: int) -> np.ndarray:
        """Return the last one [0 or 1, n D], and begin again."""
        rest, self._rest = self._rest, None
        if rest is None or not len(rest):
            return np.zeros((0, self._n * dim), np.float32)
        return np.concatenate([rest, np.repeat(rest[-1:], self._n - len(rest), axis=0)]).reshape(1, -1)

    def reset(self) -> None:
        """Forget the frames."""
        self._rest = None
