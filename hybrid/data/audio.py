"""Checked reading of audio: every way in which a file can be unusable is a DataError that names it.

libsndfile decodes (WAV, FLAC, NIST SPHERE with plain PCM, Ogg, MP3, AU, CAF ...). It reads a truncated file without a
word, and lhotse fills up to half a second that is missing with a mirror image; so the length that the header promises
(containers.py) is compared with the size of the file here.

lhotse, which loads torch, is imported where a cut or a manifest is in hand, not for files.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, Optional, Tuple, Union

import numpy as np
import soundfile

from hybrid.data.containers import COPY_AGAIN, FOREIGN, HEAD, foreign_name, not_audio_because, promised_size
from hybrid.data.resampling import resample
from hybrid.errors import DataError
from hybrid.io import PathLike

if TYPE_CHECKING:
    from lhotse import AudioSource, Recording
    from lhotse.cut import Cut

RATE = 16000
BLOCK = 1 << 20  # samples decoded at a time where a whole file is looked at: an hour of speech need not lie in memory


@cache
def read_sphere_with_libsndfile() -> None:
    """Let lhotse read *.sph by libsndfile, which reads PCM ones, and not by an external program, sph2pipe.

    A backend chosen by the user (LHOTSE_AUDIO_BACKEND or set_current_audio_backend) is left alone.
    """
    from lhotse.audio import backend as lhotse_backend

    default = lhotse_backend.get_default_audio_backend().backends
    current = lhotse_backend.CURRENT_AUDIO_BACKEND
    chosen = current is not None and list(map(type, getattr(current, "backends", []))) != list(map(type, default))
    if os.environ.get("LHOTSE_AUDIO_BACKEND") is None and not chosen:
        backends = [
            backend for backend in default if not isinstance(backend, lhotse_backend.Sph2pipeSubprocessBackend)
        ]
        lhotse_backend.set_current_audio_backend(lhotse_backend.CompositeAudioBackend(backends))


if "lhotse" in sys.modules:  # else when a cut is in hand
    read_sphere_with_libsndfile()


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says, found to agree with the file: `num_samples` is per channel."""

    path: str
    sampling_rate: int
    num_samples: int
    channels: int
    format: str

    @property
    def duration(self) -> float:
        return self.num_samples / self.sampling_rate

    def recording(self, identifier: str) -> Recording:
        """Return Lhotse's manifest of the file, without opening it again."""
        from lhotse import AudioSource, Recording

        read_sphere_with_libsndfile()
        channels = list(range(self.channels))
        return Recording(
            id=identifier,
            sources=[AudioSource(type="file", channels=channels, source=self.path)],
            sampling_rate=self.sampling_rate,
            num_samples=self.num_samples,
            duration=self.duration,
            channel_ids=channels,
        )


def inspect(path: PathLike, *, utterance: Optional[str] = None) -> AudioInfo:
    """Reads the header. Raises DataError: missing, empty, not audio, truncated, or without a sample."""
    path = Path(path)
    try:
        about = path.stat()
        size = about.st_size
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, and cannot be read twice
            kind = "a folder stands" if stat.S_ISDIR(about.st_mode) else "what is no plain file stands"
            raise DataError(
                f"{kind} where an audio file should", file=path, utterance=utterance, remedy=COPY_AGAIN
            )
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
    except (FileNotFoundError, ValueError):  # a NUL in the name
        raise DataError(
            "no such audio file", file=path, utterance=utterance, remedy="restore it, or take it out of the corpus"
        ) from None
    except OSError as error:
        raise DataError(
            f"the audio file cannot be read: {error.strerror}",
            file=path,
            utterance=utterance,
            remedy="check its permissions and the disk it lies on",
        ) from error
    if size == 0:
        raise DataError("the audio file is empty (0 bytes)", file=path, utterance=utterance, remedy=COPY_AGAIN)
    promised = promised_size(path, head, utterance)
    if promised is not None and size < promised:
        raise DataError(
            f"the audio file is truncated: its header promises {promised} bytes and {size} are there",
            file=path,
            utterance=utterance,
            remedy=COPY_AGAIN,
        )
    try:
        info = soundfile.info(str(path))
    except soundfile.SoundFileError as error:
        raise _unreadable(path, head, utterance, error) from None
    if info.frames <= 0 or info.samplerate <= 0 or info.channels <= 0:
        raise DataError(
            f"the audio file holds no sample ({info.frames} samples at {info.samplerate} Hz in {size} bytes)",
            file=path,
            utterance=utterance,
            remedy=COPY_AGAIN + " (was it written to a pipe? `sox --ignore-length` mends its header)",
        )
    return AudioInfo(str(path), info.samplerate, info.frames, info.channels, info.format)


