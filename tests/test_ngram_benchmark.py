"""The benchmark of n-gram rescoring: the composition that it is measured beside, its verdicts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List, Tuple

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import TEXTS, arrays
from test_ngram_rescoring import NAMES, TEXT, WORDS, random_lattice

from benchmarks import ngram_equality
from benchmarks.ngram_rescoring import acceptor, grammar_of
from hybrid.decode.ngram_rescoring import NgramRescorer
from hybrid.errors import ConfigError
from hybrid.fst import ARC, FstArrays, from_arrays, to_arrays


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("order", [1, 2, 3])
def test_composition_with_the_grammar_finds_the_cost_of_rescoring(seed: int, order: int) -> None:
    """A word may be more probable by backing off than as it is listed: then composition has the lower cost."""
    lattice, model = random_lattice(seed, 6, 6), arrays(TEXT, order)
    best = kaldifst.shortest_path(kaldifst.compose(acceptor(lattice, 0.5), grammar_of(model, {**WORDS, "#0": 5})))
    parts = to_arrays(best)
    cost = float(parts.arcs["weight"].sum() + parts.final[np.isfinite(parts.final)].sum())
    rescored = NgramRescorer(None, model, WORDS)(lattice, acoustic_scale=0.5, beam=1e3).scaled(1.0).best_path(0.5)
    assert cost <= rescored.cost + 1e-3
    assert cost == pytest.approx(rescored.cost, abs=1e-3 if order == 1 else 0.5)


@settings(max_examples=25, deadline=None)
@given(TEXTS, st.integers(1, 3), st.lists(st.integers(1, 4), max_size=5))
def test_shortcuts_are_what_the_grammar_makes_cheaper(sentences, order, said):
    model = arrays(sentences, order, vocabulary="abcd")
    arcs = [(number, number + 1, word) for number, word in enumerate(said)]
    fst = from_arrays(linear(arcs))
    best = to_arrays(kaldifst.shortest_path(kaldifst.compose(fst, grammar_of(model, {**WORDS, "#0": 5}))))
    cost = float(best.arcs["weight"].sum() + best.final[np.isfinite(best.final)].sum())
    shortcuts = ngram_equality.Shortcuts(model.to_model(), SimpleNamespace(words=WORDS))  # type: ignore
    exact = -model.to_model().sentence_logprob([NAMES[word] for word in said])
    assert shortcuts(said) == pytest.approx(exact - cost, abs=1e-3) and shortcuts(said) >= -1e-9


def linear(rows: List[Tuple[int, int, int]]) -> FstArrays:
    """Return an FST of one sentence."""
    arcs = np.zeros(len(rows), ARC)
    for place, (_, target, word) in enumerate(rows):
        arcs[place] = (word, word, 0.0, target)
    final = np.full(len(rows) + 1, np.inf, np.float32)
    final[-1] = 0.0
    return FstArrays(0, final, np.append(np.arange(len(rows) + 1), len(rows)), arcs)


def answers(*rows: Any) -> Any:
    return {str(number): SimpleNamespace(words=words, cost=cost) for number, (words, cost) in enumerate(rows)}


def test_the_lower_cost_of_utterances_with_other_words() -> None:
    first = answers(((1,), 1.0), ((1,), 1.0), ((1,), 1.0), ((1,), 1.0))
    lattice = answers(((1,), 1.0), ((1,), 1.5), ((2,), 2.0), ((2,), 3.0))
    graph = answers(((1,), 1.2), ((2,), 2.5), ((1,), 1.0), ((1,), 2.9))
    speech: Any = SimpleNamespace(texts={name: ["a"] for name in first})
    lang: Any = SimpleNamespace(words=WORDS)
    shortcuts = (lambda words: 0.0, lambda words: 0.5 if words == (1,) else 0.0)
    row = ngram_equality.line(ngram_equality.Beams.parse("11:1500:8"), speech, lang, first, lattice, graph, shortcuts)
    assert row.split() == ["11", "1500", "8", "25.0", "3", "2", "1", "2", "0.700", "0.00", "50.00", "25.00"]


@pytest.mark.parametrize("text", ["", "11", "11:1500", "a:1:2", "11:1.5:8", "1:2:3:4"])
def test_a_search_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="the search"):
        ngram_equality.Beams.parse(text)
