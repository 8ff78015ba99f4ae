"""Phrases that are worth more: a decoding graph composed with an automaton of phrases, without making it again.

A path whose words hold a phrase of weight w costs w less, once for each place where the phrase stands, and a path
without a whole phrase costs what it did. What a beginning of a phrase is lent and what a phrase wins is told by a trie
with nodes c (phrase_trie.py).

Where an utterance ends before the graph lets it, what the last words were lent is not taken back.

State s of the graph and node c make the state (s, c) of the result, (s, root) being s itself. An arc without a word
keeps c; one with a word moves on in the trie; every (s, c) but the root's has an epsilon arc to (s, fail(c)), which
stands for all other words. (As weights are above 0, a path that takes it too early costs no less than the one that does
not: the best path is exact, as with a language model's back-off arcs.) Of the product only that is made which matters:
(s, c) only where some arc with a word that goes on from c can be reached from s before any other word; from all
other states c goes back to fail(c) at once. So a phrase adds what lies between its words: the end of a word, the
states of the language model after it and the way through the tree of words to the next. Which words can be met from a
state is kept as twice 64 bits a state, a word being one bit of each (a Bloom filter), so that most of the tree is never
entered.
"""

from __future__ import annotations

import math
from typing import Iterable, Sequence, Tuple, cast

import numpy as np

from hybrid.compiled import compiled, inlined
from hybrid.decode.phrase_trie import phrase_trie
from hybrid.decode.search_graph import COST, ILABEL, NEXT, OLABEL, SearchGraph, depths

BAD, GOOD, OPEN = np.int8(1), np.int8(2), np.int8(3)  # of a pair (state, node); 0 where nobody has asked


class Booster:
    """Makes graphs in which phrases are worth more; what it knows of the graph is found once."""

    def __init__(self, graph: SearchGraph) -> None:
        self._graph = graph
        self._ahead = words_ahead(graph.first, graph.arcs)

    def graph(self, phrases: Iterable[Tuple[Sequence[int], float]], most_lent: float = math.inf) -> SearchGraph:
        """Return the graph with phrases, as of phrase_trie; its first states are those of the graph."""
        graph, trie = self._graph, phrase_trie(phrases, most_lent)
        bits = words_bits(trie.first, trie.word)
        begins = np.full(int(graph.arcs[OLABEL::4].max(initial=0)) + 2, -1, np.int64)
        words = trie.word[: trie.first[1]]
        known = words < len(begins)
        begins[words[known]] = np.flatnonzero(known)
        arcs, size = graph.arcs.copy(), 1 << max(12, len(trie.fail).bit_length() + 5)
        while True:
            arcs_out = np.empty(4 * 4 * size, np.uint32)
            first, epsilons = np.empty(size + 1, np.uint32), np.empty(size, np.uint32)
            count, used = compose(
                graph.first, graph.epsilons, graph.arcs, graph.costs, self._ahead, bits, begins, *trie, arcs,
                arcs.view(np.float32), np.zeros(16 * size, np.int64), np.zeros(16 * size, np.int8),
                np.zeros(16 * size, np.int64), np.empty(8 * size, np.int64), np.empty(size, np.int64), arcs_out,
                arcs_out.view(np.float32), first, epsilons,
            )  # fmt: skip
            if count >= 0:
                break
            size *= 4
        final = np.concatenate([graph.final, np.full(count, np.inf, np.float32)])
        first = np.concatenate([graph.first, first[1 : count + 1]])
        epsilons = np.concatenate([graph.epsilons, epsilons[:count]])
        arcs = np.concatenate([arcs, arcs_out[: 4 * used]])
        # going back leads to shorter beginnings, and the graph has no cycle of epsilons
        depth = cast(np.ndarray, depths(first, epsilons, arcs))
        return SearchGraph.of(graph.start, final, first, epsilons, arcs, depth)


@inlined
def _bit(word, number):
    """Return the one of 64 bits that stands for a word in the first or second set of bits."""
    mixed = np.uint64(word) * np.uint64(0x9E3779B97F4A7C15)
    return np.uint64(1) << (mixed >> np.uint64(58) if number == 0 else (mixed >> np.uint64(52)) & np.uint64(63))


@compiled
def words_bits(first, word):
    """Return the bits of the words after each node, uint64 [nodes, 2]."""
    bits = np.zeros((len(first) - 1, 2), np.uint64)
    for node in range(len(first) - 1):
        for place in range(first[node], first[node + 1]):
            bits[node, 0] |= _bit(word[place], 0)
            bits[node, 1] |= _bit(word[place], 1)
    return bits


