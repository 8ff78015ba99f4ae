"""Weights of scores: the exact line search against a scan, the envelope against the maximum, tuning against a grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ConfigError, DataError
from hybrid.rescore.line_search import scan, search_line
from hybrid.rescore.weights import ScoredList, best_of, errors_of, pack, tune
from hybrid.score.distance import edit_distances
from hybrid.score.wer import align, count

small = st.integers(-6, 6).map(float)


@st.composite
def scored(draw, num_scores=2):
    lists = []
    for _ in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 4))
        rows = [[draw(small) for _ in range(num_scores)] for _ in range(count)]
        lists.append(ScoredList(np.array(rows), np.array([draw(st.integers(0, 4)) for _ in range(count)])))
    return lists


@settings(max_examples=200, deadline=None)
@given(scored(), st.tuples(small, small), st.tuples(small, small))
def test_no_point_of_a_line_has_fewer_errors(lists, weights, direction):
    """Where hypotheses tie, either may be meant: such points of a scan say nothing."""
    at, line, packed = np.array(weights), np.array(direction), pack(lists)
    found = search_line(packed, at, line, limit=50.0)
    xs = [step + 0.0137 for step in np.arange(-40, 40, 0.25) if not ties(lists, at + (step + 0.0137) * line)]
    assert all(found.errors <= errors for errors in scan(packed, at, line, xs))
    if not ties(lists, at + found.x * line):
        assert scan(packed, at, line, [found.x]) == [found.errors] == [packed.num_errors(at + found.x * line)]


def ties(lists, weights) -> bool:
    """Whether some list has two best hypotheses."""
    tops = [np.sort(item.scores @ weights)[-2:] for item in lists if len(item.errors) > 1]
    return any(top[1] - top[0] < 1e-6 for top in tops)


def test_the_middle_of_the_widest_interval():
    # The second is best from x = 1 on, the third from x = 5 on, which makes an error.
    item = ScoredList(np.array([[0.0, 0.0], [-1.0, 1.0], [-6.0, 2.0]]), np.array([2, 0, 1]))
    found = search_line(pack([item]), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert found == (3.0, 0, 1.0, 5.0)


def test_an_interval_goes_on_where_no_error_changes():
    item = ScoredList(np.array([[0.0, 0.0], [-1.0, 1.0], [-6.0, 2.0]]), np.array([2, 0, 0]))
    assert search_line(pack([item]), np.array([1.0, 0.0]), np.array([0.0, 1.0]), limit=9.0) == (5.0, 0, 1.0, 9.0)


def test_the_first_of_those_that_share_the_maximum():
    item = ScoredList(np.array([[1.0, 0.1], [1.0, 0.1], [0.0, 0.0]]), np.array([1, 0, 3]))
    assert errors_of([item], np.array([1.0, 1.0])) == 1
    assert best_of(item.scores, np.array([1.0, 1.0])) == 0


words = st.lists(st.sampled_from("abc"), max_size=6)


@settings(max_examples=150, deadline=None)
@given(words, st.lists(words, min_size=1, max_size=5))
def test_distances_are_the_errors_of_alignments(reference, hypotheses):
    found = edit_distances(reference, hypotheses)
    assert found.tolist() == [count(align(reference, hypothesis)).errors for hypothesis in hypotheses]


def lists_of(count: int, seed: int) -> list[ScoredList]:
    """Right hypotheses are higher by 0.5 first + 2 second - 1 third on the average."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        scores = random.standard_normal((5, 3)) * [3.0, 1.0, 0.1]
        total = scores @ [0.5, 2.0, -1.0] + 0.3 * random.standard_normal(5)
        found.append(ScoredList(scores, np.argsort(np.argsort(-total))))
    return found


def test_tuning_is_as_good_as_a_grid():
    lists = lists_of(150, 1)
    tuned = tune(lists)
    assert tuned.errors == errors_of(lists, tuned.weights) < errors_of(lists, np.array([1.0, 0.0, 0.0]))
    grid = itertools.product([1.0], np.linspace(0, 8, 33), np.linspace(-8, 8, 33))
    assert tuned.errors <= min(errors_of(lists, np.array(point)) for point in grid)
    assert tuned.weights[0] == 1.0 and tuned.weights[1] == pytest.approx(4.0, rel=0.25)


def test_tuned_weights_hold_on_other_lists():
    weights = tune(lists_of(150, 1)).weights
    others = lists_of(400, 2)
    assert errors_of(others, weights) < 1.25 * errors_of(others, np.array([0.5, 2.0, -1.0]))


@pytest.mark.parametrize("more", [0, 3])
def test_the_difference_of_scores_that_are_much_alike(more):
    """Of two language models what one likes more than the other tells all; beside them stand scores of no use, one of
    them constant, one the other's double."""
    random = np.random.default_rng(5)
    lists = []
    for _ in range(200):
        alike, useful = random.normal(size=(2, 6)) * [[100.0], [0.2]]
        columns = [random.normal(size=6), alike, alike + useful, *random.normal(size=(max(more - 2, 0), 6))]
        columns += [np.full(6, 7.0), 2.0 * columns[0]][:more]
        errors = 3 * (useful < useful.max() - 0.005)
        lists.append(ScoredList(np.stack(columns, axis=1), errors.astype(int)))
    tuned = tune(lists)
    assert tuned.errors <= 6 and tuned.weights[1] == pytest.approx(-tuned.weights[2], rel=0.02)
    assert tuned.errors == errors_of(lists, tuned.weights)


def test_the_same_seed_gives_the_same_weights():
    lists = lists_of(40, 3)
    assert (tune(lists, seed=4).weights == tune(lists, seed=4).weights).all()


def test_where_nothing_can_be_won():
    item = ScoredList(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 3]))
    assert tune([item]).errors == 0
    same = ScoredList(np.ones((3, 2)), np.zeros(3))
    assert tune([same]).errors == 0.0


@pytest.mark.parametrize(
    "lists, options, error, what",
    [
        ([], {}, DataError, "no list"),
        ([ScoredList(np.array([[np.inf]]), np.zeros(1))], {}, DataError, "not finite"),
        ([ScoredList(np.zeros((1, 1)), np.zeros(1))], {"restarts": -1}, ConfigError, "0 or more"),
    ],
)
def test_what_cannot_be_tuned(lists, options, error, what):
    with pytest.raises(error, match=what):
        tune(lists, **options)
