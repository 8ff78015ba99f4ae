"""Checked reading of audio: every way in which a file can be unusable is a DataError that names it.

libsndfile decodes (WAV, FLAC, NIST SPHERE with plain PCM, Ogg, MP3 ...). It reads a truncated WAV or SPHERE file
without a word, and lhotse fills up to half a second that is missing with a mirror image; so the length that the
header promises is compared with the size of the file here.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple, Union

import numpy as np
import soundfile
from lhotse import AudioSource, Recording
from lhotse.audio import backend as lhotse_backend
from lhotse.audio.utils import AudioLoadingError, DurationMismatchError
from lhotse.augmentation import Resample
from lhotse.cut import Cut, MixedCut

from hybrid.data.cut_bounds import within_recording
from hybrid.errors import DataError
from hybrid.io import PathLike

RATE = 16000
_LHOTSE_RAISES = (
    AudioLoadingError, DurationMismatchError, soundfile.SoundFileError, OSError, AssertionError, ValueError
)  # fmt: skip
COPY_AGAIN = "copy or download the file again, or take it out of the corpus"


def _read_sphere_with_libsndfile() -> None:
    """lhotse reads *.sph with an external program, sph2pipe, and nothing else; libsndfile reads PCM ones itself.

    A backend chosen by the user (LHOTSE_AUDIO_BACKEND or set_current_audio_backend) is left alone.
    """
    if os.environ.get("LHOTSE_AUDIO_BACKEND") is None and lhotse_backend.CURRENT_AUDIO_BACKEND is None:
        others = [
            backend
            for backend in lhotse_backend.get_default_audio_backend().backends
            if not isinstance(backend, lhotse_backend.Sph2pipeSubprocessBackend)
        ]
        lhotse_backend.set_current_audio_backend(lhotse_backend.CompositeAudioBackend(others))


_read_sphere_with_libsndfile()


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
        """Lhotse's manifest of the file, without opening it again."""
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
        size = path.stat().st_size
        if path.is_dir():
            raise DataError(
                "a folder stands where an audio file should", file=path, utterance=utterance, remedy=COPY_AGAIN
            )
        with open(path, "rb") as stream:
            head = stream.read(16)
    except FileNotFoundError:
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
    promised = _promised_size(path, head, utterance)
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
        raise DataError(
            f"not an audio file that libsndfile can read ({_short(error)})",
            file=path,
            utterance=utterance,
            remedy="convert it to WAV or FLAC (a compressed SPHERE file with sph2pipe)",
        ) from None
    if info.frames <= 0 or info.samplerate <= 0 or info.channels <= 0:
        raise DataError(
            f"the audio file holds no sample ({info.frames} samples at {info.samplerate} Hz)",
            file=path,
            utterance=utterance,
            remedy=COPY_AGAIN,
        )
    return AudioInfo(str(path), info.samplerate, info.frames, info.channels, info.format)


def check(path: PathLike) -> AudioInfo:
    """`inspect`, then decodes the whole file and looks at its samples. Raises DataError as `load_samples`."""
    info = inspect(path)
    load_samples(path, info.sampling_rate)
    return info


def load_samples(
    source: Union[Cut, PathLike], target_rate: int = RATE, *, channel: Optional[int] = None
) -> np.ndarray:
    """Float32 [N] in [-1, 1] at `target_rate`, of a cut (with its transforms and mixed tracks) or of a file.

    Of several channels the cut's own, or `channel`, or the first is taken. Raises DataError: whatever `inspect`
    finds, undecodable or missing samples, NaN or infinity, or a constant signal (silence or a stuck converter).
    """
    if isinstance(source, (str, os.PathLike)):
        file: Optional[str] = str(source)
        utterance = None
        samples, rate = _decode(inspect(source))
    else:
        samples, rate, file = _load_cut(source)
        utterance = source.id
    index = channel or 0
    if index >= len(samples):
        raise DataError(
            f"no channel {index}: the audio has {len(samples)}",
            file=file,
            utterance=utterance,
            remedy="give another channel",
        )
    one = np.ascontiguousarray(samples[index], dtype=np.float32)
    if not np.isfinite(one).all():
        bad = int(len(one) - np.isfinite(one).sum())
        raise DataError(f"{bad} samples are NaN or infinite", file=file, utterance=utterance, remedy=COPY_AGAIN)
    if one.size == 0 or one.min() == one.max():
        what = f"every sample has the same value ({one[0]:g})" if one.size else "no sample"
        raise DataError(f"no signal: {what}", file=file, utterance=utterance, remedy="take it out of the corpus")
    return one if rate == target_rate else resample(one, rate, target_rate)


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """[..., N] -> float32 [..., round up(N * target_rate / rate)]; the filter that lhotse's `resample` uses."""
    return np.ascontiguousarray(np.asarray(Resample(rate, target_rate)(samples)), dtype=np.float32)


