"""G: an n-gram model as an acceptor of word sequences.

A state is a history; its arcs are the words listed after it, and a back-off arc to the history without its
first word. The arc of n-gram h w costs -ln P(h w), the back-off arc of h costs -ln B(h), the final cost of h is
-ln P(h </s>). Only histories that something is listed after become states: a history that nothing follows
would have no arc but the back-off, so its cost is put on the arcs that lead there (Kaldi's arpa2fst removes
these states afterwards, RemoveRedundantStates).

The back-off arc stands for "any other word", but lets listed words pass too, so a sentence has several paths:
one of them costs exactly -ln p(sentence), and the best may be cheaper. Kaldi decodes with the same approximation.
Its input is #0 and not epsilon, so that L o G can be determinized (lexicon/fst.py).

Models of millions of n-grams: everything is done by arrays, an order at a time, and an n-gram is looked up by the
numbers of its words (_Table).
"""

from __future__ import annotations

import logging
from os import PathLike
from typing import Any, List, Mapping, NamedTuple, Protocol, Sequence, Tuple, Union

import kaldifst
import numpy as np

from hybrid.errors import GraphError
from hybrid.fst import ARC, FstArrays, from_arrays
from hybrid.lm import arpa
from hybrid.lm.model import END, LN10, START, Ngram, NgramModel

log = logging.getLogger(__name__)


class NgramColumns(Protocol):
    """An n-gram model that gives the n-grams of an order as arrays: rows int32 [N, order], places of their words in
    `words`, logprob and backoff [N], log10."""

    @property
    def words(self) -> Sequence[str]: ...

    @property
    def order(self) -> int: ...

    def columns(self, order: int) -> Any:
        """Return those of an order: rows, logprob, backoff."""


def arpa_to_fst(
    model: Union[NgramModel, NgramColumns, str, PathLike], words: Mapping[str, int], *, backoff: str = "#0"
) -> kaldifst.StdVectorFst:
    """Make G of the model (or of the ARPA file at that path), costs natural logs, arcs sorted by input label.

    Matches Kaldi's arpa2fst with --disambig-symbol=#0: `<s>` is the start state's history, `</s>` a final cost,
    back-off arcs read `backoff` and write epsilon. n-grams with words that `words` lacks are left out, counted
    and logged, and so are n-grams whose history is not listed itself (nothing leads there).
    A sentence-begin state is made wherever the model has `<s>`, at order 1 too.

    Raises GraphError where no sentence is left, or where `words` lacks the back-off symbol.
    """
    if isinstance(model, (str, PathLike)):
        model = arpa.read(model)
    if backoff not in words:
        raise GraphError(f"the table of words has no {backoff}", remedy="use the words of a Lang")
    names, columns = _columns(model)
    # A word that is its own marker or epsilon can never be spoken.
    labels = np.array([0 if name in (backoff, "<eps>", START, END) else words.get(name, 0) for name in names], np.int32)
    pairs = zip(names, labels.tolist(), strict=True)
    missing = [name for name, label in pairs if not label and name not in (START, END)]
    maker = _Maker(names, labels, columns)
    fst = from_arrays(maker.grammar(words[backoff]))
    for count, what in (
        (len(missing), f"words of the language model are not in the table of words: {' '.join(missing[:10])}"),
        (maker.with_such_words, "n-grams hold such words"),
        (maker.unreachable, "n-grams follow a history that is not listed"),
    ):
        if count:
            log.warning("%d %s; left out of the grammar", count, what)
    kaldifst.connect(fst)
    if fst.start < 0 or not maker.words_listed:
        raise GraphError(
            "the grammar accepts no sentence",
            remedy="check that the language model and the lexicon write their words alike, and that </s> is listed",
        )
    kaldifst.arcsort(fst, sort_type="ilabel")
    return fst


class _Columns(NamedTuple):
    rows: np.ndarray
    logprob: np.ndarray
    backoff: np.ndarray


def _columns(model: Union[NgramModel, NgramColumns]) -> Tuple[List[str], List[_Columns]]:
    """The words, and the n-grams of each order."""
    if not isinstance(model, NgramModel):
        return list(model.words), [_Columns(*model.columns(order)[:3]) for order in range(1, model.order + 1)]
    names = [word for (word,) in model.probs[0]]
    number = {word: place for place, word in enumerate(names)}
    columns = []
    for order, prob in enumerate(model.probs, 1):
        rows = np.fromiter((number[word] for ngram in prob for word in ngram), np.int32, order * len(prob))
        backoffs: Mapping[Ngram, float] = model.backoffs[order - 1] if order < model.order else {}
        columns.append(_Columns(
            rows.reshape(-1, order), np.fromiter(prob.values(), np.float64, len(prob)),
            np.fromiter((backoffs.get(ngram, 0.0) for ngram in prob), np.float64, len(prob)),
        ))  # fmt: skip
    return names, columns


class _Table:
    """Finds rows of numbers among others, column after column: what has been found so far is one number."""

    def __init__(self, rows: np.ndarray, words: int) -> None:
        self.words = words
        self.keys: List[np.ndarray] = []
        found = np.zeros(len(rows), np.int64)
        for column in rows.T:
            keys, found = np.unique(found * words + column, return_inverse=True)
            self.keys.append(keys)
        self.place = np.empty(len(rows), np.int64)
        self.place[found.reshape(-1)] = np.arange(len(rows))

    def find(self, rows: np.ndarray) -> np.ndarray:
        """Return the place of each row, -1 where it is not there."""
        found = np.zeros(len(rows), np.int64)
        there = np.full(len(rows), len(self.place) > 0)
        for keys, column in zip(self.keys, rows.T, strict=True):
            if not len(keys):
                break
            wanted = found * self.words + column
            found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            there &= keys[found] == wanted
        return np.where(there, self.place[found], -1) if len(self.place) else np.full(len(rows), -1)