def _unreadable(path: Path, head: bytes, utterance: Optional[str], error: BaseException) -> DataError:
    """What is wrong with a file that libsndfile cannot read, and what to do about it."""
    container, kind = foreign_name(head), not_audio_because(head)
    if container is not None:
        suffix = path.suffix.lower()
        problem = f"{suffix[1:]} is not read ({container})" if suffix in FOREIGN else f"{container} is not read"
        remedy = f"convert it: ffmpeg -i {path.name} {path.stem}.flac"
    elif kind is not None:
        problem, remedy = f"not an audio file but {kind}", COPY_AGAIN
    else:
        problem = f"not an audio file that libsndfile can read ({_short(error)})"
        remedy = "convert it to WAV or FLAC (a compressed SPHERE file with sph2pipe)"
    return DataError(problem, file=path, utterance=utterance, remedy=remedy)


def check(path: PathLike) -> AudioInfo:
    """Return what `inspect` does, after the whole file was decoded. Raises DataError as `load_samples`."""
    info, faults = scan(path)
    if 0 in faults:
        raise faults[0]
    return info


def scan(path: PathLike) -> Tuple[AudioInfo, Dict[int, DataError]]:
    """Decode a whole file; return what its header says, and what is wrong with single channels (counted from 0).

    Raises DataError as `inspect`, and for what cannot be decoded.
    """
    info = inspect(path)
    low, high = np.full(info.channels, np.inf), np.full(info.channels, -np.inf)
    bad = np.zeros(info.channels, dtype=np.int64)
    frames = 0
    with decoding(info), soundfile.SoundFile(info.path) as stream:
        for block in stream.blocks(BLOCK, dtype="float32", always_2d=True):
            frames += len(block)
            bad += np.count_nonzero(~np.isfinite(block), axis=0)
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    _check_length(info, frames)
    faults = {
        channel: error
        for channel in range(info.channels)
        if (error := fault_of(info.path, channel, info.channels, int(bad[channel]), low[channel], high[channel]))
    }
    return info, faults


def fault_of(
    file: Optional[str],
    channel: int,
    channels: int,
    bad: int,
    low: float,
    high: float,
    utterance: Optional[str] = None,
) -> Optional[DataError]:
    """What is wrong with the samples of a channel, of which `bad` are not finite, between `low` and `high`."""
    place = f" in channel {channel} of {channels} (counted from 0)" if channels > 1 else ""
    remedy = "choose another channel, or take it out of the corpus" if channels > 1 else "take it out of the corpus"
    if bad:
        return DataError(
            f"{bad} samples are NaN or infinite{place}", file=file, utterance=utterance, remedy=COPY_AGAIN
        )
    if low == high:
        return DataError(
            f"no signal{place}: every sample has the same value ({low:g})",
            file=file,
            utterance=utterance,
            remedy=remedy,
        )
    return None


