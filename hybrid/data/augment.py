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
their order or the number of processes. A corpus keeps its sampling rate: noises and responses are brought to it, and
the same draws are heard at any. Every file carries its own description as a FLAC comment: a run that was
killed goes on with the files that are there, and a file of other settings is made again.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import deque
from concurrent.futures import Executor
from dataclasses import asdict
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

from lhotse import CutSet, MonoCut

from hybrid.data.measured import MeasuredRooms
from hybrid.data.noise import NoiseLibrary
from hybrid.data.noisy_cut import Job, Made, NoiseCondition, Unusable, make_noisy_cut, noisy_manifest
from hybrid.data.rooms import RATE, Rooms, SimulatedRooms
from hybrid.errors import ConfigError, DataError
from hybrid.io import Problems
from hybrid.parallel import ordered_map

__all__ = ["NOISY", "RERECORDED", "VERSION", "NoiseCondition", "make_noisy", "make_rerecorded"]

VERSION = 3  # raise it when the same settings would give other samples
MIN_RATE = 4000  # Hz
WINDOW = 2000  # cuts, among which those of one room are made together
Results = List[Tuple[str, Union[Made, Unusable]]]

# Of the test sets: results compare only where nobody changes these.
NOISY = NoiseCondition("noisy", snr=(0.0, 15.0), noises=(1, 3))
RERECORDED = NoiseCondition("rerecorded", snr=(5.0, 15.0), noises=(1, 2))


def make_noisy(
    cuts: Iterable[MonoCut],
    noises: NoiseLibrary,
    *,
    seed: int,
    out_dir: Union[str, Path],
    condition: NoiseCondition = NOISY,
    rooms: Optional[Rooms] = None,
    executor: Optional[Executor] = None,
    copy: int = 1,
    rate: int = RATE,
    problems: Optional[Problems] = None,
    progress: Optional[Callable[[int], None]] = None,
    lazy: bool = False,
) -> CutSet:
    """Make noisy twins of `cuts`, in their order: speech and noises in simulated rooms (image method).

    cuts: MonoCuts of whole recordings or of parts, of any channel and rate; their twins are files of one channel.
    rate: of the twins, in Hz; speech, noises and rooms of another are resampled.
    rooms: by default every cut has a shoebox of its own, RT60 0.2 to 0.6 s, the talker at 1 to 3 m; for training
    copies a pool (`SimulatedRooms(seed, number=200)`) is cheaper.
    A twin is as long as its cut to a sample. Its id is `{id}_{condition}{copy}`; its custom fields are clean_cut,
    condition, copy, snr (dB), rt60 (s), noises (their names), room, gain (dB, of the speech's level against the clean
    cut's) and the room's description.
    problems: takes the cuts that could not be used, which are left out; without it the first one raises DataError.
    progress: called with the number of cuts just done.
    lazy: the cuts that are returned can be gone through once, and are made meanwhile; some thousands are in memory at a
    time.
    """
    rooms = SimulatedRooms(seed) if rooms is None else rooms
    job = _job(noises, rooms, seed, Path(out_dir), condition, copy, rate)
    twins = _twins(job, cuts, executor, problems, progress)
    return CutSet(twins if lazy else list(twins))


def make_rerecorded(
    cuts: Iterable[MonoCut],
    rooms: Union[Rooms, str, Path],
    noises: NoiseLibrary,
    *,
    seed: int,
    out_dir: Union[str, Path],
    condition: NoiseCondition = RERECORDED,
    executor: Optional[Executor] = None,
    copy: int = 1,
    rate: int = RATE,
    problems: Optional[Problems] = None,
    progress: Optional[Callable[[int], None]] = None,
    lazy: bool = False,
) -> CutSet:
    """Make the stand-in for a re-recording: talker and noises through rooms never seen in training.

    rooms: a folder of measured responses ("measured rooms"), or any provider (where nothing was measured,
    `SimulatedRooms` of another make: "simulated re-recording"). The rest is as in `make_noisy`.
    """
    provider = MeasuredRooms(rooms) if isinstance(rooms, (str, Path)) else rooms
    job = _job(noises, provider, seed, Path(out_dir), condition, copy, rate)
    twins = _twins(job, cuts, executor, problems, progress)
    return CutSet(twins if lazy else list(twins))


