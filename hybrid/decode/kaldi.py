"""Kaldi's own one-best search, which ours is tested and timed against (search.py)."""

from __future__ import annotations

from typing import List

import kaldifst
import numpy as np

from hybrid.decode.paths import Hypothesis, nothing
from hybrid.fst import Graph, const


class FasterDecoder:
    """Kaldi's `gmm-decode-faster`: token passing with a beam and max_active, without a lattice.

    It checks nothing: the graph must not be empty, and its labels must be columns of the matrix.
    """

    def __init__(self, graph: Graph, *, beam: float, max_active: int) -> None:
        self._graph = const(graph)
        self._options = (beam, max_active)

    def decode(self, scaled: np.ndarray) -> Hypothesis:
        """Return the best path. scaled: float32 [frames, num_pdfs], log-likelihoods times the acoustic scale."""
        import kaldi_hmm_gmm as khg

        beam, max_active = self._options
        decodable = khg.DecodableCtc(np.ascontiguousarray(scaled))
        # 20 is Kaldi's min_active; the library refuses one that is not below max_active
        options = khg.FasterDecoderOptions(beam=beam, max_active=max_active, min_active=min(20, max_active - 1))
        # A used search keeps its hash table, whose size changes the order of tokens: results would depend on what was
        # decoded before.
        search = khg.FasterDecoder(self._graph, options)
        search.decode(decodable)
        found, path = search.get_best_path()
        return _hypothesis(path, bool(search.reached_final()), len(scaled)) if found else nothing(len(scaled))


def _hypothesis(path: kaldifst.Lattice, reached_final: bool, frames: int) -> Hypothesis:
    words: List[int] = []
    starts: List[int] = []
    pdfs: List[int] = []
    for line in path.to_str().splitlines():
        fields = line.split()
        if len(fields) < 4:  # the final state
            continue
        ilabel, olabel = int(fields[2]), int(fields[3])
        if olabel:
            words.append(olabel)
            starts.append(min(len(pdfs), frames - 1))
        if ilabel:
            pdfs.append(ilabel - 1)
    # the text has six digits only
    weight = kaldifst.get_linear_symbol_sequence(path)[3]
    cost = float(weight.value1 + weight.value2)
    return Hypothesis(tuple(words), tuple(starts), np.array(pdfs, np.int32), cost, reached_final, frames)
