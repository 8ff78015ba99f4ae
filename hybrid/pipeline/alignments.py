"""Alignments of the clean sets, EXP/senones/ali/SET, written by the stage senones and read an utterance at a time.

    pdfs      int32 [T30]   the senone of each network frame
    phones    int32 [T30]   its phone, negative where the phone has begun before: the phones and their durations

Both are temporal arrays of the cuts (Lhotse reads them too).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Tuple

import numpy as np

from hybrid.data.array_index import ArrayIndex, open_arrays
from hybrid.errors import DataError
from hybrid.pipeline.recipe_run import RecipeRun

PDFS, PHONES = "pdfs", "phones"


def by_frame(phones: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Return the phone of each frame, negative in all frames of a phone but its first, int32 [T]."""
    frames = -np.repeat(np.asarray(phones, np.int32), durations)
    begins = np.cumsum(durations) - durations
    frames[begins] = phones
    return frames


def segments_of(frames: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return phones and durations, int32 [n], of what `by_frame` made."""
    begins = np.flatnonzero(frames > 0)
    return frames[begins], np.diff(begins, append=len(frames)).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Alignments:
    """Those of a set, by their places in it."""

    index: ArrayIndex

    def __len__(self) -> int:
        return len(self.index)

    @property
    def lengths(self) -> np.ndarray:
        """The frames of each, int32 [N]."""
        return self.index.lengths(PDFS)

    def pdfs(self, place: int) -> np.ndarray:
        """Read the pdfs of an utterance, int32 [T30]."""
        return self.index.read(place, PDFS)

    def segments(self, place: int) -> Tuple[np.ndarray, np.ndarray]:
        """Read the phones of an utterance and their durations in network frames, int32 [n]."""
        phones, durations = segments_of(self.index.read(place, PHONES))
        if durations.sum() != self.lengths[place]:
            problem = f"phones of {durations.sum()} frames for {self.lengths[place]} pdfs"
            raise DataError(
                problem, file=self.index.folder, utterance=self.index.ids[place], remedy="run the senones stage again"
            )
        return phones, durations

    def sequences(self) -> Iterator[Tuple[str, np.ndarray]]:
        """Yield (id, phones int32 [n]) of all, one in memory at a time."""
        for place in range(len(self)):
            yield self.index.ids[place], self.segments(place)[0]


def open_alignments(run: RecipeRun, name: str) -> Alignments:
    """Open those of a clean set. Raises DataError as open_arrays."""
    return Alignments(open_arrays(run.dir("senones") / "ali" / name, PDFS, PHONES))
