"""Graphs of n-grams composed with the lexicon in one walk, against Kaldi's recipe: the same sentences and costs."""

from __future__ import annotations

import itertools
import random
from typing import Any, Dict, List, Tuple

import hmm_tools
import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph import QUANTUM, best_path, random_path

from hybrid.errors import GraphError, ModelError
from hybrid.fst import ARC, FstArrays, from_arrays, to_arrays
from hybrid.hmm import composition, decoding_graph, expand, graph
from hybrid.hmm.phone_contexts import phone_contexts
from hybrid.hmm.senones import Senones
from hybrid.hmm.spellings import Spellings
from hybrid.hmm.topology import bootstrap_topology, network_topology
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.silence import SilenceProbs, WordSilence
from hybrid.lexicon.subword import Pieces, piece_lexicon, spell
from hybrid.lm import ngram
from hybrid.lm.grammar import arpa_to_fst

SCALES = {"transition_scale": 0.7, "self_loop_scale": 0.3}
WINDOWS = [(1, 0), (2, 1), (3, 1)]
NAMES = "ABCDEFGH"
PHONES = "abc"  # and z, of the trees of hmm_tools


def senones_of(lang: Lang, kind: str, width: int, central: int, seed: int) -> Senones:
    rng = np.random.default_rng(seed)
    topology = hmm_tools.topology(kind)
    names = {lang.phone_names[phone]: phone for phone in lang.phone_ids}
    senones = Senones(topology, hmm_tools.random_tree(rng, topology, width, central), {**names, "z": 5})
    senones.update_transitions(np.r_[0.0, rng.integers(5, 60, senones.num_tids)])
    return senones


def both(lang: Lang, grammar: Any, senones: Senones) -> Tuple[kaldifst.StdVectorFst, kaldifst.StdVectorFst]:
    """The graph of the walk and that of the recipe, over transition ids."""
    made = decoding_graph.graph_of_ngram(lang, grammar, senones, **SCALES)
    assert made is not None
    return from_arrays(made), graph.make_hclg(lang, grammar, senones, **SCALES)


def assert_same(one: kaldifst.StdVectorFst, other: kaldifst.StdVectorFst, seed: int, number: int = 25) -> int:
    """Paths of either have their best costs in both; the number of words on them."""
    rng, words = random.Random(seed), 0
    for fst in (one, other):
        for _ in range(number):
            tids, ids, cost = random_path(fst, rng, 60)
            if not np.isfinite(cost) or len(ids) > 6:
                continue
            words += len(ids)
            costs = [best_path(each, tids, ids) for each in (one, other)]
            assert None not in costs and costs[0] == pytest.approx(costs[1], abs=QUANTUM), ids
            wrong = [*ids, 1]
            assert (best_path(one, tids, wrong) is None) == (best_path(other, tids, wrong) is None)
    return words


@st.composite
def lexicons(draw: Any) -> Dict[str, List[Pronunciation]]:
    """Of few phones: words that sound alike, that begin others, that have several pronunciations."""
    spelled = st.lists(st.sampled_from(PHONES), min_size=1, max_size=4).map(tuple)
    words = draw(st.integers(1, len(NAMES)))
    return {
        name: [Pronunciation(phones, prob) for phones, prob in sorted(draw(
            st.dictionaries(spelled, st.sampled_from([1.0, 0.5, 0.2]), min_size=1, max_size=3)).items())]
        for name in NAMES[:words]
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), entries=lexicons(), window=st.sampled_from(WINDOWS), order=st.integers(1, 3),
    kind=st.sampled_from(["bootstrap", "network"]), silence=st.sampled_from([0.0, 0.2, 0.5]), merged=st.booleans(),
)  # fmt: skip
def test_costs_are_those_of_the_recipe(
    data: Any, entries: Dict[str, Any], window: Tuple[int, int], kind: str, order: int, silence: float, merged: bool
) -> None:
    used = {phone for items in entries.values() for item in items for phone in item.phones}
    entries = {**entries, "H": [Pronunciation((phone,), 1.0) for phone in PHONES if phone not in used]
               or [Pronunciation(("a",), 1.0)]}  # fmt: skip
    lang = Lang.create(Lexicon.from_dict(entries), silence_prob=silence)
    seed = data.draw(st.integers(0, 99))
    rng = random.Random(seed)
    text = [[rng.choice(sorted(entries)) for _ in range(rng.randint(1, 5))] for _ in range(6)]
    grammar = arpa_to_fst(ngram.train(text, order=order), lang.words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding_graph, "MERGED", 1_000_000 if merged else 0)
        assert_same(*both(lang, grammar, senones_of(lang, kind, *window, seed)), seed, 6)


