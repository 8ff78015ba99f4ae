"""What a worker trains on, update by update: epochs drawn from all utterances, or shards streamed as a schedule says.

An epoch (of a schedule: a sub-epoch) is made of pieces, each with a factor of the learning rate; one that is drawn from
all is one piece. All workers end a piece together: who has nothing left, takes part with nothing.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence

import numpy as np

from hybrid.data.batches import Batch, Batches
from hybrid.data.stream import ShardStream
from hybrid.errors import ConfigError
from hybrid.train.scheduled import Piece, Scheduled


class PendingBatch(NamedTuple):
    """A batch to come. number: among those of all workers; the dropout follows from it, sums are taken in its order."""

    number: int
    ids: Callable[[], List[str]]
    load: Callable[[], Batch]


class DataLoader(Protocol):
    """One worker's part of a piece. total: updates left, about; ended: nothing left for this worker; position: JSON,
    where the next `take` begins; problems: what could not be read, since they were last looked at."""

    rate: float
    total: int
    problems: List[str]

    @property
    def ended(self) -> bool: ...

    @property
    def position(self) -> Any: ...

    def take(self) -> List[PendingBatch]:
        """Return this worker's batches for the next update."""

    def done(self) -> float:
        """Return the share of the whole training that lies before the next update: the same on all workers."""


class TrainingData(Protocol):
    dim: int
    streamed: bool

    def pieces(self, epoch: int) -> int: ...

    def loader(self, epoch: int, piece: int, position: Any, stride: int, rank: int, size: int) -> DataLoader: ...

    def about(self) -> List[Any]:
        """Return what a checkpoint must agree with."""


class WholeEpochs:
    streamed = False

    def __init__(self, batches: Batches, epochs: int) -> None:
        self.batches = batches
        self.dim = batches.dim
        self.planned = epochs

    def pieces(self, epoch: int) -> int:
        return 1

    def loader(self, epoch: int, piece: int, position: Any, stride: int, rank: int, size: int) -> DataLoader:
        return _EpochLoader(self, epoch, int(position or 0), stride, rank, size)

    def about(self) -> List[Any]:
        return about_batches(self.batches)


def about_batches(batches: Batches) -> List[Any]:
    return [len(batches.utterances), batches.num_frames, batches.max_frames, batches.seed]


class _EpochLoader:
    """Of each stride of batches every size-th, so that a number of workers that divides it changes nothing."""

    rate = 1.0

    def __init__(self, data: WholeEpochs, number: int, start: int, stride: int, rank: int, size: int) -> None:
        self.problems: List[str] = []
        self.epoch = data.batches.epoch(number)
        self.number, self.planned = number, data.planned
        self.position, self.stride, self.rank, self.size = start, stride, rank, size
        self.total = len(range(start, len(self.epoch), stride))

    @property
    def ended(self) -> bool:
        return self.position >= len(self.epoch)

    def take(self) -> List[PendingBatch]:
        start, self.position = self.position, self.position + self.stride
        numbers = range(start, min(self.position, len(self.epoch)))[self.rank :: self.size]
        return [PendingBatch(i, lambda i=i: self.epoch.ids(i), lambda i=i: self.epoch[i]) for i in numbers]  # type: ignore[misc]

    def done(self) -> float:
        return (self.number + self.position / len(self.epoch)) / self.planned


