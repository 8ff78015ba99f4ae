"""Lattices as OpenFst keeps them: a vector FST of arc type `lattice4`, Kaldi's Lattice and kaldifst.Lattice.

    header | of each state: final graph cost, final acoustic cost, number of arcs (64 bits),
             of each arc: input label, output label, graph cost, acoustic cost, next state

Input labels are pdf + 1, 0 for epsilon. Infinite costs stand where a state is not final.
"""

from __future__ import annotations

import struct
from typing import Dict, Sequence, Tuple

import numpy as np

from hybrid.decode.lattice import Lattice
from hybrid.decode.lattice_parts import Parts, to_lattice
from hybrid.errors import DataError
from hybrid.io import PathLike, atomic_write, open_bytes

_MAGIC = 2125659606
_HEADER = "<iiQqqq"  # version, flags, properties, start, states, arcs; after the magic number and two names
_PROPERTIES = 3  # expanded and mutable
_ARC = np.dtype([
    ("ilabel", "<i4"), ("olabel", "<i4"), ("graph", "<f4"), ("acoustic", "<f4"), ("nextstate", "<i4")
])  # fmt: skip
_STATE = struct.Struct("<ffq")


def write_openfst(path: PathLike, lattice: Lattice) -> None:
    """Write a lattice to a file that kaldifst.Lattice.read and Kaldi's OpenFst read; whole or absent. One of words is
    to be expanded first (lattice_parts.expand). Raises DiskError."""
    with atomic_write(path) as stream:
        stream.write(to_openfst(lattice))


def to_openfst(lattice: Lattice) -> bytes:
    """Return the bytes of the file."""
    order = np.argsort(lattice.source, kind="stable")
    columns = (lattice.ilabel, lattice.olabel, lattice.graph, lattice.acoustic, lattice.target)
    arcs = np.zeros(len(order), _ARC)
    for name, column in zip(_ARC.names or (), columns, strict=True):
        arcs[name] = column[order]
    first = np.searchsorted(lattice.source[order], np.arange(len(lattice.final) + 1))
    parts = [struct.pack("<i", _MAGIC)]
    parts += [struct.pack("<i", len(name)) + name for name in (b"vector", b"lattice4")]
    parts.append(struct.pack(_HEADER, 2, 0, _PROPERTIES, 0, len(lattice.final), len(arcs)))
    for state, final in enumerate(lattice.final.tolist()):
        acoustic = 0.0 if np.isfinite(final) else np.inf
        parts.append(_STATE.pack(final, acoustic, first[state + 1] - first[state]))
        parts.append(arcs[first[state] : first[state + 1]].tobytes())
    return b"".join(parts)


def read_openfst(path: PathLike) -> Lattice:
    """Return the lattice of a file. Raises DataError where it is absent, cut off, something else, or no lattice."""
    with open_bytes(path, what="lattice") as stream:
        data = stream.read()
    try:
        return from_openfst(data)
    except DataError as error:
        raise DataError(error.what, file=path, remedy=error.remedy) from None


def from_openfst(data: bytes) -> Lattice:
    """Return the lattice of the bytes of a file; raises DataError."""
    try:
        return to_lattice(_parse(data))
    except struct.error:
        raise DataError("a lattice that is cut off", remedy="copy or write it again") from None


def _parse(data: bytes) -> Parts:
    position, names = 4, []
    if data[:4] != struct.pack("<i", _MAGIC):
        raise DataError("not an FST", remedy="give a file that OpenFst or kaldifst.Lattice.write wrote")
    for _ in range(2):
        (length,) = struct.unpack_from("<i", data, position)
        names.append(data[position + 4 : position + 4 + max(length, 0)].decode("ascii", "replace"))
        position += 4 + max(length, 0)
    version, flags, _, start, states, _ = struct.unpack_from(_HEADER, data, position)
    position += struct.calcsize(_HEADER)
    if names != ["vector", "lattice4"] or version != 2 or flags & 3:
        what = f"an FST of the kind {' '.join(names)}, version {version}, flags {flags}"
        raise DataError(what, remedy="write a vector FST of arc type lattice4, without symbol tables")
    links = []
    finals: Dict[int, Tuple[float, float, Sequence[int]]] = {}
    for state in range(states):
        graph, acoustic, count = _STATE.unpack_from(data, position)
        position += _STATE.size
        if count < 0 or position + count * _ARC.itemsize > len(data):
            raise DataError("a lattice that is cut off", remedy="copy or write it again")
        if np.isfinite(graph + acoustic):
            finals[state] = (graph, acoustic, ())
        links.append((state, np.frombuffer(data, _ARC, count, position)))
        position += count * _ARC.itemsize
    sources = np.repeat([state for state, _ in links], [len(arcs) for _, arcs in links]).astype(np.int64)
    arcs = np.concatenate([arcs for _, arcs in links]) if links else np.zeros(0, _ARC)
    if len(arcs) and not (0 <= arcs["nextstate"].min() and arcs["nextstate"].max() < states):
        raise DataError(f"an arc leads out of the {states} states", remedy="copy or write it again")
    if start < 0 or not finals:
        raise DataError("an empty lattice", remedy="leave the utterance out: its decoding failed")
    rows = np.stack([sources, arcs["nextstate"], arcs["ilabel"], arcs["olabel"]], 1).astype(np.int64)
    costs = np.stack([arcs["graph"], arcs["acoustic"]], 1).astype(np.float64)
    return Parts(int(start), rows, costs, (), finals)
