"""A set of arrays (arrays.py) as a source of training data: how large its shards are, and one shard in memory."""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from hybrid.data.arrays import read_complete
from hybrid.data.batches import IGNORE, Utterance, check_utterance
from hybrid.data.packing import FEATURES, PDFS
from hybrid.data.shards import AGAIN, Failure, read_rows
from hybrid.data.target_store import SoftTargets
from hybrid.data.targets import NAME
from hybrid.data.topk_codec import Codec
from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, read_json

Outcome = Union[Utterance, Failure]

# What a file that is not what it should be can bring about, in whichever layer notices it first.
_BROKEN = (OSError, EOFError, KeyError, TypeError, ValueError, tarfile.TarError, zlib.error)


@dataclass(frozen=True, eq=False)
class ShardSource:
    """utterances int64 [shards]; frames int64 [shards], or None where an earlier version wrote the set; names: of the
    arrays that are read, features first; dim: of the features (None where all shards are damaged).

    Hashes and names of files are not kept: a shard's mark has them, and is read with the shard.
    """

    folder: Path
    names: Tuple[str, ...]
    utterances: np.ndarray = field(repr=False)
    frames: Optional[np.ndarray] = field(default=None, repr=False)
    dim: Optional[int] = None
    codec: Optional[Codec] = None
    k: Optional[int] = None

    def __len__(self) -> int:
        return len(self.utterances)

    def read(self, index: int, dim: Optional[int] = None) -> Union[List[Outcome], Failure]:
        """Return for each cut of shard `index` an Utterance, or why it cannot be used; one Failure where the whole
        shard is missing, damaged or cannot be read. extra: "soft" (SoftTargets), "clean_cut" and "text", where the set
        has them.

        The shard is read to its end before anything is given, so that all who read parts of it find the same.
        """
        place = self.folder / "marks" / f"{index:06d}.json"
        try:
            mark = read_json(place)
            rows = read_rows(self.folder, index, mark, self.names)
            outcomes = [self._utterance(row, arrays, dim) for row, arrays in rows]
            if len(outcomes) != self.utterances[index]:
                raise DataError(
                    f"{len(outcomes)} cuts where complete.json says {self.utterances[index]}", file=place, remedy=AGAIN
                )
            return outcomes
        except DataError as error:
            return Failure(self._name(index), error.what, error.file)
        except _BROKEN as error:
            file = getattr(error, "filename", None) or self.folder / "shards" / f"*.{index:06d}.*"
            reason = getattr(error, "strerror", None) or f"cannot be read: {type(error).__name__}: {error}"
            return Failure(self._name(index), reason, str(file))

    def _name(self, index: int) -> str:
        return f"shard {index:06d} of {self.folder}"

    def _utterance(self, row: Mapping[str, Any], arrays: Mapping[str, np.ndarray], dim: Optional[int]) -> Outcome:
        extra: Dict[str, Any] = {}
        try:
            if NAME in arrays and self.codec is not None:
                extra["soft"] = SoftTargets(arrays[NAME], self.codec, self.k)
            clean_cut = (row.get("custom") or {}).get("clean_cut")
            supervisions = row.get("supervisions") or []
            texts = [supervision["text"] for supervision in supervisions if supervision.get("text") is not None]
            if clean_cut is not None:
                extra["clean_cut"] = clean_cut
            if texts:
                extra["text"] = " ".join(texts)
            pdfs = arrays.get(PDFS)
            if pdfs is None and "soft" in extra:
                # No alignment: so that a batch can also have utterances with one.
                pdfs = np.full(len(extra["soft"]), IGNORE, np.int32)
            utterance = Utterance(row["id"], arrays[self.names[0]], pdfs, extra)
            check_utterance(utterance, dim)
            if "soft" in extra and len(extra["soft"]) != utterance.num_frames:
                raise DataError(f"soft targets of {len(extra['soft'])} frames for {utterance.num_frames} frames")
            return utterance
        except DataError as error:
            return Failure(row["id"], error.what, error.file or str(self.folder))


def open_source(
    folder: PathLike, *, features: str = FEATURES, targets: Optional[Sequence[str]] = None
) -> ShardSource:
    """Open a set of arrays as a source of training data; no shard is read yet, but for `dim` where the set lacks it.

    targets: which of "pdfs" and "targets" (soft ones) to read; None: what there is of them.
    Raises DataError where the set is missing, unfinished, or holds no such arrays. Damage shows when a shard is read.
    """
    folder = Path(folder)
    complete = read_complete(folder)
    target_names = [name for name in (PDFS, NAME) if name in complete["names"]] if targets is None else list(targets)
    names = (features, *target_names)
    for name in names:
        if name not in complete["names"]:
            raise DataError(
                f"no arrays '{name}' in this set (there are: {', '.join(complete['names'])})",
                file=folder,
                remedy="pack features and targets into one set (hybrid.data.packing)",
            )
    settings = complete["settings"] if isinstance(complete["settings"], dict) else {}
    codec = None
    if NAME in names:
        try:
            codec = Codec.from_dict(settings["codec"])
        except (KeyError, TypeError):
            raise DataError("this set does not say how its targets are packed", file=folder, remedy=AGAIN) from None
        except ConfigError as error:
            raise DataError(error.what, file=folder, remedy=AGAIN) from error
    shards = complete["shards"]
    utterances = np.array([shard["cuts"] for shard in shards], dtype=np.int64)
    frames = None
    if all("frames" in shard for shard in shards):
        frames = np.array([shard["frames"][features] for shard in shards], dtype=np.int64)
    dim = settings["dim"] if "dim" in settings else _look_up_dim(folder, shards, features)
    return ShardSource(folder, names, utterances, frames, dim, codec, settings.get("k"))


def _look_up_dim(folder: Path, shards: Sequence[Mapping[str, Any]], features: str) -> Optional[int]:
    """Of the first features that can be read. Sets that were not packed do not say it."""
    for index, shard in enumerate(shards):
        try:
            for _, arrays in read_rows(folder, index, shard, [features]):
                return int(arrays[features].shape[1])
        except (DataError, IndexError, *_BROKEN):
            continue
    return None

