"""Determinisation of a lattice over its words, pruned: Kaldi's lattice-determinize-pruned (Povey et al., "Generating
exact lattices in the WFST framework", ICASSP 2012), compiled.

Wanted is a lattice in which each word sequence whose best path comes within a beam of the best has exactly one path, with
the costs and the pdfs of its best path in the lattice that was given. A link carries a weight (graph cost g, acoustic
cost a, string of pdfs z); weights are multiplied by adding costs and joining strings, and of two the better is that of
the lower g + scale * a. A state of the result is a set of

    (node n, z, g, a):  the words so far can end in n; from what every member shares it lacks z, g and a

and is found as any determinisation finds it:

    closure   follow links without a word from the members, per node the best weight is kept
    minimal   keep the nodes that words leave or in which a path can end
    normal    take off the longest common prefix of the strings, and the weight of the best member
    known?    a set of the same nodes and strings and, within DELTA, costs is the same state
    step      for each word, the links that bear it lead to the next set; what was taken off goes on the arc

A set is looked up before its closure, too, for most come again (Kaldi's two tables). Steps are done in the order of the
best path through them, cost so far and, exactly, least cost ahead, so that a state is first met by its best way, and that
what exceeds the beam is never met. Where the result grows beyond its bound the work stops: all paths up to the cost
that was reached are there, and the beam is said to be the narrower one. Strings lie in a trie, a string is a number, and
equal strings are equal numbers.

Naive is to write every path out, and keep the best of each word sequence: tests/test_determinise.py does.
"""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple, Tuple

import numpy as np

from hybrid.decode.paths import costs_ahead
from hybrid.decode.search_graph import compiled
from hybrid.decode.weighted_sets import (
    ACOUSTIC,
    ARCS,
    DELTA,
    GRAPH,
    INITIAL,
    MINIMAL,
    NODE,
    STAMP,
    STATES,
    STEPS,
    STRING,
    TASKS,
    columns,
    find,
    longer,
    new_trie,
    normalise,
    remember,
    spell,
)
from hybrid.errors import ConfigError

MAX_ARCS = 100_000  # of a result
MAX_ROOM = 1 << 22  # elements of sets, and nodes of the trie; some 300 MB

DONE, FULL, BOUND = range(3)
END = -1  # stands for the state in which paths end


class Determinised(NamedTuple):
    """Arcs over words, the states numbered in the order of time: int32 source, target, word (0 leads to the last state,
    the end); graph, acoustic: float64; start: int32, the frame of the word's label on the arc's best path; offsets,
    pdfs: the pdfs of arc k are pdfs[offsets[k]:offsets[k + 1]]. frame: int32, of each state. beam: how far from the best
    the paths reach that are surely there."""

    frame: np.ndarray
    source: np.ndarray
    target: np.ndarray
    word: np.ndarray
    graph: np.ndarray
    acoustic: np.ndarray
    start: np.ndarray
    offsets: np.ndarray
    pdfs: np.ndarray
    beam: float


def determinise(
    frame: np.ndarray, source: np.ndarray, target: np.ndarray, ilabel: np.ndarray, olabel: np.ndarray,
    graph: np.ndarray, acoustic: np.ndarray, final: np.ndarray, *, acoustic_scale: float = 1.0,
    word_penalty: float = 0.0, lattice_beam: float = 8.0, max_arcs: int = MAX_ARCS,
) -> Determinised:  # fmt: skip
    """Return the arcs that word sequences within lattice_beam of the best need, each sequence once. The arrays are those
    of a Lattice; the best path of a sequence is that of the lowest graph + acoustic_scale * acoustic + word_penalty.

    Raises ConfigError for a beam, scale or bound that is none.
    """
    if not (acoustic_scale >= 0 and np.isfinite(acoustic_scale) and np.isfinite(word_penalty)):
        raise ConfigError(
            f"acoustic scale {acoustic_scale}, word penalty {word_penalty}", remedy="give a scale above 0, finite numbers"
        )
    if not (lattice_beam >= 0 and np.isfinite(lattice_beam)):
        raise ConfigError(f"lattice beam {lattice_beam}", remedy="give a beam, 0 or more; 6 to 10 is usual")
    if max_arcs < 1:
        raise ConfigError(f"at most {max_arcs} arcs", remedy=f"give 1 or more; {MAX_ARCS} is usual")
    rank, order = _forward(source, len(final))
    nodes = np.argsort(rank)
    links = (
        np.searchsorted(rank[source[order]], np.arange(len(final) + 1)), rank[target[order]].astype(np.int32),
        ilabel[order], olabel[order], graph[order].astype(np.float64), acoustic[order].astype(np.float64),
    )  # fmt: skip
    costs = links[4] + acoustic_scale * links[5] + word_penalty * (links[3] != 0)
    ends = final[nodes].astype(np.float64)
    ahead = costs_ahead(rank[source[order]], links[1], costs, ends)
    room = max(1 << 12, 4 * len(source))
    while True:
        status, reached, arrays = _determinise(
            links, frame[nodes].astype(np.int32), ends, ahead, acoustic_scale, word_penalty, lattice_beam, max_arcs, room
        )
        if status != FULL or room >= MAX_ROOM:
            break
        room = min(4 * room, MAX_ROOM)
    return _sorted(arrays, int(frame.max(initial=0)), reached)


