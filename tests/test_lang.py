"""Lang and L: symbol tables, and L against sums over pronunciations and silences written out."""

from __future__ import annotations

import itertools
import math
import pickle

import kaldifst
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.lexicon.fst import Entry, add_disambig
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.silence import SilenceProbs, WordSilence

TOY = {"A": ["a"], "AB": ["a b"], "B": ["b", "b a"], "HOM": ["a b"], "X": ["x y x"]}


def entries(*items):
    return [Entry(word, tuple(phones.split()), 1.0) for word, phones in items]


def test_disambiguation_worked_by_hand():
    got, largest = add_disambig(
        entries(("A", "a"), ("AB", "a b"), ("HOM", "a b"), ("ABC", "a b c"), ("X", "x y"), ("Y", "y"))
    )
    assert [item.phones for item in got] == [
        ("a", "#1"),  # begins the others
        ("a", "b", "#1"),  # twice, and begins ABC
        ("a", "b", "#2"),
        ("a", "b", "c"),
        ("x", "y"),
        ("y",),  # an end, not a beginning
    ]
    assert largest == 2


words = st.text("abc", min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.lists(words, min_size=1, max_size=12))
def test_disambiguated_pronunciations_are_prefix_free(prons):
    got, _ = add_disambig([Entry(f"w{i}", tuple(p), 1.0) for i, p in enumerate(prons)])
    phones = [item.phones for item in got]
    assert len(set(phones)) == len(phones)
    for one, two in itertools.permutations(phones, 2):
        assert one != two[: len(one)]
    assert [tuple(p for p in item if p[0] != "#") for item in phones] == [tuple(p) for p in prons]


def test_symbols():
    lang = Lang.create(Lexicon.from_dict(TOY))
    assert lang.phones == {"<eps>": 0, "SIL": 1, "a": 2, "b": 3, "x": 4, "y": 5, "#0": 6, "#1": 7, "#2": 8, "#3": 9}
    assert list(lang.words) == ["<eps>", "A", "AB", "B", "HOM", "X", "#0", "<s>", "</s>"]
    assert list(lang.words.values()) == list(range(9))
    assert lang.disambig_phones == [6, 7, 8, 9]
    assert lang.word_disambig == 6
    assert lang.phone_ids == [1, 2, 3, 4, 5]
    assert lang.silence_ids == [1]
    assert lang.phone_groups() == [[1], [2], [3], [4], [5]]
    assert lang.nonsilence_phones == ["a", "b", "x", "y"]
    assert lang.pronunciation_ids("B") == [[3], [3, 2]]


def test_positions():
    lang = Lang.create(Lexicon.from_dict(TOY), position_dependent=True, spoken_noise="SPN")
    assert lang.silence_phones == ["SIL", "SPN"]
    assert lang.optional_silence == "SIL"
    assert lang.oov == "<UNK>"
    assert list(lang.phones)[:7] == ["<eps>", "SIL", "SPN", "a_B", "a_E", "a_I", "a_S"]
    assert lang.phone_groups()[:3] == [[1], [2], [3, 4, 5, 6]]
    named = [[lang.phone_names[p] for p in ids] for ids in lang.pronunciation_ids("X") + lang.pronunciation_ids("A")]
    assert named == [["x_B", "y_I", "x_E"], ["a_S"]]
    assert lang.pronunciation_ids("<UNK>") == [[2]]
    assert {lang.base_phone(p) for p in lang.phone_groups()[2]} == {"a"}
    assert lang.base_phone(1) == "SIL"


def best(fst, phones, word_ids):
    """The cost of the best path of L for these phones and words, by OpenFst; None if there is none."""
    left = kaldifst.StdVectorFst(kaldifst.compose(kaldifst.make_linear_acceptor(phones), fst))
    kaldifst.arcsort(left, sort_type="olabel")
    both = kaldifst.compose(left, kaldifst.make_linear_acceptor(word_ids))
    if both.num_states == 0:
        return None
    ok, _, _, weight = kaldifst.get_linear_symbol_sequence(kaldifst.shortest_path(both))
    assert ok
    return weight.value


