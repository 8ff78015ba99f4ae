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
larger ones); a stamp and a slot a state stand for a hash table. `tests/test_search.py` has the slow readable search
that it is tested against, and Kaldi's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import numpy as np

from hybrid.decode.search_graph import COST, ILABEL, NEXT, SearchGraph, compiled
from hybrid.errors import ConfigError

BINS = 1024  # of the histogram: a frame keeps some states more than max_active rather than fewer
SLACK = 0.5  # Kaldi's beam_delta: by so much the next frame's beam is wider than the one that max_active leaves
ROOM = 1 << 14, 1 << 12, 1 << 9  # tokens, links and frames to begin with

# counters, int64: frames done, tokens and links in use, stamp, last settled frame, blocks of links
FRAMES, TOKENS, LINKS, STAMP, SETTLED, BLOCKS = range(6)
FULL_LINKS = -1
GONE = np.uint32(2**32 - 1)  # in place of the target of a link


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
        self._slots = np.zeros(2 * graph.num_states, np.uint32)  # of each state a stamp and a token
        self._count = np.zeros(6, np.int64)
        self._tokens = _token_arrays(ROOM[0])
        self._links = _link_arrays(ROOM[1])
        self._frames = _frame_arrays(ROOM[2])
        # log-likelihoods of unsettled frames, by input label
        self._rows = np.zeros((2 * options.prune_interval + options.lag, 0), np.float32)
        self.start()

    def start(self) -> None:
        """Begin an utterance."""
        stamp = int(self._count[STAMP])
        if stamp > 2**31:  # stamps are uint32
            self._slots[:] = 0
            stamp = 0
        self._count[:] = 0
        self._count[STAMP] = stamp
        self._count[SETTLED] = -1
        self._first_row = 0
        self._alive = True  # there are tokens in the last frame
        while not _start(
            self.graph.start, *self._forward(), self._slots, self.options.beam, self._count, *self._tokens,
            *self._frames,
        ):  # fmt: skip
            self._tokens = _larger(self._tokens, 2)

    def advance(self, scaled: np.ndarray) -> None:
        """Follow all paths over more frames. scaled: float32 [frames, pdfs], C order, log-likelihoods times the
        acoustic scale, at least as many pdfs as the graph has; nothing is checked here."""
        if self._rows.shape[1] != scaled.shape[1] + 1:
            self._rows = np.zeros((len(self._rows), scaled.shape[1] + 1), np.float32)
        options, done = self.options, 0 if self._alive else len(scaled)
        unsettled = options.prune_interval + options.lag
        while done < len(scaled):
            frames = int(self._count[FRAMES])
            if frames - int(self._count[SETTLED]) >= unsettled:
                self._settle(final=False)
            row = frames - self._first_row
            if row == len(self._rows):
                kept = max(int(self._count[SETTLED]), 0)  # the row of frame k + 1 is k
                self._rows[: frames - kept] = self._rows[kept - self._first_row : row].copy()
                self._first_row, row = kept, frames - kept
            if frames + 3 > len(self._frames[0]):
                self._frames = _larger(self._frames, 2)
            count = min(
                len(scaled) - done, len(self._rows) - row, len(self._frames[0]) - frames - 2,
                max(unsettled - frames + int(self._count[SETTLED]), 1),
            )  # fmt: skip
            self._rows[row : row + count, 1:] = scaled[done : done + count]
            while count:
                taken = int(_advance(
                    *self._forward(), self._slots, self._rows[row : row + count], options.beam, options.max_active,
                    options.min_active, self._count, *self._tokens, *self._frames,
                ))  # fmt: skip
                done, row, count = done + taken, row + taken, count - taken
                if count:
                    self._tokens = _larger(self._tokens, 2)
            first = self._frames[0]
            frames = int(self._count[FRAMES])
            if first[frames] == first[frames + 1]:
                self._alive = False
                return

    def lattice(self) -> Optional[RawLattice]:
        """End the utterance: return its lattice; None where no path reaches the last frame."""
        if not self._alive:
            return None
        frames = int(self._count[FRAMES])
        reached = self._settle(final=True)
        tokens, links = int(self._count[TOKENS]), int(self._count[LINKS])
        state, cost, _ = (array[:tokens] for array in self._tokens[:3])
        frame = np.repeat(np.arange(frames + 1, dtype=np.int32), np.diff(self._frames[0][: frames + 2]))
        final = np.full(tokens, np.inf, np.float32)
        last = frame == frames
        final[last] = self.graph.final[state[last]] if reached else 0.0
        source, target, arc, acoustic = (array[:links] for array in self._links[:4])
        order = _order(self._frames[0], frames, self.graph.depth[state], source, arc)
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

    def _settle(self, final: bool) -> int:
        """Find the links of the frames that are not settled yet, and drop what exceeds the lattice beam."""
        graph = self.graph
        while True:
            reached = _settle(
                *self._forward(), graph.enter, graph.entering, graph.sources, graph.depth, graph.final, self._slots,
                self._rows, self._first_row, final, self.options.lag, self.options.lattice_beam, self._count,
                *self._tokens, *self._frames, *self._links,
            )  # fmt: skip
            if reached == FULL_LINKS:
                self._links = _larger(self._links, 2)
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


