"""Probabilities of pronunciations and silences: by hand, against a second implementation, and what they promise."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.prons import PronCounts, learn
from hybrid.lexicon.segment import word_segments
from hybrid.lexicon.silence import WordSilence

TABLE = {
    "A": ["ah", "ey", "ah ey"],
    "B": ["b", "b b"],
    "C": ["k"],
    "NEVER": [Pronunciation(("n",), 0.25), Pronunciation(("m",), 1.0)],
}
SPOKEN = {("A", 0): "ah", ("A", 1): "ey", ("A", 2): "ah ey", ("B", 0): "b", ("B", 1): "b b", ("C", 0): "k"}


def make():
    return Lang.create(Lexicon.from_dict(TABLE))


def count(lang, utterances):
    """Utterances as lists of (word, pronunciation) and SIL."""
    counts = PronCounts()
    for items in utterances:
        phones = " ".join("SIL" if item == "SIL" else SPOKEN[item] for item in items).split()
        ids = np.array([lang.phones[p] for p in phones], dtype=np.int32)
        words = [lang.words[item[0]] for item in items if item != "SIL"]
        segments = word_segments(ids, np.ones(len(ids), int), words, lang)
        assert [s.pronunciation for s in segments] == [item[1] for item in items if item != "SIL"]
        counts.add(segments, ids, lang)
    return counts


A0, A1, B0, C0 = ("A", 0), ("A", 1), ("B", 0), ("C", 0)
BY_HAND = [["SIL", A0, "SIL", C0, "SIL"], ["SIL", A0, C0, "SIL"], ["SIL", A1, C0], [C0, "SIL"]]


def test_by_hand():
    lang = make()
    lexicon, probs = learn(count(lang, BY_HAND), lang)
    # A: 2, 1 and 0 times, one more for each, over the largest; NEVER as it was.
    assert [item.prob for item in lexicon.pronunciations("A")] == pytest.approx([1.0, 2 / 3, 1 / 3])
    assert lexicon.pronunciations("NEVER") == lang.lexicon.pronunciations("NEVER")
    assert [item.prob for item in lexicon.pronunciations("B")] == [1.0, 1.0]
    # 7 of 11 gaps are silent: 3 after <s>, 1 after A, 3 after C.
    overall = 7 / 11
    assert probs.overall == pytest.approx(overall)
    assert probs.start == pytest.approx((3 + 2 * overall) / (4 + 2))
    after_a = [(1 + 2 * overall) / (2 + 2), 2 * overall / (1 + 2), overall]
    assert [row.after for row in probs.words["A"]] == pytest.approx(after_a)
    # Before C: <s> once, A as `ah` twice, A as `ey` once; silence once.
    expected = probs.start + 2 * after_a[0] + after_a[1]
    row = probs.words["C"][0]
    assert row.before_silence == pytest.approx((1 + 2) / (expected + 2))
    assert row.before_nonsilence == pytest.approx((3 + 2) / (4 - expected + 2))
    # Before </s>: C four times, three of them silent.
    assert row.after == pytest.approx((3 + 2 * overall) / (4 + 2))
    assert probs.end_silence == pytest.approx((3 + 2) / (4 * row.after + 2))
    assert probs.end_nonsilence == pytest.approx((1 + 2) / (4 - 4 * row.after + 2))
    # A pronunciation never seen, of a word that was: no correction.
    assert probs.words["A"][2] == pytest.approx(WordSilence(overall, 1.0, 1.0))
    assert set(probs.words) == {"A", "C"}


def test_the_result_fits_its_lang():
    lang = make()
    new = lang.with_probs(*learn(count(lang, BY_HAND), lang))
    assert new.phones == lang.phones
    assert new.L.num_states > 0


def second_implementation(utterances, lang):
    """As Kaldi's get_prons.sh and dict_dir_add_pronprobs.sh do it: four counts a word, over sentences of tokens."""
    sil_before, none_before, sil_after, none_after = (Counter() for _ in range(4))
    neighbours = Counter()
    for items in utterances:
        tokens = ["<s>", *items, "</s>"]
        for one, two in zip(tokens, tokens[1:]):
            if one != "SIL":
                (sil_after if two == "SIL" else none_after)[one] += 1
            if two != "SIL":
                (sil_before if one == "SIL" else none_before)[two] += 1
        spoken = [token for token in tokens if token != "SIL"]
        neighbours.update(zip(spoken, spoken[1:]))
    share = sil_before.total() / (sil_before.total() + none_before.total())
    share = min(max(share, 0.01), 0.99)

    def after(token):
        one, other = sil_after[token] + 2 * share, none_after[token] + 2 * (1 - share)
        return min(max(one / (one + other), 0.01), 0.99)

    bar_s, bar_n = defaultdict(float), defaultdict(float)
    for (one, two), number in neighbours.items():
        bar_s[two] += number * after(one)
        bar_n[two] += number * (1 - after(one))

    def row(token):
        f_s = (sil_before[token] + 2) / (bar_s[token] + 2)
        f_n = (none_before[token] + 2) / (bar_n[token] + 2)
        return after(token), max(f_s, 0.01), max(f_n, 0.01)

    prons = {}
    for word in TABLE:
        counts = [sil_before[word, k] + none_before[word, k] + 1 for k in range(len(TABLE[word]))]
        shares = [c / sum(counts) for c in counts]
        prons[word] = [s / max(shares) for s in shares]
    return share, row, prons


sentences = st.lists(
    st.lists(st.tuples(st.sampled_from(sorted(SPOKEN)), st.booleans()), min_size=1, max_size=5), min_size=1, max_size=12
)


