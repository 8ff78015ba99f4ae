"""ARPA files: what is read, and the message for each way in which a file can be broken."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import pytest

from hybrid.errors import DataError, DiskError
from hybrid.lm import arpa

GOOD = """a comment, which may say
ngram 1=nr or Beginning of data mark: \\data\\

\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-0.5 </s>
-99 <s> -0.1
-0.4\ta\t-0.2
-0.6 b 0.0

\\2-grams:
-0.3 <s> a
-0.7 a b

\\end\\
anything
"""


def write(folder, text):
    path = folder / "lm.arpa"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads(tmp_path):
    model = arpa.read(write(tmp_path, GOOD))
    assert model.order == 2
    assert model.probs[1] == {("<s>", "a"): -0.3, ("a", "b"): -0.7}
    assert model.backoffs == [{("<s>",): -0.1, ("a",): -0.2}]
    ln10 = math.log(10)
    assert model.logprob("b", ["a"]) == pytest.approx(-0.7 * ln10)
    assert model.logprob("a", ["a"]) == pytest.approx((-0.2 - 0.4) * ln10)
    assert model.logprob("b", ["x", "<s>"]) == pytest.approx((-0.1 - 0.6) * ln10)
    assert model.logprob("<s>", ["a"]) == -math.inf


def test_byte_order_mark(tmp_path):
    text = GOOD[GOOD.index("\\data\\\nngram 1=4") :]
    assert arpa.read(write(tmp_path, "\ufeff" + text)).order == 2


@pytest.mark.parametrize(
    "old, new, line, message",
    [
        ("\\data\\\nngram", "data\nngram", 19, r"no \\data\\"),
        ("\\end\\\nanything\n", "", 17, r"the end of the file where \\end\\"),
        ("ngram 1=4", "ngram 1=5", 14, "the 1-grams end after 4; the header promises 5"),
        ("ngram 2=2", "ngram 2=1", 18, "the 2-grams end after 2; the header promises 1"),
        ("ngram 1=4", "ngram 1=many", 5, "'ngram 1=many' is not `ngram ORDER=COUNT`"),
        ("ngram 2=2", "ngram 3=2", 6, "the count of 3-grams where that of 2-grams"),
        ("ngram 1=4\nngram 2=2\n", "", 6, "no `ngram ORDER=COUNT`"),
        ("ngram 1=4", "ngram 1=0", 8, "a model without a word"),
        ("\\2-grams:\n-0.3 <s> a\n-0.7 a b\n", "", 15, r"'\\\\end\\\\' where \\2-grams: should stand"),
        ("-0.4\ta", "minus\ta", 11, "'minus' is not a number"),
        ("-0.4\ta", "nan\ta", 11, "'nan' is not a number"),
        ("-0.4\ta", "0.4\ta", 11, "the log probability 0.4 is above 0"),
        ("a\t-0.2", "a\tx", 11, "'x' is not a number"),
        ("-0.6 b 0.0", "-0.6 a", 12, "the 1-gram a stands there twice"),
        ("-0.7 a b", "-0.7 a c", 16, "the word c is not among the 1-grams"),
        ("-0.7 a b", "-0.7 b", 16, "2 fields; a 2-gram has 3"),
        ("-0.7 a b", "-0.7 a b 0 0", 16, "5 fields"),
        ("-0.7 a b", "-0.3 <s> a", 16, "the 2-gram <s> a stands there twice"),
        ("-0.6 b 0.0", "-0.6 \udcff 0.0", 12, "not UTF-8"),
    ],
)
def test_broken(tmp_path, old, new, line, message):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    path = write(tmp_path, text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message) as info:
        arpa.read(path)
    assert info.value.file == str(path)
    assert info.value.remedy
    assert f"line {line}:" in str(info.value)


@pytest.mark.parametrize("cut", range(0, len(GOOD) - len("\\end\\\nanything\n"), 7))
def test_cut_off_anywhere(tmp_path, cut):
    with pytest.raises(DataError, match="line "):
        arpa.read(write(tmp_path, GOOD[:cut]))


def test_missing_folder_and_broken_gzip(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError) as info:
            arpa.read(path)
        assert str(path) in str(info.value)
    packed = tmp_path / "lm.gz"
    packed.write_bytes(gzip.compress(GOOD.encode(), mtime=0)[:-20])
    with pytest.raises(DataError, match="broken gzip"):
        arpa.read(packed)
    # whether it is gzipped is seen by its bytes, not by its name
    packed.write_text(GOOD)
    assert arpa.read(packed).order == 2
    packed = tmp_path / "lm.arpa"
    packed.write_bytes(gzip.compress(("\ufeff" + GOOD).encode()))
    assert arpa.read(packed).order == 2


def test_odd_blanks_are_part_of_words(tmp_path):
    """As KenLM reads them: 10 000 with a no-break space is one word, and not 10 with the back-off 0."""
    word, other = "10\u00a0000", "a\u3000b\u2028c\x85d"
    text = f"\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-99 <s> -0.3\n-0.5\t</s>\n-0.7 {word}\n"
    text += f"-0.6\t{other}\t-0.2\n\n\\2-grams:\n-0.1 {other} {word}\n\n\\end\\\n"
    model = arpa.read(write(tmp_path, text))
    assert model.vocabulary == ["</s>", word, other] and model.probs[1] == {(other, word): -0.1}
    assert model.backoffs == [{("<s>",): -0.3, (other,): -0.2}]
    arpa.write(tmp_path / "again.arpa", model)
    again = arpa.read(tmp_path / "again.arpa")
    assert (again.probs, again.backoffs) == (model.probs, model.backoffs)


def test_write_reads_back_and_is_whole_or_absent(tmp_path, monkeypatch):
    model = arpa.read(write(tmp_path, GOOD))
    out = tmp_path / "out.arpa"
    arpa.write(out, model)
    again = arpa.read(out)
    assert (again.probs, again.backoffs) == (model.probs, model.backoffs)
    before = out.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="No space left"):
        arpa.write(out, model)
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lm.arpa", "out.arpa"]


def test_an4(shared_data):
    model = arpa.read(Path(shared_data) / "an4/etc/an4.ug.lm")
    assert (len(model.probs[0]), len(model.probs[1])) == (107, 1)
    assert model.logprob("ENTER", ["<s>"]) == pytest.approx(-2.0253 * math.log(10))
