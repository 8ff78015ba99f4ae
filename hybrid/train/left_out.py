"""What a training leaves out, batches, blocks and shards: named in its log, counted, an error where it is too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Sequence

from hybrid.errors import HybridError
from hybrid.train.state import Record, Sums

if TYPE_CHECKING:
    from hybrid.train.feeds import Feed, Item
    from hybrid.train.trainer import Trainer


class LeftOut:
    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._ids: Dict[int, List[str]] = {}  # utterances of the batches that are not counted yet, by number

    def begun(self, items: Sequence[Item]) -> None:
        self._ids.update({item.number: item.ids() for item in items})

    def counted(self, known: Sequence[Record]) -> None:
        """known: of all workers, the same on each; bad ones are left out. All call it at the same time."""
        bad = [record.index for record in known if record.bad]
        if bad:
            self._batches(bad)
        if known:
            self._ids.clear()

    def _batches(self, bad: List[int]) -> None:
        trainer = self.trainer
        trainer.state.skipped += len(bad)
        known: Dict[int, List[str]] = {}
        for part in trainer.members.gather({index: self._ids[index] for index in bad if index in self._ids}):
            known.update(part)
        names = [name for index in bad for name in known[index]]
        trainer.row("skipped", Sums(), utterances=names)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        trainer.log(f"loss or gradient not finite, batch left out: {shown}")
        self._check(shown)

    def block(self, records: Sequence[Record]) -> None:
        """Of BMUF: in `records` a worker came to parameters that are not finite. Counts as one skipped."""
        trainer = self.trainer
        trainer.state.skipped += 1
        self._ids.clear()
        trainer.row("lost", Sums(), batches=len(records))
        trainer.log(f"a worker's parameters were not finite, a block of {len(records)} batches left out")
        self._check("a block of BMUF")

    def shards(self, feed: Feed) -> None:
        """Shards and utterances of a streamed piece that could not be read, of all workers."""
        trainer = self.trainer
        for problem in sorted({problem for part in trainer.members.gather(feed.problems) for problem in part}):
            trainer.row("problem", Sums(), problem=problem)
            trainer.log(f"left out: {problem}")

    def _check(self, last: str) -> None:
        trainer = self.trainer
        if trainer.state.skipped > trainer.config.max_skipped:
            raise HybridError(
                f"{trainer.state.skipped} batches gave a loss or gradient that is not finite; the last: {last}",
                file=trainer.curve.path,
                remedy="look at the utterances named there (split: skipped), or lower train.lr",
            )
