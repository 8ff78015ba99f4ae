"""Reading pronunciations in every format that is in use, and refusing what may be meant in two ways."""

from __future__ import annotations

import gzip
from typing import Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid import cli
from hybrid.errors import DataError
from hybrid.lexicon.__main__ import main
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lexicon import Lexicon

A, FIVE = ("AH",), ("F", "AY", "V")


def read(folder, text) -> Lexicon:
    path = folder / "lexicon.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Lexicon.from_file(path)


def table(lexicon: Lexicon) -> Dict[str, List[Tuple[Tuple[str, ...], float]]]:
    return {word: [tuple(item) for item in lexicon.pronunciations(word)] for word in lexicon.words}


PLAIN = {"a": [(A, 1.0)], "five": [(FIVE, 1.0)]}
PROBS = {"a": [(A, 1.0), (("EY",), 0.7)], "five": [(FIVE, 0.25)]}


@pytest.mark.parametrize(
    "text",
    [
        "a AH\nfive F AY V\n",
        "a\tAH\nfive\tF AY V\n",
        "a AH\t\nfive F AY V \t \n",
        "a\tAH\nfive\tF\tAY\tV\n",
        "a  AH\r\nfive  F AY V\r\n",
        "a AH\r\nfive F AY V\r\n\x1a",
        "\ufeffa AH\nfive F AY V",
        "a\u00a0 AH\nfive F AY\u00a0 V \u3000\n",
        "a\u00a0AH\nfive F AY\u00a0V\n",
        ";;; header, of CMUdict\na AH # a letter\nfive F AY V\t#\tcardinal,\told\n",
        "a AH #\nfive F AY V\n",
        "a 1.0 AH\nfive 1. F AY V\n",
        "a 1.0\tAH\nfive 1.0\tF AY V\n",  # as Kaldi's prepare_lang.sh writes lexiconp.txt
        "a 1.0 0.2 1.1 0.9 AH\nfive 1 1 1 1 F AY V\n",
        "a\t1.0\t0.2\t1.1\t0.9\tAH\nfive\tF AY V\n",
        "five\tF AY V\na\t1.0\t0.2\t1.1\t0.9\tAH\n",  # an own word before MFA's
        "a 1.0 0.2 1.1 0.9 AH\nfive F AY V\n",
        "a\t1.0\tAH\nfive\tF AY V\n",
        "a\t1\t0.0\t0.0\t0.0\t0.0\tAH\nfive\t1\tF AY V\n",
    ],
)
def test_one_lexicon_in_many_formats(tmp_path, text):
    assert table(read(tmp_path, text)) == PLAIN
    assert table(read(tmp_path, gzip.compress(text.encode(), mtime=0))) == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        "a 1.0 AH\na 0.7 EY\nfive .25 F AY V\n",
        "a(1) 1.0 AH\na(2) 7e-1 EY\nfive 0.25 F AY V\n",
        "a 1.0 0.2 1.1 0.9 AH\na 0.7 0.3 1.2 0.9 EY\nfive 0.25 0.2 1 1 F AY V\n",
        "a\t1.0\t0.2\t1.1\t0.9\tAH\na\t0.7\t0.3\t1.2\t0.9\tEY\nfive\t0.25\tF AY V\n",
        "a AH\na\t0.7\tEY\nfive\t0.25\t0\t0\t0\t0\tF AY V\n",
    ],
)
def test_probabilities_in_many_formats(tmp_path, text):
    assert table(read(tmp_path, text)) == PROBS


def test_mfa_writes_0_for_rare_pronunciations(tmp_path):
    for text in ("a\t1.0\tAH\na\t0.0\tEY\n", "a 1.0 0.2 1 1 AH\na 0 0.2 1 1 EY\n"):
        assert table(read(tmp_path, text)) == {"a": [(A, 1.0), (("EY",), 0.01)]}
    with pytest.raises(DataError, match="line 1: probability 0 of 'a'"):
        read(tmp_path, "a 0.0 EY\n")


def test_notices_of_what_is_not_read(tmp_path):
    lexicon = read(tmp_path, "a\t1.0\t0.2\t1.1\t0.9\tAH\nfive\tF AY V # cardinal, old\nof\tAH # x\n")
    assert lexicon.notices == [
        "2 comments behind # are not read (the first: line 2: # cardinal, old)",
        "the probabilities of silence are not used",
    ]


