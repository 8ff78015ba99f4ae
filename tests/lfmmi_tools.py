"""Small graphs, trees and slow second implementations for the tests of sequence training."""

from __future__ import annotations

import itertools
from typing import Dict, List, Optional, Tuple

import numpy as np

from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import network_topology
from hybrid.hmm.tree import Leaf, Split, Table, Tree
from hybrid.train.fsa import Fsa, PhoneAcceptor
from hybrid.train.phone_lm import train_phone_lm

PHONES = (1, 2, 3, 4)  # 1: silence


def random_tree(rng: np.random.Generator, width: int, position: int, num_phones: int = len(PHONES)) -> Tree:
    """Every phone and pdf class splits on one neighbour, if there is one; some on both."""
    count = itertools.count()
    others = [key for key in range(width) if key != position]

    def node(keys: List[int]):
        if not keys:
            return Leaf(next(count))
        values = tuple(sorted(rng.choice(num_phones + 1, 2, replace=False).tolist()))
        return Split(keys[0], values, node(keys[1:]), Leaf(next(count)))

    phones = [Table(-1, [node(others), node(others[::-1])]) for _ in range(num_phones)]
    return Tree(Table(position, [None, *phones]), width, position)


def small_senones(width: int = 1, position: int = 0, seed: int = 0, num_phones: int = len(PHONES)) -> Senones:
    phones = list(range(1, num_phones + 1))
    tree = random_tree(np.random.default_rng(seed), width, position, num_phones)
    return Senones(network_topology(phones), tree, {f"p{phone}": phone for phone in phones})


def random_sequences(rng: np.random.Generator, count: int = 12, num_phones: int = len(PHONES)) -> Dict[str, List[int]]:
    """Utterances of "words" of a small vocabulary, with silence at both ends."""
    words = [rng.integers(2, num_phones + 1, rng.integers(1, 4)).tolist() for _ in range(5)]
    return {
        f"u{i}": [1, *itertools.chain(*(words[k] for k in rng.integers(0, 5, rng.integers(1, 4)))), 1]
        for i in range(count)
    }


def random_fsa(rng: np.random.Generator, states: int, arcs: int, num_pdfs: int) -> Fsa:
    """May have several starts, parallel arcs and loops; always accepts any length (state 0 loops)."""
    src, dst = rng.integers(0, states, (2, arcs))
    start = np.where(rng.random(states) < 0.3, rng.normal(size=states), -np.inf)
    final = np.where(rng.random(states) < 0.3, rng.normal(size=states), -np.inf)
    start[0], final[0] = -0.5, 0.25
    src[0] = dst[0] = 0
    return Fsa(
        src.astype(np.int32),
        dst.astype(np.int32),
        rng.integers(0, num_pdfs, arcs).astype(np.int32),
        rng.normal(size=arcs) - 1.0,
        start,
        final,
    )


def brute_force(fsa: Fsa, x: np.ndarray, leak: Optional[np.ndarray] = None) -> Tuple[float, np.ndarray]:
    """log Z and posteriors [T, num_pdfs] by writing out every path. leak: eps pi [states]: before an arc a path may
    jump to any state j, with weight leak[j]."""
    weights, shares = [], np.zeros_like(x)
    paths = [(np.exp(fsa.start[s]), s, ()) for s in range(fsa.num_states) if np.isfinite(fsa.start[s])]
    for _ in range(len(x)):
        if leak is not None:
            paths += [(w * leak[j], j, arcs) for w, _, arcs in paths for j in range(fsa.num_states) if leak[j] > 0]
        paths = [
            (w * np.exp(fsa.logw[a] + x[len(arcs), fsa.pdf[a]]), int(fsa.dst[a]), (*arcs, a))
            for w, s, arcs in paths
            for a in np.flatnonzero(fsa.src == s)
            if fsa.first is None or fsa.first[fsa.dst[a]] <= len(arcs) + 1 <= fsa.last[fsa.dst[a]]
        ]
    for weight, state, arcs in paths:
        if np.isfinite(fsa.final[state]):
            weights.append(weight * np.exp(fsa.final[state]))
            for t, arc in enumerate(arcs):
                shares[t, fsa.pdf[arc]] += weights[-1]
    total = sum(weights)
    return float(np.log(total)) if total else float("-inf"), shares / total if total else shares


def small_language() -> Tuple[Senones, np.random.Generator, Dict[str, List[int]], PhoneAcceptor]:
    """Senones of left biphones, a generator, phone sequences drawn from it, and their trigram."""
    senones = small_senones(2, 1)
    rng = np.random.default_rng(0)
    sequences = random_sequences(rng)
    return senones, rng, sequences, train_phone_lm(sequences, order=3)