def test_states_of_the_grammar_that_are_alike_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three histories from which nothing but the same word leads on."""
    lang = Lang.create(Lexicon.from_dict({"A": ["a"], "AB": ["a b"], "CAB": ["c a b"]}))
    arcs = [(0, state, name) for state, name in enumerate(("A", "AB", "CAB"), 1)]
    lines = [f"{source} {target} {lang.words[name]} {lang.words[name]} 0.5" for source, target, name in arcs]
    lines += [f"{state} 4 {lang.words['A']} {lang.words['A']} 0.25" for state in (1, 2, 3)]
    grammar = kaldifst.compile("\n".join([*lines, "4 0.1"]))
    kaldifst.arcsort(grammar, sort_type="ilabel")
    senones = senones_of(lang, "network", 2, 1, 1)
    sizes = []
    for most in (0, 1_000_000):
        monkeypatch.setattr(decoding_graph, "MERGED", most)
        made, recipe = both(lang, grammar, senones)
        assert assert_same(made, recipe, 2) > 20
        sizes.append(to_arrays(made).num_states)
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", ["bootstrap", "network"])
def test_silence_that_depends_on_words(window: Tuple[int, int], kind: str) -> None:
    lang, grammar = words()
    probs = SilenceProbs(0.7, 1.2, 0.6, 0.4, {"AB": [WordSilence(0.9, 1.1, 0.7)], "A": [WordSilence(0.05, 0.3, 1.4)]})
    assert assert_same(*both(lang.with_probs(lang.lexicon, probs), grammar, senones_of(lang, kind, *window, 3)), 1) > 20


@pytest.mark.parametrize("window", WINDOWS)
def test_pieces_of_words(window: Tuple[int, int]) -> None:
    sentences = ["AB BA CAB", "ABBA", "CAB ABC A", "A CABBA"]
    pieces = Pieces.train(sentences, 9)
    lang = Lang.create(piece_lexicon(pieces.names, lambda letters: [tuple(x.lower() for x in spell(letters))]),
                       pieces=pieces)  # fmt: skip
    written = [[lang.word_names[number] for number in lang.word_ids(text)] for text in sentences]
    grammar = arpa_to_fst(ngram.train(written, 2, vocabulary=lang.lexicon.words), lang.words)
    assert assert_same(*both(lang, grammar, senones_of(lang, "network", *window, 5)), 2) > 20


@pytest.mark.parametrize("position_dependent", [False, True])
def test_graphs_are_as_small_as_those_of_the_recipe(position_dependent: bool) -> None:
    """Many words, so that what the recipe shares between words shows."""
    rng = random.Random(4)
    entries = {"W" + "".join(name): [tuple(name)] for name in itertools.product(PHONES, repeat=4)}
    lang = Lang.create(Lexicon.from_dict(entries), position_dependent=position_dependent)
    text = [[rng.choice(list(entries)) for _ in range(6)] for _ in range(100)]
    grammar = arpa_to_fst(ngram.train(text, order=2), lang.words)
    names = {lang.phone_names[phone]: phone for phone in lang.phone_ids}
    for kind in ("bootstrap", "network"):
        phones = lang.phone_ids
        topology = bootstrap_topology(phones[1:], phones[:1]) if kind == "bootstrap" else network_topology(phones)
        senones = Senones.monophone(topology, names, lang.phone_groups())
        made, recipe = (to_arrays(fst) for fst in both(lang, grammar, senones))
        assert made.num_states <= 1.1 * recipe.num_states and len(made.arcs) <= 1.15 * len(recipe.arcs)


def words() -> Tuple[Lang, kaldifst.StdVectorFst]:
    entries = {"A": ["a"], "AB": ["a b"], "HOM": ["a b"], "CAB": ["c a b", "c b"], "B": ["b"]}
    lang = Lang.create(Lexicon.from_dict(entries))
    return lang, arpa_to_fst(ngram.train(["A AB CAB", "HOM B", "B CAB A A", "AB AB"], 2), lang.words)


def test_room_that_grows_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that hold one place more at a time, and a look at the clock after each."""
    lang, grammar = words()
    senones = senones_of(lang, "bootstrap", 3, 1, 7)
    usual = decoding_graph.graph_of_ngram(lang, grammar, senones, **SCALES)
    monkeypatch.setattr(composition, "_GROWTH", 1.0)
    monkeypatch.setattr(composition, "_AT_ONCE", 1)
    monkeypatch.setattr(composition, "_SPARE", 0)
    again = decoding_graph.graph_of_ngram(lang, grammar, senones, **SCALES)
    assert usual is not None and again is not None
    for name in ("start", "final", "offsets", "arcs"):
        assert np.array_equal(getattr(usual, name), getattr(again, name))


