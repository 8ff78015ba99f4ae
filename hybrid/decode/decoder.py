"""The best path through a decoding graph, and lattices (search.py). Whatever would make a compiled loop read past its
arrays, a graph whose labels exceed the matrix, an empty graph, a number that is none, is checked here, before the first
frame."""

from __future__ import annotations

import threading
from copy import copy
from dataclasses import replace
from os import PathLike
from typing import Iterable, Optional, Sequence, Tuple, Union

import numpy as np

from hybrid.decode.boost import Booster
from hybrid.decode.graph_file import SUFFIX, map_search_graph
from hybrid.decode.lattice import Lattice
from hybrid.decode.paths import Hypothesis, nothing
from hybrid.decode.running_search import RunningSearch
from hybrid.decode.search import LatticeSearch, RawLattice, SearchOptions
from hybrid.decode.search_graph import SearchGraph
from hybrid.errors import ConfigError, DataError, GraphError
from hybrid.fst import FstArrays, Graph, to_arrays
from hybrid.fst_file import read_arrays


class Decoder:
    """Decodes utterances over one graph, in any number of threads.

    graph: FST with input labels pdf + 1 (0: epsilon) and output labels word ids, as it is or as arrays; or the file of
    one, OpenFst's or an export's (graph_file.py). num_pdfs: columns that every matrix must have; None takes any that
    suffices. beam: in units of scaled cost; wider is slower and never worse on average. max_active: states kept a
    frame. word_penalty: cost added to each word.

    Raises GraphError where the graph is empty, cannot end, goes round in epsilons or has labels beyond num_pdfs.
    """

    def __init__(
        self,
        graph: Union[Graph, FstArrays, SearchGraph, str, PathLike[str]],
        *,
        num_pdfs: Optional[int] = None,
        beam: float = 15.0,
        max_active: int = 7000,
        word_penalty: float = 0.0,
    ) -> None:
        self.options = SearchOptions(beam, max_active, min(20, max_active))
        self.name: Optional[str] = None
        if isinstance(graph, (str, PathLike)):
            self.name = str(graph)
            graph = map_search_graph(graph) if self.name.endswith(SUFFIX) else read_arrays(graph)
        labels = graph if isinstance(graph, (FstArrays, SearchGraph)) else to_arrays(graph)
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
        penalised = labels.with_word_penalty(word_penalty) if word_penalty else labels
        if isinstance(penalised, FstArrays):
            penalised = SearchGraph.from_arrays(penalised, self.name, breadth_first=True)
        self.graph = penalised
        self.num_arcs = self.graph.num_arcs
        self._booster: Optional[Booster] = None
        self._searches = threading.local()

    def decode(self, loglikes: np.ndarray, acoustic_scale: float = 1.0, utterance: Optional[str] = None) -> Hypothesis:
        """Return the best path of one utterance. loglikes: [frames, num_pdfs], natural log, finite.

        Where no final state is reached, the best unfinished path, flagged; where no path at all survives (a graph that
        is too short for the utterance), no words and cost inf, flagged likewise.

        Raises DataError for a matrix that is empty, not finite, or of a shape that does not fit the graph.
        """
        scaled = self.scaled(loglikes, acoustic_scale, utterance)
        raw = self._search(0.0, scaled)  # the best path needs no lattice
        if raw is None:
            return nothing(len(scaled))
        return Lattice.from_search(raw, self.graph, 1.0).best_path()

    def lattice(
        self, loglikes: np.ndarray, acoustic_scale: float = 1.0, utterance: Optional[str] = None, *,
        lattice_beam: float = SearchOptions.lattice_beam,
    ) -> Optional[Lattice]:  # fmt: skip
        """Return all paths whose scaled cost is within lattice_beam of the best; None where no path survives. Other
        arguments and errors: as decode."""
        scaled = self.scaled(loglikes, acoustic_scale, utterance)
        raw = self._search(lattice_beam, scaled)
        return None if raw is None else Lattice.from_search(raw, self.graph, acoustic_scale)

    def running(self, lattice_beam: float = SearchOptions.lattice_beam) -> RunningSearch:
        """Return a search of its own over the graph, for speech that comes in pieces."""
        return RunningSearch(self.graph, replace(self.options, lattice_beam=lattice_beam))

    def boosted(self, phrases: Iterable[Tuple[Sequence[int], float]]) -> Decoder:
        """Return a decoder of the same graph in which a path costs less by the weight of each phrase in it (boost.py).
        phrases: word ids and a weight above 0, natural log."""
        if self._booster is None:
            self._booster = Booster(self.graph)
        other = copy(self)
        other.graph = self._booster.graph(phrases, self.options.beam / 2)
        other.num_arcs = other.graph.num_arcs
        other._booster, other._searches = None, threading.local()
        return other

    def _search(self, lattice_beam: float, scaled: np.ndarray) -> Optional[RawLattice]:
        """Each thread has a search of its own, whatever the lattice beam."""
        options = replace(self.options, lattice_beam=lattice_beam)
        search: Optional[LatticeSearch] = getattr(self._searches, "search", None)
        if search is None:
            search = self._searches.search = LatticeSearch(self.graph, options)
        else:
            search.start(options)
        search.advance(scaled)
        return search.lattice()

    def scaled(self, loglikes: np.ndarray, scale: float, utterance: Optional[str] = None) -> np.ndarray:
        """Return log-likelihoods as the search reads them: checked, float32, times the acoustic scale."""
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
