"""Small phone sets, random trees, random walks and slow second implementations for the tests of HMMs and Gaussians."""

from __future__ import annotations

import itertools
from typing import List, Optional, Sequence, Tuple

import numpy as np

from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import Topology, bootstrap_topology, network_topology
from hybrid.hmm.tree import Leaf, Node, Split, Table, Tree

SILENCE = (1,)
PHONES = (1, 2, 3, 4, 5)
NAMES = {f"p{phone}": phone for phone in PHONES}


def topology(kind: str = "bootstrap") -> Topology:
    if kind == "bootstrap":
        return bootstrap_topology(PHONES[1:], SILENCE)
    return network_topology(PHONES)


def random_tree(rng: np.random.Generator, topo: Topology, width: int = 3, central: int = 1) -> Tree:
    """A table over the central phone, one over the class, then random splits; silence is not split.

    Some leaves share a pdf, and phones 4 and 5 share their whole root.
    """
    count = itertools.count()
    others = [key for key in range(width) if key != central]

    def node(depth: int) -> Node:
        if not depth or not others or rng.random() < 0.3:
            return Leaf(next(count))
        values = tuple(sorted(rng.choice(len(PHONES) + 1, rng.integers(1, 4), replace=False).tolist()))
        yes, no = node(depth - 1), node(depth - 1)
        if isinstance(yes, Leaf) and isinstance(no, Split) and isinstance(no.no, Leaf) and rng.random() < 0.5:
            no.no = Leaf(yes.pdf)
        return Split(int(rng.choice(others)), values, yes, no)

    classes = topo.num_classes
    roots: List[Optional[Node]] = [None]
    for phone in PHONES[:-1]:
        depth = 0 if phone in SILENCE else 3
        roots.append(Table(-1, [node(depth) for _ in range(classes[phone])]))
    roots.append(roots[-1])
    tree_root = Table(central, roots)
    return Tree(_renumbered(tree_root), width, central)


def _renumbered(root: Node) -> Node:
    """The same with pdfs 0 .. n-1 (sharing a pdf leaves gaps); a root that two phones share stays one object."""
    numbers: dict = {}
    done: dict = {}

    def walk(node):
        if node is None:
            return None
        if id(node) not in done:
            if isinstance(node, Leaf):
                done[id(node)] = Leaf(numbers.setdefault(node.pdf, len(numbers)))
            elif isinstance(node, Split):
                done[id(node)] = Split(node.key, node.values, walk(node.yes), walk(node.no))
            else:
                done[id(node)] = Table(node.key, [walk(child) for child in node.children])
        return done[id(node)]

    return walk(root)


def random_senones(seed: int, kind: str = "bootstrap", width: int = 3, central: int = 1) -> Senones:
    rng = np.random.default_rng(seed)
    topo = topology(kind)
    senones = Senones(topo, random_tree(rng, topo, width, central), NAMES)
    senones.update_transitions(np.r_[0.0, rng.integers(5, 60, senones.num_tids)])
    return senones


def random_phones(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.r_[1, rng.integers(1, len(PHONES) + 1, max(count - 2, 0)), 1][:count].astype(np.int32)


def window(phones: Sequence[int], place: int, width: int, central: int, context_free: Sequence[int]) -> List[int]:
    """The phones around one place, one by one."""
    if phones[place] in context_free:
        return [int(phones[place]) if k == central else 0 for k in range(width)]
    return [
        int(phones[place + k - central]) if 0 <= place + k - central < len(phones) else 0 for k in range(width)
    ]


def random_walk(
    senones: Senones, phones: Sequence[int], rng: np.random.Generator, context_free: Sequence[int] = SILENCE
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tids [T], frames of each phone [n], pdfs [T]) of a random passage through the states of `phones`.

    Looks up every transition id by its phone, state, pdfs and place among the arcs of the topology.
    """
    tuples = {tuple(item.__getstate__()): number for number, item in enumerate(senones.transition_model.tuples, 1)}
    states_of = {phone: entry.states for entry in senones.topology.entries for phone in entry.phones}
    tree = senones.tree
    tids: List[int] = []
    pdfs: List[int] = []
    durations: List[int] = []
    for place, phone in enumerate(phones):
        around = window(phones, place, tree.context_width, tree.central_position, context_free)
        states = states_of[int(phone)]
        state, begin = 0, len(tids)
        while state < len(states):
            forward = tree.pdf(around, states[state].forward_class)
            loop = tree.pdf(around, states[state].loop_class)
            number = tuples[(int(phone), state, forward, loop)]
            first = next(t for t in range(1, senones.num_tids + 1) if senones.tid2state[t] == number)
            arcs = [to for to, _ in states[state].transitions]
            leave = int(rng.choice([index for index, to in enumerate(arcs) if to != state]))
            repeats = int(rng.choice([0, 0, 1, 3])) if state in arcs else 0
            tids += [first + leave] + [first + arcs.index(state)] * repeats
            pdfs += [forward] + [loop] * repeats
            state = arcs[leave]
        durations.append(len(tids) - begin)
    return np.array(tids, np.int32), np.array(durations, np.int32), np.array(pdfs, np.int32)
