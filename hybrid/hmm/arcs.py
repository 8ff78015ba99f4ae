"""The arcs of a decoding graph as numpy arrays.

A graph of ten million arcs takes half a minute to walk arc by arc in Python. OpenFst's constant format keeps all
states, then all arcs, as packed records, so that one write and one `numpy.frombuffer` give every label at once;
edited weights go back the same way. Layout (OpenFst, `fst/const-fst.h`, version 2, no symbol tables):

    header | states: final weight, first arc, arcs, input epsilons, output epsilons | arcs: input, output, weight, next
"""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import kaldifst
import numpy as np

from hybrid.errors import ConfigError, GraphError

Graph = Union["kaldifst.StdVectorFst", "kaldifst.StdConstFst"]

_MAGIC = 2125659606
_STATE = np.dtype([("final", "<f4"), ("first", "<u4"), ("arcs", "<u4"), ("ieps", "<u4"), ("oeps", "<u4")])
_ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("next", "<i4")])


@dataclass(frozen=True)
class Arcs:
    """`states` [num_states] and `arcs` [num_arcs], records as named in the module's head; `start` -1: empty."""

    start: int
    states: np.ndarray
    arcs: np.ndarray

    @property
    def max_ilabel(self) -> int:
        return int(self.arcs["ilabel"].max(initial=0))

    @property
    def max_olabel(self) -> int:
        return int(self.arcs["olabel"].max(initial=0))

    @property
    def num_final(self) -> int:
        return int(np.isfinite(self.states["final"]).sum())


def to_bytes(graph: kaldifst.StdVectorFst) -> bytes:
    """OpenFst's vector format, to send a graph to another process: kaldifst's objects cannot be pickled."""
    with tempfile.NamedTemporaryFile(suffix=".fst") as file:
        if not graph.write(file.name):
            raise GraphError("the graph could not be written", file=file.name, remedy="free some space in TMPDIR")
        return Path(file.name).read_bytes()


def from_bytes(data: bytes) -> kaldifst.StdVectorFst:
    """The graph that `to_bytes` wrote."""
    with tempfile.NamedTemporaryFile(suffix=".fst") as file:
        file.write(data)
        file.flush()
        return kaldifst.StdVectorFst.read(file.name)


def const(graph: Graph) -> kaldifst.StdConstFst:
    """The graph in OpenFst's constant format: half the memory of a vector FST, and faster to search."""
    return graph if isinstance(graph, kaldifst.StdConstFst) else kaldifst.StdConstFst(graph)


def read_arcs(graph: Graph) -> Arcs:
    """All labels and weights of a graph. Raises GraphError where OpenFst's file is not of the expected layout."""
    if not isinstance(graph, (kaldifst.StdVectorFst, kaldifst.StdConstFst)):
        raise GraphError(f"not a graph but {type(graph).__name__}", remedy="give a kaldifst.StdVectorFst")
    if graph.start < 0:
        return Arcs(-1, np.zeros(0, _STATE), np.zeros(0, _ARC))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.fst"
        if not const(graph).write(str(path)):
            raise GraphError("the graph could not be written", file=path, remedy="free some space in TMPDIR")
        data = path.read_bytes()
    return _parse(data)


def add_cost_per_word(graph: Graph, penalty: float) -> kaldifst.StdConstFst:
    """A copy of the graph with `penalty` added to the cost of each arc that puts out a word.

    The word insertion penalty of Kaldi's `lattice-add-penalty`, in natural-log cost: positive favours fewer words.
    """
    if not np.isfinite(penalty):
        raise ConfigError(f"word insertion penalty {penalty}", remedy="give a finite number")
    if penalty == 0 or graph.start < 0:
        return const(graph)
    parsed = read_arcs(graph)
    arcs = parsed.arcs.copy()
    arcs["weight"][arcs["olabel"] > 0] += np.float32(penalty)
    return const(_vector(parsed.start, parsed.states, arcs))


def _vector(start: int, states: np.ndarray, arcs: np.ndarray) -> kaldifst.StdVectorFst:
    """Back through OpenFst's vector format (kaldifst has no reader for the constant one).

    After the header each state is its final weight, the number of its arcs in 64 bits, then its arcs: in words of
    32 bits, state s begins at 3 s + 4 first[s].
    """
    words = np.empty(3 * len(states) + 4 * len(arcs), "<i4")
    at = 3 * np.arange(len(states), dtype=np.int64) + 4 * states["first"].astype(np.int64)
    words[at] = states["final"].view("<i4")
    words[at + 1] = states["arcs"]
    words[at + 2] = 0
    state_of_arc = np.repeat(np.arange(len(states), dtype=np.int64), states["arcs"])
    first_word = 3 * (state_of_arc + 1) + 4 * np.arange(len(arcs), dtype=np.int64)
    words[first_word[:, None] + np.arange(4)] = arcs.view("<i4").reshape(-1, 4)
    header = struct.pack("<ii6si8siiQqqq", _MAGIC, 6, b"vector", 8, b"standard", 2, 0, 0x3, start, len(states), 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.fst"
        with open(path, "wb") as stream:
            stream.write(header)
            stream.write(words.tobytes())
        return kaldifst.StdVectorFst.read(str(path))


def _parse(data: bytes) -> Arcs:
    (magic,) = struct.unpack_from("<i", data)
    at = 4
    names = []
    for _ in range(2):
        (size,) = struct.unpack_from("<i", data, at)
        names.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    version, flags, _properties, start, num_states, num_arcs = struct.unpack_from("<iiQqqq", data, at)
    at += 40
    expected = at + num_states * _STATE.itemsize + num_arcs * _ARC.itemsize
    layout_known = (magic, names, version, flags & 3) == (_MAGIC, [b"const", b"standard"], 2, 0)
    if not layout_known or len(data) != expected:
        raise GraphError(
            f"a graph of unknown layout: {names}, version {version}, flags {flags}",
            remedy="use the pinned kaldifst and a graph without symbol tables: hybrid doctor",
        )
    states = np.frombuffer(data, _STATE, num_states, at)
    arcs = np.frombuffer(data, _ARC, num_arcs, at + states.nbytes)
    return Arcs(start, states, arcs)
