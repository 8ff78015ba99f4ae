"""The words of a recogniser at one moment: what it decodes with, spells, times and judges.

It does not change. A recogniser that learns words takes another, and what is being decoded ends with the one that it
began with.
"""

from __future__ import annotations

import threading
from copy import copy
from dataclasses import replace
from typing import List, Optional, Sequence, Tuple

import numpy as np

from hybrid.decode.calibration import Calibration
from hybrid.decode.decoder import Decoder
from hybrid.decode.lattice import Lattice
from hybrid.decode.phrases import Phrase
from hybrid.decode.result import Result, Word
from hybrid.decode.run import spell
from hybrid.decode.scored_words import ScoredWord, WordScorer
from hybrid.decode.segments import Endpointing, Segment, Segmenter, silence_pdfs
from hybrid.decode.trained import Search
from hybrid.decode.vocabulary import Vocabulary
from hybrid.hmm.senones import Senones


class Wording:
    """vocabulary: words and graph; phrases: that are likelier; frame_shift: of log-likelihoods, seconds; calibration:
    None gives no confidences. Can be shared by threads."""

    def __init__(
        self, vocabulary: Vocabulary, phrases: Sequence[Phrase], senones: Senones, search: Search, frame_shift: float,
        calibration: Optional[Calibration],
    ) -> None:  # fmt: skip
        self.vocabulary, self.phrases, self.search = vocabulary, tuple(phrases), search
        self.lang, self.calibration = vocabulary.lang, calibration
        self.decoder: Decoder = vocabulary.boosted(phrases)
        self.frame_shift = frame_shift
        self._senones, self._silent = senones, silence_pdfs(senones, self.lang)
        self._scorer, self._aligning = WordScorer(self.lang, senones), threading.Lock()
        self.names = self._scorer.names

    def changed(self, vocabulary: Vocabulary, phrases: Sequence[Phrase]) -> Wording:
        """Return a wording of other words or phrases."""
        return Wording(vocabulary, phrases, self._senones, self.search, self.frame_shift, self.calibration)

    def calibrated(self, calibration: Optional[Calibration]) -> Wording:
        """Return the wording with other confidences."""
        other = copy(self)
        other.calibration = calibration
        return other

    def scored(self, loglikes: np.ndarray, utterance: Optional[str] = None) -> List[ScoredWord]:
        """Return the words of an utterance with what their confidences are told from."""
        lattice = self.decoder.lattice(loglikes, self.search.acoustic_scale, utterance)
        return [] if lattice is None else self._scored(lattice, loglikes)

    def _scored(self, lattice: Lattice, loglikes: np.ndarray) -> List[ScoredWord]:
        with self._aligning:
            return self._scorer.score(lattice, loglikes, self.search.acoustic_scale)

    def spelt(self, ids: Sequence[int]) -> List[str]:
        """Return the words of ids."""
        return spell(ids, self.names, self.vocabulary.graph, self.lang.words_of)

    def decode(self, loglikes: np.ndarray, seconds: float, utterance: Optional[str] = None) -> Result:
        """Return what is said in an utterance of log-likelihoods [frames, num_pdfs]."""
        lattice = self.decoder.lattice(loglikes, self.search.acoustic_scale, utterance)
        return self.result(lattice, loglikes, seconds)

    def result(
        self, lattice: Optional[Lattice], loglikes: np.ndarray, seconds: float, start: float = 0.0,
        complete: Optional[bool] = None,
    ) -> Result:
        """Return what a search over log-likelihoods [frames, num_pdfs] has found in `seconds` of speech from `start`.
        complete: whether it ends as a sentence does; None: the lattice knows."""
        if lattice is None:
            return Result((), seconds, False, start)
        words = self._words(lattice, loglikes, start)
        ended = lattice.reached_final if complete is None else complete
        result = Result(words, seconds, ended, start, lattice, self.search.acoustic_scale, self.spelt)
        reject = 0.0 if self.calibration is None else self.calibration.reject
        return replace(result, rejected=True) if result.conf is not None and result.conf < reject else result

    def segmenter(self, endpointing: Optional[Endpointing]) -> Segmenter:
        """Return what cuts endless speech into utterances; `result_of` takes its segments."""
        return Segmenter(self.decoder, self._silent, self.frame_shift, self.search.acoustic_scale, endpointing)

    def result_of(self, segment: Segment) -> Result:
        """Return what was said in a segment."""
        seconds, start = len(segment.loglikes) * self.frame_shift, segment.begin * self.frame_shift
        return self.result(segment.lattice, segment.loglikes, seconds, start, None if segment.endpoint else True)

    def _words(self, lattice: Lattice, loglikes: np.ndarray, start: float) -> Tuple[Word, ...]:
        """The words of the best path with times, of speech that begins at `start`, and confidences."""
        words = self._scored(lattice, loglikes)
        conf: List[Optional[float]] = [None] * len(words)
        if self.calibration is not None and words:
            conf = list(self.calibration.conf([word.features for word in words]).tolist())
        shift = self.frame_shift
        return tuple(
            Word(one.word, None, None, p) if one.start is None or one.end is None
            else Word(one.word, round(start + one.start * shift, 3), round(start + one.end * shift, 3), p)
            for one, p in zip(words, conf, strict=True)
        )  # fmt: skip
