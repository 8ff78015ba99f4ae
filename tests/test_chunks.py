from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lfmmi_tools import random_sequences, small_senones

from hybrid.errors import ConfigError, DataError
from hybrid.train.chunks import Chunks, split
from hybrid.train.denominator import make_denominator
from hybrid.train.forward_backward import SharedGraph
from hybrid.train.fsa import NEG_INF
from hybrid.train.graph_batch import GraphBatch
from hybrid.train.numerator import Numerators
from hybrid.train.phone_lm import train_phone_lm


@pytest.fixture(scope="module", params=[(1, 0), (2, 1), (3, 1)], ids=["mono", "left", "tri"])
def setting(request):
    senones = small_senones(*request.param)
    lm = train_phone_lm(random_sequences(np.random.default_rng(0)), order=3, smoothing="interpolated")
    return senones, lm, Chunks(lm, senones)


@given(st.integers(1, 500), st.integers(1, 90))
def test_pieces_cover_the_utterance_once(frames, chunk):
    pieces = split(frames, chunk)
    assert [begin for begin, _ in pieces] == [0, *(end for _, end in pieces[:-1])] and pieces[-1][1] == frames
    sizes = {end - begin for begin, end in pieces}
    assert 0 < min(sizes) and max(sizes) <= chunk and max(sizes) - min(sizes) <= 1


def test_the_denominator_is_that_of_whole_utterances(setting):
    senones, lm, chunks = setting
    whole = make_denominator(lm, senones)
    for name in ("src", "dst", "pdf", "logw"):
        np.testing.assert_array_equal(getattr(chunks.denominator, name), getattr(whole, name))


def paths_of(fsa, frames):
    """Every path of so many arcs: (its arcs as (pdf, weight) ..., log weight), windows respected."""
    leaving = {}
    for arc in zip(fsa.src.tolist(), fsa.dst.tolist(), fsa.pdf.tolist(), fsa.logw.tolist()):
        leaving.setdefault(arc[0], []).append(arc)
    low = np.zeros(fsa.num_states) if fsa.first is None else fsa.first
    high = np.full(fsa.num_states, frames) if fsa.last is None else fsa.last
    queue = [(s, (), fsa.start[s]) for s in range(fsa.num_states) if fsa.start[s] > NEG_INF and low[s] <= 0 <= high[s]]
    for t in range(1, frames + 1):
        queue = [
            (dst, (*pdfs, pdf), weight + w)
            for state, pdfs, weight in queue
            for _, dst, pdf, w in leaving.get(state, [])
            if low[dst] <= t <= high[dst]
        ]
    return [(pdfs, weight + fsa.final[state]) for state, pdfs, weight in queue if fsa.final[state] > NEG_INF]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 3), st.integers(1, 5))
def test_a_piece_is_contained_in_the_denominator(setting, seed, tolerance, frames):
    """Summed over paths of the same pdfs, for short pieces: whatever the outputs are, num <= den."""
    _, _, chunks = setting
    rng = np.random.default_rng(seed)
    phones = list(random_sequences(rng).values())[0]
    durations = rng.integers(1, 4, len(phones))
    begin = int(rng.integers(0, max(1, durations.sum() - frames)))
    end = min(begin + frames, int(durations.sum()))
    graph = chunks.numerator(phones, durations, begin, end, tolerance=tolerance)
    ours, theirs = ({}, {})
    for fsa, sums in ((graph, ours), (chunks.denominator, theirs)):
        for pdfs, weight in paths_of(fsa, end - begin):
            sums[pdfs] = np.logaddexp(sums.get(pdfs, NEG_INF), weight)
    assert ours and all(weight <= theirs[pdfs] + 1e-9 for pdfs, weight in ours.items())


def test_paths_are_those_of_the_alignment(setting):
    """Without tolerance the pdfs of a piece are those of the whole numerator's only path, cut."""
    senones, lm, chunks = setting
    rng = np.random.default_rng(3)
    phones = [1, 2, 2, 3, 2, 2, 1]
    durations = rng.integers(1, 4, len(phones))
    total = int(durations.sum())
    ((pdfs, _),) = paths_of(Numerators(lm, senones).from_alignment(phones, durations, 0), total)
    for begin, end in itertools.combinations(range(total + 1), 2):
        ((cut, _),) = paths_of(chunks.numerator(phones, durations, begin, end, tolerance=0), end - begin)
        assert cut == pdfs[begin:end]


def test_with_tolerance_pieces_hold_what_whole_utterances_hold(setting):
    senones, lm, chunks = setting
    phones, durations = [1, 2, 3, 4, 2], [3, 2, 1, 2, 2]
    whole = {pdfs for pdfs, _ in paths_of(Numerators(lm, senones).from_alignment(phones, durations, 1), 10)}
    assert len(whole) > 20
    for begin, end in ((0, 4), (4, 10), (2, 7), (0, 10)):
        piece = chunks.numerator(phones, durations, begin, end, tolerance=1)
        assert {pdfs for pdfs, _ in paths_of(piece, end - begin)} == {pdfs[begin:end] for pdfs in whole}


def test_objective_through_the_engines(setting):
    senones, _, chunks = setting
    rng = np.random.default_rng(5)
    graphs, lengths = [], []
    for phones in list(random_sequences(rng).values())[:4]:
        durations = rng.integers(1, 5, len(phones))
        for begin, end in split(int(durations.sum()), 7):
            graphs.append(chunks.numerator(phones, durations, begin, end, tolerance=2))
            lengths.append(end - begin)
    den = SharedGraph(chunks.denominator, senones.num_pdfs)
    for scale in (0.0, 3.0, 30.0):
        x = torch.as_tensor(scale * rng.normal(size=(len(graphs), max(lengths), senones.num_pdfs)))
        num = GraphBatch(graphs, senones.num_pdfs).forward_backward(x, torch.tensor(lengths))[0]
        total = den.forward_backward(x, torch.tensor(lengths))[0]
        assert torch.isfinite(num).all() and (num <= total + 1e-6).all()


@pytest.mark.parametrize(
    "phones, durations, begin, end, words",
    [
        ([], [], 0, 1, "empty"),
        ([1, 2], [3], 0, 1, "1 durations"),
        ([1, 2], [3, 0], 0, 1, "at least a frame"),
        ([1, 2], [3, 3], 0, 7, "frames 0 to 7 of 6"),
        ([1, 2], [3, 3], 4, 4, "frames 4 to 4"),
    ],
)
def test_bad_pieces(setting, phones, durations, begin, end, words):
    with pytest.raises(DataError, match=f"{words}.*u7|u7.*{words}"):
        setting[2].numerator(phones, durations, begin, end, utterance="u7")
    with pytest.raises(ConfigError, match="chunks of 0"):
        split(10, 0)


def test_phones_that_the_phone_lm_lacks():
    senones = small_senones(1, 0)
    chunks = Chunks(train_phone_lm({"a": [1, 2, 1]}, order=2), senones)
    with pytest.raises(DataError, match="does not cover.*u1|u1.*does not cover"):
        chunks.numerator([1, 3, 1], [2, 2, 2], 0, 3, utterance="u1")
