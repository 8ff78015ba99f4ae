"""Training graphs of a chunk of utterances as flat arrays: what the batched search (viterbi.py) walks over.

A graph is kept without transition probabilities, which change with every pass: its arcs carry transition ids, and
`tid_costs` gives each its present cost. Epsilons and output labels are taken out once: an alignment's words are read
off its phones (lexicon/segment.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import kaldifst
import numpy as np

from hybrid.errors import DataError, GraphError
from hybrid.fst import from_arrays, to_arrays
from hybrid.hmm.graph import TrainingGraphs
from hybrid.hmm.senones import Senones
from hybrid.io import PathLike, load_tensors, save_tensors

NO_FRAMES = np.iinfo(np.int32).max


@dataclass
class Graphs:
    """Graphs of n utterances.

    states [n + 1], arcs [n + 1]: where each graph's begin; start [n]: its start state, within the graph; -1: no graph.
    source, target: int32 [A], states within the graph; tid: int32 [A]; weight: float32 [A], costs; final: float32
    [S], inf where not final; shortest: int32 [n], frames of the shortest path. A graph's arcs are sorted by target.
    """

    states: np.ndarray
    arcs: np.ndarray
    start: np.ndarray
    source: np.ndarray
    target: np.ndarray
    tid: np.ndarray
    weight: np.ndarray
    final: np.ndarray
    shortest: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def compile(
        cls, compiler: TrainingGraphs, texts: Sequence[str], ids: Sequence[str]
    ) -> Tuple[Graphs, Dict[str, str]]:
        """Compiles the graphs of transcripts.

        Returns them, and {id: reason} of transcripts without one (a word that the lexicon lacks, no word).
        """
        parts: List[Any] = []
        reasons: Dict[str, str] = {}
        for identifier, text in zip(ids, texts, strict=True):
            try:
                fst = compiler.compile(compiler.lang.word_ids(text, identifier), identifier)
                parts.append(_flat(fst))
            except (DataError, GraphError) as error:
                reasons[identifier] = str(error)
                parts.append(None)
        return cls._join(parts), reasons

    @classmethod
    def from_fsts(cls, fsts: Sequence[kaldifst.StdVectorFst]) -> Graphs:
        return cls._join([_flat(fst) for fst in fsts])

    @classmethod
    def _join(cls, parts: Sequence[Any]) -> Graphs:
        no_graph: Any = (-1, *(np.zeros(0, np.int32) for _ in range(3)), *(np.zeros(0, np.float32) for _ in range(2)))
        rows: List[Any] = [no_graph if part is None else part for part in parts]
        source, target, tid, weight, final = (
            np.concatenate([row[i] for row in (no_graph, *rows)]) for i in range(1, 6)
        )
        return cls(
            states=np.r_[0, np.cumsum([len(row[5]) for row in rows])].astype(np.int64),
            arcs=np.r_[0, np.cumsum([len(row[1]) for row in rows])].astype(np.int64),
            start=np.array([row[0] for row in rows], np.int32),
            source=source,
            target=target,
            tid=tid,
            weight=weight,
            final=final,
            shortest=np.array([_shortest(*row) for row in rows], np.int32),
        )

    def fst(self, number: int) -> kaldifst.StdVectorFst:
        """Returns one graph as an FST, for other programs."""
        from hybrid.fst import ARC, FstArrays

        arcs = slice(*self.arcs[number : number + 2])
        order = np.argsort(self.source[arcs], kind="stable")
        graph_arcs = np.zeros(len(order), ARC)
        graph_arcs["ilabel"], graph_arcs["weight"] = self.tid[arcs][order], self.weight[arcs][order]
        graph_arcs["nextstate"] = self.target[arcs][order]
        final = self.final[slice(*self.states[number : number + 2])]
        offsets = np.r_[0, np.cumsum(np.bincount(self.source[arcs], minlength=len(final)))]
        return from_arrays(FstArrays(int(self.start[number]), final, offsets, graph_arcs))

    def save(self, path: PathLike) -> None:
        save_tensors(Path(path), {name: np.ascontiguousarray(value) for name, value in vars(self).items()})

    @classmethod
    def load(cls, path: PathLike) -> Graphs:
        tensors = load_tensors(Path(path))
        try:
            return cls(**tensors)
        except TypeError as error:
            raise DataError(
                f"not the graphs of a chunk: {error}", file=path, remedy="delete it and run the stage again"
            ) from error


def _flat(fst: kaldifst.StdVectorFst) -> Tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """start, source, target, tid, weight by target, final; no epsilons."""
    arrays = to_arrays(fst)
    if (arrays.arcs["ilabel"] == 0).any():
        arrays.arcs["olabel"] = 0  # an epsilon is an arc without either label
        fst = from_arrays(arrays)  # not the caller's
        kaldifst.rmepsilon(fst)
        arrays = to_arrays(fst)
    order = np.argsort(arrays.arcs["nextstate"], kind="stable")
    arcs = arrays.arcs[order]
    return (
        arrays.start,
        arrays.sources[order],
        arcs["nextstate"].astype(np.int32),
        arcs["ilabel"].astype(np.int32),
        arcs["weight"].astype(np.float32),
        arrays.final,
    )


def _shortest(
    start: int, source: np.ndarray, target: np.ndarray, tid: np.ndarray, weight: np.ndarray, final: np.ndarray
) -> int:
    """Frames of the shortest path: states reached after 1, 2, ... arcs."""
    if start < 0:
        return NO_FRAMES
    visited = np.zeros(len(final), bool)
    front = np.zeros(len(final), bool)
    visited[start] = front[start] = True
    frames = 0
    while front.any():
        if np.isfinite(final[front]).any():
            return frames
        reached = np.zeros(len(final), bool)
        reached[target[front[source]]] = True
        front = reached & ~visited
        visited |= front
        frames += 1
    return NO_FRAMES


def tid_costs(senones: Senones, *, transition_scale: float, self_loop_scale: float) -> np.ndarray:
    """Returns what each transition id costs, float32 [num_tids + 1] (Kaldi's AddTransitionProbs).

    With the loop probability p of its state, a loop costs -self_loop_scale log p; another transition of probability
    q costs -transition_scale log(q / (1 - p)) - self_loop_scale log(1 - p).
    """
    log_probs = senones.log_probs.astype(np.float64)
    log_leave = np.zeros(senones.tid2state.max() + 1)
    loops = np.flatnonzero(senones.is_self_loop)
    log_leave[senones.tid2state[loops]] = np.log(np.maximum(1.0 - np.exp(log_probs[loops]), 1e-10))
    leave = log_leave[senones.tid2state]
    costs = np.where(
        senones.is_self_loop,
        -self_loop_scale * log_probs,
        -transition_scale * (log_probs - leave) - self_loop_scale * leave,
    )
    costs[0] = 0.0
    return costs.astype(np.float32)
