"""Confidence against a sum over every state sequence, one by one; the phone loop against its definitions."""

from __future__ import annotations

import itertools
import math
from typing import Dict, List, Sequence

import hmm_tools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.align import confidence
from hybrid.align.confidence import WordSpan, confidences, loop_loglikes, posterior, scores, word_loglikes
from hybrid.align.loop import LoopCounts, PhoneLoop
from hybrid.errors import DataError, ModelError
from hybrid.hmm.alignment import phone_segments

BASE: Dict[int, str] = {phone: name for name, phone in hmm_tools.NAMES.items()}


def make_loop(seed: int = 0, base: Dict[int, str] = BASE):
    rng = np.random.default_rng(seed)
    senones = hmm_tools.random_senones(seed)
    counts = LoopCounts.zeros(senones, base)
    paths = []
    for _ in range(30):
        tids, _, _ = hmm_tools.random_walk(senones, hmm_tools.random_phones(rng, 6), rng)
        counts.add(tids, senones, base)
        paths.append(tids)
    return PhoneLoop.from_counts(counts, senones, base), counts, senones, paths


def slow_sum(x: np.ndarray, start: np.ndarray, step: np.ndarray, end: np.ndarray) -> float:
    """log of the sum over all state sequences; x [T, K], start, end [K] and step [K, K] are probabilities."""
    total = 0.0
    for states in itertools.product(range(x.shape[1]), repeat=len(x)):
        p = start[states[0]] * end[states[-1]] * math.exp(sum(x[t, k] for t, k in enumerate(states)))
        for a, b in zip(states, states[1:]):
            p *= step[a, b]
        total += p
    return math.log(total) if total else -math.inf


def small_loop() -> PhoneLoop:
    """Two phones, of one and of two states."""
    rng = np.random.default_rng(3)
    with np.errstate(divide="ignore"):
        inside = np.maximum(np.log(np.array([[0.6, 0, 0], [0, 0.5, 0.5], [0, 0, 0.7]])), -1e30)
        leave = np.maximum(np.log(np.array([0.4, 0.0, 0.3])), -1e30)
    follow = np.log(rng.dirichlet([1, 1], 2))
    return PhoneLoop(
        ["a", "b"], np.array([0, 1, 3]), rng.dirichlet(np.ones(4), 3), inside, leave, np.log([0.3, 0.7]), follow
    )


@pytest.mark.parametrize("span", [(0, 1), (0, 5), (2, 4), (1, 6)])
def test_loop_is_the_sum_over_all_sequences(span):
    loop = small_loop()
    x = np.random.default_rng(1).normal(0, 2, (7, 3))
    begin = np.zeros(3)
    begin[loop.first[:-1]] = np.exp(loop.start)
    expected = slow_sum(x[span[0] : sum(span)], begin, loop.matrix, np.exp(loop.leave))
    (found,) = loop_loglikes(loop, x, [span])
    assert found == pytest.approx(expected)


def test_spans_do_not_disturb_each_other():
    loop = small_loop()
    x = np.random.default_rng(2).normal(0, 2, (9, 3))
    spans = [(0, 3), (3, 6), (1, 1), (2, 7), (8, 1)]
    alone = [loop_loglikes(loop, x, [span])[0] for span in spans]
    np.testing.assert_allclose(loop_loglikes(loop, x, spans), alone)


def slow_word(loop: PhoneLoop, x: np.ndarray, phones: Sequence[int]) -> float:
    states: List[int] = []
    entry, last = [], []
    for phone in phones:
        entry.append(len(states))
        states += range(loop.first[phone], loop.first[phone + 1])
        last.append(len(states) - 1)
    step = np.zeros((len(states), len(states)))
    for number in range(len(phones)):
        own = range(entry[number], last[number] + 1)
        for i, j in itertools.product(own, own):
            step[i, j] += math.exp(loop.inside[states[i], states[j]])
        if number + 1 < len(phones):
            for i in own:
                step[i, entry[number + 1]] += math.exp(loop.leave[states[i]])
    begin, end = np.zeros(len(states)), np.zeros(len(states))
    begin[0] = 1.0
    for i in range(entry[-1], last[-1] + 1):
        end[i] = math.exp(loop.leave[states[i]])
    return slow_sum(x[:, states], begin, step, end)


def test_word_is_the_sum_over_its_pronunciations():
    loop = small_loop()
    x = np.random.default_rng(4).normal(0, 2, (8, 3))
    words = [
        WordSpan(0, 4, ((0,), (0, 1)), (math.log(0.6), math.log(0.4))),
        WordSpan(4, 4, ((1, 0),), (0.0,)),
        WordSpan(2, 1, ((0,),), (0.0,)),
        WordSpan(2, 1, ((0, 0),), (0.0,)),  # two phones in one frame: impossible
    ]
    found = word_loglikes(loop, x, words)
    for word, value in zip(words, found, strict=True):
        rows = x[word.start : word.start + word.frames]
        parts = [log + slow_word(loop, rows, phones) for phones, log in zip(word.pronunciations, word.log_probs)]
        expected = np.logaddexp.reduce(parts)
        if np.isfinite(expected):
            assert value == pytest.approx(expected)
        else:
            assert value < -1e29
    loglikes = np.random.default_rng(5).normal(-20, 5, (8, 4))
    assert scores(loop, loglikes, words)[-1] == confidence.WORST
    assert confidences(loop, loglikes, words)[-1] == pytest.approx(0.0, abs=1e-9)
    assert len(confidences(loop, loglikes, [])) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-200, 200))
