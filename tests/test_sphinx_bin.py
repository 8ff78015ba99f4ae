"""Sphinx's binary n-gram models: what stands in them, and damage of every kind.

The files are written here, by the format as lm/sphinx_bin.py describes it; the one that comes inside the wheel
pocketsphinx is read where that is installed.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import TEXTS, arrays

from hybrid.errors import DataError
from hybrid.lm import arpa, sphinx_bin
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.load import read_any, write_any

SCALE = math.log10(1.0001)


def packed(rows: Sequence[Sequence[Tuple[int, int]]], room: int) -> bytes:
    """Rows of (value, bits), from the lowest bit on; as many bytes as `room` rows and one more have, and 8."""
    bits, place, total = 0, 0, sum(width for _, width in rows[0]) if rows else 0
    for row in rows:
        for value, width in row:
            assert 0 <= value < 1 << width
            bits |= value << place
            place += width
    return bits.to_bytes(((1 + room) * total + 7) // 8 + 8, "little")


def sphinx_bytes(model: NgramArrays, extra: int = 0, words: Sequence[str] = ()) -> bytes:
    """The model in Sphinx's format; the header promises `extra` n-grams of each order more than there are."""
    names = list(words) or model.words
    order, counts = model.order, [model.sizes[0], *(size + extra for size in model.sizes[1:])]
    # the trie runs backwards: sorted by the last word, then the one before it
    grams: List[Dict[Tuple[int, ...], Tuple[float, float]]] = []
    for number in range(1, order + 1):
        column = model.columns(number)
        values = zip(column.rows.tolist(), column.logprob.tolist(), column.backoff.tolist())
        grams.append({tuple(reversed(row)): (p / SCALE, b / SCALE) for row, p, b in values})
    keys = [sorted(table) for table in grams]
    begins = []
    for number in range(order - 1):
        longer = [key[:-1] for key in keys[number + 1]]
        begins.append([sum(key < gram for key in longer) for gram in keys[number]] + [len(longer)])
    out = sphinx_bin.MAGIC + struct.pack(f"<B{order}I", order, *counts) + struct.pack("<i", 1)
    tables: List[List[float]] = []
    for number in range(1, order):
        columns = zip(*(grams[number][key] for key in keys[number]))
        tables += [sorted(set(column)) for column in columns][: 1 if number == order - 1 else 2]
    for table in tables:
        out += np.array(table + [0.0] * (65536 - len(table)), "<f4").tobytes()
    rows = [(*grams[0][key], begins[0][index] if order > 1 else 0) for index, key in enumerate(keys[0])]
    out += b"".join(struct.pack("<ffI", *row) for row in [*rows, (0.0, 0.0, begins[0][-1])])
    word_bits = counts[0].bit_length()
    for number in range(1, order):
        prob_table = tables[2 * (number - 1)]
        bits: List[List[Tuple[int, int]]] = []
        for index, key in enumerate(keys[number]):
            prob, backoff = grams[number][key]
            row = [(key[-1], word_bits)]
            if number < order - 1:
                row += [(tables[2 * number - 1].index(backoff), 16), (prob_table.index(prob), 16)]
                row += [(begins[number][index], counts[number + 1].bit_length())]
            else:
                row += [(prob_table.index(prob), 16)]
            bits.append(row)
        if number < order - 1:
            bits.append([(0, word_bits), (0, 16), (0, 16), (begins[number][-1], counts[number + 1].bit_length())])
        out += packed(bits, counts[number])
    text = b"".join(word.encode() + b"\0" for word in names)
    return out + struct.pack("<I", len(text)) + text


@settings(max_examples=20, deadline=None)
@given(TEXTS, st.integers(2, 4), st.integers(0, 3))
def test_what_was_written_is_read(tmp_path_factory, sentences, order, extra):
    model = arrays([["a", "b", "c", "d"], *sentences], order)
    path = tmp_path_factory.mktemp("sphinx") / "lm.bin"
    path.write_bytes(sphinx_bytes(model, extra))
    again = sphinx_bin.read(path)
    assert (again.words, again.sizes) == (model.words, model.sizes)
    assert np.array_equal(again.ids, model.ids) and np.array_equal(again.children, model.children)
    assert again.logprob == pytest.approx(model.logprob, abs=1e-4)
    assert again.backoff == pytest.approx(model.backoff, abs=1e-4)


def test_words_in_any_order_and_gzipped(tmp_path):
    model = arrays(["a b c", "a b d"])
    (tmp_path / "x").write_bytes(gzip.compress(sphinx_bytes(model, words=["z", "<s>", "b", "é", "a", "</s>"])))
    again = read_any(tmp_path / "x")
    assert again.words == ["</s>", "<s>", "a", "b", "z", "é"]
    new = dict(zip(model.words, ["z", "<s>", "b", "é", "a", "</s>"]))
    assert again.logprob_of(new["b"], [new["a"]]) == pytest.approx(model.logprob_of("b", ["a"]), abs=1e-3)