def _forward(source: np.ndarray, nodes: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the place of each node in the order in which links leave them, and the links in that order."""
    leaving, met = np.unique(source, return_index=True)
    rank = np.full(nodes, nodes, np.int64)
    rank[leaving[np.argsort(met)]] = np.arange(len(leaving))
    rank[rank == nodes] = np.arange(len(leaving), nodes)
    return rank, np.argsort(rank[source], kind="stable")


def _sorted(arrays: Tuple[Any, ...], frames: int, beam: float) -> Determinised:
    """Drop what leads to no end, and number states and arcs in the order of time."""
    state_rank, state_frame, source, target, word, graph, acoustic, start, offsets, pdfs = arrays
    target = np.where(target == END, len(state_rank), target)
    order = np.argsort(state_rank, kind="stable")
    place = np.empty(len(order) + 1, np.int32)
    place[order] = np.arange(len(order))
    place[-1] = len(order)
    arcs = np.lexsort((word, place[source]))
    final = np.full(len(place), np.inf)
    final[-1] = 0.0
    live = np.isfinite(costs_ahead(place[source[arcs]], place[target[arcs]], np.zeros(len(arcs)), final))
    arcs = arcs[live[place[target[arcs]]]]
    renumbered = (np.cumsum(live) - 1).astype(np.int32)
    lengths = np.diff(offsets)[arcs]
    new = np.zeros(len(arcs) + 1, np.int64)
    np.cumsum(lengths, out=new[1:])
    chosen = np.repeat(offsets[:-1][arcs] - new[:-1], lengths) + np.arange(new[-1])
    return Determinised(
        np.append(state_frame[order], frames).astype(np.int32)[live], renumbered[place[source[arcs]]],
        renumbered[place[target[arcs]]], word[arcs], graph[arcs], acoustic[arcs], start[arcs], new, pdfs[chosen], beam,
    )  # fmt: skip


@compiled
def _determinise(links, frame, final, ahead, scale, penalty, beam, max_arcs, room):
    """Return DONE, FULL (the room is used up) or BOUND (max_arcs); the beam that was reached; states and arcs."""
    nodes = len(final)
    count = np.zeros(8, np.int64)
    trie = new_trie(room, nodes, count)
    subsets = (
        np.empty(room, np.int64), np.empty(room, np.int64), np.full(len(trie[3]), -1, np.int32),
        np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float64),
        np.empty(room, np.float64),
    )  # fmt: skip
    memory = (
        trie, subsets, columns(room), columns(nodes), columns(nodes), np.zeros(nodes, np.int64),
        (np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float64)),
        (np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int64), np.empty(room, np.int64)),
        columns(room), (np.empty(room, np.int32), np.empty(room, np.int32)),
        (np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float64),
         np.empty(room, np.float64), np.empty(room, np.int32), np.zeros(room + 1, np.int64)),
        np.empty(4 * room, np.int32), count,
    )  # fmt: skip
    lattice = (links, frame, final, ahead, _exits(links, final, ahead, scale, penalty))
    limits = (scale, penalty, ahead[0] + beam + DELTA)
    heap = [(0.0, np.int64(0))]
    heap.pop()
    status, reached = DONE, beam
    if np.isfinite(ahead[0]) and not _start(lattice, limits, memory, heap):
        status, reached = FULL, 0.0
    while len(heap) and status == DONE:
        priority, task = heapq.heappop(heap)
        if count[ARCS] >= max_arcs:
            status = BOUND
        elif not _follow(task, lattice, limits, memory, heap):
            status = FULL
        if status != DONE:
            reached = priority - ahead[0]
    states, arcs, pdfs = memory[6], memory[10], memory[11]
    made, used = count[ARCS], count[STATES]
    return status, reached, (
        states[0][:used].copy(), states[1][:used].copy(), arcs[0][:made].copy(), arcs[1][:made].copy(),
        arcs[2][:made].copy(), arcs[3][:made].copy(), arcs[4][:made].copy(), arcs[5][:made].copy(),
        arcs[6][: made + 1].copy(), pdfs[: arcs[6][made]].copy(),
    )  # fmt: skip


@compiled
def _exits(links, final, ahead, scale, penalty):
    """Return the least cost from each node to an end by a word at once, or by ending there."""
    first, target, _, word, graph, acoustic = links
    exits = final.copy()
    for node in range(len(final)):
        for link in range(first[node], first[node + 1]):
            if word[link]:
                cost = graph[link] + scale * acoustic[link] + penalty + ahead[target[link]]
                exits[node] = min(exits[node], cost)
    return exits


@compiled
def _start(lattice, limits, memory, heap):
    """Make the first state; nothing is taken off it, for no arc leads to it. False where it does not fit."""
    work = memory[3]
    work[NODE][0] = work[STRING][0] = 0
    work[GRAPH][0] = work[ACOUSTIC][0] = 0.0
    members = _close(1, 0.0, lattice, limits, memory)
    return members > 0 and _expand(members, 0.0, lattice, limits, memory, heap) >= 0


@compiled
def _follow(task, lattice, limits, memory, heap):
    """Write the arc of a state and a word, and the state that it leads to where that is new. False where these do not
    fit."""
    trie, subsets, elements, work, _, _, states, tasks, steps, _, arcs, pdfs, count = memory
    scale, penalty, _ = limits
    state, word, begin, end = tasks[0][task], tasks[1][task], tasks[2][task], tasks[3][task]
    written = arcs[6][count[ARCS]]
    if word == 0:
        written = spell(steps[STRING][begin], trie, pdfs, written)
        return written >= 0 and _write(task, END, steps[GRAPH][begin], steps[ACOUSTIC][begin], written, memory)
    members = end - begin
    for k in range(members):
        work[NODE][k], work[STRING][k] = steps[NODE][begin + k], steps[STRING][begin + k]
        work[GRAPH][k], work[ACOUSTIC][k] = steps[GRAPH][begin + k], steps[ACOUSTIC][begin + k]
    prefix, graph, acoustic = normalise(work, members, scale, trie, count)
    if prefix < 0:
        return False
    written = spell(prefix, trie, pdfs, written)
    if written < 0:
        return False
    known, place = find(INITIAL, work, members, subsets, elements, scale)
    if known < 0:
        known = remember(INITIAL, place, work, members, subsets, elements, count)
        if known < 0:
            return False
        forward = states[2][state] + penalty + graph + scale * acoustic
        members = _close(members, forward, lattice, limits, memory)
        if members < 0:
            return False
        if members == 0:  # by a rounding beyond the beam
            return True
        prefix, more_graph, more_acoustic = normalise(work, members, scale, trie, count)
        if prefix < 0:
            return False
        minimal, place = find(MINIMAL, work, members, subsets, elements, scale)
        if minimal < 0:
            minimal = remember(MINIMAL, place, work, members, subsets, elements, count)
            if minimal < 0:
                return False
            forward += more_graph + scale * more_acoustic
            subsets[4][minimal] = _expand(members, forward, lattice, limits, memory, heap)
        subsets[4][known], subsets[5][known] = subsets[4][minimal], prefix
        subsets[6][known], subsets[7][known] = more_graph, more_acoustic
    written = spell(subsets[5][known], trie, pdfs, written)
    reached = subsets[4][known]
    return written >= 0 and reached >= 0 and _write(
        task, reached, graph + subsets[6][known], acoustic + subsets[7][known], written, memory
    )  # fmt: skip


@compiled
def _write(task, target, graph, acoustic, pdfs_end, memory):
    """Write an arc; False where it does not fit."""
    tasks, starts, arcs, count = memory[7], memory[9][1], memory[10], memory[12]
    arc = count[ARCS]
    if arc == len(arcs[0]):
        return False
    arcs[0][arc], arcs[1][arc], arcs[2][arc] = tasks[0][task], target, tasks[1][task]
    arcs[3][arc], arcs[4][arc], arcs[5][arc] = graph, acoustic, starts[tasks[2][task]]
    arcs[6][arc + 1] = pdfs_end
    count[ARCS] = arc + 1
    return True


@compiled
def _close(members, forward, lattice, limits, memory):
    """Follow the links without a word from the members in `work`, and put in their place the nodes that words leave or
    in which a path can end; return how many, -1 where strings do not fit. forward: the cost of the way to the set."""
    (first, target, ilabel, word, link_graph, link_acoustic), _, _, ahead, exits = lattice
    trie, _, _, work, best, marks, _, _, _, _, _, _, count = memory
    scale, _, cutoff = limits
    count[STAMP] += 1
    stamp = count[STAMP]
    last = 0
    for k in range(members):
        node = work[NODE][k]
        marks[node] = stamp
        last = max(last, node)
        best[STRING][node], best[GRAPH][node], best[ACOUSTIC][node] = work[STRING][k], work[GRAPH][k], work[ACOUSTIC][k]
    node = work[NODE][0]
    members = 0
    while node <= last:
        if marks[node] != stamp:
            node += 1
            continue
        string, graph, acoustic = best[STRING][node], best[GRAPH][node], best[ACOUSTIC][node]
        for link in range(first[node], first[node + 1]):
            if word[link]:
                continue
            more_graph, more_acoustic = graph + link_graph[link], acoustic + link_acoustic[link]
            cost, reached = more_graph + scale * more_acoustic, target[link]
            if forward + cost + ahead[reached] > cutoff:
                continue
            if marks[reached] == stamp and cost >= best[GRAPH][reached] + scale * best[ACOUSTIC][reached]:
                continue
            marks[reached] = stamp
            last = max(last, reached)
            best[GRAPH][reached], best[ACOUSTIC][reached] = more_graph, more_acoustic
            best[STRING][reached] = string if ilabel[link] == 0 else longer(string, ilabel[link] - 1, trie, count)
            if best[STRING][reached] < 0:
                return -1
        if forward + graph + scale * acoustic + exits[node] <= cutoff:
            work[NODE][members], work[STRING][members] = node, string
            work[GRAPH][members], work[ACOUSTIC][members] = graph, acoustic
            members += 1
        node += 1
    return members


@compiled
def _expand(members, forward, lattice, limits, memory, heap):
    """Make a state of the members in `work`, and its steps, a task a word; return its number, -1 where these do not
    fit."""
    (first, target, ilabel, word, link_graph, link_acoustic), frame, final, ahead, _ = lattice
    trie, _, _, work, _, _, states, tasks, steps, (step_words, starts), _, _, count = memory
    scale, penalty, cutoff = limits
    state = count[STATES]
    if state == len(states[0]):
        return -1
    count[STATES] = state + 1
    node = work[NODE][0]
    states[0][state], states[1][state], states[2][state] = node, frame[node] - trie[2][work[STRING][0]], forward
    begin = used = count[STEPS]
    for k in range(members):
        node = work[NODE][k]
        for link in range(first[node], first[node + 1] + 1):
            ends = link == first[node + 1]  # after its links a node's own end
            if (ends and final[node] == np.inf) or (not ends and word[link] == 0):
                continue
            graph, acoustic, string = work[GRAPH][k], work[ACOUSTIC][k], work[STRING][k]
            if ends:
                graph, left, reached, label = graph + final[node], 0.0, -1, 0
            else:
                graph, acoustic = graph + link_graph[link], acoustic + link_acoustic[link]
                reached, label = target[link], word[link]
                left = penalty + ahead[reached]
                if ilabel[link]:
                    string = longer(string, ilabel[link] - 1, trie, count)
            if forward + graph + scale * acoustic + left > cutoff:
                continue
            if string < 0 or used == len(starts):
                return -1
            steps[NODE][used], steps[STRING][used], steps[GRAPH][used], steps[ACOUSTIC][used] = (
                reached, string, graph, acoustic,
            )  # fmt: skip
            step_words[used], starts[used] = label, frame[node]
            used += 1
    order = begin + np.argsort(step_words[begin:used].astype(np.int64) * (len(final) + 1) + steps[NODE][begin:used])
    labels, nodes, strings = step_words[order], steps[NODE][order], steps[STRING][order]
    graphs, acoustics, frames = steps[GRAPH][order], steps[ACOUSTIC][order], starts[order]
    used, k = begin, 0
    while k < len(order):
        task, label = count[TASKS], labels[k]
        if task == len(tasks[0]):
            return -1
        lowest, start, opened = np.inf, 0, used
        while k < len(order) and labels[k] == label:
            cost = graphs[k] + scale * acoustics[k]
            if used > opened and steps[NODE][used - 1] == nodes[k]:  # of one node the best
                if cost >= steps[GRAPH][used - 1] + scale * steps[ACOUSTIC][used - 1]:
                    k += 1
                    continue
                used -= 1
            steps[NODE][used], steps[STRING][used] = nodes[k], strings[k]
            steps[GRAPH][used], steps[ACOUSTIC][used] = graphs[k], acoustics[k]
            used += 1
            cost += forward + (penalty + ahead[nodes[k]] if label else 0.0)
            if cost < lowest:
                lowest, start = cost, frames[k]
            k += 1
        tasks[0][task], tasks[1][task], tasks[2][task], tasks[3][task] = state, label, opened, used
        starts[opened] = start
        count[TASKS] = task + 1
        heapq.heappush(heap, (lowest, task))
    count[STEPS] = used
    return state
