"""The choice of acoustic scale and word insertion penalty on a development set."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hybrid.decode.paths import Hypothesis
from hybrid.decode.run import Join, Loglikes, lattice_words, spell, word_names
from hybrid.errors import DataError
from hybrid.io import PathLike, Problems
from hybrid.score.wer import Counts, align, count

# Kaldi's sweep: lattices of acoustic scale 0.1 rescored with LMWT 7 to 17 weigh the acoustics by 1 / LMWT
KALDI_SCALES = tuple(1.0 / weight for weight in range(7, 18))
# and lattice-add-penalty as in steps/score_kaldi.sh
KALDI_PENALTIES = (0.0, 0.5, 1.0)

LATTICE_BEAM = 8.0  # of the lattices; a wider one found no better points on the demo's development sets
TURNS = 4  # searches at most


@dataclass(frozen=True)
class Tuning:
    """The point chosen (`middle_of_best`), and the whole grid.

    grid: rows {"acoustic_scale", "word_penalty", "wer", "errors", "words", "ins", "del", "sub"}, by penalty, then
    scale. best: the best path at the point, of each utterance that could be decoded. edges: of "acoustic_scale" and
    "word_penalty" those whose choice lies at an end of the values tried; others may be better still, and the caller
    should say so.
    """

    scale: float
    penalty: float
    counts: Counts
    edges: Tuple[str, ...]
    grid: Tuple[Dict[str, Any], ...]
    best: Mapping[str, Hypothesis]

    @property
    def edge(self) -> bool:
        return bool(self.edges)

    def as_dict(self) -> Dict[str, Any]:
        return {
            "acoustic_scale": self.scale,
            "word_penalty": self.penalty,
            "wer": round(self.counts.wer, 4),
            **self.counts.as_dict(),
            "edge": self.edge,
            "edges": list(self.edges),
            "grid": list(self.grid),
        }


def tune(
    loglikes: Loglikes,
    refs: Mapping[str, Sequence[str]],
    graph: PathLike,
    words: Mapping[str, int],
    *,
    scales: Sequence[float] = KALDI_SCALES,
    penalties: Sequence[float] = KALDI_PENALTIES,
    beam: float = 15.0,
    max_active: int = 7000,
    executor: Optional[Executor] = None,
    problems: Optional[Problems] = None,
    progress: Optional[Callable[[int], Any]] = None,
    slack: float = 0.5,
    join: Optional[Join] = None,
) -> Tuning:
    """Choose acoustic scale and word insertion penalty by the fewest errors on a set; `middle_of_best` chooses, with
    this `slack`.

    Points are scored on the lattices of one search at the middle of the grid, then of a search at the choice, until the
    choice is a point that has been searched (or TURNS have been made): what is chosen has the errors that decoding
    there gives. Each point is scored by the nearest search.

    refs: the words of every utterance; what cannot be decoded counts as deleted at every point alike. join: as in
    decode_set; the penalty is a piece's then.
    """
    if not refs:
        raise DataError("no reference to tune against", remedy="give the transcripts of the development set")
    scales, penalties = sorted(set(scales)), sorted(set(penalties))
    points = [(scale, penalty) for penalty in penalties for scale in scales]
    names = word_names(words)
    decoded = [name for name in refs if name in loglikes]
    shape = len(penalties), len(scales)
    totals = [Counts() for _ in points]
    steps = np.full(shape, np.inf)  # of the grid, to the search that has scored a point
    best: Dict[Tuple[int, int], Dict[str, Hypothesis]] = {}  # of the searches
    row, column = min(range(len(penalties)), key=lambda k: abs(penalties[k])), len(scales) // 2
    for _ in range(TURNS):
        away = np.abs(np.arange(len(penalties)) - row)[:, None] + np.abs(np.arange(len(scales)) - column)
        nearer = np.flatnonzero(away < steps)
        rescored = lattice_words(
            loglikes, graph, origin=(scales[column], penalties[row]), points=[points[k] for k in nearer], ids=decoded,
            beam=beam, max_active=max_active, lattice_beam=LATTICE_BEAM, executor=executor, problems=problems,
            progress=progress,
        )  # fmt: skip
        decoded, problems = list(rescored), None  # named once
        best[row, column] = {name: one.best for name, one in rescored.items()}
        hypotheses = {name: one.words for name, one in rescored.items()}
        found = errors_at_points(refs, hypotheses, len(nearer), lambda ids: spell(ids, names, graph, join))
        for k, counts in zip(nearer, found, strict=True):
            totals[k] = counts
        steps = np.minimum(steps, away)
        errors = np.array([counts.errors for counts in totals]).reshape(shape)
        row, column = middle_of_best(errors, slack)
        if steps[row, column] == 0:
            break
    searched = np.where(steps == 0, errors, np.inf)
    if steps[row, column] > 0:  # it went from one to another
        row, column = (int(k) for k in np.unravel_index(int(searched.argmin()), shape))
    grid = tuple(
        {"acoustic_scale": scale, "word_penalty": penalty, "wer": round(counts.wer, 4), **counts.as_dict()}
        for (scale, penalty), counts in zip(points, totals, strict=True)
    )
    chosen = (("acoustic_scale", column, len(scales)), ("word_penalty", row, len(penalties)))
    edges = tuple(name for name, at, size in chosen if size > 1 and at in (0, size - 1))
    return Tuning(scales[column], penalties[row], totals[row * len(scales) + column], edges, grid, best[row, column])


def errors_at_points(
    refs: Mapping[str, Sequence[str]], hypotheses: Mapping[str, Sequence[Tuple[int, ...]]], num_points: int,
    spelt: Callable[[Tuple[int, ...]], List[str]],
) -> List[Counts]:  # fmt: skip
    """Return the errors of a set at each point. Most points give the same words: each sequence is aligned once."""
    totals = [Counts() for _ in range(num_points)]
    for utterance, ref in refs.items():
        known: Dict[Tuple[int, ...], Counts] = {}
        for k, ids in enumerate(hypotheses.get(utterance) or [()] * num_points):
            if ids not in known:
                known[ids] = count(align(list(ref), spelt(ids)))
            totals[k] += known[ids]
    return totals


def middle_of_best(errors: np.ndarray, slack: float = 0.5) -> Tuple[int, int]:
    """The middle of the flat bottom that the fewest errors [rows, columns] lie in.

    Errors on other data scatter by about the square root of their number: cells within `slack` times that of the
    fewest (or of 4, where these are fewer) are tied, for one or two errors say nothing. A region is tied cells that
    touch by a side; of those that hold a cell of fewest errors the largest is taken, and of its cells the one nearest
    to its centre; of several the one of fewest errors, then the first in reading order. A flat valley's middle is safer
    on other data than its shore.
    """
    fewest = errors.min()
    tied = errors <= fewest + slack * np.sqrt(max(fewest, 4))
    regions: List[List[Tuple[int, int]]] = []
    seen = np.zeros_like(tied)
    for first in zip(*np.nonzero(tied), strict=True):
        if seen[first]:
            continue
        region, front = [], [(int(first[0]), int(first[1]))]
        seen[first] = True
        while front:
            r, c = front.pop()
            region.append((r, c))
            for cell in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if 0 <= cell[0] < tied.shape[0] and 0 <= cell[1] < tied.shape[1] and tied[cell] and not seen[cell]:
                    seen[cell] = True
                    front.append(cell)
        regions.append(sorted(region))
    largest = max((region for region in regions if any(errors[cell] == fewest for cell in region)), key=len)
    # Places are whole numbers and the centre is their sum over their number: in these units all is exact.
    total = np.sum(largest, axis=0)

    def off_centre(cell: Tuple[int, int]) -> int:
        return int(((len(largest) * np.array(cell) - total) ** 2).sum())

    return min(largest, key=lambda cell: (off_centre(cell), errors[cell], cell))
