from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lfmmi_tools import PHONES, random_sequences, small_senones

from hybrid.errors import GraphError, ModelError
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology
from hybrid.hmm.tree import Leaf, Table, Tree
from hybrid.train.denominator import PhonePdfs, average_start, expand, for_chunks, make_denominator
from hybrid.train.forward_backward import SharedGraph
from hybrid.train.fsa import NEG_INF, Fsa, PhoneAcceptor
from hybrid.train.phone_lm import train_phone_lm

TREES = [(1, 0), (2, 1), (3, 1)]


def phone_sequences(lm: PhoneAcceptor, longest: int):
    every = (phones for n in range(1, longest + 1) for phones in itertools.product(PHONES, repeat=n))
    return (phones for phones in every if lm.score(list(phones)) > NEG_INF)


def score_by_enumeration(lm, senones, x):
    """Every phone sequence in every segmentation: phone LM, transitions, pdfs asked of the tree itself."""
    frames, total = len(x), 0.0
    tree = senones.tree
    right = tree.context_width - 1 - tree.central_position
    for phones in phone_sequences(lm, frames):
        padded = [0] * tree.central_position + list(phones) + [0] * right
        for cuts in itertools.combinations(range(1, frames), len(phones) - 1):
            bounds = [0, *cuts, frames]
            weight = lm.score(list(phones))
            for i in range(len(phones)):
                window = padded[i : i + tree.context_width]
                for t in range(bounds[i], bounds[i + 1]):
                    weight += x[t, tree.pdf(window, 0 if t == bounds[i] else 1)] + math.log(0.5)
            total += math.exp(weight)
    return math.log(total)


@pytest.mark.parametrize("width, position", TREES)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_equals_every_phone_sequence_and_segmentation(width, position, order):
    senones = small_senones(width, position, seed=order)
    lm = train_phone_lm({k: v[:4] for k, v in random_sequences(np.random.default_rng(order)).items()}, order=order)
    graph = SharedGraph(make_denominator(lm, senones), senones.num_pdfs)
    x = np.random.default_rng(1).normal(size=(1, 5, senones.num_pdfs)) * 2
    score, _ = graph.forward_backward(torch.as_tensor(x), torch.tensor([5]))
    assert float(score[0]) == pytest.approx(score_by_enumeration(lm, senones, x[0]))


def kaldi_score(lm: PhoneAcceptor, senones: Senones, x: np.ndarray) -> float:
    """The library's C and H instead of ours: phone LM -> compose_context -> H -> self-loops; epsilons summed over."""
    import kaldi_hmm_gmm as khg
    import kaldifst

    grammar = kaldifst.StdVectorFst()
    for _ in range(lm.num_states):
        grammar.add_state()
    grammar.start = 0
    for state, leaving in enumerate(lm.arcs):
        for phone, (to, weight) in leaving.items():
            grammar.add_arc(state, kaldifst.StdArc(phone, phone, -weight, to))
        if lm.final[state] > NEG_INF:
            grammar.set_final(state, -lm.final[state])
    context, labels = kaldifst.compose_context(
        disambig_syms=[],
        context_width=senones.tree.context_width,
        central_position=senones.tree.central_position,
        ifst=grammar,
    )
    kaldifst.arcsort(context, "ilabel")
    config = khg.HTransducerConfig()
    config.transition_scale = 1.0
    h, _ = khg.get_h_transducer(labels, senones.ctx_dep, senones.transition_model, config)
    kaldifst.arcsort(h, "olabel")
    graph = kaldifst.compose(h, context)
    graph = khg.add_self_loops(1.0, [], True, senones.transition_model, graph)
    count = graph.num_states
    epsilon, final, arcs = np.zeros((count, count)), np.zeros(count), []
    for line in graph.to_str(show_weight_one=True).splitlines():
        fields = line.split()
        if len(fields) <= 2:
            final[int(fields[0])] = math.exp(-float(fields[1]) if len(fields) == 2 else 0.0)
            continue
        src, dst, tid, weight = int(fields[0]), int(fields[1]), int(fields[2]), math.exp(-float(fields[4]))
        if tid == 0:
            epsilon[src, dst] += weight
        else:
            arcs.append((src, dst, int(senones.tid2pdf[tid]), weight))
    closure = np.linalg.inv(np.eye(count) - epsilon)
    alpha = np.eye(count)[graph.start] @ closure
    for frame in x:
        after = np.zeros(count)
        for src, dst, pdf, weight in arcs:
            after[dst] += alpha[src] * weight * math.exp(frame[pdf])
        alpha = after @ closure
    return math.log(alpha @ final)


