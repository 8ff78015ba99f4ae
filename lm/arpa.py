"""ARPA files: the text format of back-off n-gram models, any order, log10, plain or gzipped.

    comments, until a line that is \\data\\
    ngram 1=COUNT
    ngram 2=COUNT

    \\1-grams:
    LOG10_P  WORD  [LOG10_BACKOFF]
    \\2-grams:
    LOG10_P  WORD WORD
    \\end\\
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Dict, Iterator, List, NoReturn, Optional, Set, Tuple

from hybrid.errors import DataError
from hybrid.io import PathLike, read_lines, write_lines
from hybrid.lm.model import LOG10_ZERO, Ngram, NgramModel
from hybrid.lm.text import split_words

_COUNT = re.compile(r"ngram\s+([0-9]+)\s*=\s*([0-9]+)$")
_SECTION = re.compile(r"\\([0-9]+)-grams:$")
_REMEDY = "make the file again, or give another one"


def read(path: PathLike) -> NgramModel:
    """Read an ARPA file of any order.

    Raises DataError naming file and line for: no `\\data\\` or `\\end\\`, counts that do not match, orders that
    are missing or out of order, lines with too few or too many fields, numbers that are none, a log probability
    above 0, an n-gram that is listed twice or holds a word that is no unigram, bytes that are not UTF-8.
    """
    return _Reader(Path(path)).model()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.lines = self._lines()
        self.line = ""

    def _fail(self, what: str, remedy: str = _REMEDY) -> NoReturn:
        raise DataError(f"line {self.number}: {what}", file=self.path, remedy=remedy)

    def _lines(self) -> Iterator[str]:
        """Lines without the blanks around them, empty ones left out."""
        for number, line in enumerate(read_lines(self.path, "give the path of an n-gram model", what="ARPA file"), 1):
            self.number = number
            line = line.strip(" \t")
            if line:
                yield line

    def _next(self) -> bool:
        line: Optional[str] = next(self.lines, None)
        self.line = line or ""
        return line is not None

    def model(self) -> NgramModel:
        counts = self._header()
        probs: List[Dict[Ngram, float]] = []
        backoffs: List[Dict[Ngram, float]] = []
        words: Set[str] = set()
        for order, count in enumerate(counts, 1):
            section = _SECTION.match(self.line)
            if not section or int(section[1]) != order:
                what = f"{self.line!r}" if self.line else "the end of the file"
                self._fail(f"{what} where \\{order}-grams: should stand")
            prob, backoff = self._section(order, words)
            if len(prob) != count:
                self._fail(f"the {order}-grams end after {len(prob)}; the header promises {count}")
            probs.append(prob)
            backoffs.append(backoff)
            if order == 1:
                words = {word for (word,) in prob}
        if self.line != "\\end\\":
            what = f"{self.line!r}" if self.line else "the end of the file"
            self._fail(f"{what} where \\end\\ should stand", "the file is cut off: copy or make it again")
        return NgramModel(probs, backoffs[:-1])

    def _header(self) -> List[int]:
        while self._next():
            if self.line == "\\data\\":
                break
        else:
            self._fail("no \\data\\ in the file", "give a language model in ARPA format")
        counts: List[int] = []
        while self._next() and not self.line.startswith("\\"):
            match = _COUNT.match(self.line)
            if not match:
                self._fail(f"{self.line!r} is not `ngram ORDER=COUNT`")
            if int(match[1]) != len(counts) + 1:
                self._fail(f"the count of {match[1]}-grams where that of {len(counts) + 1}-grams should stand")
            counts.append(int(match[2]))
        if not counts:
            self._fail("no `ngram ORDER=COUNT` after \\data\\")
        if counts[0] == 0:
            self._fail("a model without a word")
        return counts

    def _section(self, order: int, words: Set[str]) -> Tuple[Dict[Ngram, float], Dict[Ngram, float]]:
        probs: Dict[Ngram, float] = {}
        backoffs: Dict[Ngram, float] = {}
        while self._next() and not self.line.startswith("\\"):
            fields = split_words(self.line)
            if not order + 1 <= len(fields) <= order + 2:
                self._fail(f"{len(fields)} fields; a {order}-gram has {order + 1}, or {order + 2} with its back-off")
            prob = self._float(fields[0])
            if prob > 0.0:
                self._fail(f"the log probability {fields[0]} is above 0, a probability above 1")
            ngram = tuple(fields[1 : order + 1])
            if ngram in probs:
                self._fail(f"the {order}-gram {' '.join(ngram)} stands there twice")
            if order > 1:
                for word in ngram:
                    if word not in words:
                        self._fail(f"the word {word} is not among the 1-grams")
            probs[ngram] = max(prob, LOG10_ZERO)
            if len(fields) == order + 2:
                backoff = self._float(fields[-1])
                if backoff != 0.0:
                    backoffs[ngram] = max(backoff, LOG10_ZERO)
        return probs, backoffs

    def _float(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            self._fail(f"{text!r} is not a number")
        if math.isnan(value) or value == math.inf:
            self._fail(f"{text!r} is not a number that can stand here")
        return value


def write(path: PathLike, model: NgramModel) -> None:
    """Write the model, n-grams sorted, logarithms with 7 digits: `read` gives the same model to 1e-6.

    Raises DiskError where it cannot be written; the file is whole or absent.
    """
    write_lines(path, _format(model))


def _format(model: NgramModel) -> Iterator[str]:
    yield from ("", "\\data\\")
    yield from (f"ngram {order}={len(prob)}" for order, prob in enumerate(model.probs, 1))
    for order, prob in enumerate(model.probs, 1):
        yield from ("", f"\\{order}-grams:")
        backoff = model.backoffs[order - 1] if order < model.order else {}
        for ngram in sorted(prob):
            tail = f"\t{backoff[ngram]:.7g}" if ngram in backoff else ""
            yield f"{prob[ngram]:.7g}\t{' '.join(ngram)}{tail}"
    yield from ("", "\\end\\")