def spellings(lang, text):
    """Every (phone ids, cost) of a sentence: pronunciations and silences written out."""
    names = text.split()
    prob = lang.silence_prob
    costs = {False: -math.log(1 - prob), True: -math.log(prob) if prob else math.inf}
    for items in itertools.product(*(lang.lexicon.pronunciations(name) for name in names)):
        for pauses in itertools.product([False, True] if prob else [False], repeat=len(names) + 1):
            phones, cost = [lang.phones["SIL"]] * pauses[0], costs[pauses[0]]
            for item, pause in zip(items, pauses[1:], strict=True):
                phones = phones + [lang.phones[p] for p in lang.position(item.phones)]
                phones += [lang.phones["SIL"]] * pause
                cost += costs[pause] - math.log(item.prob)
            yield tuple(phones), cost


PROBS = {"A": [Pronunciation(("a",), 0.5), Pronunciation(("a", "x"), 1.0)], "B": ["b"], "AB": ["a b"]}


@pytest.mark.parametrize("position_dependent", [False, True])
@pytest.mark.parametrize("silence_prob", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("text", ["", "A", "A B", "AB", "B A B"])
def test_l_is_the_lexicon(position_dependent, silence_prob, text):
    lang = Lang.create(
        Lexicon.from_dict(PROBS), position_dependent=position_dependent, silence_prob=silence_prob
    )
    ids = lang.word_ids(text)
    wanted = {}
    for phones, cost in spellings(lang, text):
        wanted[phones] = min(cost, wanted.get(phones, math.inf))
    universe = set(wanted)
    universe |= {phones[:-1] for phones in wanted if phones} | {(*phones, 1) for phones in wanted}
    for phones in universe:
        got = best(lang.L, list(phones), ids)
        assert got == (pytest.approx(wanted[phones], abs=1e-5) if phones in wanted else None)
        free = best(lang.L_no_cost(), list(phones), ids)
        assert free == (0.0 if phones in wanted else None)


def strip(fst, disambig):
    """The same graph with disambiguation symbols as epsilons."""
    copy = kaldifst.StdVectorFst()
    for _ in range(fst.num_states):
        copy.add_state()
    copy.start = fst.start
    for state in range(fst.num_states):
        copy.set_final(state, fst.final(state))
        arcs = kaldifst.ArcIterator(fst, state)
        while not arcs.done:
            arc = arcs.value
            label = 0 if arc.ilabel in disambig else arc.ilabel
            copy.add_arc(state, kaldifst.StdArc(label, arc.olabel, arc.weight, arc.nextstate))
            arcs.next()
    kaldifst.arcsort(copy, sort_type="olabel")
    return copy


@pytest.mark.parametrize("text", ["A B", "HOM", "AB X"])
def test_l_disambig_is_l_once_its_symbols_are_gone(text):
    lang = Lang.create(Lexicon.from_dict(TOY))
    bare = strip(lang.L_disambig, set(lang.disambig_phones))
    spelled = list(spellings(lang, text))
    assert len(spelled) > 1
    for phones, cost in spelled:
        assert best(bare, list(phones), lang.word_ids(text)) == pytest.approx(cost, abs=1e-5)


def test_l_disambig_determinizes_and_l_does_not():
    lang = Lang.create(Lexicon.from_dict(TOY))
    fst = kaldifst.StdVectorFst(lang.L_disambig)
    assert not kaldifst.determinize_star(fst, max_states=10_000)
    # In L, `a b` is AB, HOM, and A B: the number of open readings grows with the input.
    fst = kaldifst.StdVectorFst(lang.L)
    try:
        assert kaldifst.determinize_star(fst, max_states=10_000)
    except RuntimeError:
        pass


def test_back_off_symbol_passes_through_l():
    lang = Lang.create(Lexicon.from_dict(TOY))
    zero = lang.phones["#0"]
    end = lang.phones["#1"]
    got = best(lang.L_disambig, [zero, lang.phones["a"], end, zero], [6, lang.words["A"], 6])
    assert got == pytest.approx(2 * math.log(2))
    assert best(lang.L, [zero], [6]) is None


def test_word_ids():
    lang = Lang.create(Lexicon.from_dict(TOY))
    assert lang.word_ids("<s> A  X </s>") == [1, 5]
    assert lang.text([1, 5]) == "A X"
    with pytest.raises(DataError, match="the word ZZ is not in the lexicon") as info:
        lang.word_ids("A ZZ", utterance="u-7")
    assert info.value.utterance == "u-7"
    with pytest.raises(DataError):
        lang.word_ids("#0")
    lang = Lang.create(Lexicon.from_dict(TOY), oov="HOM")
    assert lang.text(lang.word_ids("A ZZ")) == "A HOM"


@pytest.mark.parametrize(
    "settings_, error",
    [
        ({"silence_prob": 1.0}, ConfigError),
        ({"silence_prob": -0.1}, ConfigError),
        ({"oov": "ZZ"}, ConfigError),
        ({"spoken_noise": "SIL"}, ConfigError),
        ({"silence": "#1"}, ConfigError),
        ({"silence": "<eps>"}, ConfigError),
        ({"silence": ""}, ConfigError),
        ({"silence": "S IL"}, ConfigError),
        ({"spoken_noise": "#0"}, ConfigError),
        ({"silence": "SIL_B", "position_dependent": True}, ConfigError),
    ],
)
def test_bad_settings(settings_, error):
    with pytest.raises(error) as info:
        Lang.create(Lexicon.from_dict(TOY), **settings_)
    assert info.value.remedy


def test_a_phone_of_words_as_silence_is_noticed(caplog):
    table = {"A": ["AH"], "B": ["B IY", "AH"], "--": ["SIL"], "!SIL": ["SIL"], "<n>": ["SPN"]}
    lexicon = Lexicon.from_dict(table)
    lang = Lang.create(lexicon, silence="AH")
    assert lang.notices == [
        "AH is the phone of silence or noise, and also in 2 words, as A, B: what is learnt of it is of both"
    ]
    assert "AH is the phone of silence" in caplog.text
    assert Lang.create(lexicon, spoken_noise="SPN").notices == []


@pytest.mark.parametrize("table", [{"A": ["a_B"]}, {"A": ["SIL"]}])
def test_bad_phones(table):
    with pytest.raises(DataError):
        Lang.create(Lexicon.from_dict(table), position_dependent=True)


def test_save_load_pickle(tmp_path):
    lang = Lang.create(
        Lexicon.from_dict(PROBS), position_dependent=True, spoken_noise="SPN", oov="oh", silence_prob=0.25
    )
    lang.save(tmp_path)
    for again in (Lang.load(tmp_path), pickle.loads(pickle.dumps(lang))):
        assert (again.phones, again.words, again.lexicon) == (lang.phones, lang.words, lang.lexicon)
        assert (again.oov, again.silence_prob, again.silence_phones) == ("oh", 0.25, ["SIL", "SPN"])
        assert again.L_disambig.to_str() == lang.L_disambig.to_str()


@pytest.mark.parametrize("name", ["phones.txt", "words.txt", "lexicon.txt", "config.json"])
@pytest.mark.parametrize("content", [None, b"", b"odd\n", b"\xff\xfe", b'{"format": 1}', b"{}"])
def test_broken_folders(tmp_path, name, content):
    lang = Lang.create(Lexicon.from_dict(TOY))
    lang.save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, ModelError)) as info:
        Lang.load(tmp_path)
    assert name in str(info.value) or name == "lexicon.txt"


