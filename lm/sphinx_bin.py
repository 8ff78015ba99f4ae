"""Sphinx's binary n-gram models, "Trie Language Model", as sphinxbase 5 and pocketsphinx write them (en-us.lm.bin).

    "Trie Language Model"                       19 bytes
    order                                       uint8; then the number of n-grams of each order, uint32
    quantisation                                int32: 1, sixteen bits a value
    tables of 65536 float32                     for each order but the first and the last: P, B; for the last: P
    order 1: (P, B, begin) for each word, and one row more      float32, float32, uint32; begin: of its 2-grams
    order 2 .. last - 1: bits of (word, B, P, begin) an n-gram, and one row more
    last order: bits of (word, P) an n-gram
    the words                                   uint32 length of all; each ends in a zero byte

All is little-endian, and bits count from the lowest. A word's number takes as many bits as the number of words, `begin`
as many as the number of n-grams one word longer, a place in a table sixteen; an order's bits are filled up to bytes and
8 more. Values are logarithms to the base 1.0001. The trie is built from the last word backwards: what stands below the
n-gram `v w` are the words u of the 3-grams `u v w`. The header may promise more n-grams than there are; the rows
beyond are the last `begin`'s, and empty.

Such a file is a stranger's: every length is compared with what there is before anything is read.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO, List, NamedTuple, NoReturn

import numpy as np

from hybrid.errors import DataError
from hybrid.io import PathLike, open_bytes
from hybrid.lm.arrays import Columns, ListedTwice, NgramArrays
from hybrid.lm.model import LOG10_ZERO

MAGIC = b"Trie Language Model"
_MOST_ORDERS = 10
_TABLE = 1 << 16
_BITS = 16  # of a place in a table
_SCALE = math.log10(1.0001)
_WORD = np.dtype([("logprob", "<f4"), ("backoff", "<f4"), ("begin", "<u4")])
_PAD = 8  # bytes behind the bits of an order


class _Level(NamedTuple):
    """The n-grams of an order as they stand in the file. words: the first word of each; begins: of those one longer."""

    words: np.ndarray
    logprob: np.ndarray
    backoff: np.ndarray
    begins: np.ndarray


def read(path: PathLike) -> NgramArrays:
    """Read a binary model of Sphinx's. Raises DataError naming the file for one that is absent, of another format,
    cut off, or whose numbers contradict each other."""
    with open_bytes(path, "give the path of an n-gram model", what="language model") as stream:
        return read_stream(stream, path)


def read_stream(stream: BinaryIO, path: PathLike) -> NgramArrays:
    """Read a binary model from an open file. path: for errors. Raises DataError as `read`."""
    return _Reader(Path(path), stream.read()).model()


class _Reader:
    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.data = np.frombuffer(data, np.uint8)
        self.position = 0

    def _fail(self, what: str, remedy: str = "copy or download it again") -> NoReturn:
        raise DataError(what, file=self.path, remedy=remedy)

    def _take(self, size: int, what: str) -> np.ndarray:
        """The next `size` bytes."""
        if size > len(self.data) - self.position:
            self._fail(f"a binary language model that is cut off in {what}: {len(self.data)} bytes")
        begin, self.position = self.position, self.position + size
        return self.data[begin : self.position]

    def _values(self, dtype: str, count: int, what: str) -> np.ndarray:
        return self._take(np.dtype(dtype).itemsize * count, what).view(dtype)

    def model(self) -> NgramArrays:
        if bytes(self._take(min(len(MAGIC), len(self.data)), "its header")) != MAGIC:
            self._fail("no binary language model of Sphinx's", "give a .lm.bin as pocketsphinx has it, or an ARPA file")
        order = int(self._take(1, "its header")[0])
        if not 2 <= order <= _MOST_ORDERS:
            self._fail(f"a binary language model of order {order}", f"give one of order 2 to {_MOST_ORDERS}")
        counts = [int(count) for count in self._values("<u4", order, "its header")]
        if not counts[0]:
            self._fail("a binary language model without a word")
        quantisation = int(self._values("<i4", 1, "its header")[0])
        if quantisation != 1:
            what = f"a binary language model of quantisation {quantisation}"
            self._fail(what, "give one of 16 bits, or an ARPA file")
        tables = self._values("<f4", _TABLE * (2 * (order - 2) + 1), "its tables").reshape(-1, _TABLE)
        levels = [self._words(counts[0])]
        for number in range(2, order + 1):
            levels.append(self._level(number, counts, tables[2 * (number - 2) :], levels[-1]))
        words = self._names(counts[0])
        return self._arrays(words, levels)

    def _words(self, count: int) -> _Level:
        table = self._take(_WORD.itemsize * (count + 1), "the 1-grams").view(_WORD)
        begins = table["begin"].astype(np.int64)
        return _Level(np.arange(count), table["logprob"][:-1], table["backoff"][:-1], begins)

    def _level(self, order: int, counts: List[int], tables: np.ndarray, above: _Level) -> _Level:
        """The n-grams of an order of 2 or more; `above`: those of the order before, which say how many there are."""
        highest = order == len(counts)
        word_bits, count = counts[0].bit_length(), counts[order - 1]
        begin_bits = 0 if highest else counts[order].bit_length()
        total = word_bits + (_BITS if highest else 2 * _BITS + begin_bits)
        packed = self._take(((1 + count) * total + 7) // 8 + _PAD, f"the {order}-grams")
        number = int(above.begins[-1])
        if number > count or above.begins[0] != 0 or (np.diff(above.begins) < 0).any():
            self._fail(f"a damaged binary language model: {order}-grams that begin out of order")
        words = _bits(packed, total, number, 0, word_bits)
        if number and words.max() >= counts[0]:
            self._fail(f"a damaged binary language model: {order}-grams of words that it has not")
        if highest:
            return _Level(words, tables[0][_bits(packed, total, number, word_bits, _BITS)], np.zeros(number), words[:0])
        backoff = tables[1][_bits(packed, total, number, word_bits, _BITS)]
        logprob = tables[0][_bits(packed, total, number, word_bits + _BITS, _BITS)]
        begins = _bits(packed, total, number + 1, word_bits + 2 * _BITS, begin_bits)
        return _Level(words, logprob, backoff, begins)

    def _names(self, count: int) -> List[str]:
        size = int(self._values("<u4", 1, "its words")[0])
        text = bytes(self._take(size, "its words"))
        names = text.split(b"\0")
        if len(names) != count + 1 or names[-1] or any(name.split() != [name] for name in names[:-1]):
            self._fail(f"a damaged binary language model: {len(names) - 1} words where {count} should stand")
        try:
            words = [name.decode("utf-8") for name in names[:-1]]
        except UnicodeDecodeError:
            self._fail("a binary language model whose words are not UTF-8", "make it again of an ARPA file in UTF-8")
        if len(set(words)) != count:
            self._fail("a damaged binary language model: a word that stands there twice")
        return words

    def _arrays(self, words: List[str], levels: List[_Level]) -> NgramArrays:
        columns: List[Columns] = []
        rows = levels[0].words[:, None].astype(np.int32)
        for order, level in enumerate(levels, 1):
            if order > 1:
                parents = np.repeat(np.arange(len(rows)), np.diff(levels[order - 2].begins))
                rows = np.concatenate([level.words[:, None].astype(np.int32), rows[parents]], axis=1)
            logprob, backoff = (self._log10(values, order) for values in (level.logprob, level.backoff))
            columns.append(Columns(rows, np.minimum(logprob, 0.0), backoff))
        try:
            return NgramArrays.from_columns(words, columns)
        except ListedTwice as error:
            self._fail(f"a damaged binary language model: {error.what}")

    def _log10(self, values: np.ndarray, order: int) -> np.ndarray:
        if not np.isfinite(values).all():
            self._fail(f"a damaged binary language model: {order}-grams with numbers that are none")
        return np.maximum(values * _SCALE, LOG10_ZERO)


def _bits(packed: np.ndarray, total: int, count: int, offset: int, width: int) -> np.ndarray:
    """Return the field of `width` bits at `offset` in each of the first `count` rows of `total` bits: int64."""
    place = np.arange(count, dtype=np.int64) * total + offset
    first, shift = place >> 3, (place & 7).astype(np.uint64)
    value = np.zeros(count, np.uint64)
    for byte in range((width + 14) // 8):
        value |= packed[first + byte].astype(np.uint64) << np.uint64(8 * byte)
    return (value >> shift & np.uint64((1 << width) - 1)).astype(np.int64)
