"""Viterbi alignment of a chunk of utterances to their training graphs (Kaldi's gmm-align-compiled, steps/align_si.sh).

The search is exact (viterbi.py). An utterance of minutes, whose states times frames would not fit, is searched with a
beam by Kaldi's own decoder, and once more with a wider one where no path reached the end. Either way an utterance is
aligned alone: no result depends on what else is in the chunk, or on how many workers there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError
from hybrid.fst import ARC, FstArrays, from_arrays
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.graphs import Graphs
from hybrid.gmm.viterbi import shared_rows, viterbi
from hybrid.io import PathLike, load_tensors, save_tensors

LONG = 40_000_000  # states times frames beyond which the beam takes over: 160 MB, some ten minutes of speech
# Why an utterance is not aligned (Aligned.why).
NO_GRAPH, TOO_SHORT, OUTSIDE_BEAM, NOT_FINITE = 1, 2, 3, 4
_REASONS = {
    0: "no path through its words: the transcript is probably not what is said",  # of files that do not say why
    NO_GRAPH: "its transcript has no training graph",
    TOO_SHORT: "too short for its words",
    OUTSIDE_BEAM: "a recording this long is searched with a beam, and no path through its words lay within: search "
    "wider (--retry-beam, or gmm.retry_beam of a recipe), cut it at pauses, or compare speech and transcript",
    NOT_FINITE: "no path through its words has a finite likelihood: the features or the model are damaged",
}


@dataclass(frozen=True)
class AlignOptions:
    """Scales of Kaldi's training scripts (scale_opts), and the beams (beam, retry_beam) of very long utterances.

    retry_beam 0: no second search. Raises ConfigError for a beam that is not above 0, and a second one that is not
    above the first.
    """

    acoustic_scale: float = 0.1
    transition_scale: float = 1.0
    self_loop_scale: float = 0.1
    beam: float = 10.0
    retry_beam: float = 40.0

    def __post_init__(self) -> None:
        if not (self.beam > 0 and self.acoustic_scale > 0 and (self.retry_beam == 0 or self.retry_beam > self.beam)):
            raise ConfigError(
                f"acoustic scale {self.acoustic_scale}, beam {self.beam}, retry beam {self.retry_beam}",
                remedy="give a scale and a beam above 0, and a retry beam above the beam, or 0 for none",
            )


@dataclass
class Aligned:
    """Alignments of the utterances of a chunk.

    tids: int32, the transition ids of the aligned utterances, one after the other; lengths [n]: frames of each, 0 where
    it is not aligned; loglike [n] float32: score of the best path a frame, the scaled log transition probabilities over
    the acoustic scale included; retried: how many took the second beam; why [n] int8: what kept it from being aligned.
    """

    tids: np.ndarray
    lengths: np.ndarray
    loglike: np.ndarray
    retried: int = 0
    why: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))

    def __post_init__(self) -> None:
        if len(self.why) != len(self.lengths):
            self.why = np.zeros(len(self.lengths), np.int8)

    @classmethod
    def of(
        cls,
        paths: Sequence[Optional[np.ndarray]],
        loglike: np.ndarray,
        retried: int = 0,
        why: Sequence[int] = (),
    ) -> Aligned:
        aligned = [path for path in paths if path is not None]
        return cls(
            np.concatenate(aligned).astype(np.int32) if aligned else np.zeros(0, np.int32),
            np.array([0 if path is None else len(path) for path in paths], np.int64),
            np.asarray(loglike, np.float32),
            retried,
            np.asarray(why, np.int8),
        )

    def reason(self, number: int) -> str:
        """Says why an utterance is not aligned, and what to do about it."""
        return _REASONS[int(self.why[number])]

    def each(self) -> List[Optional[np.ndarray]]:
        """Returns the tids of each utterance [T], None where it is not aligned."""
        parts = np.split(self.tids, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []
        return [part if length else None for part, length in zip(parts, self.lengths.tolist(), strict=True)]

    def save(self, path: PathLike) -> None:
        numbers = {"tids": self.tids, "lengths": self.lengths, "loglike": self.loglike, "why": self.why}
        save_tensors(Path(path), {**numbers, "retried": np.array([self.retried])})

    @classmethod
    def load(cls, path: PathLike) -> Aligned:
        tensors = load_tensors(Path(path))
        try:
            why = tensors.get("why", np.zeros(0, np.int8))
            return cls(tensors["tids"], tensors["lengths"], tensors["loglike"], int(tensors["retried"][0]), why)
        except KeyError as error:
            raise DataError(
                f"not the alignments of a chunk: no {error}",
                file=path,
                remedy="delete its folder and run the stage again",
            ) from error


def align_chunk(
    features: np.ndarray,
    lengths: np.ndarray,
    graphs: Graphs,
    gmms: DiagGmms,
    tid2pdf: np.ndarray,
    costs: np.ndarray,
    options: AlignOptions,
    loglikes: Optional[np.ndarray] = None,
) -> Aligned:
    """Aligns the utterances of a chunk to their training graphs.

    features [N, D]: the frames of utterances of these lengths; costs: of transition ids, as of graphs.tid_costs.

    Utterances without a graph, and those shorter than its shortest path, are not aligned. loglikes [num_pdfs, N]:
    those of all pdfs, where a GPU has computed them.
    """
    ends = np.cumsum(lengths)
    paths: List[Optional[np.ndarray]] = [None] * len(lengths)
    loglike = np.zeros(len(lengths))
    why = np.zeros(len(lengths), np.int8)
    numbers, matrices, columns = [], [], []
    retried = 0
    for number, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist())):
        if graphs.start[number] < 0 or length < max(graphs.shortest[number], 1):
            why[number] = NO_GRAPH if graphs.start[number] < 0 else TOO_SHORT
            continue
        # Only the pdfs that the transcript can use are evaluated: some hundred of several thousand.
        pdfs, rows = shared_rows(graphs, number, tid2pdf)
        frames = slice(end - length, end)
        matrix = gmms.loglikes(features[frames], pdfs) if loglikes is None else loglikes[pdfs, frames]
        matrix *= np.float32(options.acoustic_scale)
        if (graphs.states[number + 1] - graphs.states[number]) * length > LONG:
            paths[number], loglike[number], again = beam_search(graphs, number, matrix, rows, costs, options)
            retried += again
            why[number] = OUTSIDE_BEAM if paths[number] is None else 0
        else:
            numbers.append(number)
            matrices.append(matrix)
            columns.append(rows)
    for number, path in zip(numbers, viterbi(graphs, numbers, matrices, columns, costs)):
        if path is not None:
            paths[number] = path.tids
            loglike[number] = path.score / options.acoustic_scale / lengths[number]
        else:
            why[number] = NOT_FINITE
    return Aligned.of(paths, loglike, retried, why.tolist())


def beam_search(
    graphs: Graphs, number: int, loglikes: np.ndarray, rows: np.ndarray, costs: np.ndarray, options: AlignOptions
) -> Tuple[Optional[np.ndarray], float, int]:
    """Aligns one utterance with a beam: returns (tids [T] or None, log-likelihood a frame, 1 if retried).

    loglikes [K, T], scaled; rows: that of each arc.

    Kaldi's FasterDecoder. The graph that it gets reads the number of an arc's transition id within the graph.
    """
    import kaldi_hmm_gmm as khg

    arcs = slice(*graphs.arcs[number : number + 2])
    tids, first, labels = np.unique(graphs.tid[arcs], return_index=True, return_inverse=True)
    order = np.argsort(graphs.source[arcs], kind="stable")
    graph_arcs = np.zeros(len(order), ARC)
    graph_arcs["ilabel"] = labels.reshape(-1)[order] + 1
    graph_arcs["weight"] = (graphs.weight[arcs] + costs[graphs.tid[arcs]])[order]
    graph_arcs["nextstate"] = graphs.target[arcs][order]
    final = graphs.final[slice(*graphs.states[number : number + 2])]
    offsets = np.r_[0, np.cumsum(np.bincount(graphs.source[arcs], minlength=len(final)))]
    fst = from_arrays(FstArrays(int(graphs.start[number]), final, offsets, graph_arcs))
    decodable = khg.DecodableCtc(np.ascontiguousarray(loglikes[rows[first]].T))
    done, failed, retried, loglike, frames, path, _words = khg.align_utterance_wrapper(
        khg.AlignConfig(beam=options.beam, retry_beam=options.retry_beam, careful=False),
        str(number),
        options.acoustic_scale,
        fst,
        decodable,
        0,
        0,
        0,
        0.0,
        0,
    )
    if failed or not done or len(path) != loglikes.shape[1]:
        return None, 0.0, int(retried)
    return tids[np.asarray(path) - 1].astype(np.int32), float(loglike) / max(frames, 1), int(retried)


def equal_alignments(graphs: Graphs, lengths: np.ndarray, seed: int) -> Aligned:
    """Returns a random path through each graph, self-loops shared out equally: the flat start (Kaldi's align-equal)."""
    import kaldifst

    paths: List[Optional[np.ndarray]] = []
    for number, length in enumerate(lengths.tolist()):
        path = None
        if graphs.start[number] >= 0 and length >= graphs.shortest[number]:
            ok, path_fst = kaldifst.equal_align(graphs.fst(number), length, rand_seed=seed + number)
            labels = kaldifst.get_linear_symbol_sequence(path_fst)[1] if ok else []
            path = np.asarray(labels, np.int32) if len(labels) == length else None
        paths.append(path)
    return Aligned.of(paths, np.zeros(len(paths)))