def _job(
    noises: NoiseLibrary, rooms: Rooms, seed: int, out_dir: Path, condition: NoiseCondition, copy: int, rate: int
) -> Job:
    if rate < MIN_RATE:
        raise ConfigError(f"augmentation at {rate} Hz", remedy=f"give a sampling rate of {MIN_RATE} Hz or more")
    parts: List[Any] = [VERSION, seed, copy, asdict(condition), rooms.describe(), noises.describe()]
    parts += [] if rate == RATE else [rate]  # so that what was made before there was a choice is still known
    settings = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode("utf-8"), digest_size=8).hexdigest()
    return Job(noises, rooms, seed, out_dir, condition, copy, rate, settings)


class _Window:
    """Some cuts in a row by id, and what has become of them so far."""

    def __init__(self, cuts: Dict[str, MonoCut]) -> None:
        self.cuts = cuts
        self.results: Dict[str, Union[Made, Unusable]] = {}

    def twins(self, job: Job, problems: Optional[Problems]) -> Iterator[MonoCut]:
        """Yield the twins in the order of the cuts; those that none can be made of go to `problems`."""
        for identifier, cut in self.cuts.items():
            result = self.results[identifier]
            if isinstance(result, Made):
                yield noisy_manifest(job, cut, result)
            elif problems is not None:
                problems.add_error(identifier, result)


def _twins(
    job: Job, cuts: Iterable[MonoCut], executor: Optional[Executor], problems: Optional[Problems],
    progress: Optional[Callable[[int], None]],
) -> Iterator[MonoCut]:  # fmt: skip
    """Yield the twins in the order of the cuts, of which some windows are in memory; of all others their ids."""
    windows: Deque[_Window] = deque()
    batches = _batches(job, cuts, windows)
    results: Iterator[Results]
    if executor is None:
        results = map(partial(_process, job), batches)
    else:
        packed = pickle.dumps(job)  # once: the simulated rooms of RIRS_NOISES are 60,000 names
        results = ordered_map(executor, partial(_process_packed, packed), batches)
    for batch in results:
        if progress is not None:
            progress(len(batch))
        for identifier, result in batch:
            if problems is None and isinstance(result, Unusable):
                raise result
            windows[0].results[identifier] = result  # a window's batches come one after the other
        if len(windows[0].results) == len(windows[0].cuts):
            yield from windows.popleft().twins(job, problems)


def _batches(job: Job, cuts: Iterable[MonoCut], windows: Deque[_Window]) -> Iterator[List[MonoCut]]:
    """Yield the cuts of each window in batches, those of one room together, so that it is simulated once; append each
    window to `windows` as its first batch is asked for."""
    stream, ids = iter(cuts), set()
    while part := list(islice(stream, WINDOW)):
        by_room: Dict[str, List[MonoCut]] = {}
        for cut in part:
            if cut.id in ids:
                raise DataError("two cuts of one id", utterance=cut.id, remedy="make the ids of the corpus unique")
            ids.add(cut.id)
            by_room.setdefault(job.rooms.choose(job.rng(cut.id)), []).append(cut)
        windows.append(_Window({cut.id: cut for cut in part}))
        batch: List[MonoCut] = []
        for members in by_room.values():
            for start in range(0, len(members), 32):
                batch += members[start : start + 32]
                if len(batch) >= 16:
                    yield batch
                    batch = []
        if batch:
            yield batch


def _process_packed(packed: bytes, cuts: Sequence[MonoCut]) -> Results:
    return _process(_unpacked(packed), cuts)


@lru_cache(maxsize=2)
def _unpacked(packed: bytes) -> Job:
    job: Job = pickle.loads(packed)
    return job


def _process(job: Job, cuts: Sequence[MonoCut]) -> Results:
    results: Results = []
    for cut in cuts:
        try:
            results.append((cut.id, make_noisy_cut(job, cut)))
        except Unusable as error:
            results.append((cut.id, error))
    return results
