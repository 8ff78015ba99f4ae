"""Minimum Bayes risk against its slow readable form, and against the expected errors over all paths."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_determinise import best_of_each, every_path, random_lattice, word_paths

from hybrid.decode.mbr import INSERTED, TIE, mbr
from hybrid.decode.word_lattice import WordLattice
from hybrid.score.wer import align, count


def lattice_of(arcs: Sequence[Tuple[int, int, int, float]], starts: Sequence[int] = ()) -> WordLattice:
    """source, target, word, probability; arcs to the last node are sorted in here."""
    source, target, word, probability = zip(*sorted(arcs), strict=True)
    nodes = max(target) + 1
    ints = [np.array(column, np.int32) for column in (source, target, word)]
    start = np.array(starts or [10 * node for node in source], np.int32)
    return WordLattice(
        10 * np.arange(nodes, dtype=np.int32), *ints, -np.log(probability).astype(np.float32),
        np.zeros(len(source), np.float32), start, np.arange(len(source) + 1, dtype=np.int64),
        np.zeros(len(source), np.int32),
    )  # fmt: skip


def expected_errors(paths: Dict[Tuple[int, ...], float], words: Sequence[int]) -> float:
    """By all paths: word sequence -> cost."""
    weights = {key: np.exp(-cost) for key, cost in paths.items()}
    total = sum(weights.values())
    errors = {key: count(align([str(w) for w in words], [str(w) for w in key])).errors for key in paths}
    return float(sum(weights[key] * errors[key] for key in paths) / total)


def slow_bound(lattice: WordLattice, words: Sequence[int]) -> Tuple[float, List[Dict[int, float]]]:
    """The recursion as it stands in mbr.py, node by node, with lists and dictionaries."""
    slots = [0]
    for word in words:
        slots += [word, 0]
    nodes, length = len(lattice.frame), len(slots)
    likelihood = np.exp(-lattice.costs())
    entering: Dict[int, List[int]] = defaultdict(list)
    for arc, target in enumerate(lattice.target.tolist()):
        entering[target].append(arc)
    alpha = {0: 1.0}
    distance: Dict[int, List[float]] = {0: [float(sum(map(bool, slots[:q]))) for q in range(length + 1)]}
    steps: Dict[Tuple[int, int], str] = {}
    share: Dict[int, float] = {}
    for node in range(1, nodes):
        alpha[node] = sum(alpha[int(lattice.source[a])] * likelihood[a] for a in entering[node])
        distance[node] = [0.0] * (length + 1)
        for a in entering[node]:
            before, word = distance[int(lattice.source[a])], int(lattice.word[a])
            insertion = INSERTED if word else 0.0
            share[a] = alpha[int(lattice.source[a])] * likelihood[a] / alpha[node]
            of_arc = [before[0] + insertion]
            for q in range(1, length + 1):
                choices = [
                    (before[q - 1] + (word != slots[q - 1]), "match"), (before[q] + insertion, "insert"),
                    (of_arc[q - 1] + (slots[q - 1] != 0), "delete"),
                ]  # fmt: skip
                cost = min(choices)[0]
                steps[a, q] = next(step for other, step in choices if other <= cost + TIE)
                of_arc.append(cost)
            for q in range(length + 1):
                distance[node][q] += share[a] * of_arc[q]
    gamma: List[Dict[int, float]] = [defaultdict(float) for _ in slots]
    back: Any = {node: [0.0] * (length + 1) for node in range(nodes)}
    back[nodes - 1][length] = 1.0
    for node in range(nodes - 1, 0, -1):
        for a in entering[node]:
            source, word = int(lattice.source[a]), int(lattice.word[a])
            carried = [share[a] * value for value in back[node]]
            for q in range(length, 0, -1):
                if steps[a, q] == "match":
                    back[source][q - 1] += carried[q]
                    gamma[q - 1][word] += carried[q]
                elif steps[a, q] == "insert":
                    back[source][q] += carried[q]
                else:
                    carried[q - 1] += carried[q]
                    gamma[q - 1][0] += carried[q]
            back[source][0] += carried[0]
    for q in range(length, 0, -1):
        back[0][q - 1] += back[0][q]
        gamma[q - 1][0] += back[0][q]
    return distance[nodes - 1][length], gamma


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 1.0]))
def test_words_bound_and_bins_are_those_of_the_slow_form_and_no_worse_than_the_best_paths(
    seed: int, scale: float
) -> None:
    raw = random_lattice(np.random.default_rng(seed))
    if not every_path(raw, scale, 0.0):
        return
    lattice = raw.determinised(scale, lattice_beam=1000.0).scaled(scale)
    paths = {path.words: path.cost for path in word_paths(lattice)}
    best = lattice.best_path().words
    found = mbr(lattice)
    bound, gamma = slow_bound(lattice, found.words)
    assert found.expected_errors == pytest.approx(bound, abs=1e-6)
    for slot in gamma:
        assert sum(slot.values()) == pytest.approx(1.0, abs=1e-6)
    # nothing better in any slot, and the confidences are the posteriors of the slots
    slots = [0] + [slot for word in found.words for slot in (word, 0)]
    for slot, word in zip(gamma, slots, strict=True):
        assert slot[word] >= max(slot.values()) - 1e-6
    assert found.confidences == pytest.approx([gamma[2 * k + 1][word] for k, word in enumerate(found.words)], abs=1e-6)
    bins = []
    for slot, word in zip(gamma, slots, strict=True):
        likely = {other for other, value in slot.items() if value >= 1e-4} | {word}
        if likely != {0}:
            bins.append(pytest.approx({other: slot[other] for other in likely}, abs=1e-6))
    assert [dict(slot.words) for slot in found.bins] == bins
    # the bound holds, and is no higher than the best path's
    assert expected_errors(paths, found.words) <= bound + 1e-4
    assert bound <= slow_bound(lattice, best)[0] + 1e-4
    assert all(0.0 <= confidence <= 1.0 for confidence in found.confidences)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_where_each_node_has_one_way_to_it_the_bound_is_the_expected_edit_distance(seed: int) -> None:
    """A list of sentences: the words found have no more expected errors than the likeliest sentence."""
    rng = np.random.default_rng(seed)
    sentences = {tuple(rng.integers(1, 4, rng.integers(0, 5)).tolist()) for _ in range(rng.integers(1, 7))}
    weights = dict(zip(sorted(sentences), rng.dirichlet(np.ones(len(sentences))).tolist(), strict=True))
    count_ = 1 + sum(map(len, sentences))
    arcs, node = [], 1
    for sentence, weight in weights.items():
        before = 0
        for word in sentence:
            arcs.append((before, node, word, weight if before == 0 else 1.0))
            before, node = node, node + 1
        arcs.append((before, count_, 0, 1.0 if sentence else weight))
    lattice = lattice_of(arcs)
    paths = {sentence: -np.log(weight) for sentence, weight in weights.items()}
    found = mbr(lattice)
    exact = expected_errors(paths, found.words)
    assert found.expected_errors == pytest.approx(exact, abs=1e-3)
    assert exact <= expected_errors(paths, min(paths, key=lambda key: paths[key])) + 1e-4


def test_the_likeliest_sentence_is_not_the_one_of_fewest_errors() -> None:
    """Three sentences; the likeliest has a first word and a second that most others have not."""
    lattice = lattice_of([
        (0, 1, 1, 0.4), (1, 4, 2, 1.0), (0, 2, 3, 0.3), (2, 4, 4, 1.0), (0, 3, 3, 0.3), (3, 4, 5, 1.0), (4, 5, 0, 1.0),
    ])  # fmt: skip
    assert lattice.best_path().words == (1, 2)
    found = mbr(lattice)
    assert found.words == (3, 2)
    assert found.confidences == pytest.approx([0.6, 0.4], abs=1e-4)
    assert found.expected_errors == pytest.approx(1.0, abs=1e-3)
    assert [dict(slot.words) for slot in found.bins] == [
        pytest.approx({3: 0.6, 1: 0.4}, abs=1e-4), pytest.approx({2: 0.4, 4: 0.3, 5: 0.3}, abs=1e-4)
    ]  # fmt: skip
    assert found.starts[0] == 0.0 and found.starts[0] < found.ends[0] <= found.starts[1] < found.ends[1]


def test_a_word_that_may_be_missing_stands_in_a_bin_of_its_own() -> None:
    lattice = lattice_of([(0, 1, 1, 1.0), (1, 2, 7, 0.3), (1, 2, 0, 0.7), (2, 3, 2, 1.0), (3, 4, 0, 1.0)])
    found = mbr(lattice)
    assert found.words == (1, 2) and found.confidences == pytest.approx([1.0, 1.0])
    assert [dict(slot.words) for slot in found.bins] == [
        pytest.approx({1: 1.0}), pytest.approx({0: 0.7, 7: 0.3}, abs=1e-4), pytest.approx({2: 1.0})
    ]  # fmt: skip
    likelier = lattice_of([(0, 1, 1, 1.0), (1, 2, 7, 0.6), (1, 2, 0, 0.4), (2, 3, 2, 1.0), (3, 4, 0, 1.0)])
    found = mbr(likelier)
    assert found.words == (1, 7, 2) and found.confidences == pytest.approx([1.0, 0.6, 1.0], abs=1e-4)
    assert (found.starts, found.ends) == (
        pytest.approx((0.0, 10.0, 20.0)), pytest.approx((10.0, 20.0, 30.0))
    )  # fmt: skip


def test_scale_and_penalty_are_those_of_the_costs() -> None:
    raw = random_lattice(np.random.default_rng(5), frames=7)
    assert len(best_of_each(every_path(raw, 0.3, 1.0))) > 10
    lattice = raw.determinised(0.3, 1.0, lattice_beam=100.0)
    once, apart = mbr(lattice, 0.3, 1.0), mbr(lattice.scaled(0.3, word_penalty=1.0))
    assert once.words == apart.words and once.confidences == pytest.approx(apart.confidences, abs=1e-5)


def test_silence_has_no_words() -> None:
    found = mbr(lattice_of([(0, 1, 0, 1.0)]))
    assert found.words == () and found.bins == () and found.expected_errors == 0.0
