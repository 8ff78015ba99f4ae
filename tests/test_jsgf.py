"""Grammars: what JSGF says against a slow generator of its sentences, and what is refused."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Dict, List, Set, Tuple

import kaldifst
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.decode.grammar import read_grammar
from hybrid.errors import ConfigError, DataError, GraphError
from hybrid.lm import jsgf, rule_grammar
from hybrid.lm.jsgf import Alternatives, Expression, Grammar, Nothing, Repeat, Word, parse
from hybrid.lm.rule_grammar import grammar_fst, words_of

HEADER = "#JSGF V1.0 UTF-8 en;\ngrammar test;\n"
LETTERS = "abcdef"


def ids(word: Word) -> List[int]:
    return [1 + LETTERS.index(word.text)]


def sentences(fst: kaldifst.StdVectorFst, longest: int) -> Dict[str, float]:
    """The sentences of G up to a length, with the cost of each."""
    found: Dict[str, float] = {}
    stack: List[Tuple[int, str, float]] = [(fst.start, "", 0.0)]
    while stack:
        state, said, cost = stack.pop()
        final = fst.final(state).value
        if math.isfinite(final):
            found[said] = min(found.get(said, math.inf), cost + final)
        for arc in kaldifst.ArcIterator(fst, state):
            assert arc.ilabel == arc.olabel != 0
            if len(said) < longest:
                stack.append((arc.nextstate, said + LETTERS[arc.ilabel - 1], cost + arc.weight.value))
    return found


def said(text: str, longest: int = 4) -> Dict[str, float]:
    return sentences(grammar_fst(parse(HEADER + text), ids), longest)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("public <s> = a b | c ;", {"ab", "c"}),
        ("public <s> = a (b | c) [d];", {"ab", "ac", "abd", "acd"}),
        ("public <s> = [a] b*;", {"", "a", "b", "ab", "bb", "abb", "bbb", "abbb", "bbbb"}),
        ("public <s> = (a b)+;", {"ab", "abab"}),
        ("public <s> = a <x> <x>; <x> = b | <y>; <y> = c;", {"abb", "abc", "acb", "acc"}),
        ("public <s> = a; public <t> = b; <u> = c;", {"a", "b"}),
        ('public <s> = "a b" c {tag {no}} ;'.replace("{no}", "no"), {"abc"}),
        ("public <s> = a {x \\} y} b {z}{w};", {"ab"}),
        ("public <s> = a <NULL> b | c <VOID> | <NULL>;", {"ab", ""}),
        ("public <s> = <test.x> | <x>; <x> = a;", {"a"}),
        ("// a comment\n/** and\n * another */ public <s> = a /* within */ b; // end", {"ab"}),
        ("public <s> = /0.5/ a | /0/ b | /2/ c;", {"a", "c"}),
        ("public <s> = a <s> | b;", {"b", "ab", "aab", "aaab"}),
        ("public <s> = <x>; <x> = a [<y>]; <y> = b <x>;", {"a", "aba"}),
        ("public <s> = ((a)*)*;", {"", "a", "aa", "aaa", "aaaa"}),
        ("public <s> = <NULL>+ a;", {"a"}),
    ],
)
def test_what_can_be_said(text: str, expected: Set[str]) -> None:
    assert set(said(text)) == expected


def test_weights_are_shares() -> None:
    found = said("public <s> = /3/ a | /1/ b | c ;")  # a weight that is not given is 1
    assert found == pytest.approx({"a": -math.log(0.6), "b": -math.log(0.2), "c": -math.log(0.2)}, abs=1e-5)
    assert said("public <s> = a | b [c] | d*;", 1) == pytest.approx({"a": 0, "b": 0, "d": 0, "": 0}, abs=1e-6)


def expressions() -> st.SearchStrategy[Expression]:
    leaf = st.one_of(st.sampled_from(LETTERS[:3]).map(lambda text: Word(text, 1)), st.just(Nothing()))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: jsgf.Sequence(tuple(parts))),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: Alternatives(tuple(parts))),
            inner.map(lambda part: Repeat(part, 0, more=False)),
            st.tuples(inner, st.integers(0, 1)).map(lambda pair: Repeat(*pair)),
        ),
        max_leaves=6,
    )


def generated(part: Expression, longest: int) -> Set[str]:
    """The slow readable meaning of an expression."""
    if isinstance(part, Word):
        return {part.text}
    if isinstance(part, Alternatives):
        return set().union(*(generated(inner, longest) for inner in part.parts))
    if isinstance(part, jsgf.Sequence):
        rows = [generated(inner, longest) for inner in part.parts]
        return {text for row in itertools.product(*rows) if len(text := "".join(row)) <= longest}
    if isinstance(part, Repeat):
        once = generated(part.part, longest)
        found = once if part.least else once | {""}
        while part.more:
            more = found | {text for a, b in itertools.product(found, once) if len(text := a + b) <= longest}
            if more == found:
                break
            found = more
        return found
    return {""}


def spelled(part: Expression) -> str:
    """JSGF of an expression."""
    if isinstance(part, Word):
        return part.text
    if isinstance(part, Alternatives):
        return "(" + " | ".join(map(spelled, part.parts)) + ")"
    if isinstance(part, jsgf.Sequence):
        return "(" + " ".join(map(spelled, part.parts)) + ")"
    if isinstance(part, Repeat):
        return f"[{spelled(part.part)}]" if not part.more else f"({spelled(part.part)}){'*+'[part.least]}"
    return "<NULL>"


@settings(deadline=None, max_examples=100)
@given(expressions())
def test_any_expression_means_what_it_says(part: Expression) -> None:
    expected = {text for text in generated(part, 4) if len(text) <= 4}
    assert set(said(f"public <s> = {spelled(part)};")) == expected
    assert set(sentences(grammar_fst(Grammar({"s": part}, ("s",)), ids), 4)) == expected


NESTED = "(" * 60 + "a" + ")" * 60
DOUBLING = "public <s0> = <s1> <s1>; <s40> = a;" + " ".join(f"<s{n}> = <s{n + 1}> <s{n + 1}>;" for n in range(1, 40))
CHAIN = "public <s0> = <s1>; " + " ".join(f"<s{n}> = <s{n + 1}>;" for n in range(1, 400)) + " <s400> = a;"


@pytest.mark.parametrize(
    "text, kind, words",
    [
        ("public <s> = a", DataError, "line 3: the end of the file where the rule <s> wants ;"),
        ("public <s> = a;\nimport <other.rules>;", DataError, "line 4: an import of <other.rules>.*copy its rules"),
        ("public <s> = a | ;", DataError, "line 3: ; where a word should be.*<NULL>"),
        ("public <s> = (a;", DataError, r"line 3: ; where the \( of line 3 wants \)"),
        ("public <s> = a) b;", DataError, r"line 3: \) where the rule <s> wants ;"),
        ("public <s> = <other.x>;", DataError, "<other.x> is of another grammar"),
        ("public <s> = <>;", DataError, "a rule without a name"),
        ("public <s> = <x>;", DataError, "line 3: the rule <x> is not defined"),
        ("public <s> = a; <s> = b;", DataError, "the rule <s> is defined already"),
        ("<NULL> = a;", DataError, "<NULL> is defined already"),
        ("<s> = a;", DataError, "no public rule"),
        ("", DataError, "no public rule"),
        ("public <s> = /x/ a | b;", DataError, "line 3: the weight /x/"),
        ("public <s> = /-1/ a | b;", DataError, "the weight /-1/"),
        ("public <s> = /nan/ a | b;", DataError, "the weight /nan/"),
        ("public <s> = /inf/ a | b;", DataError, "the weight /inf/"),
        ("public <s> = /0/ a | /0/ b;", DataError, "weights are all 0"),
        ("public <s> = a {tag;", DataError, "line 3: a tag that does not end"),
        ('public <s> = "a b;', DataError, "line 3: a quoted word that does not end"),
        ("\n/* public <s> = a;", DataError, "line 4: a comment or a weight that does not end"),
        ("public <s = a;", DataError, "a rule's name that does not end"),
        ("s = a;", DataError, "line 3: s where a rule begins"),
        ("public <s> = <s> a | b;", DataError, "line 3: the rule <s> refers to itself before it has said a word"),
        ("public <s> = [a] <s> | b;", DataError, "<s> refers to itself before"),
        ("public <s> = <x> a; <x> = <y>; <y> = <x> b | c;", DataError, "<x> refers to itself before"),
        ("public <s> = a <s> b | c;", DataError, "<s> refers to itself within itself, where something follows"),
        ("public <s> = <VOID>;", DataError, "nothing can be said"),
        (f"public <s> = {NESTED};", DataError, "nested more than 50 deep"),
        (DOUBLING, DataError, "more than 1000 arcs|parts within parts"),
        (CHAIN, DataError, "parts within parts 200 deep"),
        ("public <s> = (/2/ a | /1/ a b)* (/5/ a | /1/ a b)* ;", GraphError, "cannot be determinized.*weights"),
    ],
)
def test_grammars_that_cannot_be(monkeypatch: pytest.MonkeyPatch, text: str, kind: type, words: str) -> None:
    monkeypatch.setattr(rule_grammar, "MAX_ARCS", 1000)
    with pytest.raises(kind, match=words) as error:
        said(text)
    assert error.value.remedy


def test_a_large_file_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsgf, "SIZE", 100)
    with pytest.raises(DataError, match="a grammar of 121 characters"):
        parse("#JSGF V1.0;" + " " * 110)


def test_grammars_from_files_texts_and_lists(tmp_path: Path) -> None:
    file = tmp_path / "g.gram"
    file.write_text("\ufeff#JSGF V1.0;\r\npublic <s> = a\r\n  | z;\r\n", encoding="utf-8")
    grammar = read_grammar(file)
    assert grammar.file == str(file) and words_of(grammar) == [Word("a", 2), Word("z", 3)]
    assert read_grammar(str(file)) == grammar == read_grammar(grammar)
    listed = tmp_path / "sentences.txt"
    listed.write_text("a b\n\n<s> c </s>\na b\n")
    assert words_of(read_grammar(listed)) == [Word("a", 1), Word("b", 1), Word("c", 3)]
    assert set(sentences(grammar_fst(read_grammar(listed), ids), 3)) == {"ab", "c"}
    assert set(sentences(grammar_fst(read_grammar(["a b", "c"]), ids), 3)) == {"ab", "c"}
    assert read_grammar("#JSGF V1.0;public <s> = a;").rules == {"s": Word("a", 1)}


@pytest.mark.parametrize(
    "source, kind, words",
    [
        ("nowhere.gram", DataError, "nowhere.gram"),
        ("a b\nc", DataError, "a text that is no JSGF"),
        ([], DataError, "without a sentence"),
        (["", " "], DataError, "without a sentence"),
        (["a", 3], ConfigError, "sentence 2 is a int"),
        (["a <s> b"], DataError, "holds <s> within it"),
        (5, ConfigError, "a grammar as int"),
        ("#JSGF V1.0", DataError, "a header that does not end"),
    ],
)
def test_sources_that_are_none(source: object, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words) as error:
        read_grammar(source)  # type: ignore[arg-type]
    assert error.value.remedy