def _larger(arrays: Arrays, factor: int) -> Arrays:
    grown = tuple(np.zeros(factor * len(array), array.dtype) for array in arrays)
    for new, old in zip(grown, arrays, strict=True):
        new[: len(old)] = old
    return grown


@compiled
def _start(
    start, first, epsilons, arcs, costs, slots, beam, count, token_state, token_cost, token_extra, queue, queued,
    token_first, cutoffs,
):  # fmt: skip
    """Make the token of the start state and what epsilons lead to from it; False where they do not fit."""
    count[STAMP] += 1
    token_state[0] = start
    token_cost[0] = 0.0
    slots[2 * start] = count[STAMP]
    slots[2 * start + 1] = 0
    queue[0] = 0
    queued[0] = 1
    tokens = _close(
        first, epsilons, arcs, costs, slots, count[STAMP], beam, 1, 1, token_state, token_cost, queue, queued
    )
    if tokens < 0:
        return False
    count[TOKENS] = tokens
    token_first[0] = 0
    token_first[1] = tokens
    return True


@compiled
def _close(
    first, epsilons, arcs, costs, slots, stamp, cutoff, tokens, waiting, token_state, token_cost, queue, queued
):  # fmt: skip
    """Follow epsilons from the tokens that wait in the queue. Return the tokens in use, -1 where they do not fit."""
    room = len(token_state)
    while waiting:
        waiting -= 1
        token = queue[waiting]
        queued[token] = 0
        cost = token_cost[token]
        state = token_state[token]
        for arc in range(first[state], epsilons[state]):
            total = cost + costs[4 * arc + COST]
            if total >= cutoff:
                continue
            target = arcs[4 * arc + NEXT]
            if slots[2 * target] != stamp:
                if tokens >= room:
                    for left in range(waiting):
                        queued[queue[left]] = 0
                    return -1
                slots[2 * target] = stamp
                slots[2 * target + 1] = tokens
                token_state[tokens] = target
                token_cost[tokens] = total
                queued[tokens] = 0
                reached = np.uint32(tokens)
                tokens += 1
            else:
                reached = slots[2 * target + 1]
                if total >= token_cost[reached]:
                    continue
                token_cost[reached] = total
            if queued[reached] == 0 and epsilons[target] > first[target]:
                queue[waiting] = reached
                queued[reached] = 1
                waiting += 1
    return tokens


