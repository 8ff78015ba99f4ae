"""Reads an automaton in OpenFst's vector format as arrays, without an automaton in between: that would be four copies.

The format (hybrid/fst.py) has each state's arcs behind the state, so the file is walked state by state, twice.
"""

from __future__ import annotations

import struct
from os import PathLike
from typing import List, Tuple, Union

import numpy as np

from hybrid.compiled import compiled
from hybrid.errors import GraphError
from hybrid.fst import ARC, HEADER, MAGIC, FstArrays

_NAMES = (b"vector", b"standard")
_REMEDY = "delete it and run the graph stage again"


def read_arrays(path: Union[str, PathLike[str]]) -> FstArrays:
    """Return the automaton of a file that write_fst or kaldifst wrote. Raises GraphError where it is absent, cut off or
    something else, or leads to states that are not there."""
    try:
        with open(path, "rb") as stream:
            start, states = _header(stream.read(_size()))
        words = np.fromfile(path, "<i4", offset=_size())
    except OSError as error:
        raise GraphError(f"no graph: {error.strerror}", file=path, remedy="run the graph stage") from None
    except (struct.error, ValueError) as error:
        what = f"not a graph, or a truncated one: {error}"
        raise GraphError(what, file=path, remedy=_REMEDY) from None
    offsets = np.zeros(states + 1, np.int64)
    if not _counted(words, offsets):
        raise GraphError("not a graph, or a truncated one", file=path, remedy=_REMEDY)
    final, arcs = np.empty(states, np.float32), np.empty(int(offsets[-1]), ARC)
    _taken(words, offsets, final.view(np.int32), arcs.view(np.int32).reshape(-1, 4))
    ahead = arcs["nextstate"]
    if not -1 <= start < states or (len(arcs) and not (0 <= ahead.min() and ahead.max() < states)):
        raise GraphError("a graph with arcs to states that are not there", file=path, remedy=_REMEDY)
    return FstArrays(start, final, offsets, arcs)


def _size() -> int:
    return 4 + sum(4 + len(name) for name in _NAMES) + struct.calcsize(HEADER)


def _header(data: bytes) -> Tuple[int, int]:
    """Start state and number of states. Raises ValueError and struct.error for other bytes."""
    (magic,) = struct.unpack_from("<i", data, 0)
    names: List[bytes] = []
    position = 4
    while magic == MAGIC and len(names) < len(_NAMES):
        (length,) = struct.unpack_from("<i", data, position)
        names.append(data[position + 4 : position + 4 + max(length, 0)])
        position += 4 + max(length, 0)
    if tuple(names) != _NAMES:
        raise ValueError(f"of the kind {names}")
    version, flags, _properties, start, states, _arcs = struct.unpack_from(HEADER, data, position)
    if version != 2 or flags != 0 or not 0 <= states < 2**31:
        raise ValueError(f"version {version}, flags {flags}, {states} states")
    return int(start), int(states)


@compiled
def _counted(words, offsets):
    """Fill in where each state's arcs begin; return whether the states end where the file does."""
    at = 0
    for state in range(len(offsets) - 1):
        if at + 3 > len(words) or words[at + 1] < 0 or words[at + 2] != 0:
            return False
        offsets[state + 1] = offsets[state] + words[at + 1]
        at += 3 + 4 * int(words[at + 1])
    return at == len(words)


@compiled
def _taken(words, offsets, final, arcs):
    at = 0
    for state in range(len(final)):
        final[state] = words[at]
        at += 3
        for arc in range(offsets[state], offsets[state + 1]):
            for column in range(4):
                arcs[arc, column] = words[at + column]
            at += 4
