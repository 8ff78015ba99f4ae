"""Decoding a set over an Executor.

Work goes out in chunks of utterances; a worker process loads the graph from its file once. Results do not depend on
the number of workers or on the order in which they answer.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from concurrent.futures import Executor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from hybrid.decode.decoder import Decoder
from hybrid.decode.paths import Hypothesis, nothing
from hybrid.errors import ConfigError, DataError, GraphError
from hybrid.io import PathLike, Problems
from hybrid.parallel import ordered_map

# a matrix [frames, num_pdfs], or what makes one where it is needed (picklable, for processes)
Loglikes = Mapping[str, Union[np.ndarray, Callable[[], np.ndarray]]]
Join = Callable[[List[str]], List[str]]

_CHUNK = 16  # utterances a task: some seconds of work
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
    """Return the words of every utterance, by id in sorted order. words: the symbol table of the graph's output labels;
    join: what makes words of those symbols where they are pieces of words (Lang.words_of).

    An utterance that cannot be decoded (empty, not finite) raises DataError; where `problems` is given it is noted
    there and left out of the result, as is noted what did not reach the graph's end. progress(n) is called with the
    number of utterances just done.
    """
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
    best = {utterance: hypothesis for utterance, (hypothesis,) in found.items()}
    return words_of_set(best, graph, words, problems, join)


def words_of_set(
    found: Mapping[str, Hypothesis], graph: PathLike, words: Mapping[str, int], problems: Optional[Problems] = None,
    join: Optional[Join] = None,
) -> Dict[str, List[str]]:  # fmt: skip
    """Return the words of hypotheses, as `decode_set` does."""
    names = word_names(words)
    result = {}
    for utterance, hypothesis in found.items():
        if problems is not None and not hypothesis.reached_final:
            if np.isfinite(hypothesis.cost):
                what = "decoding did not reach the end of the graph: the best unfinished path is taken"
                problems.remark(utterance, what)
            else:
                problems.add(utterance, "no path through the graph: it is too short, or the beam too narrow")
        result[utterance] = spell(hypothesis.words, names, graph, join)
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
    """Return for each utterance one hypothesis per point (acoustic scale, word insertion penalty); sorted by id.

    ids: which to decode, None for all. Each matrix is sent to a worker once for all points.
    """
    _points(points)
    decoder = cached_decoder(graph_key(graph), beam, max_active, points[0][1])  # one that is no good raises plainly
    work = partial(_decode_chunk, graph=graph_key(graph), points=tuple(points), beam=beam, max_active=max_active)
    compile_work(work, decoder)
    return over_chunks(work, loglikes, ids, executor, problems, progress)


class Rescored(NamedTuple):
    """Of one utterance the best path of the search itself, and the word ids at each point."""

    best: Hypothesis
    words: List[Tuple[int, ...]]


def lattice_words(
    loglikes: Loglikes,
    graph: PathLike,
    *,
    origin: Tuple[float, float],
    points: Sequence[Tuple[float, float]],
    ids: Optional[Iterable[str]] = None,
    beam: float = 15.0,
    max_active: int = 7000,
    lattice_beam: float = 8.0,
    executor: Optional[Executor] = None,
    problems: Optional[Problems] = None,
    progress: Optional[Callable[[int], Any]] = None,
) -> Dict[str, Rescored]:
    """Return for each utterance the word ids at each point (acoustic scale, word insertion penalty), all from the
    lattice of one search at the point `origin`, and its own best path; sorted by id."""
    _points(points)
    decoder = cached_decoder(graph_key(graph), beam, max_active, origin[1])
    work = partial(
        _rescore_chunk, graph=graph_key(graph), origin=origin, points=tuple(points), beam=beam, max_active=max_active,
        lattice_beam=lattice_beam,
    )  # fmt: skip
    compile_work(work, decoder)
    return over_chunks(work, loglikes, ids, executor, problems, progress)


def compile_work(work: Callable[[List[Any]], Any], decoder: Decoder) -> None:
    """Compile here, on a machine where that is to be done, what each worker would compile for itself."""
    work([("", np.zeros((2, decoder.min_columns), np.float32))])


def _points(points: Sequence[Tuple[float, float]]) -> None:
    if not points:
        raise ConfigError("no acoustic scale to decode with", remedy="give one or more")


def over_chunks(
    work: Callable[[List[Any]], List[Tuple[str, Any, Optional[DataError]]]], loglikes: Loglikes,
    ids: Optional[Iterable[str]], executor: Optional[Executor], problems: Optional[Problems],
    progress: Optional[Callable[[int], Any]],
) -> Dict[str, Any]:  # fmt: skip
    return dict(stream_chunks(work, loglikes, ids, executor, problems, progress))


def stream_chunks(
    work: Callable[[List[Any]], List[Tuple[str, Any, Optional[DataError]]]], loglikes: Loglikes,
    ids: Optional[Iterable[str]], executor: Optional[Executor], problems: Optional[Problems],
    progress: Optional[Callable[[int], Any]] = None,
) -> Iterator[Tuple[str, Any]]:  # fmt: skip
    """Yield (utterance, what `work` made of it) in the order of the ids, some chunks in memory at a time. What cannot
    be decoded raises DataError, or is noted in `problems` and left out."""
    names = sorted(loglikes if ids is None else ids)
    chunks = (names[k : k + _CHUNK] for k in range(0, len(names), _CHUNK))
    tasks = ([(name, loglikes[name]) for name in chunk] for chunk in chunks)
    for answer in in_order(executor, work, tasks):
        for utterance, value, error in answer:
            if error is None:
                yield utterance, value
            elif problems is None:
                raise error
            else:
                problems.add_error(utterance, error)
        if progress is not None:
            progress(len(answer))


def in_order(executor: Optional[Executor], work: Callable, tasks: Iterable, window: int = _WINDOW) -> Iterator:
    """Like `executor.map`, with at most `window` tasks waiting; None works here, in this process."""
    yield from map(work, tasks) if executor is None else ordered_map(executor, work, tasks, window)


def word_names(words: Mapping[str, int]) -> Dict[int, str]:
    return {number: name for name, number in words.items()}


def spell(
    ids: Sequence[int],
    names: Mapping[int, str],
    graph: Optional[PathLike] = None,
    join: Optional[Join] = None,
) -> List[str]:
    """Return the words of the ids, joined where they are pieces of words.

    Raises GraphError for a label that is no word: the symbol table is of another graph.
    """
    try:
        words = [names[word] for word in ids]
        return words if join is None else join(words)
    except KeyError as error:
        raise GraphError(
            f"output label {error.args[0]} is not in the word table",
            file=graph,
            remedy="make the graph again with this lang folder",
        ) from None


def graph_key(graph: PathLike) -> Tuple[str, int, int]:
    """Path, time and size: a graph that is made again is loaded again."""
    try:
        status = os.stat(graph)
    except OSError as error:
        raise GraphError(f"no graph: {error.strerror}", file=graph, remedy="run the graph stage") from None
    return str(Path(graph).resolve()), status.st_mtime_ns, status.st_size


def cached_decoder(key: Tuple[str, int, int], beam: float, max_active: int, penalty: float) -> Decoder:
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


Answer = Tuple[str, Any, Optional[DataError]]


def _decode_chunk(
    chunk: Sequence[Tuple[str, Any]],
    *,
    graph: Tuple[str, int, int],
    points: Sequence[Tuple[float, float]],
    beam: float,
    max_active: int,
) -> List[Answer]:
    """Search at each point; by penalty outside, so that a large graph is made once a penalty and chunk."""
    hypotheses: Dict[str, Dict[Tuple[float, float], Hypothesis]] = {}
    answers = dict(read_chunk(chunk))
    for penalty in sorted({penalty for _, penalty in points}):
        decoder = cached_decoder(graph, beam, max_active, penalty)
        for (utterance, loglikes), (scale, word_penalty) in product(answers.items(), points):
            if word_penalty != penalty or isinstance(loglikes, DataError):
                continue
            try:
                hypothesis = decoder.decode(loglikes, scale, utterance)
                hypotheses.setdefault(utterance, {})[scale, penalty] = hypothesis
            except DataError as error:
                answers[utterance] = error
    return [
        (utterance, [], loglikes) if isinstance(loglikes, DataError)
        else (utterance, [hypotheses[utterance][point] for point in points], None)
        for utterance, loglikes in answers.items()
    ]  # fmt: skip


def _rescore_chunk(
    chunk: Sequence[Tuple[str, Any]],
    *,
    graph: Tuple[str, int, int],
    origin: Tuple[float, float],
    points: Sequence[Tuple[float, float]],
    beam: float,
    max_active: int,
    lattice_beam: float,
) -> List[Answer]:
    decoder = cached_decoder(graph, beam, max_active, origin[1])
    more = [(scale, penalty - origin[1]) for scale, penalty in points]  # the graph has the origin's penalty already

    def rescored(utterance: str, loglikes: np.ndarray) -> Rescored:
        lattice = decoder.lattice(loglikes, origin[0], utterance, lattice_beam=lattice_beam)
        if lattice is None:
            return Rescored(nothing(len(loglikes)), [()] * len(points))
        return Rescored(lattice.best_path(origin[0]), lattice.best_words(more))

    return answered(chunk, rescored)


def answered(chunk: Sequence[Tuple[str, Any]], work: Callable[[str, np.ndarray], Any]) -> List[Answer]:
    """Return what `work` makes of each utterance's name and matrix, or why there is nothing."""
    answers: List[Answer] = []
    for utterance, loglikes in read_chunk(chunk):
        try:
            if isinstance(loglikes, DataError):
                raise loglikes
            answers.append((utterance, work(utterance, loglikes), None))
        except DataError as error:
            answers.append((utterance, None, error))
    return answers


def read_chunk(chunk: Sequence[Tuple[str, Any]]) -> Iterator[Tuple[str, Union[np.ndarray, DataError]]]:
    """Yield each utterance with its matrix, or why there is none."""
    for utterance, source in chunk:
        try:
            yield utterance, source() if callable(source) else source
        except DataError as error:
            yield utterance, error
