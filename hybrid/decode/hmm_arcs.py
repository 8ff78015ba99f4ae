"""Arcs of the HMMs of phones in their context (hmm/phone_hmms.py), for a graph over pdf + 1 that is there already."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence, Tuple

from hybrid.hmm.phone_hmms import PhoneHmms, Step
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
        self.loop_scale = self_loop_scale
        self.width, self.central = senones.ctx_dep.context_width, senones.ctx_dep.central_position
        self.arcs: List[Tuple[int, int, int, float, int]] = []
        self.phone_hmms = PhoneHmms(senones, transition_scale, self_loop_scale)
        self.hmms: Dict[Tuple, Tuple[List[Tuple[int, float, int]], List[Exit]]] = {}

    def state(self) -> int:
        """Return a new state."""
        self.states += 1
        return self.states - 1

    def hmm(self, key: Tuple, window: Sequence[int]) -> Tuple[List[Tuple[int, float, int]], List[Exit]]:
        """Return the arcs that enter an HMM of its own, (label, cost, state), and its exits; one a key and pdfs."""
        phone, tree = window[self.central], self.senones.tree
        pdfs = tuple((tree.pdf(window, state.forward_class), tree.pdf(window, state.loop_class))
                     for state in self.phone_hmms.topology[phone])  # fmt: skip
        full = (key, phone, pdfs)
        if full not in self.hmms:
            hmm = self.phone_hmms.hmm(phone, pdfs)
            states = [self.state() for _ in hmm.states]

            def arc(step: Step) -> Tuple[int, float, int]:
                return int(self.senones.tid2pdf[step.tid]) + 1, step.cost, states[step.target]

            for number, state in zip(states, hmm.states, strict=True):
                if state.loop:
                    label = int(self.senones.tid2pdf[state.loop]) + 1
                    self.arcs.append((number, label, 0, state.loop_cost, number))
                for label, cost, target in map(arc, state.steps):
                    self.arcs.append((number, label, 0, state.leaving + cost, target))
            ends = [(number, state) for number, state in zip(states, hmm.states, strict=True) if state.ends]
            exits = [Exit(number, state.leaving) for number, state in ends]
            self.hmms[full] = [arc(step) for step in hmm.enter], exits
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