def load_samples(
    source: Union[Cut, PathLike], target_rate: int = RATE, *, channel: Optional[int] = None
) -> np.ndarray:
    """Return the samples of a cut (with its transforms and mixed tracks) or of a file, at `target_rate`.

    They are float32 [N] in [-1, 1]. Of several channels the cut's own, or `channel`, or the first is taken.
    Raises DataError: whatever `inspect` finds, undecodable or missing samples, NaN or infinity, or a constant signal
    (silence or a stuck converter).
    """
    index = channel or 0
    if isinstance(source, (str, os.PathLike)):
        file: Optional[str] = str(source)
        utterance = None
        samples, rate = _decode(inspect(source))
        source_channel, channels = index, len(samples)
    else:
        from lhotse.cut import MonoCut

        samples, rate, file = _load_cut(source)
        utterance = source.id
        source_channel, channels = index, len(samples)
        if isinstance(source, MonoCut) and source.recording is not None:
            source_channel, channels = source.channel, source.recording.num_channels
    if index >= len(samples):
        raise DataError(
            f"no channel {index}: the audio has {len(samples)}",
            file=file,
            utterance=utterance,
            remedy="give another channel",
        )
    mono = np.ascontiguousarray(samples[index], dtype=np.float32)
    if not mono.size:
        raise DataError("no signal: no sample", file=file, utterance=utterance, remedy="take it out of the corpus")
    bad = int(np.count_nonzero(~np.isfinite(mono)))
    fault = fault_of(file, source_channel, channels, bad, float(mono.min()), float(mono.max()), utterance)
    if fault is not None:
        raise fault
    return mono if rate == target_rate else resample(mono, rate, target_rate)


def _decode(info: AudioInfo) -> Tuple[np.ndarray, int]:
    """Float32 [channels, N]."""
    with decoding(info):
        samples, rate = soundfile.read(info.path, dtype="float32", always_2d=True)
    _check_length(info, len(samples))
    return samples.T, rate


@contextmanager
def decoding(info: AudioInfo) -> Iterator[None]:
    try:
        yield
    except soundfile.SoundFileError as error:
        raise DataError(f"the audio cannot be decoded ({_short(error)})", file=info.path, remedy=COPY_AGAIN) from None


def _check_length(info: AudioInfo, frames: int) -> None:
    if frames < info.num_samples:
        raise DataError(
            f"the audio file is truncated: {frames} of {info.num_samples} samples can be decoded",
            file=info.path,
            remedy=COPY_AGAIN,
        )


def _load_cut(cut: Cut) -> Tuple[np.ndarray, int, Optional[str]]:
    """(float32 [channels, N], rate, the first file), after a look at every file that the cut draws on."""
    from lhotse.audio.utils import AudioLoadingError, DurationMismatchError

    from hybrid.data.cut_bounds import within_recording

    read_sphere_with_libsndfile()
    raised = (
        AudioLoadingError, DurationMismatchError, soundfile.SoundFileError, OSError, AssertionError, ValueError
    )  # fmt: skip
    first: Optional[str] = None
    for recording, source in _sources(cut):
        if source.type != "file":
            continue
        first = first or str(source.source)
        info = inspect(source.source, utterance=cut.id)
        same_time_base = not recording.transforms and info.sampling_rate == recording.sampling_rate
        if same_time_base and info.num_samples < recording.num_samples:
            raise DataError(
                f"the file has {info.num_samples} samples where the manifest says {recording.num_samples}",
                file=info.path,
                utterance=cut.id,
                remedy="it was changed since the prepare stage: run that again",
            )
    cut = within_recording(cut)
    try:
        return np.atleast_2d(cut.load_audio()), cut.sampling_rate, first
    except raised as error:
        raise DataError(
            f"the audio cannot be decoded ({_short(error)})", file=first, utterance=cut.id, remedy=COPY_AGAIN
        ) from error


def _sources(cut: Cut) -> Iterator[Tuple[Recording, AudioSource]]:
    from lhotse.cut import MixedCut

    for track_cut in [track.cut for track in cut.tracks] if isinstance(cut, MixedCut) else [cut]:
        recording = getattr(track_cut, "recording", None)
        if recording is not None:
            for source in recording.sources:
                yield recording, source


def _short(error: BaseException) -> str:
    """One line; of lhotse's list of every library that it tried, the first that it tried."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[min(1, len(lines) - 1) if lines[0].endswith("Details:") else 0][:200]