def test_a_shift_of_all_loglikes_changes_nothing(seed, shift):
    """What microphone gain or dimension adds to every pdf alike cancels."""
    loop = small_loop()
    rng = np.random.default_rng(seed)
    loglikes = rng.normal(-50, 20, (12, 4))
    words = [WordSpan(0, 5, ((0, 1), (1,)), (-0.5, -0.9)), WordSpan(5, 7, ((1, 0),), (0.0,))]
    np.testing.assert_allclose(scores(loop, loglikes + shift, words), scores(loop, loglikes, words), atol=1e-6)


def test_state_likelihoods_are_mixtures_over_contexts():
    loop, counts, senones, _ = make_loop()
    rng = np.random.default_rng(0)
    loglikes = rng.normal(-30, 10, (4, senones.num_pdfs)).astype(np.float32)
    found = loop.loglikes(loglikes)
    for phone, state in [("p2", 0), ("p4", 2), ("p1", 3)]:
        k = int(loop.first[loop.names.index(phone)]) + state
        weights = np.zeros(senones.num_pdfs)
        for tid in range(1, senones.num_tids + 1):
            if BASE[int(senones.tid2phone[tid])] == phone and senones.tid2hmm_state[tid] == state:
                weights[senones.tid2pdf[tid]] += counts.tids[tid] + 1e-3
        weights /= weights.sum()
        for t in range(4):
            expected = np.logaddexp.reduce(np.log(weights[weights > 0]) + loglikes[t][weights > 0])
            assert found[t, k] == pytest.approx(expected, rel=1e-5)


def test_the_loops_probabilities_sum_to_one():
    merged = {1: "SIL", 2: "a", 3: "a", 4: "b", 5: "c"}  # positions of a phone share its states
    loop, counts, senones, paths = make_loop(1, merged)
    assert loop.names == ["SIL", "a", "b", "c"]
    np.testing.assert_allclose(loop.matrix.sum(1), 1.0)
    np.testing.assert_allclose(np.exp(loop.start).sum(), 1.0)
    np.testing.assert_allclose(loop.mixture.sum(1), 1.0)
    sequences = [[merged[int(p)] for p in phone_segments(tids, senones)[0]] for tids in paths]
    pairs = sum(pair == ("a", "b") for one in sequences for pair in zip(one, one[1:]))
    assert counts.phones[1, 2] == pairs and counts.phones[4].sum() == len(paths)


def test_right_words_are_surer_than_wrong_ones():
    """Frames drawn from the word's own states: its confidence is above that of the other words at the same place."""
    loop, _, senones, _ = make_loop(2)
    rng = np.random.default_rng(7)
    right, wrong = [], []
    for _ in range(40):
        phones = rng.integers(2, 6, 3)
        tids, durations, pdfs = hmm_tools.random_walk(senones, [1, *phones, 1], rng)
        loglikes = rng.normal(-60, 10, (len(tids), senones.num_pdfs))
        loglikes[np.arange(len(tids)), pdfs] += 50
        span = int(durations[0]), int(durations[1:4].sum())
        other = [phone for phone in rng.permutation([2, 3, 4, 5]) if phone not in phones][:1] * 3
        for names, into in ((phones, right), (other, wrong)):
            word = WordSpan(*span, (tuple(loop.phones([f"p{phone}" for phone in names])),), (0.0,))
            into += [confidences(loop, loglikes, [word])[0]]
    assert np.median(right) > 0.9 and np.mean(np.array(right)[:, None] > np.array(wrong)[None]) > 0.95


def test_posterior_rises_from_0_to_1():
    values = posterior(np.array([-1e6, -50.0, 0.0, 5.0, 1e6]))
    assert (np.diff(values) > 0).all() and values[0] < 1e-6 and values[-1] == 1.0


def test_counts_come_back_from_disk(tmp_path):
    _, counts, senones, _ = make_loop()
    counts.save(tmp_path / "loop.safetensors")
    again = LoopCounts.load(tmp_path / "loop.safetensors")
    np.testing.assert_array_equal(again.tids, counts.tids)
    np.testing.assert_array_equal(again.phones, counts.phones)
    assert again.names == counts.names
    (tmp_path / "bad").write_bytes(b"x")
    with pytest.raises(ModelError, match="bad"):
        LoopCounts.load(tmp_path / "bad")


def test_bad_input_is_named():
    loop, counts, senones, _ = make_loop()
    with pytest.raises(DataError, match="no phone q"):
        loop.phones(["p2", "q"])
    with pytest.raises(ModelError, match="another model"):
        PhoneLoop.from_counts(counts, hmm_tools.random_senones(9), BASE)
    network = hmm_tools.random_senones(0, "network")
    with pytest.raises(ModelError, match="one pdf class"):
        PhoneLoop.from_counts(LoopCounts.zeros(network, BASE), network, BASE)