def test_words_that_look_like_something_else(tmp_path):
    words = ["#HASH-MARK", ";SEMI-COLON", ",COMMA", "1,000", "z(z)", "10", "<unk>", "{br}", "--", "[laughter]", "a'"]
    lexicon = read(tmp_path, "F F F\n" + "".join(f"{word} F\n" for word in words))
    assert lexicon.words == ["F", *words]
    assert read(tmp_path, "o(1) F\no(2) OW\n").words == ["o"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a 1.0 0.2 AH\n", "line 1: 2 numbers before the phones of 'a': 1.0 0.2"),
        ("a 1.0 0.2 1.1 AH\n", "line 1: 3 numbers"),
        ("a 1 1 1 1 1 1 AH\n", "line 1: 6 numbers"),
        ("a AH\nseven S EH V 0.9\n", "line 2: the number 0.9 among the phones of 'seven'"),
        ("ma m a 1\n", "line 1: the number 1 among the phones of 'ma'"),
        ("a -0.105 AH\na -2.3 EY\n", "line 1: the number -0.105 where a probability or the first phone of 'a'"),
        ("a 0,9 AH\n", "line 1: the number 0,9 where"),
        ("a +1 AH\n", "line 1: the number \\+1 where"),
        ("a -inf AH\n", "line 1: the number -inf where"),
        ("a 1.0\nb 1.0 b iy\n", "line 1: no phones for the word 'a'"),
        ("yi 1\n", "line 1: no phones for the word 'yi'"),
        ("!SIL SIL\nto 0.8 t uw\n", "line 1: no probability for '!SIL', though line 2 has one"),
        ("to 0.8 t uw\ntwo t uw\n", "line 2: no probability for 'two', though line 1 has one"),
        ("a AH # x\nfive # no phones\n", "line 2: no phones for the word 'five'"),
        ("a AH\n`\n", "line 2: no phones for the word '`'"),
        ("# my lexicon, 2024\na AH\n", "line 1: '# my lexicon, 2024': a comment"),
        ("# phones: ARPAbet\na AH\n", "line 1: '# phones: ARPAbet': a comment, or the word #"),
        ("a AH\n# a AH\n", "line 2: '# a AH': a comment"),
        ("a AH\n#old entry\n", "line 2: '#old entry': a comment, or the word #old"),
        ("a AH #letter\n", "line 1: '#letter' among the phones of 'a'"),
        ("five F AY V cardinal, old\n", "line 1: 'cardinal,' among the phones of 'five'"),
        ("a,AH\nfive,F AY V\n", "line 1: 'a,AH' is a list"),
        ("a AH\nfive,F AY V\n", "line 2: 'five,F' is a list"),
        ("word;pron\na;AH\n", "line 1: 'word;pron' is a list"),
        ("a, AH\n", "line 1: 'a,' is a list"),
        ("a AH\nice\u00a0cream AY S\n", "line 2: 'ice\\\\xa0cream': one word, or a word and a phone.* U\\+00A0"),
        ("a\u2028b AH\n", "line 1: .*U\\+2028"),
        ("a\x85b AH\n", "line 1: .*U\\+0085"),
        ("ice\u00a0cream\tAY S\n", "line 1: 'ice cream' before the first tab is not one word"),
        ("ice cream\tAY S K R IY M\n", "line 1: 'ice cream' before the first tab is not one word"),
        ("a\t1.5\tAH\n", "line 1: probability 1.5 of 'a'"),
    ],
)
def test_what_is_refused(tmp_path, text, what):
    with pytest.raises(DataError, match=what) as caught:
        read(tmp_path, text)
    assert caught.value.file == str(tmp_path / "lexicon.txt") and caught.value.remedy


def test_an_odd_blank_behind_the_word_where_others_part_the_phones(tmp_path):
    """Told from one within the word by the phones of other lines."""
    lexicon = read(tmp_path, "three\u3000TH R IY\nth TH\n")
    assert table(lexicon) == {"three": [(("TH", "R", "IY"), 1.0)], "th": [(("TH",), 1.0)]}
    with pytest.raises(DataError, match="line 1: 'three\\\\u3000TH': one word"):
        read(tmp_path, "three\u3000TH R IY\nz Z IY\n")


def test_kaldis_folder(tmp_path):
    (tmp_path / "lexicon.txt").write_text("a AH\n")
    assert table(Lexicon.from_file(tmp_path)) == {"a": [(A, 1.0)]}
    (tmp_path / "lexiconp.txt").write_text("a 0.5 AH\n")
    assert table(Lexicon.from_file(tmp_path)) == {"a": [(A, 0.5)]}


NAMES = st.text("abcxyzäß'ɐ̃", min_size=1, max_size=4)
ENTRIES = st.dictionaries(NAMES, st.lists(st.lists(NAMES, min_size=1, max_size=3), min_size=1, max_size=2), min_size=1)


@given(ENTRIES, st.sampled_from(["plain", "sphinx", "prob", "silprob", "mfa"]), st.booleans())
def test_every_format_says_the_same(tmp_path_factory, entries, form, windows):
    lines = []
    for word, items in entries.items():
        for index, phones in enumerate(items):
            said, numbers = " ".join(phones), {"prob": "1.0", "silprob": "1.0 0.2 1.1 0.9"}.get(form, "")
            if form == "mfa":
                lines.append("\t".join([word, *["1.0", "0.2", "1.1", "0.9"][: 4 * (len(lines) % 2)], said]))
            elif form == "sphinx" and index:
                lines.append(f"{word}({index + 1})  {said}")
            else:
                lines.append(f"{word} {numbers} {said}")
    end = "\r\n" if windows else "\n"
    lexicon = read(tmp_path_factory.mktemp("lexicon"), end.join(lines) + end)
    assert lexicon == Lexicon.from_dict(entries)


def test_g2p_learns_no_number(tmp_path, capsys):
    """As `hybrid align` reads an MFA dictionary, so does the training of a G2P model."""
    words = ["seventeen", "six", "sixteen", "seven", "ten", "teen", "net", "nest"]
    path = tmp_path / "mfa.dict"
    path.write_text("".join(f"{word}\t0.99\t0.17\t1.36\t0.95\t{' '.join(word.upper())}\n" for word in words))
    assert main(["g2p", "train", str(path), str(tmp_path / "model"), "--order", "3"]) == 0
    assert G2P.load(tmp_path / "model").phones == sorted(set("".join(words).upper()))
    capsys.readouterr()
    for call in (main, lambda arguments: cli.main(["lexicon", *arguments])):
        assert call(["g2p", "apply", str(tmp_path / "model"), "sixten"]) == 0
        assert capsys.readouterr().out == "sixten S I X T E N\n"
        assert call(["g2p", "train", str(tmp_path / "none"), str(tmp_path / "x")]) == 1
        error = capsys.readouterr().err
        assert "no such lexicon" in error and error.count("\n") == 1