@compiled
def _cutoff(token_cost, begin, end, beam, max_active, min_active):
    """Return the cutoff of a frame's tokens, the beam for the next frame's, and the best token.

    By histogram: a few tokens more than max_active are kept rather than fewer; where the beam holds less than
    min_active it is widened."""
    best = begin
    for token in range(begin + 1, end):
        if token_cost[token] < token_cost[best]:
            best = token
    lowest = token_cost[best]
    if end - begin <= min_active:
        return np.inf, beam, best
    inside, token = 0, begin
    while token < end and inside < min_active:
        if token_cost[token] < lowest + beam:
            inside += 1
        token += 1
    bins = np.zeros(BINS, np.int32)
    if inside < min_active:
        highest = lowest
        for token in range(begin, end):
            highest = max(highest, token_cost[token])
        widest = 1.001 * (highest - lowest)
        _histogram(token_cost, begin, end, lowest, widest, bins)
        width = max(_width(bins, min_active, widest), beam)
        return lowest + width, width + SLACK, best
    if end - begin > max_active and _histogram(token_cost, begin, end, lowest, beam, bins) > max_active:
        width = _width(bins, max_active, beam)
        return lowest + width, min(width + SLACK, beam), best
    return lowest + beam, beam, best


@compiled
def _histogram(token_cost, begin, end, lowest, width, bins):
    """Count the tokens less than `width` above the lowest in as many bins as there are; return how many they are."""
    scale = len(bins) / width
    inside = 0
    for token in range(begin, end):
        place = int((token_cost[token] - lowest) * scale)
        if place < len(bins):
            bins[place] += 1
            inside += 1
    return inside


@compiled
def _width(bins, wanted, width):
    """Return the width of the bins that hold the first `wanted` tokens."""
    total = 0
    place = 0
    while place < len(bins) and total < wanted:
        total += bins[place]
        place += 1
    return place * width / len(bins)


@compiled
def _advance(
    first, epsilons, arcs, costs, slots, rows, beam, max_active, min_active, count, token_state, token_cost,
    token_extra, queue, queued, token_first, cutoffs,
):  # fmt: skip
    """Make the tokens of the next frames; return how many frames were done before the room was used up."""
    for number in range(len(rows)):
        now = count[FRAMES]
        begin, end = token_first[now], token_first[now + 1]
        tokens = end
        if end > begin:
            count[STAMP] += 1
            stamp = count[STAMP]
            waiting = 0
            cutoff, width, best = _cutoff(token_cost, begin, end, beam, max_active, min_active)
            cutoffs[now] = cutoff
            # the best token's own steps give a first limit for the next frame
            limit = np.inf
            state = token_state[best]
            for arc in range(epsilons[state], first[state + 1]):
                total = token_cost[best] + costs[4 * arc + COST] - rows[number, arcs[4 * arc + ILABEL]]
                limit = min(limit, total + width)
            row = rows[number]
            for token in range(begin, end):
                cost = token_cost[token]
                if cost > cutoff:
                    continue
                state = token_state[token]
                low, high = epsilons[state], first[state + 1]
                if tokens + high - low > len(token_state):
                    for place in range(waiting):
                        queued[queue[place]] = 0
                    return number
                for arc in range(low, high):
                    total = cost + costs[4 * arc + COST] - row[arcs[4 * arc + ILABEL]]
                    if total >= limit:
                        continue
                    limit = min(limit, total + width)
                    target = arcs[4 * arc + NEXT]
                    if slots[2 * target] != stamp:
                        slots[2 * target] = stamp
                        slots[2 * target + 1] = tokens
                        token_state[tokens] = target
                        token_cost[tokens] = total
                        queued[tokens] = 0
                        if epsilons[target] > first[target]:
                            queue[waiting] = tokens
                            queued[tokens] = 1
                            waiting += 1
                        tokens += 1
                    else:
                        reached = slots[2 * target + 1]
                        token_cost[reached] = min(token_cost[reached], total)
            tokens = _close(
                first, epsilons, arcs, costs, slots, stamp, limit, tokens, waiting, token_state, token_cost, queue,
                queued,
            )  # fmt: skip
            if tokens < 0:
                return number
        cutoffs[now + 1] = np.inf
        count[TOKENS] = tokens
        count[FRAMES] = now + 1
        token_first[now + 2] = tokens
    return len(rows)


