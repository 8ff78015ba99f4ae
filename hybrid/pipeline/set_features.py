"""The features of a set, read an utterance at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, Mapping

import numpy as np
from lhotse.cut import Cut

from hybrid.data.array_index import ArrayPlace, open_arrays
from hybrid.data.cmvn import CmvnStats


class SetFeatures(Mapping[str, np.ndarray]):
    """The features of a set, {utterance: [T, D]}, not normalised, each read from the disk whenever it is asked for.

    speakers: {utterance: speaker}. Raises DataError as open_arrays.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.speakers: Dict[str, str] = {}
        self._stats: Dict[str, CmvnStats] = {}
        self._index = open_arrays(folder, kind, visit=self._add)
        self._numbers = {identifier: number for number, identifier in enumerate(self._index.ids)}

    def _add(self, cut: Cut, arrays: Mapping[str, np.ndarray]) -> None:
        speaker, sums = self.speakers.setdefault(cut.id, cut.supervisions[0].speaker), CmvnStats.of(arrays[self.kind])
        self._stats[speaker] = self._stats[speaker].plus(sums) if speaker in self._stats else sums

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.place(name).read()

    def place(self, name: str) -> ArrayPlace:
        """Return what reads the features of an utterance."""
        return self._index.place(self._numbers[name], self.kind)

    def frames(self, name: str) -> int:
        """Return how many frames an utterance has."""
        return int(self._index.lengths(self.kind)[self._numbers[name]])

    def stats(self, name: str) -> CmvnStats:
        """Return the sums over all frames of an utterance's speaker."""
        return self._stats[self.speakers[name]]
