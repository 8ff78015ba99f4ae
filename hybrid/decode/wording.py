"""The words of a recogniser at one moment: what it decodes with, spells, times and judges.

It does not change. A recogniser that learns words takes another, and what is being decoded ends with the one that it
began with.
"""

from __future__ import annotations

import threading
import warnings
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Iterable, Iterator, List, Optional, Sequence, Tuple

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

if TYPE_CHECKING:
    from hybrid.decode.k2_search import K2Search

Utterance = Tuple[str, np.ndarray, float]  # id, log-likelihoods [frames, num_pdfs], seconds


class Wording:
    """vocabulary: words and graph; phrases: that are likelier; frame_shift: of log-likelihoods, seconds; calibration:
    None gives no confidences; k2_device: the device on which k2 searches whole utterances, None for our own search. Can
    be shared by threads.

    Raises MissingDependency for k2 that is not there.
    """

    def __init__(
        self, vocabulary: Vocabulary, phrases: Sequence[Phrase], senones: Senones, search: Search, frame_shift: float,
        calibration: Optional[Calibration], k2_device: Optional[str] = None,
    ) -> None:  # fmt: skip
        self.vocabulary, self.phrases, self.search = vocabulary, tuple(phrases), search
        self.lang, self.calibration = vocabulary.lang, calibration
        self.decoder: Decoder = vocabulary.boosted(phrases)
        self.frame_shift = frame_shift
        self._senones, self._silent = senones, silence_pdfs(senones, self.lang)
        self._scorer, self._aligning = WordScorer(self.lang, senones), threading.Lock()
        self.names = self._scorer.names
        self._k2_device = k2_device
        self._k2_search: Optional[K2Search] = None
        if k2_device is not None:
            from hybrid.decode.k2_search import K2Search

            self._k2_search = K2Search(self.decoder.graph, self.decoder.options, k2_device)

    def changed(self, vocabulary: Vocabulary, phrases: Sequence[Phrase]) -> Wording:
        """Return a wording of other words or phrases."""
        return Wording(
            vocabulary, phrases, self._senones, self.search, self.frame_shift, self.calibration, self._k2_device
        )

    def calibrated(self, calibration: Optional[Calibration]) -> Wording:
        """Return the wording with other confidences."""
        other = copy(self)
        other.calibration = calibration
        return other

    def scored(self, utterances: Iterable[Utterance]) -> Iterator[Tuple[str, List[ScoredWord]]]:
        """Yield the words of utterances with what their confidences are told from."""
        for (name, loglikes, _), lattice in self._searched(utterances):
            yield name, [] if lattice is None else self._scored(lattice, loglikes)

    def _scored(self, lattice: Lattice, loglikes: np.ndarray) -> List[ScoredWord]:
        with self._aligning:
            return self._scorer.score(lattice, loglikes, self.search.acoustic_scale)

    def spelt(self, ids: Sequence[int]) -> List[str]:
        """Return the words of ids."""
        return spell(ids, self.names, self.vocabulary.graph, self.lang.words_of)

    def decode(self, utterances: Iterable[Utterance]) -> Iterator[Tuple[str, Result]]:
        """Yield what is said in each utterance."""
        for (name, loglikes, seconds), lattice in self._searched(utterances):
            yield name, self.result(lattice, loglikes, seconds)

    def _searched(self, utterances: Iterable[Utterance]) -> Iterator[Tuple[Utterance, Optional[Lattice]]]:
        """Each with its lattice; by k2 as many at a time as make a batch."""
        scale, decoder = self.search.acoustic_scale, self.decoder
        if self._k2_search is None:
            for one in utterances:
                yield one, decoder.lattice(one[1], scale, one[0])
            return
        from hybrid.decode.k2_search import batches

        for batch in batches(utterances, lambda one: len(one[1])):
            scaled = [decoder.scaled(loglikes, scale, name) for name, loglikes, _ in batch]
            yield from zip(batch, self._k2_search.lattices(scaled, scale), strict=True)

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
        """Return what cuts endless speech into utterances; `result_of` takes its segments. k2 has no part in it: with
        it, a warning says so."""
        if self._k2_search is not None:
            warnings.warn(
                "k2 searches utterances that are there as a whole: streams and recordings that are cut into utterances "
                "take our own search",
                stacklevel=3,  # the caller of the recogniser
            )
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