def test_tables_of_another_lexicon(tmp_path):
    Lang.create(Lexicon.from_dict(TOY)).save(tmp_path)
    Lexicon.from_dict({"A": ["a"]}).save(tmp_path / "lexicon.txt")
    with pytest.raises(ModelError, match="does not belong to the lexicon"):
        Lang.load(tmp_path)


def test_a_table_of_too_few_disambiguation_symbols(tmp_path):
    """Found where they are used: they are not counted again each time that a lang is loaded."""
    Lang.create(Lexicon.from_dict(TOY)).save(tmp_path)
    table = (tmp_path / "phones.txt").read_text()
    (tmp_path / "phones.txt").write_text("".join(table.splitlines(keepends=True)[:-1]))
    lang = Lang.load(tmp_path)
    assert lang.L.to_str() == Lang.create(Lexicon.from_dict(TOY)).L.to_str()
    with pytest.raises(ModelError, match="needs 4 disambiguation symbols, and its table of phones has 3"):
        lang.L_disambig  # noqa: B018


def test_an4(shared_data):
    lang = Lang.create(Lexicon.from_file(shared_data / "an4/etc/an4.dic"))
    assert len(lang.nonsilence_phones) == 33
    fst = kaldifst.StdVectorFst(lang.L_disambig)
    assert not kaldifst.determinize_star(fst, max_states=100_000)


