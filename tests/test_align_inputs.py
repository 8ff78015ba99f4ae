"""What the aligner makes of transcripts and lexicon: words that the lexicon has, and a Lang for them."""

from __future__ import annotations

import pytest

from hybrid.align.dictionary import make_lang, pronounce_missing, read_lexicon
from hybrid.align.words import Normaliser
from hybrid.errors import ConfigError, DataError
from hybrid.lexicon.lexicon import Lexicon, Pronunciation


@pytest.mark.parametrize(
    "words, text, expected",
    [
        (["HELLO", "WORLD"], "“Hello,” world!", ["HELLO", "WORLD"]),
        (["hello", "world's"], "HELLO World’s -- …", ["hello", "world's"]),
        (["Polish", "polish"], "Polish polish.", ["Polish", "polish"]),
        (["'TIS", "DOGS'"], "'tis the dogs'.", ["'TIS", "THE", "DOGS'"]),
        (["WELL", "KNOWN", "X-RAY"], "Well-known x-ray half-known", ["WELL", "KNOWN", "X-RAY", "HALF-KNOWN"]),
        (["<unk>", "a"], "<unk> <s> A </s>", ["<unk>", "a"]),
        (["MR.", "SMITH"], "Mr. Smith.", ["MR.", "SMITH"]),
        (["CAFÉ"], "cafe\u0301", ["CAFÉ"]),
        (["a"], " ... !? ", []),
    ],
)
def test_normalisation(words, text, expected):
    assert Normaliser(Lexicon.from_dict({word: ["x"] for word in words}))(text) == expected


def test_mfa_dictionary(tmp_path):
    path = tmp_path / "english.dict"
    lines = ["a\t0.99\t0.18\t1.0\t1.0\tə", "a\t0.0\t0.18\t1.0\t1.0\tej", "the\t1\t0.1\t1\t1\tð ə", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    read = read_lexicon(path)
    assert read.pronunciations("a") == [Pronunciation(("ə",), 0.99), Pronunciation(("ej",), 0.01)]
    path.write_text("A 0.5 AH\nB 1.0 B IY\n")
    assert read_lexicon(path).pronunciations("A") == [Pronunciation(("AH",), 0.5)]
    with pytest.raises(DataError, match="no such lexicon"):
        read_lexicon(tmp_path / "none")


SMALL = {"cat": ["k ae t"], "tack": ["t ae k"], "act": ["ae k t"], "at": ["ae t"], "tact": ["t ae k t"]}
SMALL["<unk>"] = ["spn"]


def test_missing_words():
    lexicon = Lexicon.from_dict(SMALL)
    texts = [["cat", "dog"], ["catt", "dog"]]
    found = pronounce_missing(lexicon, texts, g2p=False)
    assert found.missing == {"dog": 2, "catt": 1} and not found.made and found.lexicon is lexicon
    found = pronounce_missing(lexicon, texts, g2p=True)
    assert found.made["catt"][0].phones == ("k", "ae", "t") or set(found.made["catt"][0].phones) <= {"k", "ae", "t"}
    assert "dog" in found.refused and "dog" not in found.lexicon and "catt" in found.lexicon


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
    with pytest.raises(DataError, match="phone g"):
        make_lang(Lexicon.from_dict({"dog": ["d o g"], "g": ["g"]}), ["g"], unknown=False, like=lang)
    plain = make_lang(Lexicon.from_dict({"at": ["ae t"]}), ["at"], unknown=False)
    with pytest.raises(ConfigError, match="unknown word"):
        make_lang(lexicon, ["at"], unknown=True, like=plain)
