"""Counts of n-grams of a text of any length: the memory grows with the number of different n-grams, not with the text.

Words become numbers as they are met. The n-grams of a block of text are sorted and counted, and the blocks' tables are
merged as soon as two are of like size: so each n-gram is sorted again log(blocks) times at most, and little more is
held than one table. Only the highest order is counted everywhere, and the shorter ones at the beginning of sentences;
the others follow (`adjusted`).
"""

from __future__ import annotations

from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set

import numpy as np

from hybrid.errors import DataError
from hybrid.lm.arrays import sorting
from hybrid.lm.text import END, START, Sentence, sentence_words

_BLOCK = 1 << 20  # words that are counted together


class Table(NamedTuple):
    """n-grams of one order, sorted, each once: rows int32 [N, order] of words' numbers; counts int64 [N]."""

    rows: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, counts: np.ndarray) -> Table:
        """Return the table of rows in any order, the counts of equal ones summed."""
        order = sorting(rows)
        if order is not None:
            rows, counts = rows[order], counts[order]
        if not len(rows):
            return cls(rows, counts)
        first = np.flatnonzero(np.concatenate([[True], (rows[1:] != rows[:-1]).any(axis=1)]))
        return cls(rows[first], np.add.reduceat(counts, first))

    @classmethod
    def joined(cls, tables: Sequence[Table]) -> Table:
        return cls.of(*(np.concatenate(arrays) for arrays in zip(*tables)))


class _Merged:
    """A table that grows by blocks."""

    def __init__(self, order: int) -> None:
        self.tables: List[Table] = [Table(np.empty((0, order), np.int32), np.empty(0, np.int64))]

    def add(self, rows: np.ndarray) -> None:
        self.tables.append(Table.of(rows, np.ones(len(rows), np.int64)))
        while len(self.tables) > 1 and len(self.tables[-2].rows) <= 2 * len(self.tables[-1].rows):
            self.tables.append(Table.joined([self.tables.pop(), self.tables.pop()]))

    def result(self) -> Table:
        return Table.joined(self.tables)


class Counts(NamedTuple):
    """What a text has. words: those met, by number; the first two are <s> and </s>. tables: of the orders 1 to n; of
    the highest all n-grams, of the others those that begin a sentence, with <s>."""

    words: List[str]
    tables: List[Table]

    def adjusted(self) -> List[Table]:
        """Return a(g) of each order (lm/ngram.py). An n-gram that does not begin with <s> stands behind another word
        wherever it occurs, so it is the end of so many n-grams one word longer as there are words before it."""
        adjusted = [self.tables[-1]]
        for table in reversed(self.tables[:-1]):
            longer = adjusted[-1].rows[:, 1:]
            adjusted.append(Table.joined([table, Table(longer, np.ones(len(longer), np.int64))]))
        unigrams = adjusted[-1]
        predicted = unigrams.rows[:, 0] != 0  # not <s>
        return [Table(unigrams.rows[predicted], unigrams.counts[predicted]), *adjusted[-2::-1]]


def count(
    sentences: Iterable[Sentence], order: int, known_words: Optional[Set[str]] = None, unknown: Optional[str] = None,
    *, block: int = _BLOCK,
) -> Counts:  # fmt: skip
    """Count the n-grams of sentences up to an order, each between one <s> and one </s>; empty ones are skipped.

    known_words: another word is replaced by `unknown`. Raises DataError where that is None, and where there is no
    sentence.
    """
    numbers: Dict[str, int] = {START: 0, END: 1}
    merged = [_Merged(length) for length in range(1, order + 1)]
    tokens: List[int] = []
    begins: List[int] = []
    has_sentence = False
    for place, sentence in enumerate(sentences, 1):
        words = sentence_words(sentence, f"sentence {place}")
        if not words:
            continue
        has_sentence = True
        begins.append(len(tokens))
        tokens.append(0)
        for word in words:
            number = numbers.get(word)
            if number is None:
                if known_words is not None and word not in known_words:
                    if unknown is None:
                        raise DataError(
                            f"sentence {place}: the word {word} is not in the vocabulary",
                            remedy="add it to the vocabulary, or name a word for unknown ones",
                        )
                    word = unknown
                number = numbers.setdefault(word, len(numbers))
            tokens.append(number)
        tokens.append(1)
        if len(tokens) >= block:
            _add(merged, tokens, begins)
            tokens, begins = [], []
    if not has_sentence:
        raise DataError("no sentence to train a language model on", remedy="give a text with one sentence a line")
    _add(merged, tokens, begins)
    return Counts(list(numbers), [table.result() for table in merged])


def _add(merged: Sequence[_Merged], tokens: List[int], begins: List[int]) -> None:
    """Count a block of whole sentences."""
    text, first = np.array(tokens, np.int32), np.array(begins, np.int64)
    lengths = np.diff(np.append(first, len(text)))
    for order, table in enumerate(merged, 1):
        if order < len(merged):
            starts = first[lengths >= order]
        else:
            starts = _inside(lengths, order)
        table.add(text[starts[:, None] + np.arange(order)])


def _inside(lengths: np.ndarray, order: int) -> np.ndarray:
    """Return where n-grams can begin that do not leave their sentence."""
    ends = np.repeat(np.cumsum(lengths), lengths)
    places = np.arange(len(ends))
    return places[places + order <= ends]
