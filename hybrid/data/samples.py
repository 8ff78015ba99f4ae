"""Samples that a user gives, in whatever form."""

from __future__ import annotations

from typing import Optional, Sequence, Union

import numpy as np

from hybrid.errors import DataError

Samples = Union[np.ndarray, Sequence[float]]


def one_channel(samples: Samples, channel: Optional[int] = None) -> np.ndarray:
    """Return float32 [N] in [-1, 1] of floats, or integers of their full range, [N] or [channels, N].

    Raises DataError for what is no speech, and for several channels of which none is named.
    """
    samples = np.asarray(samples)
    if samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    if samples.dtype.kind != "f" or samples.ndim not in (1, 2):
        what = f"samples of type {samples.dtype} and shape {list(samples.shape)}"
        raise DataError(what, remedy="give numbers [N] or [channels, N]")
    if samples.ndim == 2:
        if channel is None and len(samples) != 1:
            raise DataError(
                f"samples of {len(samples)} channels", remedy="name one: asr(samples, rate, channel=0); [channels, N]"
            )
        if not 0 <= (channel or 0) < len(samples):
            raise DataError(f"no channel {channel}: there are {len(samples)}", remedy="give another channel")
        samples = samples[channel or 0]
    elif channel:
        raise DataError(f"no channel {channel}: the samples are of one", remedy="leave it out")
    if not np.isfinite(samples).all():
        raise DataError("samples that are NaN or infinite", remedy="look at what made them")
    return np.ascontiguousarray(samples, dtype=np.float32)
