"""The Triton engine against the sparse one in float64.

Without a GPU its kernels run in Triton's interpreter. That has to be asked for before Triton is imported, and changes
Triton for the whole process: `test_under_the_interpreter` runs this file once more in a process of its own, and the
tests that run kernels are skipped here.
"""

from __future__ import annotations

import builtins
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lfmmi_tools import random_fsa, random_sequences, small_senones

from hybrid.errors import ConfigError, MissingDependency
from hybrid.train import triton_engine, triton_layout
from hybrid.train.denominator import average_start, for_chunks, make_denominator
from hybrid.train.forward_backward import SharedGraph, total_scores
from hybrid.train.fsa import Fsa
from hybrid.train.graph_batch import GraphBatch
from hybrid.train.lfmmi import LfMmi
from hybrid.train.phone_lm import train_phone_lm
from hybrid.train.triton_engine import TritonGraph

PDFS = 5
DEVICE = "cuda" if torch.cuda.is_available() and not triton_engine.interpreted() else "cpu"


def why_no_triton() -> str:
    try:
        triton_engine.import_triton()
    except MissingDependency as error:
        return error.what
    return ""


kernels = pytest.mark.skipif(
    bool(triton_engine.why_not()), reason=why_no_triton() or "no GPU: run by test_under_the_interpreter"
)


@pytest.mark.skipif(bool(why_no_triton()), reason=why_no_triton())
@pytest.mark.skipif(triton_engine.interpreted(), reason="this is the interpreter's own process")
def test_under_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "not under", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"\d+ passed", done.stdout) and "skipped" not in done.stdout


def compare(fsa, x, lengths, *, num_pdfs=PDFS, leaky=0.0, leak_to=None, rtol=1e-4, **layout):
    """Values and gradients of both engines, of sums that weigh the sequences differently; returns the Triton graph."""
    weights = torch.linspace(1.0, -0.5, len(x), dtype=torch.float64)
    shared = SharedGraph(fsa, num_pdfs, leaky=leaky, leak_to=leak_to)
    graph = TritonGraph(fsa, num_pdfs, leaky=leaky, leak_to=leak_to, **layout)
    exact = x.detach().clone().to(torch.float64).requires_grad_(True)
    ours = x.detach().clone().to(DEVICE, torch.float32).requires_grad_(True)
    scores, found = total_scores(shared, exact, lengths), total_scores(graph, ours, lengths)
    torch.testing.assert_close(found.cpu(), scores, rtol=rtol, atol=1e-4)
    (scores.nan_to_num(neginf=0.0) @ weights).backward()
    (found.cpu().nan_to_num(neginf=0.0) @ weights).backward()
    torch.testing.assert_close(ours.grad.cpu().to(torch.float64), exact.grad, rtol=rtol, atol=1e-5)
    return graph


@kernels
@settings(max_examples=15 if DEVICE == "cpu" else 6, deadline=None)
@given(
    st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from([16, 64]), st.sampled_from([1.0, 5.0])
)
def test_random_graphs(seed, leaky, shared, tile, scale):
    rng = np.random.default_rng(seed)
    fsa = random_fsa(rng, int(rng.integers(1, 12)), int(rng.integers(1, 60)), PDFS)
    x = torch.as_tensor(rng.normal(size=(3, 6, PDFS)) * scale)
    lengths = torch.as_tensor(rng.integers(1, 7, 3))
    options = {"leaky": 0.05, "leak_to": np.log(rng.dirichlet(np.ones(fsa.num_states)))} if leaky else {}
    graph = compare(fsa, x, lengths, tile=tile, shared=shared, **options)
    assert graph.retried == 0  # right at once, not mended by the fallback


@pytest.fixture(scope="module")
def denominator():
    senones = small_senones(2, 1)
    return senones.num_pdfs, make_denominator(
        train_phone_lm(random_sequences(np.random.default_rng(0)), order=3), senones
    )


