"""The steps of a determinisation, compiled: closures, states and arcs (determinise.py says how).

links: first int64 [nodes + 1], ends int32 [links, 3] (TARGET, ILABEL, OLABEL), costs float64 [links, 2] (GRAPH,
ACOUSTIC); those of node n are from first[n] on, and lead to nodes above it. What the steps write is allocated before,
and handed on in one tuple, `memory`.
"""

from __future__ import annotations

import heapq

import numpy as np

from hybrid.compiled import compiled
from hybrid.decode.weighted_sets import (
    ACOUSTIC,
    ARCS,
    DELTA,
    GRAPH,
    INITIAL,
    LENGTH,
    MINIMAL,
    NODE,
    PREFIX,
    STAMP,
    STATE,
    STATES,
    STEPS,
    STRING,
    STRINGS,
    TASKS,
    find,
    longer,
    new_sets,
    new_strings,
    normalise,
    spell,
)

DONE, FULL, BOUND = range(3)
TARGET, ILABEL, OLABEL = range(3)  # of a link
WORD, START = 2, 3  # of a step, after NODE and STRING: what stands on it, and in which frame
MET = 0  # of a node in a closure, beside STRING: when it was reached
END, LOST = -1, -2  # in place of a state: paths end here; beyond the beam


@compiled
def determinise_words(links, frame, final, ahead, scale, penalty, beam, max_arcs, room):
    """Return DONE, FULL (the room is used up) or BOUND (max_arcs); the beam that was reached; states and arcs."""
    nodes = len(final)
    count = np.zeros(8, np.int64)
    count[STRINGS] = 1
    best = np.zeros((nodes, 2), np.int32), np.empty((nodes, 2), np.float64)
    work = np.empty((nodes, 2), np.int32), np.empty((nodes, 2), np.float64)
    states = np.empty((room, 2), np.int32), np.empty(room, np.float64)
    steps = np.empty((room, 4), np.int32), np.empty((room, 2), np.float64)
    tasks = np.empty((room, 4), np.int32)
    arcs = np.empty((room, 4), np.int32), np.empty((room, 2), np.float64), np.zeros(room + 1, np.int64)
    pdfs = np.empty(4 * room, np.int32)
    memory = (
        new_strings(room, nodes), new_sets(room), work, best, states, tasks, steps, arcs, pdfs, count
    )  # fmt: skip
    lattice = (links, frame, final, ahead, _exits(links, final, ahead, scale, penalty))
    limits = (scale, penalty, ahead[0] + beam + DELTA)
    heap = [(0.0, np.int64(0))]
    heap.pop()
    status, reached = DONE, beam
    # the start: nothing is taken off it, for no arc leads to it
    work[0][0, NODE] = work[0][0, STRING] = 0
    work[1][0, GRAPH] = work[1][0, ACOUSTIC] = 0.0
    members = _close(np.int64(1), 0.0, lattice, limits, memory)
    if members < 0 or _expand(members, 0.0, lattice, limits, memory, heap) < 0:
        status, reached = FULL, 0.0
    ended = False
    while len(heap) and status == DONE:
        priority, task = heapq.heappop(heap)
        if count[ARCS] >= max_arcs and ended:  # the best path is there in any case
            status = BOUND
        elif not _follow(task, lattice, limits, memory, heap):
            status = FULL
        ended = ended or tasks[task, 1] == 0
        if status != DONE:
            reached = max(priority - ahead[0], 0.0)
    made = count[ARCS]
    return (
        status, reached, states[0][: count[STATES]].copy(), arcs[0][:made].copy(), arcs[1][:made].copy(),
        arcs[2][: made + 1].copy(), pdfs[: arcs[2][made]].copy(),
    )  # fmt: skip


@compiled
def _exits(links, final, ahead, scale, penalty):
    """Return the least cost from each node to an end by a word at once, or by ending there."""
    first, ends, costs = links
    exits = final.copy()
    for node in range(len(final)):
        for link in range(first[node], first[node + 1]):
            if ends[link, OLABEL]:
                cost = costs[link, GRAPH] + scale * costs[link, ACOUSTIC] + penalty + ahead[ends[link, TARGET]]
                exits[node] = min(exits[node], cost)
    return exits


