"""The feature transform: its deltas and neighbours are those of hybrid/data/transforms.py, at utterances' edges too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data import transforms
from hybrid.errors import ModelError
from hybrid.gmm.feature_transform import FeatureTransform, adapt

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**32 - 1)


def _utterances(seed, lengths, dim=3):
    """Frames of all, one after the other, and each alone."""
    x = np.random.default_rng(seed).normal(size=(sum(lengths), dim)).astype(np.float32)
    return x, np.split(x, np.cumsum(lengths)[:-1])


@settings(max_examples=40, deadline=None)
@given(SEEDS, LENGTHS, st.integers(0, 3), st.integers(1, 3))
def test_deltas_are_those_of_each_utterance_alone(seed, lengths, order, window):
    base, each = _utterances(seed, lengths)
    transform = FeatureTransform.deltas(3, order, window)
    assert (transform.left, transform.right) == (order * window, order * window)
    assert (transform.dim, transform.base_dim) == (3 * order + 3, 3)
    got = transform.apply(base, lengths)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.concatenate([transforms.deltas(x, order, window) for x in each]), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(SEEDS, LENGTHS, st.integers(0, 5), st.integers(0, 5))
def test_neighbours_are_those_of_each_utterance_alone(seed, lengths, left, right):
    base, each = _utterances(seed, lengths)
    transform = FeatureTransform.splice(3, left, right)
    expected = np.concatenate([transforms.splice(x, left, right) for x in each])
    np.testing.assert_array_equal(transform.spliced(base, np.array(lengths)), expected)
    np.testing.assert_array_equal(transform.apply(base, lengths), expected)


def test_utterances_without_frames_among_others_change_nothing():
    base, _ = _utterances(0, [4, 5])
    transform = FeatureTransform.deltas(3)
    np.testing.assert_array_equal(transform.apply(base, [0, 4, 0, 5, 0]), transform.apply(base, [4, 5]))


def test_a_matrix_after_the_front_is_one_front():
    rng = np.random.default_rng(0)
    base, _ = _utterances(0, [7, 3])
    transform = FeatureTransform.splice(3, 2, 1)
    one, two = rng.normal(size=(5, 12)), rng.normal(size=(5, 5))
    both = transform.then(one).then(two)
    assert (both.left, both.right, both.dim, both.base_dim, both.matrix.dtype) == (2, 1, 5, 3, np.float32)
    expected = transform.apply(base, [7, 3]) @ one.T @ two.T
    np.testing.assert_allclose(both.apply(base, [7, 3]), expected, rtol=1e-3, atol=1e-4)


def test_a_transform_is_affine():
    rng = np.random.default_rng(0)
    x, transform = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(3, 4))
    got = adapt(x, transform)
    assert got.dtype == np.float32
    expected = [transform @ np.r_[row, 1.0] for row in x]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(adapt(x, np.eye(3, 4)), x)


def test_features_of_another_width_are_refused_with_a_remedy():
    with pytest.raises(ModelError, match="4 dimensions where the model's feature transform takes 3") as caught:
        FeatureTransform.deltas(3).apply(np.zeros((5, 4), np.float32), [5])
    assert caught.value.remedy


def test_arrays_bring_back_the_same_front():
    transform = FeatureTransform.splice(3, 2, 1).then(np.random.default_rng(0).normal(size=(5, 12)))
    again = FeatureTransform.from_tensors(transform.tensors())
    assert (again.left, again.right) == (2, 1)
    np.testing.assert_array_equal(again.matrix, transform.matrix)


@pytest.mark.parametrize("change", [
    lambda t: {k: v for k, v in t.items() if k != "front.matrix"},
    lambda t: {k: v for k, v in t.items() if k != "front.splice"},
    lambda t: {**t, "front.splice": np.zeros(3)},
    lambda t: {},
], ids=["no matrix", "no splice", "three numbers", "nothing"])  # fmt: skip
def test_broken_arrays_are_refused_with_a_remedy(change):
    with pytest.raises(ModelError) as caught:
        FeatureTransform.from_tensors(change(FeatureTransform.deltas(2).tensors()))
    assert caught.value.remedy
