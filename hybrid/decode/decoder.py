"""The best path through a decoding graph: token passing with beam and histogram pruning.

The search is Kaldi's `FasterDecoder` (`gmm-decode-faster`, `nnet3-latgen-faster`'s one-best), which checks nothing:
a graph whose labels exceed the matrix makes it read past the matrix, an empty graph ends the process. So all that
is checked here, before the first frame. `Decoder` holds the graph for as long as anything that points into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import List, Optional, Tuple, Union

import kaldifst
import numpy as np

from hybrid.errors import ConfigError, DataError, GraphError
from hybrid.fst import Graph, add_word_penalty, const, to_arrays

KEEP_ALL = 2**31 - 1


@dataclass(frozen=True)
class Hypothesis:
    """What was recognised in one utterance.

    words: word ids, in order; starts: the frame in which each word's label stands on the path (the label stands
    at or near the word's first phone; composition may move it, so take it for an estimate, an alignment for the
    truth). pdfs: int32 [frames], the pdf of each frame; empty where no path survived. cost: natural log, graph cost
    plus scaled acoustic cost. reached_final: False where the words are the best unfinished path, or none.
    """

    words: Tuple[int, ...]
    starts: Tuple[int, ...]
    pdfs: np.ndarray
    cost: float
    reached_final: bool
    frames: int


class Decoder:
    """Decodes utterances over one graph.

    graph: FST with input labels pdf + 1 (0: epsilon) and output labels word ids; or the file of one. num_pdfs: columns
    that every matrix must have; None takes any that suffices. beam: in units of scaled cost; wider is slower and
    never worse on average. max_active: states kept a frame. word_penalty: cost added to each word.

    Raises GraphError where the graph is empty, cannot end, or has labels beyond num_pdfs.
    """

    def __init__(
        self,
        graph: Union[Graph, str, PathLike[str]],
        *,
        num_pdfs: Optional[int] = None,
        beam: float = 15.0,
        max_active: int = 7000,
        word_penalty: float = 0.0,
    ) -> None:
        if not (beam > 0 and np.isfinite(beam)):
            raise ConfigError(f"beam {beam}", remedy="give a beam above 0; 13 to 16 is usual")
        if max_active < 2:
            raise ConfigError(f"max_active {max_active}", remedy="keep 2 states or more a frame; 7000 is usual")
        self.name: Optional[str] = None
        if isinstance(graph, (str, PathLike)):
            self.name = str(graph)
            graph = read_graph(graph)
        labels = to_arrays(graph)
        if labels.start < 0 or not len(labels.arcs):
            raise self._error("the graph is empty", "make it again: grammar and lexicon share no words")
        if not labels.num_final:
            raise self._error("the graph has no final state", "make the graph again: it accepts no sentence")
        self.min_columns = labels.max_ilabel
        self.max_word = labels.max_olabel
        if num_pdfs is not None and self.min_columns > num_pdfs:
            raise self._error(
                f"the graph has input labels up to {self.min_columns}, the model {num_pdfs} pdfs",
                "make the graph with the model's own senones, its labels pdf + 1 and not transition ids",
            )
        self.num_pdfs = num_pdfs
        self.num_arcs = len(labels.arcs)
        self._graph = const(add_word_penalty(graph, word_penalty) if word_penalty else graph)
        self._options = (float(beam), int(min(max_active, KEEP_ALL)))

    def decode(self, loglikes: np.ndarray, acoustic_scale: float = 1.0, utterance: Optional[str] = None) -> Hypothesis:
        """The best path of one utterance. loglikes: [frames, num_pdfs], natural log, finite.

        Where no final state is reached, the best unfinished path, flagged; where no path at all survives (a graph that
        is too short for the utterance), no words and cost inf, flagged likewise.

        Raises DataError for a matrix that is empty, not finite, or of a shape that does not fit the graph.
        """
        # here, so that scoring and reports work where the decoder's library is absent
        import kaldi_hmm_gmm as khg

        scaled = self._checked(loglikes, acoustic_scale, utterance)
        beam, max_active = self._options
        # A search object of its own for each utterance: a used one keeps its hash table, whose size changes the order
        # of tokens and so which are pruned; results would depend on what was decoded before.
        decodable = khg.DecodableCtc(scaled)
        # 20 is Kaldi's min_active; the library refuses one that is not below max_active
        options = khg.FasterDecoderOptions(beam=beam, max_active=max_active, min_active=min(20, max_active - 1))
        search = khg.FasterDecoder(self._graph, options)
        search.decode(decodable)
        found, path = search.get_best_path()
        frames = len(scaled)
        if not found:
            return Hypothesis((), (), np.zeros(0, np.int32), float("inf"), False, frames)
        return _read_path(path, bool(search.reached_final()), frames)

    def _checked(self, loglikes: np.ndarray, scale: float, utterance: Optional[str]) -> np.ndarray:
        if not (scale > 0 and np.isfinite(scale)):
            raise ConfigError(f"acoustic scale {scale}", remedy="give a number above 0")
        matrix = np.asarray(loglikes)
        if matrix.ndim != 2 or matrix.dtype.kind != "f":
            raise DataError(
                f"loglikes of shape {list(matrix.shape)} and type {matrix.dtype}, not floats [frames, num_pdfs]",
                utterance=utterance,
                remedy="compute them again",
            )
        frames, columns = matrix.shape
        if frames == 0:
            raise DataError("no frames to decode", utterance=utterance, remedy="leave the utterance out")
        if columns < self.min_columns or (self.num_pdfs is not None and columns != self.num_pdfs):
            wanted = f"at least {self.min_columns}" if self.num_pdfs is None else str(self.num_pdfs)
            raise DataError(
                f"loglikes of {columns} pdfs where the graph needs {wanted}",
                file=self.name,
                utterance=utterance,
                remedy="decode with the graph that was made for this model",
            )
        with np.errstate(over="ignore"):
            scaled = np.ascontiguousarray(matrix, np.float32) * np.float32(scale)
        if not np.isfinite(scaled).all():
            frame, pdf = np.argwhere(~np.isfinite(scaled))[0]
            raise DataError(
                f"log-likelihood {matrix[frame, pdf]} at frame {frame}, pdf {pdf}",
                utterance=utterance,
                remedy="look for a diverged model or a prior of zero",
            )
        return scaled

    def _error(self, what: str, remedy: str) -> GraphError:
        return GraphError(what, file=self.name, remedy=remedy)


def read_graph(path: Union[str, PathLike[str]]) -> kaldifst.StdConstFst:
    """A graph from a file, in OpenFst's vector format. Raises GraphError where it is absent or not a graph."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise GraphError(f"no graph: {error.strerror}", file=path, remedy="run the graph stage") from None
    mark = b"\xd6\xfd\xb2~\x06\0\0\0vector"  # OpenFst's magic number and the only kind that kaldifst reads
    graph = kaldifst.StdVectorFst.read(str(Path(path))) if head.startswith(mark) else None
    if graph is None:
        raise GraphError("not a graph, or a truncated one", file=path, remedy="delete it and run the graph stage again")
    return const(graph)


def _read_path(path: kaldifst.Lattice, reached_final: bool, frames: int) -> Hypothesis:
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
