"""Arrays of cuts computed one by one or many together, here or in an executor, in the order of the cuts."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from itertools import chain, islice
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

import numpy as np
from lhotse.cut import Cut

from hybrid.data.shards import Failure
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.parallel import ordered_map

Arrays = Mapping[str, np.ndarray]
Result = Union[Failure, Arrays]

# Small enough that processes share a shard's work evenly, large enough that sending a task costs nothing.
_CHUNK = 8


def computed(
    compute: Callable[[Any], Any],
    shards: Iterable[Sequence[Cut]],
    executor: Optional[Executor],
    *,
    tolerant: bool,
    batch: Optional[int] = None,
) -> Iterator[Result]:
    """Yield one result a cut, a bounded number of them in flight.

    Without `batch`, compute(cut) -> {name: array}. With it, compute(list of up to `batch` cuts) -> {cut id: {name:
    array} or the DataError that says why not}; a batch lies within a shard, so that it is the same after a resume.
    tolerant: a DataError becomes a Failure of its cut, else it is raised.
    """
    if batch is None:
        work = partial(_one_by_one, compute, tolerant)
        chunks = _chunks(chain.from_iterable(shards), 1 if executor is None else _CHUNK)
    else:
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ConfigError(f"batch is {batch!r}", remedy="how many cuts to compute at once, 1 or more")
        work = partial(_together, compute, tolerant)
        chunks = (chunk for shard in shards for chunk in _chunks(shard, batch))
    groups: Iterable[List[Result]] = map(work, chunks) if executor is None else ordered_map(executor, work, chunks)
    for results in groups:
        yield from results


def _chunks(cuts: Iterable[Cut], size: int) -> Iterator[List[Cut]]:
    stream = iter(cuts)
    while chunk := list(islice(stream, size)):
        yield chunk


def _one_by_one(compute: Callable[[Cut], Arrays], tolerant: bool, cuts: Sequence[Cut]) -> List[Result]:
    results: List[Result] = []
    for cut in cuts:
        try:
            results.append(compute(cut))
        except DataError as error:
            if not tolerant:
                raise
            results.append(Failure.of(cut.id, error))
    return results


def _together(compute: Callable[[List[Cut]], Mapping[str, Any]], tolerant: bool, cuts: Sequence[Cut]) -> List[Result]:
    try:
        outputs = compute(list(cuts))
    except DataError as error:
        if not tolerant:
            raise
        if len(cuts) == 1:
            return [Failure.of(cuts[0].id, error)]
        # One of them cannot be used: alone, each tells for itself, and the others are not lost with it.
        return [result for cut in cuts for result in _together(compute, tolerant, [cut])]
    unknown_ids = sorted(set(outputs) - {cut.id for cut in cuts})
    if unknown_ids:
        raise ModelError("computed for a cut that was not asked for", utterance=unknown_ids[0])
    results: List[Result] = []
    for cut in cuts:
        result = outputs.get(cut.id)
        if result is None:
            result = DataError("nothing was computed for it")
        if not isinstance(result, DataError):
            results.append(result)
        elif tolerant:
            results.append(Failure.of(cut.id, result))
        else:
            raise DataError(result.what, file=result.file, utterance=cut.id, remedy=result.remedy)
    return results
