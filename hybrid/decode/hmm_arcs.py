"""Arcs of the HMMs of phones in their context, for a graph over pdf + 1 that is there already.

A state of the graph stands for: HMM state k was left for k'. Its self-loop is that of k (Kaldi's reordered graphs: a
state's loops follow the transition that leaves it), and what leaves it pays for k not looping. Costs are those of
hmm/graph.py: over the first frame of k -transition_scale * log P(k' | k, no loop), on loops -self_loop_scale * log
P(loop), on what leaves k -self_loop_scale * log(1 - P(loop)).
"""

from __future__ import annotations

import math
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.hmm.senones import Senones

NO_PHONE = 0  # in a window, before the first phone of an utterance


class Exit(NamedTuple):
    """A state in which an HMM has been left, and what leaving it costs on its arcs."""

    state: int
    cost: float


class HmmArcs:
    """arcs: (source, input label, output label, cost, target); states: used so far, `states` to begin with."""

    def __init__(self, states: int, senones: Senones, self_loop_scale: float, transition_scale: float) -> None:
        self.states, self.senones = states, senones
        self.loop_scale, self.scale = self_loop_scale, transition_scale
        self.width, self.central = senones.ctx_dep.context_width, senones.ctx_dep.central_position
        self.arcs: List[Tuple[int, int, int, float, int]] = []
        self.topology = {phone: entry.states for entry in senones.topology.entries for phone in entry.phones}
        first = {int(state): tid for tid, state in reversed(list(enumerate(senones.tid2state)))}
        self.tids = {tuple(item.__getstate__()): first[number]
                     for number, item in enumerate(senones.transition_model.tuples, 1)}  # fmt: skip
        self.log_probs = senones.log_probs.astype(np.float64)
        self.hmms: Dict[Tuple, Tuple[List[Tuple[int, float, int]], List[Exit]]] = {}

    def state(self) -> int:
        """Return a new state."""
        self.states += 1
        return self.states - 1

    def hmm(self, key: Tuple, window: Sequence[int]) -> Tuple[List[Tuple[int, float, int]], List[Exit]]:
        """Return the arcs that enter an HMM of its own, (label, cost, state), and its exits; one a key and pdfs."""
        phone = window[self.central]
        states = self.topology[phone]
        tree = self.senones.tree
        pdfs = [(tree.pdf(window, state.forward_class), tree.pdf(window, state.loop_class)) for state in states]
        full = (key, phone, tuple(pdfs))
        if full in self.hmms:
            return self.hmms[full]
        made: Dict[Tuple[int, int], Exit] = {}

        def step(number: int, onward: int) -> Exit:
            if (number, onward) not in made:
                state, leaving = self.state(), 0.0
                loop = next((k for k, (to, _) in enumerate(states[number].transitions) if to == number), None)
                if loop is not None:
                    log_prob = self.log_probs[self.tids[(phone, number, *pdfs[number])] + loop]
                    leaving = -self.loop_scale * math.log(max(-math.expm1(log_prob), 1e-10))
                    self.arcs.append((state, pdfs[number][1] + 1, 0, -self.loop_scale * log_prob, state))
                made[number, onward] = Exit(state, leaving)
                if onward < len(states):
                    for label, cost, target in steps(onward):
                        self.arcs.append((state, label, 0, leaving + cost, target))
            return made[number, onward]

        def steps(number: int) -> List[Tuple[int, float, int]]:
            """The arcs over the first frame of an HMM state, one for each state that may follow."""
            transitions = states[number].transitions
            begin = self.tids[(phone, number, *pdfs[number])]
            log_probs = {to: self.log_probs[begin + k] for k, (to, _) in enumerate(transitions) if to != number}
            total = np.logaddexp.reduce(list(log_probs.values()))
            return [(pdfs[number][0] + 1, -self.scale * (log_prob - total), step(number, to).state)
                    for to, log_prob in log_probs.items()]  # fmt: skip

        entered = steps(0)
        exits = [row for (_, onward), row in made.items() if onward == len(states)]
        self.hmms[full] = entered, exits
        return self.hmms[full]

    def enter(self, origins: Sequence[Exit], key: Tuple, window: Sequence[int]) -> List[Exit]:
        """Lead from origins through an HMM; return its exits."""
        entered, exits = self.hmm(key, window)
        for origin in origins:
            for label, cost, target in entered:
                self.arcs.append((origin.state, label, 0, origin.cost + cost, target))
        return exits

    def window(self, before: Sequence[int], phone: int, after: Sequence[int] = ()) -> List[int]:
        """Return the window of a phone after and before others, NO_PHONE where there are none."""
        left = [NO_PHONE] * self.width + list(before)
        right = list(after) + [NO_PHONE] * self.width
        return [*left[len(left) - self.central :], phone, *right[: self.width - self.central - 1]]