def _decode(info: AudioInfo) -> Tuple[np.ndarray, int]:
    """Float32 [channels, N]."""
    try:
        samples, rate = soundfile.read(info.path, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise DataError(f"the audio cannot be decoded ({_short(error)})", file=info.path, remedy=COPY_AGAIN) from None
    if len(samples) < info.num_samples:
        raise DataError(
            f"the audio file is truncated: {len(samples)} of {info.num_samples} samples can be decoded",
            file=info.path,
            remedy=COPY_AGAIN,
        )
    return samples.T, rate


def _load_cut(cut: Cut) -> Tuple[np.ndarray, int, Optional[str]]:
    """(float32 [channels, N], rate, the first file), after a look at every file that the cut draws on."""
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
    except _LHOTSE_RAISES as error:
        raise DataError(
            f"the audio cannot be decoded ({_short(error)})", file=first, utterance=cut.id, remedy=COPY_AGAIN
        ) from error


def _sources(cut: Cut) -> Iterator[Tuple[Recording, AudioSource]]:
    for part in [track.cut for track in cut.tracks] if isinstance(cut, MixedCut) else [cut]:
        recording = getattr(part, "recording", None)
        if recording is not None:
            for source in recording.sources:
                yield recording, source


def _short(error: BaseException) -> str:
    """One line; of lhotse's list of every library that it tried, the first that it tried."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[min(1, len(lines) - 1) if lines[0].endswith("Details:") else 0][:200]


# ------------------------------------------------------------------ what a header promises


def _promised_size(path: Path, head: bytes, utterance: Optional[str]) -> Optional[int]:
    """The size in bytes that the file must have at least; None where the format does not say."""
    if head.startswith(b"NIST_1A"):
        return _sphere_size(path, utterance)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav_size(path)
    return None


def _sphere_size(path: Path, utterance: Optional[str]) -> Optional[int]:
    """NIST SPHERE: an ASCII header of a stated length, `name -type value` a line, then the samples.

    `sample_count` counts per channel.
    """
    with open(path, "rb") as stream:
        lines = stream.read(16).split(b"\n")
        try:
            length = int(lines[1])
        except (IndexError, ValueError):
            what = "the SPHERE header has no length"
            raise DataError(what, file=path, utterance=utterance, remedy=COPY_AGAIN) from None
        stream.seek(0)
        header = stream.read(min(length, 1 << 20))
    if len(header) < length or b"end_head" not in header:
        raise DataError("the SPHERE header is truncated", file=path, utterance=utterance, remedy=COPY_AGAIN)
    fields: Dict[str, Any] = {}
    for line in header.split(b"end_head")[0].decode("ascii", "replace").splitlines()[2:]:
        name, _, value = line.strip().partition(" ")
        fields[name] = value.partition(" ")[2]
    if "embedded" in fields.get("sample_coding", "pcm"):
        return None
    try:
        channels = int(fields.get("channel_count", 1))
        return length + int(fields["sample_count"]) * channels * int(fields.get("sample_n_bytes", 2))
    except (KeyError, ValueError):
        return None


def _wav_size(path: Path) -> Optional[int]:
    """RIFF: chunks of (name, size, bytes); 0 and 0xFFFFFFFF as the size of `data` mean "written to a pipe"."""
    with open(path, "rb") as stream:
        position = 12
        while True:
            stream.seek(position)
            chunk = stream.read(8)
            if len(chunk) < 8:
                return None
            name, size = struct.unpack("<4sI", chunk)
            position += 8
            if name == b"data":
                return None if size in (0, 0xFFFFFFFF) else position + size
            position += size + size % 2
