"""A neural language model in a lattice: against all of its paths, each scored as a whole sentence."""

from __future__ import annotations

import math
from typing import Dict, List, Optional, Tuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import arrays
from test_ngram_rescoring import NAMES, TEXT, WORDS, all_paths, cost_of, random_lattice

from hybrid.data.tokens import Tokens
from hybrid.decode import neural_prefixes
from hybrid.decode.neural_prefixes import Prefixes
from hybrid.decode.neural_rescoring import NeuralRescorer
from hybrid.decode.word_lattice import WordLattice
from hybrid.errors import ConfigError, DataError
from hybrid.lm.arrays import NgramArrays
from hybrid.nnet.text import LstmLm, LstmLmConfig, TextModel
from hybrid.nnet.transformer import TransformerConfig, TransformerLm
from hybrid.rescore.neural import NeuralScorer

TOKENS = Tokens.of_words([["a", "b", "c"]], vocabulary=["d", "e", "f"])  # which are <unk>
PIECES = Tokens.of_pieces([line.split() for line in ["abba cab", "bacca abba", "cab dad", "dada abc"] * 5], 14)
LONG = {"<eps>": 0, "abba": 1, "cab": 2, "dada": 3, "zebra": 4}  # of pieces; the last is <unk>


def lstm(tokens: Tokens = TOKENS, seed: int = 1, layers: int = 1, sharp: float = 6.0) -> LstmLm:
    """A model with strong opinions, which depend on all that was read."""
    model = LstmLm(LstmLmConfig(len(tokens), hidden=8, layers=layers), seed).eval()
    with torch.no_grad():
        model.embedding.weight *= sharp**0.5
        model.bias += torch.linspace(-1, 1, len(tokens))
    return model


def forgetful(seed: int = 1) -> LstmLm:
    """An LSTM that sees its last token alone: nothing comes back into the gates, and the cell's old value is lost."""
    model = lstm(seed=seed)
    with torch.no_grad():
        for layer in model.recurrent:
            layer.weight_hh_l0.zero_()
            layer.weight_ih_l0[8:16].zero_()
            layer.bias_ih_l0[8:16] = -200.0
    return model


def transformer(tokens: Tokens = TOKENS, causal: bool = True) -> TransformerLm:
    return TransformerLm(TransformerConfig(len(tokens), dim=8, layers=1, heads=2, causal=causal), 1).eval()


def by_hand(
    model: TextModel, lattice: WordLattice, lm_scale: float, first: Optional[NgramArrays] = None,
    tokens: Tokens = TOKENS, names: Dict[int, str] = NAMES,
) -> Dict[Tuple[int, ...], float]:  # fmt: skip
    """{words: the lowest cost of a path that says them}, sentences scored whole."""
    scorer = NeuralScorer(model, tokens)
    found: Dict[Tuple[int, ...], float] = {}
    for way in all_paths(lattice):
        ids = tuple(int(lattice.word[arc]) for arc in way if lattice.word[arc])
        said = [names[number] for number in ids]
        neural = -float(scorer.score([said])[0]) - cost_of(first, said)
        cost = float(lattice.costs()[way].sum()) + lm_scale * neural
        found[ids] = min(found.get(ids, math.inf), cost)
    return found


def same(entries: List, wanted: Dict[Tuple[int, ...], float]) -> bool:
    return {entry.words: pytest.approx(entry.cost, abs=2e-4) for entry in entries} == wanted


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(3, 6), st.integers(0, 8), st.sampled_from([None, 1, 3]),
    st.sampled_from([0.5, 1.0]), st.sampled_from(["lstm", "two layers", "transformer"]),
)  # fmt: skip
def test_without_merging_every_path_has_the_cost_of_its_sentence(
    seed: int, nodes: int, number: int, order: Optional[int], lm_scale: float, kind: str
) -> None:
    lattice = random_lattice(seed, nodes, number)
    model = transformer() if kind == "transformer" else lstm(layers=2 if kind == "two layers" else 1)
    first = None if order is None else arrays(TEXT, order)
    rescorer = NeuralRescorer(model, TOKENS, WORDS, first=first, history=None)
    found = rescorer(lattice, lm_scale=lm_scale, beam=1e9).scaled(lm_scale)
    wanted = by_hand(model, lattice, lm_scale, first)
    assert same(found.nbest(10_000), wanted)
    assert found.best_path().cost == pytest.approx(min(wanted.values()), abs=2e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(0, 8), st.sampled_from(["forgets", "long"]))
def test_merged_histories_that_the_model_does_not_tell_apart_lose_nothing(
    seed: int, nodes: int, number: int, why: str
) -> None:
    lattice = random_lattice(seed, nodes, number)
    model, history = (forgetful(), 2) if why == "forgets" else (lstm(), 8)  # a sentence has at most 5 words here
    found = NeuralRescorer(model, TOKENS, WORDS, history=history)(lattice, beam=1e9).scaled()
    assert same(found.nbest(10_000), by_hand(model, lattice, 1.0))


