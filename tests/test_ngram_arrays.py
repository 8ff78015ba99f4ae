"""Compact n-gram models: the same model as in dictionaries, whatever order it came in, and damage that is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import TEXTS, WORDS, arrays, histories

from hybrid.errors import DataError, ModelError
from hybrid.io import load_tensors, save_tensors
from hybrid.lm import ngram
from hybrid.lm.arrays import Columns, ListedTwice, NgramArrays, sorting
from hybrid.lm.model import NgramModel


def same(model: NgramModel, other: NgramModel) -> None:
    assert model.order == other.order
    for mine, theirs in zip([*model.probs, *model.backoffs], [*other.probs, *other.backoffs]):
        mine, theirs = ({key: value for key, value in table.items() if value != 0.0} for table in (mine, theirs))
        assert mine.keys() == theirs.keys()
        assert all(mine[key] == pytest.approx(theirs[key], abs=1e-5) for key in mine)


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.integers(1, 4), st.lists(st.sampled_from([*"abcdz", "<s>"]), max_size=5), WORDS)
def test_the_same_model_as_in_dictionaries(sentences, order, history, word):
    model = ngram.train(sentences, order)
    compact = NgramArrays.from_model(model)
    same(compact.to_model(), model)
    assert compact.sizes == tuple(len(prob) for prob in model.probs)
    for last in (word, "</s>", "<s>", "z"):
        expected = model.logprob(last, history)
        assert compact.logprob_of(last, history) == pytest.approx(expected, abs=1e-5) or expected == -math.inf
        assert (compact.logprob_of(last, history) == -math.inf) == (expected == -math.inf)


def test_the_layout_of_the_docstring():
    rows = [[[2], [0], [1]], [[1, 0], [0, 2], [0, 0]], [[0, 2, 1]]]
    columns = [
        Columns(np.array(part, np.int32), -np.arange(1.0, len(part) + 1), np.full(len(part), -0.5)) for part in rows
    ]
    model = NgramArrays.from_columns(["a", "b", "c"], columns)
    assert model.ids.tolist() == [0, 1, 2, 0, 2, 0, 1]
    assert model.children.tolist() == [3, 5, 6, 6, 6, 7, 7]
    assert model.logprob.tolist() == [-2, -3, -1, -3, -2, -1, -1] and model.logprob.dtype == np.float32
    assert model.parents(3).tolist() == [4] and model.rows(3).tolist() == [[0, 2, 1]]
    assert model.find(np.array([[0, 2], [0, 1], [1, 0], [-1, 0]])).tolist() == [4, -1, 5, -1]
    assert model.find(np.array([[0, 2, 1], [0, 2, 2], [1, 0, 1]])).tolist() == [6, -1, -1]
    assert len(model) == 7


def test_words_are_numbered_in_their_own_order_whatever_order_they_came_in():
    rows = np.array([[0], [1], [2]], np.int32)
    model = NgramArrays.from_columns(["c", "a", "b"], [Columns(rows, np.array([-3.0, -1.0, -2.0]), np.zeros(3))])
    assert model.words == ["a", "b", "c"] and model.logprob.tolist() == [-1, -2, -3]


def test_a_history_that_is_not_listed_is_added_as_it_backs_off():
    """The 3-gram a b c stands without a b, and the 4-gram b c a d without b c a and b c."""
    probs = [
        {("a",): -1.0, ("b",): -0.5, ("c",): -0.7, ("d",): -0.9, ("</s>",): -1.5},
        {("a", "c"): -0.2},
        {("a", "b", "c"): -0.1},
        {("b", "c", "a", "d"): -0.3},
    ]
    model = NgramModel(probs, [{("a",): -0.25, ("c",): -0.125}, {}, {}])
    compact = NgramArrays.from_model(model)
    assert compact.sizes == (5, 3, 2, 1) and "3 histories" in compact.notices[-1]
    again = compact.to_model()
    assert again.probs[1][("a", "b")] == pytest.approx(-0.75) and again.probs[1][("b", "c")] == pytest.approx(-0.7)
    assert again.probs[2][("b", "c", "a")] == pytest.approx(-0.125 - 1.0)
    for history in histories(compact, 3):
        for word in compact.words:
            assert compact.logprob_of(word, history) == pytest.approx(model.logprob(word, history), abs=1e-6)


def test_an_ngram_that_stands_there_twice():
    rows = [np.array(part, np.int32) for part in ([[0], [1]], [[1, 0], [0, 0], [1, 0]])]
    columns = [Columns(part, np.zeros(len(part)), np.zeros(len(part))) for part in rows]
    with pytest.raises(ListedTwice, match="the 2-gram b a stands there twice") as info:
        NgramArrays.from_columns(["a", "b"], columns)
    assert (info.value.order, info.value.row) == (2, 2)
    with pytest.raises(DataError, match="without a word"):
        NgramArrays.from_columns([], [])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.lists(st.lists(st.integers(0, 2), min_size=5, max_size=5), max_size=12))
def test_sorting_is_the_order_of_the_rows_as_tuples(width, values):
    rows = np.array(values, np.int32).reshape(-1, 5)[:, :width]
    order = sorting(rows)
    expected = sorted(range(len(rows)), key=lambda index: (tuple(rows[index]), index))
    assert (list(range(len(rows))) if order is None else order.tolist()) == expected


def test_stored_and_read_again(tmp_path):
    model = arrays(["a b c", "b b", "a b d"])
    model.save(tmp_path / "lm.safetensors")
    again = NgramArrays.load(tmp_path / "lm.safetensors")
    assert (again.words, again.sizes) == (model.words, model.sizes)
    for name in ("ids", "children", "logprob", "backoff"):
        assert np.array_equal(getattr(again, name), getattr(model, name))


@pytest.mark.parametrize(
    "name, change",
    [
        ("ids", lambda ids: ids[:-1]),
        ("ids", lambda ids: np.where(np.arange(len(ids)) == 8, 99, ids)),
        ("ids", lambda ids: ids[::-1].copy()),
        ("children", lambda children: children + 1),
        ("children", lambda children: children[::-1].copy()),
        ("children", lambda children: np.where(np.arange(len(children)) == 3, 1000, children)),
        ("backoff", lambda backoff: backoff[1:]),
        ("sizes", lambda sizes: sizes[::-1].copy()),
        ("sizes", lambda sizes: sizes[:0]),
        ("words", lambda words: words[:-1]),
        ("words", lambda words: words[::-1].copy()),
    ],
)
def test_damage_is_seen_before_anything_is_looked_up(tmp_path, name, change):
    path = tmp_path / "lm.safetensors"
    arrays(["a b c", "b b", "a b d"]).save(path)
    tensors = load_tensors(path)
    save_tensors(path, {**tensors, name: change(tensors[name])})
    with pytest.raises(DataError, match="damaged n-gram model") as info:
        NgramArrays.load(path)
    assert info.value.file == str(path) and info.value.remedy


def test_what_is_no_stored_model(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"a": np.zeros(2)})
    with pytest.raises(DataError, match="no n-gram model"):
        NgramArrays.load(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"\\data\\")
    with pytest.raises(ModelError, match="not a safetensors file"):
        NgramArrays.load(tmp_path / "x.safetensors")
