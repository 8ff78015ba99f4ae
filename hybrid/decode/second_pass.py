"""The second pass of a set, over an Executor: a search that keeps its lattices, and another n-gram model in them, or
their n-best lists.

A worker process loads the graph and the models once; a lattice lives as long as its utterance is worked on.
"""

from __future__ import annotations

from concurrent.futures import Executor
from functools import lru_cache, partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hybrid.decode.ngram_rescoring import BEAM, NgramRescorer
from hybrid.decode.paths import Entry
from hybrid.decode.run import Answer, Loglikes, answered, cached_decoder, graph_key, over_chunks, stream_chunks
from hybrid.io import PathLike, Problems
from hybrid.lexicon.tables import read_table
from hybrid.lm.arrays import NgramArrays


class Point(NamedTuple):
    """What a path's cost is made of: graph + lm_scale (second - first model) + scale acoustic + penalty words."""

    scale: float
    penalty: float
    lm_scale: float


class Models(NamedTuple):
    """Files: first, the n-gram model of the graph, and second, as NgramArrays.save wrote them; words: words.txt."""

    first: PathLike
    second: PathLike
    words: PathLike


def second_pass_words(
    loglikes: Loglikes,
    graph: PathLike,
    models: Models,
    *,
    origin: Tuple[float, float],
    points: Sequence[Point],
    ids: Optional[Iterable[str]] = None,
    beam: float = 15.0,
    max_active: int = 7000,
    lattice_beam: float = BEAM,
    executor: Optional[Executor] = None,
    problems: Optional[Problems] = None,
    progress: Optional[Callable[[int], Any]] = None,
) -> Dict[str, List[Tuple[int, ...]]]:
    """Return for each utterance the word ids at each point, all from the lattice of one search at `origin` (acoustic
    scale, word insertion penalty) in which the second model has taken the first's place; sorted by id.

    Raises DataError for an utterance that cannot be decoded; where `problems` is given it is noted there instead.
    """
    work = partial(
        _chunk, graph=graph_key(graph), models=tuple(graph_key(path) for path in models), origin=origin,
        points=tuple(points), beam=beam, max_active=max_active, lattice_beam=lattice_beam,
    )  # fmt: skip
    decoder = cached_decoder(graph_key(graph), beam, max_active, origin[1])
    work([("", np.zeros((2, decoder.min_columns), np.float32))])  # what is to be compiled is, before workers do
    return over_chunks(work, loglikes, ids, executor, problems, progress)


def nbest_lists(
    loglikes: Loglikes,
    graph: PathLike,
    *,
    origin: Tuple[float, float],
    number: int,
    ids: Optional[Iterable[str]] = None,
    beam: float = 15.0,
    max_active: int = 7000,
    lattice_beam: float = BEAM,
    executor: Optional[Executor] = None,
    problems: Optional[Problems] = None,
) -> Iterator[Tuple[str, List[Entry]]]:
    """Yield for each utterance, in the order of the ids, the `number` best word sequences at `origin` (acoustic scale,
    word insertion penalty), the best first: the empty one where nothing is found. Some chunks are in memory at a time.

    Raises DataError as `second_pass_words`.
    """
    decoder = cached_decoder(graph_key(graph), beam, max_active, origin[1])
    work = partial(
        _nbest_chunk, graph=graph_key(graph), origin=origin, number=number, beam=beam, max_active=max_active,
        lattice_beam=lattice_beam,
    )  # fmt: skip
    work([("", np.zeros((2, decoder.min_columns), np.float32))])
    return stream_chunks(work, loglikes, ids, executor, problems)


def _nbest_chunk(
    chunk: Sequence[Tuple[str, Any]],
    *,
    graph: Tuple[str, int, int],
    origin: Tuple[float, float],
    number: int,
    beam: float,
    max_active: int,
    lattice_beam: float,
) -> List[Answer]:
    decoder = cached_decoder(graph, beam, max_active, origin[1])

    def entries(utterance: str, loglikes: np.ndarray) -> List[Entry]:
        lattice = decoder.lattice(loglikes, origin[0], utterance, lattice_beam=lattice_beam)
        if lattice is None:
            return [Entry((), 0.0)]
        of_words = lattice.determinised(origin[0], lattice_beam=lattice_beam, pdfs=False)
        return of_words.nbest(number, origin[0])

    return answered(chunk, entries)


@lru_cache(maxsize=2)
def _rescorer(models: Tuple[Tuple[str, int, int], ...]) -> NgramRescorer:
    first, second, words = (path for path, _, _ in models)
    return NgramRescorer(NgramArrays.load(first), NgramArrays.load(second), read_table(words))


def _chunk(
    chunk: Sequence[Tuple[str, Any]],
    *,
    graph: Tuple[str, int, int],
    models: Tuple[Tuple[str, int, int], ...],
    origin: Tuple[float, float],
    points: Sequence[Point],
    beam: float,
    max_active: int,
    lattice_beam: float,
) -> List[Answer]:
    decoder = cached_decoder(graph, beam, max_active, origin[1])
    rescorer = _rescorer(models)

    def words(utterance: str, loglikes: np.ndarray) -> List[Tuple[int, ...]]:
        lattice = decoder.lattice(loglikes, origin[0], utterance, lattice_beam=lattice_beam)
        if lattice is None:
            return [()] * len(points)
        of_words = lattice.determinised(origin[0], lattice_beam=lattice_beam, pdfs=False)
        rescored = rescorer(of_words, acoustic_scale=origin[0], beam=lattice_beam)
        scaled = {share: rescored.scaled(share) for share in {point.lm_scale for point in points}}
        # The graph has the origin's penalty already.
        return [
            scaled[point.lm_scale].best_path(point.scale, point.penalty - origin[1]).words for point in points
        ]

    return answered(chunk, words)
