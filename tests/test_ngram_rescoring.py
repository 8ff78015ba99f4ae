"""Another n-gram model in a lattice: against all of its paths, each scored by itself."""

from __future__ import annotations

import math
from typing import Dict, List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import arrays

from hybrid.decode.ngram_rescoring import NgramRescorer
from hybrid.decode.word_lattice import WordLattice
from hybrid.errors import DataError
from hybrid.lm.arrays import NgramArrays

WORDS = {"<eps>": 0, "a": 1, "b": 2, "c": 3, "d": 4}
NAMES = {number: word for word, number in WORDS.items()}
TEXT = ["a b c", "a b d", "b c a", "d a b c", "c c a", "a", "b d d a"]


def random_lattice(seed: int, nodes: int, arcs: int, words: int = 4) -> WordLattice:
    """Arcs between random nodes in their order, a way through all of them, and an end reached without a word."""
    rng = np.random.default_rng(seed)
    rows = [(node, node + 1, int(rng.integers(1, words + 1))) for node in range(nodes - 2)]
    rows += [(nodes - 2, nodes - 1, 0)]
    for _ in range(arcs):
        source, target = sorted(rng.choice(nodes - 1, 2, replace=False).tolist())
        rows.append((source, target, int(rng.integers(0, words + 1))))
    rows = sorted(set(rows))
    source, target, word = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    lengths = target - source
    return WordLattice(
        frame=np.arange(nodes, dtype=np.int32), source=source, target=target, word=word,
        graph=rng.uniform(0, 3, len(rows)).astype(np.float32), acoustic=rng.uniform(0, 3, len(rows)).astype(np.float32),
        start=source.copy(), offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        pdfs=np.zeros(int(lengths.sum()), np.int32),
    )  # fmt: skip


def all_paths(lattice: WordLattice) -> List[List[int]]:
    """The arcs of each path."""
    ways: List[List[int]] = [[]]
    ends = []
    while ways:
        way = ways.pop()
        node = lattice.target[way[-1]] if way else 0
        if node == len(lattice.frame) - 1:
            ends.append(way)
        ways += [[*way, int(arc)] for arc in np.flatnonzero(lattice.source == node)]
    return ends


def cost_of(model: Optional[NgramArrays], words: List[str]) -> float:
    """-log p of a sentence, word by word."""
    if model is None:
        return 0.0
    total, said = 0.0, ["<s>"]
    for word in [*words, "</s>"]:
        total -= model.logprob_of(word, said)
        said.append(word)
    return total


def by_hand(
    lattice: WordLattice, first: Optional[NgramArrays], second: NgramArrays, lm_scale: float
) -> Dict[Tuple[int, ...], float]:
    """{words: the lowest cost of a path that says them}."""
    found: Dict[Tuple[int, ...], float] = {}
    for way in all_paths(lattice):
        ids = tuple(int(lattice.word[arc]) for arc in way if lattice.word[arc])
        names = [NAMES[number] for number in ids]
        cost = float(lattice.costs()[way].sum())
        cost += lm_scale * (cost_of(second, names) - cost_of(first, names))
        found[ids] = min(found.get(ids, math.inf), cost)
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(3, 6), st.integers(0, 8), st.sampled_from([(1, 3), (2, 3), (3, 2), (None, 3)]),
    st.sampled_from([0.5, 1.0]),
)  # fmt: skip
def test_every_path_has_the_cost_of_the_second_model(
    seed: int, nodes: int, number: int, orders: Tuple[Optional[int], int], lm_scale: float
) -> None:
    lattice = random_lattice(seed, nodes, number)
    first = None if orders[0] is None else arrays(TEXT[:4], orders[0])
    second = arrays(TEXT, orders[1])
    found = NgramRescorer(first, second, WORDS)(lattice, lm_scale=lm_scale, beam=1e9).scaled(lm_scale)
    wanted = by_hand(lattice, first, second, lm_scale)
    entries = found.nbest(10_000)
    assert {entry.words: pytest.approx(entry.cost, abs=1e-4) for entry in entries} == wanted
    assert found.best_path().cost == pytest.approx(min(wanted.values()), abs=1e-4)


def test_scale_0_is_the_first_pass() -> None:
    lattice = random_lattice(1, 6, 8)
    found = NgramRescorer(arrays(TEXT, 2), arrays(TEXT, 3), WORDS)(lattice, beam=1e9).scaled(0.0)
    before, after = ({entry.words: entry.cost for entry in one.nbest(1000)} for one in (lattice, found))
    assert before.keys() == after.keys() and after == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_pruned_it_is_smaller_and_its_paths_cost_the_same(seed: int) -> None:
    lattice = random_lattice(seed, 12, 60)
    rescorer = NgramRescorer(arrays(TEXT, 2), arrays(TEXT, 3), WORDS)
    whole, pruned = rescorer(lattice, beam=1e9), rescorer(lattice, beam=3.0)
    assert len(pruned.lattice.source) < len(whole.lattice.source)
    assert pruned.scaled().best_path().cost == pytest.approx(whole.scaled().best_path().cost, abs=1e-4)
    costs = {entry.words: entry.cost for entry in whole.scaled().nbest(200)}
    common = [entry for entry in pruned.scaled().nbest(20) if entry.words in costs]
    assert common and all(entry.cost >= costs[entry.words] - 1e-4 for entry in common)


def test_the_beam_narrows_until_the_arcs_fit() -> None:
    lattice = random_lattice(2, 14, 80)
    rescorer = NgramRescorer(arrays(TEXT, 2), arrays(TEXT, 3), WORDS)
    found = rescorer(lattice, beam=64.0, most=150)
    assert found.beam < 64.0 and 0 < len(found.lattice.source) <= 150
    assert found.lattice.best_path().words


def test_words_without_a_second_cost_and_words_of_no_first_model() -> None:
    lattice = random_lattice(3, 5, 6)
    first, second = arrays(TEXT, 2), arrays(["a b a", "b a"], 2)  # c and d are unknown, and there is no <unk>
    assert second.unknown is None
    found = NgramRescorer(first, second, WORDS)(lattice, beam=1e9)
    unknown = np.isin(found.lattice.word, [WORDS["c"], WORDS["d"]])
    assert unknown.any() and not found.difference[unknown].any()
    with pytest.raises(DataError, match="the first pass's language model lacks the word [cd] of the lattice"):
        NgramRescorer(second, first, WORDS)(lattice)
