"""Trees: one event at a time, many at once, and the library's reading of the same tree, on random trees."""

from __future__ import annotations

import itertools
import json

import hmm_tools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ModelError
from hybrid.hmm.tree import PDF_CLASS, Leaf, Split, Table, Tree, monophone_tree

WIDTHS = [(1, 0), (2, 1), (2, 0), (3, 1), (3, 2), (5, 2)]
NUM_PHONES = 5


@st.composite
def trees(draw):
    """Any tree: tables and splits anywhere, holes in tables, pdfs that stand at several leaves."""
    width, central = draw(st.sampled_from(WIDTHS))
    keys = st.integers(-1, width - 1)
    count = itertools.count()

    def node(depth, hole=False):
        kind = draw(st.sampled_from(["leaf", "split", "table"] + (["hole"] if hole else []))) if depth else "leaf"
        if kind == "hole":
            return None
        if kind == "leaf":
            return Leaf(next(count))
        if kind == "split":
            values = tuple(sorted(draw(st.sets(st.integers(0, NUM_PHONES), max_size=4))))
            return Split(draw(keys), values, node(depth - 1), node(depth - 1))
        return Table(draw(keys), [node(depth - 1, True) for _ in range(draw(st.integers(0, NUM_PHONES + 1)))])

    root = node(draw(st.integers(0, 4)))
    if next(count) == 0:  # nothing but holes
        root = Leaf(0)
    return Tree(root, width, central)


def _events(rng, width, count=60):
    return rng.integers(0, NUM_PHONES + 2, (count, width)), rng.integers(0, 5, count)


def _one_by_one(tree, windows, classes):
    out = []
    for row, pdf_class in zip(windows.tolist(), classes.tolist()):
        try:
            out.append(tree.pdf(row, pdf_class))
        except ModelError:
            out.append(-1)
    return out


@settings(max_examples=150, deadline=None)
@given(trees(), st.integers(0, 2**32 - 1))
def test_three_readings_of_a_tree_agree(tree, seed):
    windows, classes = _events(np.random.default_rng(seed), tree.context_width)
    expected = _one_by_one(tree, windows, classes)
    many = tree.pdfs(windows, classes)
    assert many.dtype == np.int32
    assert many.tolist() == expected
    library = tree.khg()
    got = [library.compute(row, c) for row, c in zip(windows.tolist(), classes.tolist())]
    assert [pdf if found else -1 for found, pdf in got] == expected
    assert (library.context_width, library.central_position) == (tree.context_width, tree.central_position)
    assert library.num_pdfs == tree.num_pdfs


@settings(max_examples=100, deadline=None)
@given(trees())
def test_json_brings_back_the_same_tree(tree):
    again = Tree.from_json(json.loads(json.dumps(tree.to_json())))
    assert again == tree
    assert again.num_pdfs == tree.num_pdfs
    assert again.kaldi_bytes() == tree.kaldi_bytes()


@settings(max_examples=100, deadline=None)
@given(trees())
def test_kaldi_bytes_read_by_a_second_reader(tree):
    data = tree.kaldi_bytes()
    words = _Reader(data)
    assert words.token() == b"ContextDependency"
    width, central = words.number(), words.number()
    assert words.token() == b"ToPdf"
    root = words.node()
    assert words.token() == b"EndContextDependency"
    assert words.at == len(data)
    assert Tree(root, width, central) == _sorted_values(tree)


def _sorted_values(tree):
    return Tree.from_json(json.loads(json.dumps(tree.to_json())))


