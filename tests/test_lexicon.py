"""Lexicons: what is said about a file that cannot be used, and keeping one on disk."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hybrid.errors import DataError
from hybrid.lexicon.lexicon import Lexicon, Oov, Pronunciation, check_text


def write(folder, text):
    path = folder / "lexicon.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "A  AH\nA(2)  EY\nAND\tAE N D\n",
        "A AH\nA EY\nAND AE N D\n",
        "A 1.0 AH\nA 1 EY\nAND 1e0 AE N D\n",
        ";;; a comment\n\nA AH\r\nA EY\r\nAND AE N D",
        "\ufeffA AH\nA EY\nAND AE N D\n",
        "<s> SIL\n</s> SIL\n<sil> SIL\nA AH\nA(2) EY\nAND AE N D\n",
    ],
)
def test_formats(tmp_path, text):
    lexicon = Lexicon.from_file(write(tmp_path, text))
    assert lexicon == Lexicon.from_dict({"A": ["AH", "EY"], "AND": ["AE N D"]})
    assert lexicon.words == ["A", "AND"]
    assert lexicon.phones == ["AE", "AH", "D", "EY", "N"]
    assert lexicon.pronunciations("A") == [Pronunciation(("AH",), 1.0), Pronunciation(("EY",), 1.0)]
    assert "AND" in lexicon and "OR" not in lexicon and len(lexicon) == 2


def test_probabilities(tmp_path):
    lexicon = Lexicon.from_file(write(tmp_path, "A 0.25 AH\nA 1 EY\n"))
    assert [item.prob for item in lexicon.pronunciations("A")] == [0.25, 1.0]


def test_duplicates_are_said_and_kept_once(tmp_path, caplog):
    lexicon = Lexicon.from_file(write(tmp_path, "A 0.5 AH\nA 1 AH\nB 1 B IY\n"))
    assert lexicon.pronunciations("A") == [Pronunciation(("AH",), 1.0)]
    assert lexicon.notices == ["line 2: A AH stands there twice: kept once, with the larger probability"]
    assert "line 2: A AH stands there twice" in caplog.text


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "a lexicon without a word"),
        ("\n;;; nothing\n", "a lexicon without a word"),
        ("<s> SIL\n", "a lexicon without a word"),
        ("A AH\nB\n", "line 2: no phones for the word 'B'"),
        ("A 0.5 AH\nB 0.5\n", "line 2: no phones for the word 'B'"),
        (b"A AH\nCAF\xc9 K AE F EY\n", "line 2: not UTF-8"),
        ("A AH\nB #1\n", "line 2: a phone of 'B' is named #1"),
        ("A AH <eps>\n", "line 1: a phone of 'A' is named <eps>"),
        ("<eps> AH\n", "line 1: the word <eps> is a symbol"),
        ("#0 AH\n", "line 1: the word #0 is a symbol"),
        ("A 0.5 AH\nB B IY\n", "line 2: no probability for 'B'"),
        ("A 0 AH\n", "line 1: probability 0 of 'A'"),
        ("A 0.5 AH\nB 1.5 B IY\n", "line 2: probability 1.5 of 'B'"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=message) as info:
        Lexicon.from_file(path)
    assert info.value.file == str(path)
    assert info.value.remedy


def test_missing_files(tmp_path):
    for path, what in ((tmp_path / "none", "no such lexicon"), (tmp_path, "this is a folder, no lexicon")):
        with pytest.raises(DataError, match=what) as info:
            Lexicon.from_file(path)
        assert info.value.file == str(path) and "pronunciations" in info.value.remedy


@pytest.mark.parametrize(
    "entries", [{}, {"A": []}, {"A": "AH"}, {"A": [""]}, {"A B": ["AH"]}, {"A": [["A H"]]}, {"A(2)": ["AH"]}]
)
def test_bad_dicts(entries):
    with pytest.raises(DataError):
        Lexicon.from_dict(entries)


@pytest.mark.parametrize(
    "entries",
    [
        {"B": ["B IY"], "A": ["AH", "EY"]},
        {"A": [Pronunciation(("AH",), 0.1), Pronunciation(("EY",), 1 / 3)]},
        {"yi": ["1"], "ma": ["1 a"]},
        {"été": ["e t e"]},
    ],
)
def test_save_reads_back(tmp_path, entries):
    lexicon = Lexicon.from_dict(entries)
    lexicon.save(tmp_path / "lexicon.txt")
    assert Lexicon.load(tmp_path / "lexicon.txt") == lexicon
    if "yi" not in lexicon:  # numbers are phones in lexicons that we made alone
        assert Lexicon.from_file(tmp_path / "lexicon.txt") == lexicon


def test_words_without_pronunciation():
    lexicon = Lexicon.from_dict({"A": ["AH"]})
    texts = {"u1": "A X Y X", "u2": "<s> A </s>", "u3": "X"}
    wanted = [Oov("X", 3, ("u1", "u3")), Oov("Y", 1, ("u1",))]
    assert check_text(lexicon, texts) == wanted
    assert check_text(lexicon, texts.items()) == wanted
    cuts = [SimpleNamespace(id=u, supervisions=[SimpleNamespace(text=t)]) for u, t in texts.items()]
    assert check_text(lexicon, cuts) == wanted
    assert check_text(lexicon, {"u": "A"}) == []


def test_an4(shared_data):
    lexicon = Lexicon.from_file(shared_data / "an4/etc/an4.dic")
    assert lexicon.notices == []
    assert len(lexicon) == 101
    assert lexicon.pronunciations("AND") == [Pronunciation(("AE", "N", "D")), Pronunciation(("AH", "N", "D"))]
    text = (shared_data / "an4/etc/an4_train.transcription").read_text().splitlines()
    texts = [(line.split("(")[1], line.split("(")[0]) for line in text]
    assert check_text(lexicon, texts) == []
    with pytest.raises(DataError, match="without a word"):
        Lexicon.from_file(shared_data / "an4/etc/an4.filler")
