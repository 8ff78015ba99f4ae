"""Numerator graphs of LF-MMI: the paths of one utterance that count as correct.

A numerator must be contained in the denominator: every path of it is a path of the denominator with the same
weight, so that num - den <= 0 whatever the outputs. That holds here because both are made by the same steps:
a deterministic acceptor of phone sequences, times the phone LM, expanded by denominator.expand. Lexicon and
silence probabilities must not enter: they are no part of the denominator. (With them, or with a phone
sequence accepted twice, the objective can rise while the word error rate rises too.)

Three kinds: from the words (all pronunciations, optional silence around every word; Kaldi's end-to-end
recipe), from a phone sequence (one pronunciation, any time), and from an alignment with a tolerance in
frames (Kaldi's chain-get-supervision).
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import DataError, GraphError
from hybrid.train.denominator import PhonePdfs, expand, expand_with_states
from hybrid.train.fsa import NEG_INF, Fsa, PhoneAcceptor


def words_acceptor(
    pronunciations: Sequence[Sequence[Sequence[int]]], optional_silence: Optional[int]
) -> PhoneAcceptor:
    """Make the acceptor of the phone sequences of a transcript.

    pronunciations: for every word of the transcript, the phone ids of each of its pronunciations.
    Accepts every choice of them, with `optional_silence` (if any) at most once before, between and after.
    Deterministic: two ways to read the same phones are one sequence here. Weights are 0.
    """
    # Nondeterministic states: (word, pronunciation, phones done) inside a word; (word, -1, 0) before a word,
    # (word, -1, 1) before it and after its silence.
    Item = Tuple[int, int, int]
    count = len(pronunciations)

    def close(items: List[Item]) -> FrozenSet[Item]:
        """With the beginnings of the pronunciations that may follow, and without what is done."""
        closed = set()
        for word, choice, num_done in items:
            if choice >= 0 and num_done == len(pronunciations[word][choice]):
                word, choice, num_done = word + 1, -1, 0
            closed.add((word, choice, num_done))
            if choice == -1 and word < count:
                closed.update((word, i, 0) for i in range(len(pronunciations[word])))
        return frozenset(closed)

    start = close([(0, -1, 0)])
    number = {start: 0}
    subsets = [start]
    arcs: List[Dict[int, Tuple[int, float]]] = []
    for subset in subsets:  # grows while it is walked
        moves: Dict[int, List[Item]] = {}
        for word, choice, num_done in sorted(subset):
            if choice >= 0:
                moves.setdefault(pronunciations[word][choice][num_done], []).append((word, choice, num_done + 1))
            elif num_done == 0 and optional_silence is not None:
                moves.setdefault(optional_silence, []).append((word, -1, 1))
        leaving = {}
        for phone, items in moves.items():
            after = close(items)
            if after not in number:
                number[after] = len(subsets)
                subsets.append(after)
            leaving[phone] = (number[after], 0.0)
        arcs.append(leaving)
    final = [0.0 if any(item[:2] == (count, -1) for item in subset) else NEG_INF for subset in subsets]
    return PhoneAcceptor(arcs, final)


class Numerators:
    """Makes the numerator graphs for one phone LM and one tree.

    lang: needed by from_words alone: .word_names (id -> name), .pronunciation_ids(name), .phones (name ->
    id), .optional_silence (name).
    """

    def __init__(self, phone_lm: PhoneAcceptor, senones: Any, lang: Any = None) -> None:
        self.phone_lm = phone_lm
        self.pdfs = PhonePdfs(senones)
        self._lang = lang
        self._pronunciations: Dict[int, List[List[int]]] = {}
        self._names: Dict[int, str] = {} if lang is None else dict(lang.word_names)

    def _times_lm(self, acceptor: PhoneAcceptor, utterance: Optional[str]) -> PhoneAcceptor:
        try:
            return acceptor.intersect(self.phone_lm)
        except GraphError as error:
            raise DataError(
                "the phone LM covers none of the utterance's phone sequences",
                utterance=utterance,
                remedy='train the phone LM on its alignment too, or with smoothing = "interpolated" (or leave it out)',
            ) from error

    def from_words(self, word_ids: Sequence[int], utterance: Optional[str] = None) -> Fsa:
        """Make the numerator of a transcript.

        Raises DataError for an empty transcript, a word without pronunciation, or phones not covered.
        """
        if not len(word_ids):
            raise DataError("transcript is empty", utterance=utterance, remedy="leave the utterance out")
        for word in word_ids:
            if word not in self._pronunciations:
                pronunciations = self._lang.pronunciation_ids(self._names[word]) if word in self._names else []
                if not pronunciations:
                    raise DataError(
                        f"word {self._names.get(word, word)} has no pronunciation",
                        utterance=utterance,
                        remedy="add it to the lexicon and run the stages from lang on again",
                    )
                # Equal pronunciations would be found equal again in every utterance.
                self._pronunciations[word] = [list(p) for p in sorted({tuple(p) for p in pronunciations})]
        silence = self._lang.phones[self._lang.optional_silence]
        acceptor = words_acceptor([self._pronunciations[word] for word in word_ids], silence)
        return expand(self._times_lm(acceptor, utterance), self.pdfs)

    def from_phones(self, phones: Sequence[int], utterance: Optional[str] = None) -> Fsa:
        """Make the numerator of a phone sequence.

        Raises DataError where the sequence is empty or the phone LM does not cover it.
        """
        return expand(self._times_lm(self._linear(phones, utterance), utterance), self.pdfs)

    def from_alignment(
        self, phones: Sequence[int], durations: Sequence[int], tolerance: int = 1, utterance: Optional[str] = None
    ) -> Fsa:
        """Make the numerator of an alignment; it fits an utterance of sum(durations) frames alone.

        durations: frames of each phone at the network's rate; tolerance: frames that a phone may begin earlier or end
        later.
        Raises DataError where phones and durations do not fit or the phone LM does not cover the phones.
        """
        first, last = alignment_windows(phones, durations, tolerance, utterance)
        linear = self._times_lm(self._linear(phones, utterance), utterance)
        graph, _ = expand_with_states(linear, self.pdfs)  # states 0 (before), 1 (first phone), ...
        return Fsa(
            graph.src,
            graph.dst,
            graph.pdf,
            graph.logw,
            graph.start,
            graph.final,
            first,
            last,
        )

    def _linear(self, phones: Sequence[int], utterance: Optional[str]) -> PhoneAcceptor:
        if not len(phones):
            raise DataError("phone sequence is empty", utterance=utterance, remedy="align the utterance again")
        return PhoneAcceptor.linear([int(phone) for phone in phones])


def alignment_windows(
    phones: Sequence[int], durations: Sequence[int], tolerance: int, utterance: Optional[str] = None
) -> Tuple[np.ndarray, np.ndarray]:
    """Return frames (first, last), int32 [phones + 1], after which a path may be before the phones and in each of them.

    Raises DataError where phones and durations do not fit.
    """
    if not len(phones):
        raise DataError("phone sequence is empty", utterance=utterance, remedy="align the utterance again")
    if len(durations) != len(phones) or min(durations) < 1 or tolerance < 0:
        raise DataError(
            f"{len(phones)} phones, {len(durations)} durations, tolerance {tolerance}",
            utterance=utterance,
            remedy="give one duration of at least a frame for every phone and a tolerance of 0 or more",
        )
    ends = np.cumsum(durations)
    # After t frames in phone i: its frames are t-1 and before, and all lie in [begin - tol, end + tol).
    first = np.concatenate([[0], np.maximum(ends - durations - tolerance, 0) + 1])
    last = np.concatenate([[0], np.minimum(ends + tolerance, ends[-1])])
    return first.astype(np.int32), last.astype(np.int32)


def check_length(graph: Fsa, num_frames: int, utterance: Optional[str] = None) -> None:
    """Raises DataError where the graph cannot accept so many frames; to be asked before training."""
    problem = graph.problem(num_frames)
    if problem:
        raise DataError(problem, utterance=utterance, remedy="leave it out, or mend its transcript or audio")
