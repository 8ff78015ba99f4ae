"""C o L o G, determinized and minimized while it is made: a tree of the words that each state of G lists, and states
that are alike made once.

det(L o G) is, at each state of G, the tree of the pronunciations of the words listed there. So it is walked and not
searched for: the pronunciations are sorted once, those of a state of G are a sorted selection of them, and what a node
of its tree has below is a range of it. A node's arcs are made after what they lead to (the range is walked from its
leaves), so that a state that is there already is found by its arcs in a table (Daciuk, Mihov, Watson and Watson,
"Incremental construction of minimal acyclic finite-state automata", 2000): the ends of words are shared and nothing is
made to be thrown away. What depends on the phones around comes from phone_contexts.py: a node is a range and a state of
that automaton; where it puts out one HMM for several next phones, these share an arc and part one phone later, as
determinizing H o C o L o G would have it.

    place(g, k, kind)       between words: g a state of G, k of the contexts, kind as spellings.py has it
    arcs of a place         its words, by their first phones; silence; #0's back-off, an epsilon
    label of an arc         the number of an HMM, 0: epsilon

A word stands on the first arc after which no other can follow, costs as early as they can be: an arc from a range to a
part of it costs -log(sum of exp(-costs)) of the part less that of the whole (what determinizing in the log semiring
gives). Words that end where others go on leave by an epsilon arc.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from hybrid.compiled import borrowed, compiled, inlined
from hybrid.hmm.shared_states import STATES, append_arcs, mixed, one_arc_state, same_state
from hybrid.hmm.spellings import INSIDE, PAUSE, SILENT, SPOKEN

# Positions in `counts`.
_, TOP, CHILDREN, PLACES, MEMOS, ROW, MET = range(7)  # and STATES, the first
UNKNOWN = -(2**31)  # a code that is none
SEVERAL = 8  # pronunciations of a range whose result is remembered, at the first two phones
WORDS, REST = 0, 1  # lists of a state of G: what begins a word, what does not

Work = namedtuple(
    "Work",
    # the automaton of contexts, the lexicon, G; items: pronunciations by states of G and phones
    "hmm next pron_phones pron_first pron_word pron_costs pron_after item_pron item_arc item_code item_first "
    "g_cost g_target entered_once back_off back_off_cost g_final pause go_on ends numbers "
    # states that are there, found by their arcs
    "label word weight bits target first final found "
    # places by number, and found by (g, k, kind); states of G that have one made; ranges of a state of G
    "place_key place_state place_found met memo_key memo_state memo_cost memo_word "
    # stacks: arcs, children of a range; phones' contexts of the end of a word
    "s_label s_word s_cost s_target c_low c_high c_label c_next c_code c_cost c_word tail frames counts",
)  # fmt: skip
# Positions in a frame: a range that is being walked; its first arc and children on the stacks, the child that is next,
# the one that is walked.
LOW, HIGH, DEEP, CONTEXT, WORD, BASE, BEGIN, CHILD, BELOW = range(9)
# Positions in `numbers`.
G_STATES, SILENCE, SILENT_KIND, DEPTH, END_STATE, RIGHT = range(6)


@inlined
def _pushed(work, label, word, cost, target):
    top = work.counts[TOP]
    work.s_label[top] = label
    work.s_word[top] = word
    work.s_cost[top] = cost
    work.s_target[top] = target
    work.counts[TOP] = top + 1


@inlined
def _state(work, base, cost, final):
    """Return the state of the arcs on the stack from `base`, less `cost`: one that is there, or a new one."""
    state = work.counts[STATES]
    append_arcs(
        (work.s_label, work.s_word, work.s_cost, work.s_target), base, work.counts[TOP], cost,
        (work.label, work.word, work.weight, work.target), work.first, state,
    )  # fmt: skip
    work.counts[TOP] = base
    work.final[state] = np.float32(final)
    found = same_state(work.label, work.word, work.bits, work.target, work.first, work.final, work.found, state)
    if found == state:
        work.counts[STATES] = state + 1
    return found


@inlined
def place(work, g, k, kind):
    """Return the code of a place: -1 - its number."""
    key = (np.int64(kind) * len(work.hmm) + k) * work.numbers[G_STATES] + g
    mask = len(work.place_found) - 1
    slot = np.int64(mixed(np.uint64(7), key) & np.uint64(mask))
    while work.place_found[slot] >= 0:
        number = np.int64(work.place_found[slot])
        if work.place_key[number] == key:
            return -1 - number
        slot = (slot + 1) & mask
    number = work.counts[PLACES]
    work.place_found[slot] = number
    work.place_key[number] = key
    work.counts[PLACES] = number + 1
    return -1 - number


@inlined
def _cost(work, item):
    return work.g_cost[work.item_arc[item]] + work.pron_costs[work.counts[ROW], work.item_pron[item]]


@inlined
def _tail(work, item, depth, k):
    """Return the code of what follows `depth` phones of a pronunciation that no other shares.

    What follows when the context has been left behind is the same at every place of a state of G: it is made once.
    """
    pron = work.item_pron[item]
    begin, end = work.pron_first[pron] + depth, work.pron_first[pron + 1]
    for at in range(begin, end):
        work.tail[at - begin] = k
        k = work.next[k, work.pron_phones[at]]
    settled = min(max(begin, work.pron_first[pron] + work.numbers[DEPTH]), end)
    code = np.int64(work.item_code[item])
    if code == UNKNOWN:
        target = work.g_target[work.item_arc[item]]
        code = place(work, target, k, work.pron_after[pron])
        alone = work.entered_once[target]  # then nothing is alike
        for at in range(end - 1, settled - 1, -1):
            over = work.hmm[work.tail[at - begin], work.pron_phones[at]]
            code = one_arc_state(
                work.label, work.word, work.bits, work.target, work.first, work.final, work.found, work.counts, over,
                code, alone,
            )  # fmt: skip
        if settled - work.pron_first[pron] >= work.numbers[DEPTH]:
            work.item_code[item] = code
    for at in range(settled - 1, begin - 1, -1):
        over = work.hmm[work.tail[at - begin], work.pron_phones[at]]
        code = one_arc_state(
            work.label, work.word, work.bits, work.target, work.first, work.final, work.found, work.counts, over, code,
            False,
        )  # fmt: skip
    return code


@inlined
def _past(work, low, high, depth):
    """Return the first item of the range with another phone at `depth`."""
    phone = work.pron_phones[work.pron_first[work.item_pron[low]] + depth]
    step = 1
    while low + step < high and work.pron_phones[work.pron_first[work.item_pron[low + step]] + depth] == phone:
        low += step
        step *= 2
    high = min(high, low + step)
    while low + 1 < high:
        middle = (low + high) // 2
        if work.pron_phones[work.pron_first[work.item_pron[middle]] + depth] == phone:
            low = middle
        else:
            high = middle
    return high


@inlined
def _child(work, low, high, label, onward, code, cost):
    at = work.counts[CHILDREN]
    work.c_low[at] = low
    work.c_high[at] = high
    work.c_label[at] = label
    work.c_next[at] = onward
    work.c_code[at] = code
    work.c_cost[at] = cost
    work.c_word[at] = 0
    work.counts[CHILDREN] = at + 1


@inlined
def _range(work, low, high, depth, k):
    """Push the words of the range that end at `depth`, and its children by their next phones."""
    while low < high:
        pron = work.item_pron[low]
        if work.pron_first[pron] + depth < work.pron_first[pron + 1]:
            break
        ahead = place(work, work.g_target[work.item_arc[low]], k, work.pron_after[pron])
        _pushed(work, 0, work.pron_word[pron], _cost(work, low), ahead)
        low += 1
    while low < high:
        end = _past(work, low, high, depth)
        phone = work.pron_phones[work.pron_first[work.item_pron[low]] + depth]
        _child(work, low, end, work.hmm[k, phone], work.next[k, phone], 0, 0.0)
        low = end


@compiled
def _log_sum(costs, low, high):
    """Return -log of the sum of exp(-cost)."""
    least = np.inf
    for at in range(low, high):
        least = min(least, costs[at])
    if least == np.inf:
        return least
    total = 0.0
    for at in range(low, high):
        total += np.exp(least - costs[at])
    return least - np.log(total)


@inlined
def _united(work, first, last, label):
    """Return code, cost and word of the children over one HMM, from `first`, which has its own already."""
    least, word, several = work.c_cost[first], work.c_word[first], 1
    for at in range(first + 1, last):
        if work.c_label[at] == label:
            several += 1
            least = min(least, work.c_cost[at])
            if work.c_word[at] != word:
                word = 0
    if several == 1:
        return work.c_code[first], work.c_cost[first], work.c_word[first]
    total, base, final = 0.0, work.counts[TOP], np.inf
    for at in range(first, last):
        if work.c_label[at] == label:
            total += np.exp(least - work.c_cost[at])
    cost = least - np.log(total)
    for at in range(first, last):
        if work.c_label[at] != label:
            continue
        own, code = (0 if word else work.c_word[at]), work.c_code[at]
        if code < 0:
            _pushed(work, 0, own, work.c_cost[at] - cost, code)
            continue
        if work.final[code] < np.inf:
            final = work.c_cost[at] - cost + work.final[code]
        for arc in range(work.first[code], work.first[code + 1]):
            _pushed(
                work, work.label[arc], own if own else work.word[arc], work.c_cost[at] - cost + work.weight[arc],
                work.target[arc],
            )  # fmt: skip
    return _state(work, base, 0.0, final), cost, word


@inlined
def _memo(work, key):
    """Return the slot of a range and context, or the empty one where it belongs."""
    mask = len(work.memo_key) - 1
    slot = np.int64(mixed(np.uint64(3), key) & np.uint64(mask))
    while work.memo_key[slot] >= 0 and work.memo_key[slot] != key:
        slot = (slot + 1) & mask
    return slot


@inlined
def _known(work, child, depth):
    """Fill in code, cost and word of a child where they are there without walking on; return whether they are."""
    low, high, k = work.c_low[child], work.c_high[child], work.c_next[child]
    if low < 0:
        return True
    if high - low == 1:
        work.c_code[child] = _tail(work, low, depth, k)
        work.c_cost[child] = _cost(work, low)
        work.c_word[child] = work.pron_word[work.item_pron[low]]
    elif depth <= work.numbers[DEPTH] and high - low >= SEVERAL:
        slot = _memo(work, _memo_key(work, low, depth, k))
        if work.memo_key[slot] < 0:
            return False
        work.c_code[child] = work.memo_state[slot]
        work.c_cost[child] = work.memo_cost[slot]
        work.c_word[child] = work.memo_word[slot]
    else:
        return False
    work.c_low[child] = -1
    return True


@inlined
def _memo_key(work, low, depth, k):
    return ((low * 2 + work.counts[ROW]) * 8 + depth) * len(work.hmm) + k


@inlined
def _opened(work, level, low, high, depth, k):
    """Begin a range of items after `depth` common phones: push what it has, note it as frame `level`."""
    word = np.int64(work.pron_word[work.item_pron[low]])
    for item in range(low + 1, high):
        if work.pron_word[work.item_pron[item]] != word:
            word = np.int64(0)
            break
    frame = work.frames[level]
    frame[LOW], frame[HIGH], frame[DEEP], frame[CONTEXT], frame[WORD] = low, high, depth, k, word
    frame[BASE], frame[BEGIN], frame[CHILD] = work.counts[TOP], work.counts[CHILDREN], work.counts[CHILDREN]
    _range(work, low, high, depth, k)
    if word:
        for at in range(frame[BASE], work.counts[TOP]):
            work.s_word[at] = 0


@compiled
def _walk(work):
    """Make all arcs of frame 0, a place whose children stand on the stack, and all states below it. Without recursion,
    which numba cannot keep compiled."""
    level = 0
    while True:
        frame = work.frames[level]
        below = np.int64(-1)
        last = work.counts[CHILDREN]
        while frame[CHILD] < last and below < 0:
            child = frame[CHILD]
            label = work.c_label[child]
            done = False
            for at in range(frame[BEGIN], child):
                if work.c_label[at] == label:
                    done = True
                    break
            if not done:
                for at in range(child, last):
                    if work.c_label[at] == label and not _known(work, at, frame[DEEP] + 1):
                        below = np.int64(at)
                        break
                if below >= 0:
                    break
                code, cost, word = _united(work, child, last, label)
                _pushed(work, label, 0 if frame[WORD] else word, cost, code)
            frame[CHILD] += 1
        if below >= 0:
            frame[BELOW] = below
            level += 1
            _opened(work, level, work.c_low[below], work.c_high[below], frame[DEEP] + 1, work.c_next[below])
            continue
        work.counts[CHILDREN] = frame[BEGIN]
        if level == 0:
            return
        cost = _log_sum(work.s_cost, frame[BASE], work.counts[TOP])
        state = _state(work, frame[BASE], cost, np.inf)
        if frame[DEEP] <= work.numbers[DEPTH] and frame[HIGH] - frame[LOW] >= SEVERAL:
            key = _memo_key(work, frame[LOW], frame[DEEP], frame[CONTEXT])
            slot = _memo(work, key)
            work.memo_key[slot] = key
            work.memo_state[slot] = state
            work.memo_cost[slot] = cost
            work.memo_word[slot] = frame[WORD]
            work.counts[MEMOS] += 1
        level -= 1
        above = work.frames[level, BELOW]
        work.c_code[above] = state
        work.c_cost[above] = cost
        work.c_word[above] = frame[WORD]
        work.c_low[above] = -1


@compiled
def _make_place(work, number):
    """Make the state of a place."""
    key = work.place_key[number]
    g = key % work.numbers[G_STATES]
    k = (key // work.numbers[G_STATES]) % len(work.hmm)
    kind = key // work.numbers[G_STATES] // len(work.hmm)
    silence, silent = work.numbers[SILENCE], work.numbers[SILENT_KIND]
    more, low, high, row = 0.0, np.int64(0), np.int64(0), 0
    if kind >= PAUSE:
        label, onward = work.hmm[k, silence], work.next[k, silence]
        _child(work, -1, -1, label, onward, place(work, g, onward, silent), work.pause[kind - PAUSE])
        more = work.go_on[kind - PAUSE]
    if kind >= PAUSE and silent != SPOKEN:
        _pushed(work, 0, 0, more, place(work, g, k, SPOKEN))
        final = np.inf
    else:
        listed = REST if kind == INSIDE else WORDS
        low, high = work.item_first[listed, g], work.item_first[listed, g + 1]
        row = 1 if kind == SILENT else 0
        final = np.inf if kind == INSIDE else np.float64(work.g_final[g]) + work.ends[row]
        if work.numbers[RIGHT] and final < np.inf:
            _child(work, -1, -1, work.hmm[k, 0], 0, work.numbers[END_STATE], final)
            final = np.inf
        if work.back_off[g] >= 0:
            ahead = SPOKEN if kind >= PAUSE else kind
            _pushed(work, 0, 0, np.float64(work.back_off_cost[g]), place(work, work.back_off[g], k, ahead))
    work.counts[ROW] = row
    # `more` is for all but silence: it stands off the pause here and on the arcs below.
    if low < high or work.counts[CHILDREN] > 0:
        if more and silent == SPOKEN:
            work.c_cost[0] -= more
        frame = work.frames[0]
        frame[:] = 0
        _range(work, low, high, 0, k)
        _walk(work)
    state = work.counts[STATES]
    append_arcs(
        (work.s_label, work.s_word, work.s_cost, work.s_target), 0, work.counts[TOP],
        -more if silent == SPOKEN else 0.0, (work.label, work.word, work.weight, work.target), work.first, state,
    )  # fmt: skip
    work.counts[TOP] = 0
    work.final[state] = np.float32(final + more)
    work.place_state[number] = state
    work.counts[STATES] = state + 1


@compiled
def begin(work, g, k, kind):
    """Make the state in which all ends, where that is one of its own, and note the place at which all begins."""
    if work.numbers[RIGHT]:
        work.numbers[END_STATE] = _state(work, 0, 0.0, 0.0)
    place(work, g, k, kind)


@compiled
def make_places(work, done, room, most):
    """Make up to `most` places from number `done` on while there is room; return the number of the first that is not
    made, and how many arcs it may need, 0 where all are made."""
    work = borrowed(work)
    for _ in range(most):
        if done == work.counts[PLACES]:
            return done, 0
        g = work.place_key[done] % work.numbers[G_STATES]
        need = room[g]
        if (
            work.counts[STATES] + need >= len(work.final) or work.first[work.counts[STATES]] + need >= len(work.label)
            or 3 * (work.counts[STATES] + need) >= 2 * len(work.found)
            or 2 * (work.counts[PLACES] + need) >= len(work.place_found)
            or 2 * (work.counts[MEMOS] + need // SEVERAL) >= len(work.memo_key)
        ):  # fmt: skip
            return done, need
        _make_place(work, done)
        if not work.met[g]:
            work.met[g] = True
            work.counts[MET] += 1
        done += 1
    return done, 1


@compiled
def refill_places(found, keys, number):
    """Enter places into a table of another size."""
    mask = len(found) - 1
    for at in range(number):
        slot = np.int64(mixed(np.uint64(7), keys[at]) & np.uint64(mask))
        while found[slot] >= 0:
            slot = (slot + 1) & mask
        found[slot] = at


@compiled
def refill_memos(keys, states, costs, words, old_keys, old_states, old_costs, old_words):
    """Enter what is remembered into tables of another size."""
    mask = len(keys) - 1
    for at in range(len(old_keys)):
        if old_keys[at] < 0:
            continue
        slot = np.int64(mixed(np.uint64(3), old_keys[at]) & np.uint64(mask))
        while keys[slot] >= 0:
            slot = (slot + 1) & mask
        keys[slot] = old_keys[at]
        states[slot] = old_states[at]
        costs[slot] = old_costs[at]
        words[slot] = old_words[at]
