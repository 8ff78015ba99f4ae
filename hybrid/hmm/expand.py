"""H: HMM states for a graph over HMMs, self-loops included.

Each pair of an HMM and the state t that it leads to becomes HMM states of its own (arcs of one HMM to t share them).
The last of them, which has the loop of the HMM's last state, goes on as t does: with t's arcs where these are few or
nothing else leads to t, else over an epsilon to t. A loop must know its HMM, which is why t itself can have none.
"""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.compiled import compiled
from hybrid.fst import ARC, FstArrays
from hybrid.hmm.phone_hmms import Pdfs, PhoneHmms

COPIED = 1  # arcs of a state that each HMM before it has copies of


class HmmTables(NamedTuple):
    """Of HMM m, from 1: its states are first[m] .. first[m + 1], the arcs that begin it enter[m] .. enter[m + 1] of
    enter_tid, enter_cost, enter_target; of a state: loop (transition id, 0: none), loop_cost, leaving, ends, and arcs
    step[s] .. step[s + 1] of step_tid, step_cost, step_target. Targets count from the HMM's first state."""

    first: np.ndarray
    enter: np.ndarray
    enter_tid: np.ndarray
    enter_cost: np.ndarray
    enter_target: np.ndarray
    loop: np.ndarray
    loop_cost: np.ndarray
    leaving: np.ndarray
    ends: np.ndarray
    step: np.ndarray
    step_tid: np.ndarray
    step_cost: np.ndarray
    step_target: np.ndarray

    @staticmethod
    def of(hmms: PhoneHmms, wanted: Sequence[Tuple[int, Pdfs]]) -> HmmTables:
        """Return the tables of HMMs 1, 2, ..."""
        made = [hmms.hmm(phone, pdfs) for phone, pdfs in wanted]
        states = [state for hmm in made for state in hmm.states]
        enter = [step for hmm in made for step in hmm.enter]
        steps = [step for state in states for step in state.steps]

        def starts(counts: List[int]) -> np.ndarray:
            return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])

        return HmmTables(
            np.concatenate([[0], starts([len(hmm.states) for hmm in made])]),
            np.concatenate([[0], starts([len(hmm.enter) for hmm in made])]),
            *_columns(enter),
            np.array([state.loop for state in states], np.int32),
            np.array([state.loop_cost for state in states], np.float32),
            np.array([state.leaving for state in states], np.float32),
            np.array([state.ends for state in states], np.bool_),
            starts([len(state.steps) for state in states]),
            *_columns(steps),
        )


def _columns(steps: Sequence) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = list(steps)
    return (
        np.array([step.tid for step in rows], np.int32), np.array([step.cost for step in rows], np.float32),
        np.array([step.target for step in rows], np.int32),
    )  # fmt: skip


def expanded(graph: FstArrays, tables: HmmTables) -> FstArrays:
    """Return the graph over transition ids, with self-loops; `graph` over numbers of HMMs."""
    label, target = np.ascontiguousarray(graph.arcs["ilabel"]), np.ascontiguousarray(graph.arcs["nextstate"])
    instance, hmm, ahead = _instances(graph.num_states, label, target)
    entered = np.bincount(ahead, minlength=graph.num_states)
    kept = np.zeros(graph.num_states, bool)
    kept[target[label == 0]] = True
    kept[graph.start] = True
    copied = (np.diff(graph.offsets) <= COPIED) | ((entered == 1) & ~kept)
    kept |= (entered > 0) & ~copied
    number = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    base = np.full(len(hmm) + 1, int(kept.sum()), np.int64)
    base[1:] += np.cumsum((tables.first[1:] - tables.first[:-1])[hmm])
    first = np.zeros(int(base[-1]) + 1, np.int64)
    _counted(graph.offsets, label, hmm, ahead, copied, number, base, tables, first)
    np.cumsum(first, out=first)
    result = FstArrays(
        int(number[graph.start]), np.full(len(first) - 1, np.inf, np.float32), first, np.empty(int(first[-1]), ARC)
    )
    _filled(
        graph.offsets, label, graph.arcs["olabel"], graph.arcs["weight"], instance, target, graph.final, hmm, ahead,
        copied, number, base, tables, first, result.final, result.arcs,
    )  # fmt: skip
    return result


