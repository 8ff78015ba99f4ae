"""Sets of (node, string, graph cost, acoustic cost), the states of a determinisation, and the strings in them; compiled.

A string is a node of a trie, known by its number: `above` the string without its last symbol, `symbol` that, `depth` its
length; 0 is the empty one. Each string is there once, so that equal strings are equal numbers. A set is a range of rows
of four columns (`columns`), sorted by node.

All arrays are allocated before. What does not fit is told by -1, and the caller does it again with more room.
"""

from __future__ import annotations

import numpy as np

from hybrid.decode.search_graph import compiled

DELTA = 1e-4  # by so much the costs of two sets may differ that are one

STRINGS, SUBSETS, ELEMENTS, STATES, TASKS, STEPS, ARCS, STAMP = range(8)  # counters, int64
NODE, STRING, GRAPH, ACOUSTIC = range(4)  # columns
INITIAL, MINIMAL = range(2)  # kinds of sets: before their closure, and after


@compiled
def columns(size):
    return np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float64), np.empty(size, np.float64)


@compiled
def new_trie(room, longest, count):
    """Return above, symbol, depth, a hash table, the place and stamp of moved strings, and scratch for one string."""
    size = 1
    while size < 2 * room:
        size *= 2
    above, symbol, depth = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    above[0], symbol[0], depth[0] = -1, -1, 0
    count[STRINGS] = 1
    return (
        above, symbol, depth, np.full(size, -1, np.int32), np.empty(room, np.int32), np.zeros(room, np.int64),
        np.empty(longest + 1, np.int32),
    )  # fmt: skip


@compiled
def longer(string, pdf, trie, count):
    """Return the string with a symbol more, -1 where it does not fit."""
    above, symbol, depth, table, _, stamps, _ = trie
    mask = len(table) - 1
    place = _mixed(string * 1000003 + pdf) & mask
    while table[place] >= 0:
        known = table[place]
        if above[known] == string and symbol[known] == pdf:
            return known
        place = (place + 1) & mask
    new = count[STRINGS]
    if new == len(above):
        return -1
    count[STRINGS] = new + 1
    above[new], symbol[new], depth[new], stamps[new] = string, pdf, depth[string] + 1, 0
    table[place] = new
    return new


@compiled
def _mixed(value):
    """Return the bits of a number well mixed (the finaliser of MurmurHash3), 0 to 2^62."""
    value = np.uint64(value)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.int64((value ^ (value >> np.uint64(33))) >> np.uint64(2))


@compiled
def spell(string, trie, pdfs, begin):
    """Write a string into pdfs from `begin` on; return its end, -1 where it does not fit."""
    above, symbol, depth = trie[0], trie[1], trie[2]
    end = begin + depth[string]
    if end > len(pdfs):
        return -1
    for place in range(end - 1, begin - 1, -1):
        pdfs[place] = symbol[string]
        string = above[string]
    return end


@compiled
def nearest(work, members, scale):
    """Return the member of the lowest cost."""
    lowest, best = np.inf, 0
    for k in range(members):
        cost = work[GRAPH][k] + scale * work[ACOUSTIC][k]
        if cost < lowest:
            lowest, best = cost, k
    return best


@compiled
def normalise(work, members, scale, trie, count):
    """Take off a set what all members share: return the longest common prefix of their strings, and the graph and
    acoustic cost of the best. The prefix is -1 where the strings do not fit."""
    above, symbol, depth, _, moved, stamps, scratch = trie
    strings = work[STRING]
    best = nearest(work, members, scale)
    graph, acoustic = work[GRAPH][best], work[ACOUSTIC][best]
    prefix = strings[0]
    for k in range(members):
        work[GRAPH][k] -= graph
        work[ACOUSTIC][k] -= acoustic
        other = strings[k]
        while depth[other] > depth[prefix]:
            other = above[other]
        while depth[prefix] > depth[other]:
            prefix = above[prefix]
        while prefix != other:
            prefix, other = above[prefix], above[other]
    if prefix == 0:
        return prefix, graph, acoustic
    count[STAMP] += 1
    stamp = count[STAMP]
    moved[prefix], stamps[prefix] = 0, stamp
    for k in range(members):
        string, length = strings[k], 0
        while stamps[string] != stamp:
            scratch[length] = string
            length += 1
            string = above[string]
        shorter = moved[string]
        for place in range(length - 1, -1, -1):
            string = scratch[place]
            shorter = longer(shorter, symbol[string], trie, count)
            if shorter < 0:
                return -1, graph, acoustic
            moved[string], stamps[string] = shorter, stamp
        strings[k] = shorter
    return prefix, graph, acoustic


@compiled
def find(kind, work, members, subsets, elements, scale):
    """Return the set of that kind that the members are, -1 where there is none; and its place in the table."""
    first, last, table = subsets[0], subsets[1], subsets[2]
    mask = len(table) - 1
    value = kind
    for k in range(members):
        value = _mixed(value * 1000003 + work[NODE][k])
        value = _mixed(value * 1000003 + work[STRING][k])
    place = value & mask
    while table[place] >= 0:
        known = table[place]
        begin = first[known]
        if last[known] - begin == members and subsets[3][known] == kind:
            same = True
            for k in range(members):
                row = begin + k
                if (
                    elements[NODE][row] != work[NODE][k]
                    or elements[STRING][row] != work[STRING][k]
                    or abs(elements[GRAPH][row] - work[GRAPH][k]) > DELTA
                    or abs(elements[ACOUSTIC][row] - work[ACOUSTIC][k]) * scale > DELTA
                ):
                    same = False
                    break
            if same:
                return known, place
        place = (place + 1) & mask
    return -1, place


@compiled
def remember(kind, place, work, members, subsets, elements, count):
    """Write a set down at its place in the table; return its number, -1 where it does not fit."""
    first, last, table, kinds = subsets[0], subsets[1], subsets[2], subsets[3]
    number, begin = count[SUBSETS], count[ELEMENTS]
    if number == len(first) or begin + members > len(elements[NODE]):
        return -1
    for k in range(members):
        row = begin + k
        elements[NODE][row], elements[STRING][row] = work[NODE][k], work[STRING][k]
        elements[GRAPH][row], elements[ACOUSTIC][row] = work[GRAPH][k], work[ACOUSTIC][k]
    first[number], last[number], kinds[number] = begin, begin + members, kind
    table[place] = number
    count[SUBSETS] = number + 1
    count[ELEMENTS] = begin + members
    return number
