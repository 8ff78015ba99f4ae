"""A lattice of words: what Kaldi calls a CompactLattice, and what is read from it.

An arc bears a word, its graph and acoustic cost apart, and the pdfs of its best path. Made by `Lattice.determinised`,
each word sequence has one path; read from an archive (archive.py), it has those that were written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, NamedTuple, Sequence, Tuple, cast

import numpy as np

from hybrid.compiled import compiled
from hybrid.decode import paths
from hybrid.decode.paths import Entry, Hypothesis


class Oracle(NamedTuple):
    """The path of a lattice that is nearest to a reference: its errors, and its word ids."""

    errors: int
    words: Tuple[int, ...]


@dataclass(frozen=True)
class WordLattice:
    """frame: int32 [nodes], the pdfs on every way to each; source, target: int32 [arcs], nodes; word: int32 [arcs],
    word ids, 0 for none; graph, acoustic: float32 [arcs], costs, natural log, acoustic without a scale; start: int32
    [arcs], the frame in which the word's label stands on the arc's best path (in a decoding graph the label stands at
    or near the word's first phone); offsets: int64 [arcs + 1], pdfs: int32, those of arc k are
    pdfs[offsets[k]:offsets[k + 1]].

    Paths lead from node 0 to the last node, in which every path ends: what a final weight holds in Kaldi stands on an
    arc to it without a word. Arcs are sorted by source, targets are above sources. Where the words of a path stand and
    where its pdfs do is not the same, as in Kaldi: determinisation puts off pdfs until they are common to all that
    follows, so `start` says when a word begins, and `frame` does not. beam: the paths within it of the best are all
    there that the lattice had of which this one was made. reached_final: as Hypothesis has it.
    """

    frame: np.ndarray
    source: np.ndarray
    target: np.ndarray
    word: np.ndarray
    graph: np.ndarray
    acoustic: np.ndarray
    start: np.ndarray
    offsets: np.ndarray
    pdfs: np.ndarray
    beam: float = float("inf")
    reached_final: bool = True

    @property
    def num_frames(self) -> int:
        return int(self.frame[-1])

    @property
    def density(self) -> float:
        """Arcs a frame."""
        return len(self.source) / max(self.num_frames, 1)

    @property
    def depth(self) -> float:
        """How many arcs cross a frame, on average: Kaldi's lattice-depth."""
        return len(self.pdfs) / max(self.num_frames, 1)

    @property
    def final(self) -> np.ndarray:
        """The cost of ending in each node: 0 in the last, inf in all others."""
        final = np.full(len(self.frame), np.inf)
        final[-1] = 0.0
        return final

    def costs(self, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> np.ndarray:
        """Return the cost of each arc, float64 [arcs]."""
        costs = self.graph.astype(np.float64) + acoustic_scale * self.acoustic.astype(np.float64)
        return costs + word_penalty * (self.word != 0) if word_penalty else costs

    def scaled(self, acoustic_scale: float = 1.0, lm_scale: float = 1.0, word_penalty: float = 0.0) -> WordLattice:
        """Return the lattice with its costs scaled, and a penalty on each word (lattice-scale, lattice-add-penalty)."""
        graph = lm_scale * self.graph.astype(np.float64) + word_penalty * (self.word != 0)
        acoustic = acoustic_scale * self.acoustic.astype(np.float64)
        return replace(self, graph=graph.astype(np.float32), acoustic=acoustic.astype(np.float32))

    def best_path(self, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> Hypothesis:
        """Return the path of the lowest cost."""
        arcs, cost = paths.best_path(self.source, self.target, self.costs(acoustic_scale, word_penalty), self.final)
        said = arcs[self.word[arcs] != 0]
        pdfs = np.concatenate([self.pdfs_of(arc) for arc in arcs.tolist()])
        starts = np.minimum(self.start[said], max(self.num_frames - 1, 0))
        words = tuple(self.word[said].tolist())
        return Hypothesis(words, tuple(starts.tolist()), pdfs, float(cost), self.reached_final, self.num_frames)

    def pdfs_of(self, arc: int) -> np.ndarray:
        """Return the pdfs of an arc's best path, int32, one a frame."""
        return cast(np.ndarray, self.pdfs[self.offsets[arc] : self.offsets[arc + 1]])

    def nbest(self, number: int, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> List[Entry]:
        """Return the `number` word sequences of the lowest costs, the best first; no sequence twice. part: of an entry,
        its acoustic cost, unscaled."""
        costs = self.costs(acoustic_scale, word_penalty)
        return paths.nbest(self.source, self.target, self.word, costs, self.final, number, self.acoustic)

    def posteriors(self, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> Tuple[np.ndarray, float]:
        """Return the posterior of each arc, float64 [arcs], and the log of the sum over all paths of exp(-cost)."""
        costs = self.costs(acoustic_scale, word_penalty)
        posteriors, total = paths.posteriors(self.source, self.target, costs, self.final)
        return posteriors, float(total)

    def prune(self, beam: float, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> WordLattice:
        """Return the arcs that lie on a path whose cost is within `beam` of the best (lattice-prune)."""
        costs = self.costs(acoustic_scale, word_penalty)
        before = paths.costs_before(self.source, self.target, costs, len(self.frame))
        ahead = paths.costs_ahead(self.source, self.target, costs, self.final)
        kept = np.flatnonzero(before[self.source] + costs + ahead[self.target] <= ahead[0] + max(beam, 0.0) + 1e-6)
        return replace(self.select(kept), beam=min(self.beam, beam))

    def select(self, arcs: np.ndarray) -> WordLattice:
        """Return a lattice of these arcs alone, int [k] in rising order, and the nodes that they touch."""
        nodes = np.unique(np.concatenate([self.source[arcs], self.target[arcs]]))
        offsets, pdfs = take_strings(self.offsets, self.pdfs, arcs)
        return replace(
            self, frame=self.frame[nodes], source=np.searchsorted(nodes, self.source[arcs]).astype(np.int32),
            target=np.searchsorted(nodes, self.target[arcs]).astype(np.int32), word=self.word[arcs],
            graph=self.graph[arcs], acoustic=self.acoustic[arcs], start=self.start[arcs], offsets=offsets, pdfs=pdfs,
        )  # fmt: skip

    def oracle(self, reference: Sequence[int]) -> Oracle:
        """Return the path with the fewest errors against a reference (lattice-oracle): with D(n, j) the fewest between
        any way to node n and the first j words,

            D(n, j) = min over arcs m -> n with word w of  D(m, j - 1) + [w is not r_j],  D(m, j) + 1 (insertion)
                      and D(n, j - 1) + 1 (deletion);  D(m, j) of an arc without a word

        reference: word ids; one that no lattice has (-1) for words that are not known.
        """
        wanted = np.asarray(reference, np.int64).reshape(-1)
        errors, arcs = _oracle(self.source, self.target, self.word, wanted, len(self.frame))
        words = self.word[arcs]
        return Oracle(int(errors), tuple(words[words != 0].tolist()))


def take_strings(offsets: np.ndarray, pdfs: np.ndarray, arcs: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the offsets and pdfs of some arcs, in their order."""
    lengths = np.diff(offsets)[arcs]
    taken = np.zeros(len(arcs) + 1, np.int64)
    np.cumsum(lengths, out=taken[1:])
    return taken, pdfs[np.repeat(offsets[:-1][arcs] - taken[:-1], lengths) + np.arange(taken[-1])]


@compiled
def _oracle(source, target, word, wanted, nodes):
    """Return the fewest errors, and the arcs of such a path."""
    length = len(wanted)
    fewest = np.full((nodes, length + 1), np.int32(2**30))
    back = np.full((nodes, length + 1), np.int64(-1))  # the arc that led here, twice, and 1 more where it took a word
    fewest[0, 0] = 0
    arc = 0
    for node in range(nodes):
        for j in range(1, length + 1):
            if fewest[node, j - 1] + 1 < fewest[node, j]:
                fewest[node, j] = fewest[node, j - 1] + 1
                back[node, j] = -1  # a deletion
        while arc < len(source) and source[arc] == node:
            reached = target[arc]
            for j in range(length + 1):
                cost = fewest[node, j] + (1 if word[arc] else 0)
                if cost < fewest[reached, j]:
                    fewest[reached, j] = cost
                    back[reached, j] = 2 * arc
                if word[arc] and j < length:
                    cost = fewest[node, j] + (0 if word[arc] == wanted[j] else 1)
                    if cost < fewest[reached, j + 1]:
                        fewest[reached, j + 1] = cost
                        back[reached, j + 1] = 2 * arc + 1
            arc += 1
    arcs = np.empty(nodes, np.int64)
    count = 0
    node, j = nodes - 1, length
    while node > 0 or j > 0:
        step = back[node, j]
        if step < 0:
            j -= 1
            continue
        arcs[count] = step // 2
        count += 1
        node, j = source[step // 2], j - step % 2
    return fewest[nodes - 1, length], arcs[:count][::-1].copy()
