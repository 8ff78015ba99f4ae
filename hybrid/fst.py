"""Weighted automata on disk, as bytes and as arrays.

kaldifst's objects can be neither pickled nor edited in bulk; OpenFst's file formats are simple, so that a graph of ten
million arcs is read, relabelled and written by numpy in a second instead of half a minute of Python.

Read is the constant format (`fst/const-fst.h`, version 2), all states and then all arcs as packed records:

    header | states: final weight, first arc, arcs, input epsilons, output epsilons | arcs: input, output, weight, next

Written is the vector format (`fst/vector-fst.h`, version 2), the one that kaldifst reads: each state is its final
weight, the number of its arcs in 64 bits, then its arcs.
"""

from __future__ import annotations

import os
import struct
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator, Union

import kaldifst
import numpy as np

from hybrid.errors import ConfigError, DiskError, GraphError
from hybrid.io import PathLike, atomic_write, disk_errors

Graph = Union["kaldifst.StdVectorFst", "kaldifst.StdConstFst"]

ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])
_STATE = np.dtype([("final", "<f4"), ("first", "<u4"), ("arcs", "<u4"), ("ieps", "<u4"), ("oeps", "<u4")])
MAGIC = 2125659606
HEADER = "<iiQqqq"  # version, flags, properties, start, states, arcs; after the magic number and two names
_PROPERTIES = 3  # expanded and mutable; everything else unknown, to be computed when asked for
_BLOCK = 1 << 18  # states that are written at once
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
    def num_final(self) -> int:
        return int(np.isfinite(self.final).sum())

    @property
    def sources(self) -> np.ndarray:
        """The state that each arc leaves, int32 [arcs]."""
        return np.repeat(np.arange(self.num_states, dtype=np.int32), np.diff(self.offsets))

    def with_word_penalty(self, penalty: float) -> FstArrays:
        """Returns a copy in which every arc that puts out a word costs `penalty` more (natural log; above 0: fewer
        words). The word insertion penalty of Kaldi's lattice-add-penalty. Raises ConfigError for one that is not
        finite."""
        if not np.isfinite(penalty):
            raise ConfigError(f"word insertion penalty {penalty}", remedy="give a finite number")
        arcs = self.arcs.copy()
        arcs["weight"] += np.float32(penalty) * (arcs["olabel"] > 0)
        return replace(self, arcs=arcs)

    @property
    def max_ilabel(self) -> int:
        return int(self.arcs["ilabel"].max(initial=0))

    @property
    def max_olabel(self) -> int:
        return int(self.arcs["olabel"].max(initial=0))


def const(fst: Graph) -> kaldifst.StdConstFst:
    """Returns the graph in OpenFst's constant format: half the memory of a vector FST, and faster to search.

    A graph without a start accepts nothing, whatever its states: an empty one stands for it.
    """
    if isinstance(fst, kaldifst.StdConstFst):
        return fst
    # OpenFst's conversion crashes on states that nothing starts.
    return kaldifst.StdConstFst(fst if fst.start >= 0 else kaldifst.StdVectorFst())


def to_arrays(fst: Graph) -> FstArrays:
    """Returns a copy of the graph as arrays. Raises DiskError where no temporary file can be written, GraphError for
    what is no graph or not laid out as expected."""
    if not isinstance(fst, (kaldifst.StdVectorFst, kaldifst.StdConstFst)):
        raise GraphError(f"not a graph but {type(fst).__name__}", remedy="give a kaldifst.StdVectorFst")
    if isinstance(fst, kaldifst.StdVectorFst) and fst.start < 0 and fst.num_states:
        started = kaldifst.StdVectorFst(fst)
        started.start = 0
        return replace(to_arrays(started), start=-1)
    return _parse(_written(const(fst)))


def to_bytes(fst: kaldifst.StdVectorFst) -> bytes:
    """Returns the graph as bytes in OpenFst's vector format, to send a graph to another process. Raises DiskError."""
    return _written(fst)


def from_bytes(data: bytes) -> kaldifst.StdVectorFst:
    """Returns the graph that `to_bytes` wrote. Raises GraphError for other bytes."""
    with _scratch() as path:
        with disk_errors(path):
            path.write_bytes(data)
        fst = kaldifst.StdVectorFst.read(str(path))
    if fst is None:
        raise GraphError("the bytes are no graph", remedy="delete what they were read from and run its stage again")
    return fst


def _written(fst: Graph) -> bytes:
    with _scratch() as path:
        if not fst.write(str(path)):
            raise DiskError("cannot write a graph", file=path, remedy="free some space there, or set TMPDIR")
        return path.read_bytes()


@contextmanager
def _scratch() -> Iterator[Path]:
    """Makes a file of this process alone. kaldifst reads and writes files only, and a folder for each graph costs
    more."""
    with disk_errors(tempfile.gettempdir()):
        handle, name = tempfile.mkstemp(prefix="hybrid-fst-")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        os.unlink(name)