def test_progress_counts_states_of_the_grammar() -> None:
    rng = random.Random(0)
    entries = {"W" + "".join(name): [tuple(name)] for name in itertools.product(PHONES, repeat=7)}
    lang = Lang.create(Lexicon.from_dict(entries))
    names = list(entries)
    grammar = arpa_to_fst(ngram.train([rng.sample(names, 8) for _ in range(600)], 2), lang.words)
    shown: List[int] = []

    def bar(items: Any, total: int) -> Any:
        for item in items:
            shown.append(total)
            yield item

    decoding_graph.decoding_graph(lang, grammar, senones_of(lang, "network", 2, 1, 1), bar=bar)
    assert shown and set(shown) == {len(shown)}


def test_labels_are_pdfs() -> None:
    lang, grammar = words()
    senones = senones_of(lang, "bootstrap", 3, 1, 7)
    over_tids = decoding_graph.graph_of_ngram(lang, grammar, senones)
    over_pdfs = decoding_graph.decoding_graph(lang, grammar, senones)
    assert over_tids is not None
    tids = over_tids.arcs["ilabel"]
    assert np.array_equal(over_pdfs.arcs["ilabel"], np.where(tids == 0, 0, senones.tid2pdf[tids] + 1))
    assert np.array_equal(over_pdfs.arcs["nextstate"], over_tids.arcs["nextstate"])


def arc(ilabel: int, olabel: int, target: int, weight: float = 0.0) -> kaldifst.StdArc:
    return kaldifst.StdArc(ilabel, olabel, weight, target)


@pytest.mark.parametrize(
    "arcs",
    [
        [arc(1, 1, 1), arc(1, 1, 2)],  # one word, two ways
        [arc(0, 0, 1)],  # an epsilon
        [arc(1, 2, 1)],  # another word put out
        [arc(6, 0, 1), arc(6, 0, 2)],  # two back-offs
        [arc(6, 1, 1)],  # a back-off that says a word
    ],
)
def test_grammars_of_other_shapes_take_the_recipe(arcs: List[kaldifst.StdArc]) -> None:
    lang, _ = words()
    assert lang.word_disambig == 6
    senones = senones_of(lang, "network", 2, 1, 1)
    fst = kaldifst.StdVectorFst()
    for _ in range(3):
        fst.add_state()
    fst.start = 0
    for each in arcs:
        fst.add_arc(0, each)
    for state in (1, 2):
        fst.add_arc(state, arc(5, 5, 2))
    fst.set_final(2, 0.5)
    assert decoding_graph.graph_of_ngram(lang, fst, senones) is None
    if arcs[0].olabel == arcs[0].ilabel == 1:
        return  # nothing that the recipe determinizes
    made = decoding_graph.decoding_graph(lang, fst, senones, **SCALES)
    recipe = to_arrays(graph.make_hclg(lang, fst, senones, **SCALES))
    assert np.array_equal(made.arcs["olabel"], recipe.arcs["olabel"])


