"""Noises: a library of recordings by kind, and their mixing with speech at a given ratio of powers."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import soundfile
from scipy import signal

from hybrid.data.containers import READABLE
from hybrid.data.rooms import RATE
from hybrid.errors import DataError

ACTIVE_RANGE = 30.0  # dB below the strongest frame
OUTSIDE = 0.25  # a noise is at most 6 dB stronger over all of a cut than its ratio to the speech says
FOLDERS = "give a folder with one subfolder a kind (music, dialogue, babble, household), each with recordings"
SILENCE = 1e-4  # rms, -80 dB of full scale: nothing that a gain should bring up to the level of speech


def frame_length(rate: int) -> int:
    """Return the samples in a frame of 20 ms: 320 at 16 kHz."""
    return max(1, rate // 50)


def active_frames(audio: np.ndarray, rate: int = RATE) -> np.ndarray:
    """Find the frames of 20 ms that hold speech: those within 30 dB of the strongest. bool [ceil(samples / frame)].

    A simple stand-in for ITU-T P.56: pauses do not count, so that a cut with long silences gets no softer noise.
    """
    frame = frame_length(rate)
    padded = np.pad(audio.astype(np.float64), (0, -len(audio) % frame))
    energy = np.square(padded).reshape(-1, frame).mean(axis=1)
    return energy > energy.max(initial=0.0) * 10 ** (-ACTIVE_RANGE / 10)


def active_power(audio: np.ndarray, rate: int = RATE) -> float:
    """Return the mean square of `audio` [samples] over its active frames; 0 for silence."""
    active = np.repeat(active_frames(audio, rate), frame_length(rate))[: len(audio)]
    return float(np.square(audio[active].astype(np.float64)).mean()) if active.any() else 0.0


def active_span(audio: np.ndarray, rate: int = RATE) -> slice:
    """Return the samples from the first active frame to the last, pauses between included."""
    active = np.flatnonzero(active_frames(audio, rate))
    if active.size == 0:
        return slice(0, len(audio))
    frame = frame_length(rate)
    return slice(int(active[0]) * frame, min(len(audio), (int(active[-1]) + 1) * frame))


def noise_power(noise: np.ndarray, speech: np.ndarray, rate: int = RATE) -> float:
    """Return the mean square of `noise` over the active span of `speech`, or OUTSIDE times that over all: what is more.

    A dog that barks before or after the speech alone has next to no power while it lasts: brought to the ratio wanted
    there, the bark would be 100 dB above the speech, and of that nothing left.
    """
    square = np.square(noise.astype(np.float64))
    return max(float(square[active_span(speech, rate)].mean()), OUTSIDE * float(square.mean())) if len(noise) else 0.0


def snr(speech: np.ndarray, noise: np.ndarray, rate: int = RATE) -> float:
    """Return in dB the power of active speech to that of the noise over the span of that speech (as noise_power)."""
    powers = active_power(speech, rate), noise_power(noise, speech, rate)
    if min(powers) <= 0:
        raise DataError("the ratio of speech to noise of silence", remedy="leave this utterance out")
    return 10 * math.log10(powers[0] / powers[1])


def mix(
    speech: np.ndarray, noises: Sequence[np.ndarray], levels: Sequence[float], ratio: float, rate: int = RATE
) -> Tuple[np.ndarray, List[float]]:
    """Add all `noises` [samples each] to `speech` [samples]; return the sum and the gain of each noise.

    levels: dB, one a noise: their powers relative to each other; ratio: dB, `snr` of speech to the sum of noises.
    Raises DataError where speech or every noise is silent over the span of the speech.
    """
    if not noises:
        return speech, []
    powers = [noise_power(noise, speech, rate) for noise in noises]
    gains = [
        10 ** (level / 20) / math.sqrt(power) if power > 0 else 0.0
        for level, power in zip(levels, powers, strict=True)
    ]
    total = np.sum([gain * noise for gain, noise in zip(gains, noises, strict=True)], axis=0)
    scale = 10 ** ((snr(speech, total, rate) - ratio) / 20)
    return (speech + scale * total).astype(np.float32), [gain * scale for gain in gains]


@dataclass(frozen=True)
class Noise:
    """One recording. frames: its length in samples at its own `rate`; `samples` instead of a file where given."""

    name: str
    kind: str
    frames: int
    rate: int
    path: Optional[str] = None
    samples: Optional[np.ndarray] = field(default=None, compare=False, repr=False)

    def read(self, start: int = 0, frames: int = -1, rate: int = RATE) -> np.ndarray:
        """Return float32 [samples] at `rate`, the mean of its channels; start and frames count at the noise's own rate.

        Raises DataError where the file is broken or holds what is no number.
        """
        if self.samples is not None:
            audio = self.samples[start:] if frames < 0 else self.samples[start : start + frames]
        else:
            try:
                raw, _ = soundfile.read(self.path, frames=frames, start=start, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, OSError) as error:
                raise DataError(
                    f"a noise that cannot be read: {error}", file=self.path, remedy="delete it or put a whole one there"
                ) from None
            audio = raw.mean(axis=1)
        if not np.isfinite(audio).all():
            raise DataError("a noise with values that are not finite", file=self.path or self.name, remedy="delete it")
        if self.rate != rate:
            common = math.gcd(self.rate, rate)
            audio = signal.resample_poly(audio, rate // common, self.rate // common)
        return np.ascontiguousarray(audio, dtype=np.float32)

    def segment(self, rng: np.random.Generator, samples: int, rate: int = RATE) -> np.ndarray:
        """Return float32 [samples] at `rate` from a random offset.

        A recording shorter than that is repeated with cross-fades, its silent ends cut off first. In a longer one a
        silent stretch is drawn again, up to eight times. Raises DataError where there is nothing but silence.
        """
        needed = math.ceil(samples * self.rate / rate)
        if self.frames > needed:
            for _ in range(8):
                excerpt = self.read(int(rng.integers(self.frames - needed + 1)), needed, rate)[:samples]
                excerpt = np.pad(excerpt, (0, samples - len(excerpt)))
                if rms(excerpt) > SILENCE:
                    return excerpt
        recording = trim(self.read(rate=rate))
        if rms(recording) <= SILENCE:
            raise DataError("a noise that is silent", file=self.path or self.name, remedy="delete it")
        repeated = repeat(recording, 2 * max(samples, len(recording)), rate // 20)
        start = int(rng.integers(max(1, min(len(recording), len(repeated) - samples))))
        return repeated[start : start + samples]


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.square(audio.astype(np.float64)).mean())) if audio.size else 0.0


def trim(audio: np.ndarray) -> np.ndarray:
    """Cut the silent ends off `audio`: what is 60 dB or more below its largest sample.

    Clips are often padded with zeros.
    """
    loud = np.flatnonzero(np.abs(audio) > 1e-3 * np.abs(audio).max(initial=0.0))
    return audio[loud[0] : loud[-1] + 1] if loud.size else audio[:0]


def repeat(audio: np.ndarray, samples: int, fade: int = RATE // 20) -> np.ndarray:
    """Repeat `audio` for at least `samples`, each joint a cross-fade of equal power (50 ms, or a quarter)."""
    if len(audio) >= samples:
        return audio
    fade = min(fade, len(audio) // 4)
    if fade == 0:
        return np.tile(audio, math.ceil(samples / len(audio)))
    step = len(audio) - fade
    count = math.ceil((samples - fade) / step)
    ramp = np.sin(0.5 * np.pi * (np.arange(fade) + 0.5) / fade).astype(np.float32)
    faded = audio.astype(np.float32, copy=True)
    faded[:fade] *= ramp
    faded[-fade:] *= ramp[::-1]
    out = np.zeros(count * step + fade, dtype=np.float32)
    for i in range(count):
        out[i * step : i * step + len(audio)] += faded
    out[:fade] = audio[:fade]  # the very beginning has nothing to fade from
    return out


def scan_noises(folder: Union[str, Path]) -> List[Noise]:
    """List the recordings of a folder by name: a subfolder a kind, those beside the subfolders of the kind "noise".

    Anything that libsndfile reads; only headers are read here. Raises DataError where the folder is missing, or
    without a recording, and for a file that is no audio.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError("no such folder of noises", file=root, remedy=FOLDERS)
    noises = []
    for path in audio_files(root):
        name = path.relative_to(root)
        try:
            info = soundfile.info(str(path))
        except soundfile.LibsndfileError as error:
            raise DataError(f"a noise that cannot be read: {error}", file=path, remedy="delete the file") from None
        if info.frames == 0:
            raise DataError("a noise without a sample", file=path, remedy="delete the file")
        kind = name.parts[0] if len(name.parts) > 1 else "noise"
        noises.append(Noise(str(name), kind, info.frames, info.samplerate, str(path)))
    if not noises:
        raise DataError("no noise in this folder", file=root, remedy=FOLDERS)
    return noises


