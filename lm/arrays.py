"""NgramArrays: a back-off n-gram model of millions of n-grams in five arrays, some 12 bytes an n-gram.

The n-grams of all orders stand in one row, order after order, each order sorted by the numbers of its words, and a
number follows from the word's place among the sorted words. So the n-grams that are one word longer than n-gram i stand
together, and a model is a trie:

    ids[i]                             the last word of n-gram i; of a 1-gram that is i itself
    children[i] ... children[i + 1]    the n-grams that are n-gram i and a word behind it
    logprob[i], backoff[i]             log10 of P and B, as in an ARPA file (lm/model.py)

    words a b c        1-grams  a b c      2-grams  a a, a c, b a       3-grams  a c b
    i                           0 1 2               3    4    5                  6
    ids                         0 1 2               0    2    0                  1
    children                    3 5 6               6    6    7         7

The first word of an n-gram is not written down: it is found on the way from the root. Each n-gram's history must be
listed; an ARPA file may lack some, and they are added with the probability that they have by backing off, and B = 1:
the model stays what it is.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from hybrid.errors import DataError
from hybrid.io import PathLike, load_tensors, save_tensors
from hybrid.lm.model import LN10, LOG10_ZERO, UNKNOWN_NAMES, Ngram, NgramModel
from hybrid.lm.text import START
from hybrid.lm.trie import find_rows, score_rows

_MOST = 2**31 - 1  # n-grams, numbered in 32 bits


class Columns(NamedTuple):
    """The n-grams of one order. rows: int32 [N, order], words by number; logprob, backoff: [N], log10."""

    rows: np.ndarray
    logprob: np.ndarray
    backoff: np.ndarray


class ListedTwice(DataError):
    """An n-gram that stands in two rows of its Columns; order, and the number of the second row."""

    def __init__(self, ngram: Ngram, row: int) -> None:
        super().__init__(f"the {len(ngram)}-gram {' '.join(ngram)} stands there twice", remedy="leave one of them out")
        self.order, self.row = len(ngram), row


class NgramArrays:
    """words: sorted; sizes: number of n-grams of each order; arrays as above. notices: what was odd but usable."""

    def __init__(
        self,
        words: Sequence[str],
        sizes: Sequence[int],
        ids: np.ndarray,
        children: np.ndarray,
        logprob: np.ndarray,
        backoff: np.ndarray,
        notices: Sequence[str] = (),
    ) -> None:
        self.words = list(words)
        self.sizes = tuple(int(size) for size in sizes)
        self.ids, self.children, self.logprob, self.backoff = ids, children, logprob, backoff
        self.order = len(self.sizes)
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        self.notices = list(notices)
        self.unknown: Optional[str] = next((name for name in UNKNOWN_NAMES if name in self), None)

    # ------------------------------------------------------------------ making and storing

    @classmethod
    def from_columns(cls, words: Sequence[str], columns: Sequence[Columns], dtype: type = np.float32) -> NgramArrays:
        """Make a model of n-grams in any order. words: in any order, each has a 1-gram; rows name them by place.

        Raises ListedTwice, and DataError for more than 2^31 n-grams, or a model without a word.
        """
        if not words:
            raise DataError("an n-gram model without a word", remedy="train it on text, or give another file")
        if sum(len(column.logprob) for column in columns) > _MOST:
            raise DataError(f"an n-gram model of more than {_MOST} n-grams", remedy="prune it")
        order = sorted(range(len(words)), key=words.__getitem__)
        rank = np.empty(len(words), np.int32)
        rank[order] = np.arange(len(words), dtype=np.int32)
        names = [words[index] for index in order]
        ranked = [column._replace(rows=rank[column.rows]) for column in columns]
        num_added = 0
        while True:
            missing = cls._build(names, ranked, dtype)
            if isinstance(missing, NgramArrays):
                break
            number = missing.shape[1]
            num_added += len(missing)
            nan, zero = np.full(len(missing), np.nan), np.zeros(len(missing))
            added = Columns(missing, nan, zero)
            ranked[number - 1] = Columns(*(np.concatenate(pair) for pair in zip(ranked[number - 1], added)))
        model = missing
        if num_added:
            model._fill()
            model.notices.append(f"{num_added} histories of n-grams were not listed themselves: added as they back off")
        return model

    @classmethod
    def _build(cls, words: List[str], columns: Sequence[Columns], dtype: type) -> Union[NgramArrays, np.ndarray]:
        """The model, or the histories that the first order that lacks some lacks: int32 [N, order]."""
        ids: List[np.ndarray] = []
        logprob: List[np.ndarray] = []
        backoff: List[np.ndarray] = []
        children = np.array([len(words)], np.int32)
        offset, below = 0, 0
        for number, column in enumerate(columns, 1):
            rows = column.rows
            order = sorting(rows)
            if order is not None:
                rows = rows[order]
            same = np.flatnonzero((rows[1:] == rows[:-1]).all(axis=1))
            if len(same):
                second = int((same + 1 if order is None else order[same + 1]).min())
                raise ListedTwice(tuple(words[index] for index in column.rows[second]), second)
            if number > 1:
                parents = np.empty(len(rows), np.int64)
                listed = np.concatenate(ids)
                find_rows(listed, children, rows[:, :-1], parents)
                if (parents < 0).any():
                    return np.unique(rows[parents < 0, :-1], axis=0)
                counts = np.bincount(parents - below, minlength=offset - below)
                begins = offset + np.concatenate([[0], np.cumsum(counts)])
                children = np.concatenate([children[:-1], begins.astype(np.int32)])
            below, offset = offset, offset + len(rows)
            ids.append(np.ascontiguousarray(rows[:, -1]))
            logprob.append(_taken(column.logprob, order, dtype))
            if number < len(columns):
                backoff.append(_taken(column.backoff, order, dtype))
        sizes = [len(row) for row in ids]
        joined = np.concatenate(backoff) if backoff else np.zeros(0, dtype)
        return cls(words, sizes, np.concatenate(ids), children, np.concatenate(logprob), joined)

    def _fill(self) -> None:
        """Give the n-grams that were added (logprob NaN) what they have by backing off, the shortest first."""
        for number in range(1, self.order + 1):
            begin, end = self.offsets[number - 1], self.offsets[number]
            added = np.flatnonzero(np.isnan(self.logprob[begin:end]))
            if len(added):
                rows = self.rows(number)[added]
                scores = self.scores(rows[:, 1:])[0] + self.backoff[self.find(rows[:, :-1])]
                self.logprob[begin + added] = np.maximum(scores, LOG10_ZERO)

    @classmethod
    def from_model(cls, model: NgramModel, dtype: type = np.float32) -> NgramArrays:
        """Make arrays of a model in dictionaries."""
        words = [word for (word,) in model.probs[0]]
        number = {word: index for index, word in enumerate(words)}
        columns = []
        for order, prob in enumerate(model.probs, 1):
            rows = np.array([[number[word] for word in ngram] for ngram in prob], np.int32).reshape(len(prob), order)
            table = model.backoffs[order - 1] if order < model.order else {}
            backoff = np.array([table.get(ngram, 0.0) for ngram in prob])
            columns.append(Columns(rows, np.array(list(prob.values())), backoff))
        arrays = cls.from_columns(words, columns, dtype)
        arrays.notices = [*model.notices, *arrays.notices]
        return arrays

    def to_model(self) -> NgramModel:
        """Return the same model in dictionaries, some 300 bytes an n-gram."""
        names = np.array([*self.words, ""], dtype=object)[:-1]
        probs: List[Dict[Ngram, float]] = []
        backoffs: List[Dict[Ngram, float]] = []
        for number in range(1, self.order + 1):
            column = self.columns(number)
            ngrams = list(zip(*(names[part].tolist() for part in column.rows.T)))
            probs.append(dict(zip(ngrams, column.logprob.tolist())))
            if number < self.order:
                backoffs.append({ngram: value for ngram, value in zip(ngrams, column.backoff.tolist()) if value != 0.0})
        return NgramModel(probs, backoffs, self.notices)

    def save(self, path: PathLike) -> None:
        """Write a safetensors file that `load` reads in a second. Raises DiskError."""
        blob = np.frombuffer("\n".join(self.words).encode(), np.uint8)
        arrays = {"ids": self.ids, "children": self.children, "logprob": self.logprob, "backoff": self.backoff}
        save_tensors(path, {"words": blob, "sizes": np.array(self.sizes, np.int64), **arrays})

    @classmethod
    def load(cls, path: PathLike) -> NgramArrays:
        """Read what `save` wrote. Raises DataError or ModelError for a file that is none."""
        tensors: Dict[str, Any] = dict(load_tensors(path))
        if set(tensors) != {"words", "sizes", "ids", "children", "logprob", "backoff"}:
            raise DataError("no n-gram model", file=path, remedy="give a file that NgramArrays.save wrote, or ARPA")
        words = bytes(tensors.pop("words")).decode("utf-8", "replace").split("\n")
        model = cls(words, **tensors)
        model._check(path)
        return model

    def _check(self, path: PathLike) -> None:
        """Raise DataError where the arrays do not fit each other, so that no search leaves them."""
        inner = int(self.offsets[-2]) if self.order else -1
        children = self.children.astype(np.int64)
        sound = (
            self.order > 0
            and self.sizes[0] == len(self.words) > 0
            and len(self.ids) == len(self.logprob) == self.offsets[-1]
            and len(self.backoff) == inner
            and len(children) == inner + 1
            and children[0] == self.sizes[0]
            and children[-1] == self.offsets[-1]
            and bool((np.diff(children) >= 0).all())
            and np.array_equal(children[self.offsets[:-1]], self.offsets[1:])
            and bool((self.ids >= 0).all() and (self.ids < len(self.words)).all())
            and np.array_equal(self.ids[: self.sizes[0]], np.arange(self.sizes[0]))
            and bool((np.diff(self.ids[self.sizes[0] :]) > 0)[~_is_begin(children, self.sizes[0])].all())
            and all(first < second for first, second in zip(self.words, self.words[1:]))
        )
        if not sound:
            raise DataError("a damaged n-gram model", file=path, remedy="make it again")

    # ------------------------------------------------------------------ what it holds

    def __contains__(self, word: object) -> bool:
        return word in self.number_of

    def __len__(self) -> int:
        """The number of n-grams of all orders."""
        return int(self.offsets[-1])

    @cached_property
    def number_of(self) -> Dict[str, int]:
        """{word: its number}."""
        return {word: number for number, word in enumerate(self.words)}

    def numbers(self, words: Sequence[str]) -> np.ndarray:
        """Return the number of each word, int32: that of the unknown word, where there is one, for words that the model
        lacks, else -1."""
        table = self.number_of
        other = -1 if self.unknown is None else table[self.unknown]
        return np.fromiter((table.get(word, other) for word in words), np.int32, len(words))

    def parents(self, order: int) -> np.ndarray:
        """Return the history of each n-gram of an order, 2 or more, as places in the row of all n-grams: int64."""
        begin, end = self.offsets[order - 2], self.offsets[order - 1]
        return np.repeat(np.arange(begin, end), np.diff(self.children[begin : end + 1]))

    def rows(self, order: int) -> np.ndarray:
        """Return the words of each n-gram of an order, int32 [N, order]."""
        if order == 1:
            return np.arange(self.sizes[0], dtype=np.int32)[:, None]
        rows = np.empty((self.sizes[order - 1], order), np.int32)
        rows[:, :-1] = self.rows(order - 1)[self.parents(order) - self.offsets[order - 2]]
        rows[:, -1] = self.ids[self.offsets[order - 1] : self.offsets[order]]
        return rows

    def columns(self, order: int) -> Columns:
        """Return the n-grams of an order with their numbers; of the highest, backoff is zeros."""
        begin, end = self.offsets[order - 1], self.offsets[order]
        backoff = self.backoff[begin:end] if order < self.order else np.zeros(end - begin, self.backoff.dtype)
        return Columns(self.rows(order), self.logprob[begin:end], backoff)

    def find(self, rows: np.ndarray) -> np.ndarray:
        """Return the place of each n-gram of int32 [N, k], -1 where it is not listed: int64 [N]."""
        nodes = np.empty(len(rows), np.int64)
        find_rows(self.ids, self.children, np.ascontiguousarray(rows, np.int32), nodes)
        return nodes

    def scores(self, rows: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return log10 p(last word | words before it) of each of int32 [N, k], -inf for 0 and for the number -1, and
        the lengths of the n-grams that it was found at."""
        scores, orders = np.empty(len(rows)), np.empty(len(rows), np.int32)
        rows = np.ascontiguousarray(rows[:, -self.order :], np.int32)
        score_rows(self.ids, self.children, self.logprob, self.backoff, rows, scores, orders)
        return scores, orders

    def logprob_of(self, word: str, history: Sequence[str] = ()) -> float:
        """Return the natural log of p(word | history), as NgramModel.logprob does."""
        if word == START:
            return -math.inf
        return float(self.scores(self.numbers([*history, word])[None, :])[0][0]) * LN10


