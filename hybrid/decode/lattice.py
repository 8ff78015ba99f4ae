"""A lattice: every path that a search found within its lattice beam, graph and acoustic costs apart.

So acoustic scale and word insertion penalty can be chosen without another search: the cost of a path is

    sum over its links of graph + scale * acoustic + penalty * [the link has a word],

and one pass over the links, in the order of time, gives the best path of each choice (Kaldi's lattice-scale and
lattice-add-penalty before lattice-best-path). What the search did not find cannot come back: far from the scale that it
was done with, a lattice is too small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Sequence, Tuple, cast

import numpy as np

from hybrid.decode import paths
from hybrid.decode.determinise import MAX_ARCS, determinise
from hybrid.decode.paths import Entry, Hypothesis
from hybrid.decode.search import RawLattice
from hybrid.decode.search_graph import COST, ILABEL, OLABEL, SearchGraph
from hybrid.decode.word_lattice import WordLattice


@dataclass(frozen=True)
class Lattice:
    """frame: int32 [nodes], the frames before each; source, target: int32 [links], nodes; ilabel: int32 [links],
    pdf + 1, 0 for epsilon; olabel: int32 [links], word ids, 0 for none; graph, acoustic: float32 [links], costs,
    natural log, acoustic without a scale; final: float32 [nodes], inf where a path cannot end.

    Node 0 is the first. Links are sorted by their sources in the order of time and epsilons. reached_final: as
    Hypothesis has it.
    """

    frame: np.ndarray
    source: np.ndarray
    target: np.ndarray
    ilabel: np.ndarray
    olabel: np.ndarray
    graph: np.ndarray
    acoustic: np.ndarray
    final: np.ndarray
    reached_final: bool

    @staticmethod
    def from_search(raw: RawLattice, graph: SearchGraph, acoustic_scale: float) -> Lattice:
        """Return the lattice of a search over `graph` whose log-likelihoods were scaled by acoustic_scale."""
        arcs = 4 * raw.arc.astype(np.int64)
        return Lattice(
            raw.frame, raw.source, raw.target, graph.arcs[arcs + ILABEL].astype(np.int32),
            graph.arcs[arcs + OLABEL].astype(np.int32), graph.costs[arcs + COST],
            raw.acoustic / np.float32(acoustic_scale), raw.final, raw.reached_final,
        )  # fmt: skip

    @property
    def num_frames(self) -> int:
        return int(self.frame.max(initial=0))

    def costs(self, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> np.ndarray:
        """Return the cost of each link, float64 [links]."""
        costs = self.graph.astype(np.float64) + acoustic_scale * self.acoustic.astype(np.float64)
        return costs + word_penalty * (self.olabel != 0) if word_penalty else costs

    def best_path(self, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> Hypothesis:
        """Return the path of the lowest cost."""
        links, cost = self._best_links(acoustic_scale, word_penalty)
        words = self.olabel[links]
        said = words != 0
        starts = np.minimum(self.frame[self.source[links[said]]], max(self.num_frames - 1, 0))
        ilabels = self.ilabel[links]
        pdfs = (ilabels[ilabels != 0] - 1).astype(np.int32)
        words, starts = tuple(words[said].tolist()), tuple(starts.tolist())
        return Hypothesis(words, starts, pdfs, float(cost), self.reached_final, self.num_frames)

    def best_words(self, points: Sequence[Tuple[float, float]]) -> List[Tuple[int, ...]]:
        """Return the words of the best path at each point (acoustic scale, word insertion penalty)."""
        words = []
        for scale, penalty in points:
            path = self.olabel[self._best_links(scale, penalty)[0]]
            words.append(tuple(path[path != 0].tolist()))
        return words

    def _best_links(self, acoustic_scale: float, word_penalty: float) -> Tuple[np.ndarray, float]:
        return cast(
            Tuple[np.ndarray, float],
            paths.best_path(self.source, self.target, self.costs(acoustic_scale, word_penalty), self.final),
        )

    def nbest(self, number: int, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> List[Entry]:
        """Return the `number` word sequences of the lowest costs, the best first; no sequence twice."""
        costs = self.costs(acoustic_scale, word_penalty)
        return paths.nbest(self.source, self.target, self.olabel, costs, self.final, number)

    def posteriors(self, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> Tuple[np.ndarray, float]:
        """Return the posterior of each link, float64 [links], and the log of the sum over all paths of exp(-cost).

        alpha(n) = log sum over links into n of exp(alpha(source) - cost), beta likewise from the end, and the posterior
        of a link exp(alpha(source) - cost + beta(target) - total): Kaldi's lattice-arc-post.
        """
        costs = self.costs(acoustic_scale, word_penalty)
        posteriors, total = paths.posteriors(self.source, self.target, costs, self.final)
        return posteriors, float(total)

    def prune(self, beam: float, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> Lattice:
        """Return the links that lie on a path whose cost is within `beam` of the best, and their nodes
        (lattice-prune)."""
        costs = self.costs(acoustic_scale, word_penalty)
        ahead = paths.costs_ahead(self.source, self.target, costs, self.final)
        through = paths.costs_before(self.source, self.target, costs, len(self.final))[self.source] + costs
        kept = through + ahead[self.target] <= ahead[0] + beam
        wanted = np.zeros(len(self.final), bool)
        wanted[0] = True
        wanted[self.source[kept]] = wanted[self.target[kept]] = True
        place = np.cumsum(wanted, dtype=np.int32) - 1
        return Lattice(
            self.frame[wanted], place[self.source[kept]], place[self.target[kept]], self.ilabel[kept],
            self.olabel[kept], self.graph[kept], self.acoustic[kept], self.final[wanted], self.reached_final,
        )  # fmt: skip

    def determinised(
        self, acoustic_scale: float = 1.0, word_penalty: float = 0.0, *, lattice_beam: float = 8.0,
        max_arcs: int = MAX_ARCS, pdfs: bool = True,
    ) -> WordLattice:  # fmt: skip
        """Return the lattice determinised over words: each word sequence within lattice_beam of the best has one path,
        its best at this scale and penalty (lattice-determinize-pruned). At another scale another path may be the best
        of its words: determinise at the scale that is used. pdfs: false leaves the arcs' pdfs out, which is faster.

        Where the result would have more than max_arcs arcs its `beam` is narrower than lattice_beam. Raises ConfigError
        for a beam, scale or bound that is none, DataError where no path leads to an end.
        """
        words = determinise(
            self.frame, self.source, self.target, self.ilabel, self.olabel, self.graph, self.acoustic, self.final,
            acoustic_scale=acoustic_scale, word_penalty=word_penalty, lattice_beam=lattice_beam, max_arcs=max_arcs,
            pdfs=pdfs,
        )  # fmt: skip
        return replace(words, reached_final=self.reached_final)
