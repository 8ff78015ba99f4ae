"""What a training skips, batches, blocks and shards: named in its log, counted, an error where it is too much."""

from __future__ import annotations

from typing import Dict, List, Sequence

from hybrid.errors import HybridError
from hybrid.train.loaders import DataLoader, PendingBatch
from hybrid.train.state import Record, Sums
from hybrid.train.training import Training


class Skipped:
    """Counts what one training skips. Raises HybridError above training.config.max_skipped."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self._ids: Dict[int, List[str]] = {}  # utterances of the batches that are not counted yet, by number

    def begun(self, items: Sequence[PendingBatch]) -> None:
        self._ids.update({item.number: item.ids() for item in items})

    def counted(self, known: Sequence[Record]) -> None:
        """Names the bad ones of `known`, the records of all workers, the same on each. All call it at the same time."""
        bad = [record.index for record in known if record.bad]
        if bad:
            self._batches(bad)
        if known:
            self._ids.clear()

    def _batches(self, bad: List[int]) -> None:
        training = self.training
        training.state.skipped += len(bad)
        ids: Dict[int, List[str]] = {}
        for ids_of_rank in training.group.gather({index: self._ids[index] for index in bad if index in self._ids}):
            ids.update(ids_of_rank)
        names = [name for index in bad for name in ids[index]]
        training.row("skipped", Sums(), utterances=names)
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        training.log(f"loss or gradient not finite, batch left out: {listed}")
        self._check(listed)

    def block(self, records: Sequence[Record]) -> None:
        """Counts a block of BMUF as one skipped: in its `records` a worker came to parameters that are not finite."""
        training = self.training
        training.state.skipped += 1
        self._ids.clear()
        training.row("lost", Sums(), batches=len(records))
        training.log(f"a worker's parameters were not finite, a block of {len(records)} batches left out")
        self._check("a block of BMUF")

    def shards(self, loader: DataLoader) -> None:
        """Names the shards and utterances of a streamed piece that could not be read, of all workers."""
        training = self.training
        for problem in sorted({problem for names in training.group.gather(loader.problems) for problem in names}):
            training.row("problem", Sums(), problem=problem)
            training.log(f"left out: {problem}")

    def _check(self, last: str) -> None:
        training = self.training
        if training.state.skipped > training.config.max_skipped:
            raise HybridError(
                f"{training.state.skipped} batches gave a loss or gradient that is not finite; the last: {last}",
                file=training.curve.path,
                remedy="look at the utterances named there (split: skipped), or lower train.lr",
            )
