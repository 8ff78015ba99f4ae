from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lfmmi_tools import brute_force, random_sequences, small_senones

from hybrid.errors import DataError
from hybrid.train.denominator import make_denominator
from hybrid.train.forward_backward import SharedGraph
from hybrid.train.fsa import NEG_INF
from hybrid.train.graph_batch import GraphBatch
from hybrid.train.numerator import Numerators, check_length, words_acceptor
from hybrid.train.phone_lm import train_phone_lm

# "a" and "an": 2 3 | 2 is also 2 | 3 2. Word 4 has one pronunciation twice.
WORDS = {1: [[2], [2, 3]], 2: [[3, 2], [2]], 3: [[4, 4, 2]], 4: [[3], [3]]}


class SmallLang:
    word_names = {word: f"W{word}" for word in (*WORDS, 9)}
    phones = {"<eps>": 0, "SIL": 1, "A": 2, "B": 3, "C": 4}
    optional_silence = "SIL"

    @staticmethod
    def pronunciation_ids(name):
        return WORDS.get(int(name[1:]), [])


def spellings(words, silence=True):
    """Every phone sequence of the words, as a set."""
    gaps = [[], [1]] if silence else [[]]
    found = set()
    for choice in itertools.product(*(WORDS[word] for word in words)):
        for pauses in itertools.product(gaps, repeat=len(words) + 1):
            phones = list(pauses[0])
            for pronunciation, pause in zip(choice, pauses[1:], strict=True):
                phones += pronunciation + pause
            found.add(tuple(phones))
    return found


@pytest.mark.parametrize("words", [[1], [1, 2], [2, 1, 1], [4, 3, 4], [1, 2, 1, 2]])
@pytest.mark.parametrize("silence", [True, False])
def test_words_acceptor_accepts_exactly_the_spellings(words, silence):
    acceptor = words_acceptor([WORDS[word] for word in words], 1 if silence else None)
    accepted, queue = [], [(0, ())]
    while queue:
        state, phones = queue.pop()
        if acceptor.final[state] > NEG_INF:
            accepted.append(phones)
        queue += [(to, (*phones, phone)) for phone, (to, _) in acceptor.arcs[state].items()]
    assert len(accepted) == len(set(accepted))
    assert set(accepted) == spellings(words, silence)


def test_a_silence_word_beside_optional_silence():
    acceptor = words_acceptor([[[1]], [[2]]], 1)
    assert acceptor.score([1, 2]) == acceptor.score([1, 1, 2]) == acceptor.score([1, 1, 1, 2]) == 0.0
    assert acceptor.score([1, 1, 1, 1, 2]) == NEG_INF


@pytest.fixture(params=[(1, 0), (2, 1), (3, 1)], ids=["mono", "left", "tri"])
def setting(request):
    senones = small_senones(*request.param)
    sequences = random_sequences(np.random.default_rng(0))
    lm = train_phone_lm(sequences, order=3, smoothing="interpolated")
    return senones, lm, Numerators(lm, senones, SmallLang()), make_denominator(lm, senones)


def test_words_are_the_sum_over_their_spellings(setting):
    senones, _, numerators, _ = setting
    x = torch.as_tensor(np.random.default_rng(1).normal(size=(1, 9, senones.num_pdfs)) * 2)
    length = torch.tensor([9])
    words = [1, 2]
    whole, shares = GraphBatch([numerators.from_words(words)], senones.num_pdfs).forward_backward(x, length)
    parts = [numerators.from_phones(phones) for phones in sorted(spellings(words))]
    copies = x.expand(len(parts), -1, -1)
    each, _ = GraphBatch(parts, senones.num_pdfs).forward_backward(copies, length.repeat(len(parts)))
    assert float(whole[0]) == pytest.approx(float(torch.logsumexp(each, 0)))
    assert shares.sum(2).numpy() == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_contained_in_the_denominator(setting, scale):
    senones, _, numerators, denominator = setting
    rng = np.random.default_rng(2)
    graphs, lengths = [], []
    for words in ([1], [1, 2, 3], [4, 4]):
        graphs.append(numerators.from_words(words))
        phones = sorted(spellings(words))[-1]
        durations = rng.integers(1, 4, len(phones))
        lengths += [int(durations.sum()) + 2, int(durations.sum())]
        graphs.append(numerators.from_alignment(phones, durations, 1))
        check_length(graphs[-2], lengths[-2])
        check_length(graphs[-1], lengths[-1])
    x = torch.as_tensor(rng.normal(size=(len(graphs), max(lengths), senones.num_pdfs)) * scale)
    num, _ = GraphBatch(graphs, senones.num_pdfs).forward_backward(x, torch.tensor(lengths))
    den, _ = SharedGraph(denominator, senones.num_pdfs).forward_backward(x, torch.tensor(lengths))
    assert torch.isfinite(num).all() and (num <= den + 1e-9).all()


