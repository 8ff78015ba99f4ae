"""Oracle errors against all paths: of a lattice, of n-best lists, of a set."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_determinise import every_path, random_lattice, word_paths
from test_mbr import lattice_of

from hybrid.decode.oracle import oracle_errors
from hybrid.score.wer import Counts, align, count

WORDS = {"one": 1, "two": 2, "three": 3}


def spelt(ids: Sequence[int]) -> List[str]:
    return [name for number in ids for name in WORDS if WORDS[name] == number]


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from([1, 2, 3, -1]), max_size=7))
def test_the_oracle_path_is_the_nearest_of_all(seed: int, reference: List[int]) -> None:
    raw = random_lattice(np.random.default_rng(seed))
    if not every_path(raw, 1.0, 0.0):
        return
    lattice = raw.determinised(lattice_beam=1000.0)
    wanted = [str(word) for word in reference]
    errors = {
        path.words: count(align(wanted, [str(word) for word in path.words])).errors for path in word_paths(lattice)
    }
    found = lattice.oracle(reference)
    assert found.errors == min(errors.values()) == errors[found.words]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 1.0]), st.sampled_from([0.0, 1.0]))
def test_a_set_is_the_sum_of_its_utterances(seed: int, scale: float, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    raw = {f"u{k}": random_lattice(rng) for k in range(3)}
    lattices = {
        name: lattice.determinised(scale, penalty, lattice_beam=1000.0)
        for name, lattice in raw.items() if every_path(lattice, 1.0, 0.0)
    }  # fmt: skip
    refs = {name: rng.choice(["one", "two", "three", "unknown"], rng.integers(0, 5)).tolist() for name in raw}
    found = oracle_errors(
        lattices, refs, spelt, acoustic_scale=scale, word_penalty=penalty, numbers=(1, 3, 10), words=WORDS
    )
    assert list(found) == ["1-best", "3-best", "10-best", "lattice"]
    expected = dict.fromkeys(found, 0)
    for name, ref in refs.items():
        if name not in lattices:
            for key in expected:
                expected[key] += len(ref)
            continue
        paths = sorted(word_paths(lattices[name], scale, penalty))
        errors = [count(align(ref, spelt(path.words))).errors for path in paths]
        for number in (1, 3, 10):
            expected[f"{number}-best"] += min(errors[:number])
        expected["lattice"] += min(errors)
    assert {key: counts.errors for key, counts in found.items()} == expected
    assert {counts.words for counts in found.values()} == {sum(map(len, refs.values()))}


def test_pieces_of_words_are_scored_as_words_in_n_best_lists_alone() -> None:
    lattice = lattice_of([(0, 1, 1, 0.6), (0, 1, 2, 0.4), (1, 2, 3, 1.0), (2, 3, 0, 1.0)])

    def joined(ids: Sequence[int]) -> List[str]:
        return ["".join({1: "on", 2: "tw", 3: "e"}[number] for number in ids)]

    found = oracle_errors({"u": lattice}, {"u": ["twe"]}, joined, numbers=(1, 2))
    assert found == {"1-best": Counts(1, 0, 0, 1), "2-best": Counts(1, 0, 0, 0)}


def test_no_lattice_is_all_deleted() -> None:
    found = oracle_errors({"u": None}, {"u": ["one", "two"]}, spelt, words=WORDS)
    assert set(found.values()) == {Counts(2, 0, 2, 0)}
    assert found["lattice"].wer == pytest.approx(100.0)
