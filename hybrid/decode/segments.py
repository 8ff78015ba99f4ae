"""Speech without end, cut into utterances: at endpoints, where a sentence is over, and at pauses of what goes on.

At an *endpoint* the speaker has ended: the search ends as the grammar lets a sentence end, and begins anew. The rules
are Kaldi's (OnlineEndpointConfig), and sherpa's. What they do not end is cut after `longest` seconds at the last pause,
or where there is none after twice as many anywhere: then the search goes on (running_search.py), and the words are
those that it would have found without a cut.

Rules are looked at every STEP frames of speech, so that results do not depend on the pieces in which speech comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from hybrid.decode.decoder import Decoder
from hybrid.decode.lattice import Lattice
from hybrid.decode.running_search import RunningSearch
from hybrid.decode.search import RawLattice, SearchOptions
from hybrid.errors import ConfigError
from hybrid.hmm.senones import Senones
from hybrid.lexicon.lang import Lang

STEP = 10  # frames


class Rule(NamedTuple):
    """An utterance is over where all of it holds. trailing_silence, utterance_length: at least, seconds; relative_cost:
    what the best path that may end here costs more than the best path, at most; needs_words: some were said."""

    needs_words: bool
    trailing_silence: float
    relative_cost: float = float("inf")
    utterance_length: float = 0.0


RULES = (Rule(False, 5.0), Rule(True, 0.5, 2.0), Rule(True, 1.0, 8.0), Rule(True, 2.0))  # Kaldi's rules 1 to 4


@dataclass(frozen=True)
class Endpointing:
    """rules: an endpoint is where any of them holds; none: no endpoint. longest: seconds after which speech is cut at
    its last pause; pause: of how many seconds."""

    rules: Tuple[Rule, ...] = RULES
    longest: float = 20.0
    pause: float = 0.2

    def __post_init__(self) -> None:
        if not (self.longest > 0 and self.pause > 0):
            raise ConfigError(
                f"longest {self.longest}, pause {self.pause}", remedy="give seconds above 0; 20 and 0.2 are usual"
            )


@dataclass(frozen=True)
class Segment:
    """A part of the speech. begin: frames before it; loglikes: its own, [frames, num_pdfs]; lattice: None where no path
    leads through it; endpoint: whether it ends as a sentence does, and not with a cut."""

    begin: int
    loglikes: np.ndarray
    lattice: Optional[Lattice]
    endpoint: bool


class Partial(NamedTuple):
    """agreed: word ids that will not change; rest: word ids after them, which may."""

    agreed: List[int]
    rest: List[int]


def silence_pdfs(senones: Senones, lang: Lang) -> np.ndarray:
    """Return bool [num_pdfs]: the pdfs that silence phones have, and no others."""
    silences = [lang.phones[name] for name in lang.silence_phones]
    is_silence = np.isin(senones.tid2phone[1:], silences)
    silent = np.zeros(senones.num_pdfs, np.bool_)
    silent[senones.tid2pdf[1:][is_silence]] = True
    silent[senones.tid2pdf[1:][~is_silence]] = False
    return silent


class Segmenter:
    """Decodes one stream of log-likelihoods.

    silent: silence_pdfs; frame_shift: seconds. Not to be shared by threads; the graph of the decoder may be.
    """

    def __init__(
        self, decoder: Decoder, silent: np.ndarray, frame_shift: float, acoustic_scale: float,
        endpointing: Optional[Endpointing] = None, lattice_beam: float = SearchOptions.lattice_beam,
    ) -> None:  # fmt: skip
        self.endpointing = endpointing or Endpointing()
        self._decoder, self._silent, self._scale, self._shift = decoder, silent, acoustic_scale, frame_shift
        self._search: RunningSearch = decoder.running(lattice_beam)
        self._waiting = np.zeros((0, len(silent)), np.float32)  # less than STEP frames
        self._rows: List[np.ndarray] = []  # of the frames since the last cut
        self.begin = 0  # frames before the search's frame 0

    @property
    def frames(self) -> int:
        """Frames decoded, of all segments."""
        return self.begin + self._search.frames

    def accept(self, loglikes: np.ndarray) -> List[Segment]:
        """Decode more frames, [frames, num_pdfs]; return the segments that are over."""
        self._waiting = np.concatenate([self._waiting, loglikes])
        segments: List[Segment] = []
        while len(self._waiting) >= STEP:
            segments += self._step(self._waiting[:STEP])
            self._waiting = self._waiting[STEP:]
        return segments

    def finish(self) -> List[Segment]:
        """Decode what is left, and end the speech; return its last segments. The next speech can then be given."""
        segments = self._step(self._waiting) if len(self._waiting) else []
        self._waiting = self._waiting[:0]
        if self._search.frames:
            segments.append(self._ended(self._search.lattice()))
        return segments

    def partial(self) -> Partial:
        """Return the words since the last segment."""
        graph = self._search.graph
        return Partial(self._search.agreed.words(graph).tolist(), self._search.rest.words(graph).tolist())

    def _step(self, loglikes: np.ndarray) -> List[Segment]:
        segments: List[Segment] = []
        while True:
            before = self._search.frames
            self._search.advance(self._decoder.scaled(loglikes, self._scale))
            if self._search.alive:
                self._rows.append(loglikes)
                break
            # No path leads on (a grammar of a few sentences): what there is ends here, and another begins.
            self._search.revive()
            done = self._search.frames - before
            self._rows.append(loglikes[:done])
            if self._search.frames:
                segments.append(self._ended(self._search.lattice()))
            else:  # not even the first frame can be said: it is passed over
                self.begin, done = self.begin + 1, 1
                self._search.start()
            loglikes = loglikes[done:]
            if not len(loglikes):
                return segments
        self._search.look()
        if self._is_endpoint():
            segments.append(self._ended(self._search.lattice()))
        else:
            frame = self._where_to_cut()
            if frame is not None:
                segments.append(self._taken_off(frame))
        return segments

    def _best_pdfs(self) -> np.ndarray:
        search = self._search
        return np.concatenate([search.agreed.pdfs(search.graph), search.rest.pdfs(search.graph)])

    def _silence_at_end(self, pdfs: np.ndarray) -> int:
        spoken = np.flatnonzero(~self._silent[pdfs])
        return len(pdfs) - (int(spoken[-1]) + 1 if len(spoken) else 0)

    def _is_endpoint(self) -> bool:
        pdfs = self._best_pdfs()
        silence = self._silence_at_end(pdfs)
        spoken = silence < len(pdfs)
        cost = self._search.relative_final_cost()
        return any(
            (spoken or not rule.needs_words)
            and silence * self._shift >= rule.trailing_silence
            and cost <= rule.relative_cost
            and len(pdfs) * self._shift >= rule.utterance_length
            for rule in self.endpointing.rules
        )

    def _where_to_cut(self) -> Optional[int]:
        """The frame at which to cut what has become too long: the middle of the last pause that is agreed."""
        search, longest = self._search, round(self.endpointing.longest / self._shift)
        if search.frames < longest:
            return None
        silent = self._silent[search.agreed.pdfs(search.graph)[: search.agreed_frames]]
        least = max(round(self.endpointing.pause / self._shift), 2)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8), [0]])))
        for begin, end in reversed(list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))):
            middle = (begin + end) // 2
            if end - begin >= least and begin and search.can_cut(middle):
                return middle
        last = search.agreed_frames
        return last if search.frames >= 2 * longest and search.can_cut(last) else None

    def _ended(self, raw: Optional[RawLattice]) -> Segment:
        """The segment that ends here, after which a search begins anew."""
        segment = self._segment(raw, self._search.frames, True)
        self._search.start()
        return segment

    def _taken_off(self, frame: int) -> Segment:
        return self._segment(self._search.cut(frame), frame, False)

    def _segment(self, raw: Optional[RawLattice], frames: int, endpoint: bool) -> Segment:
        lattice = None if raw is None else Lattice.from_search(raw, self._search.graph, self._scale)
        rows = np.concatenate(self._rows)
        segment = Segment(self.begin, rows[:frames], lattice, endpoint)
        self._rows = [rows[frames:]] if len(rows) > frames else []
        self.begin += frames
        return segment
