"""A graph on disk as the search reads it: the same graph, and never one that the search would leave its arrays in."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Callable

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.decode.decoder import Decoder
from hybrid.decode.graph_file import map_search_graph, write_search_graph
from hybrid.decode.search_graph import COST, ILABEL, NEXT, OLABEL, SearchGraph
from hybrid.errors import GraphError
from hybrid.fst import to_arrays

PDFS = 4


def make_graph(seed: int, states: int = 12) -> SearchGraph:
    return SearchGraph.from_arrays(to_arrays(random_fst(seed, states)))


def random_fst(seed: int, states: int) -> kaldifst.StdVectorFst:
    """Random arcs over PDFS pdfs, epsilons only to higher states."""
    rng = np.random.default_rng(seed)
    fst = kaldifst.StdVectorFst()
    for _ in range(states):
        fst.add_state()
    fst.start = 0
    for source in range(states):
        for _ in range(int(rng.integers(1, 5))):
            target, label = int(rng.integers(states)), int(rng.integers(PDFS + 1))
            if label == 0 and target <= source:
                label = 1
            fst.add_arc(source, kaldifst.StdArc(label, int(rng.integers(3)), float(rng.random()), target))
    fst.set_final(states - 1, 0.5)
    return fst


def same(one: SearchGraph, other: SearchGraph) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(SearchGraph))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), states=st.integers(2, 30))
def test_a_graph_comes_back(tmp_path_factory: pytest.TempPathFactory, seed: int, states: int) -> None:
    path = tmp_path_factory.mktemp("graph") / "graph.safetensors"
    graph = make_graph(seed, states)
    write_search_graph(path, graph)
    found = map_search_graph(path)
    assert same(found, graph) and found.num_arcs == len(graph.arcs) // 4
    assert {field.name: getattr(found, field.name).dtype for field in fields(SearchGraph)[1:]} == {
        field.name: getattr(graph, field.name).dtype for field in fields(SearchGraph)[1:]
    }


def test_it_decodes_as_the_graph_that_it_was(tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    for seed in range(5):
        graph = make_graph(seed)
        write_search_graph(path, graph)
        loglikes = np.random.default_rng(seed).standard_normal((30, PDFS)).astype(np.float32)
        for penalty in (0.0, 0.3):
            one, other = (Decoder(given, num_pdfs=PDFS, word_penalty=penalty) for given in (graph, path))
            found, wanted = other.decode(loglikes), one.decode(loglikes)
            assert (found.words, found.cost, found.starts) == (wanted.words, wanted.cost, wanted.starts)
        assert same(map_search_graph(path), graph)  # the penalty went into a copy


def test_a_word_penalty_as_before_the_arcs_were_sorted() -> None:
    fst = kaldifst.StdVectorFst()
    for _ in range(3):
        fst.add_state()
    fst.start = 0
    rng = np.random.default_rng(0)
    for source in range(3):
        for word in range(4):
            fst.add_arc(source, kaldifst.StdArc(1 + word % 2, word, float(rng.random()), (source + word) % 3))
    fst.set_final(2, 0.0)
    arrays = to_arrays(fst)
    for penalty in (0.1, -1.7, 3.0):
        wanted = SearchGraph.from_arrays(arrays.with_word_penalty(penalty))
        assert same(SearchGraph.from_arrays(arrays).with_word_penalty(penalty), wanted)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), states=st.integers(2, 30), penalty=st.sampled_from([0.0, -0.4, 0.7]))
def test_the_cheapest_arcs_stand_first(seed: int, states: int, penalty: float) -> None:
    fst = to_arrays(random_fst(seed, states))
    graph = SearchGraph.from_arrays(fst).with_word_penalty(penalty)
    rows = graph.arcs.reshape(-1, 4)
    for state in range(graph.num_states):
        low, middle, high = int(graph.first[state]), int(graph.epsilons[state]), int(graph.first[state + 1])
        for part in (slice(low, middle), slice(middle, high)):
            assert (np.diff(graph.costs[COST::4][part]) >= 0).all()
        given_arcs = fst.with_word_penalty(penalty).arcs[fst.offsets[state] : fst.offsets[state + 1]]
        wanted = sorted((arc["ilabel"], arc["olabel"], arc["weight"], arc["nextstate"]) for arc in given_arcs)
        found = sorted((*row[[ILABEL, OLABEL]], row.view(np.float32)[COST], row[NEXT]) for row in rows[low:high])
        assert found == wanted


def _set(name: str, place: int, value: Any) -> Callable[[SearchGraph], SearchGraph]:
    def change(graph: SearchGraph) -> SearchGraph:
        array = getattr(graph, name).copy()
        array[place] = value
        return replace(graph, **{name: array})

    return change


def _arc(column: int, value: int, epsilon: bool = False) -> Callable[[SearchGraph], SearchGraph]:
    def change(graph: SearchGraph) -> SearchGraph:
        labels = graph.arcs[ILABEL::4]
        arc = int(np.flatnonzero(labels == 0 if epsilon else labels != 0)[0])
        return _set("arcs", 4 * arc + column, value)(graph)

    return change


def _dearest_first(graph: SearchGraph) -> SearchGraph:
    state = int(np.flatnonzero(np.diff(graph.first.astype(np.int64)) - (graph.epsilons - graph.first[:-1]) > 1)[0])
    return _set("arcs", 4 * int(graph.epsilons[state]) + COST, int(np.float32(9.0).view(np.uint32)))(graph)


def _swapped(graph: SearchGraph) -> SearchGraph:
    place = int(np.flatnonzero(np.diff(graph.enter) > 1)[0])
    entering = graph.entering.copy()
    entering[graph.enter[place] + 1] = entering[graph.enter[place]]
    return replace(graph, entering=entering)


BAD = [
    (_set("first", 0, 1), "states that do not follow"),
    (_set("first", 3, 2**31), "states that do not follow"),
    (_set("epsilons", 2, 2**32 - 1), "states that do not follow"),
    (_set("enter", 4, 2**32 - 1), "states that do not follow"),
    (_set("enter", -1, 0), "states that do not follow"),
    (_arc(NEXT, 12), "leads to no state"),
    (_arc(NEXT, 2**32 - 1), "leads to no state"),
    (_arc(COST, int(np.float32("nan").view(np.uint32))), "a cost that is no number"),
    (_arc(COST, int(np.float32("-inf").view(np.uint32))), "a cost that is no number"),
    (_set("final", 1, np.nan), "a cost that is no number"),
    (_arc(ILABEL, 0), "epsilon arcs that do not stand first"),
    (_arc(ILABEL, 1, epsilon=True), "epsilon arcs that do not stand first"),
    (_set("depth", 0, -1), "epsilon arcs that do not stand first"),
    (_set("depth", 0, 12), "epsilon arcs that do not stand first"),
    (lambda graph: replace(graph, depth=np.zeros_like(graph.depth)), "or go round"),
    (_set("entering", 0, 2**32 - 1), "tables of entering arcs"),
    (_set("sources", 0, 2**32 - 1), "tables of entering arcs"),
    (_swapped, "tables of entering arcs"),
    (_dearest_first, "in the order of their costs"),
    (lambda graph: replace(graph, start=12), "from state 12"),
    (lambda graph: replace(graph, start=-1), "from state -1"),
    (lambda graph: replace(graph, final=graph.final[:-1]), "arrays of the sizes"),
    (lambda graph: replace(graph, arcs=graph.arcs[:-1]), "arrays of the sizes"),
    (lambda graph: replace(graph, arcs=graph.arcs.astype(np.int64)), "not a graph of an export"),
    (lambda graph: replace(graph, first=graph.first[None]), "not a graph of an export"),
]


@pytest.mark.parametrize("change, words", BAD, ids=range(len(BAD)))
def test_arrays_that_a_search_would_leave(tmp_path: Path, change: Callable, words: str) -> None:
    path, graph = tmp_path / "graph.safetensors", make_graph(3)
    write_search_graph(path, change(graph))
    with pytest.raises(GraphError, match=words) as error:
        map_search_graph(path)
    assert error.value.file == str(path) and error.value.remedy


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damaged_number_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """A search over what is not refused ends, and ends with words that the graph has."""
    path, graph = tmp_path_factory.mktemp("graph") / "graph.safetensors", make_graph(data.draw(st.integers(0, 50)))
    name = data.draw(st.sampled_from(["final", "first", "epsilons", "arcs", "enter", "entering", "sources", "depth"]))
    array = getattr(graph, name).copy()
    place = data.draw(st.integers(0, len(array) - 1))
    array.view(np.uint32)[place] = data.draw(st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 60)))
    write_search_graph(path, replace(graph, **{name: array}))
    try:
        decoder = Decoder(path, num_pdfs=PDFS)
    except GraphError:
        return
    hypothesis = decoder.decode(np.random.default_rng(0).standard_normal((12, PDFS)).astype(np.float32))
    assert set(hypothesis.words) <= set(decoder.graph.arcs[OLABEL::4].tolist())


def _header(change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        change(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + size :]

    return damage


def _shape(header: dict) -> None:
    header["final"]["shape"] = [-12]


def _offsets(header: dict) -> None:
    header["final"]["data_offsets"] = [-48, 0]


def _beyond(header: dict) -> None:
    begin, end = header["final"]["data_offsets"]
    header["final"]["data_offsets"] = [begin + 10**6, end + 10**6]


def _fraction(header: dict) -> None:
    header["final"]["shape"] = [12.0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"", lambda data: data[:5], lambda data: data[:200], lambda data: data[:-1],
        lambda data: b"\xff" * 8 + data[8:], lambda data: b"x" * len(data), lambda data: data[:8] + b"[" + data[9:],
        _header(_shape), _header(_offsets), _header(_beyond), _header(_fraction),
        _header(lambda header: header.pop("arcs")), _header(lambda header: header.pop("__metadata__")),
        _header(lambda header: header["__metadata__"].update(start="x")),
        _header(lambda header: header.update(arcs=[])), _header(lambda header: header["arcs"].update(dtype="I64")),
    ],
    ids=range(16),
)  # fmt: skip
def test_files_that_are_no_graphs(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "graph.safetensors"
    write_search_graph(path, make_graph(1))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(GraphError) as error:
        map_search_graph(path)
    assert error.value.file == str(path) and error.value.remedy


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "graph.safetensors", tmp_path):
        with pytest.raises(GraphError, match="no graph"):
            map_search_graph(path)
