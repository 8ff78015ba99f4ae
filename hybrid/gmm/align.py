"""Viterbi alignment of utterances to their training graphs, with a wider beam for those that fail.

Matches Kaldi's gmm-align-compiled (steps/align_si.sh): transition probabilities enter a copy of each graph
with their scales, the best path is searched with `beam`, and once more with `retry_beam` where no path
reached the end. Utterances are aligned in chunks over an Executor; the result does not depend on how many
workers there are, because each utterance is aligned alone.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError
from hybrid.fst import from_bytes, to_arrays, to_bytes
from hybrid.gmm.diag import DiagGmms
from hybrid.hmm.senones import Senones


@dataclass(frozen=True)
class AlignOptions:
    """Scales and beams of Kaldi's training scripts (scale_opts, beam, retry_beam); retry_beam 0: no second search.

    Raises ConfigError for a beam that is not above 0, and a second one that is not above the first.
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


@dataclass(frozen=True)
class UtteranceGraph:
    """A training graph without transition probabilities: OpenFst's bytes, and the tids that it uses."""

    data: bytes
    tids: np.ndarray

    @classmethod
    def from_fst(cls, fst: Any) -> UtteranceGraph:
        labels = np.unique(to_arrays(fst).arcs["ilabel"])
        return cls(to_bytes(fst), labels[labels > 0])

    def fst(self) -> Any:
        return from_bytes(self.data)


@dataclass
class Alignments:
    """`tids`: id -> [T] int32; `failed`: ids that no path fits; `retried`: searches that took the second beam.

    `loglike`: id -> score of the best path a frame: log-likelihood, and the scaled log transition probabilities
    over the acoustic scale.
    """

    tids: Dict[str, np.ndarray] = field(default_factory=dict)
    loglike: Dict[str, float] = field(default_factory=dict)
    failed: List[str] = field(default_factory=list)
    retried: int = 0

    @property
    def frames(self) -> int:
        return sum(map(len, self.tids.values()))


def align(
    ids: Sequence[str],
    features: Mapping[str, np.ndarray],
    graphs: Mapping[str, UtteranceGraph],
    gmms: DiagGmms,
    senones: Senones,
    options: AlignOptions = AlignOptions(),
    executor: Optional[Executor] = None,
    chunk: int = 60,
) -> Alignments:
    """Aligns each utterance; those that fail are named in `failed`, not raised."""
    jobs = []
    for begin in range(0, len(ids), chunk):
        some = ids[begin : begin + chunk]
        jobs.append(([(i, features[i], graphs[i]) for i in some], gmms, senones, options))
    results = map(_align_chunk, jobs) if executor is None else executor.map(_align_chunk, jobs)
    out = Alignments()
    for rows, retried in results:
        out.retried += retried
        for identifier, tids, loglike in rows:
            if tids is None:
                out.failed.append(identifier)
            else:
                out.tids[identifier] = tids
                out.loglike[identifier] = loglike
    return out


def _align_chunk(
    job: Tuple[List[Tuple[str, np.ndarray, UtteranceGraph]], DiagGmms, Senones, AlignOptions],
) -> Tuple[List[Tuple[str, Optional[np.ndarray], float]], int]:
    utterances, gmms, senones, options = job
    rows = []
    retried = 0
    for identifier, features, graph in utterances:
        # Only the pdfs that the transcript can use are evaluated: some hundred of several thousand.
        pdfs, column = np.unique(senones.tid2pdf[graph.tids], return_inverse=True)
        loglikes = np.zeros((len(features), senones.num_tids), dtype=np.float32)
        loglikes[:, graph.tids - 1] = gmms.loglikes(features, pdfs)[column.reshape(-1)].T
        tids, loglike, again = viterbi(identifier, graph.fst(), loglikes, senones, options)
        retried += again
        rows.append((identifier, tids, loglike))
    return rows, retried


def viterbi(
    identifier: str, fst: Any, loglikes: np.ndarray, senones: Senones, options: AlignOptions
) -> Tuple[Optional[np.ndarray], float, int]:
    """loglikes [T, num_tids] float32 (column tid - 1) -> (tids [T] or None, log-likelihood a frame, retried)."""
    import kaldi_hmm_gmm as khg

    khg.add_transition_probs(
        trans_model=senones.transition_model,
        transition_scale=options.transition_scale,
        self_loop_scale=options.self_loop_scale,
        fst=fst,
    )
    # The library looks labels up in the matrix without a check: its width is num_tids by construction here.
    decodable = khg.DecodableCtc(loglikes * np.float32(options.acoustic_scale))
    done, failed, retried, loglike, frames, tids, _words = khg.align_utterance_wrapper(
        khg.AlignConfig(beam=options.beam, retry_beam=options.retry_beam, careful=False),
        identifier,
        options.acoustic_scale,
        fst,
        decodable,
        0,
        0,
        0,
        0.0,
        0,
    )
    if failed or not done or len(tids) != len(loglikes):
        return None, 0.0, int(retried)
    return np.asarray(tids, dtype=np.int32), float(loglike) / max(frames, 1), int(retried)


def equal_alignments(
    ids: Sequence[str], frames: Mapping[str, int], graphs: Mapping[str, UtteranceGraph]
) -> Alignments:
    """The flat start: a random path through each graph, self-loops shared out equally (Kaldi's align-equal)."""
    import kaldifst

    out = Alignments()
    for number, identifier in enumerate(ids):
        fst = graphs[identifier].fst()
        ok, path = kaldifst.equal_align(fst, frames[identifier], rand_seed=number)
        labels = kaldifst.get_linear_symbol_sequence(path)[1] if ok else []
        if len(labels) != frames[identifier]:
            out.failed.append(identifier)
        else:
            out.tids[identifier] = np.asarray(labels, dtype=np.int32)
            out.loglike[identifier] = 0.0
    return out