@kernels
@pytest.mark.parametrize("kind, tile, shared", [("whole", 64, True), ("whole", 4096, False), ("chunks", 4096, True)])
def test_denominator(denominator, kind, tile, shared):
    num_pdfs, fsa = denominator
    options = {}
    if kind == "chunks":
        options = {"leaky": 1e-5, "leak_to": average_start(fsa)}
        fsa = for_chunks(fsa)
    x = 3.0 * torch.randn(3, 25, num_pdfs, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([18, 25, 7])
    assert compare(fsa, x, lengths, num_pdfs=num_pdfs, tile=tile, shared=shared, **options).retried == 0


@kernels
def test_rows_longer_than_the_widest_class(monkeypatch):
    monkeypatch.setattr(triton_layout, "WIDEST", 4)
    states = 14
    arcs = [(0, i, i % PDFS, -0.1 * i) for i in range(1, states)] + [(i, 0, 2, -0.2 * i) for i in range(1, states)]
    fsa = Fsa.from_lists([*arcs, (0, 0, 1, -1.0)], {0: 0.0, 3: -1.0}, {0: 0.0, 5: -2.0})
    x = torch.randn(2, 7, PDFS, generator=torch.Generator().manual_seed(2))
    graph = compare(fsa, x, torch.tensor([7, 4]), tile=16)
    assert graph.arcs.chunks > 1 and graph.back.chunks > 1


@kernels
def test_too_short_is_minus_infinity_without_gradient():
    fsa = Fsa.from_lists([(0, 1, 0, 0.0), (1, 2, 1, 0.0)], {0: 0.0}, {2: 0.0})
    x = torch.randn(2, 2, PDFS, generator=torch.Generator().manual_seed(3))
    compare(fsa, x, torch.tensor([1, 2]), tile=16)
    scores, posteriors = TritonGraph(fsa, PDFS, tile=16).forward_backward(x.to(DEVICE), torch.tensor([1, 2]))
    assert scores[0] == float("-inf") and torch.isfinite(scores[1])
    assert not posteriors[0].any()


@kernels
def test_what_float32_loses_is_found_and_done_again():
    # Two ways through: the first is 100 nats behind at frame 0 and comes back at frame 1.
    fsa = Fsa.from_lists([(0, 1, 0, 0.0), (0, 2, 1, 0.0), (1, 3, 2, 0.0), (2, 3, 3, 0.0)], {0: 0.0}, {3: 0.0})
    for lead, retried in ((100.0, 1), (2000.0, 2)):  # beyond float32, beyond float64
        x = torch.zeros(2, 2, PDFS)
        x[0, 0, 1] = lead
        x[0, 1, 2] = lead + 1.0
        graph = compare(fsa, x, torch.tensor([2, 2]), tile=16)
        assert graph.retried == retried  # the other sequence was not done again


@kernels
@pytest.mark.parametrize("scale", [50.0, 1000.0])
def test_large_outputs(scale):
    rng = np.random.default_rng(1)
    fsa = random_fsa(rng, 30, 90, 20).connect()
    x = torch.as_tensor(rng.uniform(-scale, scale, (4, 12, 20)), dtype=torch.float32)
    lengths = torch.tensor([12, 9, 12, 2])
    scores, posteriors = TritonGraph(fsa, 20, tile=64).forward_backward(x.to(DEVICE), lengths)
    exact, shares = GraphBatch([fsa] * 4, 20).forward_backward(x, lengths)
    torch.testing.assert_close(scores.cpu(), exact, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(posteriors.cpu(), shares, rtol=1e-3, atol=2e-3)


@kernels
def test_outputs_of_minus_infinity():
    rng = np.random.default_rng(4)
    fsa = random_fsa(rng, 8, 40, PDFS)
    x = torch.as_tensor(rng.normal(size=(2, 5, PDFS)))
    x[0, 1, 3] = x[1, :, 2] = float("-inf")
    assert compare(fsa, x, torch.tensor([5, 4]), tile=64).retried == 0


@kernels
def test_same_bits_again_alone_and_in_groups(monkeypatch):
    rng = np.random.default_rng(5)
    fsa = random_fsa(rng, 12, 60, PDFS)
    x = torch.as_tensor(rng.normal(size=(4, 7, PDFS)), dtype=torch.float32).to(DEVICE)
    lengths = torch.tensor([3, 7, 4, 7])
    graph = TritonGraph(fsa, PDFS, tile=64, leaky=0.01, leak_to=np.log(rng.dirichlet(np.ones(12))))
    whole = graph.forward_backward(x, lengths)
    x[0, 3:] = float("nan")  # not even the padding matters
    for limit in (2**32, 1, 4 * 11 * len(graph.slot_pdf)):
        monkeypatch.setattr(triton_engine, "MAX_BYTES", limit)
        again = graph.forward_backward(x, lengths)
        assert torch.equal(whole[0], again[0]) and torch.equal(whole[1], again[1])
    assert graph._groups(lengths.tolist()) == [[1], [3, 2], [0]] and graph.retried == 0
    for b, n in enumerate(lengths.tolist()):
        score, share = graph.forward_backward(x[b : b + 1, :n], torch.tensor([n]))
        torch.testing.assert_close(score[0], whole[0][b], rtol=1e-12, atol=0.0)
        assert torch.equal(share[0], whole[1][b, :n])
        assert not whole[1][b, n:].any()


@kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_types(dtype):
    rng = np.random.default_rng(6)
    fsa = random_fsa(rng, 6, 14, PDFS)
    x = torch.as_tensor(rng.normal(size=(2, 5, PDFS)), dtype=dtype).to(DEVICE).requires_grad_(True)
    lengths = torch.tensor([5, 2])
    scores = total_scores(TritonGraph(fsa, PDFS, tile=64), x, lengths)
    scores.sum().backward()
    assert x.grad.dtype == dtype
    exact = total_scores(SharedGraph(fsa, PDFS), x.detach().cpu().to(torch.float64), lengths)
    torch.testing.assert_close(scores.cpu(), exact, rtol=1e-9 if dtype == torch.float64 else 1e-5, atol=1e-5)


@kernels
def test_pickled_graph_gives_the_same():
    graph = TritonGraph(random_fsa(np.random.default_rng(8), 6, 14, PDFS), PDFS, tile=64)
    x, lengths = torch.randn(1, 3, PDFS).to(DEVICE), torch.tensor([3])
    before = graph.forward_backward(x, lengths)
    after = pickle.loads(pickle.dumps(graph)).forward_backward(x, lengths)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


@kernels
def test_criterion(denominator):
    from hybrid.data.batches import Utterance, collate

    num_pdfs, fsa = denominator
    one = Fsa.from_lists([(0, 0, int(fsa.pdf[0]), -9.0)], {0: 0.0}, {0: 0.0})
    frames = [fsa.min_frames + 4, fsa.min_frames + 2]
    batch = collate([
        Utterance(f"u{n}", np.zeros((n, 2), np.float32), np.zeros(n, np.int64), {"numerator": one}) for n in frames
    ])  # fmt: skip
    found = {}
    for engine in ("triton", "sparse"):
        x = torch.randn(2, max(frames), num_pdfs, generator=torch.Generator().manual_seed(9))
        x = x.to(DEVICE if engine == "triton" else "cpu").requires_grad_(True)
        loss = LfMmi(fsa, num_pdfs, engine=engine)({"logits": x}, batch)
        loss.value.backward()
        found[engine] = loss, x.grad.cpu()
    assert found["triton"][0].stats == pytest.approx(found["sparse"][0].stats, rel=1e-4)
    torch.testing.assert_close(found["triton"][1], found["sparse"][1], rtol=1e-4, atol=1e-5)


def test_without_triton_the_error_says_what_to_do(denominator, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "triton":
            raise ImportError("No module named 'triton'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match="pip install .*triton.*sparse"):
        LfMmi(denominator[1], denominator[0], engine="triton")
    with pytest.raises(MissingDependency, match="Triton"):
        TritonGraph(denominator[1], denominator[0])
    assert LfMmi(denominator[1], denominator[0], engine="auto").engine == "sparse"


@pytest.mark.skipif(bool(why_no_triton()), reason=why_no_triton())
def test_without_a_gpu_the_error_says_what_to_do(denominator, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA GPU.*sparse"):
        LfMmi(denominator[1], denominator[0], engine="triton")
    criterion = LfMmi(denominator[1], denominator[0], engine="auto")
    assert criterion.engine == "sparse" and type(criterion.denominator) is SharedGraph
    # A GPU in the machine, and the network on the CPU all the same: auto follows the outputs, "triton" says so.
    monkeypatch.setattr(triton_engine, "why_not", lambda: "")
    x = {"logits": torch.zeros(1, 3, denominator[0])}
    with pytest.raises(ConfigError, match="outputs are on the CPU.*auto"):
        LfMmi(denominator[1], denominator[0], engine="triton")(x, type("Batch", (), {"lengths": torch.tensor([3])}))
    graph = TritonGraph(denominator[1], denominator[0])
    sparse = SharedGraph(denominator[1], denominator[0]).forward_backward(x["logits"], torch.tensor([3]))
    assert torch.equal(graph.forward_backward(x["logits"], torch.tensor([3]))[1], sparse[1])
