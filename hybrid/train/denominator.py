"""From an acceptor of phone sequences to a graph over pdfs; the denominator of LF-MMI is that of the phone LM.

Equals Kaldi's chain/chain-den-graph.cc (CreateDenominatorGraph: phone LM, composed with C, then H with
self-loops at transition_scale = self_loop_scale = 1, epsilons removed), but built directly. The network
topology has one state a phone; with p_forward and p_loop its transition probabilities, an instance of phone
p of n frames weighs p_loop^(n-1) p_forward and emits the entry pdf in its first frame and the loop pdf in
the others. So a state of the graph is "inside an instance of a phone", known by

    s   the state of the phone LM after that phone
    h   the phones that the next instance sees to its left (as many as the tree's window holds)
    r   the phone to the right where the window is that wide (0: the end): guessed here, required of the next arc
    (entry, loop) the pdfs of this instance.

Two instances that agree in these have the same future and the same emissions, and are one state: left
contexts that the tree does not tell apart, and that the phone LM has forgotten, are merged at once. The arc
into a state carries the phone LM's weight, p_forward, and the entry pdf; a loop carries p_loop and the loop
pdf. The same construction serves the numerators, so that numerator and denominator weigh a path alike.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np

from hybrid.errors import GraphError, ModelError
from hybrid.train.fsa import NEG_INF, Fsa, PhoneAcceptor

Phones = Tuple[int, ...]


class PhonePdfs:
    """The senones as the graphs need them: window of phones -> (entry pdf, loop pdf, log p_forward, log p_loop).

    `senones` has .transition_model and .ctx_dep (of kaldi-hmm-gmm) and .num_pdfs. Only topologies of one
    state a phone are taken; others raise ModelError.
    """

    def __init__(self, senones: Any) -> None:
        model = senones.transition_model
        self._ctx_dep = senones.ctx_dep
        self.num_pdfs = int(senones.num_pdfs)
        self.width = int(self._ctx_dep.context_width)
        self.position = int(self._ctx_dep.central_position)
        if self.width - 1 - self.position > 1:
            raise ModelError(
                f"the tree looks {self.width - 1 - self.position} phones ahead",
                remedy="sequence training takes windows with at most one phone to the right: build such a tree",
            )
        log_probs = np.asarray(model.log_probs, dtype=np.float64)
        self._weights: Dict[Tuple[int, int, int], Tuple[float, float]] = {}
        loop: Dict[Tuple[int, int, int], float] = {}
        forward: Dict[Tuple[int, int, int], float] = {}
        # The library's tuples show their fields (phone, HMM state, forward pdf, loop pdf) only this way.
        tuples = [item.__getstate__() for item in model.tuples]
        id2state = model.id2state
        for tid in range(1, model.num_transition_ids + 1):
            phone, hmm_state, forward_pdf, loop_pdf = tuples[id2state[tid] - 1]
            if hmm_state != 0:
                raise ModelError(
                    f"phone {phone} has more than one HMM state",
                    remedy="sequence training takes the network topology (one state a phone)",
                )
            key = (phone, forward_pdf, loop_pdf)
            (loop if model.is_self_loop(tid) else forward)[key] = float(log_probs[tid])
        for key, weight in forward.items():
            self._weights[key] = (weight, loop.get(key, NEG_INF))
        self._pdfs_of: Dict[Phones, Tuple[int, int, float, float]] = {}

    def __call__(self, window: Phones) -> Tuple[int, int, float, float]:
        """Return (entry pdf, loop pdf, log p_forward, log p_loop) of a window of phones; 0 stands beyond an edge.

        Raises ModelError where the tree has no pdf for the window.
        """
        if window not in self._pdfs_of:
            pdfs = []
            for pdf_class in (0, 1):
                has_pdf, pdf = self._ctx_dep.compute(list(window), pdf_class)
                if not has_pdf:
                    raise ModelError(
                        f"the tree has no pdf for phones {list(window)}, pdf class {pdf_class}",
                        remedy="lexicon and tree differ: run the stages from the tree on again",
                    )
                pdfs.append(int(pdf))
            key = (window[self.position], pdfs[0], pdfs[1])
            if key not in self._weights:
                raise ModelError(
                    f"the transition model has no state for phone {key[0]} with pdfs {pdfs}",
                    remedy="transition model and tree differ: run the stages from the tree on again",
                )
            self._pdfs_of[window] = (pdfs[0], pdfs[1], *self._weights[key])
        return self._pdfs_of[window]


State = Tuple[int, Phones, int, int, int]  # (s, h, r, entry pdf, loop pdf)


def expand_with_states(acceptor: PhoneAcceptor, pdfs: PhonePdfs) -> Tuple[Fsa, List[State]]:
    """Return the graph over pdfs of the phone sequences of `acceptor`, and what each of its states stands for.

    State 0 is the start, before the first frame. Raises GraphError where no sequence is accepted.
    """
    ahead = pdfs.width - 1 - pdfs.position == 1

    def next_phones(state: int) -> List[int]:
        """What may stand to the right of a phone that leads to `state` of the acceptor; -1: need not be known."""
        if not ahead:
            return [-1]
        return list(acceptor.arcs[state]) + ([0] if acceptor.final[state] > NEG_INF else [])

    # The start has seen nothing. Where the tree looks ahead, the first phone is free: no r is required of it.
    begin: State = (0, (0,) * pdfs.position, -1, -1, -1)
    number = {begin: 0}
    states = [begin]
    loop_weights: List[float] = []  # of states 1, 2, ...
    arcs: List[Tuple[int, int, int, float]] = []
    final: Dict[int, float] = {}
    for source, (lm_state, history, required, _, loop_pdf) in enumerate(states):  # grows while it is walked
        if source > 0 and loop_weights[source - 1] > NEG_INF:
            arcs.append((source, source, loop_pdf, loop_weights[source - 1]))
        if required <= 0 and acceptor.final[lm_state] > NEG_INF:
            final[source] = acceptor.final[lm_state]
        if required == 0:
            continue
        for phone, (to, weight) in acceptor.arcs[lm_state].items():
            if required > 0 and phone != required:
                continue
            for right in next_phones(to):
                window = (*history, phone, right) if ahead else (*history, phone)
                entry_pdf, loop_pdf_to, forward_weight, loop_weight = pdfs(window)
                next_history = (*history, phone)[-pdfs.position :] if pdfs.position else ()
                state: State = (to, next_history, right, entry_pdf, loop_pdf_to)
                if state not in number:
                    number[state] = len(states)
                    states.append(state)
                    loop_weights.append(loop_weight)
                arcs.append((source, number[state], entry_pdf, weight + forward_weight))
    if not final:
        raise GraphError("no phone sequence is accepted", remedy="train the phone LM again on the same alignments")
    return Fsa.from_lists(arcs, {0: 0.0}, final), states


def expand(acceptor: PhoneAcceptor, pdfs: PhonePdfs) -> Fsa:
    """Return the graph of `expand_with_states` alone, checked and without dead ends."""
    return expand_with_states(acceptor, pdfs)[0].connect().check(pdfs.num_pdfs)


def make_denominator(phone_lm: PhoneAcceptor, senones: Any) -> Fsa:
    """Make the denominator graph: all phone sequences with the probabilities of the phone LM, through C and H.

    Raises ModelError where the tree does not cover a window or the topology is not the network's.
    """
    return expand(phone_lm, PhonePdfs(senones))


def average_start(fsa: Fsa, num_frames: int = 100) -> np.ndarray:
    """Return log weights [states] of starting anywhere: the average of the state probabilities of the first frames.

    Kaldi's DenominatorGraph::SetInitialProbs: begin at the start state, walk `num_frames` steps without
    acoustics (each state's arcs and final probability made to sum to one, the mass of ended sequences put
    back by normalising), and average. For chunks that begin in the middle of an utterance, and as the
    distribution that the leaky HMM jumps to.
    """
    prob = np.exp(fsa.logw)
    total = np.bincount(fsa.src, weights=prob, minlength=fsa.num_states) + np.exp(fsa.final)
    prob = prob / total[fsa.src]
    current = np.exp(fsa.start)
    current = current / current.sum()
    mean = np.zeros(fsa.num_states)
    for _ in range(num_frames):
        mean += current / num_frames
        current = np.bincount(fsa.dst, weights=current[fsa.src] * prob, minlength=fsa.num_states)
        current = current / current.sum()
    with np.errstate(divide="ignore"):
        return np.log(mean / mean.sum())


def for_chunks(fsa: Fsa, num_frames: int = 100) -> Fsa:
    """Return the same graph for pieces of utterances: begins as `average_start`, may end in any state at no cost."""
    return Fsa(fsa.src, fsa.dst, fsa.pdf, fsa.logw, average_start(fsa, num_frames), np.zeros(fsa.num_states))


def describe(fsa: Fsa) -> str:
    """Describe a graph in one line for a log."""
    used = len(np.unique(fsa.pdf))
    return f"{fsa.num_states} states, {fsa.num_arcs} arcs, {used} pdfs used"
