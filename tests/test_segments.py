"""Speech cut into utterances: Kaldi's endpoint rules, cuts at pauses, and results that do not depend on the pieces."""

from __future__ import annotations

from typing import List, Optional, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_tools import fst_of

from hybrid.decode.decoder import Decoder
from hybrid.decode.segments import STEP, Endpointing, Rule, Segment, Segmenter
from hybrid.errors import ConfigError

SHIFT = 0.01
# Silence is pdf 0; word 1 is said as pdf 1 2, word 2 as pdf 3 4; both may follow each other, with or without silence.
LOOP = """
0 0 1 0 0.1
0 1 2 1 0.7
1 1 2 0 0.1
1 2 3 0 0.1
2 2 3 0 0.1
2 0 0 0 0.1
0 3 4 2 0.7
3 3 4 0 0.1
3 4 5 0 0.1
4 4 5 0 0.1
4 0 0 0 0.1
0 0.5
"""
SILENT = np.array([True, False, False, False, False])
WORDS = {1: (1, 2), 2: (3, 4)}


def speech(*parts: float, seed: int = 0, sharpness: float = 4.0) -> np.ndarray:
    """Log-likelihoods of words (1, 2; 8 frames each) and of seconds of silence (negative numbers)."""
    pdfs: List[int] = []
    for part in parts:
        if part < 0:
            pdfs += [0] * round(-part / SHIFT)
        else:
            pdfs += [pdf for pdf in WORDS[int(part)] for _ in range(4)]
    rows = np.random.default_rng(seed).normal(0.0, 0.5, (len(pdfs), len(SILENT))).astype(np.float32)
    rows[np.arange(len(pdfs)), pdfs] += sharpness
    return rows


def segmenter(endpointing: Optional[Endpointing] = None, graph: str = LOOP) -> Segmenter:
    return Segmenter(Decoder(fst_of(graph)), SILENT, SHIFT, 1.0, endpointing)


def words_of(segments: Sequence[Segment]) -> List[List[int]]:
    return [list(one.lattice.best_path().words) if one.lattice is not None else [] for one in segments]


def decode(
    rows: np.ndarray, endpointing: Optional[Endpointing] = None, chunk: int = 7, graph: str = LOOP
) -> List[Segment]:
    running = segmenter(endpointing, graph)
    segments: List[Segment] = []
    for begin in range(0, len(rows), chunk):
        segments += running.accept(rows[begin : begin + chunk])
    segments += running.finish()
    # nothing is lost and nothing doubled
    assert [one.begin for one in segments] == np.cumsum([0, *(len(one.loglikes) for one in segments)])[:-1].tolist()
    assert np.array_equal(np.concatenate([one.loglikes for one in segments]), rows)
    return segments


def test_half_a_second_of_silence_where_a_sentence_may_end_is_an_endpoint() -> None:
    segments = decode(speech(-0.3, 1, 2, -0.6, 2, -0.3, 1, -0.8))
    assert words_of(segments) == [[1, 2], [2, 1], []]  # 0.3 s are none; the rest of the last pause has no word
    assert [one.endpoint for one in segments] == [True] * 3


@pytest.mark.parametrize(
    "final, pause, split",
    [(0.5, 0.55, True), (0.5, 0.45, False), (5.0, 0.9, False), (5.0, 1.1, True), (20.0, 1.9, False), (20.0, 2.1, True)],
)
def test_the_less_a_sentence_may_end_the_longer_the_pause(final: float, pause: float, split: bool) -> None:
    """Kaldi's rules 2, 3 and 4."""
    graph = LOOP.replace("0 0.5\n", f"0 {final}\n")
    segments = decode(speech(1, -pause, 2), graph=graph)
    assert words_of(segments) == ([[1], [2]] if split else [[1, 2]])


def test_silence_alone_ends_after_five_seconds() -> None:
    lengths = [len(one.loglikes) * SHIFT for one in decode(speech(-12.0))]
    assert lengths == pytest.approx([5.0, 5.0, 2.0])


