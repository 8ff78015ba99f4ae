"""Random access to sets of arrays: what sequential reading gives, in any order, and damage named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lhotse import MonoCut

from hybrid.data.array_index import open_arrays
from hybrid.data.array_writing import write_shards
from hybrid.data.arrays import iterate_arrays, write_arrays
from hybrid.data.text_column import TextColumn, repeated
from hybrid.errors import DataError

COUNT = 23


def arrays_of(number: int) -> dict:
    rng = np.random.default_rng(number)
    return {
        "one": rng.normal(size=(number % 5 * 7, 3)).astype(np.float32),
        "two": rng.integers(-9, 9, 1 + number).astype(np.int32),
    }


def write(folder: Path, count: int = COUNT) -> Path:
    cuts = [MonoCut(f"ü-{number}", 0.0, 1.0, 0) for number in range(count)]
    write_arrays(
        folder, ((cut, arrays_of(n)) for n, cut in enumerate(cuts)), names=["one", "two"], frame_shift=0.01,
        shard_size=6,
    )  # fmt: skip
    return folder


def test_any_order_gives_what_reading_in_order_gives(tmp_path: Path) -> None:
    seen = []
    index = open_arrays(write(tmp_path), "two", "one", visit=lambda cut, arrays: seen.append((cut.id, arrays)))
    rows = [(cut.id, arrays) for cut, arrays in iterate_arrays(tmp_path, "one", "two")]
    assert len(index) == len(rows) == COUNT and list(index.ids) == [name for name, _ in rows]
    assert [name for name, _ in seen] == list(index.ids)
    for place in np.random.default_rng(0).permutation(np.tile(np.arange(COUNT), 2)).tolist():
        for name in ("one", "two"):
            found = index.read(place, name)
            assert found.dtype == rows[place][1][name].dtype and found.flags.writeable
            np.testing.assert_array_equal(found, rows[place][1][name])
            np.testing.assert_array_equal(found, seen[place][1][name])
            assert index.lengths(name)[place] == len(found)


def test_a_pickled_index_reads_and_holds_no_arrays(tmp_path: Path) -> None:
    index = open_arrays(write(tmp_path / "few"), "one")
    again = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(again.read(9, "one"), index.read(9, "one"))
    more = open_arrays(write(tmp_path / "more", 400), "one")
    assert len(pickle.dumps(more)) - len(pickle.dumps(index)) < 50 * (400 - COUNT)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"\x93NUMPY") + 140] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "a bit": _flip,
    "cut off": lambda path: os.truncate(path, 600),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_changes_after_it_was_opened_is_found(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    index = open_arrays(write(tmp_path), "two")
    path = tmp_path / "shards" / "two.000001.tar"
    damage(path)
    with pytest.raises(DataError, match="changed since it was opened|cannot be read") as caught:
        index.read(6, "two")
    assert caught.value.file == str(path) and caught.value.utterance == "ü-6" and caught.value.remedy
    np.testing.assert_array_equal(index.read(5, "two"), arrays_of(5)["two"])
    with pytest.raises((DataError, OSError)) as caught:
        open_arrays(tmp_path, "two")
    assert "two.000001.tar" in str(caught.value)


def test_the_same_bytes_written_again_are_no_change(tmp_path: Path) -> None:
    index = open_arrays(write(tmp_path), "one")
    path = tmp_path / "shards" / "one.000002.tar"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    np.testing.assert_array_equal(index.read(13, "one"), arrays_of(13)["one"])


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    write(tmp_path / "set")
    with pytest.raises(DataError, match="no arrays 'three'.*one, two"):
        open_arrays(tmp_path / "set", "three")
    with pytest.raises(DataError, match="no such set"):
        open_arrays(tmp_path / "none", "one")
    cuts = [MonoCut("a", 0.0, 1.0, 0)]
    write_shards(tmp_path / "gz", cuts, lambda cut: arrays_of(3), names=["one"], frame_shift=0.01, compress=6)
    with pytest.raises(DataError, match="gzipped"):
        open_arrays(tmp_path / "gz", "one")


def test_a_set_of_nothing(tmp_path: Path) -> None:
    write_arrays(tmp_path, [], names=["one"], frame_shift=0.01)
    index = open_arrays(tmp_path, "one")
    assert len(index) == 0 and list(index.ids) == [] and len(index.lengths("one")) == 0


@given(st.lists(st.text(max_size=5), max_size=30))
def test_a_column_of_text_is_a_list(texts: list) -> None:
    column = pickle.loads(pickle.dumps(TextColumn(texts)))
    assert list(column) == texts == [column[place] for place in range(len(texts))]
    assert column[1:4] == texts[1:4] and column[-2:] == texts[-2:]
    for place in (len(texts), -len(texts) - 1):
        with pytest.raises(IndexError):
            column[place]
    again = repeated(len(texts), texts.__getitem__)
    firsts = [text for place, text in enumerate(texts) if text in texts[:place]]
    assert again == (firsts[0] if firsts else None)


def test_a_column_takes_names_of_files_that_are_no_utf_8() -> None:
    name = os.fsdecode(b"a\xff")
    assert list(TextColumn([name])) == [name]