@pytest.mark.parametrize("width, position", TREES)
@pytest.mark.parametrize("smoothing", ["none", "interpolated"])
def test_equals_the_graph_made_with_kaldis_c_and_h(width, position, smoothing):
    senones = small_senones(width, position, seed=3)
    lm = train_phone_lm(random_sequences(np.random.default_rng(3)), order=3, smoothing=smoothing)
    graph = SharedGraph(make_denominator(lm, senones), senones.num_pdfs)
    for frames in (9, 20):
        x = np.random.default_rng(frames).normal(size=(1, frames, senones.num_pdfs)) * 2
        score, _ = graph.forward_backward(torch.as_tensor(x), torch.tensor([frames]))
        assert float(score[0]) == pytest.approx(kaldi_score(lm, senones, x[0]), rel=1e-5)


def test_other_transition_probabilities_are_used():
    senones = small_senones(2, 1, seed=4)
    probs = np.where(senones.is_self_loop, 0.8, 0.2)
    senones.set_log_probs(np.log(probs).astype(np.float32))
    lm = train_phone_lm(random_sequences(np.random.default_rng(3)), order=2)
    graph = SharedGraph(make_denominator(lm, senones), senones.num_pdfs)
    x = np.random.default_rng(0).normal(size=(1, 12, senones.num_pdfs))
    score, _ = graph.forward_backward(torch.as_tensor(x), torch.tensor([12]))
    assert float(score[0]) == pytest.approx(kaldi_score(lm, senones, x[0]), rel=1e-5)


@pytest.mark.parametrize("width, position", TREES)
def test_probabilities_of_all_lengths_sum_to_one(width, position):
    senones = small_senones(width, position)
    lm = train_phone_lm(random_sequences(np.random.default_rng(0)), order=3)
    graph = SharedGraph(make_denominator(lm, senones), senones.num_pdfs)
    lengths = torch.arange(1, 201)
    scores, _ = graph.forward_backward(torch.zeros(200, 200, senones.num_pdfs), lengths)
    assert float(scores.exp().sum()) == pytest.approx(1.0, abs=1e-4)


def test_states_that_behave_alike_are_one():
    lm = train_phone_lm(random_sequences(np.random.default_rng(0)), order=2)
    # No context: a state per phone and the start. Left context: a bigram state has forgotten the phone before.
    one = make_denominator(lm, small_senones(1, 0))
    two = make_denominator(lm, small_senones(2, 1))
    assert one.num_states == lm.num_states
    assert lm.num_states < two.num_states <= 1 + 4 * len(PHONES)
    # A trigram state knows it, so the left context costs nothing but what the edges do.
    lm = train_phone_lm(random_sequences(np.random.default_rng(0)), order=3)
    assert make_denominator(lm, small_senones(2, 1)).num_states <= lm.num_states + len(PHONES)


def test_average_start_by_simulation():
    senones = small_senones(2, 1)
    fsa = make_denominator(train_phone_lm(random_sequences(np.random.default_rng(0)), order=2), senones)
    dense = np.zeros((fsa.num_states, fsa.num_states))
    np.add.at(dense, (fsa.src, fsa.dst), np.exp(fsa.logw))
    state, mean = np.exp(fsa.start), np.zeros(fsa.num_states)
    row = dense.sum(1) + np.exp(fsa.final)
    for _ in range(100):
        mean += state
        state = state @ (dense / row[:, None])
        state /= state.sum()
    np.testing.assert_allclose(np.exp(average_start(fsa)), mean / 100, rtol=1e-9)
    chunks = for_chunks(fsa)
    assert chunks.min_frames == 0 and np.exp(chunks.start).sum() == pytest.approx(1.0)


def test_topology_with_more_states_is_refused():
    tree = Tree(Table(1, [None, Leaf(0), Leaf(1)]), 3, 1)
    tree = Tree(Table(0, [None, *(Table(-1, [Leaf(3 * p), Leaf(3 * p + 1), Leaf(3 * p + 2)]) for p in range(2))]), 1, 0)
    senones = Senones(bootstrap_topology([1, 2], [], num_states=3), tree, {"a": 1, "b": 2})
    with pytest.raises(ModelError, match="more than one HMM state"):
        PhonePdfs(senones)


def test_bad_trees_are_named():
    senones = small_senones()
    lm = train_phone_lm({"a": [1, 2, 9]})
    with pytest.raises(ModelError, match=r"\[9\]"):
        make_denominator(lm, senones)
    ahead = SimpleNamespace(context_width=4, central_position=1)
    with pytest.raises(ModelError, match="2 phones ahead"):
        PhonePdfs(SimpleNamespace(transition_model=senones.transition_model, ctx_dep=ahead, num_pdfs=3))


def test_no_sequence_is_named():
    with pytest.raises(GraphError, match="no phone sequence"):
        expand(PhoneAcceptor([{1: (0, 0.0)}], [NEG_INF]), PhonePdfs(small_senones()))


def test_denominator_on_disk(tmp_path):
    fsa = make_denominator(train_phone_lm(random_sequences(np.random.default_rng(0))), small_senones(2, 1))
    fsa.save(tmp_path / "den.safetensors")
    again = Fsa.load(tmp_path / "den.safetensors")
    assert all(np.array_equal(getattr(fsa, n), getattr(again, n)) for n in ("src", "dst", "pdf", "logw", "final"))
