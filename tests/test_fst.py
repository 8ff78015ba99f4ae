"""Graphs as arrays and as bytes, against kaldifst's own slow reading of them."""

from __future__ import annotations

import math
import tempfile
from concurrent.futures import ThreadPoolExecutor

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ConfigError, DiskError, GraphError
from hybrid.fst import ARC, FstArrays, add_word_penalty, const, from_arrays, from_bytes, to_arrays, to_bytes


@st.composite
def graphs(draw):
    """Any graph: without a start, without arcs, with loops and parallel arcs."""
    states = draw(st.integers(0, 6))
    fst = kaldifst.StdVectorFst()
    for _ in range(states):
        fst.add_state()
    if states and draw(st.booleans()):
        fst.start = draw(st.integers(0, states - 1))
    label, weight = st.integers(0, 9), st.floats(-5, 5, width=32)
    for state in range(states):
        if draw(st.booleans()):
            fst.set_final(state, draw(weight))
        for _ in range(draw(st.integers(0, 3))):
            arc = kaldifst.StdArc(draw(label), draw(label), draw(weight), draw(st.integers(0, states - 1)))
            fst.add_arc(state, arc)
    return fst


def _slow(fst):
    """(start, final weights, arcs of each state), read one by one."""
    arcs = [
        [(a.ilabel, a.olabel, a.weight.value, a.nextstate) for a in kaldifst.ArcIterator(fst, state)]
        for state in range(fst.num_states)
    ]
    return fst.start, [fst.final(state).value for state in range(fst.num_states)], arcs


def _of_arrays(arrays):
    arcs = [
        [tuple(arc) for arc in arrays.arcs[begin:end].tolist()]
        for begin, end in zip(arrays.offsets[:-1], arrays.offsets[1:], strict=True)
    ]
    return arrays.start, arrays.final.tolist(), arcs


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_three_ways_there_and_back(fst):
    slow = _slow(fst)
    arrays = to_arrays(fst)
    assert _of_arrays(arrays) == slow
    assert _of_arrays(to_arrays(const(fst))) == (slow if fst.start >= 0 else (-1, [], []))
    assert _slow(from_arrays(arrays)) == slow
    assert _slow(from_bytes(to_bytes(fst))) == slow
    flat = [arc for arcs in slow[2] for arc in arcs]
    assert arrays.max_ilabel == max((arc[0] for arc in flat), default=0)
    assert arrays.max_olabel == max((arc[1] for arc in flat), default=0)
    assert arrays.num_final == sum(math.isfinite(value) for value in slow[1])
    assert arrays.num_states == len(slow[1])


@settings(max_examples=50, deadline=None)
@given(graphs(), st.floats(-3, 3, width=32))
def test_word_penalty_arc_by_arc(fst, penalty):
    start, final, arcs = _slow(fst)
    got = _slow(add_word_penalty(fst, penalty))
    assert got[:2] == (start, final)
    for mine, theirs in zip(got[2], arcs, strict=True):
        assert [arc[:2] + arc[3:] for arc in mine] == [arc[:2] + arc[3:] for arc in theirs]
        for one, other in zip(mine, theirs, strict=True):
            assert one[2] == np.float32(other[2]) + (np.float32(penalty) if other[1] else 0)
    assert _slow(fst) == (start, final, arcs)  # a copy
    if start >= 0:
        assert _slow(add_word_penalty(const(fst), penalty)) == got


@pytest.mark.parametrize("penalty", [math.nan, math.inf, -math.inf])
def test_penalties_that_are_no_numbers(penalty):
    with pytest.raises(ConfigError, match="word insertion penalty"):
        add_word_penalty(kaldifst.compile("0 0 1 1\n0\n"), penalty)


def test_arrays_can_be_changed_without_changing_the_graph():
    fst = kaldifst.compile("0 1 3 1 0.5\n1 0.25\n")
    arrays = to_arrays(fst)
    arrays.arcs["ilabel"] = 7
    arrays.final[1] = 9.0
    assert _slow(fst) == (0, [math.inf, 0.25], [[(3, 1, 0.5, 1)], []])
    assert _slow(from_arrays(arrays)) == (0, [math.inf, 9.0], [[(7, 1, 0.5, 1)], []])


def test_a_large_graph_comes_back_whole():
    rng = np.random.default_rng(0)
    arrays = to_arrays(kaldifst.compile("0 1 3 1 0.5\n1 0.25\n"))
    count = 20000
    arrays.final = np.where(rng.random(count) < 0.1, rng.random(count), np.inf).astype(np.float32)
    sizes = rng.integers(0, 5, count)
    arrays.offsets = np.r_[0, np.cumsum(sizes)]
    arrays.arcs = np.zeros(sizes.sum(), arrays.arcs.dtype)
    for name, top in (("ilabel", 50), ("olabel", 70), ("nextstate", count)):
        arrays.arcs[name] = rng.integers(0, top, len(arrays.arcs))
    again = to_arrays(from_arrays(arrays))
    np.testing.assert_array_equal(again.arcs, arrays.arcs)
    np.testing.assert_array_equal(again.offsets, arrays.offsets)
    np.testing.assert_array_equal(again.final, arrays.final)


GOOD = to_bytes(kaldifst.compile("0 1 3 1 0.5\n1 0.25\n"))


@pytest.mark.parametrize("data", [b"", b"abc", GOOD[:4], GOOD[:30], GOOD[:70], GOOD[:-5], b"x" + GOOD[1:]], ids=len)
def test_bytes_that_are_no_graph(data):
    with pytest.raises(GraphError) as caught:
        from_bytes(data)
    assert caught.value.remedy


@pytest.mark.parametrize("value", [None, b"", "graph.fst", 3])
def test_what_is_no_graph(value):
    with pytest.raises(GraphError, match=f"not a graph but {type(value).__name__}"):
        to_arrays(value)


def test_a_graph_with_symbol_tables_is_refused():
    fst = kaldifst.compile("0 1 3 1 0.5\n1 0.25\n")
    fst.input_symbols = kaldifst.SymbolTable.from_str("<eps> 0\na 3\n")
    with pytest.raises(GraphError, match="kind") as caught:
        to_arrays(fst)
    assert caught.value.remedy


def test_no_room_for_the_temporary_file(monkeypatch, tmp_path):
    """TMPDIR on a full disk: kaldifst only says that it did not write."""
    monkeypatch.setattr(kaldifst.StdVectorFst, "write", lambda self, path: False, raising=False)
    fst = kaldifst.compile("0 1 3 1 0.5\n1 0.25\n")
    with pytest.raises(DiskError, match="cannot write a graph") as caught:
        to_bytes(fst)
    assert "TMPDIR" in str(caught.value)


def test_no_temporary_files_are_left_and_threads_have_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    graphs = [_chain(length) for length in range(1, 30)]
    with ThreadPoolExecutor(4) as executor:
        lengths = [len(arrays.arcs) for arrays in executor.map(lambda g: to_arrays(from_bytes(to_bytes(g))), graphs)]
    assert lengths == list(range(1, 30))
    with pytest.raises(GraphError):
        from_bytes(b"no graph")
    assert list(tmp_path.iterdir()) == []


def _chain(length):
    arcs = np.zeros(length, ARC)
    arcs["nextstate"] = np.arange(1, length + 1)
    final = np.r_[np.full(length, np.inf), 0].astype(np.float32)
    return from_arrays(FstArrays(0, final, np.r_[np.arange(length + 1), length], arcs))
