"""One noisy twin: the samples of a cut in a room with its noises, as a file that says what it was made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple
from urllib.parse import quote

import numpy as np
import soundfile
from lhotse import AudioSource, MonoCut, Recording
from lhotse.utils import fastcopy
from scipy import signal

from hybrid.data.audio import load_samples
from hybrid.data.flac import description_of, write_flac
from hybrid.data.noise import Noise, NoiseLibrary, active_power, mix
from hybrid.data.rooms import LEAD, Rooms, stable_rng
from hybrid.errors import ConfigError, DataError

PEAK = 0.99


@dataclass(frozen=True)
class NoiseCondition:
    """What is drawn for each cut, all of it uniform.

    name: goes into the ids; snr: dB; noises: least and most; relative_level: of several noises, +- dB;
    gain: level of the speech compared with the clean cut's, dB; kinds: of noise, None for all there are.
    """

    name: str
    snr: Tuple[float, float]
    noises: Tuple[int, int]
    relative_level: float = 5.0
    gain: Tuple[float, float] = (0.0, 0.0)
    kinds: Optional[Tuple[str, ...]] = None

    def __post_init__(self) -> None:
        for name in ("snr", "noises", "gain"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ConfigError(f"{name} {low:g} to {high:g}: the lowest comes first", remedy="swap the two")
        if self.noises[0] < 0:
            raise ConfigError(f"{self.noises[0]} noises", remedy="give none or more")


@dataclass(frozen=True)
class Job:
    """What a worker needs beside its cuts. rate: of the twins, in Hz; settings: a digest of all that they depend on."""

    noises: NoiseLibrary
    rooms: Rooms
    seed: int
    out_dir: Path
    condition: NoiseCondition
    copy: int
    rate: int
    settings: str

    def rng(self, cut_id: str) -> np.random.Generator:
        return stable_rng(self.condition.name, self.seed, cut_id, self.copy)

    def noisy_id(self, cut_id: str) -> str:
        return f"{cut_id}_{self.condition.name}{self.copy}"

    def path(self, cut_id: str) -> Path:
        """Return where the twin lies: an id may hold what no name of a file may."""
        name = self.noisy_id(cut_id)
        return self.out_dir / f"{quote(name, safe=' ') if '/' in name or '%' in name else name}.flac"


class Made(NamedTuple):
    """A twin on disk: its custom fields, and its length in samples."""

    custom: Dict[str, Any]
    samples: int


class Unusable(DataError):
    """A cut that no twin can be made of: the fault is its own."""


def make_noisy_cut(job: Job, cut: MonoCut) -> Made:
    """Write the twin of a cut unless it is there already.

    Raises Unusable for a cut whose audio is missing, broken, empty or silent, and DataError for a noise or a response
    that is broken, which would spoil cut after cut.
    """
    fingerprint = f"{job.settings} {_identity(cut)}"
    path = job.path(cut.id)
    description = description_of(path, fingerprint)
    if description is not None:
        return Made(description, soundfile.info(str(path)).frames)
    rng = job.rng(cut.id)
    key = job.rooms.choose(rng)  # first, as in _run: the same room
    condition = job.condition
    try:
        speech = load_samples(cut, job.rate)
    except DataError as error:
        raise Unusable(error.what, file=error.file, utterance=error.utterance, remedy=error.remedy) from error
    ratio = float(rng.uniform(*condition.snr))
    gain = float(rng.uniform(*condition.gain))
    count = int(rng.integers(condition.noises[0], condition.noises[1] + 1))
    place = job.rooms.open(key, job.rate).place(rng, count)
    reverberant = signal.oaconvolve(speech, place.talker)[LEAD : LEAD + len(speech)].astype(np.float32)
    noises = job.noises.draw(rng, count, condition.kinds)
    reverberant_noises = [
        _heard_noise(noise, rng, response, len(speech), job.rate)
        for noise, response in zip(noises, place.noises, strict=True)
    ]
    levels = [float(rng.uniform(-condition.relative_level, condition.relative_level)) for _ in noises]
    mixed, _ = mix(reverberant, reverberant_noises, levels, ratio, job.rate)
    before, after = active_power(speech, job.rate), active_power(reverberant, job.rate)
    scale = np.sqrt(before / after) * 10 ** (gain / 20)
    scale = min(scale, PEAK / float(np.abs(mixed).max()))
    custom = {
        "clean_cut": cut.id,
        "condition": condition.name,
        "copy": job.copy,
        "snr": round(ratio, 3) if count else None,
        "rt60": place.rt60,
        "room": place.room,
        "noises": [noise.name for noise in noises],
        "gain": round(float(10 * np.log10(scale**2 * after / before)), 3),
        **place.description,
    }
    write_flac(path, mixed * scale, job.rate, fingerprint, custom)
    return Made(custom, len(mixed))


def _heard_noise(
    noise: Noise, rng: np.random.Generator, response: np.ndarray, samples: int, rate: int
) -> np.ndarray:
    """Return a noise in the room, its reverberation already there at the first sample."""
    before = len(response) - 1
    dry = noise.segment(rng, before + samples, rate)
    return signal.oaconvolve(dry, response)[before : before + samples].astype(np.float32)


def _identity(cut: MonoCut) -> str:
    """Return what says that a cut is the one a file was made from: its place, its channel, name and size of its audio.

    Raises Unusable where it is no cut of one channel of a recording.
    """
    if not isinstance(cut, MonoCut):
        raise Unusable(
            "a cut of several tracks or channels", utterance=cut.id, remedy="give one cut a channel, without mixing"
        )
    if not cut.has_recording:
        raise Unusable("a cut without a recording", utterance=cut.id, remedy="leave this utterance out")
    text = f"{cut.start:g} {cut.duration:g} {_source(cut)}"
    if cut.start or cut.duration != cut.recording.duration:  # six digits do not tell the parts of a long one apart
        text += f" {cut.start!r}+{cut.duration!r}"
    return text if not cut.channel else f"{text} channel {cut.channel}"


def _source(cut: MonoCut) -> str:
    """Return name and size of the file behind a cut: enough to notice that it is another one."""
    sources = cut.recording.sources
    source = next((candidate for candidate in sources if cut.channel in candidate.channels), sources[0]).source
    if not isinstance(source, str):
        return "memory"
    path = Path(source)
    return f"{path.name} {path.stat().st_size if path.is_file() else 0}"


def noisy_manifest(job: Job, cut: MonoCut, made: Made) -> MonoCut:
    """Return the manifest of a twin, with the clean cut's supervisions."""
    name, samples = job.noisy_id(cut.id), made.samples
    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=[0], source=str(job.path(cut.id)))],
        sampling_rate=job.rate,
        num_samples=samples,
        duration=samples / job.rate,
    )
    supervisions = [
        replace(fastcopy(s), id=s.id.replace(cut.id, name, 1) if cut.id in s.id else name, recording_id=name, channel=0)
        for s in cut.supervisions
    ]
    return MonoCut(
        id=name,
        start=0.0,
        duration=recording.duration,
        channel=0,
        recording=recording,
        supervisions=supervisions,
        custom=dict(made.custom),
    )