class _Reader:
    """Kaldi's binary form as tree/event-map.cc reads it: tokens end in a space, numbers carry their width."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def token(self):
        end = self.data.index(b" ", self.at)
        token, self.at = self.data[self.at : end], end + 1
        return token

    def number(self, mark=b"\x04"):
        assert self.data[self.at : self.at + 1] == mark
        value = int.from_bytes(self.data[self.at + 1 : self.at + 5], "little", signed=mark == b"\x04")
        self.at += 5
        return value

    def node(self):
        kind = self.token()
        if kind == b"NULL":
            return None
        if kind == b"CE":
            return Leaf(self.number())
        if kind == b"SE":
            key = self.number()
            size = self.number()
            values = np.frombuffer(self.data, "<i4", size, self.at)
            self.at += 4 * size
            assert self.token() == b"{"
            split = Split(key, tuple(values.tolist()), self.node(), self.node())
            assert self.token() == b"}"
            return split
        assert kind == b"TE"
        key, size = self.number(), self.number(b"\xfc")
        assert self.token() == b"("
        table = Table(key, [self.node() for _ in range(size)])
        assert self.token() == b")"
        return table


def test_leaves_come_from_left_to_right():
    tree = Tree(Table(0, [Leaf(2), None, Split(-1, (0,), Leaf(0), Leaf(1)), Leaf(2)]), 1, 0)
    assert tree.leaves() == [2, 0, 1, 2]
    assert tree.num_pdfs == 3


def test_monophones_share_a_root_by_group():
    classes = {1: 5, 2: 3, 3: 3, 4: 3}
    tree = monophone_tree(classes, [[1], [2, 4], [3]])
    assert tree.num_pdfs == 5 + 3 + 3
    for pdf_class in range(3):
        assert tree.pdf([2], pdf_class) == tree.pdf([4], pdf_class) == 5 + pdf_class
        assert tree.pdf([3], pdf_class) == 8 + pdf_class
    assert [tree.pdf([1], c) for c in range(5)] == [0, 1, 2, 3, 4]


def test_monophones_match_the_librarys_own():
    import kaldi_hmm_gmm as khg

    groups = [[1], [2, 4], [3], [5]]
    topo = hmm_tools.topology()
    ours = monophone_tree(topo.num_classes, groups)
    classes = [topo.num_classes.get(phone, -1) for phone in range(6)]
    theirs = khg.monophone_context_dependency_shared(groups, classes)
    for phone, count in topo.num_classes.items():
        for pdf_class in range(count):
            assert theirs.compute([phone], pdf_class) == (True, ours.pdf([phone], pdf_class))


@pytest.mark.parametrize(
    "window, pdf_class", [([0], 0), ([2], 0), ([9], 0), ([-1], 0), ([1], 3), ([1], -1)],
    ids=["phone 0", "hole", "beyond the table", "negative", "class beyond", "class negative"],
)
def test_what_the_tree_does_not_cover(window, pdf_class):
    tree = monophone_tree({1: 3, 3: 3}, [[1], [3]])
    with pytest.raises(ModelError, match="does not cover"):
        tree.pdf(window, pdf_class)
    assert tree.pdfs(np.array([window]), np.array([pdf_class])).tolist() == [-1]


def test_many_events_may_be_none():
    tree = monophone_tree({1: 3}, [[1]])
    assert tree.pdfs(np.zeros((0, 1), int), np.zeros(0, int)).shape == (0,)


LEAF = {"context_width": 1, "central_position": 0, "root": 0}
SPLIT = {"key": 0, "in": [1], "yes": 0, "no": 1}
BROKEN = {
    "none": None,
    "list": [],
    "text": "tree",
    "no root": {"context_width": 1, "central_position": 0},
    "no width": {"root": 0, "central_position": 0},
    "width text": {**LEAF, "context_width": "a"},
    "width 0": {**LEAF, "context_width": 0},
    "central outside": {**LEAF, "central_position": 1},
    "central negative": {**LEAF, "central_position": -1},
    "no leaf": {**LEAF, "root": None},
    "empty table": {**LEAF, "root": {"key": 0, "table": []}},
    "pdf with a gap": {**LEAF, "root": {**SPLIT, "no": 2}},
    "pdf negative": {**LEAF, "root": -1},
    "pdf a half": {**LEAF, "root": 0.5},
    "pdf a bool": {**LEAF, "root": False},
    "branch missing": {**LEAF, "root": {"key": 0, "in": [1], "yes": 0}},
    "branch null": {**LEAF, "root": {**SPLIT, "yes": None, "no": 0}},
    "values missing": {**LEAF, "root": {"key": 0, "yes": 0, "no": 1}},
    "values a number": {**LEAF, "root": {**SPLIT, "in": 3}},
    "values text": {**LEAF, "root": {**SPLIT, "in": ["a"]}},
    "key missing": {**LEAF, "root": {"in": [1], "yes": 0, "no": 1}},
    "key beyond the window": {**LEAF, "root": {**SPLIT, "key": 1}},
    "key below the class": {**LEAF, "root": {**SPLIT, "key": -2}},
    "table a number": {**LEAF, "root": {"key": 0, "table": 3}},
    "node a list": {**LEAF, "root": [0]},
}


@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN.keys())
def test_broken_json_is_refused_with_a_remedy(value):
    with pytest.raises(ModelError) as caught:
        Tree.from_json(value)
    assert caught.value.remedy


def test_the_key_of_the_class_is_kaldis():
    assert PDF_CLASS == -1
