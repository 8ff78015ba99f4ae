"""Words, phrases and grammars of a recogniser that runs, and what is refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, List

import pytest
from lhotse import CutSet

from hybrid.decode.load import load
from hybrid.decode.phrases import WEIGHT, checked, read_phrases
from hybrid.decode.recogniser import Recogniser
from hybrid.errors import ConfigError, DataError
from hybrid.fst import write_fst
from hybrid.lexicon.lang import Lang
from hybrid.lm import ngram
from hybrid.lm.grammar import arpa_to_fst


@pytest.fixture
def asr(small_copy: Path) -> Recogniser:
    """Of a run that has its G beside its graph."""
    lang = Lang.load(small_copy / "lang")
    model = ngram.train([["AB", "BA"], ["ACE"], ["CAB", "AB"], ["BA"]], order=2)
    write_fst(small_copy / "lm" / "G.fst", arpa_to_fst(model, lang.words))
    return load(small_copy, "lfmmi")


def test_a_likely_phrase_is_found_in_its_request_alone(asr: Recogniser, small_cuts: CutSet) -> None:
    before = {cut.id: asr(cut) for cut in small_cuts}
    phrase = "ACE CAB ACE"
    boosted = asr.context({phrase: 20.0})
    found = {cut.id: boosted(cut) for cut in small_cuts}
    assert all(phrase in result.text for result in found.values())
    assert not any(phrase in result.text for result in before.values())
    assert all(word.end is not None for result in found.values() for word in result.words)
    first = next(iter(small_cuts))
    assert asr(first, phrases={phrase.lower(): 20.0}) == found[first.id]  # as the lexicon writes it
    assert {cut.id: asr(cut) for cut in small_cuts} == before
    assert boosted.many(small_cuts).keys() == before.keys()
    both = boosted.context({"AB AB": 50.0})  # beside those that it has
    assert "AB AB" in both(first).text
    assert both._wording.phrases == (*checked({phrase: 20.0}), *checked({"AB AB": 50.0}))
    # a phrase whose words are never said together costs nothing
    partial = asr.context({"ACE ACE ACE ACE ACE ACE ACE ACE ACE": 0.5})
    assert {cut.id: partial(cut).text for cut in small_cuts} == {name: result.text for name, result in before.items()}
    assert asr.context([])(first) == before[first.id]


@pytest.mark.parametrize("remake", [True, False])
def test_new_words_from_now_on(asr: Recogniser, small_cuts: CutSet, remake: bool) -> None:
    first = next(iter(small_cuts))
    old = asr(first)
    alternatives = old.nbest(5)
    other = asr.context([])
    asr.add_words([("AAA", "a"), ("CCA", ["c c a", "c a"])], cost=-40.0, remake=remake)
    found = {cut.id: asr(cut) for cut in small_cuts}
    said = {word for result in found.values() for word in result.text.split()}
    assert said & {"AAA", "CCA"} and all(word.start is not None for result in found.values() for word in result.words)
    assert old.nbest(5) == alternatives and other(first) == old  # what there was keeps its words
    with pytest.raises(DataError):
        asr.add_words(["QQ"])
    assert {cut.id: asr(cut) for cut in small_cuts} == found
    asr.add_words([("CCC", "c c c")], remake=remake)  # those that were added stay
    assert "AAA" in asr.lang.words and {"AAA", "CCA"} & {word for cut in small_cuts for word in asr(cut).text.split()}


def test_running_utterances_end_with_the_words_they_began_with(asr: Recogniser, small_cuts: CutSet) -> None:
    """Whatever the moment, a result is the one of before or the one of after."""
    chosen = list(small_cuts)[:2]
    before = [asr(cut) for cut in chosen]
    results: List[Any] = []
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            results.append([asr(cut) for cut in chosen])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    asr.add_words([("AAA", "a"), ("ZZ", "b b")], cost=-40.0)
    while len(results) < 4:
        pass
    done.set()
    for thread in threads:
        thread.join()
    after = [asr(cut) for cut in chosen]
    assert before != after
    assert all(found in (old, new) for row in results for found, old, new in zip(row, before, after, strict=True))
    assert all(new.nbest(3) == found.nbest(3) for found, new in zip(results[-1], after, strict=True) if found == new)


def test_words_of_phrases_that_are_not_known(asr: Recogniser, small_cuts: CutSet) -> None:
    with pytest.raises(DataError, match="the phrases have 2 words that this model does not know: BABA, ABC") as error:
        asr.context(["BABA AB", "ABC"])
    assert "add_words" in str(error.value.remedy) and "add=True" in str(error.value.remedy)
    first = next(iter(small_cuts))
    made = asr.context({"BABA BABA": 80.0}, add=True)
    assert "BABA BABA" in made(first).text and "BABA" not in asr.lang.words


def test_a_grammar_replaces_the_language_model(asr: Recogniser, small_cuts: CutSet, tmp_path: Path) -> None:
    sentences = ["AB BA AB", "CAB ACE", "ACE"]
    made = asr.with_grammar(sentences)
    assert {made(cut).text for cut in small_cuts} <= {*sentences}
    assert len({made(cut).text for cut in small_cuts}) > 1 and all(made(cut).complete for cut in small_cuts)
    (tmp_path / "g.gram").write_text("#JSGF V1.0;\ngrammar g;\npublic <all> = (AB | BA)+ ;\n")
    looped = asr.with_grammar(tmp_path / "g.gram")
    assert {word for cut in small_cuts for word in looped(cut).text.split()} == {"AB", "BA"}
    assert "ACE" in made.context({"ACE": 500.0})(next(iter(small_cuts))).text
    with pytest.raises(DataError, match=r"the phrases have 1 words.*CAB"):
        looped.context(["CAB"])
    with pytest.raises(ConfigError, match="a grammar takes no other words"):
        made.add_words([("AAA", "a")])


@pytest.mark.parametrize(
    "phrases, kind, words",
    [
        ("AB", ConfigError, "phrases as str"),
        (3, ConfigError, "phrases as int"),
        ([""], DataError, "'' is no phrase"),
        ([3], DataError, "3 is no phrase"),
        ({"AB": 0.0}, ConfigError, "the weight 0.0 of the phrase 'AB'"),
        ({"AB": -1}, ConfigError, "the weight -1"),
        ({"AB": float("nan")}, ConfigError, "the weight nan"),
        ({"AB": float("inf")}, ConfigError, "the weight inf"),
        ({"AB": "2"}, ConfigError, "the weight 2"),
    ],
)
def test_phrases_that_cannot_be(phrases: Any, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words) as error:
        checked(phrases)
    assert error.value.remedy


def test_files_of_phrases(tmp_path: Path) -> None:
    file = tmp_path / "phrases.txt"
    file.write_text("\ufeff# names\nJOHN SMITH\n\nMAIN  STREET :4.5\nTITLE\t1\nA:B C\n#1 HIT\n", encoding="utf-8")
    assert read_phrases(file) == {
        "JOHN SMITH": WEIGHT, "MAIN STREET": 4.5, "TITLE": 1.0, "A:B C": WEIGHT, "#1 HIT": WEIGHT,
    }  # fmt: skip
    refused = {"AB :x": "line 1: the weight nan", "AB\n\t2": "line 2: .*is no phrase", "AB :-1": "line 1", "# n\n": ""}
    for text, words in refused.items():
        file.write_text(text)
        with pytest.raises(DataError, match=words) as error:
            read_phrases(file)
        assert error.value.file == str(file) and error.value.remedy
    with pytest.raises(DataError, match="nowhere"):
        read_phrases(tmp_path / "nowhere")
