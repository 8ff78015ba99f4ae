"""Minimum Bayes risk: the words with the fewest expected errors, and how sure each is (Xu, Povey, Mangu and Zhu,
"Minimum Bayes risk decoding and system combination based on a recursion for edit distance", 2011; Kaldi's
lattice-mbr-decode).

The best path is the likeliest word sequence; wanted is the sequence R that minimises the expected edit distance,

    E(R) = sum over paths W of P(W) * L(W, R),       P(W) ~ exp(-cost)

Summed over paths this is hopeless; instead the edit distance is averaged over the ways to each node n, forwards, for
every prefix r_1 .. r_q of R:

    alpha(n)     = sum over arcs a: m -> n of alpha(m) p(a)                        the share of a in n is
    share(a)     = alpha(m) p(a) / alpha(n)
    d_a(q)       = min( D(m, q-1) + l(w_a, r_q),  D(m, q) + l(w_a, 0),  d_a(q-1) + l(0, r_q) )
    D(n, q)      = sum over a of share(a) d_a(q),    D(0, q) = sum over q' <= q of l(0, r_q'),    l(x, y) = [x is not y]

D(N, Q) is the bound B(R) >= E(R) that is minimised: all ways to a node are aligned in one manner, where E aligns each
by itself; where each node has one way to it, B = E. Between and around its words R has empty slots (r_q = 0), so that a
word can be put in without moving others. The derivative of B by d_a(q), carried backwards through the same minima, is
how often r_q stands against word w:

    gamma(q, w)  with sum over w of gamma(q, w) = 1: the bins of a confusion network, posteriors of words in slot q

Put into each slot its likeliest word (0: none), and B does not rise: with the alignments as they were it is
sum over q of 1 - gamma(q, r_q). Repeat until nothing changes. It starts from the best path, so it is never worse by B.
The slow readable form is in tests/test_mbr.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

import numpy as np

from hybrid.compiled import compiled
from hybrid.decode.paths import log_add
from hybrid.decode.word_lattice import WordLattice

TURNS = 100  # at most; three to five are usual
INSERTED = 1.0 + 1e-5  # cost of a word against no slot: an empty slot beside it is as good, and counts its posterior
TIE = 1e-9  # alignments that cost the same up to rounding: which of them is taken must not hang on it
LEAST = 1e-4  # posterior of a word that is told of a bin


@dataclass(frozen=True)
class Bin:
    """What may have been said in one slot: word ids (0: nothing) with their posteriors, the likeliest first; and the
    frames in which that stands, on average."""

    words: Tuple[Tuple[int, float], ...]
    start: float
    end: float

    @property
    def word(self) -> int:
        return self.words[0][0]


@dataclass(frozen=True)
class MinimumRisk:
    """words: the ids of fewest expected errors; confidences: the posterior of each, 0 to 1; starts, ends: the frames of
    each, averaged over the paths that have it there: those of labels in the graph, on the demo one frame late in the
    median and nine at the 95th percentile; WordTimes.spans aligns the words for the truth.
    expected_errors: the bound B. bins: the confusion network, in order; those of words, and between them those in which
    something else may have been said."""

    words: Tuple[int, ...]
    confidences: Tuple[float, ...]
    starts: Tuple[float, ...]
    ends: Tuple[float, ...]
    expected_errors: float
    bins: Tuple[Bin, ...]


def mbr(lattice: WordLattice, acoustic_scale: float = 1.0, word_penalty: float = 0.0) -> MinimumRisk:
    """Return the word sequence of the fewest expected errors over a lattice of words, with its confusion network.

    Work and memory are nodes (and arcs, for the work) times twice the words: an utterance takes milliseconds; cut an
    hour of speech before.
    """
    vocabulary, arrays = _arrays(lattice, (), acoustic_scale, word_penalty)
    chosen = np.searchsorted(vocabulary, lattice.best_path(acoustic_scale, word_penalty).words)
    for _ in range(TURNS):
        slots = np.zeros(2 * len(chosen) + 1, np.int64)
        slots[1::2] = chosen
        bound, gamma, times = minimise(*arrays, slots)
        likeliest = np.where(gamma.max(1) > gamma[np.arange(len(slots)), slots] + TIE, gamma.argmax(1), slots)
        if (likeliest == slots).all():
            break
        chosen = likeliest[likeliest != 0]
    return _result(vocabulary, slots, float(bound), gamma, times, lattice.num_frames)


def word_posteriors(
    lattice: WordLattice, words: Sequence[int], acoustic_scale: float = 1.0, word_penalty: float = 0.0
) -> np.ndarray:
    """Return the posterior of each word of a sequence, float64 [n]: gamma of its slot, all paths aligned with it."""
    vocabulary, arrays = _arrays(lattice, words, acoustic_scale, word_penalty)
    slots = np.zeros(2 * len(words) + 1, np.int64)
    slots[1::2] = np.searchsorted(vocabulary, np.asarray(words, np.int64))
    _, gamma, _ = minimise(*arrays, slots)
    posteriors: np.ndarray = np.clip(gamma[np.arange(len(slots)), slots][1::2], 0.0, 1.0)
    return posteriors


def _arrays(
    lattice: WordLattice, more: Sequence[int], acoustic_scale: float, word_penalty: float
) -> Tuple[np.ndarray, Tuple[Any, ...]]:
    """The words of the lattice and `more`, in rising order, 0 the first; and what `minimise` takes before the slots."""
    costs = lattice.costs(acoustic_scale, word_penalty)
    order = np.argsort(lattice.target, kind="stable")
    every = np.concatenate([lattice.word, np.asarray([0, *more], lattice.word.dtype)])
    vocabulary, numbers = np.unique(every, return_inverse=True)
    numbers = numbers.reshape(-1)[: len(lattice.word)].astype(np.int64)
    ends = _ends(lattice, lattice.posteriors(acoustic_scale, word_penalty)[0])
    return vocabulary, (
        lattice.source[order], lattice.target[order], numbers[order], costs[order], lattice.start[order].astype(float),
        ends[order], len(lattice.frame), len(vocabulary),
    )  # fmt: skip


def _ends(lattice: WordLattice, posteriors: np.ndarray) -> np.ndarray:
    """Return the frame in which the next word of each arc begins, on average."""
    nodes = len(lattice.frame)
    weights = np.maximum(posteriors, 1e-30)
    mass = np.bincount(lattice.source, weights, nodes)
    start = np.bincount(lattice.source, weights * lattice.start, nodes)
    start[-1], mass[-1] = lattice.num_frames, 1.0
    mean: np.ndarray = start / mass
    return mean[lattice.target]


def _result(
    vocabulary: np.ndarray, slots: np.ndarray, bound: float, gamma: np.ndarray, times: np.ndarray, frames: int
) -> MinimumRisk:
    order = np.argsort(-gamma, axis=1, kind="stable")
    bins: List[Bin] = []
    told: List[Tuple[int, float]] = []
    last = 0.0
    for slot, choices in enumerate(order):
        choices = [slots[slot], *(word for word in choices if word != slots[slot] and gamma[slot, word] >= LEAST)]
        if len(choices) == 1 and choices[0] == 0:
            continue
        start, end = times[slot] if times[slot, 1] > 0 else (last, last)
        start = max(float(start), last)
        last = min(max(float(end), start), float(frames))
        posteriors = tuple((int(vocabulary[word]), min(float(gamma[slot, word]), 1.0)) for word in choices)
        bins.append(Bin(posteriors, start, last))
        if slots[slot]:
            told.append((len(bins) - 1, posteriors[0][1]))
    chosen = [bins[place] for place, _ in told]
    return MinimumRisk(
        tuple(slot.word for slot in chosen), tuple(confidence for _, confidence in told),
        tuple(slot.start for slot in chosen), tuple(slot.end for slot in chosen), bound, tuple(bins),
    )  # fmt: skip


@compiled
def minimise(source, target, word, costs, start, end, nodes, vocabulary, slots):
    """Return the bound of a sequence, gamma float64 [slots, vocabulary], and the mean start and end of what stands in
    each slot, float64 [slots, 2]. Arcs are sorted by target."""
    length = len(slots)
    arcs = len(source)
    alpha = np.full(nodes, -np.inf)
    alpha[0] = 0.0
    for arc in range(arcs):
        alpha[target[arc]] = log_add(alpha[target[arc]], alpha[source[arc]] - costs[arc])
    distance = np.zeros((nodes, length + 1))
    for q in range(length):
        distance[0, q + 1] = distance[0, q] + (1.0 if slots[q] else 0.0)
    of_arc = np.empty(length + 1)
    share = np.empty(arcs)
    for arc in range(arcs):
        into, out = target[arc], source[arc]
        share[arc] = np.exp(alpha[out] - costs[arc] - alpha[into])
        _align(distance[out], word[arc], slots, of_arc)
        for q in range(length + 1):
            distance[into, q] += share[arc] * of_arc[q]
    gamma = np.zeros((length, vocabulary))
    times = np.zeros((length, 2))
    weight = np.zeros(length)
    back = np.zeros((nodes, length + 1))
    back[nodes - 1, length] = 1.0
    carried = np.empty(length + 1)
    for arc in range(arcs - 1, -1, -1):
        into, out, said = target[arc], source[arc], word[arc]
        _align(distance[out], said, slots, of_arc)
        for q in range(length + 1):
            carried[q] = share[arc] * back[into, q]
        for q in range(length, 0, -1):
            if carried[q] == 0.0:
                continue
            wanted = slots[q - 1]
            matched = distance[out, q - 1] + (0.0 if said == wanted else 1.0)
            inserted = distance[out, q] + (INSERTED if said else 0.0)
            deleted = of_arc[q - 1] + (1.0 if wanted else 0.0)
            if matched <= min(inserted, deleted) + TIE:
                back[out, q - 1] += carried[q]
                gamma[q - 1, said] += carried[q]
                if said == wanted and said:
                    times[q - 1, 0] += carried[q] * start[arc]
                    times[q - 1, 1] += carried[q] * end[arc]
                    weight[q - 1] += carried[q]
            elif inserted <= deleted + TIE:
                back[out, q] += carried[q]
            else:
                carried[q - 1] += carried[q]
                gamma[q - 1, 0] += carried[q]
        back[out, 0] += carried[0]
    for q in range(length, 0, -1):
        back[0, q - 1] += back[0, q]
        gamma[q - 1, 0] += back[0, q]
    for q in range(length):
        if weight[q] > 0.0:
            times[q, 0] /= weight[q]
            times[q, 1] /= weight[q]
    return distance[nodes - 1, length], gamma, times


@compiled
def _align(before, said, slots, of_arc):
    """Write d_a(q) of an arc with the word `said`, `before` being D of the node that it leaves."""
    inserted = INSERTED if said else 0.0
    of_arc[0] = before[0] + inserted
    for q in range(1, len(slots) + 1):
        wanted = slots[q - 1]
        matched = before[q - 1] + (0.0 if said == wanted else 1.0)
        of_arc[q] = min(matched, before[q] + inserted, of_arc[q - 1] + (1.0 if wanted else 0.0))
