"""Weighted automata on disk and as arrays.

kaldifst's objects can be neither pickled nor edited in bulk; its file format (OpenFst's VectorFst, version 2) is
simple, so that a graph of ten million arcs is relabelled by numpy in a second instead of a Python loop.
"""

from __future__ import annotations

import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import kaldifst
import numpy as np

from hybrid.errors import DiskError, GraphError
from hybrid.io import PathLike, disk_errors

ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])
_MAGIC = 2125659606
_PROPERTIES = 3  # expanded and mutable; everything else unknown, to be computed when asked for
_ROOM = "free some space or give another --exp, then run the same command again"


@dataclass
class FstArrays:
    """start: its number, -1 if there is none; final: float32 [states], inf where not final;
    offsets: int64 [states + 1], the arcs of state s are arcs[offsets[s]:offsets[s + 1]]; arcs: ARC records."""

    start: int
    final: np.ndarray
    offsets: np.ndarray
    arcs: np.ndarray

    @property
    def num_states(self) -> int:
        return len(self.final)

    @property
    def sources(self) -> np.ndarray:
        """int32 [arcs]: the state that each arc leaves."""
        return np.repeat(np.arange(self.num_states, dtype=np.int32), np.diff(self.offsets))


def to_arrays(fst: kaldifst.StdVectorFst) -> FstArrays:
    """A copy of the graph as arrays. Raises DiskError where no temporary file can be written."""
    with tempfile.TemporaryDirectory(prefix="hybrid-fst-") as folder:
        path = Path(folder) / "fst"
        if not fst.write(str(path)):
            raise DiskError("cannot write a graph", file=path, remedy="free some space there, or set TMPDIR")
        return _parse(path.read_bytes(), path)


def from_arrays(arrays: FstArrays) -> kaldifst.StdVectorFst:
    """The inverse of `to_arrays`. Raises GraphError for arcs to states that do not exist."""
    states, arcs = arrays.num_states, arrays.arcs
    if len(arcs) and not (0 <= arcs["nextstate"].min() and arcs["nextstate"].max() < states):
        raise GraphError(f"an arc leads out of the {states} states of the graph")
    if not -1 <= arrays.start < states:
        raise GraphError(f"the start state {arrays.start} is none of the {states} states")
    header = struct.pack("<i", _MAGIC)
    for name in (b"vector", b"standard"):
        header += struct.pack("<i", len(name)) + name
    header += struct.pack("<iiQqqq", 2, 0, _PROPERTIES, arrays.start, states, len(arcs))
    # Each state: final weight (one word), number of arcs (two), then its arcs (four each).
    offsets = arrays.offsets.astype(np.int64)
    body = np.empty(3 * states + 4 * len(arcs), dtype="<i4")
    heads = 3 * np.arange(states, dtype=np.int64) + 4 * offsets[:-1]
    body[heads] = np.ascontiguousarray(arrays.final, dtype="<f4").view("<i4")
    body[heads + 1] = np.diff(offsets)
    body[heads + 2] = 0
    at = 4 * np.arange(len(arcs), dtype=np.int64) + 3 * (arrays.sources.astype(np.int64) + 1)
    words = np.ascontiguousarray(arcs).view("<i4").reshape(-1, 4)
    for column in range(4):
        body[at + column] = words[:, column]
    with tempfile.TemporaryDirectory(prefix="hybrid-fst-") as folder:
        path = Path(folder) / "fst"
        with disk_errors(path):
            path.write_bytes(header + body.tobytes())
        fst = kaldifst.StdVectorFst.read(str(path))
    if fst is None:
        raise GraphError("the arrays are no graph", remedy="report this: it is a defect of the program")
    return fst


def _parse(raw: bytes, path: Path) -> FstArrays:
    position = 4
    try:
        if struct.unpack_from("<i", raw)[0] != _MAGIC:
            raise GraphError("not a graph of OpenFst", file=path, remedy="delete it and run its stage again")
        names = []
        for _ in range(2):
            (length,) = struct.unpack_from("<i", raw, position)
            names.append(raw[position + 4 : position + 4 + length])
            position += 4 + length
        version, flags, _, start, states, _ = struct.unpack_from("<iiQqqq", raw, position)
        position += struct.calcsize("<iiQqqq")
        if names != [b"vector", b"standard"] or version != 2 or flags != 0 or states < 0:
            raise GraphError(
                f"a graph of kind {names}, version {version}, flags {flags}",
                file=path,
                remedy="convert it: fstconvert --fst_type=vector, without symbol tables",
            )
        body = np.frombuffer(raw, dtype="<i4", offset=position, count=(len(raw) - position) // 4)
        offsets = np.zeros(states + 1, dtype=np.int64)
        at = 0
        for state in range(states):
            count = int(body[at + 1])
            offsets[state + 1] = offsets[state] + count
            at += 3 + 4 * count
        if at > len(body):
            raise IndexError
    except (struct.error, IndexError):
        raise GraphError("a graph that is cut off", file=path, remedy="delete it and run its stage again") from None
    heads = 3 * np.arange(states, dtype=np.int64) + 4 * offsets[:-1]
    final = body[heads].view("<f4").astype(np.float32)
    inside = np.ones(at, dtype=bool)
    for column in range(3):
        inside[heads + column] = False
    arcs = body[:at][inside].view(ARC)
    return FstArrays(int(start), final, offsets, arcs.copy())


def write_fst(path: PathLike, fst: kaldifst.StdVectorFst) -> None:
    """Writes in OpenFst's format; the file is whole or absent. Raises DiskError, GraphError for an empty graph."""
    path = Path(path)
    if fst is None or fst.num_states == 0:
        raise GraphError("an empty graph is not written", file=path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb"):  # a missing permission shows here, with its reason
                pass
            if not fst.write(str(temporary)):
                raise DiskError("cannot write the graph, most likely for want of room", file=path, remedy=_ROOM)
            with open(temporary, "rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_fst(path: PathLike) -> kaldifst.StdVectorFst:
    """Raises GraphError for a file that is missing, empty, cut off or something else, and for an empty graph."""
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            magic = stream.read(4)
    except (FileNotFoundError, IsADirectoryError):
        raise GraphError("no such graph", file=path, remedy="run the stage that writes it") from None
    fst = kaldifst.StdVectorFst.read(str(path)) if magic == struct.pack("<i", _MAGIC) else None
    if fst is None:
        raise GraphError(
            "not a graph, or one that is cut off", file=path, remedy="delete it and run the stage that writes it again"
        )
    if fst.num_states == 0 or fst.start < 0:
        raise GraphError("the graph is empty", file=path, remedy="delete it and run the stage that writes it again")
    return fst
