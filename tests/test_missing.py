"""Words that the lexicon lacks: as the unknown word, by G2P, left out, or an error."""

from __future__ import annotations

import pytest

from hybrid.errors import ConfigError, DataError
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lexicon.missing import cover, silence_names, unknown_of

SMALL = {"cat": ["k ae t"], "tack": ["t ae k"], "act": ["ae k t"], "at": ["ae t"], "tact": ["t ae k t"]}
COUNTS = {"cat": 5, "dog": 2, "catt": 1, "<s>": 9}


def test_leave():
    lexicon = Lexicon.from_dict(SMALL)
    found = cover(lexicon, COUNTS, "leave")
    assert found.lexicon is lexicon and found.missing == {"dog": 2, "catt": 1} and not found.made
    assert found.lacking(["dog", "cat", "dog", "<s>"]) == ["dog"] and found.why(["cat"]) is None
    assert found.why(["dog", "cat", "catt"]) == "not in the lexicon: dog, catt"
    assert found.summary() == "2 words are not in the lexicon (2 without pronunciation): dog (2), catt (1)"
    assert cover(lexicon, {"cat": 1}, "leave").summary() is None


def test_error():
    assert cover(Lexicon.from_dict(SMALL), {"cat": 1, "<s>": 1}, "error").missing == {}
    with pytest.raises(DataError, match=r"2 words of the transcripts have no pronunciation: dog \(2\), catt \(1\)"):
        cover(Lexicon.from_dict(SMALL), COUNTS, "error")
    with pytest.raises(ConfigError, match="'drop'"):
        cover(Lexicon.from_dict(SMALL), COUNTS, "drop")


def test_g2p_leaves_pronunciations_as_they_are():
    lexicon = Lexicon.from_dict({**SMALL, "at": ["k k k", "t"], "<unk>": ["spn"]})
    found = cover(lexicon, {"at": 7, **COUNTS}, "g2p")
    assert set(found.made) == {"catt"} and "dog" in found.refused
    assert {phone for item in found.made["catt"] for phone in item.phones} <= {"k", "ae", "t"}
    assert found.lexicon.pronunciations("catt") == found.made["catt"]
    for word in lexicon.words:
        assert found.lexicon.pronunciations(word) == lexicon.pronunciations(word)
    assert found.lexicon.words == [*lexicon.words, "catt"]
    assert found.why(["catt", "dog"]) == f"not in the lexicon: dog ({found.refused['dog']})"
    assert "1 pronounced by G2P, 1 without pronunciation" in found.summary()


def test_g2p_with_a_model(tmp_path):
    G2P.train(Lexicon.from_dict(SMALL), order=3).save(tmp_path / "model")
    lexicon = Lexicon.from_dict({"cat": ["k ae t"]})
    assert set(cover(lexicon, COUNTS, "g2p", g2p_model=tmp_path / "model").made) == {"catt"}
    with pytest.raises(ConfigError, match="the G2P model has the phone ae"):
        cover(Lexicon.from_dict({"cat": ["k t"]}), COUNTS, "g2p", g2p_model=tmp_path / "model")


def test_unknown_word():
    lexicon = Lexicon.from_dict(SMALL)
    found = cover(lexicon, COUNTS, "unk")
    assert (found.unknown_word, found.spoken_noise) == ("<UNK>", "SPN") and found.missing == {"dog": 2, "catt": 1}
    assert [item.phones for item in found.lexicon.pronunciations("<UNK>")] == [("SPN",)]
    assert found.lacking(["dog"]) == [] and "2 taken as <UNK>" in found.summary()
    lang = Lang.create(found.lexicon, spoken_noise=found.spoken_noise, oov=found.unknown_word)
    assert lang.text(lang.word_ids("cat dog")) == "cat <UNK>" and lang.silence_phones == ["SIL", "SPN"]
    assert cover(lexicon, {"cat": 1}, "unk").lexicon == found.lexicon  # whether it is needed or not


def test_the_lexicons_own_unknown_word():
    lexicon = Lexicon.from_dict({**SMALL, "[UNK]": ["spn"], "<oov>": ["t"], "<sp>": ["sil"]})
    assert silence_names(lexicon) == ("sil", "spn")
    assert unknown_of(lexicon) == ("[UNK]", "spn")
    assert unknown_of(Lexicon.from_dict({"<unk>": ["t"]})) == ("<UNK>", "SPN")
    found = cover(lexicon, {"[UNK]": 1, "dog": 1}, "unk")
    assert found.lexicon is lexicon and found.unknown_word == "[UNK]" and found.missing == {"dog": 1}