def from_arrays(arrays: FstArrays) -> kaldifst.StdVectorFst:
    """Builds the graph of which these are the arrays, the inverse of `to_arrays`. Raises GraphError for arcs to states
    that do not exist."""
    _check_arrays(arrays)
    return from_bytes(b"".join(_vector_format(arrays)))


def _check_arrays(arrays: FstArrays) -> None:
    states, arcs = arrays.num_states, arrays.arcs
    if len(arcs) and not (0 <= arcs["nextstate"].min() and arcs["nextstate"].max() < states):
        raise GraphError(f"an arc leads out of the {states} states of the graph")
    if not -1 <= arrays.start < states:
        raise GraphError(f"the start state {arrays.start} is none of the {states} states")


def _vector_format(arrays: FstArrays) -> Iterator[bytes]:
    """The bytes of the vector format, in parts."""
    header = struct.pack("<i", MAGIC)
    for name in (b"vector", b"standard"):
        header += struct.pack("<i", len(name)) + name
    yield header + struct.pack(
        HEADER, 2, 0, _PROPERTIES, arrays.start, arrays.num_states, len(arrays.arcs)
    )
    for begin in range(0, arrays.num_states, _BLOCK):
        offsets = arrays.offsets[begin : begin + _BLOCK + 1].astype(np.int64)
        states, arcs = len(offsets) - 1, arrays.arcs[offsets[0] : offsets[-1]]
        counts, offsets = np.diff(offsets), offsets - offsets[0]
        # Each state: final weight (one word), number of arcs (two), then its arcs (four each).
        body = np.empty(3 * states + 4 * len(arcs), dtype="<i4")
        heads = 3 * np.arange(states, dtype=np.int64) + 4 * offsets[:-1]
        body[heads] = np.ascontiguousarray(arrays.final[begin : begin + states], dtype="<f4").view("<i4")
        body[heads + 1] = counts
        body[heads + 2] = 0
        first_words = 4 * np.arange(len(arcs), dtype=np.int64) + np.repeat(3 * np.arange(1, states + 1), counts)
        words = np.ascontiguousarray(arcs).view("<i4").reshape(-1, 4)
        for column in range(4):
            body[first_words + column] = words[:, column]
        yield body.tobytes()


def _parse(data: bytes) -> FstArrays:
    position, names = 4, []
    for _ in range(2):
        (length,) = struct.unpack_from("<i", data, position)
        names.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    version, flags, _properties, start, states, arcs = struct.unpack_from(HEADER, data, position)
    position += struct.calcsize(HEADER)
    # flags 1 and 2: tables of symbols follow the header; 4: the records are aligned to 16 bytes
    supported = names == [b"const", b"standard"] and version == 2 and flags == 0
    if not supported or len(data) != position + states * _STATE.itemsize + arcs * ARC.itemsize:
        raise GraphError(
            f"a graph of kind {names}, version {version}, flags {flags}",
            remedy="use the pinned kaldifst and a graph without symbol tables: hybrid doctor",
        )
    records = np.frombuffer(data, _STATE, states, position)
    offsets = np.zeros(states + 1, dtype=np.int64)
    np.cumsum(records["arcs"], out=offsets[1:])
    return FstArrays(
        int(start),
        records["final"].astype(np.float32),
        offsets,
        np.frombuffer(data, ARC, arcs, position + records.nbytes).copy(),
    )


def add_word_penalty(fst: Graph, penalty: float) -> kaldifst.StdVectorFst:
    """Returns a copy of the graph with a word insertion penalty, as FstArrays.with_word_penalty."""
    return from_arrays(to_arrays(fst).with_word_penalty(penalty))


def write_fst(path: PathLike, fst: Union[kaldifst.StdVectorFst, FstArrays]) -> None:
    """Writes a graph in OpenFst's format; the file is whole or absent. Arrays are written part by part, without a copy
    of the whole. Raises DiskError, GraphError for an empty graph."""
    path = Path(path)
    if fst is None or fst.num_states == 0:
        raise GraphError("an empty graph is not written", file=path)
    if isinstance(fst, FstArrays):
        _check_arrays(fst)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as stream:
            for part in _vector_format(fst):
                stream.write(part)
        return
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
    """Reads a graph in OpenFst's format. Raises GraphError for a file that is missing, empty, cut off or something
    else, and for an empty graph."""
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            magic = stream.read(4)
    except (FileNotFoundError, IsADirectoryError):
        raise GraphError("no such graph", file=path, remedy="run the stage that writes it") from None
    fst = kaldifst.StdVectorFst.read(str(path)) if magic == struct.pack("<i", MAGIC) else None
    if fst is None:
        raise GraphError(
            "not a graph, or one that is cut off", file=path, remedy="delete it and run the stage that writes it again"
        )
    if fst.num_states == 0 or fst.start < 0:
        raise GraphError("the graph is empty", file=path, remedy="delete it and run the stage that writes it again")
    return fst