@compiled
def _instances(states, label, target):
    """Return for each arc the number of its pair of HMM and state led to, -1 for epsilons; and the pairs."""
    begin = np.zeros(states + 1, np.int64)
    for arc in range(len(label)):
        begin[target[arc] + 1] += 1
    for state in range(states):
        begin[state + 1] += begin[state]
    entering = np.empty(len(label), np.int32)
    filled = begin[:-1].copy()
    most = 0
    for arc in range(len(label)):
        entering[filled[target[arc]]] = arc
        filled[target[arc]] += 1
        most = max(most, label[arc])
    instance = np.full(len(label), -1, np.int32)
    hmm = np.empty(len(label), np.int32)
    ahead = np.empty(len(label), np.int32)
    seen = np.full(most + 1, -1, np.int32)  # the state for which an HMM was last met, and its pair then
    pair = np.empty(most + 1, np.int32)
    number = 0
    for state in range(states):
        for place in range(begin[state], begin[state + 1]):
            arc = entering[place]
            if label[arc] == 0:
                continue
            if seen[label[arc]] != state:
                seen[label[arc]] = state
                pair[label[arc]] = number
                hmm[number] = label[arc]
                ahead[number] = state
                number += 1
            instance[arc] = pair[label[arc]]
    return instance, hmm[:number].copy(), ahead[:number].copy()


@compiled
def _counted(offsets, label, hmm, ahead, copied, number, base, tables, first):
    """Count the arcs of each state s into first[s + 1]."""
    leaving = np.zeros(len(offsets) - 1, np.int64)
    for state in range(len(leaving)):
        for arc in range(offsets[state], offsets[state + 1]):
            many = tables.enter[label[arc] + 1] - tables.enter[label[arc]] if label[arc] else 1
            leaving[state] += many
        if number[state] >= 0:
            first[number[state] + 1] = leaving[state]
    for one in range(len(hmm)):
        begin = tables.first[hmm[one]]
        for state in range(begin, tables.first[hmm[one] + 1]):
            count = tables.step[state + 1] - tables.step[state] + (1 if tables.loop[state] else 0)
            if tables.ends[state]:
                count += leaving[ahead[one]] if copied[ahead[one]] else 1
            first[base[one] + state - begin + 1] = count


@compiled
def _put(arcs, at, ilabel, olabel, weight, target):
    arcs[at].ilabel = ilabel
    arcs[at].olabel = olabel
    arcs[at].weight = weight
    arcs[at].nextstate = target
    return at + 1


@compiled
def _led_on(state, more, at, offsets, label, word, weight, instance, target, number, base, tables, arcs):
    """Write the arcs of a state of the graph, each `more` dearer."""
    for arc in range(offsets[state], offsets[state + 1]):
        if label[arc] == 0:
            at = _put(arcs, at, 0, word[arc], weight[arc] + more, number[target[arc]])
            continue
        to = base[instance[arc]]
        for enter in range(tables.enter[label[arc]], tables.enter[label[arc] + 1]):
            cost = weight[arc] + more + tables.enter_cost[enter]
            at = _put(arcs, at, tables.enter_tid[enter], word[arc], cost, to + tables.enter_target[enter])
    return at


@compiled
def _filled(
    offsets, label, word, weight, instance, target, final, hmm, ahead, copied, number, base, tables, first, finals, arcs
):
    none = np.float32(0.0)
    for state in range(len(final)):
        if number[state] >= 0:
            finals[number[state]] = final[state]
            _led_on(
                state, none, first[number[state]], offsets, label, word, weight, instance, target, number, base, tables,
                arcs,
            )  # fmt: skip
    for one in range(len(hmm)):
        begin, onward = tables.first[hmm[one]], ahead[one]
        for state in range(begin, tables.first[hmm[one] + 1]):
            source = base[one] + state - begin
            at, more = first[source], tables.leaving[state]
            if tables.loop[state]:
                at = _put(arcs, at, tables.loop[state], 0, tables.loop_cost[state], source)
            for step in range(tables.step[state], tables.step[state + 1]):
                cost = more + tables.step_cost[step]
                at = _put(arcs, at, tables.step_tid[step], 0, cost, base[one] + tables.step_target[step])
            if not tables.ends[state]:
                continue
            if copied[onward]:
                finals[source] = final[onward] + more
                _led_on(
                    onward, more, at, offsets, label, word, weight, instance, target, number, base, tables, arcs
                )  # fmt: skip
            else:
                _put(arcs, at, 0, 0, more, number[onward])
