"""The phone loop: a model of "any speech at all", made from alignments, which a word's score is compared with.

Its states are the HMM states k of the phones without context and without position marks. With c(k, p) the frames that
the alignments gave to state k under pdf p (a leaf of the tree, in some context),

    p(x | k) = sum_p c(k, p) / c(k) * p(x | p)

is the state's likelihood with the context taken out: a mixture of the mixtures. Transitions inside a phone are the
relative frequencies of its arcs over all contexts, phones follow each other by a bigram that is interpolated with the
unigram (Witten and Bell 1991), and every path begins and ends with whole phones. Counts are those of the training
alignments where the model keeps them, else of the corpus at hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from hybrid.errors import DataError, ModelError
from hybrid.hmm.alignment import phone_segments
from hybrid.hmm.senones import Senones
from hybrid.io import PathLike, load_tensors, save_tensors

MINUS_INFINITY = -1e30  # for what cannot be: finite, so that differences of two of them are no NaN


@dataclass
class LoopCounts:
    """Frames of every transition id [num_tids + 1]; phones that follow each other [N + 1, N] (row N: the first)."""

    tids: np.ndarray
    phones: np.ndarray
    names: List[str]

    @classmethod
    def zeros(cls, senones: Senones, base: Mapping[int, str]) -> LoopCounts:
        names = sorted({base[phone] for phone in senones.topology.phones})
        return cls(np.zeros(senones.num_tids + 1), np.zeros((len(names) + 1, len(names))), names)

    def add(self, tids: np.ndarray, senones: Senones, base: Mapping[int, str]) -> None:
        """Count one utterance."""
        self.tids += np.bincount(tids, minlength=len(self.tids))
        index = {name: number for number, name in enumerate(self.names)}
        sequence = [index[base[int(phone)]] for phone in phone_segments(tids, senones)[0]]
        np.add.at(self.phones, ([len(self.names), *sequence[:-1]], sequence), 1)

    def save(self, path: PathLike) -> None:
        tensors = {"tids": self.tids, "phones": self.phones}
        save_tensors(path, tensors, {"names": json.dumps(self.names, ensure_ascii=False)})

    @classmethod
    def load(cls, path: PathLike) -> LoopCounts:
        """Read what `save` wrote. Raises ModelError for a file that holds something else."""
        from safetensors import safe_open

        tensors = load_tensors(path)
        try:
            with safe_open(str(path), "numpy") as file:
                return cls(tensors["tids"], tensors["phones"], json.loads(file.metadata()["names"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not the counts of a phone loop: {error!r}", file=path, remedy="delete it") from error


@dataclass
class PhoneLoop:
    """`names` [N]; states of phone n: first[n] .. first[n + 1] - 1, entered at the first of them; natural logs.

    mixture [K, num_pdfs] (rows sum to 1), inside [K, K] log transitions within a phone, leave [K] log probability of
    leaving the phone, start [N] and follow [N, N] the phone bigram.
    """

    names: List[str]
    first: np.ndarray
    mixture: np.ndarray
    inside: np.ndarray
    leave: np.ndarray
    start: np.ndarray
    follow: np.ndarray
    _matrix: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        phone = np.repeat(np.arange(len(self.names)), np.diff(self.first))
        matrix = np.exp(self.inside)
        matrix[:, self.first[:-1]] += np.exp(self.leave)[:, None] * np.exp(self.follow)[phone]
        self._matrix = matrix

    @property
    def num_states(self) -> int:
        return int(self.first[-1])

    @property
    def matrix(self) -> np.ndarray:
        """The matrix [K, K] of all transitions of the loop as probabilities, those from phone to phone included."""
        return self._matrix

    @classmethod
    def from_counts(cls, counts: LoopCounts, senones: Senones, base: Mapping[int, str]) -> PhoneLoop:
        """Estimate the loop from counts. Raises ModelError where the counts are of other senones.

        `base`: phone id -> name without position mark.
        """
        if len(counts.tids) != senones.num_tids + 1 or counts.names != sorted(set(base.values())):
            raise ModelError("the counts of the phone loop are of another model", remedy="delete them")
        names = counts.names
        states = {
            base[phone]: entry.states for entry in senones.topology.entries for phone in entry.phones
        }
        first = np.r_[0, np.cumsum([len(states[name]) for name in names])]
        offsets = {name: int(first[number]) for number, name in enumerate(names)}
        size = int(first[-1])
        mixture = np.zeros((size, senones.num_pdfs))
        arcs = np.zeros((size, size + 1))  # the last column: out of the phone
        for name in names:
            for number, state in enumerate(states[name]):
                if state.forward_class != state.loop_class:
                    raise ModelError("a phone loop needs states of one pdf class", remedy="use the model of a GMM")
                for target, prob in state.transitions:
                    column = size if target == len(states[name]) else offsets[name] + target
                    arcs[offsets[name] + number, column] += prob  # as many counts as one visit gives
        firsts: Dict[int, int] = {}
        for tid in range(1, senones.num_tids + 1):
            firsts.setdefault(int(senones.tid2state[tid]), tid)
        for tid in range(1, senones.num_tids + 1):
            name, number = base[int(senones.tid2phone[tid])], int(senones.tid2hmm_state[tid])
            mixture[offsets[name] + number, senones.tid2pdf[tid]] += counts.tids[tid] + 1e-3
            target = states[name][number].transitions[tid - firsts[int(senones.tid2state[tid])]][0]
            column = size if target == len(states[name]) else offsets[name] + target
            arcs[offsets[name] + number, column] += counts.tids[tid]
        mixture /= mixture.sum(1, keepdims=True)
        arcs /= arcs.sum(1, keepdims=True)
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(arcs), MINUS_INFINITY)
        start, follow = _bigram(counts.phones)
        return cls(names, first, mixture, logs[:, :-1], logs[:, -1], start, follow)

    def loglikes(self, loglikes: np.ndarray) -> np.ndarray:
        """Return the log-likelihoods of the loop's states [T, K] float64 from those of pdfs `loglikes` [T, num_pdfs].

        They are floored 600 below the frame's best.
        """
        best = loglikes.max(1, keepdims=True).astype(np.float64)
        return best + np.log(np.maximum(np.exp(loglikes - best) @ self.mixture.T, 1e-260))

    def phones(self, names: Sequence[str]) -> List[int]:
        """Return the numbers of phones by their names. Raises DataError for one that the model lacks."""
        index = {name: number for number, name in enumerate(self.names)}
        unknown_phones = [name for name in names if name not in index]
        if unknown_phones:
            what = f"the model has no phone {unknown_phones[0]}"
            raise DataError(what, remedy="use the lexicon that it was trained with")
        return [index[name] for name in names]


def _bigram(counts: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """counts [N + 1, N], the last row of first phones -> log start [N], log follow [N, N].

    P(b | a) = (c(a, b) + n(a) P(b)) / (c(a) + n(a)), n(a) the number of different phones seen after a; the start is
    the unigram, because a word may begin anywhere.
    """
    unigram = counts.sum(0) + 1.0
    unigram /= unigram.sum()
    rows = counts[:-1]
    kinds = np.maximum((rows > 0).sum(1, keepdims=True), 1)
    follow = (rows + kinds * unigram) / (rows.sum(1, keepdims=True) + kinds)
    return np.log(unigram), np.log(follow)