@compiled
def _settle(
    first, epsilons, arcs, costs, enter, entering, sources, depth, graph_final, slots, rows, first_row, final,
    lag, lattice_beam, count, token_state, token_cost, token_extra, queue, queued, token_first, cutoffs,
    link_source, link_target, link_arc, link_acoustic, block_first,
):  # fmt: skip
    """Write the links of the frames that are not settled, as far as `lag` before the last (final: to the last, whose
    final costs then count), and drop the tokens that no link has.

    Return 1, or at the end 0 if no final state was reached; FULL_LINKS where the links do not fit: nothing has changed.
    """
    last, settled = count[FRAMES], count[SETTLED]
    begin, end = token_first[last], token_first[last + 1]
    horizon = last if final else last - lag
    reached = _last_extras(final, begin, end, graph_final, token_state, token_cost, token_extra)
    links = count[LINKS]
    frame = last
    waiting = 0  # tokens of `frame` that survive stand in the queue
    for token in range(begin, end):
        if token_extra[token] <= lattice_beam:
            queue[waiting] = token
            waiting += 1
    while frame > settled and waiting:
        begin, end = token_first[frame], token_first[frame + 1]
        count[STAMP] += 1
        _stamp(slots, count[STAMP], begin, end, np.inf, token_state, token_cost)
        waiting, links = _epsilon_links(
            arcs, costs, enter, entering, sources, depth, slots, count[STAMP], lattice_beam, frame <= horizon, waiting,
            links, token_state, token_cost, token_extra, queue, link_source, link_target, link_arc, link_acoustic,
        )  # fmt: skip
        if links < 0:
            return FULL_LINKS
        if frame == 0:
            break
        waiting, links = _frame_links(
            first, epsilons, arcs, costs, enter, entering, sources, slots, count, lattice_beam, frame <= horizon,
            waiting, links, token_first[frame - 1], begin, cutoffs[frame - 1], rows[frame - 1 - first_row],
            token_state, token_cost, token_extra, queue, link_source, link_target, link_arc, link_acoustic,
        )  # fmt: skip
        if links < 0:
            return FULL_LINKS
        frame -= 1
    blocks = count[BLOCKS]
    if blocks + 2 > len(block_first):
        return FULL_LINKS
    block_first[blocks] = count[LINKS]
    block_first[blocks + 1] = links
    count[BLOCKS] = blocks + 1
    if final:
        _old_extras(settled, lattice_beam, count, block_first, costs, token_first, token_cost, token_extra, link_source,
                    link_target, link_arc, link_acoustic)  # fmt: skip
        _compact(-1, last, last, 0, links, lattice_beam, count, token_state, token_cost, token_extra, queue,
                 token_first, link_source, link_target, link_arc, link_acoustic)  # fmt: skip
    elif horizon > settled:
        _compact(settled, horizon, last, count[LINKS], links, lattice_beam, count, token_state, token_cost, token_extra,
                 queue, token_first, link_source, link_target, link_arc, link_acoustic)  # fmt: skip
        block_first[blocks + 1] = count[LINKS]
        count[SETTLED] = horizon
    return reached


@compiled
def _last_extras(final, begin, end, graph_final, token_state, token_cost, token_extra):
    """Give the tokens of the last frame their extra cost. Return 0 where the utterance is over and none is final."""
    for token in range(begin, end):
        token_extra[token] = 0.0
    if not final:
        return 1
    best = np.inf
    for token in range(begin, end):
        best = min(best, token_cost[token] + graph_final[token_state[token]])
    reached = 1
    if best == np.inf:
        reached = 0
        for token in range(begin, end):
            best = min(best, token_cost[token])
    for token in range(begin, end):
        total = token_cost[token] + (graph_final[token_state[token]] if reached else np.float32(0.0))
        token_extra[token] = total - best
    return reached


@compiled
def _stamp(slots, stamp, begin, end, cutoff, token_state, token_cost):
    """Make the tokens that were followed findable by their states."""
    for token in range(begin, end):
        if token_cost[token] <= cutoff:
            state = token_state[token]
            slots[2 * state] = stamp
            slots[2 * state + 1] = token


