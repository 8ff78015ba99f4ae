"""States that are found by their arcs, so that one that is there already is not made again (compose.py).

A state's arcs are label, word, weight and target in arrays of their own, those of state s at first[s] .. first[s + 1].
The table `found` has the number of a state, or -1, at its hash or the next place that is free.
"""

from __future__ import annotations

import numpy as np

from hybrid.compiled import compiled, inlined

STATES = 0  # the place of the number of states among a walk's counts


@inlined
def mixed(code, value):
    """Return a hash with one value more."""
    code = (code ^ np.uint64(value)) * np.uint64(0x9E3779B97F4A7C15)
    return code ^ (code >> np.uint64(29))


@compiled
def hash_of(label, word, bits, target, low, high):
    """Return a hash of the arcs low .. high."""
    code = np.uint64(1469598103934665603)
    for arc in range(low, high):
        code = mixed(code, (np.uint64(np.uint32(label[arc])) << np.uint64(32)) | np.uint64(np.uint32(word[arc])))
        code = mixed(code, (np.uint64(bits[arc]) << np.uint64(32)) | np.uint64(np.uint32(target[arc])))
    return code


@compiled
def append_arcs(stack, base, top, cost, arcs, first, state):
    """Write the arcs on the stack from `base` to `top`, less `cost`, as those of the next state."""
    label, word, weight, target = arcs
    s_label, s_word, s_cost, s_target = stack
    arc = first[state]
    for place in range(base, top):
        label[arc] = s_label[place]
        word[arc] = s_word[place]
        weight[arc] = np.float32(s_cost[place] - cost) + np.float32(0.0)
        target[arc] = s_target[place]
        arc += 1
    first[state + 1] = arc


@compiled
def same_state(label, word, bits, target, first, final, found, state):
    """Return the state that is as the last one, `state`, which is entered in the table where there is none."""
    low, high = first[state], first[state + 1]
    mask = len(found) - 1
    slot = np.int64(hash_of(label, word, bits, target, low, high) & np.uint64(mask))
    while found[slot] >= 0:
        other = np.int64(found[slot])
        begin = first[other]
        if first[other + 1] - begin == high - low and final[other] == final[state]:
            same = True
            for k in range(high - low):
                if (
                    label[begin + k] != label[low + k] or target[begin + k] != target[low + k]
                    or word[begin + k] != word[low + k] or bits[begin + k] != bits[low + k]
                ):  # fmt: skip
                    same = False
                    break
            if same:
                return other
        slot = (slot + 1) & mask
    found[slot] = state
    return np.int64(state)


@compiled
def one_arc_state(label, word, bits, target, first, final, found, counts, over, code, alone):
    """Return the state of one arc without a word or a cost; alone: there is none like it."""
    state = counts[STATES]
    arc = first[state]
    label[arc] = over
    word[arc] = 0
    bits[arc] = 0
    target[arc] = code
    first[state + 1] = arc + 1
    final[state] = np.inf
    if alone:
        counts[STATES] = state + 1
        return state
    same = same_state(label, word, bits, target, first, final, found, state)
    if same == state:
        counts[STATES] = state + 1
    return same


@compiled
def refill(found, label, word, bits, target, first):
    """Enter all states into a table of another size."""
    mask = len(found) - 1
    for state in range(len(first) - 1):
        slot = np.int64(hash_of(label, word, bits, target, first[state], first[state + 1]) & np.uint64(mask))
        while found[slot] >= 0:
            slot = (slot + 1) & mask
        found[slot] = state
