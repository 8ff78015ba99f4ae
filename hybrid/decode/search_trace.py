"""Where the tokens of a running search come from, compiled: the best path so far, and what all paths agree on.

A token does not know its predecessor (search.py says why). It is found again: an arc led to a token if the cost of its
source and its own give the token's cost, which is the least of all such sums (`tests/test_running_search.py` has the
search that keeps all predecessors, and compares).
"""

from __future__ import annotations

import numpy as np

from hybrid.compiled import compiled, inlined
from hybrid.decode.search_graph import COST, ILABEL, NEXT
from hybrid.decode.search_links import FORWARD, stamp_tokens
from hybrid.decode.search_tokens import FRAMES, STAMP

FULL_PATH = -1


@compiled
def trace(
    first, epsilons, arcs, costs, enter, entering, sources, slots, rows, first_row, base, count, token_state,
    token_cost, token_extra, queue, queued, token_first, cutoffs, path_arc, path_frame, path_state, agreed,
):  # fmt: skip
    """Write the best path to the last frame, backwards, as far as frame `base` (-1: its beginning): each arc, the
    frames of speech before its end, and the state that it leaves.

    agreed, int64 [2]: the last frame at which the paths of all tokens go through one token that speech then leaves, and
    the length of the best path as far back as there; -1 where there is none after `base`.
    Return the length of the path; FULL_PATH where it does not fit.
    """
    frame = count[FRAMES]
    members = token_first[frame + 1] - token_first[frame]
    for place in range(members):
        queue[place] = token_first[frame] + place
    current = _best(token_cost, token_first[frame], token_first[frame + 1])
    chosen_arc = np.empty(members, np.uint32)
    chosen = np.empty(members, np.uint32)
    totals = np.empty(members, np.float64)
    agreed[0] = -1
    length = 0
    while frame > base:
        begin, end = token_first[frame], token_first[frame + 1]
        count[STAMP] += 1
        stamp = count[STAMP]
        stamp_tokens(slots, stamp, begin, end, np.inf, token_state, token_cost)
        place_of = np.full(end - begin, -1, np.int32)
        roots = 0
        for place in range(members):
            token = queue[place]
            while True:
                source, _ = _over_epsilon(
                    arcs, costs, enter, entering, sources, slots, stamp, token, token_state, token_cost
                )
                if source < 0:
                    break
                token = np.uint32(source)
            if place_of[token - begin] < 0:
                place_of[token - begin] = roots
                queue[roots] = token
                roots += 1
        members = roots
        while True:
            source, arc = _over_epsilon(
                arcs, costs, enter, entering, sources, slots, stamp, current, token_state, token_cost
            )
            if source < 0:
                break
            if length >= len(path_arc):
                return FULL_PATH
            path_arc[length], path_frame[length], path_state[length] = arc, frame, token_state[source]
            length += 1
            current = np.uint32(source)
        if frame == 0:
            break
        _over_frame(
            first, epsilons, arcs, costs, enter, entering, sources, slots, count, members, place_of, begin,
            token_first[frame - 1], cutoffs[frame - 1], rows[frame - 1 - first_row], token_state, token_cost, queue,
            chosen_arc, chosen, totals,
        )  # fmt: skip
        if length >= len(path_arc):
            return FULL_PATH
        place = place_of[current - begin]
        current = chosen[place]
        path_arc[length], path_frame[length], path_state[length] = chosen_arc[place], frame, token_state[current]
        length += 1
        frame -= 1
        place_of = np.full(begin - token_first[frame], -1, np.int32)
        roots = 0
        for place in range(members):
            token = chosen[place]
            if place_of[token - token_first[frame]] < 0:
                place_of[token - token_first[frame]] = 0
                queue[roots] = token
                roots += 1
        members = roots
        if members == 1 and agreed[0] < 0 and frame > base:
            agreed[0], agreed[1] = frame, length
    return length


@inlined
def _best(token_cost, begin, end):
    best = begin
    for token in range(begin + 1, end):
        if token_cost[token] < token_cost[best]:
            best = token
    return np.uint32(best)


@compiled
def _over_epsilon(arcs, costs, enter, entering, sources, slots, stamp, token, token_state, token_cost):
    """Return the token from which an epsilon gave a token its cost, and the arc; -1 where speech did."""
    state = token_state[token]
    for number in range(enter[state], enter[state + 1]):
        origin = sources[number]
        if slots[2 * origin] != stamp:
            continue
        arc = entering[number]
        if arcs[4 * arc + ILABEL] == 0:
            source = slots[2 * origin + 1]
            if token_cost[source] + costs[4 * arc + COST] == token_cost[token]:
                return np.int64(source), arc
    return np.int64(-1), np.uint32(0)


@compiled
def _over_frame(
    first, epsilons, arcs, costs, enter, entering, sources, slots, count, members, place_of, begin, before, cutoff,
    row, token_state, token_cost, queue, chosen_arc, chosen, totals,
):  # fmt: skip
    """Choose for each token in the queue, of a frame that begins at `begin`, the token of the frame before (from
    `before`) that it came from: of the least sum, of equals the one of the lowest arc."""
    into = 0
    for place in range(members):
        totals[place] = np.inf
        state = token_state[queue[place]]
        into += enter[state + 1] - enter[state]
    if into <= FORWARD * (begin - before):
        count[STAMP] += 1
        stamp = count[STAMP]
        stamp_tokens(slots, stamp, before, begin, cutoff, token_state, token_cost)
        for place in range(members):
            state = token_state[queue[place]]
            for number in range(enter[state], enter[state + 1]):
                origin = sources[number]
                if slots[2 * origin] != stamp:
                    continue
                arc = entering[number]
                if arcs[4 * arc + ILABEL] == 0:
                    continue
                source = slots[2 * origin + 1]
                total = token_cost[source] + costs[4 * arc + COST] - row[arcs[4 * arc + ILABEL]]
                if total < totals[place] or (total == totals[place] and arc < chosen_arc[place]):
                    totals[place], chosen_arc[place], chosen[place] = total, arc, source
        return
    stamp = count[STAMP]  # of the frame itself
    for source in range(before, begin):
        if token_cost[source] > cutoff:
            continue
        state = token_state[source]
        for arc in range(epsilons[state], first[state + 1]):
            target = arcs[4 * arc + NEXT]
            if slots[2 * target] != stamp:
                continue
            place = place_of[slots[2 * target + 1] - begin]
            if place < 0:
                continue
            total = token_cost[source] + costs[4 * arc + COST] - row[arcs[4 * arc + ILABEL]]
            if total < totals[place] or (total == totals[place] and arc < chosen_arc[place]):
                totals[place], chosen_arc[place], chosen[place] = total, arc, source
