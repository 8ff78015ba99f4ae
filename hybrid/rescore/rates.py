"""Word errors of a first pass, of its rescoring and of the best choice that there was, over any number of lists."""

from __future__ import annotations

from typing import Dict, Tuple
from zlib import crc32

import numpy as np

from hybrid.rescore.nbest import NbestList
from hybrid.score.significance import bootstrap_interval

KINDS = ("first pass", "rescored", "oracle")
GROUPS = 10_000


class ErrorSums:
    """Sums of words and errors, by speaker; of more than `groups` speakers, by groups of them.

    An interval is drawn from units that are independent of each other, and whole groups of speakers are as independent
    as speakers are: memory stays bounded, and the interval what it is.
    """

    def __init__(self, groups: int = GROUPS) -> None:
        self.groups = groups
        self.lists = 0
        self.without_reference = 0
        self._sums: Dict[str, np.ndarray] = {}  # int64 [words, first pass, rescored, oracle]
        self._grouped = False

    def add(self, item: NbestList, choice: int) -> None:
        """Count a list of which the hypothesis at `choice` is taken; one without reference is counted as that."""
        self.lists += 1
        if item.reference is None:
            self.without_reference += 1
            return
        errors = item.errors()
        row = np.array([len(item.reference), errors[item.best], errors[choice], errors.min()], np.int64)
        name = self._name(item.speaker)
        self._sums[name] = self._sums[name] + row if name in self._sums else row
        if len(self._sums) > self.groups and not self._grouped:
            self._grouped = True
            before, self._sums = self._sums, {}
            for speaker, values in before.items():
                group = self._name(speaker)
                self._sums[group] = self._sums.get(group, 0) + values

    def _name(self, speaker: str) -> str:
        return f"{crc32(speaker.encode()) % self.groups}" if self._grouped else speaker

    @property
    def words(self) -> int:
        """The words of the references."""
        return int(sum(int(values[0]) for values in self._sums.values()))

    def total(self, kind: str) -> int:
        """Return the errors of a kind, of KINDS."""
        return int(sum(int(values[1 + KINDS.index(kind)]) for values in self._sums.values()))

    def rate(self, kind: str) -> float:
        """Return the word error rate in percent, nan of no words."""
        return 100.0 * self.total(kind) / self.words if self.words else float("nan")

    def interval(self, kind: str) -> Tuple[float, float]:
        """Return the 95 % interval of the rate, drawn by speaker (or group of speakers)."""
        place = 1 + KINDS.index(kind)
        return bootstrap_interval({name: (int(row[place]), int(row[0])) for name, row in self._sums.items()})

    def text(self) -> str:
        """Return a line a kind, with its interval, or what there is to say without references."""
        if not self.words:
            return f"{self.lists} lists, without references"
        lines = [f"{self.lists} lists, {self.lists - self.without_reference} with references"]
        for kind in KINDS:
            low, high = self.interval(kind)
            errors = f"[ {self.total(kind)} / {self.words} ]"
            lines.append(f"{kind:10} WER {self.rate(kind):6.2f} %  95 % {low:.2f} to {high:.2f}  {errors}")
        return "\n".join(lines)
