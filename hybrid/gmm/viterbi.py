"""The best path of many utterances at once, each through its own training graph: exact, without a beam.

Recursion. With d_t(s) the score of the best path that is in state s after t frames, d_0 = 0 at the start and -inf
elsewhere, and l_t(a) the scaled log-likelihood of frame t under the pdf of arc a less the arc's cost,

    d_t(s) = max over arcs a into s of  d_{t-1}(source(a)) + l_t(a),

and the score of the utterance is max over s of d_T(s) - final(s). The path is read backwards: at each frame the arc
whose sum equals d_t(s); only d is kept, for the arcs into one state are few and their sums quickly made again.

All graphs of a batch are one graph in parts, so that a frame of all utterances is one gather, one sum and one maximum.
Utterances are sorted by length: those that have ended are a suffix, which is cut off. Where the reference prunes
(Kaldi's FasterDecoder in gmm-align-compiled, beam 10 and once more 40), this does not need to: a training graph has
some hundred states. Time and memory are frames x states; for minutes of audio in one utterance the pruned search of
align.py takes over.

Precision: the best log-likelihood of each frame is taken off before the recursion and added to the score in float64,
so that float32 sums stay small.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hybrid.gmm.graphs import Graphs

CELLS = 8_000_000  # of d: 32 MB a batch


class Path(NamedTuple):
    """tids [T] int32, and the score: scaled log-likelihood less costs, natural log."""

    tids: np.ndarray
    score: float


def viterbi(
    graphs: Graphs,
    numbers: Sequence[int],
    loglikes: Sequence[np.ndarray],
    columns: Sequence[np.ndarray],
    costs: np.ndarray,
) -> List[Optional[Path]]:
    """Returns the best path of each utterance, None where its graph has none of that length.

    numbers: which graphs; loglikes: [K_i, T_i] float32, already scaled; columns: row of `loglikes` for each arc of the
    graph, in its order; costs [num_tids + 1]: of transition ids.
    """
    lengths = np.array([matrix.shape[1] for matrix in loglikes])
    order = np.argsort(-lengths, kind="stable")
    paths: List[Optional[Path]] = [None] * len(numbers)
    batch: List[int] = []
    states = 0
    for index in order:
        size = int(graphs.states[numbers[index] + 1] - graphs.states[numbers[index]])
        if batch and (states + size) * (lengths[batch[0]] + 1) > CELLS:
            _search(graphs, batch, numbers, loglikes, columns, costs, paths)
            batch, states = [], 0
        batch.append(int(index))
        states += size
    if batch:
        _search(graphs, batch, numbers, loglikes, columns, costs, paths)
    return paths


def _search(
    graphs: Graphs,
    batch: Sequence[int],
    numbers: Sequence[int],
    loglikes: Sequence[np.ndarray],
    columns: Sequence[np.ndarray],
    costs: np.ndarray,
    paths: List[Optional[Path]],
) -> None:
    """Searches one batch, longest first; writes into `paths`."""
    graph_of = np.array([numbers[i] for i in batch])
    lengths = np.array([loglikes[i].shape[1] for i in batch])
    num_states = graphs.states[graph_of + 1] - graphs.states[graph_of]
    num_arcs = graphs.arcs[graph_of + 1] - graphs.arcs[graph_of]
    state_at = np.r_[0, np.cumsum(num_states)]
    arcs = np.concatenate([np.arange(*graphs.arcs[g : g + 2]) for g in graph_of])
    shift = np.repeat(state_at[:-1], num_arcs)
    source, target = graphs.source[arcs] + shift, graphs.target[arcs] + shift
    tid = graphs.tid[arcs]
    arc_score = -(graphs.weight[arcs] + costs[tid])
    rows_at = np.r_[0, np.cumsum([len(loglikes[i]) for i in batch])]
    column = np.concatenate([columns[i] + rows_at[k] for k, i in enumerate(batch)])
    longest = int(lengths[0])
    emission = np.zeros((longest, rows_at[-1]), np.float32)
    offset = np.zeros(len(batch))
    for k, i in enumerate(batch):
        best = loglikes[i].max(0)
        offset[k] = best.sum(dtype=np.float64)
        emission[: lengths[k], rows_at[k] : rows_at[k + 1]] = (loglikes[i] - best).T

    total_states = int(state_at[-1])
    first = np.searchsorted(target, np.arange(total_states + 1))
    slots = _IncomingArcs.of(source, arc_score, column, first)
    score = np.full((longest + 1, total_states), -np.inf, np.float32)
    score[0, state_at[:-1] + graphs.start[graph_of]] = 0.0
    active = np.searchsorted(-lengths, -np.arange(1, longest + 1), side="right")  # utterances with t frames or more
    for t, end in enumerate(state_at[active].tolist()):
        slots.step(score[t], emission[t], end, score[t + 1])

    final = np.concatenate([graphs.final[slice(*graphs.states[g : g + 2])] for g in graph_of])
    state = np.full(len(batch), -1, np.int64)
    total = np.zeros(len(batch))
    for k in range(len(batch)):
        ends = score[lengths[k], state_at[k] : state_at[k + 1]] - final[state_at[k] : state_at[k + 1]]
        best_end = int(np.argmax(ends))
        if np.isfinite(ends[best_end]):
            state[k], total[k] = state_at[k] + best_end, ends[best_end]
    tids = _trace(state, lengths, score, source, first, tid, arc_score, column, emission)
    for k, i in enumerate(batch):
        if state[k] >= 0:
            paths[i] = Path(tids[: lengths[k], k].copy(), float(total[k] + offset[k]))


_WIDTH = 4  # arcs into most states: a loop and an entry or two


class _IncomingArcs:
    """Arcs by the state they enter: four slots for each state, side by side, and a list of those that exceed them.

    A maximum over four rows takes a fiftieth of the time of numpy's segmented maximum over segments this short.
    """

    def __init__(self, source, arc_score, column, extra, extra_heads, extra_states) -> None:
        self.source, self.arc_score, self.column = source, arc_score, column  # [4, states]; an empty slot scores -inf
        self.extra = extra  # (source, arc_score, column) of the others, by state
        self.extra_heads, self.extra_states = extra_heads, extra_states

    @classmethod
    def of(cls, source: np.ndarray, arc_score: np.ndarray, column: np.ndarray, first: np.ndarray) -> _IncomingArcs:
        degree = np.diff(first)
        slot = np.arange(len(source)) - np.repeat(first[:-1], degree)
        state = np.repeat(np.arange(len(degree)), degree)
        in_table = slot < _WIDTH
        shape = (_WIDTH, len(degree))
        tables: List[np.ndarray] = [
            np.zeros(shape, np.int64),
            np.full(shape, -np.inf, np.float32),
            np.zeros(shape, np.int64),
        ]
        for table, values in zip(tables, (source, arc_score, column)):
            table[slot[in_table], state[in_table]] = values[in_table]
        overflow = state[~in_table]
        heads = np.flatnonzero(np.r_[True, np.diff(overflow) > 0]) if len(overflow) else np.zeros(0, np.int64)
        extra = (source[~in_table], arc_score[~in_table], column[~in_table])
        return cls(tables[0], tables[1], tables[2], extra, heads, overflow[heads])

    def step(self, before: np.ndarray, emission: np.ndarray, end: int, after: np.ndarray) -> None:
        """One frame of the states up to `end`."""
        sums = before.take(self.source[:, :end])
        sums += emission.take(self.column[:, :end])
        sums += self.arc_score[:, :end]
        sums.max(axis=0, out=after[:end])
        last = int(np.searchsorted(self.extra_states, end))
        if last:
            span = slice(0, None if last == len(self.extra_heads) else int(self.extra_heads[last]))
            source, arc_score, column = (values[span] for values in self.extra)
            best = np.maximum.reduceat(before[source] + emission[column] + arc_score, self.extra_heads[:last])
            states = self.extra_states[:last]
            after[states] = np.maximum(after[states], best)


def _trace(
    state: np.ndarray,
    lengths: np.ndarray,
    score: np.ndarray,
    source: np.ndarray,
    first: np.ndarray,
    tid: np.ndarray,
    arc_score: np.ndarray,
    column: np.ndarray,
    emission: np.ndarray,
) -> np.ndarray:
    """[longest, utterances] tids, from the last frames back; all utterances of the batch in step."""
    degree = int(np.diff(first).max(initial=1))
    steps = np.arange(degree)
    tids = np.zeros((len(emission), len(state)), np.int32)
    at = state.copy()
    for t in range(len(emission) - 1, -1, -1):
        live = np.flatnonzero((lengths > t) & (state >= 0))
        begin = first[at[live]]
        arc = begin[:, None] + steps
        inside = arc < first[at[live] + 1][:, None]
        arc = np.where(inside, arc, begin[:, None])
        sums = score[t].take(source[arc]) + emission[t].take(column[arc]) + arc_score[arc]
        best = arc[np.arange(len(live)), np.argmax(np.where(inside, sums, -np.inf), axis=1)]
        tids[t, live] = tid[best]
        at[live] = source[best]
    return tids


def shared_rows(graphs: Graphs, number: int, tid2pdf: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the pdfs that a graph uses [K], and the row of each of its arcs among them."""
    pdfs, rows = np.unique(tid2pdf[graphs.tid[slice(*graphs.arcs[number : number + 2])]], return_inverse=True)
    return pdfs, rows.reshape(-1)