def sorting(rows: np.ndarray) -> Optional[np.ndarray]:
    """Return the order that sorts rows of words, int32 [N, k], stably; None where they are sorted."""
    if len(rows) < 2:
        return None
    if rows.shape[1] == 1:
        keys = [rows[:, 0].astype(np.int64)]
    else:  # two words a key, the last keys first, as lexsort wants them
        keys = [
            rows[:, begin].astype(np.int64) << 32 | rows[:, begin + 1] if begin + 1 < rows.shape[1] else rows[:, begin]
            for begin in range(0, rows.shape[1], 2)
        ][::-1]
    rising = np.zeros(len(rows) - 1, bool)
    equal = np.ones(len(rows) - 1, bool)
    for key in reversed(keys):
        rising |= equal & (key[1:] > key[:-1])
        equal &= key[1:] == key[:-1]
    return None if (rising | equal).all() else np.lexsort(keys)


def _taken(values: np.ndarray, order: Optional[np.ndarray], dtype: type) -> np.ndarray:
    return np.asarray(values if order is None else values[order], dtype)


def _is_begin(children: np.ndarray, num_words: int) -> np.ndarray:
    """Whether each n-gram of order 2 or more, but the first, is the first of its history."""
    begin = np.zeros(children[-1] + 1 - num_words, bool)
    begin[children - num_words] = True
    return begin[1:-1]
