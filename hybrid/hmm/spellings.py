"""The lexicon as sorted arrays, for the composition with a grammar (compose.py): what lexicon/fst.py and
lexicon/silence.py say in arcs.

Between words a path is in a place of one of these kinds:

    SPOKEN      words begin; no silence went before, or where silence has one probability, no matter what
    SILENT      words begin, after a silence, where its probability depends on words
    INSIDE      a piece that begins no word follows
    PAUSE + i   a word has ended, silence may follow: P(silence) is the i-th of those that there are
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np

SPOKEN, SILENT, INSIDE, PAUSE = range(4)


@dataclass(frozen=True)
class Spellings:
    """Pronunciations in the order of their phones.

    phones, first: int32, those of pronunciation p are phones[first[p]:first[p + 1]]; word: int32; costs: float64 [2,
    pronunciations], where they begin in SPOKEN and in SILENT; after: int8 or more, the kind of place behind each;
    begins: bool, whether it begins a word, else a word goes on with it; of_word, words: those of word w are
    of_word[words[w]:words[w + 1]].

    silence: its phone; start: the kind of place at the beginning; pause, go_on: float64, the costs of silence and of
    none for each kind from PAUSE; silent: the kind behind a silence; ends: float64 [2], costs of the end of a sentence
    in SPOKEN and SILENT.
    """

    phones: np.ndarray
    first: np.ndarray
    word: np.ndarray
    costs: np.ndarray
    after: np.ndarray
    begins: np.ndarray
    of_word: np.ndarray
    words: np.ndarray
    silence: int
    start: int
    pause: np.ndarray
    go_on: np.ndarray
    silent: int
    ends: np.ndarray

    @staticmethod
    def of(lang: Any) -> Spellings:
        """Return those of a Lang."""
        rows, silences = lang.entries, lang.entry_silences
        spelled = [tuple(lang.phones[name] for name in entry.phones) for entry in rows]
        order = sorted(range(len(rows)), key=lambda k: (spelled[k], lang.words[rows[k].word], rows[k].ends))
        kinds: Dict[float, int] = {}

        def kind(prob: float) -> int:
            return PAUSE + kinds.setdefault(prob, len(kinds)) if prob > 0.0 else SPOKEN

        costs, after = np.empty((2, len(rows))), np.empty(len(rows), np.int32)
        for place, k in enumerate(order):
            silence = silences[k] if silences is not None else None
            prob = lang.silence_prob if silence is None else silence.after
            factors = (1.0, 1.0) if silence is None else (silence.before_nonsilence, silence.before_silence)
            costs[:, place] = [-math.log(rows[k].prob * factor) for factor in factors]
            after[place] = kind(prob) if rows[k].ends else INSIDE
        probs = lang.silence_probs
        start = kind(lang.silence_prob if probs is None else probs.start)
        word = np.array([lang.words[rows[k].word] for k in order], np.int32)
        of_word, words = _by_word(word, len(lang.words))
        phones, first = _joined([spelled[k] for k in order])
        return Spellings(
            phones, first, word, costs, after, np.array([rows[k].begins for k in order]), of_word, words,
            silence=lang.phones[lang.optional_silence],
            start=start,
            pause=-np.log(np.array(list(kinds), np.float64)),
            go_on=-np.log1p(-np.array(list(kinds), np.float64)),
            silent=SPOKEN if probs is None else SILENT,
            ends=np.zeros(2) if probs is None else -np.log([probs.end_nonsilence, probs.end_silence]),
        )  # fmt: skip

    def follows(self, phones: int) -> np.ndarray:
        """Return bool [phones, phones], whether the second phone may stand after the first; 0: the edge."""
        table = np.zeros((phones, phones), bool)
        inside = np.ones(len(self.phones), bool)
        inside[self.first[1:-1]] = False
        table[self.phones[:-1][inside[1:]], self.phones[1:][inside[1:]]] = True
        edges = [0, self.silence] if len(self.pause) else [0]
        begin = np.union1d(self.phones[self.first[:-1]], edges)
        end = np.union1d(self.phones[self.first[1:] - 1], edges)
        table[np.ix_(end, begin)] = True
        return table


def _joined(spelled: List[Tuple[int, ...]]) -> Tuple[np.ndarray, np.ndarray]:
    first = np.zeros(len(spelled) + 1, np.int32)
    np.cumsum([len(item) for item in spelled], out=first[1:])
    return np.array([phone for item in spelled for phone in item], np.int32), first


def _by_word(word: np.ndarray, words: int) -> Tuple[np.ndarray, np.ndarray]:
    first = np.zeros(words + 1, np.int64)
    np.cumsum(np.bincount(word, minlength=words), out=first[1:])
    return np.argsort(word, kind="stable").astype(np.int32), first
