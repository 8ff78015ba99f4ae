"""L with silence probabilities against products written out, and the graphs made of it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random

import kaldifst
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph import QUANTUM, SCALES, best_grammar, best_path, draw_states
from test_graph import make as make_graph_parts
from test_lang import best, strip

from hybrid.errors import DataError, ModelError
from hybrid.hmm import graph as graphs
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.silence import SilenceProbs, WordSilence

# Homophones, a word that begins others, two pronunciations, a word that is a noise and one that sounds as silence.
TABLE = {
    "A": [Pronunciation(("a",), 0.5), Pronunciation(("a", "x"), 1.0)],
    "AB": ["a b"],
    "B": ["b"],
    "HOM": ["a b"],
    "PAUSE": ["SIL"],
}
PROBS = SilenceProbs(
    start=0.8,
    end_silence=1.25,
    end_nonsilence=0.4,
    overall=0.3,
    words={
        "A": [WordSilence(0.1, 0.7, 1.2), WordSilence(0.6, 1.5, 0.9)],
        "AB": [WordSilence(0.25, 2.0, 0.5)],
        "PAUSE": [WordSilence(0.5, 0.3, 1.1)],
        "<UNK>": [WordSilence(0.9, 1.3, 0.8)],
    },
)


def make(probs=PROBS, **kinds):
    return Lang.create(Lexicon.from_dict(TABLE), spoken_noise="SPN", silence_probs=probs, **kinds)


def spellings(lang, names, probs):
    """Every (phones, cost) of a sentence: the product of the module's docstring, gap by gap."""
    rows = probs.rows(lang.lexicon)
    choices = [list(enumerate(lang.lexicon.pronunciations(name))) for name in names]
    for items in itertools.product(*choices):
        silences = [rows[name][number] for name, (number, _) in zip(names, items)]
        after = [probs.start, *(row.after for row in silences)]
        before = [(row.before_nonsilence, row.before_silence) for row in silences]
        before.append((probs.end_nonsilence, probs.end_silence))
        for pauses in itertools.product([0, 1], repeat=len(names) + 1):
            product = math.prod(item.prob for _, item in items)
            for pause, share, factors in zip(pauses, after, before, strict=True):
                product *= (share if pause else 1 - share) * factors[pause]
            phones = [lang.phones["SIL"]] * pauses[0]
            for (_, item), pause in zip(items, pauses[1:]):
                phones = phones + [lang.phones[p] for p in lang.position(item.phones)]
                phones += [lang.phones["SIL"]] * pause
            yield tuple(phones), -math.log(product)


@pytest.mark.parametrize("position_dependent", [False, True])
@pytest.mark.parametrize("text", ["", "A", "B A", "AB", "PAUSE A", "A PAUSE B", "<UNK> AB B"])
def test_every_cost_of_l(position_dependent, text):
    lang = make(position_dependent=position_dependent)
    names, ids = text.split(), lang.word_ids(text)
    wanted = {}
    for phones, cost in spellings(lang, names, PROBS):
        wanted[phones] = min(cost, wanted.get(phones, math.inf))
    others = {phones[:-1] for phones in wanted if phones} | {(*phones, 1) for phones in wanted}
    bare = strip(lang.L_disambig, set(lang.disambig_phones))
    for phones in others | set(wanted):
        cost = pytest.approx(wanted[phones], abs=1e-5) if phones in wanted else None
        assert best(lang.L, list(phones), ids) == cost
        assert best(bare, list(phones), ids) == cost
        assert best(lang.L_no_cost(), list(phones), ids) == (0.0 if phones in wanted else None)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 0.99), st.lists(st.sampled_from(sorted(TABLE)), max_size=3))
def test_equal_probabilities_are_the_one_probability(prob, names):
    plain, equal = make(None, silence_prob=prob), make(SilenceProbs.uniform(prob))
    ids = plain.word_ids(" ".join(names))
    spelled = list(spellings(plain, names, SilenceProbs.uniform(prob)))
    assert len(spelled) > 1
    for phones, cost in spelled:
        assert best(equal.L, list(phones), ids) == pytest.approx(best(plain.L, list(phones), ids), abs=1e-4)
        assert best(plain.L, list(phones), ids) <= cost + 1e-4


