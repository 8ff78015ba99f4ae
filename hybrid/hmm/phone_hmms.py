"""HMMs of phones as parts of a decoding graph: transition ids, costs, and the loops that follow them.

A state stands for: HMM state k was left for k'. Its self-loop is that of k (Kaldi's reordered graphs: a state's loops
follow the transition that leaves it), and what leaves it pays for k not looping. Costs are those of hmm/graph.py: over
the first frame of k -transition_scale * log P(k' | k, no loop), on loops -self_loop_scale * log P(loop), on what leaves
k -self_loop_scale * log(1 - P(loop)).
"""

from __future__ import annotations

import math
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.hmm.senones import Senones

Pdfs = Tuple[Tuple[int, int], ...]  # (forward, self-loop) of each HMM state


class Step(NamedTuple):
    """An arc over one frame: its transition id, its cost, and the number of the state that it leads to."""

    tid: int
    cost: float
    target: int


class HmmState(NamedTuple):
    """loop: the transition id of the self-loop, 0 where there is none; leaving: added to what leaves; steps: to other
    states, without `leaving`; ends: whether the phone ends here."""

    loop: int
    loop_cost: float
    leaving: float
    steps: Tuple[Step, ...]
    ends: bool


class PhoneHmm(NamedTuple):
    """enter: the arcs that begin the phone."""

    enter: Tuple[Step, ...]
    states: Tuple[HmmState, ...]


class PhoneHmms:
    """Makes the HMMs of phones with the pdfs of a context, each once."""

    def __init__(self, senones: Senones, transition_scale: float, self_loop_scale: float) -> None:
        self.scale, self.loop_scale = transition_scale, self_loop_scale
        self.topology = {phone: entry.states for entry in senones.topology.entries for phone in entry.phones}
        first = {int(state): tid for tid, state in reversed(list(enumerate(senones.tid2state)))}
        self._tids = {tuple(item.__getstate__()): first[number]
                      for number, item in enumerate(senones.transition_model.tuples, 1)}  # fmt: skip
        self._log_probs = senones.log_probs.astype(np.float64)
        self._hmms: Dict[Tuple[int, Pdfs], PhoneHmm] = {}

    def hmm(self, phone: int, pdfs: Sequence[Tuple[int, int]]) -> PhoneHmm:
        """Return the HMM of a phone; pdfs: (forward, self-loop) of each of its states."""
        key = phone, tuple(pdfs)
        if key not in self._hmms:
            self._hmms[key] = self._made(*key)
        return self._hmms[key]

    def _made(self, phone: int, pdfs: Pdfs) -> PhoneHmm:
        states = self.topology[phone]
        ways: List[Tuple[int, int]] = []  # (left, for which) of each state of the graph

        def way(left: int, onward: int) -> int:
            if (left, onward) not in ways:
                ways.append((left, onward))
            return ways.index((left, onward))

        def steps(number: int) -> Tuple[Step, ...]:
            begin = self._tids[(phone, number, *pdfs[number])]
            leaving = {to: begin + k for k, (to, _) in enumerate(states[number].transitions) if to != number}
            total = np.logaddexp.reduce([self._log_probs[tid] for tid in leaving.values()])
            return tuple(Step(tid, -self.scale * (self._log_probs[tid] - total), way(number, to))
                         for to, tid in leaving.items())  # fmt: skip

        enter, made = steps(0), []
        for left, onward in ways:  # grows on the way
            loops = [k for k, (to, _) in enumerate(states[left].transitions) if to == left]
            loop, log_prob, leaving = 0, 0.0, 0.0
            if loops:
                loop = self._tids[(phone, left, *pdfs[left])] + loops[0]
                log_prob = float(self._log_probs[loop])
                leaving = -self.loop_scale * math.log(max(-math.expm1(log_prob), 1e-10))
            ends = onward == len(states)
            made.append(HmmState(loop, -self.loop_scale * log_prob, leaving, () if ends else steps(onward), ends))
        return PhoneHmm(enter, tuple(made))