@pytest.mark.parametrize("history", [1, 2, 3])
def test_merged_histories_are_close_and_never_better(history: int) -> None:
    lost, exact, smaller = 0.0, 0, 0
    for seed in range(20):
        lattice, model = random_lattice(seed, 7, 14), lstm(seed=seed)
        found = NeuralRescorer(model, TOKENS, WORDS, history=history)(lattice, beam=1e9)
        whole = NeuralRescorer(model, TOKENS, WORDS, history=0)(lattice, beam=1e9)
        wanted = by_hand(model, lattice, 1.0)
        best = min(wanted.values())
        path = found.scaled().best_path()
        assert wanted[path.words] >= best - 2e-4
        assert path.cost == pytest.approx(wanted[path.words], abs=2e-4)  # of the best path the costs are exact
        lost += wanted[path.words] - best
        exact += wanted[path.words] < best + 2e-4
        smaller += len(found.lattice.source) < len(whole.lattice.source)
    assert smaller >= 18 and exact >= {1: 10, 2: 14, 3: 17}[history] and lost < 6.0


def test_a_better_way_found_late_gives_its_state_to_what_follows() -> None:
    """Two ways to one history of one word: the second in order is the cheaper one, and what follows goes on from it."""
    columns = [[0, 1, 1], [0, 2, 2], [1, 3, 3], [2, 3, 3], [3, 4, 1], [4, 5, 0]]
    source, target, word = (np.array(column, np.int32) for column in zip(*columns))
    zeros = np.zeros(6, np.float32)
    lattice = WordLattice(
        frame=np.arange(6, dtype=np.int32), source=source, target=target, word=word,
        graph=np.array([50, 0, 0, 0, 0, 0], np.float32), acoustic=zeros, start=source.copy(),
        offsets=np.zeros(7, np.int64), pdfs=np.zeros(0, np.int32),
    )  # fmt: skip
    model = lstm()
    found = NeuralRescorer(model, TOKENS, WORDS, history=2)(lattice, beam=1e9)
    path = found.scaled().best_path()
    assert path.words == (2, 3, 1)
    assert path.cost == pytest.approx(by_hand(model, lattice, 1.0)[(2, 3, 1)], abs=2e-4)


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_words_of_several_pieces(kind: str) -> None:
    assert max(len(PIECES.of_word(word)) for word in LONG) > 1 and PIECES.of_word("zebra") == [2]
    model = lstm(PIECES) if kind == "lstm" else transformer(PIECES)
    names = {number: word for word, number in LONG.items()}
    for seed in range(4):
        lattice = random_lattice(seed, 6, 6)
        found = NeuralRescorer(model, PIECES, LONG, history=None)(lattice, beam=1e9).scaled()
        assert same(found.nbest(10_000), by_hand(model, lattice, 1.0, None, PIECES, names))


def test_a_word_on_an_arc_to_the_end() -> None:
    lattice = random_lattice(5, 6, 8)
    ending = np.where(lattice.target == 5, np.int32(2), lattice.word)
    lattice = WordLattice(**{**vars(lattice), "word": ending})
    for first in (None, arrays(TEXT, 2)):
        found = NeuralRescorer(lstm(), TOKENS, WORDS, first=first, history=0)(lattice, beam=1e9).scaled()
        assert same(found.nbest(10_000), by_hand(lstm(), lattice, 1.0, first))


