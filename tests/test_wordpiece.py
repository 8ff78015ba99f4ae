"""WordPiece tokens: parts of words, the longest pieces first by their definition, vocabularies of a text."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.tokens import END, SPECIALS, START, UNKNOWN, Tokens
from hybrid.data.wordpiece import INSIDE, Vocabulary, WordPieces, parts
from hybrid.errors import DataError, ModelError
from hybrid.io import read_json, write_json

BERTS = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["un", "##aff", "##able", "##a", "want", "##want", "##ed", "wa", "'", ".", "runn", "##ing", "##s", "s"]
LETTERS = [*"abcdef", *(INSIDE + letter for letter in "abcdef")]


@pytest.mark.parametrize(
    "word, wanted",
    [
        ("UNWANTED", ["unwanted"]),
        ("don't", ["don", "'", "t"]),
        ("Café's", ["cafe", "'", "s"]),
        ("non-stop.", ["non", "-", "stop", "."]),
        ("ＡＢ", ["ａｂ"]),
        ("鉄道x", ["鉄", "道", "x"]),
        ("a\u200bb\x00c\ufffdd", ["abcd"]),
        ("a\tb\xa0c", ["a", "b", "c"]),
        ("$5…", ["$", "5", "…"]),
        ("İ", ["i"]),
        ("\u0301", []),
        ("", []),
    ],
)
def test_parts_of_a_word(word, wanted):
    assert parts(word) == wanted


@pytest.mark.parametrize(
    "word, wanted",
    [
        ("unwanted", ["un", "##want", "##ed"]),
        ("unaffable", ["un", "##aff", "##able"]),
        ("running's", ["runn", "##ing", "'", "s"]),
        ("unwantedX", [None]),
        ("x.want", [None, ".", "want"]),
        ("wan", [None]),  # after wa no piece goes on: greedy search does not turn back
        ("want" * 26, [None]),  # above 100 characters
        ("want" * 25, ["want", *["##want"] * 24]),
    ],
)
def test_pieces_of_a_word(word, wanted):
    assert WordPieces(PIECES).encode(word) == wanted


def slow(word: str, names: set[str]) -> list[str] | None:
    """The definition, one place after the other: of the pieces that fit there the longest."""
    if not word:
        return []
    fitting = [n for n in names if not n.startswith(INSIDE) and word.startswith(n)]
    result, rest = [], word
    while rest:
        if not fitting:
            return None
        piece = max(fitting, key=len)
        result.append(piece)
        rest = rest[len(piece.removeprefix(INSIDE)) :]
        fitting = [n for n in names if n.startswith(INSIDE) and rest.startswith(n[2:])]
    return result


PIECE = st.builds(str.__add__, st.sampled_from(["", INSIDE]), st.text("abc", min_size=1, max_size=4))


@given(st.sets(PIECE), st.text("abcd", min_size=1, max_size=9))
def test_longest_first(names, word):
    assert WordPieces(sorted(names)).encode(word) == (slow(word, names) or [None])


def vocabulary(folder: Path, names: list[str]) -> Vocabulary:
    (folder / "vocab.txt").write_text("".join(f"{name}\n" for name in [*BERTS, *names]), "utf-8")
    return Vocabulary(folder / "vocab.txt")


@settings(deadline=None, max_examples=50)
@given(st.sets(PIECE), st.lists(st.text("abcdeF", min_size=1, max_size=8), min_size=1, max_size=5))
def test_a_text_is_written_as_with_all_pieces(tmp_path_factory, names, words):
    every = vocabulary(tmp_path_factory.mktemp("v"), sorted({*names, *LETTERS}))
    some = every.needed_by([words])
    assert set(some.names) <= set(every.pieces.names)
    for word in words:
        assert some.encode(word) == every.pieces.encode(word) and None not in some.encode(word)


def test_other_words_of_known_letters_have_pieces(tmp_path):
    every = [*PIECES, *string.ascii_lowercase, *(INSIDE + letter for letter in string.ascii_lowercase), "ж", "##ж", "я"]
    some = vocabulary(tmp_path, [name for name in dict.fromkeys(every)]).needed_by([["wanted", "ж"]])
    assert some.names == [name for name in dict.fromkeys(every) if len(name.removeprefix(INSIDE)) == 1 and name != "я"
                          or name in ("want", "##ed")]  # fmt: skip
    assert some.encode("unж") == ["u", "##n", "##ж"] and some.encode("я") == [None]


def test_rows_of_tokens(tmp_path):
    tokens = Tokens.of_wordpieces(WordPieces(PIECES))
    assert tokens.names == [*SPECIALS, *PIECES]
    row = tokens.encode(["Unwanted", "[MASK]", "\u0301"]).tolist()
    assert row == [START, 4, 9, 10, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, END]  # [ mask ] and nothing that is left
    tokens.save(tmp_path)
    again = Tokens.load(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.json"] and again.names == tokens.names
    assert again.encode(["Unwanted", "want", "un.s"]).tolist() == tokens.encode(["Unwanted", "want", "un.s"]).tolist()


def test_specials_are_no_pieces(tmp_path):
    assert vocabulary(tmp_path, ["a", "["]).pieces.names == ["a", "["]


@pytest.mark.parametrize(
    "lines, error, what",
    [
        (["a", "b"], ModelError, r"no \[CLS\]"),
        (["[CLS]", "[SEP]", "[UNK]", "a"], ModelError, r"no \[MASK\]"),
        ([*BERTS, "a", "b", "a"], ModelError, "stands twice"),
        (None, DataError, "no such file"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path, lines, error, what):
    path = tmp_path / "vocab.txt"
    if lines is not None:
        path.write_text("\n".join(lines) + "\n")
    with pytest.raises(error, match=what) as caught:
        Vocabulary(path)
    assert caught.value.file == str(path)


def test_a_text_without_words(tmp_path):
    with pytest.raises(DataError, match="no word in the text"):
        vocabulary(tmp_path, ["a"]).needed_by([[]])


@pytest.mark.parametrize("names", [[*SPECIALS, "a", "a"], [*SPECIALS, 3], ["a"]])
def test_damaged_tokens(tmp_path, names):
    Tokens.of_wordpieces(WordPieces(["a"])).save(tmp_path)
    about = read_json(tmp_path / "tokens.json")
    write_json(tmp_path / "tokens.json", {**about, "names": names})
    with pytest.raises(ModelError) as caught:
        Tokens.load(tmp_path)
    assert caught.value.file == str(tmp_path / "tokens.json")
