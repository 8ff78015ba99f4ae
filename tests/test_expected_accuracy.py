from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lfmmi_tools import random_fsa, random_sequences, small_senones

from hybrid.errors import GraphError
from hybrid.train import expected_accuracy as module
from hybrid.train.denominator import average_start, make_denominator
from hybrid.train.expected_accuracy import expected_accuracy
from hybrid.train.forward_backward import SharedGraph
from hybrid.train.fsa import Fsa
from hybrid.train.phone_lm import train_phone_lm


def all_paths(fsa, x, accuracy):
    """(log weight, accuracy) of every path of len(x) arcs, one by one."""
    arcs = list(zip(fsa.src.tolist(), fsa.dst.tolist(), fsa.pdf.tolist(), fsa.logw.tolist()))
    found = []
    for path in itertools.product(arcs, repeat=len(x)):
        if any(one[1] != two[0] for one, two in zip(path, path[1:])):
            continue
        weight = fsa.start[path[0][0]] + fsa.final[path[-1][1]]
        weight += sum(arc[3] + x[t, arc[2]] for t, arc in enumerate(path))
        if weight > -np.inf:
            found.append((weight, sum(accuracy[t, arc[2]] for t, arc in enumerate(path))))
    return np.array(found)


def test_mean_over_all_paths():
    rng = np.random.default_rng(0)
    fsa = random_fsa(rng, 4, 9, 5)
    x, accuracy = rng.normal(size=(2, 4, 5))
    paths = all_paths(fsa, x, accuracy)
    assert len(paths) > 10
    weights = np.exp(paths[:, 0] - paths[:, 0].max())
    found = expected_accuracy(
        SharedGraph(fsa, 5), torch.tensor(x)[None], torch.tensor([4]), torch.tensor(accuracy)[None]
    )
    assert float(found.values) == pytest.approx((weights * paths[:, 1]).sum() / weights.sum(), rel=1e-10)
    assert float(found.log_z) == pytest.approx(np.log(weights.sum()) + paths[:, 0].max(), rel=1e-10)


def slow(graph, x, lengths, accuracy, step=1e-5):
    """By finite differences of forward_backward in the direction of the accuracies."""
    up, down = (graph.forward_backward(x + s * step * accuracy, lengths) for s in (1, -1))
    return (up[0] - down[0]) / (2 * step), (up[1] - down[1]) / (2 * step)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.sampled_from([0.0, 0.05]), st.sampled_from([1.0, 8.0]))
def test_equals_the_derivative_of_log_z_and_of_the_posteriors(seed, states, leaky, scale):
    rng = np.random.default_rng(seed)
    fsa = random_fsa(rng, states, 3 * states, 6)
    leak_to = average_start(fsa.connect(), 10) if leaky else None
    fsa = fsa.connect() if leaky else fsa
    graph = SharedGraph(fsa, 6, leaky=leaky, leak_to=leak_to)
    lengths = torch.tensor(rng.integers(1, 30, 5))
    shape = (5, int(lengths.max()) + 2, 6)
    x, accuracy = torch.tensor(scale * rng.normal(size=shape)), torch.tensor(rng.random(shape))
    found = expected_accuracy(graph, x, lengths, accuracy)
    values, gradient = slow(graph, x, lengths, accuracy)
    log_z, posteriors = graph.forward_backward(x, lengths)
    torch.testing.assert_close(found.values, values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.log_z, log_z)
    torch.testing.assert_close(found.posteriors, posteriors)


@pytest.fixture(scope="module")
def denominator():
    senones = small_senones(2, 1)
    fsa = make_denominator(train_phone_lm(random_sequences(np.random.default_rng(0)), order=3), senones)
    return fsa, senones.num_pdfs


