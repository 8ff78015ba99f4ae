"""One rank reading its part of a row of shards (stream.py says which, and what follows from what)."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Callable, Dict, Generator, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from hybrid.data.batch_plan import BatchPlan
from hybrid.data.batches import Batch, Transform, Utterance, collate
from hybrid.data.shards import Failure
from hybrid.data.stream_source import Outcome, ShardSource
from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike
from hybrid.parallel import ordered_map, share_one_heap

State = Mapping[str, Any]
OnProblem = Callable[[str, str, Optional[PathLike]], None]

# Behind the key: whose random numbers they are. Not 0, for a generator of [1, 0] is that of [1].
_OF_WINDOW, _OF_UTTERANCE = 1, 2
_NAMED = 5  # problems that an error names


@dataclass(frozen=True)
class Settings:
    """Those of a ShardStream."""

    sources: Sequence[ShardSource]
    plan: BatchPlan
    window: int
    transform: Optional[Transform]
    loaders: int
    ahead: Optional[int]
    max_problems: float
    on_problem: Optional[OnProblem]
    dim: Optional[int]


@dataclass(frozen=True, eq=False)
class Part:
    """Places begin .. end of the row that `shards` (int32 [n, 2]) make; ends int64 [n]: the place behind each shard."""

    shards: np.ndarray
    ends: np.ndarray
    key: Tuple[int, ...]
    rank: int
    size: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def jobs(self, begin: int) -> Iterator[Tuple[int, int, int, int]]:
        """Yield (source, shard, from, to) from place `begin` on: which of a shard's utterances are this rank's."""
        while begin < self.end:
            number = int(np.searchsorted(self.ends, begin, side="right"))  # passes over empty shards
            stop = int(self.ends[number])
            start = int(self.ends[number - 1]) if number else 0
            source, shard = self.shards[number].tolist()
            yield source, shard, begin - start, min(stop, self.end) - start
            begin = stop

    def fingerprint(self, settings: Settings) -> str:
        about = [self.key, self.rank, self.size, settings.window, asdict(settings.plan)]
        digest = hashlib.sha256(json.dumps(about).encode())
        digest.update(self.shards.tobytes())
        digest.update(self.ends.tobytes())
        return digest.hexdigest()[:16]


class Reading(Iterator[Batch]):
    """The batches of a rank, one after the other; `state` is where the next one stands: small, and JSON holds it.

    problems: of what was read; lost: utterances among the places passed so far that could not be used, those before
    `start` too. The last batch, `close` and leaving a `with` block wait for its threads to end; those of a reading that
    is forgotten end when the shards that they are at have been read.
    """

    def __init__(self, settings: Settings, part: Part, start: Optional[State] = None) -> None:
        self.problems: List[Failure] = []
        self.num_utterances = len(part)
        self._fingerprint = part.fingerprint(settings)
        self._place = _resumed(start, self._fingerprint, -(-len(part) // settings.window))
        self._executor: Optional[ThreadPoolExecutor] = None
        if settings.loaders:
            share_one_heap()
            self._executor = ThreadPoolExecutor(settings.loaders, thread_name_prefix="shards")
        # A function, not a method: a reading that nobody holds any more then goes at once, and its threads with it.
        self._batches = _batches(settings, part, self._place, self.problems, self._executor)

    @property
    def state(self) -> Dict[str, Any]:
        """The place of the next batch: {"of": what is read, "window", "batch" in it, "lost" before the window}."""
        place = self._place
        return {"of": self._fingerprint, "window": place.window, "batch": place.batch, "lost": place.lost_before}

    @property
    def lost(self) -> int:
        return self._place.lost

    def __next__(self) -> Batch:
        try:
            return next(self._batches)
        except StopIteration:
            self.close()
            raise

    def close(self) -> None:
        self._batches.close()
        if self._executor is not None:
            self._executor.shutdown()

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


@dataclass
class _Place:
    """The next batch, and the utterances lost in the windows before and in this one."""

    window: int = 0
    batch: int = 0
    lost_before: int = 0
    lost_here: int = 0

    @property
    def lost(self) -> int:
        return self.lost_before + self.lost_here

    def advance(self) -> None:
        """To the next window."""
        self.window, self.batch, self.lost_before, self.lost_here = self.window + 1, 0, self.lost, 0


def _resumed(start: Optional[State], fingerprint: str, windows: int) -> _Place:
    if start is None:
        return _Place()
    remedy = "give the state that a reading of the same shards, key, rank and settings had"
    try:
        place = _Place(*(int(start[name]) for name in ("window", "batch", "lost")))
        matches = start["of"] == fingerprint
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"not the state of a reading: {start!r}", remedy=remedy) from error
    if not matches:
        raise ConfigError("this state is of a reading of something else", remedy=remedy)
    if not (0 <= place.window <= windows and place.batch >= 0 and place.lost_before >= 0):
        raise ConfigError(f"a state outside of the {windows} windows: {dict(start)}", remedy=remedy)
    return place


def _batches(
    settings: Settings, part: Part, place: _Place, problems: List[Failure], executor: Optional[Executor]
) -> Generator[Batch, None, None]:
    def report(failure: Failure) -> None:
        problems.append(failure)
        if settings.on_problem is not None:
            settings.on_problem(failure.utterance, failure.reason, failure.file)

    begin = part.begin + place.window * settings.window
    with _shards(settings, part, begin, executor) as shards:
        utterances = _utterances(shards, report)
        while begin < part.end:
            # None: lost. A place stays a place.
            rows = list(islice(utterances, min(settings.window, part.end - begin)))
            place.lost_here = rows.count(None)
            _check_share(settings, place.lost, len(part), problems)
            lengths = np.array([0 if row is None else row.num_frames for row in rows], dtype=np.int64)
            batches = settings.plan.batches(lengths, np.random.default_rng([*part.key, _OF_WINDOW, begin]))
            todo = batches[place.batch :]
            for number, places in enumerate(todo, place.batch + 1):
                if number < len(batches):
                    place.batch = number
                else:
                    place.advance()
                yield _batch(settings, part.key, begin, rows, places)
            if not todo:
                place.advance()
            begin += settings.window


def _batch(
    settings: Settings, key: Tuple[int, ...], begin: int, rows: List[Optional[Utterance]], places: Sequence[int]
) -> Batch:
    """Takes its utterances out of `rows`: the window empties while those after it are read."""
    utterances, features = [], []
    for i in places:
        row = rows[i]
        rows[i] = None
        if row is None:
            continue
        x = row.features.astype(np.float32, copy=False)
        utterances.append(replace(row, features=x))
        if settings.transform is not None:
            x = settings.transform(x, np.random.default_rng([*key, _OF_UTTERANCE, begin + i]))
        features.append(x)
    return collate(utterances, features)


Loaded = Tuple[int, Union[List[Outcome], Failure]]


@contextmanager
def _shards(
    settings: Settings, part: Part, begin: int, executor: Optional[Executor]
) -> Iterator[Iterator[Loaded]]:
    """(utterances, what was found) of each shard from `begin` on, in their order, whoever reads them."""
    load = partial(_load, settings)
    if executor is None:
        yield map(load, part.jobs(begin))
        return
    ahead = settings.ahead
    if ahead is None:
        # A window's worth and one: when a window ends, the next one has been read.
        ahead = 1 - (-settings.window * len(part.shards) // max(1, int(part.ends[-1]) if len(part.ends) else 1))
    try:
        with closing(ordered_map(executor, load, part.jobs(begin), ahead + 1)) as loaded:  # type: ignore[type-var]
            yield loaded
    finally:
        # Without waiting: where the garbage collector ends a forgotten reading, it does so in any thread and at any
        # place, also where threading holds the lock that is needed to see a thread end.
        executor.shutdown(wait=False, cancel_futures=True)


def _load(settings: Settings, job: Tuple[int, int, int, int]) -> Loaded:
    source, shard, begin, end = job
    outcomes = settings.sources[source].read(shard, settings.dim)
    return end - begin, outcomes if isinstance(outcomes, Failure) else outcomes[begin:end]


def _utterances(shards: Iterator[Loaded], report: Callable[[Failure], None]) -> Iterator[Optional[Utterance]]:
    """One for each place, None where there is none."""
    for count, outcomes in shards:
        if isinstance(outcomes, Failure):
            report(outcomes)
            yield from (None for _ in range(count))
            continue
        outcomes.reverse()
        while outcomes:  # taken out, so that a shard does not stay in memory for its last utterance
            outcome = outcomes.pop()
            if isinstance(outcome, Failure):
                report(outcome)
                yield None
            else:
                yield outcome


def _check_share(settings: Settings, lost: int, total: int, problems: Sequence[Failure]) -> None:
    if lost <= settings.max_problems * total:
        return
    listed = [f"{p.utterance}: {p.reason}" + (f" ({p.file})" if p.file else "") for p in problems[:_NAMED]]
    more = len(problems) - len(listed)
    raise DataError(
        f"{lost} of {total} utterances cannot be used, above the limit of {100 * settings.max_problems:g} %: "
        + "; ".join(listed)
        + (f"; and {more} more" if more > 0 else ""),
        remedy="mend or rewrite these shards, leave them out of the list, or raise max_problems",
    )
