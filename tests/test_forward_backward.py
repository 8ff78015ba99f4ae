from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lfmmi_tools import brute_force, random_fsa

from hybrid.errors import ConfigError, GraphError
from hybrid.train import forward_backward
from hybrid.train.forward_backward import SharedGraph, total_scores, total_scores_and_posteriors
from hybrid.train.fsa import Fsa
from hybrid.train.graph_batch import GraphBatch

PDFS = 4
FULL = settings(max_examples=25, deadline=None)


def graphs_and_outputs(seed: int, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    fsa = random_fsa(rng, int(rng.integers(1, 6)), int(rng.integers(1, 12)), PDFS)
    lengths = torch.as_tensor(rng.integers(1, 5, 3))
    x = torch.as_tensor(rng.normal(size=(3, 5, PDFS)) * scale)
    return rng, fsa, x, lengths


@FULL
@given(st.integers(0, 10**6), st.sampled_from([1.0, 10.0]))
def test_shared_graph_equals_all_paths_written_out(seed, scale):
    _, fsa, x, lengths = graphs_and_outputs(seed, scale)
    for dtype, error in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        graph = SharedGraph(fsa, PDFS)
        scores, posteriors = graph.forward_backward(x, lengths, dtype=dtype)
        assert graph.retried == 0  # right at once, not mended by the fallback
        for b, n in enumerate(lengths.tolist()):
            score, share = brute_force(fsa, x[b, :n].numpy())
            assert scores[b] == pytest.approx(score, rel=error, abs=error)
            np.testing.assert_allclose(posteriors[b, :n].numpy(), share, atol=error)
            assert not posteriors[b, n:].any()


@FULL
@given(st.integers(0, 10**6), st.sampled_from([1.0, 10.0]))
def test_graph_batch_equals_all_paths_written_out(seed, scale):
    rng, _, x, lengths = graphs_and_outputs(seed, scale)
    graphs = [random_fsa(rng, 3 + b, 6 + b, PDFS) for b in range(3)]
    scores, posteriors = GraphBatch(graphs, PDFS).forward_backward(x, lengths)
    for b, n in enumerate(lengths.tolist()):
        score, share = brute_force(graphs[b], x[b, :n].numpy())
        assert scores[b] == pytest.approx(score)
        np.testing.assert_allclose(posteriors[b, :n].numpy(), share, atol=1e-9)
        assert not posteriors[b, n:].any()


@FULL
@given(st.integers(0, 10**6))
def test_leaky_equals_all_paths_and_jumps_written_out(seed):
    rng, fsa, x, lengths = graphs_and_outputs(seed)
    lengths = lengths.clamp(max=3)
    leak_to = np.log(rng.dirichlet(np.ones(fsa.num_states)))
    shared = SharedGraph(fsa, PDFS, leaky=0.05, leak_to=leak_to)
    logarithmic = GraphBatch([fsa] * 3, PDFS, leak=np.log(0.05) + leak_to)
    for scores, posteriors in (
        shared.forward_backward(x, lengths, dtype=torch.float64),
        logarithmic.forward_backward(x, lengths),
    ):
        for b, n in enumerate(lengths.tolist()):
            score, share = brute_force(fsa, x[b, :n].numpy(), 0.05 * np.exp(leak_to))
            assert scores[b] == pytest.approx(score)
            np.testing.assert_allclose(posteriors[b, :n].numpy(), share, atol=1e-9)
    assert shared.retried == 0


@FULL
@given(st.integers(0, 10**6))
def test_gradients_equal_finite_differences(seed):
    rng, fsa, x, lengths = graphs_and_outputs(seed)
    x.requires_grad_(True)
    weights = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    leak_to = np.log(rng.dirichlet(np.ones(fsa.num_states)))
    for graph in (
        SharedGraph(fsa, PDFS),
        SharedGraph(fsa, PDFS, leaky=0.01, leak_to=leak_to),
        GraphBatch([random_fsa(rng, 4, 8, PDFS) for _ in range(3)], PDFS),
    ):
        gradient = torch.autograd.grad((total_scores(graph, x, lengths) * weights).sum(), x)[0]
        with torch.no_grad():
            for _ in range(4):
                way = torch.as_tensor(rng.normal(size=x.shape)) * 1e-5
                up, down = (total_scores(graph, x + sign * way, lengths) @ weights for sign in (1, -1))
                assert float((gradient * way).sum()) == pytest.approx(float(up - down) / 2, rel=1e-4, abs=1e-10)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_k2_gives_the_same_values_and_gradients(seed):
    pytest.importorskip("k2")
    from hybrid.train.k2_engine import k2_total_scores

    rng, fsa, x, lengths = graphs_and_outputs(seed, 2.0)
    x = x.to(torch.float32).requires_grad_(True)
    for graph in (SharedGraph(fsa, PDFS), GraphBatch([random_fsa(rng, 4, 9, PDFS) for _ in range(3)], PDFS)):
        ours, theirs = total_scores(graph, x, lengths), k2_total_scores(graph, x, lengths)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        mine, their = (torch.autograd.grad(scores.sum(), x)[0] for scores in (ours, theirs))
        torch.testing.assert_close(mine, their, rtol=1e-4, atol=1e-4)


def test_what_float32_loses_is_found_and_done_again():
    # Two ways through: the first is 100 nats behind at frame 0 and comes back at frame 1.
    fsa = Fsa.from_lists([(0, 1, 0, 0.0), (0, 2, 1, 0.0), (1, 3, 2, 0.0), (2, 3, 3, 0.0)], {0: 0.0}, {3: 0.0})
    for lead, retried in ((100.0, 1), (2000.0, 2)):  # beyond float32, beyond float64
        x = torch.zeros(1, 2, PDFS)
        x[0, 0, 1] = lead
        x[0, 1, 2] = lead + 1.0
        graph = SharedGraph(fsa, PDFS)
        scores, posteriors = graph.forward_backward(x, torch.tensor([2]))
        assert graph.retried == retried
        assert scores[0] == pytest.approx(lead + 1.0 + np.log1p(np.exp(-1.0)), rel=1e-6)
        assert posteriors[0, 0, 0] == pytest.approx(1 / (1 + np.exp(-1.0)), rel=1e-3)


@pytest.mark.parametrize("scale", [50.0, 1000.0])
def test_large_outputs(scale):
    rng = np.random.default_rng(1)
    fsa = random_fsa(rng, 30, 90, 20).connect()
    x = torch.as_tensor(rng.uniform(-scale, scale, (4, 40, 20)), dtype=torch.float32)
    lengths = torch.tensor([40, 31, 40, 2])
    scores, posteriors = SharedGraph(fsa, 20).forward_backward(x, lengths)
    exact, shares = GraphBatch([fsa] * 4, 20).forward_backward(x, lengths)
    torch.testing.assert_close(scores, exact, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(posteriors, shares, rtol=1e-3, atol=2e-3)


def test_numbers_below_the_normal_range_are_as_before_afterwards():
    tiny = torch.full((1,), 1e-40, dtype=torch.float32)
    graph = SharedGraph(random_fsa(np.random.default_rng(3), 6, 14, PDFS), PDFS)
    try:
        for flush in (True, False):
            if not torch.set_flush_denormal(flush):
                pytest.skip("this processor cannot")
            graph.forward_backward(torch.randn(1, 4, PDFS), torch.tensor([4]))
            assert (tiny * 1.0 == 0.0) == flush
    finally:
        torch.set_flush_denormal(False)


def test_order_and_padding_do_not_matter():
    rng = np.random.default_rng(2)
    fsa = random_fsa(rng, 12, 40, PDFS)
    x = torch.as_tensor(rng.normal(size=(5, 20, PDFS)))
    lengths = torch.tensor([3, 20, 11, 20, 1])
    graphs = [random_fsa(rng, 5 + b, 12, PDFS) for b in range(5)]
    shared = SharedGraph(fsa, PDFS)
    scores, posteriors = shared.forward_backward(x, lengths)
    num_scores, num_posteriors = GraphBatch(graphs, PDFS).forward_backward(x, lengths)
    for b, n in enumerate(lengths.tolist()):
        alone = x[b : b + 1, :n].clone()
        x[b, n:] = float("nan") if n < 20 else 0.0
        score, share = shared.forward_backward(alone, torch.tensor([n]))
        torch.testing.assert_close(score[0], scores[b])
        torch.testing.assert_close(share[0], posteriors[b, :n])
        score, share = GraphBatch(graphs[b : b + 1], PDFS).forward_backward(alone, torch.tensor([n]))
        torch.testing.assert_close(score[0], num_scores[b])
        torch.testing.assert_close(share[0], num_posteriors[b, :n])
    # Not even when the padding is not a number.
    again, shares = shared.forward_backward(x, lengths)
    torch.testing.assert_close(again, scores)
    torch.testing.assert_close(shares, posteriors)


def test_segments_give_the_same_numbers(monkeypatch):
    rng = np.random.default_rng(4)
    fsa = random_fsa(rng, 12, 40, PDFS)
    x = torch.as_tensor(rng.normal(size=(4, 50, PDFS)))
    lengths = torch.tensor([50, 49, 22, 7])
    leak_to = np.log(rng.dirichlet(np.ones(12)))
    graph = SharedGraph(fsa, PDFS, leaky=0.01, leak_to=leak_to)
    whole = graph.forward_backward(x, lengths)
    slots = len(graph._slot_pdf) * 4 * 8  # bytes of one frame's u
    for frames in (0, 8, 20, 49):
        monkeypatch.setattr(forward_backward, "kept_bytes", lambda logits, n=frames: (n + 1) * slots)
        pieces = graph.forward_backward(x, lengths)
        torch.testing.assert_close(whole[0], pieces[0], rtol=0, atol=0)
        torch.testing.assert_close(whole[1], pieces[1], rtol=0, atol=0)


def test_total_scores_give_their_memory_away_once():
    rng = np.random.default_rng(6)
    graph = SharedGraph(random_fsa(rng, 6, 20, PDFS), PDFS)
    x = torch.as_tensor(rng.normal(size=(2, 9, PDFS))).requires_grad_(True)
    lengths = torch.tensor([9, 5])
    kept, posteriors = total_scores_and_posteriors(graph, x, lengths)
    wanted = torch.autograd.grad(kept.sum(), x, retain_graph=True)[0]
    torch.testing.assert_close(wanted, posteriors)
    torch.testing.assert_close(torch.autograd.grad(2 * kept.sum(), x)[0], 2 * wanted)  # as often as one likes
    scores = total_scores(graph, x, lengths)
    torch.testing.assert_close(scores, kept)
    torch.testing.assert_close(torch.autograd.grad(3 * scores.sum(), x, retain_graph=True)[0], 3 * wanted)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(scores.sum(), x)


def test_windows_are_respected_and_unroll_says_the_same():
    rng = np.random.default_rng(5)
    for _ in range(10):
        arcs = [(0, 1, 0, 0.1), (1, 1, 1, 0.2), (1, 2, 2, 0.3), (2, 2, 3, 0.4), (2, 3, 0, 0.5), (3, 3, 1, 0.6)]
        fsa = Fsa.from_lists(arcs, {0: 0.0}, {3: -0.7})
        first, last = np.array([0, 1, 2, 3]), np.array([0, *np.sort(rng.integers(3, 6, 2)), 6])
        fsa = Fsa(fsa.src, fsa.dst, fsa.pdf, fsa.logw, fsa.start, fsa.final, first, last)
        x = rng.normal(size=(1, 6, PDFS))
        score, share = brute_force(fsa, x[0])
        assert np.isfinite(score)
        for graph in (fsa, fsa.unroll()):
            scores, posteriors = GraphBatch([graph], PDFS).forward_backward(torch.as_tensor(x), torch.tensor([6]))
            assert scores[0] == pytest.approx(score)
            np.testing.assert_allclose(posteriors[0].numpy(), share, atol=1e-12)


def test_too_short_is_minus_infinity_without_gradient():
    fsa = Fsa.from_lists([(0, 1, 0, 0.0), (1, 2, 1, 0.0)], {0: 0.0}, {2: 0.0})
    x = torch.randn(2, 2, PDFS, requires_grad=True)
    lengths = torch.tensor([1, 2])
    for graph in (SharedGraph(fsa, PDFS), GraphBatch([fsa, fsa], PDFS)):
        scores, posteriors = graph.forward_backward(x, lengths)
        assert scores[0] == float("-inf") and torch.isfinite(scores[1])
        assert not posteriors[0].any() and torch.isfinite(posteriors).all()
    assert fsa.problem(1) is not None and "2" in fsa.problem(1)
    assert fsa.problem(2) is None


def test_float16_outputs():
    rng = np.random.default_rng(6)
    fsa = random_fsa(rng, 6, 14, PDFS)
    x = torch.as_tensor(rng.normal(size=(2, 8, PDFS)), dtype=torch.float16)
    x.requires_grad_(True)
    lengths = torch.tensor([8, 5])
    scores = total_scores(SharedGraph(fsa, PDFS), x, lengths)
    scores.sum().backward()
    assert x.grad.dtype == torch.float16
    torch.testing.assert_close(
        scores, total_scores(SharedGraph(fsa, PDFS), x.detach().to(torch.float32), lengths), rtol=1e-6, atol=1e-6
    )


def test_pickled_graph_gives_the_same():
    rng = np.random.default_rng(8)
    graph = SharedGraph(random_fsa(rng, 6, 14, PDFS), PDFS)
    x, lengths = torch.randn(1, 4, PDFS), torch.tensor([4])
    before = graph.forward_backward(x, lengths)
    after = pickle.loads(pickle.dumps(graph)).forward_backward(x, lengths)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


GOOD = Fsa.from_lists([(0, 1, 0, 0.0), (1, 1, 3, 0.0)], {0: 0.0}, {1: 0.0})


def changed(**arrays):
    names = ("src", "dst", "pdf", "logw", "start", "final")
    return Fsa(**{name: np.asarray(arrays.get(name, getattr(GOOD, name))) for name in names})


@pytest.mark.parametrize(
    "fsa, words",
    [
        (Fsa.from_lists([], {}, {}), "empty"),
        (changed(pdf=[0, 4]), "0 to 4 in a graph for 4 pdfs"),
        (changed(pdf=[-1, 0]), "labels -1"),
        (changed(dst=[1, 2]), "destination"),
        (changed(src=[-1, 1]), "source"),
        (changed(logw=[0.0, np.nan]), "not finite"),
        (changed(start=[np.nan, 0.0]), "not a number"),
        (changed(final=[-np.inf, -np.inf]), "no path"),
        (changed(logw=[0.0]), "length"),
    ],
)
def test_bad_graphs(fsa, words):
    with pytest.raises(GraphError, match=words):
        SharedGraph(fsa, PDFS)


@pytest.mark.parametrize(
    "shape, lengths, words",
    [
        ((2, 5, 3), [5, 5], "pdfs"),
        ((2, 5, PDFS), [5], "lengths"),
        ((2, 5, PDFS), [6, 5], "5 frames"),
        ((2, 5, PDFS), [5, 0], "0"),
        ((0, 5, PDFS), [], "0 sequences"),
    ],
)
def test_outputs_that_do_not_fit(shape, lengths, words):
    for graph in (SharedGraph(GOOD, PDFS), GraphBatch([GOOD, GOOD], PDFS)):
        with pytest.raises(GraphError, match=words):
            graph.forward_backward(torch.zeros(shape), torch.tensor(lengths, dtype=torch.int64))


def test_bad_settings():
    with pytest.raises(ConfigError, match="leaky"):
        SharedGraph(GOOD, PDFS, leaky=0.1)
    with pytest.raises(ConfigError, match="leaky"):
        SharedGraph(GOOD, PDFS, leaky=1.5, leak_to=np.zeros(2))
    with pytest.raises(GraphError, match="labels"):
        GraphBatch([changed(pdf=[0, 9])], PDFS)


def test_graph_on_disk(tmp_path):
    GOOD.save(tmp_path / "den.safetensors")
    again = Fsa.load(tmp_path / "den.safetensors")
    assert all(np.array_equal(getattr(GOOD, n), getattr(again, n)) for n in ("src", "dst", "pdf", "logw", "start"))
