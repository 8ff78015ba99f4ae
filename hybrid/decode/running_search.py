"""A search over speech that goes on: what has been said so far, what of it will not change, and an end at any pause.

The paths of all tokens, followed back, soon go through one token: what lies before it will be recognised whatever comes
(the best path of a later frame is a continuation of one of these). That much is agreed.

Speech without end must not take memory without end. A search over it need not be begun anew: where all paths go through
one token, what lies before can be taken off as a lattice that ends in this token, and the search goes on from it. The
best path is the one that a search without a cut would have found, word for word, and no word is lost or doubled at the
cut; what a lattice loses is alternatives that pass by the token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from hybrid.compiled import compiled
from hybrid.decode.search import LatticeSearch, RawLattice, SearchOptions
from hybrid.decode.search_graph import ILABEL, OLABEL, SearchGraph
from hybrid.decode.search_tokens import BLOCKS, FRAMES, LINKS, SETTLED, TOKENS
from hybrid.decode.search_trace import FULL_PATH, trace


@dataclass(frozen=True)
class Path:
    """A path through the graph. arcs: int64 [arcs]; frames: int64 [arcs], of speech before the end of each; states: of
    the graph, which each leaves."""

    arcs: np.ndarray
    frames: np.ndarray
    states: np.ndarray

    @staticmethod
    def empty() -> Path:
        none = np.zeros(0, np.int64)
        return Path(none, none, none)

    def __len__(self) -> int:
        return len(self.arcs)

    def __getitem__(self, part: slice) -> Path:
        return Path(self.arcs[part], self.frames[part], self.states[part])

    def __add__(self, other: Path) -> Path:
        pairs = ((self.arcs, other.arcs), (self.frames, other.frames), (self.states, other.states))
        return Path(*(np.concatenate(pair) for pair in pairs))

    def words(self, graph: SearchGraph) -> np.ndarray:
        """Return the word ids on the path."""
        labels = graph.arcs[4 * self.arcs + OLABEL].astype(np.int64)
        return labels[labels != 0]

    def pdfs(self, graph: SearchGraph) -> np.ndarray:
        """Return the pdf of each of its frames of speech."""
        labels = graph.arcs[4 * self.arcs + ILABEL].astype(np.int64)
        return labels[labels != 0] - 1


class RunningSearch(LatticeSearch):
    """A search that tells what it has found before it ends. `look` first, then `agreed` and `rest`.

    agreed: the path that will not change; rest: the best path from its end to the last frame, which may.
    """

    agreed: Path
    rest: Path
    _base: int

    def start(self, options: Optional[SearchOptions] = None) -> None:
        self.agreed, self.rest, self._base, self._was_cut = Path.empty(), Path.empty(), -1, False
        super().start(options)

    @property
    def frames(self) -> int:
        """Frames of speech since the start or the last cut."""
        return int(self._count[FRAMES])

    @property
    def alive(self) -> bool:
        """Whether a path leads to the last frame."""
        return self._alive

    def look(self) -> None:
        """Find the best path so far, and how much of it all paths agree on."""
        if not self._alive:
            return
        graph, agreed = self.graph, np.zeros(2, np.int64)
        room = 4 * (self.frames - self._base) + 64
        while True:
            arrays = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
            length = int(trace(
                *self._forward(), graph.enter, graph.entering, graph.sources, self._slots, self._rows, self._first_row,
                self._base, self._count, *self._tokens, *self._frames, *arrays, agreed,
            ))  # fmt: skip
            if length != FULL_PATH:
                break
            room *= 2
        path = Path(*(array[:length][::-1].copy() for array in arrays))
        frame, after = agreed.tolist()
        if frame >= 0:
            self.agreed, path = self.agreed + path[: length - after], path[length - after :]
            self._base = frame
        self.rest = path

    @property
    def agreed_frames(self) -> int:
        """The frames of speech that the agreed path spans."""
        return max(self._base, 0)

    def revive(self) -> None:
        """Step back to the last frame that a path leads to, where none leads further: its lattice can be had."""
        first = self._frames[0]
        while not self._alive:
            self._count[FRAMES] -= 1
            self._alive = bool(first[self.frames] < first[self.frames + 1])

    def relative_final_cost(self) -> float:
        """Return by how much the best path that may end here costs more than the best that goes on; inf where none may
        end (Kaldi's FinalRelativeCost)."""
        first, last = self._frames[0], self.frames
        tokens = slice(int(first[last]), int(first[last + 1]))
        costs = self._tokens[1][tokens]
        if not len(costs):
            return float("inf")
        return float((costs + self.graph.final[self._tokens[0][tokens]]).min() - costs.min())

    def can_cut(self, frame: int) -> bool:
        """Whether the search can be cut after so many frames: they must be agreed and not yet settled."""
        return 0 < frame <= self._base and frame >= int(self._count[SETTLED])

    def cut(self, frame: int) -> RawLattice:
        """Take off the first frames as a lattice of their own, and go on from there: frame 0 is now what `frame` was.

        Raises ValueError where `can_cut` says no.
        """
        if not self.can_cut(frame):
            raise ValueError(f"a cut after {frame} frames, of which {self.agreed_frames} are agreed")
        begin = int(np.searchsorted(self.agreed.frames, frame, side="right"))  # the first arc behind the cut
        state = self._leaves(begin)
        last = self.frames
        token = self._token(frame, state)
        first, cutoffs = self._frames
        low, high = int(first[frame + 1]), int(self._count[TOKENS])
        states = np.concatenate([self._tokens[0][token : token + 1], self._tokens[0][low:high]])
        costs = np.concatenate([self._tokens[1][token : token + 1], self._tokens[1][low:high]])
        starts, limits = first[frame + 1 : last + 2] - low + 1, cutoffs[frame : last + 1].copy()
        rows = self._rows[frame - self._first_row : last - self._first_row].copy()
        self._count[FRAMES], self._count[TOKENS] = frame, first[frame + 1]
        raw = self._lattice(token)
        self._count[FRAMES], self._count[TOKENS] = last - frame, len(states)
        self._count[LINKS], self._count[BLOCKS], self._count[SETTLED] = 0, 0, -1
        self._tokens[0][: len(states)], self._tokens[1][: len(states)] = states, costs
        first[0] = 0
        first[1 : len(starts) + 1], cutoffs[: len(limits)] = starts, limits
        self._rows[: len(rows)], self._first_row = rows, 0
        self.agreed = _moved(self.agreed[begin:], frame)
        self.rest = _moved(self.rest, frame)
        self._base -= frame
        self._was_cut = True
        return raw

    def _lattice(self, only: int) -> RawLattice:
        raw = super()._lattice(only)
        return _connected(raw) if self._was_cut else raw

    def _leaves(self, arc: int) -> int:
        """The state from which the agreed path goes on by its arc of that number."""
        if arc < len(self.agreed):
            return int(self.agreed.states[arc])
        return int(self.rest.states[0])

    def _token(self, frame: int, state: int) -> int:
        first = self._frames[0]
        begin, end = int(first[frame]), int(first[frame + 1])
        return begin + int(np.flatnonzero(self._tokens[0][begin:end] == state)[0])

    def _first_frame_needed(self) -> int:
        return min(super()._first_frame_needed(), max(self._base, 0))


def _connected(raw: RawLattice) -> RawLattice:
    """Return a lattice without what no path from its first token leads to: what passed by the token of a cut."""
    reached = _reached(raw.source, raw.target, len(raw.state))
    if reached.all():
        return raw
    number = np.cumsum(reached, dtype=np.int32) - 1
    links = reached[raw.source]
    return RawLattice(
        raw.state[reached], raw.cost[reached], raw.final[reached], raw.frame[reached], number[raw.source[links]],
        number[raw.target[links]], raw.arc[links], raw.acoustic[links], raw.reached_final,
    )  # fmt: skip


@compiled
def _reached(source, target, tokens):
    reached = np.zeros(tokens, np.bool_)
    reached[0] = True
    for link in range(len(source)):
        if reached[source[link]]:
            reached[target[link]] = True
    return reached


def _moved(path: Path, frames: int) -> Path:
    return Path(path.arcs, path.frames - frames, path.states)