@compiled
def words_ahead(first, arcs):
    """Return for each state the bits of the words that its paths can meet first, uint64 [states, 2]."""
    states = len(first) - 1
    ahead = np.zeros((states, 2), np.uint64)
    changed = True
    while changed:  # states are numbered much as they follow each other: few rounds backwards
        changed = False
        for state in range(states - 1, -1, -1):
            one, two = ahead[state, 0], ahead[state, 1]
            for arc in range(first[state], first[state + 1]):
                word, target = arcs[4 * arc + OLABEL], arcs[4 * arc + NEXT]
                one |= _bit(word, 0) if word else ahead[target, 0]
                two |= _bit(word, 1) if word else ahead[target, 1]
            if one != ahead[state, 0] or two != ahead[state, 1]:
                ahead[state, 0], ahead[state, 1] = one, two
                changed = True
    return ahead


@inlined
def _may_meet(state, node, ahead, bits):
    """Return whether a word that goes on from `node` may be met first from `state`."""
    return ahead[state, 0] & bits[node, 0] != 0 and ahead[state, 1] & bits[node, 1] != 0


@inlined
def _slot(key, keys):
    """Return the place of a pair in the hash table, its own or an empty one."""
    mask = np.uint64(len(keys) - 1)
    place = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & mask
    while keys[place] != 0 and keys[place] != key:
        place = (place + np.uint64(1)) & mask
    return np.int64(place)


@inlined
def _goes_on(word, node, trie_first, trie_word):
    """Return the place of a word among those after a node, -1 where it is none of them."""
    low, high = trie_first[node], trie_first[node + 1]
    while low < high:
        middle = (low + high) // 2
        if trie_word[middle] < word:
            low = middle + 1
        else:
            high = middle
    return low if low < trie_first[node + 1] and trie_word[low] == word else -1


@compiled
def _classify(state, node, states, first, arcs, ahead, bits, trie_first, trie_word, keys, status, region, used):
    """Find out whether a word that goes on from `node` can be met first from `state`, and with it all pairs on the way.
    Return the pairs in the hash table, `used` before; -1 where they do not fit."""
    count = 1
    key = node * states + state + 1
    place = _slot(key, keys)
    if keys[place] == 0:
        keys[place] = key
        used += 1
    status[place] = OPEN
    region[0] = key
    done = 0
    changed = False
    while done < count:
        key = region[done]
        done += 1
        current = (key - 1) % states
        for arc in range(first[current], first[current + 1]):
            word = arcs[4 * arc + OLABEL]
            if word and _goes_on(word, node, trie_first, trie_word) >= 0:
                status[_slot(key, keys)] = GOOD
                changed = True
                break
        if status[_slot(key, keys)] == GOOD:
            continue
        for arc in range(first[current], first[current + 1]):
            target = arcs[4 * arc + NEXT]
            if arcs[4 * arc + OLABEL] or not _may_meet(target, node, ahead, bits):
                continue
            other = node * states + target + 1
            place = _slot(other, keys)
            if keys[place] == 0:
                keys[place] = other
                used += 1
                if 2 * used > len(keys):
                    return -1
            changed |= status[place] == GOOD
            if status[place] == 0:
                status[place] = OPEN
                region[count] = other
                count += 1
                if count >= len(region):
                    return -1
    while changed:
        changed = False
        for number in range(count - 1, -1, -1):
            place = _slot(region[number], keys)
            if status[place] != OPEN:
                continue
            current = (region[number] - 1) % states
            for arc in range(first[current], first[current + 1]):
                target = arcs[4 * arc + NEXT]
                if arcs[4 * arc + OLABEL] or not _may_meet(target, node, ahead, bits):
                    continue
                if status[_slot(node * states + target + 1, keys)] == GOOD:
                    status[place] = GOOD
                    changed = True
                    break
    for number in range(count):
        place = _slot(region[number], keys)
        if status[place] == OPEN:
            status[place] = BAD
    return used


