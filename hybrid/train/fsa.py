"""Weighted acceptors as plain arrays: the graphs of sequence training.

Two kinds. An `Fsa` consumes one frame per arc and its labels are pdfs; numerators and denominators are of
this kind. A `PhoneAcceptor` consumes one phone per arc; phone language models and the possible phone
sequences of a transcript are of this kind. Neither has epsilon arcs. Weights are natural log
probabilities (larger is better), not costs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Dict, List, Optional, Tuple

import numpy as np

from hybrid.errors import GraphError
from hybrid.io import PathLike, load_tensors, save_tensors

NEG_INF = float("-inf")
_REMEDY = "run the stage that writes the graph again"


def _reachable(start: np.ndarray, src: np.ndarray, dst: np.ndarray) -> np.ndarray:
    """States that can be reached from `start` (bool [N]) along the arcs; bool [N]."""
    order = np.argsort(src, kind="stable")
    targets = dst[order]
    begin = np.searchsorted(src[order], np.arange(len(start) + 1))
    reached = start.copy()
    queue = deque(np.flatnonzero(start).tolist())
    while queue:
        state = queue.popleft()
        for target in targets[begin[state] : begin[state + 1]]:
            if not reached[target]:
                reached[target] = True
                queue.append(int(target))
    return reached


@dataclass(frozen=True)
class Fsa:
    """A graph over pdfs, one arc a frame.

    src, dst, pdf: int32 [arcs]; logw: float64 [arcs]; start, final: float64 [states], log weight of
    beginning and of ending in a state, -inf where that is not possible. The weight of a path of T arcs for
    the outputs x is  start + sum_t (logw(arc_t) + x[t, pdf(arc_t)]) + final.

    first, last: int32 [states] or None. Where given, a path may be in a state after t frames only if
    first <= t <= last: the tolerance window of a numerator made from an alignment. Such a graph fits
    utterances of last.max() frames alone.
    """

    src: np.ndarray
    dst: np.ndarray
    pdf: np.ndarray
    logw: np.ndarray
    start: np.ndarray
    final: np.ndarray
    first: Optional[np.ndarray] = None
    last: Optional[np.ndarray] = None

    @property
    def num_states(self) -> int:
        return len(self.start)

    @property
    def num_arcs(self) -> int:
        return len(self.src)

    @cached_property
    def min_frames(self) -> int:
        """The arcs of the shortest path from a start to a final state. Raises GraphError where there is none."""
        reached = np.isfinite(self.start)
        for frames in range(self.num_states + 1):
            if (reached & np.isfinite(self.final)).any():
                return frames
            after = reached.copy()
            after[self.dst[reached[self.src]]] = True
            if (after == reached).all():
                break
            reached = after
        raise GraphError("graph is empty: no path from start to end", remedy=_REMEDY)

    def problem(self, num_frames: int) -> Optional[str]:
        """Return why this graph does not accept `num_frames` frames, or None where it does (as far as lengths tell)."""
        if self.last is not None and self.last.max() != num_frames:
            return f"its numerator is for {self.last.max()} frames, it has {num_frames}"
        if num_frames < self.min_frames:
            return f"too short for its transcript: {num_frames} frames, at least {self.min_frames} are needed"
        return None

    def unroll(self) -> Fsa:
        """Return a graph of the same paths without windows: a state per (state, frame) that the windows allow."""
        if self.first is None or self.last is None:
            return self
        number: Dict[Tuple[int, int], int] = {}
        for state, (low, high) in enumerate(zip(self.first.tolist(), self.last.tolist(), strict=True)):
            for frame in range(low, high + 1):
                number[(state, frame)] = len(number)
        arcs = []
        for src, dst, pdf, weight in zip(self.src.tolist(), self.dst.tolist(), self.pdf.tolist(), self.logw.tolist(),
                                         strict=True):
            for frame in range(self.first[src], self.last[src] + 1):
                if (dst, frame + 1) in number:
                    arcs.append((number[(src, frame)], number[(dst, frame + 1)], pdf, weight))
        length = int(self.last.max())
        start = {number[(s, 0)]: self.start[s] for s in np.flatnonzero(np.isfinite(self.start)).tolist()}
        final = {
            number[(s, length)]: self.final[s]
            for s in np.flatnonzero(np.isfinite(self.final)).tolist() if (s, length) in number
        }
        return Fsa.from_lists(arcs, start, final).connect()

    def check(self, num_pdfs: int) -> Fsa:
        """Returns itself. Raises GraphError: no path, indices or labels out of range, weights not finite."""
        lengths = {len(self.src), len(self.dst), len(self.pdf), len(self.logw)}
        if len(lengths) > 1 or len(self.start) != len(self.final):
            raise GraphError("arrays of the graph differ in length", remedy=_REMEDY)
        for name, states in (("source", self.src), ("destination", self.dst)):
            if len(states) and (states.min() < 0 or states.max() >= self.num_states):
                raise GraphError(f"{name} of an arc is not one of the {self.num_states} states", remedy=_REMEDY)
        if len(self.pdf) and (self.pdf.min() < 0 or self.pdf.max() >= num_pdfs):
            raise GraphError(
                f"labels {self.pdf.min()} to {self.pdf.max()} in a graph for {num_pdfs} pdfs (0 to {num_pdfs - 1})",
                remedy="graph and network are of different trees: run the stages from the tree on again",
            )
        if not np.isfinite(self.logw).all():
            raise GraphError("weight of an arc is not finite", remedy=_REMEDY)
        ends = np.concatenate([self.start, self.final])
        if np.isnan(ends).any() or (ends == np.inf).any():
            raise GraphError("weight of a start or final state is not a number", remedy=_REMEDY)
        _ = self.min_frames  # raises where there is no path
        return self

    def on_paths(self) -> np.ndarray:
        """Find the states that lie on a path from start to end, bool [states]. Raises GraphError where none does."""
        keep = _reachable(np.isfinite(self.start), self.src, self.dst)
        keep &= _reachable(np.isfinite(self.final), self.dst, self.src)
        if not keep.any():
            raise GraphError("graph is empty: no path from start to end", remedy=_REMEDY)
        return keep

    def connect(self) -> Fsa:
        """Keep only the states that lie on a path from start to end, in their order.

        Raises GraphError where none does.
        """
        keep = self.on_paths()
        number = np.cumsum(keep, dtype=np.int32) - 1
        arcs = keep[self.src] & keep[self.dst]
        return Fsa(
            number[self.src[arcs]].astype(np.int32),
            number[self.dst[arcs]].astype(np.int32),
            self.pdf[arcs],
            self.logw[arcs],
            self.start[keep],
            self.final[keep],
            None if self.first is None else self.first[keep],
            None if self.last is None else self.last[keep],
        )

    def save(self, path: PathLike) -> None:
        names = ("src", "dst", "pdf", "logw", "start", "final")
        save_tensors(path, {name: getattr(self, name) for name in names})

    @classmethod
    def load(cls, path: PathLike) -> Fsa:
        """Read a graph. Raises ModelError where the file is absent or broken, GraphError where an array is missing."""
        arrays = load_tensors(path)
        try:
            return cls(*(arrays[name] for name in ("src", "dst", "pdf", "logw", "start", "final")))
        except KeyError as error:
            raise GraphError(f"no array {error}", file=path, remedy=_REMEDY) from error

    @classmethod
    def from_lists(
        cls, arcs: List[Tuple[int, int, int, float]], start: Dict[int, float], final: Dict[int, float]
    ) -> Fsa:
        """Make a graph of arcs (src, dst, pdf, log weight); start and final: state -> log weight."""
        states = 1 + max([max(a[0], a[1]) for a in arcs] + list(start) + list(final), default=-1)
        columns = list(zip(*arcs, strict=True)) if arcs else [(), (), (), ()]
        first = np.full(states, NEG_INF)
        last = np.full(states, NEG_INF)
        first[list(start)] = list(start.values())
        last[list(final)] = list(final.values())
        return cls(
            np.asarray(columns[0], dtype=np.int32),
            np.asarray(columns[1], dtype=np.int32),
            np.asarray(columns[2], dtype=np.int32),
            np.asarray(columns[3], dtype=np.float64),
            first,
            last,
        )


@dataclass(frozen=True)
class PhoneAcceptor:
    """Deterministic acceptor of phone sequences; state 0 is the start.

    arcs[state]: phone -> (destination, log weight); final[state]: log weight or -inf.
    """

    arcs: List[Dict[int, Tuple[int, float]]]
    final: List[float]

    @property
    def num_states(self) -> int:
        return len(self.arcs)

    @property
    def num_arcs(self) -> int:
        return sum(len(leaving) for leaving in self.arcs)

    def score(self, phones: List[int]) -> float:
        """Return the log weight of one sequence, -inf where it is not accepted."""
        state, total = 0, 0.0
        for phone in phones:
            if phone not in self.arcs[state]:
                return NEG_INF
            state, weight = self.arcs[state][phone]
            total += weight
        return total + self.final[state]

    @classmethod
    def linear(cls, phones: List[int]) -> PhoneAcceptor:
        arcs: List[Dict[int, Tuple[int, float]]] = [{p: (i + 1, 0.0)} for i, p in enumerate(phones)]
        return cls([*arcs, {}], [NEG_INF] * len(phones) + [0.0])

    def intersect(self, other: PhoneAcceptor) -> PhoneAcceptor:
        """Return the acceptor of the sequences that both accept, weights added; only states on a path to an end.

        Raises GraphError where there is no such sequence. The product of deterministic acceptors is
        deterministic, so that no sequence is counted twice.
        """
        number: Dict[Tuple[int, int], int] = {(0, 0): 0}
        pairs = [(0, 0)]
        arcs: List[Dict[int, Tuple[int, float]]] = []
        final: List[float] = []
        for state, other_state in pairs:  # grows while it is walked
            final.append(self.final[state] + other.final[other_state])
            leaving = {}
            for phone, (to, weight) in self.arcs[state].items():
                if phone in other.arcs[other_state]:
                    to_other, weight_other = other.arcs[other_state][phone]
                    pair = (to, to_other)
                    if pair not in number:
                        number[pair] = len(pairs)
                        pairs.append(pair)
                    leaving[phone] = (number[pair], weight + weight_other)
            arcs.append(leaving)
        return PhoneAcceptor(arcs, final).connect()

    def connect(self) -> PhoneAcceptor:
        """Remove the states from which no end is reached (all are assumed reachable from the start)."""
        before: List[List[int]] = [[] for _ in self.arcs]
        for state, leaving in enumerate(self.arcs):
            for to, _ in leaving.values():
                before[to].append(state)
        queue = [state for state, weight in enumerate(self.final) if weight > NEG_INF]
        keep = set(queue)
        while queue:
            for state in before[queue.pop()]:
                if state not in keep:
                    keep.add(state)
                    queue.append(state)
        if 0 not in keep:
            raise GraphError("no phone sequence is accepted", remedy=_REMEDY)
        number = {state: i for i, state in enumerate(sorted(keep))}
        return PhoneAcceptor(
            [
                {phone: (number[to], weight) for phone, (to, weight) in self.arcs[state].items() if to in keep}
                for state in sorted(keep)
            ],
            [self.final[state] for state in sorted(keep)],
        )