def test_back_offs_that_go_round_are_no_ngram() -> None:
    arrays = FstArrays(0, np.zeros(2, np.float32), np.array([0, 2, 3]), to_arrays(kaldifst.compile(
        "0 1 6 0\n0 1 1 1\n1 0 6 0\n1 0\n")).arcs)  # fmt: skip
    assert composition.BackOffGrammar.of(arrays, 6, 5) is None


def test_what_cannot_be_a_graph() -> None:
    lang, grammar = words()
    senones = senones_of(lang, "network", 2, 1, 1)
    other = Lang.create(Lexicon.from_dict({"A": ["a"], "Z": ["q"]}))
    with pytest.raises(ModelError, match="other phones"):
        decoding_graph.decoding_graph(other, grammar, senones)
    for odd in (kaldifst.make_linear_acceptor([77]), kaldifst.StdVectorFst()):
        with pytest.raises(GraphError, match="no sentence in common"):
            decoding_graph.decoding_graph(lang, odd, senones)
    endless = to_arrays(grammar)
    endless.final[:] = np.inf
    with pytest.raises(GraphError, match="no sentence in common"):
        decoding_graph.decoding_graph(lang, endless, senones)


@pytest.mark.parametrize("window", WINDOWS)
def test_contexts_against_the_tree(window: Tuple[int, int]) -> None:
    """Every sequence of phones that may be has the HMMs that the tree gives each of its windows."""
    width, central = window
    lang, _ = words()
    senones = senones_of(lang, "bootstrap", width, central, 11)
    follows = Spellings.of(lang).follows(lang.disambig_phones[0])
    contexts = phone_contexts(senones, follows)
    rng, states = random.Random(1), {p: e.states for e in senones.topology.entries for p in e.phones}
    ahead = width - 1 - central
    for _ in range(200):
        phones = [0]
        while len(phones) < 8 or not follows[phones[-1], 0]:
            phones.append(rng.choice(np.flatnonzero(follows[phones[-1], 1:]).tolist()) + 1)
        said, state, given = phones[1:], contexts.start, []
        for phone in [*said, *[0] * ahead]:
            given.append(int(contexts.hmm[state, phone]))
            state = contexts.next[state, phone]
        assert given[:ahead] == [0] * ahead
        padded = [0] * central + said + [0] * (width - 1 - central)
        for place, number in enumerate(given[ahead:]):
            phone, pdfs = contexts.hmms[number - 1]
            event = padded[place : place + width]
            assert phone == said[place]
            assert pdfs == tuple((senones.tree.pdf(event, s.forward_class), senones.tree.pdf(event, s.loop_class))
                                 for s in states[phone])  # fmt: skip


def test_states_with_few_arcs_are_copied_and_others_are_led_to() -> None:
    """Two HMMs before a state with two arcs: an epsilon each; before one with a single arc: the arc twice."""
    lang, _ = words()
    senones = senones_of(lang, "network", 1, 0, 1)
    hmms = decoding_graph.PhoneHmms(senones, 1.0, 0.5)
    contexts = phone_contexts(senones, Spellings.of(lang).follows(lang.disambig_phones[0]))
    tables = expand.HmmTables.of(hmms, contexts.hmms)
    for more, states, epsilons in ((1, 5, 2), (0, 4, 0)):
        rows = [(1, 0, 0.0, 1), (2, 0, 0.0, 1), (3, 1, 0.5, 2), *[(2, 2, 0.5, 2)] * more]
        arcs = np.array(rows, ARC)
        offsets, final = np.array([0, 2, 3 + more, 3 + more]), np.array([np.inf, np.inf, 0.25], np.float32)
        made = expand.expanded(FstArrays(0, final, offsets, arcs), tables)
        assert (made.arcs["ilabel"] == 0).sum() == epsilons
        assert made.num_states == states + more + 0
        assert made.num_final == 1 + more
