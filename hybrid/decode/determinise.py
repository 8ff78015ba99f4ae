"""Determinisation of a lattice over its words, pruned: Kaldi's lattice-determinize-pruned (Povey et al., "Generating
exact lattices in the WFST framework", ICASSP 2012), compiled.

Wanted is a lattice in which each word sequence whose best path comes within a beam of the best has exactly one path,
with the costs and the pdfs of its best path in the lattice that was given. A link carries a weight (graph cost g,
acoustic cost a, string of pdfs z); weights are multiplied by adding costs and joining strings, and of two the better is
that of the lower g + scale * a. A state of the result is a set of

    (node n, z, g, a):  the words so far can end in n; of what leads there z, g and a stand on no arc yet

and is found as any determinisation finds it:

    closure   follow links without a word from the members; per node the best weight is kept
    minimal   keep the nodes that words leave or in which a path can end
    normal    take off the longest common prefix of the strings, and the costs of the best member
    known?    a set of the same nodes and strings and, within DELTA, costs is the same state
    step      for each word, the links that bear it lead to the next set; what was taken off stands on the arc

A set is looked up before its closure, too, for most come again (Kaldi's two tables). Steps are taken in the order of
the best path through them, cost so far and (exactly) least cost ahead, so that a state is first met by its best way,
and what exceeds the beam is never met. Where the result outgrows its bound the work stops: all paths up to the cost
that was reached are there, and the beam is said to be the narrower one.
The word penalty counts in that order alone, for the members of a set have the same words.

Naive is to write every path out and keep the best of each word sequence: tests/test_determinise.py does.
"""

from __future__ import annotations

import heapq
from typing import Tuple

import numpy as np

from hybrid.decode.paths import costs_ahead
from hybrid.decode.search_graph import compiled
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
from hybrid.decode.word_lattice import WordLattice, take_strings
from hybrid.errors import ConfigError, DataError

MAX_ARCS = 100_000  # of a result
MIN_ROOM, MAX_ROOM = 1 << 12, 1 << 21  # elements of sets, and nodes of the trie; 500 MB at most

ROOM_OF_A_LINK = 4  # at first

DONE, FULL, BOUND = range(3)
TARGET, ILABEL, OLABEL = range(3)  # of a link
WORD, START = 2, 3  # of a step, after NODE and STRING: what stands on it, and in which frame
MET = 0  # of a node in a closure, beside STRING: when it was reached
END, LOST = -1, -2  # in place of a state: paths end here; beyond the beam


def determinise(
    frame: np.ndarray, source: np.ndarray, target: np.ndarray, ilabel: np.ndarray, olabel: np.ndarray,
    graph: np.ndarray, acoustic: np.ndarray, final: np.ndarray, *, acoustic_scale: float = 1.0,
    word_penalty: float = 0.0, lattice_beam: float = 8.0, max_arcs: int = MAX_ARCS,
) -> WordLattice:  # fmt: skip
    """Return the word sequences within lattice_beam of the best, each once, by the path of the lowest
    graph + acoustic_scale * acoustic + word_penalty a word. The arrays are those of a Lattice.

    Raises ConfigError for a beam, scale or bound that is none, DataError where no path leads to an end, or where not
    even the best one could be determinised.
    """
    if not (acoustic_scale > 0 and np.isfinite(acoustic_scale) and np.isfinite(word_penalty)):
        what = f"acoustic scale {acoustic_scale}, word penalty {word_penalty}"
        raise ConfigError(what, remedy="give a scale above 0 and a finite penalty")
    if not (lattice_beam >= 0 and np.isfinite(lattice_beam)):
        raise ConfigError(f"lattice beam {lattice_beam}", remedy="give a beam, 0 or more; 6 to 10 is usual")
    if max_arcs < 1:
        raise ConfigError(f"at most {max_arcs} arcs", remedy=f"give 1 or more; {MAX_ARCS} is usual")
    rank, order = _forward(source, len(final))
    nodes = np.argsort(rank)
    first = np.searchsorted(rank[source[order]], np.arange(len(final) + 1))
    ends = np.stack([rank[target], ilabel, olabel], 1)[order].astype(np.int32)
    costs = np.stack([graph, acoustic], 1)[order].astype(np.float64)
    ending = final[nodes].astype(np.float64)
    totals = costs[:, GRAPH] + acoustic_scale * costs[:, ACOUSTIC] + word_penalty * (ends[:, OLABEL] != 0)
    ahead = costs_ahead(rank[source[order]], ends[:, TARGET].copy(), totals, ending)
    if not (len(ahead) and np.isfinite(ahead[0])):
        raise DataError("no path leads through the lattice to an end", remedy="leave the utterance out")
    lattice = (first, ends, costs), frame[nodes].astype(np.int32), ending, ahead
    room = max(MIN_ROOM, ROOM_OF_A_LINK * len(source))
    while True:
        status, beam, *arrays = _determinise(
            *lattice, float(acoustic_scale), float(word_penalty), float(lattice_beam), max_arcs, room
        )
        if status != FULL or room >= MAX_ROOM:
            break
        room = min(4 * room, MAX_ROOM)
    words = _sorted(int(frame.max()), beam, *arrays)
    if not len(words.source):
        raise DataError("a lattice too large to be determinised", remedy="search with a narrower lattice beam")
    return words


def _forward(source: np.ndarray, nodes: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the place of each node in the order in which links leave them, and the links in that order."""
    leaving, first = np.unique(source, return_index=True)
    met = np.full(nodes, len(source), np.int64)  # what no link leaves comes last
    met[leaving] = first
    met[:1] = -1
    rank = np.empty(nodes, np.int64)
    rank[np.argsort(met, kind="stable")] = np.arange(nodes)
    return rank, np.argsort(rank[source], kind="stable")


def _sorted(
    frames: int, beam: float, states: np.ndarray, arcs: np.ndarray, costs: np.ndarray, offsets: np.ndarray,
    pdfs: np.ndarray,
) -> WordLattice:  # fmt: skip
    """Drop what leads to no end, and number states and arcs in the order of time."""
    state_rank, state_frame = states.T
    source, target, word, start = arcs.T
    graph, acoustic = costs.T
    target = np.where(target == END, len(state_rank), target)
    order = np.argsort(state_rank, kind="stable")
    place = np.empty(len(order) + 1, np.int32)
    place[order] = np.arange(len(order))
    place[-1] = len(order)
    kept = np.lexsort((word, place[source]))
    final = np.full(len(place), np.inf)
    final[-1] = 0.0
    live = np.isfinite(costs_ahead(place[source[kept]], place[target[kept]], np.zeros(len(kept)), final))
    kept = kept[live[place[target[kept]]]]
    renumbered = (np.cumsum(live) - 1).astype(np.int32)
    return WordLattice(
        np.append(state_frame[order], frames).astype(np.int32)[live], renumbered[place[source[kept]]],
        renumbered[place[target[kept]]], word[kept], graph[kept].astype(np.float32),
        acoustic[kept].astype(np.float32), start[kept], *take_strings(offsets, pdfs, kept), beam=float(beam),
    )  # fmt: skip


@compiled
def _determinise(links, frame, final, ahead, scale, penalty, beam, max_arcs, room):
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