class _Maker:
    """Turns n-grams into states and arcs. words_listed: n-grams that end with a word; with_such_words, unreachable:
    what was left out."""

    def __init__(self, names: Sequence[str], labels: np.ndarray, columns: Sequence[_Columns]) -> None:
        self.labels, self.columns = labels, columns
        place = {name: number for number, name in enumerate(names)}
        self.begin, self.end = place.get(START, -1), place.get(END, -1)
        self.listed = [_Table(column.rows, len(names)) for column in columns]
        self.with_such_words = self.unreachable = 0
        self.usable = [self._usable(order) for order in range(1, len(columns) + 1)]
        self.words_listed = sum(int((rows[:, -1] != self.end).sum()) for rows, _ in self.usable)
        # histories that something is listed after, by their length
        self.histories = [np.zeros((1, 0), np.int32)]
        for rows, _ in self.usable[1:]:
            after = [rows[:, :-1]]
            if len(self.histories) == 1 and self.begin >= 0:
                after.append(np.array([[self.begin]], np.int32))
            self.histories.append(np.unique(np.concatenate(after), axis=0))
        if len(columns) == 1 and self.begin >= 0:
            self.histories.append(np.array([[self.begin]], np.int32))
        self.first = np.cumsum([0, *(len(rows) for rows in self.histories)])
        self.states = [_Table(rows, len(names)) for rows in self.histories]

    def _usable(self, order: int) -> Tuple[np.ndarray, np.ndarray]:
        """The rows and log10 P of the n-grams that count."""
        rows, logprob, _ = self.columns[order - 1]
        # <s> only begins and </s> only ends; Kaldi skips other n-grams with a warning.
        odd = (rows[:, -1] == self.begin) | (rows[:, 1:] == self.begin).any(1) | (rows[:, :-1] == self.end).any(1)
        spoken = (self.labels[rows] > 0) | (rows == self.begin) | (rows == self.end)
        known = spoken.all(axis=1)
        self.with_such_words += int((~odd & ~known).sum()) if order > 1 else 0
        reached = np.ones(len(rows), bool)
        if order > 1:
            reached = self.listed[order - 2].find(rows[:, :-1]) >= 0
            self.unreachable += int((~odd & known & ~reached).sum())
        chosen = ~odd & known & reached
        return rows[chosen], logprob[chosen].astype(np.float64)

    def backoff(self, histories: np.ndarray) -> np.ndarray:
        """Return log10 B of histories of one length, 0 where they are not listed."""
        length = histories.shape[1]
        if not 0 < length < len(self.columns):
            return np.zeros(len(histories))
        place = self.listed[length - 1].find(histories)
        return np.where(place >= 0, self.columns[length - 1].backoff[place], 0.0)

    def target(self, histories: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return the state of each history, or of its longest end that has one, and what the way there costs."""
        states, costs = np.zeros(len(histories), np.int64), np.zeros(len(histories))
        left = np.arange(len(histories))
        while len(left):
            length = histories.shape[1]
            found = self.states[length].find(histories) if 0 < length < len(self.states) else np.full(len(left), -1)
            if length == 0:
                found[:] = 0
            there = found >= 0
            states[left[there]] = self.first[min(length, len(self.first) - 1)] + found[there]
            costs[left[~there]] -= LN10 * self.backoff(histories[~there])
            left, histories = left[~there], histories[~there, 1:]
        return states, costs

    def grammar(self, backoff: int) -> FstArrays:
        """Return all states and arcs, those of a state by their words, its back-off last."""
        parts: List[Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []  # source, label, cost, target
        final = np.full(int(self.first[-1]), np.inf, np.float32)
        for order, (rows, logprob) in enumerate(self.usable, 1):
            source, _ = self.target(rows[:, :-1])
            ends = rows[:, -1] == self.end
            final[source[ends]] = -LN10 * logprob[ends]
            rows, logprob, source = rows[~ends], logprob[~ends], source[~ends]
            target, cost = self.target(rows if order < len(self.columns) else rows[:, 1:])
            parts.append((source, self.labels[rows[:, -1]], cost - LN10 * logprob, target))
        for length in range(1, len(self.histories)):
            histories = self.histories[length]
            target, cost = self.target(histories[:, 1:])
            source = self.first[length] + np.arange(len(histories))
            parts.append((source, np.full(len(source), backoff), cost - LN10 * self.backoff(histories), target))
        sources, labels, costs, targets = (np.concatenate([part[k] for part in parts]) for k in range(4))
        by_source = np.argsort(sources, kind="stable")
        arcs = np.empty(len(sources), ARC)
        for name, values in (("ilabel", labels), ("weight", costs), ("nextstate", targets)):
            arcs[name] = values[by_source]
        arcs["olabel"] = np.where(arcs["ilabel"] == backoff, 0, arcs["ilabel"])
        offsets = np.zeros(len(final) + 1, np.int64)
        np.cumsum(np.bincount(sources, minlength=len(final)), out=offsets[1:])
        (start,) = self.target(np.array([[self.begin]], np.int32))[0] if self.begin >= 0 else (0,)
        return FstArrays(int(start), final, offsets, arcs)