class Streamed:
    """sources: the names that the schedule has for the sources of `stream`, in their order; where several have one
    name, its shards are those of the first, then of the second, and so on. Everything random follows from `seed`.
    frame_shift: of the network, in seconds. Raises ConfigError."""

    streamed = True

    def __init__(
        self, scheduled: Scheduled, stream: ShardStream, sources: Sequence[str], seed: int, frame_shift: float
    ) -> None:
        if len(sources) != len(stream.sources) or set(sources) != set(scheduled.hours):
            raise ConfigError(
                f"a schedule over {', '.join(scheduled.hours)}, and streams of {', '.join(sources)}",
                remedy="name each source of the stream",
            )
        self.stream = stream
        self.sources = list(sources)
        rows = stream.shards()
        self._rows = {
            name: rows[np.isin(rows[:, 0], [place for place, source in enumerate(sources) if source == name])]
            for name in sources
        }
        self.seed = seed
        self.frame_shift = frame_shift
        self.scheduled = scheduled
        self.plan = scheduled.pieces
        self.epochs = len(self.plan)
        self.num_batches = self.frames = 0  # batches so far, and the frames in them
        self.hours = sum(piece.hours for sub in self.plan for piece in sub)
        if stream.dim is None:
            raise ConfigError("no shard of the streams can be read", remedy="look at the folders of the sources")
        self.dim: int = stream.dim

    def table(self) -> str:
        return self.scheduled.table(self.plan)

    def shards(self, piece: Piece) -> np.ndarray:
        """Return (source of the stream, its shard) of each shard of the piece, int32 [n, 2]."""
        return self._rows[piece.source][list(piece.shards)]

    def pieces(self, epoch: int) -> int:
        return len(self.plan[epoch])

    def loader(self, epoch: int, piece: int, position: Any, stride: int, rank: int, size: int) -> DataLoader:
        return _StreamLoader(self, epoch, piece, position, stride, rank, size)

    def about(self) -> List[Any]:
        pieces = [[[p.source, list(p.shards), p.rate] for p in sub] for sub in self.plan]
        sizes = [[len(source), int(source.utterances.sum())] for source in self.stream.sources]
        plan = self.stream.settings.plan
        return [pieces, sizes, plan.max_frames, self.stream.settings.window, self.seed]


class _StreamLoader:
    """Batches of one rank's part of the shards, as they come; one is held back, to know when there are no more."""

    def __init__(
        self, data: Streamed, epoch: int, piece: int, position: Optional[Mapping[str, Any]], stride: int, rank: int,
        size: int,
    ) -> None:  # fmt: skip
        chunk = data.plan[epoch][piece]
        before = sum(p.hours for sub in data.plan[:epoch] for p in sub) + sum(p.hours for p in data.plan[epoch][:piece])
        self.rate, self._share_done = chunk.rate, before / data.hours
        self.problems: List[str] = []
        state = dict(position or {})
        self.count, self.rank, self.size = len(range(stride)[rank::size]), rank, size
        self._ordinal = int(state.pop("ordinal", 0))
        self._finished = bool(state.pop("finished", False))
        self._reading = data.stream.read(data.shards(chunk), (data.seed, chunk.number), rank, size, state or None)
        self._num_problems = 0
        self._ahead: Optional[Batch] = None
        self._advance()
        # Batches are not quite full; how full, those of the pieces before tell.
        frames_per_batch = data.frames / data.num_batches if data.num_batches else data.stream.settings.plan.max_frames
        self.data = data
        updates = round(chunk.frames(data.frame_shift) / frames_per_batch / stride)
        self.total = max(1, updates - self._ordinal // max(1, self.count))

    def _advance(self) -> None:
        self._state: Dict[str, Any] = dict(self._reading.state)
        self._ahead = None if self._finished else next(self._reading, None)
        for problem in self._reading.problems[self._num_problems :]:
            self.problems.append(f"{problem.utterance}: {problem.reason}")
        self._num_problems = len(self._reading.problems)

    @property
    def ended(self) -> bool:
        return self._ahead is None

    @property
    def position(self) -> Dict[str, Any]:
        return {**self._state, "ordinal": self._ordinal, "finished": self._ahead is None}

    def take(self) -> List[PendingBatch]:
        items: List[PendingBatch] = []
        for _ in range(self.count):
            batch = self._ahead
            if batch is None:
                break
            items.append(PendingBatch(self._ordinal * self.size + self.rank, lambda b=batch: b.ids, lambda b=batch: b))  # type: ignore[misc]
            self._ordinal += 1
            self.data.num_batches += 1
            self.data.frames += int(batch.lengths.sum())
            self._advance()
        return items

    def done(self) -> float:
        return self._share_done
