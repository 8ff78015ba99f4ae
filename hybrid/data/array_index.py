"""Random access to a set of arrays (arrays.py): where in the shards each array lies, so that one is read alone.

The set is gone through once, which finds damage and where the arrays begin; what is kept are numbers, 28 bytes an array
and its id. An array is then read by its place in its file, without a map of the file: pages of the system's cache are
not the process's memory. Its bytes must have the checksum that they had when the set was gone through, so that a shard
that changes under a training stops it, and a copy of the same bytes does not.
"""

from __future__ import annotations

import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

import numpy as np
from lhotse.cut import Cut

from hybrid.data.arrays import check_names, read_complete
from hybrid.data.shards import AGAIN, Member, array_file, array_of, cut_of, read_members
from hybrid.data.text_column import TextColumn
from hybrid.errors import DataError
from hybrid.io import PathLike

Visit = Callable[[Cut, Mapping[str, np.ndarray]], None]


@dataclass(frozen=True, eq=False)
class _Places:
    """Of each array of one name: its first byte in its file int64, bytes int64, CRC-32 uint32, length int32."""

    begins: np.ndarray
    sizes: np.ndarray
    checksums: np.ndarray
    lengths: np.ndarray


class ArrayPlace(NamedTuple):
    """Where an array lies: small, whatever the set. begin, size: bytes in the file; checksum: CRC-32 of them."""

    path: Path
    utterance: str
    begin: int
    size: int
    checksum: int

    def read(self) -> np.ndarray:
        """Read the array. Raises DataError where its bytes are not those that were there when the set was opened."""
        try:
            with open(self.path, "rb", buffering=0) as stream:
                stream.seek(self.begin)
                data = stream.read(self.size)
        except OSError as error:
            raise self._lost(f"a shard of this set cannot be read: {error.strerror}") from error
        if len(data) != self.size or zlib.crc32(data) != self.checksum:
            raise self._lost("a shard of this set was changed since it was opened")
        return array_of(data)

    def _lost(self, what: str) -> DataError:
        remedy = "let nothing write there while it is read, and run the same command again; or " + AGAIN
        return DataError(what, file=self.path, utterance=self.utterance, remedy=remedy)


@dataclass(frozen=True, eq=False)
class ArrayIndex:
    """An opened set. ids: of its cuts, in its order; shards: int32 [N], of each the number of its shard."""

    folder: Path
    ids: TextColumn
    shards: np.ndarray
    places: Mapping[str, _Places]

    def __len__(self) -> int:
        return len(self.ids)

    def lengths(self, name: str) -> np.ndarray:
        """Return the lengths of the arrays of a name, int32 [N]."""
        return self.places[name].lengths

    def read(self, index: int, name: str) -> np.ndarray:
        """Read an array of cut `index`. Raises DataError where its bytes are not those that were there at first."""
        return self.place(index, name).read()

    def place(self, index: int, name: str) -> ArrayPlace:
        """Return what reads an array of cut `index`, for another process."""
        places, shard = self.places[name], int(self.shards[index])
        path = self.folder / "shards" / f"{name}.{shard:06d}.tar"
        numbers = (int(places.begins[index]), int(places.sizes[index]), int(places.checksums[index]))
        return ArrayPlace(path, self.ids[index], *numbers)


def open_arrays(folder: PathLike, *names: str, visit: Optional[Visit] = None) -> ArrayIndex:
    """Open a finished set for random access to the arrays of these names.

    visit(cut, {name: array}) is called for each cut on the way, in the set's order: what else has to be known of all
    costs no second pass. Raises DataError where the set is missing, unfinished or damaged, holds no such array, or is
    gzipped.
    """
    folder = Path(folder)
    complete = read_complete(folder)
    check_names(folder, complete, names)
    ids, shards = TextColumn(), array("i")
    columns = {name: _Columns() for name in names}
    for number, shard in enumerate(complete["shards"]):
        for name in names if shard["cuts"] else ():
            if array_file(shard, number, name).endswith(".gz"):
                problem = f"the arrays '{name}' of this set are gzipped, and are not read one by one"
                raise DataError(problem, file=folder, remedy="write the set again without compression")
        for row, members in read_members(folder, number, shard, names):
            arrays = {name: columns[name].add(member) for name, member in members.items()}
            ids.append(row["id"])
            shards.append(number)
            if visit is not None:
                visit(cut_of(row, folder), arrays)
    places = {name: column.places() for name, column in columns.items()}
    return ArrayIndex(folder, ids, np.array(shards, np.int32), places)


class _Columns:
    """_Places that grow."""

    def __init__(self) -> None:
        self._values: Dict[str, Any] = {
            "begins": array("q"), "sizes": array("q"), "checksums": array("I"), "lengths": array("i")
        }  # fmt: skip

    def add(self, member: Member) -> np.ndarray:
        values = array_of(member.data)
        row: Tuple[int, ...] = (member.offset, len(member.data), zlib.crc32(member.data), len(values))
        for column, value in zip(self._values.values(), row, strict=True):
            column.append(value)
        return values

    def places(self) -> _Places:
        dtypes = {"begins": np.int64, "sizes": np.int64, "checksums": np.uint32, "lengths": np.int32}
        return _Places(**{name: np.array(self._values[name], dtype) for name, dtype in dtypes.items()})
