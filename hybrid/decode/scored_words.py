"""Recognised words with their times, and what their confidence is told from (calibration.py)."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from hybrid.decode.lattice import Lattice
from hybrid.decode.mbr import word_posteriors
from hybrid.decode.word_times import Span, WordTimes
from hybrid.hmm.senones import Senones
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.subword import MARK

BEAM = 8.0  # of the lattice of words that posteriors are taken from
MAX_ARCS = 20_000  # of it, twice what any utterance of AN4 has in noise; of nonsense more would take seconds
LEAST = 1e-4  # posterior, and its distance from 1


class ScoredWord(NamedTuple):
    """start, end: frames, None where the words do not fit into them. features: float64 [3], of calibration.FEATURES:
    the log odds of the word's posterior in the lattice, Span.deficit, and the log of its frames."""

    word: str
    start: Optional[int]
    end: Optional[int]
    features: np.ndarray


class WordScorer:
    """Scores recognised words of one model. Not to be shared by threads."""

    def __init__(self, lang: Lang, senones: Senones) -> None:
        self._lang = lang
        self.names = lang.word_names  # by id
        self._times = WordTimes(lang, senones)

    def score(self, lattice: Lattice, loglikes: np.ndarray, scale: float) -> List[ScoredWord]:
        """Return the words of a lattice's best path. loglikes: [frames, num_pdfs], which were searched at this acoustic
        scale."""
        ids = lattice.best_path(scale).words  # of pieces, where words are spelled in them
        if not ids:
            return []
        spans = self._times.spans(ids, loglikes, scale)
        of_words = lattice.determinised(scale, lattice_beam=BEAM, max_arcs=MAX_ARCS, pdfs=False)
        posteriors = word_posteriors(of_words, ids, scale)
        names = [self.names[number] for number in ids]
        first, words = list(range(len(names))), names
        if self._lang.pieces is not None:
            first = [
                k for k, name in enumerate(names) if k == 0 or name.startswith(MARK) or name == self._lang.oov
            ]
            words = self._lang.words_of(names)
        edges = zip(first, [*first[1:], len(names)], strict=True)
        return [
            _scored(word, None if spans is None else spans[begin:end], posteriors[begin:end], len(loglikes), len(words))
            for word, (begin, end) in zip(words, edges, strict=True)
        ]


def _scored(
    word: str, spans: Optional[Sequence[Span]], posteriors: np.ndarray, frames: int, words: int
) -> ScoredWord:
    """A word is as sure as its least sure piece."""
    least = float(np.clip(posteriors.min(), LEAST, 1 - LEAST))
    odds = math.log(least / (1 - least))
    if spans is None:
        return ScoredWord(word, None, None, np.array([odds, 0.0, math.log(max(frames / words, 1.0))]))
    start, end = spans[0].start, spans[-1].end
    length = max(end - start, 1)
    deficit = sum(span.deficit * (span.end - span.start) for span in spans) / length
    return ScoredWord(word, start, end, np.array([odds, deficit, math.log(length)]))
