"""Several lexicons as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import DataError
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.merge import bare_phone, check_phones, merge, without_stress


def lexicon(**entries) -> Lexicon:
    return Lexicon.from_dict(entries)


@pytest.mark.parametrize(
    "phone, bare",
    [("AH0", "AH"), ("EY1", "EY"), ("ao2", "ao"), ("AH", "AH"), ("AH3", "AH3"), ("T", "T"), ("T1", "T1"),
     ("SPN", "SPN"), ("aa1_B", "aa1_B"), ("4u", "4u"), ("A0", "A0"), ("AAA0", "AAA0")],
)  # fmt: skip
def test_stress_is_of_arpabets_vowels_alone(phone, bare):
    assert bare_phone(phone) == bare


def test_pronunciations_that_differ_in_stress_alone_are_one():
    first, second = Pronunciation(("R", "EH1", "K"), 0.5), Pronunciation(("R", "EH0", "K"), 1.0)
    stressed = Lexicon.from_dict({"RECORD": [first, second, Pronunciation(("R",))]})
    assert list(without_stress(stressed)) == [
        ("RECORD", Pronunciation(("R", "EH", "K"), 1.0)), ("RECORD", Pronunciation(("R",))),
    ]  # fmt: skip


def test_the_first_that_has_a_word_counts_and_gives_the_case():
    first = lexicon(THE=["DH AH"], CAFE=["K EY"])
    second = Lexicon.from_dict({"the": ["DH IY"], "dog": ["D AO G"], "Dog": ["D AA G", "D AO G"], "’em": ["AH M"]})
    third = lexicon(DOG=["X"], cat=["K AE T"])
    merged = merge([first, second, third])
    assert {word: [" ".join(item.phones) for item in merged.pronunciations(word)] for word in merged.words} == {
        "THE": ["DH AH"], "CAFE": ["K EY"], "DOG": ["D AO G", "D AA G"], "’EM": ["AH M"], "CAT": ["K AE T"],
    }  # fmt: skip
    assert merge([first]) is first
    mixed = merge([lexicon(The=["DH"], cat=["K"]), second])
    assert "dog" in mixed and "Dog" in mixed and "the" not in mixed


TABLES = st.dictionaries(st.sampled_from(["a", "b", "A", "c"]), st.just(["P"]), min_size=1)


@given(st.lists(TABLES, min_size=1, max_size=3))
def test_every_word_is_there_once_whatever_its_case(tables):
    merged = merge([Lexicon.from_dict(table) for table in tables])
    assert {word.lower() for word in merged.words} == {word.lower() for table in tables for word in table}


def test_phones_of_another_set():
    first = lexicon(A=["AH0 T"], B=["EY1 K S"])
    check_phones(first, lexicon(C=["AO0 K", "T S UW0 EY1 Z"]), "x", "leave stress out")
    check_phones(without_stress(first), lexicon(C=["AH K"], D=["OY ZH T"]), "x", "leave stress out")
    with pytest.raises(DataError, match=r"the first lexicon has stress .*AH0.*without .AH.*x.*leave stress out"):
        check_phones(first, lexicon(C=["AH K"], D=["EY T"]), "x", "leave stress out")
    with pytest.raises(DataError, match=r"this lexicon has stress on its vowels .EY2.*without .EY.*leave stress out"):
        check_phones(lexicon(A=["EY T"]), lexicon(C=["EY2 T"]), "x", "leave stress out")
    with pytest.raises(DataError, match="no phone of the first lexicon .AH0 EY1 K S T .* is in this one .a b c"):
        check_phones(first, lexicon(C=["a b c d e f"]), "x", "leave stress out")
