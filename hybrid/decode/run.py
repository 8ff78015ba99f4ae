"""Decoding a set over an Executor, and the choice of acoustic scale and word insertion penalty on a development set.

Work goes out in chunks of utterances; a worker process loads the graph from its file once. Results do not depend on
the number of workers or on the order in which they answer.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from hybrid.decode.decoder import Decoder, Hypothesis
from hybrid.errors import ConfigError, DataError, GraphError
from hybrid.io import PathLike, Problems
from hybrid.parallel import ordered_map
from hybrid.score.wer import Counts, align, count

# a matrix [frames, num_pdfs], or what makes one where it is needed (picklable, for processes)
Loglikes = Mapping[str, Union[np.ndarray, Callable[[], np.ndarray]]]
Join = Callable[[List[str]], List[str]]

# Kaldi's sweep: lattices of acoustic scale 0.1 rescored with LMWT 7 to 17 weigh the acoustics by 1 / LMWT
KALDI_SCALES = tuple(1.0 / weight for weight in range(7, 18))
# and lattice-add-penalty as in steps/score_kaldi.sh
KALDI_PENALTIES = (0.0, 0.5, 1.0)

_CHUNK = 16  # utterances a task: some seconds of work, some megabytes to send
_WINDOW = 32  # tasks sent ahead, so that a lazy mapping is not read into memory whole
_CACHED_ARCS = 20_000_000  # arcs of graphs kept per process: half a gigabyte with the search's own tables

_decoders: OrderedDict[tuple, Decoder] = OrderedDict()


def decode_set(
    loglikes: Loglikes,
    graph: PathLike,
    words: Mapping[str, int],
    *,
    acoustic_scale: float,
    word_penalty: float = 0.0,
    beam: float = 15.0,
    max_active: int = 7000,
    executor: Optional[Executor] = None,
    problems: Optional[Problems] = None,
    progress: Optional[Callable[[int], Any]] = None,
    join: Optional[Join] = None,
) -> Dict[str, List[str]]:
    """Words of every utterance, by id in sorted order. words: the symbol table of the graph's output labels; join:
    what makes words of those symbols where they are pieces of words (Lang.words_of).

    An utterance that cannot be decoded (empty, not finite) raises DataError; where `problems` is given it is noted
    there and left out of the result, as is noted what did not reach the graph's end. progress(n) is called with the
    number of utterances just done.
    """
    names = word_names(words)
    found = decode_hypotheses(
        loglikes,
        graph,
        points=[(acoustic_scale, word_penalty)],
        beam=beam,
        max_active=max_active,
        executor=executor,
        problems=problems,
        progress=progress,
    )
    result = {}
    for utterance, (hypothesis,) in found.items():
        if problems is not None and not hypothesis.reached_final:
            if np.isfinite(hypothesis.cost):
                problems.remark(utterance, "decoding did not reach the end of the graph: the best unfinished path is taken")
            else:
                problems.add(utterance, "no path through the graph: it is too short for the utterance, or the beam too narrow")
        result[utterance] = spell(hypothesis, names, graph, join)
    return result


def decode_hypotheses(
    loglikes: Loglikes,
    graph: PathLike,
    *,
    points: Sequence[Tuple[float, float]],
    ids: Optional[Iterable[str]] = None,
    beam: float = 15.0,
    max_active: int = 7000,
    executor: Optional[Executor] = None,
    problems: Optional[Problems] = None,
    progress: Optional[Callable[[int], Any]] = None,
) -> Dict[str, List[Hypothesis]]:
    """For each utterance one hypothesis per point (acoustic scale, word insertion penalty); sorted by id.

    ids: which to decode, None for all. Each matrix is sent to a worker once for all points.
    """
    if not points:
        raise ConfigError("no acoustic scale to decode with", remedy="give one or more")
    # here first: a graph that is no good raises once and plainly, not in every worker
    _decoder(_graph_key(graph), beam, max_active, points[0][1])
    names = sorted(loglikes if ids is None else ids)
    chunks = (names[k : k + _CHUNK] for k in range(0, len(names), _CHUNK))
    tasks = ([(name, loglikes[name]) for name in chunk] for chunk in chunks)
    work = partial(_decode_chunk, graph=_graph_key(graph), points=tuple(points), beam=beam, max_active=max_active)
    result: Dict[str, List[Hypothesis]] = {}
    for answer in in_order(executor, work, tasks):
        for utterance, hypotheses, error in answer:
            if error is None:
                result[utterance] = hypotheses
            elif problems is None:
                raise error
            else:
                problems.add_error(utterance, error)
        if progress is not None:
            progress(len(answer))
    return result


def in_order(executor: Optional[Executor], work: Callable, tasks: Iterable, window: int = _WINDOW) -> Iterator:
    """Like `executor.map`, with at most `window` tasks waiting; None works here, in this process."""
    yield from map(work, tasks) if executor is None else ordered_map(executor, work, tasks, window)


def word_names(words: Mapping[str, int]) -> Dict[int, str]:
    return {number: name for name, number in words.items()}


def spell(
    hypothesis: Hypothesis,
    names: Mapping[int, str],
    graph: Optional[PathLike] = None,
    join: Optional[Join] = None,
) -> List[str]:
    """Raises GraphError for a label that is no word: the symbol table is of another graph."""
    try:
        found = [names[word] for word in hypothesis.words]
        return found if join is None else join(found)
    except KeyError as error:
        raise GraphError(
            f"output label {error.args[0]} is not in the word table",
            file=graph,
            remedy="make the graph again with this lang folder",
        ) from None


def _graph_key(graph: PathLike) -> Tuple[str, int, int]:
    """Path, time and size: a graph that is made again is loaded again."""
    try:
        status = os.stat(graph)
    except OSError as error:
        raise GraphError(f"no graph: {error.strerror}", file=graph, remedy="run the graph stage") from None
    return str(Path(graph).resolve()), status.st_mtime_ns, status.st_size


def _decoder(key: Tuple[str, int, int], beam: float, max_active: int, penalty: float) -> Decoder:
    full = (key, beam, max_active, penalty)
    if full in _decoders:
        _decoders.move_to_end(full)
        return _decoders[full]
    for old in [old for old in _decoders if old[0][0] == key[0] and old[0] != key]:
        del _decoders[old]
    decoder = Decoder(key[0], beam=beam, max_active=max_active, word_penalty=penalty)
    while _decoders and sum(kept.num_arcs for kept in _decoders.values()) + decoder.num_arcs > _CACHED_ARCS:
        _decoders.popitem(last=False)
    _decoders[full] = decoder
    return decoder


def _decode_chunk(
    chunk: Sequence[Tuple[str, Any]],
    *,
    graph: Tuple[str, int, int],
    points: Sequence[Tuple[float, float]],
    beam: float,
    max_active: int,
) -> List[Tuple[str, List[Hypothesis], Optional[DataError]]]:
    answers: List[Tuple[str, List[Hypothesis], Optional[DataError]]] = []
    matrices: List[Tuple[str, Optional[np.ndarray], Optional[DataError]]] = []
    for utterance, source in chunk:
        try:
            matrices.append((utterance, source() if callable(source) else source, None))
        except DataError as error:
            matrices.append((utterance, None, error))
    found: Dict[str, Dict[Tuple[float, float], Hypothesis]] = {utterance: {} for utterance, _, _ in matrices}
    errors = {utterance: error for utterance, _, error in matrices if error is not None}
    # by penalty outside: a large graph is then rebuilt once a penalty and chunk, not once a point and utterance
    for penalty in sorted({penalty for _, penalty in points}):
        decoder = _decoder(graph, beam, max_active, penalty)
        for (utterance, matrix, _), (scale, its) in product(matrices, points):
            if its != penalty or utterance in errors or matrix is None:
                continue
            try:
                found[utterance][scale, its] = decoder.decode(matrix, scale, utterance)
            except DataError as error:
                errors[utterance] = error
    for utterance, _, _ in matrices:
        failed = errors.get(utterance)
        answers.append((utterance, [] if failed else [found[utterance][point] for point in points], failed))
    return answers


@dataclass(frozen=True)
class Tuning:
    """The point chosen (`middle_of_best`), and the whole grid.

    grid: rows {"acoustic_scale", "word_penalty", "wer", "errors", "words", "ins", "del", "sub"}, by penalty, then
    scale. edges: of "acoustic_scale" and "word_penalty" those whose choice lies at an end of the values tried; others
    may be better still, and the caller should say so.
    """

    scale: float
    penalty: float
    counts: Counts
    edges: Tuple[str, ...]
    grid: Tuple[Dict[str, Any], ...]

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
    """Decodes the set at every acoustic scale and penalty; `middle_of_best` chooses, with this `slack`.

    refs: the words of every utterance; what cannot be decoded counts as deleted at every point alike. join: as in
    decode_set; the penalty is a piece's then.
    """
    if not refs:
        raise DataError("no reference to tune against", remedy="give the transcripts of the development set")
    scales, penalties = sorted(set(scales)), sorted(set(penalties))
    points = [(scale, penalty) for penalty in penalties for scale in scales]
    names = word_names(words)
    found = decode_hypotheses(
        loglikes,
        graph,
        ids=[name for name in refs if name in loglikes],
        points=points,
        beam=beam,
        max_active=max_active,
        executor=executor,
        problems=problems,
        progress=progress,
    )
    totals = [Counts() for _ in points]
    for utterance, ref in refs.items():
        # most points give the same words: align each distinct sequence once
        known: Dict[Tuple[int, ...], Counts] = {}
        for k, hypothesis in enumerate(found.get(utterance) or [None] * len(points)):
            key = () if hypothesis is None else hypothesis.words
            if key not in known:
                spelt = [] if hypothesis is None else spell(hypothesis, names, graph, join)
                known[key] = count(align(list(ref), spelt))
            totals[k] += known[key]
    errors = np.array([counts.errors for counts in totals]).reshape(len(penalties), len(scales))
    row, column = middle_of_best(errors, slack)
    grid = tuple(
        {"acoustic_scale": scale, "word_penalty": penalty, "wer": round(counts.wer, 4), **counts.as_dict()}
        for (scale, penalty), counts in zip(points, totals, strict=True)
    )
    chosen = (("acoustic_scale", column, len(scales)), ("word_penalty", row, len(penalties)))
    edges = tuple(name for name, at, size in chosen if size > 1 and at in (0, size - 1))
    return Tuning(scales[column], penalties[row], totals[row * len(scales) + column], edges, grid)


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