GOOD = sphinx_bytes(arrays(["a b c", "b b", "a b d"]))
_WORDS = GOOD.index(b"</s>\0") - 4
_FIRST = 19 + 1 + 12 + 4 + 3 * 4 * 65536


def put(place: int, value: bytes) -> bytes:
    return GOOD[:place] + value + GOOD[place + len(value) :]


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "no binary language model of Sphinx's"),
        (b"Trie Language", "no binary language model of Sphinx's"),
        (GOOD.replace(b"Trie", b"Tree"), "no binary language model of Sphinx's"),
        (put(19, b"\x01"), "of order 1"),
        (put(19, b"\xff"), "of order 255"),
        (put(20, struct.pack("<I", 0)), "without a word"),
        (put(20, struct.pack("<I", 2**32 - 1)), "cut off in the 1-grams"),
        (put(24, struct.pack("<I", 2**32 - 1)), "cut off in the 2-grams"),
        (put(28, struct.pack("<I", 2**32 - 1)), "cut off in"),
        (put(32, struct.pack("<i", 0)), "of quantisation 0"),
        (put(36, struct.pack("<f", math.nan)), "2-grams with numbers that are none"),
        (put(_FIRST, struct.pack("<f", math.inf)), "1-grams with numbers that are none"),
        (put(_FIRST + 8, struct.pack("<I", 7)), "2-grams that begin out of order"),
        (put(_FIRST + 6 * 12 + 8, struct.pack("<I", 10**6)), "2-grams that begin out of order"),
        (put(_FIRST + 7 * 12, b"\xff" * 8), "2-grams of words that it has not"),
        (put(_FIRST + 7 * 12, b"\0" * 40), "begin out of order|stands there twice"),
        (put(_WORDS, struct.pack("<I", 2**32 - 1)), "cut off in its words"),
        (put(_WORDS + 4, b"\0"), "words where 6 should stand"),
        (put(_WORDS + 4, b"\xff"), "not UTF-8"),
        (put(_WORDS + 4, b" "), "words where 6 should stand"),
        (GOOD.replace(b"a\0b\0", b"a\0a\0"), "a word that stands there twice"),
    ],
)
def test_damage(tmp_path, data, said):
    (tmp_path / "lm.bin").write_bytes(data)
    with pytest.raises(DataError, match=said) as info:
        sphinx_bin.read(tmp_path / "lm.bin")
    assert info.value.file == str(tmp_path / "lm.bin") and info.value.remedy


def test_cut_off_anywhere_and_bytes_of_any_kind(tmp_path):
    path = tmp_path / "lm.bin"
    for cut in [*range(1, 60), *range(_FIRST - 20, len(GOOD))]:
        path.write_bytes(GOOD[:cut])
        with pytest.raises(DataError):
            sphinx_bin.read(path)
    rng = np.random.default_rng(0)
    whole = np.frombuffer(GOOD, np.uint8)
    for place in range(_FIRST, len(GOOD)):
        changed = whole.copy()
        changed[place] = rng.integers(256)
        path.write_bytes(changed.tobytes())
        try:
            model = sphinx_bin.read(path)
        except DataError:
            continue
        # what a changed value leaves readable can be scored
        assert np.isfinite(model.scores(model.rows(model.order))[0]).any()


def test_any_format_is_known_by_its_first_bytes(tmp_path):
    model = arrays(["a b c", "a b d"])
    (tmp_path / "x.arpa").write_bytes(sphinx_bytes(model))
    arpa.write(tmp_path / "lm.bin", model)
    write_any(tmp_path / "lm.safetensors", model)
    for name in ("x.arpa", "lm.bin", "lm.safetensors"):
        assert read_any(tmp_path / name).sizes == model.sizes, name
    for path in (tmp_path, tmp_path / "none", tmp_path / "none.safetensors"):
        with pytest.raises(Exception, match="folder|no such"):
            read_any(path)


def test_the_wheels_own_model():
    pocketsphinx = pytest.importorskip("pocketsphinx", reason="the English trigram (pip install pocketsphinx)")
    folder = Path(str(pocketsphinx.__file__)).parent / "model" / "en-us"
    model = read_any(folder / "en-us.lm.bin")
    assert model.sizes == (72547, 2051541, 1669625)
    # probabilities of 16 bits
    for history in (["<s>", "i"], ["in", "the"], ["thank"]):
        probs = model.scores(np.array([[*model.numbers(history), word] for word in range(len(model.words))]))[0]
        assert np.sum(10.0**probs) == pytest.approx(1.0, abs=0.02)
    assert model.logprob_of("you", ["thank"]) > math.log(0.3)