@compiled
def _epsilon_links(
    arcs, costs, enter, entering, sources, depth, slots, stamp, lattice_beam, write, waiting, links,
    token_state, token_cost, token_extra, queue, link_source, link_target, link_arc, link_acoustic,
):  # fmt: skip
    """Find the epsilon links that enter a frame's survivors, the deepest first, so that extras are settled when they
    are handed on. Return the survivors, with those that an epsilon adds, and the links; -1 where these do not fit."""
    deepest = 0
    for place in range(waiting):
        deepest = max(deepest, depth[token_state[queue[place]]])
    for level in range(deepest, 0, -1):
        place = 0
        while place < waiting:
            token = queue[place]
            place += 1
            state = token_state[token]
            if depth[state] != level:
                continue
            for number in range(enter[state], enter[state + 1]):
                origin = sources[number]
                if slots[2 * origin] != stamp:
                    continue
                arc = entering[number]
                if arcs[4 * arc + ILABEL] != 0:
                    continue
                source = slots[2 * origin + 1]
                extra = token_cost[source] + costs[4 * arc + COST] - token_cost[token]
                extra = np.float32(max(extra, 0.0) + token_extra[token])
                if extra > lattice_beam:
                    continue
                if not token_extra[source] <= lattice_beam:
                    queue[waiting] = source
                    waiting += 1
                    token_extra[source] = extra
                elif extra < token_extra[source]:
                    token_extra[source] = extra
                if write:
                    if links >= len(link_arc):
                        return waiting, -1
                    link_source[links] = source
                    link_target[links] = token
                    link_arc[links] = arc
                    link_acoustic[links] = 0.0
                    links += 1
    return waiting, links


@compiled
def _frame_links(
    first, epsilons, arcs, costs, enter, entering, sources, slots, count, lattice_beam, write, waiting, links,
    begin, end, cutoff, row, token_state, token_cost, token_extra, queue, link_source, link_target, link_arc,
    link_acoustic,
):  # fmt: skip
    """Find the links over a pdf from the tokens begin .. end of the frame before to a frame's survivors in the queue.
    Return the survivors of the frame before, in the queue, and the links; -1 where these do not fit."""
    for token in range(begin, end):
        token_extra[token] = np.inf
    into = 0
    for place in range(waiting):
        state = token_state[queue[place]]
        into += enter[state + 1] - enter[state]
    found = 0  # survivors of the frame before; they take the queue's place behind the survivors of the frame
    if into <= 2 * (end - begin):
        count[STAMP] += 1
        stamp = count[STAMP]
        _stamp(slots, stamp, begin, end, cutoff, token_state, token_cost)
        for place in range(waiting):
            token = queue[place]
            state = token_state[token]
            for number in range(enter[state], enter[state + 1]):
                origin = sources[number]
                if slots[2 * origin] != stamp:
                    continue
                arc = entering[number]
                if arcs[4 * arc + ILABEL] == 0:
                    continue
                source = slots[2 * origin + 1]
                acoustic = -row[arcs[4 * arc + ILABEL]]
                extra = token_cost[source] + costs[4 * arc + COST] + acoustic - token_cost[token]
                extra = np.float32(max(extra, 0.0) + token_extra[token])
                if extra > lattice_beam:
                    continue
                if not token_extra[source] <= lattice_beam:
                    queue[waiting + found] = source
                    found += 1
                    token_extra[source] = extra
                elif extra < token_extra[source]:
                    token_extra[source] = extra
                if write:
                    if links >= len(link_arc):
                        return 0, -1
                    link_source[links] = source
                    link_target[links] = token
                    link_arc[links] = arc
                    link_acoustic[links] = acoustic
                    links += 1
    else:
        stamp = count[STAMP]  # of the frame itself
        for source in range(begin, end):
            if token_cost[source] > cutoff:
                continue
            state = token_state[source]
            for arc in range(epsilons[state], first[state + 1]):
                target = arcs[4 * arc + NEXT]
                if slots[2 * target] != stamp:
                    continue
                token = slots[2 * target + 1]
                if not token_extra[token] <= lattice_beam:
                    continue
                acoustic = -row[arcs[4 * arc + ILABEL]]
                extra = token_cost[source] + costs[4 * arc + COST] + acoustic - token_cost[token]
                extra = np.float32(max(extra, 0.0) + token_extra[token])
                if extra > lattice_beam:
                    continue
                if not token_extra[source] <= lattice_beam:
                    queue[waiting + found] = source
                    found += 1
                    token_extra[source] = extra
                elif extra < token_extra[source]:
                    token_extra[source] = extra
                if write:
                    if links >= len(link_arc):
                        return 0, -1
                    link_source[links] = source
                    link_target[links] = token
                    link_arc[links] = arc
                    link_acoustic[links] = acoustic
                    links += 1
    for place in range(found):
        queue[place] = queue[waiting + place]
    return found, links


