"""Reading soft targets (targets.py): is the store the one that is wanted, in which order, and what training holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
from lhotse.cut import Cut

from hybrid.data.array_index import ArrayIndex, open_arrays
from hybrid.data.arrays import read_complete
from hybrid.data.batches import check_seed
from hybrid.data.shards import AGAIN, check_sizes, read_shard
from hybrid.data.targets import NAME, TargetsAbout
from hybrid.data.topk_codec import Codec, Targets
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike


@dataclass(frozen=True)
class SoftTargets:
    """Those of one utterance: packed uint8 [T, B], of which the `k` highest are used (None: all that are stored).

    `targets[begin:end]` is a part of it in time, without a copy.
    """

    packed: np.ndarray
    codec: Codec
    k: Optional[int] = None

    def __post_init__(self) -> None:
        self.codec.check_packed(self.packed)
        self.codec.check_wanted(self.k)

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def num_frames(self) -> int:
        return len(self.packed)

    def __getitem__(self, frames: slice) -> SoftTargets:
        if not isinstance(frames, slice):
            raise TypeError("soft targets are taken by [begin:end]")
        return replace(self, packed=self.packed[frames])

    def truncate(self, k: int) -> SoftTargets:
        """Return only the k highest. Raises ConfigError for more than there are."""
        if self.k is not None and k > self.k:
            raise ConfigError(f"{k} targets a frame asked for, {self.k} are left", remedy="truncate the untruncated")
        return replace(self, k=k)

    def decode(self) -> Targets:
        """Return ids int32 [T, k], values float32 [T, k] (the best is 0), rest float32 [T], as Codec.decode."""
        return self.codec.decode(self.packed, self.k)


@dataclass(frozen=True, eq=False)
class StoredTargets:
    """Targets of utterances on disk, read by their places in the store."""

    index: ArrayIndex
    codec: Codec
    k: int

    def __len__(self) -> int:
        return len(self.index)

    @property
    def lengths(self) -> np.ndarray:
        """The frames of each, int32 [N]."""
        return self.index.lengths(NAME)

    def __getitem__(self, place: int) -> SoftTargets:
        return SoftTargets(self.index.read(place, NAME), self.codec, self.k)

    def items(self) -> Iterator[Tuple[str, SoftTargets]]:
        """Yield (id, targets) of all, one in memory at a time."""
        for place in range(len(self)):
            yield self.index.ids[place], self[place]


@dataclass(frozen=True)
class TargetStore:
    """One shard lies in memory at a time. `about` is the store's own; `k` <= about.k is what was asked for.

    All that read raise DataError naming a shard that was damaged after it was written.
    """

    folder: Path
    about: TargetsAbout
    codec: Codec
    k: int
    shards: List[Mapping[str, Any]] = field(repr=False)

    def __len__(self) -> int:
        return sum(shard["cuts"] for shard in self.shards)

    def sequential(self) -> Iterator[Tuple[Cut, np.ndarray]]:
        """Yield (cut, packed uint8 [T, B]) in the order they were written."""
        for index in range(len(self.shards)):
            yield from self._shard(index)

    def shuffled(self, seed: int, epoch: int, *, within: bool = True) -> Iterator[Tuple[Cut, np.ndarray]]:
        """Yield (cut, packed uint8 [T, B]), the order of shards and (within) of the cuts in each drawn anew.

        The orders follow from (seed, epoch).
        """
        seed = check_seed(seed)
        for index in np.random.default_rng([seed, epoch]).permutation(len(self.shards)).tolist():
            if not within:
                yield from self._shard(index)
                continue
            items = list(self._shard(index))
            # From 1: a generator of [seed, epoch, 0] is that of [seed, epoch].
            for place in np.random.default_rng([seed, epoch, 1 + index]).permutation(len(items)).tolist():
                yield items[place]

    def at_random(self) -> StoredTargets:
        """Open the store for random access. Raises DataError where it is gzipped."""
        return StoredTargets(open_arrays(self.folder, NAME), self.codec, self.k)

    def read_all(self) -> Dict[str, np.ndarray]:
        """Return {cut id: packed uint8 [T, B]}, all in memory."""
        return {cut.id: packed for cut, packed in self.sequential()}

    def soft(self, packed: np.ndarray) -> SoftTargets:
        """Return packed targets as an utterance of a training holds them."""
        return SoftTargets(packed, self.codec, self.k)

    def _shard(self, index: int) -> Iterator[Tuple[Cut, np.ndarray]]:
        for cut, arrays in read_shard(self.folder, index, self.shards[index], [NAME]):
            yield cut, arrays[NAME]


def open_targets(folder: PathLike, about: Optional[TargetsAbout] = None) -> TargetStore:
    """Open the store, if it holds what `about` asks for (None: whatever it holds).

    More targets a frame than `about.k` are fine. Raises ModelError that names all that is different (teacher, output,
    kind, senones, number of pdfs, frame shift, k), DataError where the store is missing, unfinished, damaged
    (a file is missing or of another size; contents are checked when they are read) or holds something else.
    """
    folder = Path(folder)
    complete = read_complete(folder)
    try:
        settings = complete["settings"]
        store_about, codec = TargetsAbout.from_dict(settings["about"]), Codec.from_dict(settings["codec"])
    except (KeyError, TypeError):
        raise DataError("this set of arrays holds no soft targets", file=folder, remedy="give another folder") from None
    except ConfigError as error:
        raise DataError(error.what, file=folder, remedy=AGAIN) from error
    if about is not None:
        check_about(folder, store_about, about)
    check_sizes(folder, complete["shards"])
    return TargetStore(folder, store_about, codec, store_about.k if about is None else about.k, complete["shards"])


def check_about(folder: Path, stored: TargetsAbout, wanted: TargetsAbout) -> None:
    """Raises ModelError that names all in which the targets in `folder` are not those that are wanted."""
    differences = []
    for name, difference in (("teacher", "of another teacher"), ("senones", "of another tree or topology")):
        stored_hash, wanted_hash = getattr(stored, name), getattr(wanted, name)
        if stored_hash != wanted_hash:
            differences.append(f"{difference} ({stored_hash[:12]}, wanted {wanted_hash[:12]})")
    if stored.num_pdfs != wanted.num_pdfs:
        differences.append(f"of {stored.num_pdfs} pdfs, wanted {wanted.num_pdfs}")
    if not math.isclose(stored.frame_shift, wanted.frame_shift, rel_tol=1e-6):
        differences.append(f"at {1000 * stored.frame_shift:g} ms a frame, wanted {1000 * wanted.frame_shift:g} ms")
    if stored.head != wanted.head:
        differences.append(f"of the output '{stored.head}', wanted '{wanted.head}'")
    if stored.kind != wanted.kind:
        differences.append(f"of the kind '{stored.kind}', wanted '{wanted.kind}'")
    if stored.graph != wanted.graph:
        differences.append("of another denominator")
    if stored.k < wanted.k:
        differences.append(f"the {stored.k} highest of a frame, wanted {wanted.k}")
    if differences:
        raise ModelError(
            f"these soft targets are {'; '.join(differences)}",
            file=folder,
            remedy="write the targets again with this teacher, or give the folder of those that fit",
        )
