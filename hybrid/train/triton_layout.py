"""A sparse sum laid out for a GPU: every row adds up values that it picks from a vector by their numbers.

All four products of the fused forward-backward (triton_kernels.py) are of the form

    out(row) = sum over the row's elements of  weight * values[index]

with rows of very different lengths: a loop has one arc, a state with a short history hundreds. Rows are put into
*classes* by length: rows of class c are padded to 2^c elements, so that a *tile* of `tile` elements holds tile / 2^c
whole rows, one behind the other. A program reads a tile as one vector (all reads side by side), picks the values,
multiplies, and adds up runs of 2^c neighbours. Padding to the next power of two costs a third to a half; no row
is cut, so that no sum has to be put together from parts and the order of additions is fixed: two runs give the same
bits. Rows longer than the widest class take several tiles, whose sums are added in order.

A class that would fill its last tile badly gives those rows to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

WIDEST = 1024  # elements of a row in the last class


@dataclass(frozen=True)
class Tiles:
    """index: int16 or int32 [tiles * tile], weight: float64 of that shape or None (all one).

    Padding has weight 0 and index 0; without weights, index -1. target: int32 [rows], the row that stands in each
    place. rows, tiles: where the rows and tiles of a class begin [classes + 1]; chunks: tiles to a block of rows in
    the last class (1 in the others).
    """

    index: np.ndarray
    weight: Optional[np.ndarray]
    target: np.ndarray
    rows: Tuple[int, ...]
    tiles: Tuple[int, ...]
    chunks: int

    @property
    def classes(self) -> int:
        return len(self.rows) - 1


def lay_out(
    row: np.ndarray, index: np.ndarray, weight: Optional[np.ndarray], *, num_rows: int, num_values: int, tile: int
) -> Tiles:
    """Lay out row, index [elements], weight [elements] or None as Tiles; empty rows of num_rows have a place, too.

    num_values: length of the vector that index points into; tile: a power of two.
    """
    degree = np.bincount(row, minlength=num_rows)
    place, rows = _classes(degree, tile)
    classes = len(rows) - 1
    chunks = max(-(-int(degree.max(initial=1)) // (1 << (classes - 1))), 1)
    tiles = [0]
    for level in range(classes):
        blocks = -(-(rows[level + 1] - rows[level]) // (tile >> level))
        tiles.append(tiles[-1] + blocks * (chunks if level == classes - 1 else 1))

    # Where each element goes: the how-manieth of its row, and its row's place.
    order = np.argsort(row, kind="stable")
    nth = np.empty(len(row), dtype=np.int64)
    nth[order] = np.arange(len(row)) - (np.cumsum(degree) - degree)[row[order]]
    at = place[row]
    level = np.searchsorted(np.asarray(rows), at, side="right") - 1
    width = 1 << level
    inside = at - np.asarray(rows)[level]
    block, offset = inside // (tile // width), inside % (tile // width)
    block = np.asarray(tiles)[level] + block * np.where(level == classes - 1, chunks, 1) + nth // width
    position = block * tile + offset * width + nth % width

    kind = np.int16 if num_values <= np.iinfo(np.int16).max else np.int32
    indices = np.full(tiles[-1] * tile, 0 if weight is not None else -1, dtype=kind)
    indices[position] = index
    weights = None
    if weight is not None:
        weights = np.zeros(len(indices))
        weights[position] = weight
    target = np.empty(num_rows, dtype=np.int32)
    target[place] = np.arange(num_rows)
    return Tiles(indices, weights, target, tuple(rows), tuple(tiles), chunks)


def _classes(degree: np.ndarray, tile: int) -> Tuple[np.ndarray, List[int]]:
    """Place of each row, classes one behind the other and short rows first; where the classes begin."""
    widest = min(WIDEST, tile).bit_length() - 1
    level = np.minimum(np.ceil(np.log2(np.maximum(degree, 1))).astype(np.int64), widest)
    order = np.lexsort((degree, level))
    top = int(level.max(initial=0))
    for c in range(top):
        members = order[level[order] == c]
        remainder = len(members) % (tile >> c)
        # Half a tile of the next class at most, instead of one more tile of this.
        if remainder << (c + 1) <= tile // 2:
            level[members[len(members) - remainder :]] = c + 1
    order = np.lexsort((degree, level))
    place = np.empty(len(degree), dtype=np.int64)
    place[order] = np.arange(len(degree))
    return place, np.searchsorted(level[order], np.arange(top + 2)).tolist()