def test_rules_of_ones_own() -> None:
    rows = speech(1, -0.25, 2, -0.4, 1)
    assert words_of(decode(rows, Endpointing(rules=()))) == [[1, 2, 1]]
    assert words_of(decode(rows, Endpointing(rules=(Rule(True, 0.2),)))) == [[1], [2], [1]]
    long = Endpointing(rules=(Rule(True, 0.2, utterance_length=0.6),))
    assert words_of(decode(rows, long)) == [[1, 2], [1]]


def test_what_goes_on_is_cut_at_its_last_pause() -> None:
    rows = speech(*([1, 2, -0.25, 2, 2, 1] * 12), seed=3)
    whole = decode(rows, Endpointing(rules=()))
    parts = decode(rows, Endpointing(rules=(), longest=2.0))
    assert len(whole) == 1 and len(parts) > 3
    assert sum(words_of(parts), []) == words_of(whole)[0] == [1, 2, 2, 2, 1] * 12
    assert [one.endpoint for one in parts] == [False] * (len(parts) - 1) + [True]
    for one in parts[:-1]:
        assert len(one.loglikes) <= 2.1 / SHIFT
        assert one.loglikes[-1].argmax() == 0, "not cut in silence"


def test_without_a_pause_it_is_cut_all_the_same() -> None:
    rows = speech(*([1, 2, 2] * 60))
    parts = decode(rows, Endpointing(rules=(), longest=1.0))
    assert max(len(one.loglikes) for one in parts) <= 2.2 / SHIFT
    assert sum(words_of(parts), []) == [1, 2, 2] * 60


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([1.0, 2.0, -0.1, -0.3, -0.7]), min_size=1, max_size=25), st.integers(1, 400),
    st.sampled_from([0.5, 20.0]), st.integers(0, 9),
)  # fmt: skip
def test_results_do_not_depend_on_the_pieces(parts: List[float], chunk: int, longest: float, seed: int) -> None:
    rows, endpointing = speech(*parts, seed=seed, sharpness=1.5), Endpointing(longest=longest)
    one, other = decode(rows, endpointing, chunk), decode(rows, endpointing, len(rows))
    assert words_of(one) == words_of(other)
    assert [(s.begin, s.endpoint) for s in one] == [(s.begin, s.endpoint) for s in other]


def test_partial_words_and_what_is_agreed_of_them() -> None:
    running, rows = segmenter(), speech(-0.1, 1, 2, -0.2, 2, 1, 1, -0.7)
    agreed: List[int] = []
    seen = []
    for begin in range(0, len(rows), STEP):
        done = running.accept(rows[begin : begin + STEP])
        if done:
            assert words_of(done)[0][: len(agreed)] == agreed
            break
        now = running.partial()
        assert now.agreed[: len(agreed)] == agreed, "what was agreed has changed"
        agreed = now.agreed
        seen.append(now.agreed + now.rest)
    assert [1, 2] in seen and [1, 2, 2, 1, 1] in seen and agreed


def test_a_grammar_of_one_sentence_is_taken_up_anew() -> None:
    """Where no path leads on, what there is ends, and the next begins: nothing is thrown away."""
    chain = [f"{k} {k + 1} {2 + k // 4} {int(k == 0)} 0.1" for k in range(8)]
    assert words_of(decode(speech(1, 1, 1), graph="\n".join([*chain, "8 0.1", ""]))) == [[1]] * 3


def test_a_graph_that_ends_at_once_passes_over_speech() -> None:
    segments = segmenter(graph="0 1 1 1 0.1\n1 0.0\n")
    rows = speech(-0.05)
    done = segments.accept(rows) + segments.finish()
    assert all(words == [1] for words in words_of(done)) and segments.frames == len(rows)


@pytest.mark.parametrize("longest, pause", [(0.0, 0.2), (20.0, 0.0), (-1.0, 0.2)])
def test_lengths_that_cannot_be(longest: float, pause: float) -> None:
    with pytest.raises(ConfigError, match="longest"):
        Endpointing(longest=longest, pause=pause)