@pytest.mark.parametrize("frames", [1, 50, 400])
def test_float32_on_a_denominator(denominator, frames):
    fsa, num_pdfs = denominator
    graph = SharedGraph(fsa, num_pdfs)
    frames = max(frames, fsa.min_frames)
    rng = np.random.default_rng(frames)
    lengths = torch.tensor([frames, max(fsa.min_frames, frames // 2)])
    x = torch.tensor(3 * rng.normal(size=(2, frames, num_pdfs)))
    accuracy = torch.tensor((rng.random((2, frames, num_pdfs)) < 0.3).astype(float))
    exact = expected_accuracy(graph, x, lengths, accuracy)
    single = expected_accuracy(graph, x.float(), lengths, accuracy.float())
    assert single.gradient.dtype == torch.float32 and graph.retried == 0
    torch.testing.assert_close(single.values, exact.values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(single.gradient.double(), exact.gradient, rtol=1e-3, atol=1e-5)
    assert not single.gradient[1, int(lengths[1]) :].any() and not single.posteriors[1, int(lengths[1]) :].any()


def test_an_accuracy_of_one_everywhere_is_the_length(denominator):
    fsa, num_pdfs = denominator
    x = torch.randn(3, 40, num_pdfs, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([40, 30, 20])
    found = expected_accuracy(SharedGraph(fsa, num_pdfs), x, lengths, torch.ones_like(x))
    torch.testing.assert_close(found.values, lengths.double())
    assert float(found.gradient.abs().max()) < 1e-5


def test_few_sequences_at_a_time_are_the_same(denominator, monkeypatch):
    fsa, num_pdfs = denominator
    graph = SharedGraph(fsa, num_pdfs)
    generator = torch.Generator().manual_seed(1)
    x, accuracy = torch.randn(2, 5, 60, num_pdfs, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([60, 20, 31, 60, 12])
    whole = expected_accuracy(graph, x, lengths, accuracy)
    monkeypatch.setattr(module, "MAX_BYTES", 1)
    parts = expected_accuracy(graph, x, lengths, accuracy)
    for name in ("values", "gradient", "log_z", "posteriors"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("leaky", [0.0, 0.01])
def test_outputs_beyond_the_range_are_done_again(leaky):
    # The only way to the end is e^-200 in float32, e^-900 in float64 behind another path until the last frame.
    for height, retries in ((200.0, 1), (900.0, 2)):
        fsa = Fsa.from_lists(
            [
                (0, 1, 0, 0.0),
                (1, 1, 0, 0.0),
                (0, 2, 1, 0.0),
                (2, 2, 1, 0.0),
                (2, 2, 2, -0.5),
                (1, 3, 3, 0.0),
                (2, 3, 2, 0.0),
            ],
            {0: 0.0},
            {3: 0.0},
        )
        leak_to = average_start(fsa, 10) if leaky else None
        graph = SharedGraph(fsa, 4, leaky=leaky, leak_to=leak_to)
        x = torch.zeros(1, 6, 4)
        x[0, :5, 0], x[0, 5, 3] = height / 5, -2 * height
        accuracy = torch.rand(1, 6, 4, generator=torch.Generator().manual_seed(3))
        lengths = torch.tensor([6])
        found = expected_accuracy(graph, x, lengths, accuracy)
        assert graph.retried == retries or leaky
        values, gradient = slow(graph, x.double(), lengths, accuracy.double())
        torch.testing.assert_close(found.values, values, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.gradient.double(), gradient, rtol=1e-3, atol=1e-4)


def test_a_sequence_that_is_not_accepted():
    fsa = Fsa.from_lists([(0, 1, 0, 0.0), (1, 2, 1, 0.0), (2, 2, 1, 0.0)], {0: 0.0}, {2: 0.0})
    x = torch.zeros(2, 4, 2)
    found = expected_accuracy(SharedGraph(fsa, 2), x, torch.tensor([4, 1]), torch.ones_like(x))
    assert found.values.tolist() == [4.0, 0.0] and found.log_z[1] == -np.inf
    assert not found.gradient[1].any() and not found.posteriors[1].any()


def test_shapes_that_do_not_fit(denominator):
    fsa, num_pdfs = denominator
    x = torch.zeros(1, 9, num_pdfs)
    with pytest.raises(GraphError, match="accuracies of shape"):
        expected_accuracy(SharedGraph(fsa, num_pdfs), x, torch.tensor([9]), x[:, :8])
    with pytest.raises(GraphError, match="outputs of shape"):
        expected_accuracy(SharedGraph(fsa, num_pdfs), x[..., 1:], torch.tensor([9]), x[..., 1:])