@compiled
def _follow(task, lattice, limits, memory, heap):
    """Write the arc of a state and a word, and the state that it leads to where that is new. False where these do not
    fit."""
    strings, sets, (ints, costs), _, states, tasks, steps, arcs, pdfs, count = memory
    scale, penalty, _ = limits
    state, word, begin, members = tasks[task, 0], tasks[task, 1], tasks[task, 2], np.int64(tasks[task, 3])
    graph, acoustic, reached = steps[1][begin, GRAPH], steps[1][begin, ACOUSTIC], np.int64(END)
    if word == 0:
        written = spell(np.int64(steps[0][begin, STRING]), strings, pdfs, arcs[2][count[ARCS]])
    else:
        for k in range(members):
            ints[k, NODE], ints[k, STRING] = steps[0][begin + k, NODE], steps[0][begin + k, STRING]
            costs[k, GRAPH], costs[k, ACOUSTIC] = steps[1][begin + k, GRAPH], steps[1][begin + k, ACOUSTIC]
        prefix, graph, acoustic = normalise(members, ints, costs, scale, strings, count)
        known, new = find(INITIAL, members, ints, costs, scale, sets, count)
        if prefix < 0 or known < 0:
            return False
        about, more = sets[0], sets[1]
        if new:
            forward = states[1][state] + penalty + graph + scale * acoustic
            members = _close(members, forward, lattice, limits, memory)
            if members == 0:  # beyond the beam by a rounding
                about[known, STATE] = LOST
                return True
            if members < 0:
                return False
            rest, more[known, GRAPH], more[known, ACOUSTIC] = normalise(members, ints, costs, scale, strings, count)
            minimal, new = find(MINIMAL, members, ints, costs, scale, sets, count)
            if rest < 0 or minimal < 0:
                return False
            if new:
                forward += more[known, GRAPH] + scale * more[known, ACOUSTIC]
                about[minimal, STATE] = _expand(members, forward, lattice, limits, memory, heap)
            about[known, PREFIX], about[known, STATE] = rest, about[minimal, STATE]
        reached = np.int64(about[known, STATE])
        if reached == LOST:
            return True
        written = spell(prefix, strings, pdfs, arcs[2][count[ARCS]])
        if written < 0 or reached < 0:
            return False
        written = spell(np.int64(about[known, PREFIX]), strings, pdfs, written)
        graph, acoustic = graph + more[known, GRAPH], acoustic + more[known, ACOUSTIC]
    arc = count[ARCS]
    if written < 0 or arc == len(arcs[0]):
        return False
    arcs[0][arc, 0], arcs[0][arc, 1], arcs[0][arc, 2], arcs[0][arc, 3] = state, reached, word, steps[0][begin, START]
    arcs[1][arc, GRAPH], arcs[1][arc, ACOUSTIC], arcs[2][arc + 1] = graph, acoustic, written
    count[ARCS] = arc + 1
    return True


@compiled
def _close(members, forward, lattice, limits, memory):
    """Follow the links without a word from the members in `work`, and put in their place the nodes that words leave or
    in which a path can end; return how many, -1 where strings do not fit. forward: the cost of the way to the set."""
    (first, ends, link_costs), _, _, ahead, exits = lattice
    strings, _, (ints, costs), (best, best_costs), _, _, _, _, _, count = memory
    scale, _, cutoff = limits
    count[STAMP] += 1
    stamp = count[STAMP]
    node, last = np.int64(ints[0, NODE]), np.int64(0)
    for k in range(members):
        last = np.int64(ints[k, NODE])
        best[last, MET], best[last, STRING] = stamp, ints[k, STRING]
        best_costs[last, GRAPH], best_costs[last, ACOUSTIC] = costs[k, GRAPH], costs[k, ACOUSTIC]
    members = np.int64(0)
    while node <= last:
        if best[node, MET] == stamp:
            string, graph, acoustic = np.int64(best[node, STRING]), best_costs[node, GRAPH], best_costs[node, ACOUSTIC]
            for link in range(first[node], first[node + 1]):
                if ends[link, OLABEL]:
                    continue
                more_graph, more_acoustic = graph + link_costs[link, GRAPH], acoustic + link_costs[link, ACOUSTIC]
                cost, reached = more_graph + scale * more_acoustic, np.int64(ends[link, TARGET])
                if forward + cost + ahead[reached] > cutoff:
                    continue
                known = best_costs[reached, GRAPH] + scale * best_costs[reached, ACOUSTIC]
                if best[reached, MET] == stamp and cost >= known:
                    continue
                longest = longer(string, ends[link, ILABEL], strings, count)
                if longest < 0:
                    return np.int64(-1)
                best[reached, MET], best[reached, STRING] = stamp, longest
                best_costs[reached, GRAPH], best_costs[reached, ACOUSTIC] = more_graph, more_acoustic
                last = max(last, reached)
            if forward + graph + scale * acoustic + exits[node] <= cutoff:
                ints[members, NODE], ints[members, STRING] = node, string
                costs[members, GRAPH], costs[members, ACOUSTIC] = graph, acoustic
                members += 1
        node += 1
    return members