def test_back_off_symbol_passes_after_silence_and_after_words():
    lang = make()
    zero, no_silence, silence = lang.phones["#0"], lang.disambig_phones[-1], lang.phones["SIL"]
    ids = [lang.word_disambig, *lang.word_ids("B"), lang.word_disambig]
    spoken = best(lang.L_disambig, [no_silence, zero, lang.phones["b"], no_silence, zero], ids)
    assert spoken == pytest.approx(-math.log(0.2 * 0.7 * 0.4), abs=1e-5)
    silent = best(lang.L_disambig, [silence, zero, lang.phones["b"], silence, zero], ids)
    assert silent == pytest.approx(-math.log(0.8 * 0.3 * 1.25), abs=1e-5)


def test_determinizes():
    fst = kaldifst.StdVectorFst(make().L_disambig)
    assert not kaldifst.determinize_star(fst, max_states=10_000)


@pytest.mark.parametrize("width, kind", [(1, "bootstrap"), (2, "network"), (3, "network")])
@pytest.mark.parametrize("position_dependent", [False, True])
def test_every_cost_of_hclg(width, kind, position_dependent):
    plain, grammar, senones = make_graph_parts(width, kind, position_dependent=position_dependent)
    words = {"AB": PROBS.words["AB"], "B": [WordSilence(0.6, 1.5, 0.9), WordSilence(0.05, 0.2, 1.1)]}
    probs = dataclasses.replace(PROBS, words=words)
    lang = plain.with_probs(plain.lexicon, probs)
    hclg = graphs.make_hclg(lang, grammar, senones, **SCALES)
    training = graphs.TrainingGraphs(lang, senones, **SCALES)
    rng = random.Random(width)
    for names in [("A",), ("HOM",), ("A", "B"), ("AB", "HOM", "B")]:
        ids = lang.word_ids(" ".join(names))
        language = best_grammar(lang, grammar, ids)
        for phones, lexical in rng.sample(list(spellings(lang, names, probs)), 4):
            tids, transitions = draw_states(senones, list(phones), rng)
            assert best_path(hclg, tids, ids) == pytest.approx(language + lexical + transitions, abs=QUANTUM)
            assert best_path(training.compile(ids), tids, ids) == pytest.approx(lexical + transitions, abs=QUANTUM)


def test_save_load(tmp_path):
    PROBS.save(tmp_path / "silprobs.json")
    assert SilenceProbs.load(tmp_path / "silprobs.json") == PROBS
    with pytest.raises(DataError, match="no such file"):
        SilenceProbs.load(tmp_path / "other.json")


@pytest.mark.parametrize(
    "change",
    [{"start": 0.0}, {"start": 1.0}, {"overall": -0.1}, {"end_silence": 0.0}, {"end_nonsilence": math.inf}]
    + [{"words": {"A": [WordSilence(*row)]}} for row in [(1.0, 1, 1), (0.5, -1, 1), (0.5, 1, math.nan)]],
)
def test_impossible_numbers(change):
    values = {"start": 0.5, "end_silence": 1.0, "end_nonsilence": 1.0, "overall": 0.5}
    with pytest.raises(ModelError, match="silence at") as info:
        SilenceProbs(**{**values, **change})
    assert info.value.remedy


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"words": {}}', '{"words": {"A": [1]}}', '{"words": [], "start": 1}', "null"]
    + ['{"start": 2, "end_silence": 1, "end_nonsilence": 1, "overall": 0.5, "words": {}}'],
)
def test_broken_files(tmp_path, text):
    path = tmp_path / "silprobs.json"
    path.write_text(text)
    with pytest.raises(ModelError) as info:
        SilenceProbs.load(path)
    assert str(path) in str(info.value)


@pytest.mark.parametrize("words", [{"A": [WordSilence(0.5)]}, {"ZZ": [WordSilence(0.5)]}])
def test_probabilities_of_another_lexicon(words):
    with pytest.raises(ModelError, match="silence probabilities of 1 pronunciations"):
        make(SilenceProbs(0.5, 1.0, 1.0, 0.5, words))
