"""The three conditions: from clean cuts to noisy and re-recorded ones that know their clean twins.

    speech ---> * talker's response ---------------------------------+
    noise 1 --> * its own response --> relative level --+            |
    noise 2 --> * ...                                   +--> gain --> + --> level --> 16-bit FLAC
    noise 3 --> * ...                                   |   (SNR)
                                                       ...
SNR is the power of the reverberated speech over its active frames (20 ms, within 30 dB of the strongest) to the power
of all noises together from the first of these frames to the last. A noisy cut is exactly as long as its clean twin and
lined up with it (the delay of the direct path is cut off), so the twin's alignments and targets are its own.

What is random about a cut depends on the seed, the cut's id and the number of the copy alone, never on the other cuts,
their order or the number of processes. Every file carries its own description as a FLAC comment: a run that was
killed goes on with the files that are there, and a file of other settings is made again.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
from lhotse import AudioSource, CutSet, MonoCut, Recording
from lhotse.utils import fastcopy
from scipy import signal

from hybrid.data.audio import load_samples
from hybrid.data.flac import description_of, write_flac
from hybrid.data.measured import MeasuredRooms
from hybrid.data.noise import Noise, NoiseLibrary, active_power, mix
from hybrid.data.rooms import LEAD, RATE, Rooms, SimulatedRooms, stable_rng
from hybrid.errors import ConfigError, DataError, HybridError
from hybrid.io import Problems

VERSION = 2  # raise it when the same settings would give other samples
PEAK = 0.99


@dataclass(frozen=True)
class Prescription:
    """What is drawn for each cut, all of it uniform.

    condition: goes into the ids; snr: dB; noises: least and most; relative_level: of several noises, +- dB;
    gain: level of the speech compared with the clean cut's, dB; kinds: of noise, None for all there are.
    """

    condition: str
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


# The prescription of the test sets: results compare only where nobody changes these.
NOISY = Prescription("noisy", snr=(0.0, 15.0), noises=(1, 3))
RERECORDED = Prescription("rerecorded", snr=(5.0, 15.0), noises=(1, 2))


def make_noisy(
    cuts: CutSet,
    noises: NoiseLibrary,
    *,
    seed: int,
    out_dir: Union[str, Path],
    prescription: Prescription = NOISY,
    rooms: Optional[Rooms] = None,
    executor: Optional[Executor] = None,
    copy: int = 1,
    problems: Optional[Problems] = None,
    progress: Optional[Callable[[int], None]] = None,
) -> CutSet:
    """Noisy twins of `cuts`, in their order: speech and noises in simulated rooms (image method).

    rooms: by default every cut has a shoebox of its own, RT60 0.2 to 0.6 s, the talker at 1 to 3 m; for training
    copies a pool (`SimulatedRooms(seed, number=200)`) is cheaper.
    A twin's id is `{id}_{condition}{copy}`; its custom fields are clean_twin, condition, copy, snr (dB), rt60 (s),
    noises (their names), room, gain (dB, of the speech's level against the clean cut's) and the room's description.
    problems: takes the cuts that could not be used, which are left out; without it the first one raises DataError.
    progress: called with the number of cuts just done.
    """
    rooms = SimulatedRooms(seed) if rooms is None else rooms
    return _augment(cuts, noises, rooms, seed, Path(out_dir), prescription, executor, copy, problems, progress)


def make_rerecorded(
    cuts: CutSet,
    rooms: Union[Rooms, str, Path],
    noises: NoiseLibrary,
    *,
    seed: int,
    out_dir: Union[str, Path],
    prescription: Prescription = RERECORDED,
    executor: Optional[Executor] = None,
    copy: int = 1,
    problems: Optional[Problems] = None,
    progress: Optional[Callable[[int], None]] = None,
) -> CutSet:
    """The stand-in for a re-recording: talker and noises through rooms never seen in training.

    rooms: a folder of measured responses ("measured rooms"), or any provider (where nothing was measured,
    `SimulatedRooms` of another make: "simulated re-recording"). The rest is as in `make_noisy`.
    """
    provider = MeasuredRooms(rooms) if isinstance(rooms, (str, Path)) else rooms
    return _augment(cuts, noises, provider, seed, Path(out_dir), prescription, executor, copy, problems, progress)


@dataclass(frozen=True)
class _Job:
    """What a worker needs beside its cuts."""

    noises: NoiseLibrary
    rooms: Rooms
    seed: int
    out_dir: Path
    prescription: Prescription
    copy: int
    settings: str

    def rng(self, cut_id: str) -> np.random.Generator:
        return stable_rng(self.prescription.condition, self.seed, cut_id, self.copy)

    def twin_id(self, cut_id: str) -> str:
        return f"{cut_id}_{self.prescription.condition}{self.copy}"


def _augment(
    cuts: CutSet,
    noises: NoiseLibrary,
    rooms: Rooms,
    seed: int,
    out_dir: Path,
    prescription: Prescription,
    executor: Optional[Executor],
    copy: int,
    problems: Optional[Problems],
    progress: Optional[Callable[[int], None]],
) -> CutSet:
    parts = [VERSION, seed, copy, asdict(prescription), rooms.describe(), noises.describe()]
    settings = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode("utf-8"), digest_size=8).hexdigest()
    job = _Job(noises, rooms, seed, out_dir, prescription, copy, settings)
    clean: Dict[str, MonoCut] = {}
    for cut in cuts:
        if cut.id in clean:
            raise DataError("two cuts of one id", utterance=cut.id, remedy="make the ids of the corpus unique")
        clean[cut.id] = cut
    done: Dict[str, Dict[str, Any]] = {}
    problems_of: Dict[str, HybridError] = {}
    for results in _run(job, list(clean.values()), executor):
        for cut_id, result in results:
            if isinstance(result, HybridError):
                if problems is None:
                    raise result
                problems_of[cut_id] = result
            else:
                done[cut_id] = result
        if progress is not None:
            progress(len(results))
    twins = []
    for cut_id, cut in clean.items():
        if cut_id in done:
            twins.append(_twin(job, cut, done[cut_id]))
        elif problems is not None:
            problems.add_error(cut_id, problems_of[cut_id])
    return CutSet.from_cuts(twins)


def _run(job: _Job, cuts: Sequence[MonoCut], executor: Optional[Executor]) -> Iterator[List[Tuple[str, Any]]]:
    """Results in any order, a batch at a time: cuts of one room together, so that it is simulated once."""
    by_room: Dict[str, List[MonoCut]] = {}
    for cut in cuts:
        by_room.setdefault(job.rooms.choose(job.rng(cut.id)), []).append(cut)
    batches: List[List[MonoCut]] = [[]]
    for members in by_room.values():
        for start in range(0, len(members), 32):
            batches[-1].extend(members[start : start + 32])
            if len(batches[-1]) >= 16:
                batches.append([])
    batches = [batch for batch in batches if batch]
    if executor is None:
        for batch in batches:
            yield _process(job, batch)
        return
    # A window: all at once would hold every cut of a large corpus in the queue.
    pending: set[Future] = set()
    try:
        for batch in batches:
            if len(pending) >= 64:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
            pending.add(executor.submit(_process, job, batch))
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        for future in pending:
            future.cancel()


def _process(job: _Job, cuts: Sequence[MonoCut]) -> List[Tuple[str, Union[Dict[str, Any], HybridError]]]:
    results: List[Tuple[str, Union[Dict[str, Any], HybridError]]] = []
    for cut in cuts:
        results.append((cut.id, _one(job, cut)))
    return results


def _path(job: _Job, cut: MonoCut) -> Path:
    return job.out_dir / f"{job.twin_id(cut.id)}.flac"


def _one(job: _Job, cut: MonoCut) -> Union[Dict[str, Any], HybridError]:
    """Writes the twin of one cut unless it is there already; returns its custom fields, or why it cannot be used.

    A noise or a response that is broken is raised, and stops the stage: it would spoil cut after cut.
    """
    path = _path(job, cut)
    fingerprint = f"{job.settings} {cut.start:g} {cut.duration:g} {_source(cut)}"
    there = description_of(path, fingerprint)
    if there is not None:
        return there
    rng = job.rng(cut.id)
    key = job.rooms.choose(rng)  # first, as in _run: the same room
    prescription = job.prescription
    try:
        speech = _speech(cut)
    except DataError as error:
        return error
    ratio = float(rng.uniform(*prescription.snr))
    gain = float(rng.uniform(*prescription.gain))
    count = int(rng.integers(prescription.noises[0], prescription.noises[1] + 1))
    place = job.rooms.open(key).place(rng, count)
    heard = signal.oaconvolve(speech, place.talker)[LEAD : LEAD + len(speech)].astype(np.float32)
    chosen = job.noises.draw(rng, count, prescription.kinds)
    parts = [
        _heard_noise(noise, rng, response, len(speech)) for noise, response in zip(chosen, place.noises, strict=True)
    ]
    levels = [float(rng.uniform(-prescription.relative_level, prescription.relative_level)) for _ in chosen]
    mixed, _ = mix(heard, parts, levels, ratio)
    scale = np.sqrt(active_power(speech) / active_power(heard)) * 10 ** (gain / 20)
    scale = min(scale, PEAK / float(np.abs(mixed).max()))
    custom = {
        "clean_twin": cut.id,
        "condition": prescription.condition,
        "copy": job.copy,
        "snr": round(ratio, 3) if count else None,
        "rt60": place.rt60,
        "room": place.room,
        "noises": [noise.name for noise in chosen],
        "gain": round(float(10 * np.log10(scale**2 * active_power(heard) / active_power(speech))), 3),
        **place.description,
    }
    write_flac(path, mixed * scale, RATE, fingerprint, custom)
    return custom


def _heard_noise(noise: Noise, rng: np.random.Generator, response: np.ndarray, samples: int) -> np.ndarray:
    """A noise in the room, its reverberation already there at the first sample."""
    before = len(response) - 1
    dry = noise.segment(rng, before + samples)
    return signal.oaconvolve(dry, response)[before : before + samples].astype(np.float32)


def _speech(cut: MonoCut) -> np.ndarray:
    """float32 [samples] at 16 kHz. Raises DataError where the audio is missing, broken, empty or silent."""
    if not cut.has_recording:
        raise DataError("a cut without a recording", utterance=cut.id, remedy="leave this utterance out")
    return load_samples(cut, RATE)


def _source(cut: MonoCut) -> str:
    """Name and size of the file behind a cut: enough to notice that it is another one."""
    if not cut.has_recording or not isinstance(cut.recording.sources[0].source, str):
        return "memory"
    path = Path(cut.recording.sources[0].source)
    return f"{path.name} {path.stat().st_size if path.is_file() else 0}"


def _twin(job: _Job, cut: MonoCut, custom: Dict[str, Any]) -> MonoCut:
    name, samples = job.twin_id(cut.id), round(cut.duration * RATE)
    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=[0], source=str(_path(job, cut)))],
        sampling_rate=RATE,
        num_samples=samples,
        duration=samples / RATE,
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
        custom=dict(custom),
    )