def learnt():
    """Probabilities as if learnt with the lexicon PROBS."""
    lexicon = Lexicon.from_dict({**PROBS, "A": [Pronunciation(("a",)), Pronunciation(("a", "x"), 0.125)]})
    rows = {"A": [WordSilence(0.5, 0.75, 1.5), WordSilence(0.125)], "B": [WordSilence(0.9)]}
    return lexicon, SilenceProbs(0.75, 1.25, 0.5, 0.25, rows)


@pytest.mark.parametrize("position_dependent", [False, True])
def test_other_probabilities_with_the_same_ids(tmp_path, position_dependent):
    before = Lang.create(Lexicon.from_dict(PROBS), position_dependent=position_dependent)
    lang = before.with_probs(*learnt())
    assert (lang.phones, lang.words, lang.disambig_phones) == (before.phones, before.words, before.disambig_phones)
    assert (lang.lexicon, lang.silence_probs) == learnt()
    assert lang.L_no_cost().to_str() == before.L_no_cost().to_str()
    lang.save(tmp_path)
    for again in (Lang.load(tmp_path), pickle.loads(pickle.dumps(lang))):
        assert (again.lexicon, again.silence_probs) == learnt()
        assert again.L_disambig.to_str() == lang.L_disambig.to_str()
    without = lang.with_probs(before.lexicon)
    assert without.L.to_str() == before.L.to_str()
    without.save(tmp_path)
    assert Lang.load(tmp_path).silence_probs is None


def test_other_probabilities_keep_the_settings():
    before = Lang.create(Lexicon.from_dict(PROBS), spoken_noise="SPN", oov="oh", silence_prob=0.25)
    lang = before.with_probs(before.lexicon, SilenceProbs.uniform(0.5))
    assert (lang.oov, lang.silence_prob, lang.silence_phones) == ("oh", 0.25, ["SIL", "SPN"])


@pytest.mark.parametrize(
    "table",
    [
        {**PROBS, "NEW": ["b"]},
        {"A": PROBS["A"], "B": ["b"]},
        {**PROBS, "B": ["a"]},
        {**PROBS, "A": PROBS["A"][::-1]},  # the order is part of the ids of pronunciations
    ],
)
def test_probabilities_of_other_pronunciations(table):
    with pytest.raises(ModelError, match="are not those that the ids are made of") as info:
        Lang.create(Lexicon.from_dict(PROBS)).with_probs(Lexicon.from_dict(table))
    assert info.value.remedy


def test_silence_probabilities_without_silence():
    with pytest.raises(ConfigError, match="no silence at all"):
        Lang.create(Lexicon.from_dict(TOY), silence_prob=0.0, silence_probs=SilenceProbs.uniform(0.5))


@pytest.mark.parametrize("content", [None, "{}", '{"words": {"ZZ": [[0.5, 1, 1]]}, "start": 0.5}'])
def test_broken_silence_probabilities(tmp_path, content):
    Lang.create(Lexicon.from_dict(PROBS)).with_probs(*learnt()).save(tmp_path)
    (tmp_path / "silprobs.json").unlink()
    if content is not None:
        (tmp_path / "silprobs.json").write_text(content)
    with pytest.raises((DataError, ModelError), match="silprobs.json"):
        Lang.load(tmp_path)


def test_some_words_with_their_probabilities():
    lang = Lang.create(Lexicon.from_dict(PROBS), oov="oh", spoken_noise="SPN").with_probs(
        Lexicon.from_dict({**PROBS, "oh": ["SPN"]}), learnt()[1]
    )
    part = lang.of_words(["B", "unheard of"])
    assert set(part.words) == {"<eps>", "#0", "<s>", "</s>", "B", "oh"}
    assert all(lang.words[name] == number for name, number in part.words.items())
    rows = zip(lang.entries, lang.entry_silences, strict=True)
    assert list(zip(part.entries, part.entry_silences, strict=True)) == [
        (entry, silences) for entry, silences in rows if entry.word in ("B", "oh")
    ]
