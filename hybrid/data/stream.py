"""Training data streamed from sets of arrays, for what does not fit into memory: a million hours take 100 TB.

    stream = ShardStream([open_source(folder) for folder in folders], max_frames=4000, loaders=2)
    order = np.random.default_rng([seed, epoch]).permutation(stream.shards())
    reading = stream.read(order[:1000], key=(seed, epoch, 0), rank=rank, size=size)
    for batch in reading:
        ...                           # reading.state goes into the checkpoint, read(..., start=state) goes on there

The N utterances of the shards listed, in this order, are one row. Rank r of R takes the places floor(r N / R) up to
floor((r + 1) N / R): each is taken once, ranks differ by one utterance at most, and a shard on a border is read by both
ranks. A rank's part is cut into windows of `window` places; a window lies in memory, is shuffled, and makes batches as
an epoch in memory does (batch_plan.py). All that is random follows from the key and from places:

    order and jitter of a window    (key, place of its first utterance)
    transform of an utterance       (key, its place): the same for any number of ranks

so that neither loaders nor what was read before, nor a shard that cannot be read, change anybody else's numbers: its
places stay empty. How many utterances a shard has is known from complete.json; where a rank or a window begins is
arithmetic, and what lies before it is not read.

Shards are read by threads. Measured in CPU time on shards of 250 utterances (float16 [250, 192] on average, and 20 soft
targets a frame), reading takes 0.30 ms an utterance, 0.08 of them in SHA-256, which lets other threads run. With
processes the training's own still spends 0.14 ms on receiving what they send, and 0.30 are spent besides: more in all,
and little less beside the training. Threads leave nothing behind when a run is killed.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence, Set

import numpy as np

from hybrid.data.batch_plan import BatchPlan
from hybrid.data.batches import Transform, check_seed
from hybrid.data.stream_reading import OnProblem, Part, Reading, Settings, State
from hybrid.data.stream_source import ShardSource, open_source
from hybrid.errors import ConfigError

__all__ = ["Reading", "ShardSource", "ShardStream", "open_source"]


class ShardStream:
    """Reads `sources` (open_source) in batches of at most `max_frames` padded frames.

    window: utterances that are shuffled together; 2000 of 250 frames of 192 float16 features take 190 MB. jitter,
    max_utterances, transform: as in Batches. loaders: threads that read ahead, 0 for none. ahead: shards that they may
    be ahead; None: a window's worth, so that the next one is there when a window ends. At most a window, what is read
    ahead and one shard lie in memory.

    max_problems: the share of a rank's utterances that may be unusable; on_problem, e.g. Problems.add, is called with
    (utterance or shard, reason, file) of each that is. Raises ConfigError.
    """

    def __init__(
        self,
        sources: Sequence[ShardSource],
        max_frames: int,
        *,
        window: int = 2000,
        jitter: float = 0.15,
        max_utterances: int = 0,
        transform: Optional[Transform] = None,
        loaders: int = 1,
        ahead: Optional[int] = None,
        max_problems: float = 0.02,
        on_problem: Optional[OnProblem] = None,
    ) -> None:
        if not 0 <= max_problems <= 1:
            raise ConfigError(f"max_problems is {max_problems}", remedy="a share from 0 to 1, e.g. 0.02")
        self.sources = list(sources)
        self.settings = Settings(
            self.sources,
            BatchPlan(max_frames, jitter, max_utterances),
            _whole("window", window, 1),
            transform,
            _whole("loaders", loaders, 0),
            None if ahead is None else _whole("ahead", ahead, 1),
            max_problems,
            on_problem,
            _common_dim(self.sources),
        )

    @property
    def dim(self) -> Optional[int]:
        return self.settings.dim

    def shards(self) -> np.ndarray:
        """Return (source, shard) of all shards that there are, source by source, int32 [n, 2]."""
        parts = [np.stack([np.full(len(s), i), np.arange(len(s))], axis=1) for i, s in enumerate(self.sources)]
        return np.concatenate([np.zeros((0, 2)), *parts]).astype(np.int32)

    def sizes(self, shards: Any) -> np.ndarray:
        """Return how many utterances each of `shards` (int [n, 2], or a list of pairs) has, int64 [n].

        Raises ConfigError for a shard that there is not.
        """
        rows = np.asarray(shards, dtype=np.int64).reshape(-1, 2)
        counts = np.zeros(len(rows), dtype=np.int64)
        for number in np.unique(rows[:, 0]).tolist():
            in_source = rows[:, 0] == number
            count = len(self.sources[number]) if 0 <= number < len(self.sources) else 0
            wrong = rows[in_source & ((rows[:, 1] < 0) | (rows[:, 1] >= count))]
            if len(wrong):
                raise ConfigError(f"there is no shard {wrong[0, 1]} of source {number}", remedy="take them of shards()")
            counts[in_source] = self.sources[number].utterances[rows[in_source, 1]]
        return counts

    def read(
        self, shards: Any, key: Sequence[int], rank: int = 0, size: int = 1, start: Optional[State] = None
    ) -> Reading:
        """Read the batches of one rank.

        key: whole numbers, e.g. (seed, epoch, chunk), always as many; start: the `state` of a reading of the same,
        which goes on exactly there.
        Raises ConfigError for a state of something else; while reading, DataError above max_problems.
        """
        key = tuple(check_seed(part) for part in key)
        if not 0 <= _whole("rank", rank, 0) < _whole("size", size, 1):
            raise ConfigError(f"rank {rank} of {size}", remedy="ranks count from 0")
        rows = np.asarray(shards, dtype=np.int32).reshape(-1, 2)
        ends = np.cumsum(self.sizes(rows))
        total = int(ends[-1]) if len(ends) else 0
        part = Part(rows, ends, key, rank, size, rank * total // size, (rank + 1) * total // size)
        return Reading(self.settings, part, start)


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ConfigError(f"{name} is {value!r}", remedy=f"a whole number, {least} or more")
    return int(value)


def _common_dim(sources: Sequence[ShardSource]) -> Optional[int]:
    dims: Set[int] = {source.dim for source in sources if source.dim is not None}
    if len(dims) > 1:
        listed = ", ".join(f"{source.folder}: {source.dim}" for source in sources)
        raise ConfigError(
            f"features of different dimensions: {sorted(dims)} ({listed})", remedy="stream sets of the same features"
        )
    return dims.pop() if dims else None
