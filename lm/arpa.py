"""ARPA files: the text format of back-off n-gram models, any order, log10, plain or gzipped.

    comments, until a line that is \\data\\
    ngram 1=COUNT
    ngram 2=COUNT

    \\1-grams:
    LOG10_P  WORD  [LOG10_BACKOFF]
    \\2-grams:
    LOG10_P  WORD WORD
    \\end\\

`read` gives dictionaries (lm/model.py), `read_arrays` compact arrays (lm/arrays.py): for millions of n-grams. Both read
the file as a stream of blocks.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import BinaryIO, Dict, Iterable, Iterator, List, NamedTuple, NoReturn, Sequence, Tuple, Union

import numpy as np

from hybrid.errors import DataError
from hybrid.io import PathLike, decode_line, open_bytes, write_lines
from hybrid.lm.arpa_lines import WordTable, scan, word_table
from hybrid.lm.arrays import Columns, ListedTwice, NgramArrays
from hybrid.lm.model import LOG10_ZERO, Ngram, NgramModel
from hybrid.lm.text import split_words

_COUNT = re.compile(r"ngram\s+([0-9]+)\s*=\s*([0-9]+)$")
_SECTION = re.compile(r"\\([0-9]+)-grams:$")
_REMEDY = "make the file again, or give another one"
_BLOCK = 1 << 22  # bytes read at a time
_ROWS = 1 << 17  # n-grams, at least, that there is room for at a time


def read(path: PathLike) -> NgramModel:
    """Read an ARPA file of any order.

    Raises DataError naming file and line for: no `\\data\\` or `\\end\\`, counts that do not match, orders that
    are missing or out of order, lines with too few or too many fields, numbers that are none, a log probability
    above 0, an n-gram that is listed twice or holds a word that is no unigram, bytes that are not UTF-8.
    """
    with open_bytes(path, "give the path of an n-gram model", what="ARPA file") as stream:
        reader = _Reader(Path(path), stream)
        words, sections = reader.model()
    names = np.array([*words, ""], dtype=object)[:-1]
    probs: List[Dict[Ngram, float]] = []
    backoffs: List[Dict[Ngram, float]] = []
    for section in sections:
        ngrams = list(zip(*(names[part].tolist() for part in section.rows.T)))
        prob = dict(zip(ngrams, section.logprob.tolist()))
        if len(prob) < len(ngrams):
            reader.listed_twice(ngrams, section)
        probs.append(prob)
        backoffs.append({ngram: value for ngram, value in zip(ngrams, section.backoff.tolist()) if value != 0.0})
    return NgramModel(probs, backoffs[:-1])


def read_arrays(path: PathLike) -> NgramArrays:
    """Read an ARPA file of any order into compact arrays. Raises DataError as `read`."""
    with open_bytes(path, "give the path of an n-gram model", what="ARPA file") as stream:
        return read_stream(stream, path)


def read_stream(stream: BinaryIO, path: PathLike) -> NgramArrays:
    """Read an ARPA file that is open already into compact arrays. path: for errors. Raises DataError as `read`."""
    reader = _Reader(Path(path), stream)
    words, sections = reader.model()
    try:
        return NgramArrays.from_columns(words, [Columns(*section[:3]) for section in sections])
    except ListedTwice as error:
        reader.fail(error.what, number=int(sections[error.order - 1].lines[error.row]))


class _Section(NamedTuple):
    """The n-grams of an order as Columns have them (float64), and the line of each."""

    rows: np.ndarray
    logprob: np.ndarray
    backoff: np.ndarray
    lines: np.ndarray


class _Reader:
    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.stream = stream
        self.number = 0  # of the line that was read last
        self.line = ""  # without the blanks around it; "": the file is at its end
        self.block = b""
        self.position = 0  # of what is not read yet, in the block
        self.at_end = False

    def fail(self, what: str, remedy: str = _REMEDY, number: int = 0) -> NoReturn:
        raise DataError(f"line {number or self.number}: {what}", file=self.path, remedy=remedy)

    def listed_twice(self, ngrams: Sequence[Ngram], section: _Section) -> NoReturn:
        seen = set()
        for ngram, number in zip(ngrams, section.lines.tolist()):
            if ngram in seen:
                self.fail(f"the {len(ngram)}-gram {' '.join(ngram)} stands there twice", number=number)
            seen.add(ngram)
        raise AssertionError("no n-gram stands there twice")

    def _more(self) -> bool:
        """Read on behind what is left of the block; return whether there was anything."""
        more = b"" if self.at_end else self.stream.read(_BLOCK)
        self.at_end = not more
        self.block, self.position = self.block[self.position :] + more, 0
        return bool(more)

    def _next(self) -> bool:
        """Take the next line that is not empty."""
        while True:
            end = self.block.find(b"\n", self.position)
            while end < 0 and self._more():
                end = self.block.find(b"\n", self.position)
            end = len(self.block) if end < 0 else end + 1
            if end == self.position:
                self.line = ""
                return False
            raw, self.position = self.block[self.position : end], end
            self.number += 1
            self.line = decode_line(raw, self.number, self.path).strip(" \t")
            if self.line:
                return True

    def model(self) -> Tuple[List[str], List[_Section]]:
        """The words in the file's order, and the n-grams of each order; the same n-gram may be there twice."""
        counts = self._header()
        words: List[str] = []
        number_of: Dict[str, int] = {}
        sections: List[_Section] = []
        for order, count in enumerate(counts, 1):
            match = _SECTION.match(self.line)
            if not match or int(match[1]) != order:
                what = f"{self.line!r}" if self.line else "the end of the file"
                self.fail(f"{what} where \\{order}-grams: should stand")
            if order == 1:
                section = self._words(number_of)
                words = list(number_of)
                table = word_table(words)
            else:
                section = self._section(order, number_of, table)
            if len(section.rows) != count:
                self.fail(f"the {order}-grams end after {len(section.rows)}; the header promises {count}")
            sections.append(section)
        if self.line != "\\end\\":
            what = f"{self.line!r}" if self.line else "the end of the file"
            self.fail(f"{what} where \\end\\ should stand", "the file is cut off: copy or make it again")
        return words, sections

    def _header(self) -> List[int]:
        while self._next():
            if self.line == "\\data\\":
                break
        else:
            self.fail("no \\data\\ in the file", "give a language model in ARPA format")
        counts: List[int] = []
        while self._next() and not self.line.startswith("\\"):
            match = _COUNT.match(self.line)
            if not match:
                self.fail(f"{self.line!r} is not `ngram ORDER=COUNT`")
            if int(match[1]) != len(counts) + 1:
                self.fail(f"the count of {match[1]}-grams where that of {len(counts) + 1}-grams should stand")
            counts.append(int(match[2]))
        if not counts:
            self.fail("no `ngram ORDER=COUNT` after \\data\\")
        if counts[0] == 0:
            self.fail("a model without a word")
        return counts

    def _words(self, number_of: Dict[str, int]) -> _Section:
        """The 1-grams; their words go into number_of."""
        values: List[Tuple[float, float, int]] = []
        while self._next() and not self.line.startswith("\\"):
            (word,), prob, backoff = self._ngram(1, number_of)
            if word in number_of:
                self.fail(f"the 1-gram {word} stands there twice")
            number_of[word] = len(number_of)
            values.append((prob, backoff, self.number))
        table = np.array(values).reshape(-1, 3)
        rows = np.arange(len(values), dtype=np.int32)[:, None]
        return _Section(rows, table[:, 0].copy(), table[:, 1].copy(), table[:, 2].astype(np.int32))

    def _section(self, order: int, number_of: Dict[str, int], table: WordTable) -> _Section:
        parts: List[_Section] = []
        ended = False
        while not ended:
            # room for some n-grams, and not for as many as the header promises: it may lie
            room = _Section(np.empty((_ROWS, order), np.int32), np.empty(_ROWS), np.empty(_ROWS), np.empty(_ROWS, int))
            filled = 0
            while filled < _ROWS and not ended:
                data = np.frombuffer(self.block, np.uint8)
                self.position, self.number, filled = scan(data, self.position, self.number, *table, *room, filled)
                if filled == _ROWS or (self.block.find(b"\n", self.position) < 0 and self._more()):
                    continue
                ended = not self._next() or self.line.startswith("\\")
                if not ended:  # what the scan has left to be looked at
                    ngram, room.logprob[filled], room.backoff[filled] = self._ngram(order, number_of)
                    room.rows[filled] = [number_of[word] for word in ngram]
                    room.lines[filled] = self.number
                    filled += 1
            parts.append(_Section(*(array[:filled] for array in room)))
        return _Section(*(np.concatenate(arrays) for arrays in zip(*parts)))

    def _ngram(self, order: int, number_of: Dict[str, int]) -> Tuple[Ngram, float, float]:
        """The n-gram of the line, its log probability, and its back-off, 0 where there is none. number_of: of words, of
        which those of n-grams above order 1 must be."""
        fields = split_words(self.line)
        if not order + 1 <= len(fields) <= order + 2:
            self.fail(f"{len(fields)} fields; a {order}-gram has {order + 1}, or {order + 2} with its back-off")
        prob = self._float(fields[0])
        if prob > 0.0:
            self.fail(f"the log probability {fields[0]} is above 0, a probability above 1")
        for word in fields[1 : order + 1]:
            if order > 1 and word not in number_of:
                self.fail(f"the word {word} is not among the 1-grams")
        backoff = max(self._float(fields[-1]), LOG10_ZERO) if len(fields) == order + 2 else 0.0
        return tuple(fields[1 : order + 1]), max(prob, LOG10_ZERO), backoff

    def _float(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            self.fail(f"{text!r} is not a number")
        if math.isnan(value) or value == math.inf:
            self.fail(f"{text!r} is not a number that can stand here")
        return value


def write(path: PathLike, model: Union[NgramModel, NgramArrays]) -> None:
    """Write the model, n-grams sorted, logarithms with 7 digits: `read` gives the same model to 1e-6.

    Raises DiskError where it cannot be written; the file is whole or absent.
    """
    sizes = model.sizes if isinstance(model, NgramArrays) else [len(prob) for prob in model.probs]
    write_lines(path, _format(sizes, _array_lines(model) if isinstance(model, NgramArrays) else _lines(model)))


def _format(sizes: Sequence[int], sections: Iterable[Iterable[str]]) -> Iterator[str]:
    yield from ("", "\\data\\")
    yield from (f"ngram {order}={size}" for order, size in enumerate(sizes, 1))
    for order, lines in enumerate(sections, 1):
        yield from ("", f"\\{order}-grams:")
        yield from lines
    yield from ("", "\\end\\")


def _lines(model: NgramModel) -> Iterator[Iterator[str]]:
    for order, prob in enumerate(model.probs, 1):
        backoff = model.backoffs[order - 1] if order < model.order else {}
        yield (_line(prob[ngram], " ".join(ngram), backoff.get(ngram, 0.0)) for ngram in sorted(prob))


def _array_lines(model: NgramArrays) -> Iterator[Iterator[str]]:
    names = np.array([*model.words, ""], dtype=object)[:-1]
    for order in range(1, model.order + 1):
        column = model.columns(order)
        yield (line for begin in range(0, len(column.rows), _ROWS) for line in _block(column, begin, names))


def _block(column: Columns, begin: int, names: np.ndarray) -> Iterator[str]:
    rows, prob, backoff = (array[begin : begin + _ROWS] for array in column)
    ngrams = map(" ".join, zip(*(names[part].tolist() for part in rows.T)))
    return map(_line, prob.tolist(), ngrams, backoff.tolist())


def _line(prob: float, ngram: str, backoff: float) -> str:
    return f"{prob:.7g}\t{ngram}\t{backoff:.7g}" if backoff else f"{prob:.7g}\t{ngram}"
