"""Sets of (node, string, graph cost, acoustic cost), the states of a determinisation, and their strings; compiled.

A string is a node of a trie, known by its number: a row says which string it is without its last symbol, that symbol,
and its length; 0 is the empty one. Each string is there once, so that equal strings are equal numbers. A set is some
rows of two arrays, sorted by node: int32 (NODE, STRING) and float64 (GRAPH, ACOUSTIC).

All arrays are allocated before. What does not fit is told by -1, and the caller does it again with more room.
"""

from __future__ import annotations

import numpy as np

from hybrid.compiled import compiled

DELTA = 1e-4  # by so much the costs of two sets may differ that are one

STRINGS, SETS, ELEMENTS, STATES, TASKS, STEPS, ARCS, STAMP = range(8)  # counters, int64
NODE, STRING = range(2)
GRAPH, ACOUSTIC = range(2)
ABOVE, SYMBOL, LENGTH, MOVED, MARK = range(5)  # of a string: what it became without its prefix, and when
FIRST, LAST, KIND, STATE, PREFIX = range(5)  # of a set: its rows; the state it leads to, and what more is taken off
INITIAL, MINIMAL = np.int64(0), np.int64(1)  # kinds of sets: before their closure, and after


@compiled
def new_strings(room, longest):
    """Return the rows, a hash table of them, and scratch for one string."""
    rows = np.zeros((room, 5), np.int32)
    rows[0, ABOVE] = rows[0, SYMBOL] = -1
    return rows, np.full(_power(2 * room), -1, np.int32), np.empty(longest + 1, np.int32)


@compiled
def new_sets(room):
    """Return of each set its integers and what more weight is taken off; a hash table; and the elements of them all."""
    return (
        np.empty((room, 5), np.int32), np.empty((room, 2), np.float64), np.full(_power(2 * room), -1, np.int32),
        np.empty((room, 2), np.int32), np.empty((room, 2), np.float64),
    )  # fmt: skip


@compiled
def _power(least):
    size = 1
    while size < least:
        size *= 2
    return size


@compiled
def _mixed(value):
    """Return the bits of a number well mixed (the finaliser of MurmurHash3), 0 to 2^62."""
    mixed = np.uint64(value)
    mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.int64((mixed ^ (mixed >> np.uint64(33))) >> np.uint64(2))


@compiled
def longer(string, label, strings, count):
    """Return the string with the pdf of a label (pdf + 1; 0: none) more, -1 where it does not fit."""
    rows, table, _ = strings
    if label == 0 or string < 0:
        return np.int64(string)
    mask = len(table) - 1
    place = _mixed(np.int64(string) * 1000003 + label) & mask
    while table[place] >= 0:
        known = table[place]
        if rows[known, ABOVE] == string and rows[known, SYMBOL] == label - 1:
            return np.int64(known)
        place = (place + 1) & mask
    new = count[STRINGS]
    if new == len(rows):
        return np.int64(-1)
    count[STRINGS] = new + 1
    rows[new, ABOVE], rows[new, SYMBOL] = string, label - 1
    rows[new, LENGTH], rows[new, MARK] = rows[string, LENGTH] + 1, 0
    table[place] = new
    return new


@compiled
def spell(string, strings, pdfs, begin):
    """Write a string into pdfs from `begin` on; return its end, -1 where it does not fit."""
    rows = strings[0]
    end = begin + rows[string, LENGTH]
    if end > len(pdfs):
        return np.int64(-1)
    for place in range(end - 1, begin - 1, -1):
        pdfs[place] = rows[string, SYMBOL]
        string = rows[string, ABOVE]
    return np.int64(end)


@compiled
def normalise(members, ints, costs, scale, strings, count):
    """Take off a set what all members share: return the longest common prefix of their strings, and the graph and
    acoustic cost of the best. The prefix is -1 where the strings do not fit."""
    rows, _, scratch = strings
    lowest, best = np.inf, 0
    prefix = ints[0, STRING]
    for k in range(members):
        cost = costs[k, GRAPH] + scale * costs[k, ACOUSTIC]
        if cost < lowest:
            lowest, best = cost, k
        other = ints[k, STRING]
        while rows[other, LENGTH] > rows[prefix, LENGTH]:
            other = rows[other, ABOVE]
        while rows[prefix, LENGTH] > rows[other, LENGTH]:
            prefix = rows[prefix, ABOVE]
        while prefix != other:
            prefix, other = rows[prefix, ABOVE], rows[other, ABOVE]
    graph, acoustic = costs[best, GRAPH], costs[best, ACOUSTIC]
    for k in range(members):
        costs[k, GRAPH] -= graph
        costs[k, ACOUSTIC] -= acoustic
    if prefix == 0:
        return np.int64(0), graph, acoustic
    count[STAMP] += 1
    mark = count[STAMP]
    rows[prefix, MOVED], rows[prefix, MARK] = 0, mark
    for k in range(members):
        string, length = ints[k, STRING], 0
        while rows[string, MARK] != mark:
            scratch[length] = string
            length += 1
            string = rows[string, ABOVE]
        shorter = np.int64(rows[string, MOVED])
        for place in range(length - 1, -1, -1):
            string = scratch[place]
            shorter = longer(shorter, rows[string, SYMBOL] + 1, strings, count)
            if shorter < 0:
                return np.int64(-1), graph, acoustic
            rows[string, MOVED], rows[string, MARK] = shorter, mark
        ints[k, STRING] = shorter
    return np.int64(prefix), graph, acoustic


@compiled
def find(kind, members, ints, costs, scale, sets, count):
    """Return the set of that kind that the members are, and whether it is a new one, which is then written down; -1
    where that does not fit."""
    about, _, table, all_ints, all_costs = sets
    mask = len(table) - 1
    value = np.int64(kind)
    for k in range(members):
        value = _mixed(value * 1000003 + ints[k, NODE])
        value = _mixed(value * 1000003 + ints[k, STRING])
    place = value & mask
    while table[place] >= 0:
        known = table[place]
        begin = about[known, FIRST]
        if about[known, LAST] - begin == members and about[known, KIND] == kind:
            k = 0
            while (
                k < members and all_ints[begin + k, NODE] == ints[k, NODE]
                and all_ints[begin + k, STRING] == ints[k, STRING]
                and abs(all_costs[begin + k, GRAPH] - costs[k, GRAPH]) <= DELTA
                and abs(all_costs[begin + k, ACOUSTIC] - costs[k, ACOUSTIC]) * scale <= DELTA
            ):  # fmt: skip
                k += 1
            if k == members:
                return np.int64(known), False
        place = (place + 1) & mask
    new, begin = count[SETS], count[ELEMENTS]
    if new == len(about) or begin + members > len(all_ints):
        return np.int64(-1), True
    for k in range(members):
        row = begin + k
        all_ints[row, NODE], all_ints[row, STRING] = ints[k, NODE], ints[k, STRING]
        all_costs[row, GRAPH], all_costs[row, ACOUSTIC] = costs[k, GRAPH], costs[k, ACOUSTIC]
    about[new, FIRST], about[new, LAST], about[new, KIND] = begin, begin + members, kind
    table[place] = new
    count[SETS] = new + 1
    count[ELEMENTS] = begin + members
    return new, True
