"""LF-MMI on pieces of utterances: the graphs of frames begin .. end of an utterance, with its boundaries handled right.

The denominator of a piece may begin in any state and end in any (denominator.for_chunks): with pi the average state
probabilities of the denominator, a path from state j weighs pi(j) more. A piece's numerator holds the paths of the
utterance's alignment within its tolerance, cut at both ends. For its paths to be among the denominator's with the same
weights, a path that begins in state i of the numerator must weigh pi(j) more, j the state of the denominator that i is.
That is known: a state of either graph is (state of the phone LM, left phones, right phone, pdfs), and the phone LM is
deterministic, so that the phones before i tell its state.

Two states of the numerator can be one of the denominator: the same phones said twice. If a piece could begin in both, a
path of the denominator would be counted twice. Then only the one begins that the alignment itself is in, or else the
first. From one state on, a path of the denominator reads phones and so has one path in the numerator: num <= den holds.

Kaldi's chain-split and NormalizationFst do the same by composition: its denominator of a chunk begins with the average
state probabilities too, and ends anywhere.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError
from hybrid.train.denominator import PhonePdfs, State, expand_with_states, for_chunks
from hybrid.train.fsa import NEG_INF, Fsa, PhoneAcceptor
from hybrid.train.numerator import alignment_windows


def split(num_frames: int, chunk: int) -> List[Tuple[int, int]]:
    """Return pieces (begin, end) of at most `chunk` frames and nearly equal length, which cover the utterance once."""
    if chunk < 1:
        raise ConfigError(f"chunks of {chunk} frames", remedy="1 or more network frames, e.g. 150")
    count = max(1, -(-num_frames // chunk))
    bounds = [round(i * num_frames / count) for i in range(count + 1)]
    return list(zip(bounds[:-1], bounds[1:]))


class Chunks:
    """For one phone LM and one tree: numerators, and the `denominator` of every piece (and of whole utterances)."""

    def __init__(self, phone_lm: PhoneAcceptor, senones: Any) -> None:
        self.phone_lm = phone_lm
        self.pdfs = PhonePdfs(senones)
        graph, states = expand_with_states(phone_lm, self.pdfs)
        keep = graph.on_paths()
        states_on_paths = [state for state, on_path in zip(states, keep.tolist()) if on_path]
        self._number: Dict[State, int] = {state: index for index, state in enumerate(states_on_paths)}
        self.denominator = for_chunks(graph.connect().check(self.pdfs.num_pdfs))

    def numerator(
        self,
        phones: Sequence[int],
        durations: Sequence[int],
        begin: int,
        end: int,
        *,
        tolerance: int = 1,
        utterance: Optional[str] = None,
    ) -> Fsa:
        """Return the numerator of frames begin .. end of the utterance with this alignment.

        The rest is as in Numerators.from_alignment.
        Raises DataError where phones, durations and frames do not fit or the phone LM does not cover the phones.
        """
        first, last = alignment_windows(phones, durations, tolerance, utterance)
        total = int(last[-1])
        if not 0 <= begin < end <= total:
            remedy = "cut within the alignment, or align the utterance again"
            raise DataError(f"frames {begin} to {end} of {total}", utterance=utterance, remedy=remedy)
        linear, lm_states = self._along(phones, utterance)
        graph, states = expand_with_states(linear, self.pdfs)
        start = np.full(graph.num_states, NEG_INF)
        begin_states: Dict[int, int] = {}
        aligned = int(np.searchsorted(np.cumsum(durations), begin - 1, side="right")) + 1 if begin else 0
        for index in np.flatnonzero((first <= begin) & (last >= begin)).tolist():
            place, *context = states[index]
            den_state = self._number[(lm_states[place], *context)]  # type: ignore[arg-type, index]
            if den_state not in begin_states or index == aligned:
                begin_states[den_state] = index
        for den_state, index in begin_states.items():
            start[index] = self.denominator.start[den_state]
        cut_first = np.maximum(first - begin, 0).astype(np.int32)
        cut_last = np.minimum(last - begin, end - begin).astype(np.int32)
        final = np.where((first <= end) & (last >= end), 0.0, NEG_INF)
        # States outside the piece: their windows are empty, connect() takes those away that lead nowhere.
        inside = cut_first <= cut_last
        arcs = inside[graph.src] & inside[graph.dst]
        piece = Fsa(
            graph.src[arcs], graph.dst[arcs], graph.pdf[arcs], graph.logw[arcs], start, final, cut_first, cut_last
        )  # fmt: skip
        return piece.connect()

    def _along(self, phones: Sequence[int], utterance: Optional[str]) -> Tuple[PhoneAcceptor, List[int]]:
        """The phones with the weights of the phone LM, and its state before each and after the last."""
        state, arcs, states = 0, [], [0]
        for index, phone in enumerate(map(int, phones)):
            if phone not in self.phone_lm.arcs[state]:
                break
            state, weight = self.phone_lm.arcs[state][phone]
            arcs.append({phone: (index + 1, weight)})
            states.append(state)
        if len(arcs) < len(phones) or self.phone_lm.final[state] == NEG_INF:
            raise DataError(
                "the phone LM does not cover the utterance's phones",
                utterance=utterance,
                remedy='train the phone LM on its alignment too, or with smoothing = "interpolated" (or leave it out)',
            )
        return PhoneAcceptor([*arcs, {}], [NEG_INF] * len(arcs) + [self.phone_lm.final[state]]), states
