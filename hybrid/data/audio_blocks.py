"""Audio block by block, in flat memory: files of hours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Iterator, Optional, Tuple, Union

import numpy as np
import soundfile

from hybrid.data.audio import decoding, fault_of, inspect, load_samples
from hybrid.data.resampling import OnlineResampler
from hybrid.errors import DataError
from hybrid.io import PathLike

if TYPE_CHECKING:
    from lhotse.cut import Cut

SECONDS = 10.0  # of audio a block
_WHOLE = 600.0  # seconds of a cut that is not a part of one file which are read at once


def read_blocks(
    source: Union[Cut, PathLike], target_rate: int, *, channel: Optional[int] = None, seconds: float = SECONDS
) -> Iterator[np.ndarray]:
    """Yield the samples that `load_samples` returns, float32 [n], block by block.

    Raises DataError as it does; for a signal that is constant throughout at its end.
    """
    place = _place(source, channel)
    if place is None:
        yield from _in_parts(source, target_rate, channel)  # type: ignore[arg-type]
        return
    path, chosen, start, duration = place
    utterance = None if isinstance(source, (str, os.PathLike)) else source.id
    info = inspect(path, utterance=utterance)
    if chosen >= info.channels:
        what = f"no channel {chosen}: the audio has {info.channels}"
        raise DataError(what, file=path, utterance=utterance, remedy="give another channel")
    begin = round(start * info.sampling_rate)
    left = info.num_samples - begin
    if duration is not None:
        left = min(left, round(duration * info.sampling_rate))
    resampler = OnlineResampler(info.sampling_rate, target_rate)
    low, high = np.inf, -np.inf
    if left <= 0:
        raise DataError("no signal: no sample", file=path, utterance=utterance, remedy="take it out of the corpus")
    with decoding(info), soundfile.SoundFile(info.path) as stream:
        stream.seek(begin)
        while left:
            block = stream.read(min(left, round(seconds * info.sampling_rate)), dtype="float32", always_2d=True)
            if not len(block):
                raise DataError(
                    f"the audio file is truncated: {left} samples before its end are missing", file=path,
                    utterance=utterance, remedy="copy the file again",
                )  # fmt: skip
            left -= len(block)
            samples = block[:, chosen]
            bad = int(np.count_nonzero(~np.isfinite(samples)))
            low, high = min(low, samples.min()), max(high, samples.max())
            fault = fault_of(info.path, chosen, info.channels, bad, low, high if left == 0 else np.inf, utterance)
            if fault is not None:
                raise fault
            yield resampler.accept(samples)
    yield resampler.finish()


def _place(
    source: Union[Cut, PathLike], channel: Optional[int]
) -> Optional[Tuple[str, int, float, Optional[float]]]:
    """(file, channel, start, duration) of what is a part of one file as it is; None of what is not."""
    if isinstance(source, (str, os.PathLike)):
        return str(source), channel or 0, 0.0, None
    from lhotse.cut import MonoCut

    if not isinstance(source, MonoCut) or source.recording is None or source.recording.transforms:
        return None
    one = [it for it in source.recording.sources if it.type == "file" and source.channel in it.channels]
    if len(source.recording.sources) != 1 or not one:
        return None
    return str(one[0].source), one[0].channels.index(source.channel), source.start, source.duration


def _in_parts(cut: Cut, target_rate: int, channel: Optional[int]) -> Iterator[np.ndarray]:
    if cut.duration <= _WHOLE:
        yield load_samples(cut, target_rate, channel=channel)
        return
    resampler = OnlineResampler(cut.sampling_rate, target_rate)
    start = 0.0
    while start < cut.duration:
        part = cut.truncate(offset=start, duration=min(_WHOLE / 10, cut.duration - start))
        yield resampler.accept(load_samples(part, cut.sampling_rate, channel=channel))
        start += _WHOLE / 10
    yield resampler.finish()