def with_silences(pairs, first):
    return ["SIL"] * first + [token for item, pause in pairs for token in [item] + ["SIL"] * pause]


def unambiguous(lang, items):
    """Some drawn readings are beaten by another of the same phones: those are left out."""
    try:
        count(lang, [items])
        return True
    except AssertionError:
        return False


@settings(max_examples=150, deadline=None)
@given(sentences, st.lists(st.booleans(), min_size=12, max_size=12), st.randoms())
def test_second_implementation(drawn, firsts, rng):
    lang = make()
    utterances = [with_silences(pairs, first) for pairs, first in zip(drawn, firsts)]
    utterances = [items for items in utterances if unambiguous(lang, items)] or [[C0]]
    lexicon, probs = learn(count(lang, utterances), lang)
    overall, row, prons = second_implementation(utterances, lang)
    assert probs.overall == pytest.approx(overall)
    assert probs.start == pytest.approx(row("<s>")[0])
    assert (probs.end_silence, probs.end_nonsilence) == pytest.approx(row("</s>")[1:])
    for word, found in probs.words.items():
        for number, item in enumerate(found):
            assert item == pytest.approx(row((word, number)))
    for word in set(TABLE) - {"NEVER"}:
        assert [item.prob for item in lexicon.pronunciations(word)] == pytest.approx(prons[word])
    # Counted in parts and in another order: the very same.
    rng.shuffle(utterances)
    half = len(utterances) // 2
    parts = count(lang, utterances[:half]) + count(lang, utterances[half:])
    assert parts == count(lang, utterances)
    assert learn(parts, lang) == (lexicon, probs)


def test_corrections_give_back_the_silences_counted():
    """With hardly any smoothing, the model's silences before each word, summed over its neighbours, are the data's."""
    lang, rng = make(), random.Random(0)
    tokens = [A0, A1, B0, C0]
    utterances = [
        with_silences([(token, rng.random() < 0.2 + 0.2 * k) for k, token in enumerate(rng.sample(tokens, 4))], True)
        for _ in range(200)
    ] + [[token] for token in tokens]
    counts = count(lang, utterances)
    probs = learn(counts, lang, correction_smoothing=1e-9).silence_probs
    names = lang.word_names
    model, model_none, data, total = (Counter() for _ in range(4))
    for pair, number in counts.pairs.items():
        (one, k), (two, j) = pair
        after = probs.start if names[one] == "<s>" else probs.words[names[one]][k].after
        ends = WordSilence(0.5, probs.end_silence, probs.end_nonsilence)
        before = ends if names[two] == "</s>" else probs.words[names[two]][j]
        model[two, j] += number * after * before.before_silence
        model_none[two, j] += number * (1 - after) * before.before_nonsilence
        data[two, j] += counts.silences[pair]
        total[two, j] += number
    assert len(total) == 5
    for spoken in total:
        assert model[spoken] == pytest.approx(data[spoken], rel=1e-6)
        assert model[spoken] + model_none[spoken] == pytest.approx(total[spoken], rel=1e-6)


def test_found_again_from_samples():
    """Pronunciations and silences drawn with known probabilities."""
    lang, rng = make(), random.Random(1)
    pause = {"<s>": 0.9, "A": 0.1, "B": 0.5, "C": 0.7}
    utterances = []
    for _ in range(3000):
        items = ["SIL"] * (rng.random() < pause["<s>"])
        for word in rng.choices("ABC", k=4):
            items.append({"A": A0 if rng.random() < 0.8 else A1, "B": B0, "C": C0}[word])
            items += ["SIL"] * (rng.random() < pause[word])
        utterances.append(items)
    lexicon, probs = learn(count(lang, [u for u in utterances if unambiguous(lang, u)]), lang)
    assert probs.start == pytest.approx(0.9, abs=0.03)
    assert [probs.words[w][0].after for w in "ABC"] == pytest.approx([0.1, 0.5, 0.7], abs=0.05)
    assert lexicon.pronunciations("A")[1].prob == pytest.approx(0.25, abs=0.03)


def test_silence_always_and_never():
    lang = make()
    for items, wanted in [(["SIL", C0, "SIL"], 0.99), ([C0], 0.01)]:
        probs = learn(count(lang, [items] * 1000), lang).silence_probs
        assert probs.overall == probs.start == probs.words["C"][0].after == wanted
    assert learn(count(lang, [[], ["SIL"]]), lang).silence_probs.overall == 0.5


@pytest.mark.parametrize("smoothing", ["pron_smoothing", "silence_smoothing", "correction_smoothing"])
def test_no_smoothing(smoothing):
    lang = make()
    with pytest.raises(ConfigError, match="not above 0") as info:
        learn(count(lang, BY_HAND), lang, **{smoothing: 0.0})
    assert info.value.remedy


def test_nothing_counted():
    with pytest.raises(DataError, match="no utterance was counted") as info:
        learn(PronCounts(), make())
    assert info.value.remedy


def test_counts_of_another_lexicon():
    counts = count(make(), BY_HAND)
    with pytest.raises(ModelError, match="counts of pronunciation") as info:
        learn(counts, Lang.create(Lexicon.from_dict({"A": ["ah"], "C": ["k"]})))
    assert info.value.remedy


def test_pieces():
    pieces = SimpleNamespace(names=["\u2581A", "B"])
    lang = Lang.create(Lexicon.from_dict({"\u2581A": ["a"], "B": ["b"]}), pieces=pieces)
    with pytest.raises(ConfigError, match="pieces of words") as info:
        learn(PronCounts(), lang)
    assert info.value.remedy
