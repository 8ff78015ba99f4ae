"""Links that have been written, compiled: extras brought up to date, gaps closed, and their order in a lattice."""

from __future__ import annotations

import numpy as np

from hybrid.compiled import compiled, inlined
from hybrid.decode.search_graph import COST
from hybrid.decode.search_tokens import BLOCKS, LINKS, TOKENS

GONE = np.uint32(2**32 - 1)  # in place of the target of a link


@inlined
def extra_of(source, target, arc, acoustic, costs, token_cost, token_extra):
    """Return how much worse than the best path the best path through a link is."""
    worse = token_cost[source] + costs[4 * arc + COST] + acoustic - token_cost[target]
    return np.float32(max(worse, 0.0) + token_extra[target])


@compiled
def old_extras(settled, lattice_beam, count, block_first, costs, token_first, token_cost, token_extra, link_source,
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
            extra = extra_of(source, target, link_arc[link], link_acoustic[link], costs, token_cost, token_extra)
            if extra <= lattice_beam and extra < token_extra[source]:
                token_extra[source] = extra
            if not extra <= lattice_beam:
                link_target[link] = GONE


@compiled
def compact(settled, horizon, last, new, links, lattice_beam, count, token_state, token_cost, token_extra, place,
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
def order_links(token_first, last, depth, source, arc):
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
