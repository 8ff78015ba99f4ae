"""G against the n-gram model itself: every path of a sentence is listed, and one costs what the model says."""

from __future__ import annotations

import itertools
import math

import kaldifst
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import GraphError
from hybrid.lm import arpa, ngram
from hybrid.lm.grammar import arpa_to_fst
from hybrid.lm.model import NgramModel

WORDS = {"<eps>": 0, "a": 1, "b": 2, "c": 3, "#0": 4, "<s>": 5, "</s>": 6}


def arcs_of(fst, state):
    it = kaldifst.ArcIterator(fst, state)
    while not it.done:
        yield it.value.ilabel, it.value.olabel, it.value.weight.value, it.value.nextstate
        it.next()


def path_costs(fst, ids):
    """The cost of every path that accepts the words; input #0 is free to pass."""

    def walk(state, rest, cost):
        if not rest and not math.isinf(fst.final(state).value):
            yield cost + fst.final(state).value
        for ilabel, olabel, weight, target in arcs_of(fst, state):
            if ilabel == WORDS["#0"]:
                assert olabel == 0
                yield from walk(target, rest, cost + weight)
            elif rest and ilabel == rest[0]:
                assert olabel == ilabel
                yield from walk(target, rest[1:], cost + weight)

    return list(walk(fst.start, list(ids), 0.0))


@st.composite
def models(draw):
    """Random n-grams in which each history is listed, as toolkits write them; suffixes may be missing."""
    order = draw(st.integers(1, 4))
    number = st.floats(-3.0, 0.0)
    probs = [{(w,): draw(number) for w in ("a", "b", "c", "</s>")}]
    if order > 1 or draw(st.booleans()):
        probs[0][("<s>",)] = -99.0
    for _ in range(order - 1):
        heads = [g for g in probs[-1] if g[-1] != "</s>"]
        pairs = [(*g, w) for g in heads for w in ("a", "b", "c", "</s>")]
        probs.append({g: draw(number) for g in draw(st.lists(st.sampled_from(pairs), max_size=8))} if pairs else {})
    backoffs = [{g: draw(st.floats(-2.0, 1.0)) for g in table if draw(st.booleans())} for table in probs[:-1]]
    return NgramModel(probs, backoffs)


sentences = [list(s) for n in range(4) for s in itertools.product("abc", repeat=n)]


@settings(max_examples=150, deadline=None)
@given(models())
def test_one_path_costs_what_the_model_says(model):
    fst = arpa_to_fst(model, WORDS)
    for sentence in sentences:
        costs = path_costs(fst, [WORDS[w] for w in sentence])
        wanted = -model.sentence_logprob(sentence)
        assert min(abs(cost - wanted) for cost in costs) < 1e-3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=5), min_size=1, max_size=6), st.integers(1, 3))
def test_trained_models(texts, order):
    model = ngram.train(texts, order, vocabulary="abc")
    fst = arpa_to_fst(model, WORDS)
    for sentence in texts:
        costs = path_costs(fst, [WORDS[w] for w in sentence])
        # Kneser-Ney's listed probability is never below its back-off, so the exact path is the best one.
        assert min(costs) == pytest.approx(-model.sentence_logprob(sentence), abs=1e-3)


def test_shape_of_a_bigram():
    model = NgramModel(
        [{("</s>",): -1.0, ("<s>",): -99.0, ("a",): -0.5, ("b",): -0.7}, {("<s>", "a"): -0.2, ("a", "</s>"): -0.3}],
        [{("<s>",): -0.4, ("a",): -0.6, ("b",): -0.1}],
    )
    fst = arpa_to_fst(model, WORDS)
    assert fst.num_states == 3  # no history, <s>, a; nothing follows b, so its back-off is on the arcs to the root
    ln10 = math.log(10)
    start = sorted(arcs_of(fst, fst.start))
    assert [(i, o) for i, o, _, _ in start] == [(1, 1), (4, 0)]
    assert [w for _, _, w, _ in start] == pytest.approx([0.2 * ln10, 0.4 * ln10], abs=1e-5)
    root = start[1][3]
    onto_b = next(item for item in arcs_of(fst, root) if item[0] == WORDS["b"])
    assert onto_b[2:] == (pytest.approx((0.7 + 0.1) * ln10), root)
    assert fst.final(start[0][3]).value == pytest.approx(0.3 * ln10)
    assert math.isinf(fst.final(fst.start).value)
    assert fst.is_ilabel_sorted


def test_words_outside_the_table_are_left_out_and_said(caplog):
    model = ngram.train(["a b zz", "yy a"], 2)
    fst = arpa_to_fst(model, WORDS)
    assert "2 words of the language model are not in the table of words: yy zz" in caplog.text
    labels = {i for s in range(fst.num_states) for i, _, _, _ in arcs_of(fst, s)}
    assert labels == {1, 2, 4}


def test_markers_in_the_wrong_place_are_left_out():
    model = NgramModel(
        [
            {("a",): -0.1, ("<s>",): -99.0, ("</s>",): -0.1},
            {("a", "<s>"): -0.1, ("</s>", "a"): -0.1, ("<s>", "</s>"): 0.0},
        ],
        [{}],
    )
    fst = arpa_to_fst(model, WORDS)
    assert {i for s in range(fst.num_states) for i, _, _, _ in arcs_of(fst, s)} == {1, 4}
    assert min(path_costs(fst, [])) == 0.0


@pytest.mark.parametrize(
    "model, words",
    [
        (NgramModel([{("zz",): -0.1, ("</s>",): -0.1}], []), WORDS),
        (NgramModel([{("a",): -0.1}], []), WORDS),
        (NgramModel([{("a",): -0.1, ("</s>",): -0.1}], []), {"<eps>": 0, "a": 1}),
    ],
)
def test_nothing_left(model, words):
    with pytest.raises(GraphError) as info:
        arpa_to_fst(model, words)
    assert info.value.remedy


def test_from_a_path_and_an4(shared_data):
    path = f"{shared_data}/an4/etc/an4.ug.lm"
    words = {"<eps>": 0, "A": 1, "ENTER": 2, "#0": 4}
    fst = arpa_to_fst(path, words)
    model = arpa.read(path)
    costs = path_costs(fst, [1, 2])
    assert min(costs) == pytest.approx(-model.sentence_logprob(["A", "ENTER"]), abs=1e-3)
    assert min(costs) == pytest.approx(3 * 2.0253 * math.log(10), abs=1e-3)