@compiled
def _expand(members, forward, lattice, limits, memory, heap):
    """Make a state of the members in `work`, and its steps, a task a word; return its number, -1 where these do not
    fit."""
    (first, ends, link_costs), frame, final, ahead, _ = lattice
    strings, _, (ints, costs), _, states, tasks, (step, step_costs), _, _, count = memory
    scale, penalty, cutoff = limits
    state = count[STATES]
    if state == len(states[0]):
        return np.int64(-1)
    count[STATES] = state + 1
    node = ints[0, NODE]
    states[0][state, 0], states[0][state, 1] = node, frame[node] - strings[0][ints[0, STRING], LENGTH]
    states[1][state] = forward
    begin = used = count[STEPS]
    for k in range(members):
        node = ints[k, NODE]
        for link in range(first[node], first[node + 1] + 1):
            string, graph, acoustic = np.int64(ints[k, STRING]), costs[k, GRAPH], costs[k, ACOUSTIC]
            left, reached, word = 0.0, -1, 0
            if link < first[node + 1]:
                reached, word = ends[link, TARGET], ends[link, OLABEL]
                if word == 0:
                    continue
                graph, acoustic = graph + link_costs[link, GRAPH], acoustic + link_costs[link, ACOUSTIC]
                left = penalty + ahead[reached]
                string = longer(string, ends[link, ILABEL], strings, count)
            else:  # after its links a node's own end
                graph += final[node]
            if forward + graph + scale * acoustic + left <= cutoff:
                if string < 0 or used == len(step):
                    return np.int64(-1)
                step[used, NODE], step[used, STRING], step[used, WORD], step[used, START] = (
                    reached, string, word, frame[node]
                )  # fmt: skip
                step_costs[used, GRAPH], step_costs[used, ACOUSTIC] = graph, acoustic
                used += 1
    rows, row_costs = step[begin:used].copy(), step_costs[begin:used].copy()
    order = _order(rows, len(final) + 1)
    used, place = begin, 0
    while place < len(order):
        task, word = count[TASKS], rows[order[place], WORD]
        if task == len(tasks):
            return np.int64(-1)
        lowest, start, opened = np.inf, 0, used
        while place < len(order) and rows[order[place], WORD] == word:
            k = order[place]
            node, graph, acoustic = rows[k, NODE], row_costs[k, GRAPH], row_costs[k, ACOUSTIC]
            cost = graph + scale * acoustic
            same = used > opened and step[used - 1, NODE] == node
            if not same or cost < step_costs[used - 1, GRAPH] + scale * step_costs[used - 1, ACOUSTIC]:
                used += 0 if same else 1  # of one node the best
                step[used - 1, NODE], step[used - 1, STRING] = node, rows[k, STRING]
                step_costs[used - 1, GRAPH], step_costs[used - 1, ACOUSTIC] = graph, acoustic
            if word:
                cost += penalty + ahead[node]
            if cost < lowest:
                lowest, start = cost, rows[k, START]
            place += 1
        tasks[task, 0], tasks[task, 1], tasks[task, 2], tasks[task, 3] = state, word, opened, used - opened
        step[opened, START] = start
        count[TASKS] = task + 1
        heapq.heappush(heap, (forward + lowest, task))
    count[STEPS] = used
    return state


@compiled
def _order(rows, nodes):
    """Return the steps by word and node: by a heap, since what is compiled for the tasks serves here too."""
    heap = [(0.0, np.int64(0))]
    heap.pop()
    for k in range(len(rows)):
        heapq.heappush(heap, (float(rows[k, WORD]) * nodes + rows[k, NODE], np.int64(k)))
    order = np.empty(len(rows), np.int64)
    for k in range(len(rows)):
        order[k] = heapq.heappop(heap)[1]
    return order
