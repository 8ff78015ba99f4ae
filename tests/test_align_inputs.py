"""The Lang that the aligner makes of a lexicon and the words of a corpus."""

from __future__ import annotations

import pytest

from hybrid.align.dictionary import make_lang
from hybrid.errors import ConfigError, DataError
from hybrid.lexicon.lexicon import Lexicon

SMALL = {"cat": ["k ae t"], "tack": ["t ae k"], "act": ["ae k t"], "at": ["ae t"], "tact": ["t ae k t"]}
SMALL["<unk>"] = ["spn"]


def test_lang_of_a_corpus():
    lexicon = Lexicon.from_dict(SMALL)
    lang = make_lang(lexicon, ["at", "dog"], unknown=True)
    assert lang.silence_phones == ["SIL", "spn"] and lang.oov == "<unk>" and lang.position_dependent
    assert set(lang.nonsilence_base) == {"k", "ae", "t"} and "cat" not in lang.lexicon
    assert lang.word_ids("at dog") == [lang.words["at"], lang.words["<unk>"]]
    again = make_lang(lexicon, ["tack"], unknown=True, like=lang)
    assert {name: lang.phones[name] for name in lang.nonsilence_phones} == {
        name: again.phones[name] for name in again.nonsilence_phones
    }
    with pytest.raises(DataError, match="phone g, which the model lacks, in the word g"):
        make_lang(Lexicon.from_dict({"dog": ["d o g"], "g": ["g"]}), ["g"], unknown=False, like=lang)
    plain = make_lang(Lexicon.from_dict({"at": ["ae t"]}), ["at"], unknown=False)
    with pytest.raises(ConfigError, match="unknown word"):
        make_lang(lexicon, ["at"], unknown=True, like=plain)
