"""Token passing for lattices: Kaldi's `LatticeFasterDecoder`, otherwise laid out, and compiled by numba.

A token is a state of the graph at a frame with the cost of the best path to it,

    cost(t, s) = min over arcs (r -> s, pdf p, weight w) of cost(t - 1, r) + w - scale * loglike[t, p],

epsilon arcs without a frame and an acoustic term. A frame's tokens are pruned by a beam around the best, by a histogram
to the `max_active` best, and by the cutoff of the frame that is being made, which falls as better tokens appear.

A lattice is the tokens and links that lie on a path whose whole cost comes within `lattice_beam` of the best one's:

    extra(link) = cost(source) + w + acoustic - cost(target) + extra(target)
    extra(token) = min over links that leave it

(the last frame's tokens have 0; at the end of the utterance what their final costs lack to the best) is how much worse
than the best path the best path through a link or token is (Povey et al., "Generating exact lattices in the WFST
framework", ICASSP 2012). Every `prune_interval` frames all but the last `lag` frames are settled: what exceeds the
lattice beam goes, so that memory follows the lattice and not the search.

Kaldi writes down every step as a link, and throws nearly all of them away. Here the search writes tokens alone. Links
are found again, backwards, from the few tokens that survive, by the arcs that enter their states; where these are more
than the arcs that leave the tokens of the frame before (a back-off state of a large language model), by those. Tokens
and links lie in flat arrays that are allocated before (where they are full, the frame is given up and done again in
larger ones); a stamp and a slot a state stand for a hash table. A state's arcs stand in the order of their costs, so
that those which could not come within the beam even with the frame's highest log-likelihood are not looked at: half of
them, with an n-gram of a large vocabulary. `tests/test_search.py` has the slow readable search
that it is tested against, and Kaldi's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import numpy as np

from hybrid.decode.search_graph import SearchGraph
from hybrid.decode.search_links import FULL_LINKS, settle
from hybrid.decode.search_settled import order_links
from hybrid.decode.search_tokens import FRAMES, LINKS, SETTLED, STAMP, TOKENS, advance, start
from hybrid.errors import ConfigError

ROOM = 1 << 14, 1 << 12, 1 << 9  # tokens, links and frames to begin with

@dataclass(frozen=True)
class SearchOptions:
    """beam, lattice_beam: in units of scaled cost; max_active, min_active: tokens a frame that are followed;
    prune_interval: frames between two prunings; lag: the last frames before each are left alone, since later frames
    still say which of their tokens survive."""

    beam: float = 15.0
    max_active: int = 7000
    min_active: int = 20
    lattice_beam: float = 8.0
    prune_interval: int = 200
    lag: int = 50

    def __post_init__(self) -> None:
        if not (self.beam > 0 and np.isfinite(self.beam)):
            raise ConfigError(f"beam {self.beam}", remedy="give a beam above 0; 13 to 16 is usual")
        if self.max_active < 2:
            raise ConfigError(f"max_active {self.max_active}", remedy="keep 2 states or more a frame; 7000 is usual")
        if not (self.lattice_beam >= 0 and np.isfinite(self.lattice_beam)):
            raise ConfigError(f"lattice_beam {self.lattice_beam}", remedy="give a beam, 0 or more; 6 to 10 is usual")
        if self.prune_interval < 1 or self.lag < 0:
            raise ConfigError(
                f"prune_interval {self.prune_interval}, lag {self.lag}", remedy="give 1 and 0 or more, as 200 and 50"
            )


@dataclass(frozen=True)
class RawLattice:
    """The tokens and links of an utterance.

    state: int32 [tokens]; cost: float64 [tokens], of the best path to each; final: float32 [tokens], inf where a path
    cannot end; frame: int32 [tokens], frames of speech before it; source, target, arc: int32 [links], tokens, and the
    arc of the graph; acoustic: float32 [links], scaled. Links are sorted by their sources in the order of time and
    epsilons, so that one pass over them is a forward pass, and one from their end a backward pass.
    reached_final: False where no final state was reached: then every token of the last frame ends, at no cost.
    """

    state: np.ndarray
    cost: np.ndarray
    final: np.ndarray
    frame: np.ndarray
    source: np.ndarray
    target: np.ndarray
    arc: np.ndarray
    acoustic: np.ndarray
    reached_final: bool


class LatticeSearch:
    """A search over one graph; begun by `start`, fed by `advance`, ended by `lattice`.

    Several searches, each in a thread of its own, can share a graph.
    """

    def __init__(self, graph: SearchGraph, options: SearchOptions = SearchOptions()) -> None:
        self.graph, self.options = graph, options
        # of each state a stamp and a token; np.full asks for large pages, np.zeros does not
        self._slots = np.full(2 * graph.num_states, 0, np.uint32)
        self._count = np.zeros(6, np.int64)
        self._tokens = _token_arrays(ROOM[0])
        self._links = _link_arrays(ROOM[1])
        self._frames = _frame_arrays(ROOM[2])
        self._rows = np.zeros((0, 0), np.float32)  # log-likelihoods of unsettled frames, by input label
        self.start()

    def start(self, options: Optional[SearchOptions] = None) -> None:
        """Begin an utterance. options: from now on, those of the search before where None."""
        self.options = options or self.options
        stamp = int(self._count[STAMP])
        if stamp > 2**31:  # stamps are uint32
            self._slots[:] = 0
            stamp = 0
        self._count[:] = 0
        self._count[STAMP] = stamp
        self._count[SETTLED] = -1
        self._first_row = 0
        self._alive = True  # there are tokens in the last frame
        while not start(
            self.graph.start, *self._forward(), self._slots, self.options.beam, self._count, *self._tokens,
            *self._frames,
        ):  # fmt: skip
            self._tokens = _larger(self._tokens)

    def advance(self, scaled: np.ndarray) -> None:
        """Follow all paths over more frames. scaled: float32 [frames, pdfs], C order, log-likelihoods times the
        acoustic scale, at least as many pdfs as the graph has; nothing is checked here."""
        options, done = self.options, 0 if self._alive else len(scaled)
        room, columns = 2 * options.prune_interval + options.lag, scaled.shape[1] + 1
        if len(self._rows) < room or self._rows.shape[1] != columns:
            self._rows = np.zeros((room, columns), np.float32)
        unsettled = options.prune_interval + options.lag
        while done < len(scaled):
            frames = int(self._count[FRAMES])
            if frames - int(self._count[SETTLED]) >= unsettled:
                self._settle(final=False)
            row = frames - self._first_row
            if row == len(self._rows):
                row = self._drop_rows(frames, row)
            if frames + 3 > len(self._frames[0]):
                self._frames = _larger(self._frames)
            count = min(
                len(scaled) - done, len(self._rows) - row, len(self._frames[0]) - frames - 2,
                max(unsettled - frames + int(self._count[SETTLED]), 1),
            )  # fmt: skip
            self._rows[row : row + count, 1:] = scaled[done : done + count]
            highest = scaled[done : done + count].max(axis=1, initial=-np.inf)
            while count:
                taken = int(advance(
                    *self._forward(), self._slots, self._rows[row : row + count], highest[-count:], options.beam,
                    options.max_active, options.min_active, self._count, *self._tokens, *self._frames,
                ))  # fmt: skip
                done, row, count = done + taken, row + taken, count - taken
                if count:
                    self._tokens = _larger(self._tokens)
            first = self._frames[0]
            frames = int(self._count[FRAMES])
            if first[frames] == first[frames + 1]:
                self._alive = False
                return

    def _drop_rows(self, frames: int, row: int) -> int:
        """Forget the log-likelihoods that nothing needs any more; return where the next frame's go."""
        kept = self._first_frame_needed()  # the row of frame k + 1 is k
        self._rows[: frames - kept] = self._rows[kept - self._first_row : row].copy()
        self._first_row, row = kept, frames - kept
        if 2 * row > len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        return row

    def _first_frame_needed(self) -> int:
        return max(int(self._count[SETTLED]), 0)

    def lattice(self) -> Optional[RawLattice]:
        """End the utterance: return its lattice; None where no path reaches the last frame."""
        return self._lattice(-1) if self._alive else None

    def _lattice(self, only: int) -> RawLattice:
        """only: the one token of the last frame that ends a path, at no cost; -1: those that are final."""
        frames = int(self._count[FRAMES])
        ending = int(self._tokens[0][only]) if only >= 0 else -1
        reached = self._settle(final=True, only=only)
        tokens, links = int(self._count[TOKENS]), int(self._count[LINKS])
        state, cost = (array[:tokens] for array in self._tokens[:2])
        frame = np.repeat(np.arange(frames + 1, dtype=np.int32), np.diff(self._frames[0][: frames + 2]))
        final = np.full(tokens, np.inf, np.float32)
        last = frame == frames
        if only >= 0:
            final[last & (state == ending)] = 0.0
        else:
            final[last] = self.graph.final[state[last]] if reached else 0.0
        source, target, arc, acoustic = (array[:links] for array in self._links[:4])
        order = order_links(self._frames[0], frames, self.graph.depth[state], source, arc)
        return RawLattice(
            state.astype(np.int32), cost.copy(), final, frame, source[order].astype(np.int32),
            target[order].astype(np.int32), arc[order].astype(np.int32), acoustic[order], bool(reached),
        )  # fmt: skip

    @property
    def counts(self) -> Dict[str, int]:
        """Frames done, and tokens and links held now."""
        places = {"frames": FRAMES, "tokens": TOKENS, "links": LINKS}
        return {name: int(self._count[place]) for name, place in places.items()}

    def _forward(self) -> Tuple[np.ndarray, ...]:
        graph = self.graph
        return graph.first, graph.epsilons, graph.arcs, graph.costs

    def _settle(self, final: bool, only: int = -1) -> int:
        """Find the links of the frames that are not settled yet, and drop what exceeds the lattice beam."""
        graph = self.graph
        while True:
            reached = settle(
                *self._forward(), graph.enter, graph.entering, graph.sources, graph.depth, graph.leads, graph.final,
                self._slots, self._rows, self._first_row, final, only, self.options.lag, self.options.lattice_beam,
                self._count, *self._tokens, *self._frames, *self._links,
            )  # fmt: skip
            if reached == FULL_LINKS:
                self._links = _larger(self._links)
            else:
                return int(reached)


Arrays = Tuple[np.ndarray, ...]


def _token_arrays(size: int) -> Arrays:
    """state, cost, extra; and room for a queue and marks."""
    return (
        np.empty(size, np.uint32), np.empty(size, np.float64), np.empty(size, np.float32), np.empty(size, np.uint32),
        np.zeros(size, np.uint8),
    )  # fmt: skip


def _frame_arrays(size: int) -> Arrays:
    """The first token of each frame (frame 0 is before the first frame of speech), and above which cost none was
    followed."""
    return np.zeros(size, np.int64), np.zeros(size, np.float64)


def _link_arrays(size: int) -> Arrays:
    """source, target, arc, acoustic; and where the links of each settling begin."""
    return (
        np.empty(size, np.uint32), np.empty(size, np.uint32), np.empty(size, np.uint32), np.empty(size, np.float32),
        np.zeros(size, np.int64),
    )  # fmt: skip


def _larger(arrays: Arrays) -> Arrays:
    grown = tuple(np.zeros(2 * len(array), array.dtype) for array in arrays)
    for new, old in zip(grown, arrays, strict=True):
        new[: len(old)] = old
    return grown
