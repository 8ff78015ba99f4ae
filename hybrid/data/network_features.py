"""A set of log mel on disk as a network reads it, an utterance at a time (transforms.py: NetworkInput).

Speakers' means are summed in the one pass that opens the set, in its order, as over a set in memory: the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
from lhotse.cut import Cut

from hybrid.data.array_index import ArrayIndex, open_arrays
from hybrid.data.cmvn import CmvnStats
from hybrid.data.transforms import NetworkInput
from hybrid.data.utterances import Utterance, check_utterance
from hybrid.errors import DataError
from hybrid.io import PathLike

KIND = "logmel"


@dataclass(frozen=True, eq=False)
class NetworkFeatures:
    """An opened set: [i] reads utterance i, float32 [lengths[i], dim].

    make: what makes the input; speakers int32 [N]: of each utterance its row of means and deviations, float32 [S, D];
    None: other means are taken off. unusable: {place: what is wrong} of utterances without frames, of other dimensions
    or not finite.
    """

    index: ArrayIndex
    make: NetworkInput
    dim: int
    speakers: np.ndarray
    means: Optional[np.ndarray] = None
    deviations: Optional[np.ndarray] = None
    unusable: Mapping[int, DataError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def lengths(self) -> np.ndarray:
        """The frames of the input of each utterance, int64 [N]."""
        return self.make.num_frames(self.index.lengths(KIND).astype(np.int64))

    def __getitem__(self, place: int) -> np.ndarray:
        """Read an utterance. Raises DataError where it cannot be used, or its shard has changed."""
        if place in self.unusable:
            raise self.unusable[place]
        x = self.index.read(place, KIND)
        if self.means is None:
            return self.make(x)
        speaker = self.speakers[place]
        return self.make(x, self.means[speaker], None if self.deviations is None else self.deviations[speaker])

    def items(self) -> Iterator[Tuple[str, np.ndarray]]:
        """Yield (id, features) of each utterance, one in memory at a time."""
        for place in range(len(self)):
            yield self.index.ids[place], self[place]


def open_network_features(
    folder: PathLike, about: Mapping[str, Any], visit: Optional[Callable[[Cut], None]] = None
) -> NetworkFeatures:
    """Open a set of log mel as `about`, a model's features.json, wants it.

    visit(cut) is called for each cut, in order. Raises as `open_arrays`, and DataError for a cut without a speaker.
    """
    collected = _Visitor(NetworkInput.of(about), Path(folder), visit)
    index = open_arrays(folder, KIND, visit=collected)
    means, deviations = collected.shifts()
    return NetworkFeatures(
        index, collected.make, collected.dim or 0, np.array(collected.speakers, np.int32), means, deviations,
        collected.unusable,
    )  # fmt: skip


class _Visitor:
    """What is found out of each utterance when a set is opened."""

    def __init__(self, make: NetworkInput, folder: Path, visit: Optional[Callable[[Cut], None]]) -> None:
        self.make, self.folder, self.visit = make, folder, visit
        self.by_speaker = make.level == "speaker"
        self.dim: Optional[int] = None
        self.count = 0
        self.numbers: Dict[str, int] = {}
        self.sums: List[CmvnStats] = []
        self.speakers: List[int] = []
        self.unusable: Dict[int, DataError] = {}

    def __call__(self, cut: Cut, arrays: Mapping[str, np.ndarray]) -> None:
        x = arrays[KIND]
        try:
            check_utterance(Utterance(cut.id, x), None if self.dim is None else self.dim // self.make.stack)
        except DataError as error:
            self.unusable[self.count] = DataError(
                error.what, file=self.folder, utterance=cut.id, remedy=error.remedy
            )
        self.dim = self.dim or self.make.stack * (x.shape[1] if x.ndim == 2 else 0)
        if self.by_speaker:
            self.speakers.append(self.speaker(cut, x))
        if self.visit is not None:
            self.visit(cut)
        self.count += 1

    def speaker(self, cut: Cut, x: np.ndarray) -> int:
        """Return the number of the speaker, with the frames of an utterance added to their sums."""
        number = self.numbers.setdefault(cut.supervisions[0].speaker, len(self.sums))
        fits = x.ndim == 2 and x.shape[1] * self.make.stack == self.dim
        sums = CmvnStats.of(x) if fits else CmvnStats.zeros((self.dim or 0) // self.make.stack)
        if number == len(self.sums):
            self.sums.append(sums)
        else:
            self.sums[number] = self.sums[number].plus(sums)
        return number

    def shifts(self) -> Tuple[Optional[np.ndarray], Optional[np.ndarray]]:
        """Return the means and the deviations of the speakers, float32 [S, D], or None where they are not asked for."""
        if not self.sums:
            return None, None
        shifts = [sums.shift_and_scale(self.make.variance) for sums in self.sums]
        deviations = [deviation for _, deviation in shifts if deviation is not None]
        return np.stack([mean for mean, _ in shifts]), np.stack(deviations) if deviations else None
