"""Phones that training never has, and the words that need one."""

from __future__ import annotations

from hybrid.lexicon.lexicon import Lexicon
from hybrid.lexicon.unheard import phones_unheard, unheard_notices, words_unheard

LEXICON = Lexicon.from_dict(
    {"A": ["AH", "EY"], "B": ["B IY"], "ZOO": ["Z UW"], "ZED": ["Z EH D"], "OF": ["AH V", "AH F"], "<n>": ["SPN"]}
)


def test_phones_and_words():
    unheard = phones_unheard(LEXICON, ["A", "B", "B", "OTHER"], ["SIL", "SPN"])
    assert unheard == {
        "D": ["ZED"], "EH": ["ZED"], "F": ["OF"], "UW": ["ZOO"], "V": ["OF"], "Z": ["ZOO", "ZED"]
    }  # fmt: skip
    assert words_unheard(LEXICON, unheard, ["ZOO", "B", "OF", "ZOO", "NONE", "<s>"]) == ["ZOO", "OF"]
    # a pronunciation without it is enough
    assert words_unheard(LEXICON, {"F": 1}, ["OF", "A"]) == []
    assert phones_unheard(LEXICON, LEXICON.words) == {}
    assert phones_unheard(LEXICON, ["ZOO", "ZED", "OF", "A", "B"]) == {"SPN": ["<n>"]}


def test_notices():
    notices = unheard_notices(LEXICON, ["A", "B", "OF", "ZED"], ["SPN"], ["ZOO", "A", "</s>"])
    assert notices == [
        "the phone UW is in no word of the training transcripts; 1 of the lexicon have it, as ZOO",
        "1 words of the language model need such a phone: ZOO",
    ]
    assert unheard_notices(LEXICON, LEXICON.words, (), LEXICON.words) == []
