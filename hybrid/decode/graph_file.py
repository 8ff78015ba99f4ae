"""A decoding graph on disk as the search reads it: its arrays in one safetensors file, which are mapped into memory and
not read, so that a graph of any size is there at once and processes share one copy.

The compiled search looks up whatever stands in the arrays, so a file from elsewhere is first walked through (`_fault`):
one pass over it, some ten million arcs a second.
"""

from __future__ import annotations

import json
import math
import mmap
from dataclasses import replace
from os import PathLike
from typing import Any, Dict, Tuple, Union

import numpy as np

from hybrid.compiled import compiled
from hybrid.decode.search_graph import COST, ILABEL, NEXT, SearchGraph, leads_to_wide
from hybrid.errors import GraphError
from hybrid.io import save_tensors

SUFFIX = ".safetensors"
_DTYPES = {"F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "U32": np.dtype("<u4")}
_ARRAYS = {  # what SearchGraph says
    "final": "F32", "first": "U32", "epsilons": "U32", "arcs": "U32", "enter": "U32", "entering": "U32",
    "sources": "U32", "depth": "I32",
}  # fmt: skip
_START = "start"
_AGAIN = "export it again"
_LONGEST_HEADER = 1 << 16  # bytes; of eight arrays it takes one thousand
_FAULTS = (
    "", "states that do not follow each other", "an arc that leads to no state", "a cost that is no number",
    "epsilon arcs that do not stand first, or go round", "tables of entering arcs that are of another graph",
    "arcs of a state that do not stand in the order of their costs",
)  # fmt: skip


def write_search_graph(path: Union[str, PathLike[str]], graph: SearchGraph) -> None:
    """Write the arrays of a graph as safetensors. Raises DiskError."""
    save_tensors(path, {name: getattr(graph, name) for name in _ARRAYS}, {_START: str(graph.start)})


def map_search_graph(path: Union[str, PathLike[str]]) -> SearchGraph:
    """Return the graph of a file that `write_search_graph` wrote; its arrays are pages of the file.

    Raises GraphError for a file that is absent, cut off or something else, and for arrays that are no graph.
    """
    try:
        with open(path, "rb") as stream:
            # Copy on write: nothing is written, and to numba arrays that cannot be written are another type.
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise GraphError(f"no graph: {error.strerror}", file=path, remedy=_AGAIN) from None
    except ValueError:
        raise GraphError("no graph: the file is empty", file=path, remedy=_AGAIN) from None
    try:
        start, arrays = _arrays(data)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = f"not a graph of an export: {error}"
        raise GraphError(what, file=path, remedy=_AGAIN) from None
    graph = SearchGraph(start, **arrays, leads=np.zeros(0, np.uint8))
    states, arcs = graph.num_states, len(graph.entering)
    shapes = {name: len(array) for name, array in arrays.items()}
    wanted = {
        "final": states, "first": states + 1, "epsilons": states, "arcs": 4 * arcs, "enter": states + 1,
        "entering": arcs, "sources": arcs, "depth": states,
    }  # fmt: skip
    if shapes != wanted or not 0 <= start < max(states, 1):
        raise GraphError(f"arrays of the sizes {shapes} from state {start}", file=path, remedy=_AGAIN)
    fault = _fault(
        graph.final, graph.first, graph.epsilons, graph.arcs, graph.costs, graph.enter, graph.entering, graph.sources,
        graph.depth,
    )  # fmt: skip
    if fault:
        raise GraphError(f"no graph that can be searched: {_FAULTS[fault]}", file=path, remedy=_AGAIN)
    leads = leads_to_wide(graph.first, graph.epsilons, graph.arcs, graph.enter)
    return replace(graph, leads=leads)


def _arrays(data: mmap.mmap) -> Tuple[int, Dict[str, np.ndarray]]:
    """The start state and {name: array} of the bytes of a safetensors file: the header's length in 64 bits, the header
    as JSON, the arrays. Raises ValueError and the like for other bytes."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(_LONGEST_HEADER, len(data) - 8):
        raise ValueError(f"{len(data)} bytes, a header of {size}")
    header: Dict[str, Any] = json.loads(data[8 : 8 + size].decode("utf-8"))
    arrays = {}
    for name, kind in _ARRAYS.items():
        dtype = _DTYPES[kind]
        (length,) = header[name]["shape"]
        begin, end = header[name]["data_offsets"]
        sound = all(isinstance(number, int) for number in (length, begin, end)) and length >= 0 and begin >= 0
        if header[name]["dtype"] != kind or not sound or end - begin != length * dtype.itemsize:
            raise ValueError(f"{name} is described as {header[name]}")
        if 8 + size + end > len(data):
            raise ValueError(f"cut off: {name} ends at byte {8 + size + end} of {len(data)}")
        arrays[name] = np.frombuffer(data, dtype, length, 8 + size + begin)
    return int(header["__metadata__"][_START]), arrays


@compiled
def _fault(final, first, epsilons, arcs, costs, enter, entering, sources, depth):
    """Return 0 for arrays that a search can follow without leaving them, else the number of what is wrong."""
    states, total = len(final), len(entering)
    if first[0] != 0 or first[states] != total or enter[0] != 0 or enter[states] != total:
        return 1
    for state in range(states):
        if not (first[state] <= epsilons[state] <= first[state + 1] and enter[state] <= enter[state + 1]):
            return 1
        if not final[state] > -math.inf:
            return 3
        if not 0 <= depth[state] < states:
            return 4
    for state in range(states):
        for arc in range(first[state], first[state + 1]):
            target = arcs[4 * arc + NEXT]
            if target >= states:
                return 2
            if not costs[4 * arc + COST] > -math.inf:
                return 3
            if (arcs[4 * arc + ILABEL] == 0) != (arc < epsilons[state]):
                return 4
            if arc < epsilons[state] and depth[target] <= depth[state]:
                return 4
            begins = arc == first[state] or arc == epsilons[state]
            if not begins and costs[4 * arc + COST] < costs[4 * arc - 4 + COST]:
                return 6
    for state in range(states):
        for place in range(enter[state], enter[state + 1]):
            arc, source = entering[place], sources[place]
            if arc >= total or source >= states or arcs[4 * arc + NEXT] != state:
                return 5
            if not first[source] <= arc < first[source + 1]:
                return 5
            if place > enter[state] and entering[place - 1] >= arc:
                return 5
    return 0
