"""The search forward, compiled: the tokens of each frame from those of the frame before (search.py says how)."""

from __future__ import annotations

import numpy as np

from hybrid.compiled import compiled, prefetch
from hybrid.decode.search_graph import COST, ILABEL, NEXT

BINS = 1024  # of the histogram: a frame keeps some states more than max_active rather than fewer
SLACK = 0.5  # Kaldi's beam_delta: by so much the next frame's beam is wider than the one that max_active leaves

AHEAD, HALF_AHEAD = np.uint64(16), np.uint64(8)  # tokens for whose memory is asked so much earlier
IN_CACHE = 1 << 16  # states of a graph that is small enough not to ask for
ONE = np.uint64(1)  # unsigned, so that an index needs no test for a negative one; a sum with a signed one is a float

# counters, int64: frames done, tokens and links in use, stamp, last settled frame, blocks of links
FRAMES, TOKENS, LINKS, STAMP, SETTLED, BLOCKS = range(6)


@compiled
def start(
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
                break
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
    if inside >= min_active and end - begin <= max_active:
        return lowest + beam, beam, best
    bins = np.zeros(BINS, np.int32)
    if inside < min_active:
        highest = lowest
        for token in range(begin, end):
            highest = max(highest, token_cost[token])
        widest = 1.001 * (highest - lowest)
        _histogram(token_cost, begin, end, lowest, widest, bins)
        width = max(_width(bins, min_active, widest), beam)
        return lowest + width, width + SLACK, best
    if _histogram(token_cost, begin, end, lowest, beam, bins) > max_active:
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
def advance(
    first, epsilons, arcs, costs, slots, rows, highest, beam, max_active, min_active, count, token_state, token_cost,
    token_extra, queue, queued, token_first, cutoffs,
):  # fmt: skip
    """Make the tokens of the next frames; return how many frames were done before the room was used up.

    highest: of each frame the highest log-likelihood. An arc that is too dear even with that ends its state's arcs, for
    those behind it cost no less.

    Two loops a frame, for a processor does better with them than with one: the first writes what comes within the limit
    behind the tokens, without a branch; the second makes tokens of it, in the same place. What they will read is asked
    for ahead.
    """
    small = len(slots) <= 2 * IN_CACHE
    for number in range(len(rows)):
        now = count[FRAMES]
        begin, end = np.uint64(token_first[now]), np.uint64(token_first[now + 1])
        tokens = end
        if end > begin:
            count[STAMP] += 1
            stamp = count[STAMP]
            cutoff, width, best = _cutoff(token_cost, np.int64(begin), np.int64(end), beam, max_active, min_active)
            cutoffs[now] = cutoff
            row, top = rows[number], highest[number]
            # the best token's own steps give a first limit for the next frame
            limit = np.inf
            state = token_state[best]
            for arc in range(epsilons[state], first[state + 1]):
                total = token_cost[best] + costs[4 * arc + COST] - row[arcs[4 * arc + ILABEL]]
                limit = min(limit, total + width)
            reached = end
            ahead = begin if small else max(begin + AHEAD, end) - AHEAD
            for token in range(begin, end):
                if token < ahead:
                    later = token_state[token + AHEAD]
                    prefetch(epsilons, later)
                    prefetch(first, later)
                    prefetch(arcs, 4 * epsilons[token_state[token + HALF_AHEAD]])
                cost = token_cost[token]
                if cost > cutoff:
                    continue
                state = token_state[token]
                low, high = epsilons[state], first[state + 1]
                if np.int64(reached) + high - low > len(token_state):
                    return number
                for arc in range(low, high):
                    total = cost + costs[4 * arc + COST]
                    if total - top >= limit:
                        break
                    total -= row[arcs[4 * arc + ILABEL]]
                    token_cost[reached] = total
                    token_state[reached] = arcs[4 * arc + NEXT]
                    reached += np.uint64(total < limit)
                    limit = min(limit, total + width)
            waiting = np.uint64(0)
            ahead = end if small else max(end + AHEAD, reached) - AHEAD
            for place in range(end, reached):
                if place < ahead:
                    later = token_state[place + AHEAD]
                    prefetch(slots, 2 * later)
                    prefetch(first, later)
                    prefetch(epsilons, later)
                target, total = token_state[place], token_cost[place]
                if slots[2 * target] != stamp:
                    slots[2 * target] = stamp
                    slots[2 * target + 1] = tokens
                    token_state[tokens] = target
                    token_cost[tokens] = total
                    queued[tokens] = 0
                    if epsilons[target] > first[target]:
                        queue[waiting] = tokens
                        queued[tokens] = 1
                        waiting += ONE
                    tokens += ONE
                else:
                    known = slots[2 * target + 1]
                    token_cost[known] = min(token_cost[known], total)
            closed = _close(
                first, epsilons, arcs, costs, slots, stamp, limit, np.int64(tokens), np.int64(waiting), token_state,
                token_cost, queue, queued,
            )  # fmt: skip
            if closed < 0:
                return number
            tokens = np.uint64(closed)
        cutoffs[now + 1] = np.inf
        count[TOKENS] = tokens
        count[FRAMES] = now + 1
        token_first[now + 2] = tokens
    return len(rows)
