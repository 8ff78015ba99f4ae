"""The search backward, compiled: the links of the tokens that survive (search.py says how)."""

from __future__ import annotations

import numpy as np

from hybrid.compiled import compiled, inlined, prefetch
from hybrid.decode.search_graph import EPSILON, ILABEL, NEXT, PDF, WIDE
from hybrid.decode.search_settled import compact, extra_of, old_extras
from hybrid.decode.search_tokens import AHEAD, BLOCKS, FRAMES, LINKS, SETTLED, STAMP

FULL_LINKS = -1
FORWARD = 2  # more arcs into the survivors than so many a token are not looked through: those that leave all tokens are
MARKS = 4096  # bytes that fit the fastest cache and say for most states that no survivor is in them


@compiled
def settle(
    first, epsilons, arcs, costs, enter, entering, sources, depth, leads, graph_final, slots, rows, first_row, final,
    only, lag, lattice_beam, count, token_state, token_cost, token_extra, queue, queued, token_first, cutoffs,
    link_source, link_target, link_arc, link_acoustic, block_first,
):  # fmt: skip
    """Write the links of the frames that are not settled, as far as `lag` before the last (final: to the last, whose
    final costs then count), and drop the tokens that no link has. only: at the end, the one token that ends a path,
    at no cost; -1: those that are final.

    Return 1, or at the end 0 if no final state was reached; FULL_LINKS where the links do not fit: nothing has changed.
    """
    last, settled = count[FRAMES], count[SETTLED]
    begin, end = token_first[last], token_first[last + 1]
    horizon = last if final else last - lag
    reached = _last_extras(final, only, begin, end, graph_final, token_state, token_cost, token_extra)
    links = count[LINKS]
    frame = last
    waiting = 0  # tokens of `frame` that survive stand in the queue
    for token in range(begin, end):
        if token_extra[token] <= lattice_beam:
            queue[waiting] = token
            waiting += 1
    count[STAMP] += 1
    stamp_tokens(slots, count[STAMP], begin, end, np.inf, token_state, token_cost)
    while frame > settled and waiting:
        begin, end = token_first[frame], token_first[frame + 1]
        waiting, links = _epsilon_links(
            first, epsilons, arcs, costs, enter, entering, sources, depth, leads, slots, count[STAMP], lattice_beam,
            frame <= horizon, waiting, links, begin, end, token_state, token_cost, token_extra, queue, link_source,
            link_target, link_arc, link_acoustic,
        )  # fmt: skip
        if links < 0:
            return FULL_LINKS
        if frame == 0:
            break
        waiting, links = _frame_links(
            first, epsilons, arcs, costs, enter, entering, sources, leads, slots, count, lattice_beam, frame <= horizon,
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
        old_extras(settled, lattice_beam, count, block_first, costs, token_first, token_cost, token_extra, link_source,
                   link_target, link_arc, link_acoustic)  # fmt: skip
        compact(-1, last, last, 0, links, lattice_beam, count, token_state, token_cost, token_extra, queue, token_first,
                link_source, link_target, link_arc, link_acoustic)  # fmt: skip
    elif horizon > settled:
        compact(settled, horizon, last, count[LINKS], links, lattice_beam, count, token_state, token_cost, token_extra,
                queue, token_first, link_source, link_target, link_arc, link_acoustic)  # fmt: skip
        block_first[blocks + 1] = count[LINKS]
        count[SETTLED] = horizon
    return reached


@compiled
def _last_extras(final, only, begin, end, graph_final, token_state, token_cost, token_extra):
    """Give the tokens of the last frame their extra cost. Return 0 where the utterance is over and none is final."""
    for token in range(begin, end):
        token_extra[token] = 0.0 if only < 0 or token == only else np.inf
    if not final or only >= 0:
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
def stamp_tokens(slots, stamp, begin, end, cutoff, token_state, token_cost):
    """Make the tokens that were followed findable by their states."""
    for token in range(np.uint64(begin), np.uint64(end)):
        if token + AHEAD < np.uint64(end):
            prefetch(slots, 2 * token_state[token + AHEAD])
        if token_cost[token] <= cutoff:
            state = token_state[token]
            slots[2 * state] = stamp
            slots[2 * state + 1] = token


@inlined
def _take(
    source, target, arc, acoustic, extra, lattice_beam, write, end, links, token_extra, queue, link_source, link_target,
    link_arc, link_acoustic,
):  # fmt: skip
    """Take a link of an extra within the lattice beam: hand that on to its source, which is put at the end of the queue
    when it is met first, and write the link. Return the end of the queue and the links, -1 where these do not fit.
    (Asked in here whether it is within the beam, a small graph's lattices took a tenth longer.)"""
    if not token_extra[source] <= lattice_beam:
        queue[end] = source
        end += 1
        token_extra[source] = extra
    elif extra < token_extra[source]:
        token_extra[source] = extra
    if write:
        if links >= len(link_arc):
            return end, -1
        link_source[links] = source
        link_target[links] = target
        link_arc[links] = arc
        link_acoustic[links] = acoustic
        links += 1
    return end, links


@compiled
def _epsilon_links(
    first, epsilons, arcs, costs, enter, entering, sources, depth, leads, slots, stamp, lattice_beam, write, waiting,
    links, begin, end, token_state, token_cost, token_extra, queue, link_source, link_target, link_arc, link_acoustic,
):  # fmt: skip
    """Find the epsilon links that enter a frame's survivors, the deepest first, so that extras are settled when they
    are handed on. Return the survivors, with those that an epsilon adds, and the links; -1 where these do not fit."""
    deepest = 0
    for place in range(waiting):
        deepest = max(deepest, depth[token_state[queue[place]]])
    for level in range(deepest, 0, -1):
        into = 0
        for place in range(waiting):
            state = token_state[queue[place]]
            if depth[state] == level:
                into += enter[state + 1] - enter[state]
        most = np.uint32(2**32 - 1)
        if into > FORWARD * (end - begin):
            most = np.uint32(WIDE)
            marks = np.zeros(MARKS, np.uint8)
            for place in range(waiting):
                state = token_state[queue[place]]
                if depth[state] == level and enter[state + 1] - enter[state] > WIDE:
                    marks[state % MARKS] = 1
            for source in range(begin, end):
                state = token_state[source]
                if not leads[state] & EPSILON:
                    continue
                for arc in range(first[state], epsilons[state]):
                    target = arcs[4 * arc + NEXT]
                    if marks[target % MARKS] == 0 or slots[2 * target] != stamp or depth[target] != level:
                        continue
                    if enter[target + 1] - enter[target] <= WIDE:
                        continue
                    token = slots[2 * target + 1]
                    if not token_extra[token] <= lattice_beam:
                        continue
                    extra = extra_of(source, token, arc, np.float32(0.0), costs, token_cost, token_extra)
                    if extra > lattice_beam:
                        continue
                    waiting, links = _take(
                        source, token, arc, np.float32(0.0), extra, lattice_beam, write, waiting, links, token_extra,
                        queue, link_source, link_target, link_arc, link_acoustic,
                    )  # fmt: skip
                    if links < 0:
                        return 0, -1
        place = 0
        while place < waiting:
            token = queue[place]
            place += 1
            state = token_state[token]
            if depth[state] != level or enter[state + 1] - enter[state] > most:
                continue
            for number in range(enter[state], enter[state + 1]):
                origin = sources[number]
                if slots[2 * origin] != stamp:
                    continue
                arc = entering[number]
                if arcs[4 * arc + ILABEL] != 0:
                    continue
                source = slots[2 * origin + 1]
                extra = extra_of(source, token, arc, np.float32(0.0), costs, token_cost, token_extra)
                if extra > lattice_beam:
                    continue
                waiting, links = _take(
                    source, token, arc, np.float32(0.0), extra, lattice_beam, write, waiting, links, token_extra, queue,
                    link_source, link_target, link_arc, link_acoustic,
                )  # fmt: skip
                if links < 0:
                    return 0, -1
    return waiting, links


@compiled
def _frame_links(
    first, epsilons, arcs, costs, enter, entering, sources, leads, slots, count, lattice_beam, write, waiting, links,
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
    last = waiting  # behind the survivors of the frame stand those of the frame before
    most = np.uint32(2**32 - 1)
    if into > FORWARD * (end - begin):
        most = np.uint32(WIDE)
        stamp = count[STAMP]  # of the frame itself
        marks = np.zeros(MARKS, np.uint8)
        for place in range(waiting):
            state = token_state[queue[place]]
            if enter[state + 1] - enter[state] > WIDE:
                marks[state % MARKS] = 1
        for source in range(begin, end):
            state = token_state[source]
            if not leads[state] & PDF or token_cost[source] > cutoff:
                continue
            for arc in range(epsilons[state], first[state + 1]):
                target = arcs[4 * arc + NEXT]
                if marks[target % MARKS] == 0 or slots[2 * target] != stamp:
                    continue
                token = slots[2 * target + 1]
                if not token_extra[token] <= lattice_beam or enter[target + 1] - enter[target] <= WIDE:
                    continue
                acoustic = -row[arcs[4 * arc + ILABEL]]
                extra = extra_of(source, token, arc, acoustic, costs, token_cost, token_extra)
                if extra > lattice_beam:
                    continue
                last, links = _take(
                    source, token, arc, acoustic, extra, lattice_beam, write, last, links, token_extra, queue,
                    link_source, link_target, link_arc, link_acoustic,
                )  # fmt: skip
                if links < 0:
                    return 0, -1
    count[STAMP] += 1
    stamp = count[STAMP]
    stamp_tokens(slots, stamp, begin, end, np.inf, token_state, token_cost)
    for place in range(waiting):
        token = queue[place]
        state = token_state[token]
        if enter[state + 1] - enter[state] > most:
            continue
        for number in range(enter[state], enter[state + 1]):
            origin = sources[number]
            if slots[2 * origin] != stamp:
                continue
            arc = entering[number]
            source = slots[2 * origin + 1]
            if arcs[4 * arc + ILABEL] == 0 or token_cost[source] > cutoff:
                continue
            acoustic = -row[arcs[4 * arc + ILABEL]]
            extra = extra_of(source, token, arc, acoustic, costs, token_cost, token_extra)
            if extra > lattice_beam:
                continue
            last, links = _take(
                source, token, arc, acoustic, extra, lattice_beam, write, last, links, token_extra, queue,
                link_source, link_target, link_arc, link_acoustic,
            )  # fmt: skip
            if links < 0:
                return 0, -1
    for place in range(waiting, last):
        queue[place - waiting] = queue[place]
    return last - waiting, links
