"""When each recognised word is said: its words aligned once more.

In a decoding graph the label of a word stands where composition and determinisation have moved it, and a path over pdfs
does not tell its phones. So the words are aligned as a transcript is (Kaldi's compile-train-graphs, gmm-align-compiled
and lattice-align-words): the graph of their pronunciations over transition ids, the best path through it under the same
log-likelihoods, and the phones of the path told off word by word.
"""

from __future__ import annotations

from functools import cached_property
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from hybrid.decode.decoder import Decoder
from hybrid.errors import DataError, GraphError
from hybrid.fst import to_arrays
from hybrid.hmm.alignment import phone_segments
from hybrid.hmm.graph import TrainingGraphs, check_phones
from hybrid.hmm.senones import Senones
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.segment import word_segments

_WIDE, _ALL = 1e6, 10**9  # beam and max_active: the graph of a few words is small, nothing is pruned


class Span(NamedTuple):
    """The first frame of a word, and the one after its last. deficit: by how much the word's states are less likely
    than the likeliest of each frame, natural log, the mean over its frames: 0 where nothing fits better, large where
    something else was said (a loop over all senones, in place of the phone loop of hybrid/align/loop.py, which networks
    have no counts for)."""

    start: int
    end: int
    deficit: float = 0.0


class WordTimes:
    """Aligns recognised words of one model. Not to be shared by threads.

    Raises ModelError where lexicon and senones are of other phones.
    """

    def __init__(self, lang: Lang, senones: Senones, self_loop_scale: float = 0.1) -> None:
        check_phones(lang, senones)
        self._lang, self._senones, self._self_loop_scale = lang, senones, self_loop_scale

    @cached_property
    def _graphs(self) -> TrainingGraphs:  # when the first word is timed: of a large lexicon it takes seconds
        return TrainingGraphs(self._lang, self._senones, self_loop_scale=self._self_loop_scale)

    def spans(self, ids: Sequence[int], loglikes: np.ndarray, acoustic_scale: float) -> Optional[List[Span]]:
        """Return the span of each word; None where the words do not fit into the frames.

        ids: of Lang.words (pieces, where words are spelled in them); loglikes: [frames, num_pdfs], natural log.
        """
        if not ids:
            return []
        try:
            arrays = to_arrays(self._graphs.compile(ids))
            # An input label stands for one transition id of the graph, whose column is that of its pdf.
            tids, labels = np.unique(arrays.arcs["ilabel"], return_inverse=True)
            first = int(tids[0] != 0)  # 0 is epsilon, and stays
            arrays.arcs["ilabel"] = labels.reshape(-1) + first
            tids = tids[1 - first :]
            columns = np.ascontiguousarray(loglikes[:, self._senones.tid2pdf[tids]])
            path = Decoder(arrays, beam=_WIDE, max_active=_ALL).decode(columns, acoustic_scale)
            if not path.reached_final:
                return None
            said = tids[path.pdfs]
            deficits = loglikes.max(axis=1) - loglikes[np.arange(len(said)), self._senones.tid2pdf[said]]
            phones, durations = phone_segments(said, self._senones)
            segments = word_segments(phones, durations, ids, self._lang)
        except (DataError, GraphError):
            return None
        spans = [(segment.start, segment.start + segment.frames) for segment in segments]
        return [Span(start, end, float(deficits[start:end].mean())) for start, end in spans]