@compiled
def _old_extras(settled, lattice_beam, count, block_first, costs, token_first, token_cost, token_extra, link_source,
                link_target, link_arc, link_acoustic):  # fmt: skip
    """Hand the extras of frame `settled` on to the frames before, over links written earlier: of each block from its
    first, which are its latest; those that exceed the beam lose their arc."""
    if settled < 0:
        return
    for token in range(token_first[settled]):
        token_extra[token] = np.inf
    for block in range(count[BLOCKS] - 2, -1, -1):
        for link in range(block_first[block], block_first[block + 1]):
            source, target = link_source[link], link_target[link]
            extra = token_cost[source] + costs[4 * link_arc[link] + COST] + link_acoustic[link] - token_cost[target]
            extra = np.float32(max(extra, 0.0) + token_extra[target])
            if extra <= lattice_beam and extra < token_extra[source]:
                token_extra[source] = extra
            if not extra <= lattice_beam:
                link_target[link] = GONE


@compiled
def _compact(settled, horizon, last, new, links, lattice_beam, count, token_state, token_cost, token_extra, place,
             token_first, link_source, link_target, link_arc, link_acoustic):  # fmt: skip
    """Close the gaps of tokens that did not survive in the frames after `settled`, up to `horizon`, and number the
    links from `new` on anew. place: room for a number a token."""
    begin = token_first[settled + 1]
    tokens = begin
    low = begin
    for frame in range(settled + 1, last + 1):
        high = token_first[frame + 1]
        token_first[frame] = tokens
        for token in range(low, high):
            if frame > horizon or token_extra[token] <= lattice_beam:
                place[token] = tokens
                token_state[tokens] = token_state[token]
                token_cost[tokens] = token_cost[token]
                token_extra[tokens] = token_extra[token]
                tokens += 1
        low = high
    token_first[last + 1] = tokens
    count[TOKENS] = tokens
    used = new
    for link in range(new, links):
        source, target = link_source[link], link_target[link]
        if target == GONE:
            continue
        link_source[used] = place[source] if source >= begin else source
        link_target[used] = place[target] if target >= begin else target
        link_arc[used] = link_arc[link]
        link_acoustic[used] = link_acoustic[link]
        used += 1
    count[LINKS] = used


@compiled
def _order(token_first, last, depth, source, arc):
    """Return the links by their sources, in the order of time and of epsilons, and those of one by their arcs."""
    tokens = token_first[last + 1]
    place = np.empty(tokens, np.int64)
    count = 0
    for frame in range(last + 1):
        deepest = 0
        for token in range(token_first[frame], token_first[frame + 1]):
            deepest = max(deepest, depth[token])
        for level in range(deepest + 1):
            for token in range(token_first[frame], token_first[frame + 1]):
                if depth[token] == level:
                    place[token] = count
                    count += 1
    ends = np.zeros(tokens + 1, np.int64)
    for link in range(len(source)):
        ends[place[source[link]] + 1] += 1
    for token in range(tokens):
        ends[token + 1] += ends[token]
    order = np.empty(len(source), np.int64)
    filled = ends[:-1].copy()
    for link in range(len(source)):
        bucket = place[source[link]]
        slot = filled[bucket]
        filled[bucket] += 1
        while slot > ends[bucket] and arc[order[slot - 1]] > arc[link]:
            order[slot] = order[slot - 1]
            slot -= 1
        order[slot] = link
    return order
