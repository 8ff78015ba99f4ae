"""Phrases in the search against every path of small graphs, its cost less the weights of the phrases in its words."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_search import every_path, fst_of, noise, paths_of, random_fst

from hybrid.decode.boost import Booster
from hybrid.decode.decoder import Decoder
from hybrid.decode.phrase_trie import phrase_trie
from hybrid.decode.search_graph import SearchGraph
from hybrid.fst import to_arrays

Phrases = List[Tuple[Tuple[int, ...], float]]


def worth(words: Sequence[int], phrases: Phrases) -> float:
    """The weight of each phrase, once for each place where it stands."""
    return sum(
        weight for phrase, weight in phrases for start in range(len(words))
        if tuple(words[start : start + len(phrase)]) == phrase
    )  # fmt: skip


PHRASES = st.dictionaries(
    st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), st.sampled_from([0.5, 1.0, 2.5]), max_size=6
)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6), PHRASES)
def test_each_word_sequence_costs_less_by_its_phrases(
    seed: int, states: int, frames: int, phrases: Dict[Tuple[int, ...], float]
) -> None:
    fst, scaled = random_fst(np.random.default_rng(seed), states), noise(seed, frames)
    rows = list(phrases.items())
    assume(len(to_arrays(fst).arcs))
    decoder = Decoder(fst, beam=1000.0, max_active=10**6).boosted(rows)
    lattice = decoder.lattice(scaled, lattice_beam=900.0)
    expected: Dict[Tuple[Tuple[int, ...], Tuple[int, ...]], float] = {}
    for cost, ilabels, olabels in every_path(fst, scaled):
        key = (ilabels, olabels)
        expected[key] = min(expected.get(key, np.inf), cost - worth(olabels, rows))
    if not expected:
        assert lattice is None or not lattice.reached_final
        return
    assert lattice is not None
    found: Dict[Tuple[Tuple[int, ...], Tuple[int, ...]], float] = {}
    for cost, ilabels, olabels in paths_of(lattice):
        found[ilabels, olabels] = min(found.get((ilabels, olabels), np.inf), cost)
    assert found == pytest.approx(expected, abs=1e-3)
    assert decoder.decode(scaled).cost == pytest.approx(min(expected.values()), abs=1e-3)


def test_the_trie_lends_and_takes_back() -> None:
    """By hand: a b (2), a b c (6), b d (4). Nodes with words after them: the root, a, b, a b."""
    a, b, c, d = 1, 2, 3, 4
    trie = phrase_trie([([a, b], 2.0), ([a, b, c], 6.0), ([b, d], 4.0)])
    assert trie.first.tolist() == [0, 2, 3, 4, 5] and trie.word.tolist() == [a, b, b, d, c]
    assert trie.node.tolist() == [1, 2, 3, 0, 0]
    # lent: a 2 (a third of 6), b 2, a b 4; a b has won 2 as well
    assert trie.gain.tolist() == [2.0, 2.0, 4.0, 2.0, 2.0]
    assert trie.fail.tolist() == [0, 0, 0, 2] and trie.fail_cost.tolist() == [0.0, 2.0, 2.0, 2.0]


def test_no_loan_is_wider_than_half_the_beam() -> None:
    """Else a phrase of a large weight that is begun would drop all others, and nothing could end."""
    assert phrase_trie([([1, 2], 60.0)], 5.0).gain.tolist() == [5.0, 55.0]
    decoder = Decoder(fst_of(word_loop(50)), beam=8.0).boosted([((7, 8), 60.0)])
    scaled = np.full((3, 53), -30.0, np.float32)
    scaled[[0, 1, 2], [6, 7, 8]] = 0.0
    hypothesis = decoder.decode(scaled)  # the phrase is begun, and no more is said
    assert hypothesis.words == (7,) and hypothesis.reached_final and hypothesis.cost == pytest.approx(2.0)


def word_loop(words: int, states_a_word: int = 3) -> str:
    """Words of some pdfs each, in any order: word w is said over pdfs w, w + 1, ...; its label on the first."""
    lines, state = [], 1
    for word in range(1, words + 1):
        before = 0
        for place in range(states_a_word):
            after = 0 if place == states_a_word - 1 else state
            lines.append(f"{before} {after} {word + place} {word if place == 0 else 0} {2.0 if place == 0 else 0.0}")
            before, state = state, state + 1
    return "\n".join([*lines, "0 0.0"])


def test_only_what_lies_between_the_words_of_phrases_is_added() -> None:
    graph = SearchGraph.from_arrays(to_arrays(fst_of(word_loop(50))))
    booster = Booster(graph)
    assert booster.graph([]).num_states == graph.num_states
    boosted = booster.graph([((7,), 1.0)])
    assert boosted.num_states == graph.num_states  # one word: its arcs cost less, and that is all
    # of 7 8 the rest of the word 7 (its label is on its first arc), and the loop state
    assert booster.graph([((7, 8), 1.0)]).num_states == graph.num_states + 3
    many = booster.graph([((first, second), 1.0) for first in range(1, 51) for second in (3, 9)])
    assert many.num_states == graph.num_states + 50 * 3
    assert len(many.arcs) // 4 < len(graph.arcs) // 4 + 50 * (3 + 4 + 2)


def test_many_words_and_phrases() -> None:
    """Sentences over 300 words, each heard without doubt: what it costs is its words and its phrases."""
    rng = np.random.default_rng(0)
    rows = [(tuple(rng.integers(1, 301, rng.integers(2, 4)).tolist()), float(rng.integers(1, 5))) for _ in range(300)]
    decoder = Decoder(fst_of(word_loop(300)), beam=100.0).boosted(rows)
    found = 0.0
    for number in range(100):
        words = [*rows[number][0][:2], *rows[-number - 1][0], *rows[number][0]]
        scaled = np.full((3 * len(words), 302), -1000.0, np.float32)
        pdfs = [word + place - 1 for word in words for place in range(3)]
        scaled[np.arange(len(pdfs)), pdfs] = 0.0
        hypothesis = decoder.decode(scaled)
        found += worth(words, list(dict(rows).items()))
        expected = 2.0 * len(words) - worth(words, list(dict(rows).items()))
        assert list(hypothesis.words) == words and hypothesis.cost == pytest.approx(expected, abs=1e-3)
    assert found > 300


def test_a_phrase_that_the_beam_had_dropped_is_found() -> None:
    """7 8 is said so badly that its first word falls out of the beam; the phrase's loan carries it over."""
    decoder = Decoder(fst_of(word_loop(50)), beam=8.0, max_active=4)
    scaled = np.full((6, 53), -30.0, np.float32)
    for word in (15, 20, 35, 40):  # others that are nearer
        scaled[[0, 1, 2], [word - 1, word, word + 1]] = -2.2
    for frame, pdf in enumerate([7, 8, 9, 8, 9, 10]):
        scaled[frame, pdf - 1] = 0.0 if frame > 2 else -3.0
        scaled[frame, pdf + 20 - 1] = -30.0 if frame > 2 else 0.0  # 27 is heard
    assert decoder.decode(scaled).words == (27, 8)
    narrow = decoder.lattice(scaled, lattice_beam=20.0)
    assert narrow is not None and not any(entry.words == (7, 8) for entry in narrow.nbest(100))
    hypothesis = decoder.boosted([((7, 8), 10.0)]).decode(scaled)
    assert hypothesis.words == (7, 8) and hypothesis.cost == pytest.approx(4.0 + 9.0 - 10.0)
    # part of a phrase gets nothing: the words and the cost are what they were
    partial = decoder.boosted([((27, 9), 3.0), ((27, 9, 9), 6.0)]).decode(scaled)
    assert partial.words == (27, 8) and partial.cost == pytest.approx(decoder.decode(scaled).cost)
    assert decoder.decode(scaled).words == (27, 8)  # the graph itself is as it was


def test_a_boosted_decoder_shares_nothing_that_changes() -> None:
    decoder = Decoder(fst_of(word_loop(20)))
    before = decoder.graph.arcs.copy()
    once = decoder.boosted([((7, 8), 3.0)])
    twice = once.boosted([((8, 9), 2.0)])
    np.testing.assert_array_equal(decoder.graph.arcs, before)
    scaled = noise(3, 9, 23) * 3
    words = decoder.decode(scaled).words
    expected = min(
        (cost - worth(olabels, [((7, 8), 3.0), ((8, 9), 2.0)]), olabels)
        for cost, _, olabels in every_path(fst_of(word_loop(20)), scaled)
    )  # fmt: skip
    assert twice.decode(scaled).cost == pytest.approx(expected[0], abs=1e-3)
    assert decoder.decode(scaled).words == words
