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
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from lhotse import CutSet, MonoCut

from hybrid.data.measured import MeasuredRooms
from hybrid.data.noise import NoiseLibrary
from hybrid.data.noisy_cut import Job, Made, NoiseCondition, Unusable, make_noisy_cut, noisy_manifest
from hybrid.data.rooms import RATE, Rooms, SimulatedRooms
from hybrid.errors import ConfigError, DataError
from hybrid.io import Problems

__all__ = ["NOISY", "RERECORDED", "VERSION", "NoiseCondition", "make_noisy", "make_rerecorded"]

VERSION = 3  # raise it when the same settings would give other samples
MIN_RATE = 4000  # Hz
Results = List[Tuple[str, Union[Made, Unusable]]]

# Of the test sets: results compare only where nobody changes these.
NOISY = NoiseCondition("noisy", snr=(0.0, 15.0), noises=(1, 3))
RERECORDED = NoiseCondition("rerecorded", snr=(5.0, 15.0), noises=(1, 2))


def make_noisy(
    cuts: CutSet,
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
    """
    rooms = SimulatedRooms(seed) if rooms is None else rooms
    return _augment(cuts, noises, rooms, seed, Path(out_dir), condition, executor, copy, rate, problems, progress)


def make_rerecorded(
    cuts: CutSet,
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
) -> CutSet:
    """Make the stand-in for a re-recording: talker and noises through rooms never seen in training.

    rooms: a folder of measured responses ("measured rooms"), or any provider (where nothing was measured,
    `SimulatedRooms` of another make: "simulated re-recording"). The rest is as in `make_noisy`.
    """
    provider = MeasuredRooms(rooms) if isinstance(rooms, (str, Path)) else rooms
    return _augment(cuts, noises, provider, seed, Path(out_dir), condition, executor, copy, rate, problems, progress)


def _augment(
    cuts: CutSet,
    noises: NoiseLibrary,
    rooms: Rooms,
    seed: int,
    out_dir: Path,
    condition: NoiseCondition,
    executor: Optional[Executor],
    copy: int,
    rate: int,
    problems: Optional[Problems],
    progress: Optional[Callable[[int], None]],
) -> CutSet:
    if rate < MIN_RATE:
        raise ConfigError(f"augmentation at {rate} Hz", remedy=f"give a sampling rate of {MIN_RATE} Hz or more")
    parts: List[Any] = [VERSION, seed, copy, asdict(condition), rooms.describe(), noises.describe()]
    parts += [] if rate == RATE else [rate]  # so that what was made before there was a choice is still known
    settings = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode("utf-8"), digest_size=8).hexdigest()
    job = Job(noises, rooms, seed, out_dir, condition, copy, rate, settings)
    clean: Dict[str, MonoCut] = {}
    for cut in cuts:
        if cut.id in clean:
            raise DataError("two cuts of one id", utterance=cut.id, remedy="make the ids of the corpus unique")
        clean[cut.id] = cut
    twin_files: Dict[str, Made] = {}
    problems_of: Dict[str, Unusable] = {}
    for results in _run(job, list(clean.values()), executor):
        for cut_id, result in results:
            if isinstance(result, Made):
                twin_files[cut_id] = result
            elif problems is None:
                raise result
            else:
                problems_of[cut_id] = result
        if progress is not None:
            progress(len(results))
    twins = []
    for cut_id, cut in clean.items():
        if cut_id in twin_files:
            twins.append(noisy_manifest(job, cut, twin_files[cut_id]))
        elif problems is not None:
            problems.add_error(cut_id, problems_of[cut_id])
    return CutSet.from_cuts(twins)


def _run(job: Job, cuts: Sequence[MonoCut], executor: Optional[Executor]) -> Iterator[Results]:
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
    packed = pickle.dumps(job)  # once: the simulated rooms of RIRS_NOISES are 60,000 names
    # A window: all at once would hold every cut of a large corpus in the queue.
    pending: set[Future] = set()
    try:
        for batch in batches:
            if len(pending) >= 64:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
            pending.add(executor.submit(_process_packed, packed, batch))
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        for future in pending:
            future.cancel()


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
