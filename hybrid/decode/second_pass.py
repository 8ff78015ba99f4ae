"""The second pass of a set, over an Executor: a search that keeps its lattices, and another language model in them, or
their n-best lists.

A worker process loads the graph and the models once; a lattice lives as long as its utterance is worked on.
"""

from __future__ import annotations

from concurrent.futures import Executor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hybrid.decode.ngram_rescoring import BEAM, NgramRescorer, Rescored
from hybrid.decode.paths import Entry
from hybrid.decode.run import (
    Answer,
    Loglikes,
    answered,
    cached_decoder,
    compile_work,
    graph_key,
    over_chunks,
    stream_chunks,
)
from hybrid.io import PathLike, Problems
from hybrid.lexicon.tables import read_table
from hybrid.lm.arrays import NgramArrays


class Point(NamedTuple):
    """What a path's cost is made of: graph + lm_scale (second - first model) + scale acoustic + penalty words."""

    scale: float
    penalty: float
    lm_scale: float


class Models(NamedTuple):
    """Files: first, the n-gram model of the graph, as NgramArrays.save wrote it; second, likewise, or the folder of a
    left-to-right network of text; words: words.txt. history: of the network (neural_rescoring.py), None for an n-gram.
    """

    first: PathLike
    second: PathLike
    words: PathLike
    history: Optional[int] = None

    @property
    def neural(self) -> bool:
        return self.history is not None


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
        _chunk, graph=graph_key(graph), models=_key(models), history=models.history, origin=origin,
        points=tuple(points), beam=beam, max_active=max_active, lattice_beam=lattice_beam,
    )  # fmt: skip
    decoder = cached_decoder(graph_key(graph), beam, max_active, origin[1])
    compile_work(work, decoder)
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
    compile_work(work, decoder)
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


_Key = Tuple[Tuple[str, int, int], ...]


def _key(models: Models) -> _Key:
    """Return what tells the files from others of the same names."""
    second = Path(models.second) / "model.safetensors" if models.neural else models.second
    return tuple(graph_key(path) for path in (models.first, second, models.words))


@lru_cache(maxsize=2)
def _rescorer(models: _Key, history: Optional[int]) -> Callable[..., Rescored]:
    first, second, words = (path for path, _, _ in models)
    if history is None:
        return NgramRescorer(NgramArrays.load(first), NgramArrays.load(second), read_table(words))
    from hybrid.decode.neural_rescoring import NeuralRescorer  # torch, which n-grams do not need
    from hybrid.nnet.text_io import load_text_model

    model, tokens, _ = load_text_model(Path(second).parent)
    return NeuralRescorer(model, tokens, read_table(words), first=NgramArrays.load(first), history=history)


def _chunk(
    chunk: Sequence[Tuple[str, Any]],
    *,
    graph: Tuple[str, int, int],
    models: _Key,
    history: Optional[int],
    origin: Tuple[float, float],
    points: Sequence[Point],
    beam: float,
    max_active: int,
    lattice_beam: float,
) -> List[Answer]:
    decoder = cached_decoder(graph, beam, max_active, origin[1])
    rescorer = _rescorer(models, history)
    # A network's share is far from 1, where paths that are good at it may be lost to the beam.
    shares = sorted(point.lm_scale for point in points)
    lm_scale = 1.0 if history is None else shares[len(shares) // 2]

    def words(utterance: str, loglikes: np.ndarray) -> List[Tuple[int, ...]]:
        lattice = decoder.lattice(loglikes, origin[0], utterance, lattice_beam=lattice_beam)
        if lattice is None:
            return [()] * len(points)
        of_words = lattice.determinised(origin[0], lattice_beam=lattice_beam, pdfs=False)
        rescored = rescorer(of_words, acoustic_scale=origin[0], lm_scale=lm_scale, beam=lattice_beam)
        scaled = {share: rescored.scaled(share) for share in {point.lm_scale for point in points}}
        # The graph has the origin's penalty already.
        return [
            scaled[point.lm_scale].best_path(point.scale, point.penalty - origin[1]).words for point in points
        ]

    return answered(chunk, words)