def test_together_is_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where rows are read two at a time."""
    lattices = [random_lattice(seed, nodes, 10) for seed, nodes in enumerate((3, 8, 5))]
    rescorer = NeuralRescorer(lstm(), TOKENS, WORDS, first=arrays(TEXT, 2))
    alone = [rescorer(lattice) for lattice in lattices]
    monkeypatch.setattr(neural_prefixes, "_ROWS", 2)
    together = rescorer.rescore_all(lattices)
    assert rescorer.rescore_all([]) == []
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.lattice.word, other.lattice.word) and one.beam == other.beam
        assert np.allclose(one.difference, other.difference, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_pruned_it_is_smaller_and_its_paths_cost_the_same(seed: int) -> None:
    lattice = random_lattice(seed, 10, 30)
    rescorer = NeuralRescorer(lstm(), TOKENS, WORDS, first=arrays(TEXT, 2), history=0)
    whole, pruned = rescorer(lattice, beam=1e9), rescorer(lattice, beam=4.0)
    assert len(pruned.lattice.source) < len(whole.lattice.source)
    costs = {entry.words: entry.cost for entry in whole.scaled().nbest(100_000)}
    entries = pruned.scaled().nbest(50)
    assert entries and all(entry.cost == pytest.approx(costs[entry.words], abs=2e-4) for entry in entries)
    assert pruned.scaled().best_path().cost == pytest.approx(min(costs.values()), abs=2e-4)


@pytest.mark.parametrize("beam", [0.0, 0.5])
def test_some_path_is_left_whatever_the_beam(beam: float) -> None:
    """Even where all nodes are of one frame, and words ahead have costs that the lattice does not show."""
    for seed in range(10):
        lattice = random_lattice(seed, 9, 20)
        flat = WordLattice(**{**vars(lattice), "frame": np.zeros(9, np.int32)})
        found = NeuralRescorer(lstm(), TOKENS, WORDS)(flat, lm_scale=3.0, beam=beam)
        assert math.isfinite(found.scaled(3.0).best_path().cost) and len(found.lattice.source)


def test_the_beam_narrows_until_the_arcs_fit() -> None:
    lattices = [random_lattice(2, 12, 40), random_lattice(3, 4, 2)]
    large, small = NeuralRescorer(lstm(), TOKENS, WORDS).rescore_all(lattices, beam=64.0, most=60)
    assert large.beam < 64.0 and 0 < len(large.lattice.source) <= 60 and large.lattice.best_path().words
    assert small.beam == 64.0


def test_scale_0_is_the_first_pass() -> None:
    lattice = random_lattice(1, 6, 8)
    found = NeuralRescorer(lstm(), TOKENS, WORDS, first=arrays(TEXT, 3))(lattice, beam=1e9).scaled(0.0)
    before, after = ({entry.words: entry.cost for entry in one.nbest(1000)} for one in (lattice, found))
    assert before.keys() == after.keys() and after == pytest.approx(before, abs=1e-4)


def chain(length: int, words: int = 3) -> WordLattice:
    """`words` arcs from each node to the next."""
    source = np.repeat(np.arange(length, dtype=np.int32), words)
    word = np.tile(np.arange(1, words + 1, dtype=np.int32), length)
    source, word = np.append(source, np.int32(length)), np.append(word, np.int32(0))
    costs = np.random.default_rng(0).uniform(0, 1, len(source)).astype(np.float32)
    return WordLattice(
        frame=np.arange(length + 2, dtype=np.int32), source=source, target=source + 1, word=word, graph=costs,
        acoustic=np.zeros_like(costs), start=source.copy(), offsets=np.zeros(len(source) + 1, np.int64),
        pdfs=np.zeros(0, np.int32),
    )  # fmt: skip


@pytest.mark.parametrize("model", [lstm(), transformer()], ids=["lstm", "transformer"])
def test_states_of_the_model_are_let_go_of(monkeypatch: pytest.MonkeyPatch, model: TextModel) -> None:
    """As many are held in a lattice of 80 words as in one of 10, and in eight lattices one by one as in one."""
    held: List[int] = []
    extend = Prefixes.extend

    def counted(self: Prefixes, *arguments):
        result = extend(self, *arguments)
        held.append(len(self))
        return result

    monkeypatch.setattr(Prefixes, "extend", counted)
    rescorer = NeuralRescorer(model, TOKENS, WORDS, history=3)
    most = []
    for lattices in ([chain(10)], [chain(80)], [chain(10)] * 8):
        held.clear()
        for lattice in lattices:
            rescorer(lattice, beam=1e9)
        most.append(max(held))
    # Nine histories of two words, and the rows that they begin with, as many at most; 80 words have 711 states.
    assert max(most) <= 9 + 9 and most[0] == most[2]


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"model": transformer(causal=False)}, "a transformer_lm that does not predict words from the left"),
        ({"tokens": Tokens.of_words([["a"]])}, "5 tokens, the model has 7"),
        ({"history": -1}, "history is -1"),
    ],
)
def test_what_cannot_rescore(changes: Dict, what: str) -> None:
    given = {"model": lstm(), "tokens": TOKENS, "words": WORDS, **changes}
    with pytest.raises(ConfigError, match=what):
        NeuralRescorer(**given)


@pytest.mark.parametrize(
    "words, first, what",
    [
        ({"<eps>": 0, "a": 1, "b": 2, "d": 4}, None, "the word 3 of the lattice is not in the table of words"),
        ({"<eps>": 0}, None, "the word [1-4] of the lattice is not in the table"),
        (WORDS, ["a b a", "b a"], "the first pass's language model lacks the word [cd] of the lattice"),
    ],
)
def test_lattices_of_other_words(words: Dict[str, int], first: Optional[List[str]], what: str) -> None:
    rescorer = NeuralRescorer(lstm(), TOKENS, words, first=arrays(first, 2) if first else None)
    with pytest.raises(DataError, match=what):
        rescorer(random_lattice(3, 6, 12))
