"""The search forward, compiled: the tokens of each frame from those of the frame before (search.py says how)."""

from __future__ import annotations

import numpy as np

from hybrid.compiled import compiled
from hybrid.decode.search_graph import COST, ILABEL, NEXT

BINS = 1024  # of the histogram: a frame keeps some states more than max_active rather than fewer
SLACK = 0.5  # Kaldi's beam_delta: by so much the next frame's beam is wider than the one that max_active leaves

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
def advance(
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
