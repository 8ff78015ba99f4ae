"""Determinisation of a lattice over its words, pruned: Kaldi's lattice-determinize-pruned (Povey et al., "Generating
exact lattices in the WFST framework", ICASSP 2012), compiled.

Wanted is a lattice in which each word sequence whose best path comes within a beam of the best has exactly one path,
with the costs and the pdfs of its best path in the lattice that was given. A link carries a weight (graph cost g,
acoustic cost a, string of pdfs z); weights are multiplied by adding costs and joining strings, and of two the better is
that of the lower g + scale * a. A state of the result is a set of

    (node n, z, g, a):  the words so far can end in n; of what leads there z, g and a stand on no arc yet

and is found as any determinisation finds it:

    closure   follow links without a word from the members; per node the best weight is kept
    minimal   keep the nodes that words leave or in which a path can end
    normal    take off the longest common prefix of the strings, and the costs of the best member
    known?    a set of the same nodes and strings and, within DELTA, costs is the same state
    step      for each word, the links that bear it lead to the next set; what was taken off stands on the arc

A set is looked up before its closure, too, for most come again (Kaldi's two tables). Steps are taken in the order of
the best path through them, cost so far and (exactly) least cost ahead, so that a state is first met by its best way,
and what exceeds the beam is never met. Where the result outgrows its bound the work stops: all paths up to the cost
that was reached are there, and the beam is said to be the narrower one.
The word penalty counts in that order alone, for the members of a set have the same words.

Naive is to write every path out and keep the best of each word sequence: tests/test_determinise.py does.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from hybrid.decode.determinise_steps import END, FULL, OLABEL, TARGET, determinise_words
from hybrid.decode.paths import costs_ahead
from hybrid.decode.weighted_sets import ACOUSTIC, GRAPH
from hybrid.decode.word_lattice import WordLattice, take_strings
from hybrid.errors import ConfigError, DataError

MAX_ARCS = 100_000  # of a result
MIN_ROOM, MAX_ROOM = 1 << 12, 1 << 21  # elements of sets, and nodes of the trie; 500 MB at most
ROOM_OF_A_LINK = 4  # at first
NARROWED = 4  # times that the beam is narrowed where the room does not suffice


def determinise(
    frame: np.ndarray, source: np.ndarray, target: np.ndarray, ilabel: np.ndarray, olabel: np.ndarray,
    graph: np.ndarray, acoustic: np.ndarray, final: np.ndarray, *, acoustic_scale: float = 1.0,
    word_penalty: float = 0.0, lattice_beam: float = 8.0, max_arcs: int = MAX_ARCS, pdfs: bool = True,
) -> WordLattice:  # fmt: skip
    """Return the word sequences within lattice_beam of the best, each once, by the path of the lowest
    graph + acoustic_scale * acoustic + word_penalty a word. The arrays are those of a Lattice. pdfs: false leaves the
    arcs' strings of pdfs empty: the same words at the same costs, in noise in a third of the time; a node's frame is
    then that of a node it stands for.

    Raises ConfigError for a beam, scale or bound that is none, DataError where no path leads to an end, or where not
    even the best one could be determinised.
    """
    if not (acoustic_scale > 0 and np.isfinite(acoustic_scale) and np.isfinite(word_penalty)):
        what = f"acoustic scale {acoustic_scale}, word penalty {word_penalty}"
        raise ConfigError(what, remedy="give a scale above 0 and a finite penalty")
    if not (lattice_beam >= 0 and np.isfinite(lattice_beam)):
        raise ConfigError(f"lattice beam {lattice_beam}", remedy="give a beam, 0 or more; 6 to 10 is usual")
    if max_arcs < 1:
        raise ConfigError(f"at most {max_arcs} arcs", remedy=f"give 1 or more; {MAX_ARCS} is usual")
    rank, order = _forward(source, len(final))
    nodes = np.argsort(rank)
    first = np.searchsorted(rank[source[order]], np.arange(len(final) + 1))
    ends = np.stack([rank[target], ilabel if pdfs else np.zeros_like(ilabel), olabel], 1)[order].astype(np.int32)
    costs = np.stack([graph, acoustic], 1)[order].astype(np.float64)
    ending = final[nodes].astype(np.float64)
    totals = costs[:, GRAPH] + acoustic_scale * costs[:, ACOUSTIC] + word_penalty * (ends[:, OLABEL] != 0)
    ahead = costs_ahead(rank[source[order]], ends[:, TARGET].copy(), totals, ending)
    if not (len(ahead) and np.isfinite(ahead[0])):
        raise DataError("no path leads through the lattice to an end", remedy="leave the utterance out")
    lattice = (first, ends, costs), frame[nodes].astype(np.int32), ending, ahead
    weights = float(acoustic_scale), float(word_penalty)
    room, beam, reached, narrowed = max(MIN_ROOM, ROOM_OF_A_LINK * len(source)), float(lattice_beam), -1.0, 0
    while True:
        status, end, *arrays = determinise_words(*lattice, *weights, beam, max_arcs, room)
        if status == FULL and room < MAX_ROOM:
            room = min(4 * room, MAX_ROOM)
            continue
        if end > reached:
            reached, kept = end, arrays
        if status != FULL or narrowed == NARROWED:
            break
        beam, narrowed = max(np.sqrt(beam * end), beam / 4), narrowed + 1  # smaller sets get further in the same room
    words = _sorted(int(frame.max()), reached, *kept)
    if not len(words.source):
        raise DataError("a lattice too large to be determinised", remedy="search with a narrower lattice beam")
    return words


def _forward(source: np.ndarray, nodes: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the place of each node in the order in which links leave them, and the links in that order."""
    leaving, first = np.unique(source, return_index=True)
    met = np.full(nodes, len(source), np.int64)  # what no link leaves comes last
    met[leaving] = first
    met[:1] = -1
    rank = np.empty(nodes, np.int64)
    rank[np.argsort(met, kind="stable")] = np.arange(nodes)
    return rank, np.argsort(rank[source], kind="stable")


def _sorted(
    frames: int, beam: float, states: np.ndarray, arcs: np.ndarray, costs: np.ndarray, offsets: np.ndarray,
    pdfs: np.ndarray,
) -> WordLattice:  # fmt: skip
    """Drop what leads to no end, and number states and arcs in the order of time."""
    state_rank, state_frame = states.T
    source, target, word, start = arcs.T
    graph, acoustic = costs.T
    target = np.where(target == END, len(state_rank), target)
    order = np.argsort(state_rank, kind="stable")
    place = np.empty(len(order) + 1, np.int32)
    place[order] = np.arange(len(order))
    place[-1] = len(order)
    kept = np.lexsort((word, place[source]))
    final = np.full(len(place), np.inf)
    final[-1] = 0.0
    live = np.isfinite(costs_ahead(place[source[kept]], place[target[kept]], np.zeros(len(kept)), final))
    kept = kept[live[place[target[kept]]]]
    renumbered = (np.cumsum(live) - 1).astype(np.int32)
    return WordLattice(
        np.append(state_frame[order], frames).astype(np.int32)[live], renumbered[place[source[kept]]],
        renumbered[place[target[kept]]], word[kept], graph[kept].astype(np.float32),
        acoustic[kept].astype(np.float32), start[kept], *take_strings(offsets, pdfs, kept), beam=float(beam),
    )  # fmt: skip
