"""Resampling of whole signals and of signals that come piece by piece, with the same bits.

The filter is that of scipy.signal.resample_poly: a windowed sinc h (Kaiser, beta 5) over 10 periods of the lower of the
two rates to either side. With up / down = target / rate in lowest terms, and h delayed so that outputs fall on its
centre,

    y[j] = sum_i h[j down - i up] x[i]

Each output is summed tap by tap, and does not depend on how many are computed together (scipy's upfirdn).
"""

from __future__ import annotations

from math import gcd
from typing import Tuple

import numpy as np

from hybrid.errors import ConfigError


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Resample [..., N] to float32 [..., round up(N * target_rate / rate)]."""
    x = np.asarray(samples, dtype=np.float32)
    if rate == target_rate:
        return x.copy()
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        resampler = OnlineResampler(rate, target_rate)
        rows.append(np.concatenate([resampler.accept(row), resampler.finish()]))
    return np.stack(rows).reshape(*x.shape[:-1], -1)


class OnlineResampler:
    """accept(samples [N]) -> the samples that they complete, finish() -> the rest, float32.

    Raises ConfigError for rates that are no whole numbers above 0.
    """

    def __init__(self, rate: int, target_rate: int) -> None:
        for value in (rate, target_rate):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ConfigError(f"a sampling rate of {value!r}", remedy="a whole number of Hz, such as 16000")
        self.rate = int(rate)
        factor = gcd(int(rate), int(target_rate))
        self._up, self._down = int(target_rate) // factor, int(rate) // factor
        self._filter, self._delay = _filter(self._up, self._down)
        self.reset()

    @property
    def lookahead(self) -> float:
        """The seconds of the signal after a sample that it is made of."""
        return self._delay * self._down / (self._up * self.rate)

    def reset(self) -> None:
        """Begin another signal."""
        self._samples = np.zeros(0, np.float32)
        self._start = 0  # of `_samples`; a multiple of `_down`, so that outputs keep their phase
        self._received = 0
        self._done = 0

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Take samples, any number of them."""
        if self._up == self._down:
            return np.asarray(samples, dtype=np.float32)
        self._received += len(samples)
        self._samples = np.concatenate([self._samples, np.asarray(samples, dtype=np.float32)])
        return self._outputs(-(-self._received * self._up // self._down) - self._delay)

    def finish(self) -> np.ndarray:
        """Return the samples that reach beyond the end, where zeros are; what is accepted next is another signal."""
        if self._up == self._down:
            return np.zeros(0, np.float32)
        wanted = -(-self._received * self._up // self._down)
        missing = -(-(wanted + self._delay) * self._down // self._up) + 1 - self._received
        self._samples = np.concatenate([self._samples, np.zeros(max(0, missing), np.float32)])
        rest = self._outputs(wanted)
        self.reset()
        return rest

    def _outputs(self, end: int) -> np.ndarray:
        """Outputs `_done` .. end."""
        if end <= self._done:
            return np.zeros(0, np.float32)
        first = self._start * self._up // self._down  # the output that falls on the first sample
        from scipy.signal import upfirdn  # 0.7 s to load, which speech of the right rate does not need

        y = upfirdn(self._filter, self._samples, self._up, self._down)
        result = np.array(y[self._done + self._delay - first : end + self._delay - first], dtype=np.float32)
        self._done = end
        oldest = -((len(self._filter) - 1 - (end + self._delay) * self._down) // self._up)
        keep = max(self._start, oldest // self._down * self._down)
        self._samples, self._start = self._samples[keep - self._start :].copy(), keep
        return result


def _filter(up: int, down: int) -> Tuple[np.ndarray, int]:
    """h, float32, delayed so that output `delay` falls on the first sample."""
    if up == down:
        return np.ones(1, np.float32), 0
    from scipy.signal import firwin

    most = max(up, down)
    half = 10 * most
    h = firwin(2 * half + 1, 1.0 / most, window=("kaiser", 5.0)).astype(np.float32) * np.float32(up)
    before = down - half % down
    return np.concatenate([np.zeros(before, np.float32), h]), (half + before) // down