def audio_files(folder: Path) -> List[Path]:
    """List the files of a folder and those below that have a name which libsndfile reads, sorted.

    Links to folders are followed; what is hidden is left out.
    """
    paths: List[Path] = []
    real_paths = set()
    for home, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(home)
        folders[:] = [] if real in real_paths else [name for name in folders if not name.startswith(".")]
        if real not in real_paths:
            paths += [Path(home, name) for name in files if not name.startswith(".")]
        real_paths.add(real)
    return sorted(path for path in paths if path.suffix.lower() in READABLE and path.is_file())


class NoiseLibrary:
    """Noises by kind (music, dialogue, babble, household, ...)."""

    def __init__(self, noises: Sequence[Noise]) -> None:
        if not noises:
            raise DataError("a noise library without noises", remedy="put recordings into one folder a kind")
        self.kinds: Dict[str, List[Noise]] = {}
        for noise in sorted(noises, key=lambda n: (n.kind, n.name)):
            self.kinds.setdefault(noise.kind, []).append(noise)

    def __len__(self) -> int:
        return sum(len(noises) for noises in self.kinds.values())

    @classmethod
    def from_folder(cls, folder: Union[str, Path], kinds: Optional[Sequence[str]] = None) -> NoiseLibrary:
        """Open a folder as `scan_noises` does; `kinds`: only these.

        Raises DataError where the folder or a kind is missing, empty or no audio.
        """
        noises = [noise for noise in scan_noises(folder) if kinds is None or noise.kind in kinds]
        available = {noise.kind for noise in noises}
        for kind in kinds or ():
            if kind not in available:
                raise DataError(f"no noise of the kind {kind!r}", file=folder, remedy=FOLDERS)
        return cls(noises)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Mapping[str, np.ndarray]], rate: int = RATE) -> NoiseLibrary:
        """Make a library of {kind: {name: float [samples]}}, all at `rate`."""
        return cls(
            [
                Noise(f"{kind}/{name}", kind, len(samples), rate, samples=np.asarray(samples, dtype=np.float32))
                for kind, members in arrays.items()
                for name, samples in members.items()
            ]
        )

    def draw(self, rng: np.random.Generator, count: int, kinds: Optional[Sequence[str]] = None) -> List[Noise]:
        """Draw `count` different recordings: first a kind, all alike likely, then a recording of it.

        Raises DataError where the library has fewer.
        """
        pool = sorted(kinds or self.kinds)
        noises: List[Noise] = []
        while len(noises) < count:
            members = self.kinds.get(pool[int(rng.integers(len(pool)))], [])
            free = [noise for noise in members if noise not in noises]
            if not free:
                if len(noises) >= sum(len(self.kinds.get(kind, ())) for kind in pool):
                    raise DataError(
                        f"{count} noises wanted, {len(noises)} in the library", remedy="add recordings or ask for fewer"
                    )
                continue
            noises.append(free[int(rng.integers(len(free)))])
        return noises

    def describe(self) -> Dict[str, str]:
        """Return a digest of names and lengths: plain, and different for another library."""
        text = "\n".join(f"{n.name} {n.frames} {n.rate}" for members in self.kinds.values() for n in members)
        return {"noises": hashlib.blake2b(text.encode("utf-8"), digest_size=8).hexdigest()}