@compiled
def _pair(
    state, node, states, first, arcs, ahead, bits, trie_first, trie_word, keys, status, ids, region, used, made, count,
):  # fmt: skip
    """Return the result's state for a pair, -1 where nothing comes of it, and the pairs and states in use; -1 in place
    of the pairs where they do not fit."""
    if not _may_meet(state, node, ahead, bits):
        return -1, used, count
    key = node * states + state + 1
    place = _slot(key, keys)
    if status[place] == 0:
        used = _classify(
            state, node, states, first, arcs, ahead, bits, trie_first, trie_word, keys, status, region, used
        )
        if used < 0 or 2 * used > len(keys):
            return -1, -1, count
        place = _slot(key, keys)
    if status[place] != GOOD:
        return -1, used, count
    if ids[place] == 0:
        if count >= len(made):
            return -1, -1, count
        made[count] = key
        count += 1
        ids[place] = states + count - 1
    return ids[place], used, count


@compiled
def _back(
    state, node, cost, states, first, arcs, ahead, bits, trie_first, trie_word, fail, fail_cost, keys, status, ids,
    region, used, made, count,
):  # fmt: skip
    """Return the result's state for a pair, going back from nodes that nothing comes of, the cost with what that costs,
    and the pairs and states in use."""
    while node:
        made_state, used, count = _pair(
            state, node, states, first, arcs, ahead, bits, trie_first, trie_word, keys, status, ids, region, used,
            made, count,
        )  # fmt: skip
        if used < 0 or made_state >= 0:
            return made_state, cost, used, count
        cost += fail_cost[node]
        node = fail[node]
    return state, cost, used, count


@compiled
def compose(
    first, epsilons, arcs, costs, ahead, bits, begins, trie_first, trie_word, trie_node, trie_gain, fail, fail_cost,
    arcs_root, costs_root, keys, status, ids, region, made, out, out_costs, out_first, out_epsilons,
):  # fmt: skip
    """Lead the arcs of words that begin phrases into the trie (arcs_root), and make the states (s, c) with their arcs
    (out). Return how many states and arcs; -1 where they do not fit."""
    states = len(first) - 1
    old = len(arcs) // 4
    used = count = total = 0
    for arc in range(old):
        word = arcs[4 * arc + OLABEL]
        if word == 0 or begins[word] < 0:
            continue
        place = begins[word]
        target, cost, used, count = _back(
            np.int64(arcs[4 * arc + NEXT]), trie_node[place], costs[4 * arc + COST] - trie_gain[place], states, first,
            arcs, ahead, bits, trie_first, trie_word, fail, fail_cost, keys, status, ids, region, used, made, count,
        )  # fmt: skip
        if used < 0:
            return -1, 0
        arcs_root[4 * arc + NEXT] = target
        costs_root[4 * arc + COST] = cost
    out_first[0] = old
    done = 0
    while done < count:
        node, state = (made[done] - 1) // states, (made[done] - 1) % states
        if 4 * (total + 1 + first[state + 1] - first[state]) > len(out):
            return -1, 0
        target, cost, used, count = _back(
            state, fail[node], fail_cost[node], states, first, arcs, ahead, bits, trie_first, trie_word, fail,
            fail_cost, keys, status, ids, region, used, made, count,
        )  # fmt: skip
        if used < 0:
            return -1, 0
        out[4 * total + ILABEL], out[4 * total + OLABEL], out[4 * total + NEXT] = 0, 0, target
        out_costs[4 * total + COST] = cost
        total += 1
        out_epsilons[done] = old + total
        for arc in range(first[state], first[state + 1]):
            word = arcs[4 * arc + OLABEL]
            target, cost = np.int64(arcs[4 * arc + NEXT]), costs[4 * arc + COST]
            if word:
                place = _goes_on(word, node, trie_first, trie_word)
                if place < 0:
                    continue
                target, cost, used, count = _back(
                    target, trie_node[place], cost - trie_gain[place], states, first, arcs, ahead, bits, trie_first,
                    trie_word, fail, fail_cost, keys, status, ids, region, used, made, count,
                )  # fmt: skip
            else:
                target, used, count = _pair(
                    target, node, states, first, arcs, ahead, bits, trie_first, trie_word, keys, status, ids, region,
                    used, made, count,
                )  # fmt: skip
            if used < 0:
                return -1, 0
            if target < 0:
                continue
            out[4 * total + ILABEL], out[4 * total + OLABEL] = arcs[4 * arc + ILABEL], word
            out[4 * total + NEXT] = target
            out_costs[4 * total + COST] = cost
            total += 1
            if arc < epsilons[state]:
                out_epsilons[done] = old + total
        done += 1
        out_first[done] = old + total
    return count, total
