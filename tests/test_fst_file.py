"""Automata on disk as arrays: written and read as kaldifst does it, in blocks, and files that are none."""

from __future__ import annotations

from pathlib import Path

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid import fst as fst_module
from hybrid.errors import GraphError
from hybrid.fst import ARC, FstArrays, from_arrays, read_fst, to_arrays, write_fst
from hybrid.fst_file import read_arrays


def random_arrays(seed: int, states: int) -> FstArrays:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, states)
    arcs = np.zeros(int(counts.sum()), ARC)
    for name in ("ilabel", "olabel"):
        arcs[name] = rng.integers(0, 9, len(arcs))
    arcs["weight"], arcs["nextstate"] = rng.standard_normal(len(arcs)), rng.integers(0, states, len(arcs))
    final = np.where(rng.random(states) < 0.5, np.inf, rng.random(states)).astype(np.float32)
    return FstArrays(int(rng.integers(0, states)), final, np.r_[0, np.cumsum(counts)], arcs)


def assert_equal(one: FstArrays, other: FstArrays) -> None:
    for name in ("start", "final", "offsets", "arcs"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), states=st.integers(1, 30), block=st.sampled_from([1, 2, 7, 100]))
def test_there_and_back(tmp_path_factory: pytest.TempPathFactory, seed: int, states: int, block: int) -> None:
    """Written in blocks of any size, what is read is what was there, by kaldifst and without it."""
    arrays, path = random_arrays(seed, states), tmp_path_factory.mktemp("fst") / "a.fst"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fst_module, "_BLOCK", block)
        write_fst(path, arrays)
        assert_equal(read_arrays(path), arrays)
        assert_equal(to_arrays(read_fst(path)), arrays)
        write_fst(path, from_arrays(arrays))  # kaldifst's own writer
        assert_equal(read_arrays(path), arrays)


def test_an_automaton_without_a_start(tmp_path: Path) -> None:
    fst = kaldifst.StdVectorFst()
    fst.add_state()
    assert fst.write(str(tmp_path / "a.fst"))
    assert read_arrays(tmp_path / "a.fst").start == -1


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.fst"
    with pytest.raises(GraphError, match="no graph: No such file") as info:
        read_arrays(path)
    assert info.value.remedy == "run the graph stage"
    write_fst(path, random_arrays(3, 20))
    whole = path.read_bytes()
    damaged = [
        b"", whole[:3], whole[:40], whole[:-4], whole[:-1], whole + b"1234", b"x" * 200,
        whole.replace(b"vector", b"secret"), whole.replace(b"standard", b"log-like"),
    ]  # fmt: skip
    for at, value in ((30, 7), (66 + 4, -1), (66 + 8, 5)):  # flags, a count below 0, one above 2^32
        damaged.append(whole[:at] + int(value).to_bytes(4, "little", signed=True) + whole[at + 4 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(GraphError, match="not a graph, or a truncated one") as info:
            read_arrays(path)
        assert info.value.file is not None and "again" in str(info.value.remedy)


def test_arcs_that_lead_nowhere(tmp_path: Path) -> None:
    fst = kaldifst.compile("0 1 3 1 0.5\n1 0.25\n")
    path = tmp_path / "a.fst"
    assert fst.write(str(path))
    data = bytearray(path.read_bytes())
    for value in (2, -1):
        at = data.rindex(np.array([3, 1], "<i4").tobytes()) + 12
        data[at : at + 4] = int(value).to_bytes(4, "little", signed=True)
        path.write_bytes(bytes(data))
        with pytest.raises(GraphError, match="states that are not there"):
            read_arrays(path)
    with pytest.raises(GraphError, match="leads out"):
        write_fst(path, FstArrays(0, np.zeros(1, np.float32), np.array([0, 1]), np.array([(1, 1, 0.0, 1)], ARC)))