def test_tolerance_from_one_path_to_all(setting):
    senones, _, numerators, _ = setting
    phones, durations = [1, 2, 3, 1], [2, 1, 3, 2]
    x = np.random.default_rng(3).normal(size=(8, senones.num_pdfs))
    exact = numerators.from_alignment(phones, durations, 0)
    score, share = brute_force(exact, x)
    assert sorted(np.unique(share.round(9))) == [0.0, 1.0]  # one path
    scores = []
    for tolerance in (0, 1, 2, 8):
        graph = numerators.from_alignment(phones, durations, tolerance)
        result, _ = GraphBatch([graph], senones.num_pdfs).forward_backward(torch.as_tensor(x[None]), torch.tensor([8]))
        assert float(result[0]) == pytest.approx(brute_force(graph, x)[0])
        scores.append(float(result[0]))
    assert scores[0] == pytest.approx(score)
    assert scores == sorted(scores) and scores[0] < scores[1] < scores[3]
    free, _ = brute_force(numerators.from_phones(phones), x)
    assert scores[3] == pytest.approx(free)


def test_alignment_path_emits_the_pdfs_of_the_tree(setting):
    senones, _, numerators, _ = setting
    phones, durations = [1, 2, 3, 1], [2, 1, 3, 2]
    tree = senones.tree
    padded = [0] * tree.central_position + phones + [0] * (tree.context_width - 1 - tree.central_position)
    wanted = [
        tree.pdf(padded[i : i + tree.context_width], 0 if t == 0 else 1)
        for i, duration in enumerate(durations)
        for t in range(duration)
    ]
    _, share = brute_force(numerators.from_alignment(phones, durations, 0), np.zeros((8, senones.num_pdfs)))
    assert share.argmax(1).tolist() == wanted


def test_uncovered_is_named_and_an_uncovered_pronunciation_is_left_out():
    senones = small_senones()
    numerators = Numerators(train_phone_lm({"a": [2, 3]}, order=2), senones, SmallLang())
    graph = numerators.from_words([1], "utt-1")  # 2 alone is not covered, 2 3 is
    assert graph.min_frames == 2
    with pytest.raises(DataError, match="phone LM covers none.*utt-2"):
        numerators.from_words([3], "utt-2")
    with pytest.raises(DataError, match="phone LM covers none.*utt-3"):
        numerators.from_alignment([2, 4], [1, 1], 1, "utt-3")


def test_too_short_is_named():
    numerators = Numerators(train_phone_lm({"a": [1, 4, 4, 2, 1], "b": [4, 4, 2]}), small_senones(), SmallLang())
    graph = numerators.from_words([3])
    check_length(graph, 3)
    with pytest.raises(DataError, match="2 frames, at least 3 .*utt-1"):
        check_length(graph, 2, "utt-1")
    with pytest.raises(DataError, match="for 5 frames, it has 4.*utt-1"):
        check_length(numerators.from_alignment([4, 4, 2], [1, 3, 1]), 4, "utt-1")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda n: n.from_words([], "u"), "transcript is empty"),
        (lambda n: n.from_words([1, 9], "u"), "W9 has no pronunciation"),
        (lambda n: n.from_words([77], "u"), "word 77 has no"),
        (lambda n: n.from_phones([], "u"), "phone sequence is empty"),
        (lambda n: n.from_alignment([], [], 1, "u"), "phone sequence is empty"),
        (lambda n: n.from_alignment([2, 3], [1], 1, "u"), "2 phones, 1 durations"),
        (lambda n: n.from_alignment([2, 3], [1, 0], 1, "u"), "durations"),
        (lambda n: n.from_alignment([2, 3], [1, 1], -1, "u"), "tolerance -1"),
    ],
)
def test_bad_input(make, words):
    numerators = Numerators(train_phone_lm({"a": [2, 3]}, order=2), small_senones(), SmallLang())
    with pytest.raises(DataError, match=f"{words}.*utterance: u"):
        make(numerators)


def test_graph_survives_the_way_through_an_utterance():
    import pickle

    numerators = Numerators(train_phone_lm({"a": [2, 3]}, order=2), small_senones())
    utterance = SimpleNamespace(extra={"numerator": numerators.from_alignment([2, 3], [2, 2], 1)})
    graph = pickle.loads(pickle.dumps(utterance)).extra["numerator"]
    assert graph.problem(4) is None and graph.problem(5) is not None
