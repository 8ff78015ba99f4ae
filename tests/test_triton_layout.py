from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.train import triton_layout
from hybrid.train.triton_layout import Tiles, lay_out


def sums_of(tiles: Tiles, values: np.ndarray, tile: int) -> np.ndarray:
    """The product, as a program does it: tile by tile, class by class."""
    weight = np.where(tiles.index >= 0, 1.0, 0.0) if tiles.weight is None else tiles.weight
    product = (weight * np.append(values, 0.0)[tiles.index]).reshape(-1, tile)
    out = np.full(len(tiles.target), np.nan)
    for level in range(tiles.classes):
        chunks = tiles.chunks if level == tiles.classes - 1 else 1
        place = tiles.rows[level]
        for first in range(tiles.tiles[level], tiles.tiles[level + 1], chunks):
            sums = product[first : first + chunks].reshape(chunks, -1, 1 << level).sum((0, 2))
            here = tiles.target[place : min(place + len(sums), tiles.rows[level + 1])]
            assert np.isnan(out[here]).all()  # every row once
            out[here] = sums[: len(here)]
            assert not sums[len(here) :].any()
            place += len(here)
        assert place == tiles.rows[level + 1]
    return out


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([4, 16, 64]), st.booleans(), st.sampled_from([4, 1024]))
def test_every_row_gets_its_sum(seed, tile, weighted, widest):
    rng = np.random.default_rng(seed)
    rows, values = int(rng.integers(1, 40)), rng.normal(size=int(rng.integers(1, 30)))
    elements = int(rng.integers(0, 150))
    row = rng.choice(rows, elements, p=rng.dirichlet(np.full(rows, 0.3)))
    index, weight = rng.integers(0, len(values), elements), rng.normal(size=elements)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_layout, "WIDEST", widest)
        tiles = lay_out(
            row, index, weight if weighted else None, num_rows=rows, num_values=len(values), tile=tile
        )
    weight = weight if weighted else np.ones(elements)
    expected = np.bincount(row, weights=weight * values[index], minlength=rows)
    np.testing.assert_allclose(sums_of(tiles, values, tile), expected, atol=1e-12)


def test_numbers_are_as_small_as_they_can_be():
    for size, kind in ((2**15 - 1, np.int16), (2**15, np.int32)):
        tiles = lay_out(np.array([0]), np.array([size - 1]), None, num_rows=1, num_values=size, tile=16)
        assert tiles.index.dtype == kind and tiles.index[0] == size - 1


def test_padding_stays_below_a_half_where_rows_are_skewed():
    rng = np.random.default_rng(0)
    row = rng.choice(3000, 50000, p=rng.dirichlet(np.full(3000, 1.0)))
    tiles = lay_out(row, row, np.ones(len(row)), num_rows=3000, num_values=3000, tile=4096)
    filled = sum((high - low) << c for c, (low, high) in enumerate(zip(tiles.rows, tiles.rows[1:], strict=False)))
    assert filled < 1.5 * len(row)
