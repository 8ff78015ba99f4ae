"""ARPA files: what is read, and the message for each way in which a file can be broken."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import DataError, DiskError
from hybrid.lm import arpa, arpa_lines

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
@pytest.mark.parametrize("read", [arpa.read, arpa.read_arrays])
def test_broken(tmp_path, old, new, line, message, read):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    path = write(tmp_path, text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message) as info:
        read(path)
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
    for read in (arpa.read, arpa.read_arrays):
        with pytest.raises(DataError, match="broken gzip"):
            read(packed)
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


# bytes that are lines in a 2-gram section: what is simple, and what the compiled scan leaves to be looked at
ODD_LINES = [
    "-0.5 a b", "-0.5\ta b\t-0.25", "  -.5   a\t b  ", "-1e-3 a b 2E+1", "-5. b a 1e-05", "-0 a a", "-0.0 b b -0.0",
    "-0.1234567890123456789 a b", "-1e-30 a b", "-12345678901234567890e-19 a b", "-1_0 a b", "-inf a b", "-99.5 b a",
    "-0.5 a b 1_0", "-200 a b -300", "-1\u00a0 a b", "-0.5 \u00a0a b", "-0.5 a b\x0b", "-0.5 é a", "", " \t",
    "-1 é é\r",
]  # fmt: skip


@pytest.mark.parametrize("line", ODD_LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_scan_reads_numbers_and_words_as_python_does(tmp_path, line, end):
    words = ["<s>", "</s>", "a", "b", "é"]
    text = ["\\data\\", "ngram 1=5", f"ngram 2={1 + bool(line.strip())}", "\\1-grams:"]
    text += [*(f"-1 {word}" for word in words), "\\2-grams:", line, "-0.125 <s> a -0.5", "\\end\\", ""]
    path = write(tmp_path, end.join(text))
    model, compact = arpa.read(path), arpa.read_arrays(path)
    expected = {("<s>", "a"): (-0.125, -0.5)}
    fields = line.replace("\u00a0", " ").split()
    if fields:
        backoff = float(fields[3]) if len(fields) == 4 else 0.0
        expected[tuple(fields[1:3])] = (max(float(fields[0]), -99.0), max(backoff, -99.0))
    assert model.probs[1] == {ngram: prob for ngram, (prob, _) in expected.items()}
    rows = [tuple(compact.words[word] for word in row) for row in compact.rows(2)]
    assert dict(zip(rows, compact.logprob[5:].tolist())) == pytest.approx(model.probs[1])


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"-?[0-9]{0,17}\.?[0-9]{0,17}([eE][-+]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_of_the_scan_is_pythons_to_the_last_bit(text):
    data = np.frombuffer(text.encode() or b"x", np.uint8)
    value = arpa_lines._number(data, 0, len(data))
    assert math.isnan(value) or value == float(text)


def test_blocks_of_any_size_and_thousands_of_ngrams(tmp_path, monkeypatch):
    """Of 50 words, all pairs and some triples: whatever stands at a block's end is read once."""
    words = [f"w{number:02d}" for number in range(48)] + ["<s>", "</s>"]
    pairs = [(first, second) for first in words for second in words]
    triples = [(*pair, words[index % 50]) for index, pair in enumerate(pairs)]
    lines = ["\\data\\", "ngram 1=50", f"ngram 2={len(pairs)}", f"ngram 3={len(triples)}", "", "\\1-grams:"]
    lines += [f"-{index}.5 {word} -0.1" for index, word in enumerate(words)]
    for number, ngrams in ((2, pairs), (3, triples)):
        lines += ["", f"\\{number}-grams:"]
        lines += [f"-{index / 7:.6f}\t{' '.join(ngram)}" for index, ngram in enumerate(ngrams)]
    path = write(tmp_path, "\n".join([*lines, "", "\\end\\"]))
    expected = {ngram: max(-float(f"{index / 7:.6f}"), -99.0) for index, ngram in enumerate(triples)}
    for block, rows in ((1 << 22, 1 << 17), (100, 1000), (1000, 7), (17, 1)):
        monkeypatch.setattr(arpa, "_BLOCK", block)
        monkeypatch.setattr(arpa, "_ROWS", rows)
        model = arpa.read(path)
        assert model.probs[2] == expected and len(model.probs[1]) == 2500
        compact = arpa.read_arrays(path)
        assert compact.sizes == (50, 2500, 2500) and compact.to_model().probs[2].keys() == expected.keys()
        arpa.write(tmp_path / "again", compact)
        again = arpa.read(tmp_path / "again").probs[2]
        assert again == pytest.approx(expected, abs=1e-5)
    # the line of an error behind thousands of others
    text = path.read_text()
    second = text.index(f"{' '.join(triples[2000])}\n")
    path.write_text(text[:second] + " ".join(triples[1000]) + text[second + len(" ".join(triples[2000])) :])
    number = text[:second].count("\n") + 1
    for read in (arpa.read, arpa.read_arrays):
        with pytest.raises(DataError, match=f"line {number}: the 3-gram {' '.join(triples[1000])} stands there twice"):
            read(path)


def test_a_header_that_promises_billions_takes_no_room(tmp_path):
    path = write(tmp_path, GOOD.replace("ngram 2=2", "ngram 2=9000000000000"))
    with pytest.raises(DataError, match="the 2-grams end after 2; the header promises 9000000000000"):
        arpa.read_arrays(path)


def test_an4(shared_data):
    model = arpa.read(Path(shared_data) / "an4/etc/an4.ug.lm")
    assert (len(model.probs[0]), len(model.probs[1])) == (107, 1)
    assert model.logprob("ENTER", ["<s>"]) == pytest.approx(-2.0253 * math.log(10))
