"""Sets of arrays (arrays.py) computed cut by cut, several in one pass, and resumed where a run was killed."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

from lhotse.cut import Cut

from hybrid.data.arrays import VERSION, Progress, claim, finish_set, is_complete, start_set
from hybrid.data.compute import computed
from hybrid.data.shards import CutArrays, Failure, FrameShift, on_disk, run_folder, whole_shard, write_shard
from hybrid.io import PathLike, Problems


@dataclass
class ArraySet:
    """A set to be written, FOLDER with arrays of these names.

    settings: anything JSON can hold that the arrays depend on; problems: takes the cuts that are left out; compress: a
    gzip level for the arrays, 1 to 9.
    """

    folder: Path
    names: Sequence[str]
    frame_shift: FrameShift
    settings: Any = None
    problems: Optional[Problems] = None
    compress: Optional[int] = None
    keys: List[str] = field(default_factory=list, init=False)  # of its shards
    marks: Dict[int, Dict[str, Any]] = field(default_factory=dict, init=False)  # of those that are whole

    def gaps(self) -> List[int]:
        """Return the shards that are not there."""
        return [index for index in range(len(self.keys)) if index not in self.marks]

    def key(self, cuts: Sequence[Cut]) -> str:
        """Return what the arrays of a shard depend on: its cuts and the settings, in one hash."""
        shift = dict(self.frame_shift) if isinstance(self.frame_shift, Mapping) else self.frame_shift
        files = [] if self.compress is None else [{"gzip": self.compress}]
        head = json.dumps([VERSION, self.settings, list(self.names), shift, *files], sort_keys=True)
        root = run_folder(self.folder)
        body = (json.dumps(on_disk(cut, self.folder, root), sort_keys=True, default=repr) for cut in cuts)
        return hashlib.sha256("\n".join([head, *body]).encode("utf-8")).hexdigest()

    def write(self, index: int, items: Sequence[CutArrays], failed: Sequence[Failure]) -> None:
        self.marks[index] = write_shard(
            self.folder, index, items, self.names, self.frame_shift, self.keys[index], failed, self.compress
        )

    def report(self) -> int:
        """Add the problems of all shards, those kept among them, to `problems`; return the number of cuts."""
        if self.problems is not None:
            for index in range(len(self.keys)):
                for row in self.marks[index]["problems"]:
                    self.problems.add(row["utterance"], row["reason"], row["file"], row.get("remedy"))
        return sum(mark["cuts"] for mark in self.marks.values())


def write_shards(
    folder: PathLike,
    cuts: Iterable[Cut],
    compute: Callable[[Any], Mapping[str, Any]],
    *,
    names: Sequence[str],
    frame_shift: FrameShift,
    shard_size: int = 500,
    batch: Optional[int] = None,
    compress: Optional[int] = None,
    executor: Optional[Executor] = None,
    settings: Any = None,
    problems: Optional[Problems] = None,
    progress: Optional[Progress] = None,
) -> int:
    """Compute `compute(cut)` = {name: array [T, ...]} for every cut and write the set; return the number of cuts
    written. The rest is as in `write_sets`."""
    one = ArraySet(Path(folder), names, frame_shift, settings, problems, compress)
    return write_sets(
        [one], cuts, compute, shard_size=shard_size, batch=batch, executor=executor, progress=progress
    )[0]


def write_sets(
    sets: Sequence[ArraySet],
    cuts: Iterable[Cut],
    compute: Callable[[Any], Mapping[str, Any]],
    *,
    shard_size: int = 500,
    batch: Optional[int] = None,
    executor: Optional[Executor] = None,
    progress: Optional[Progress] = None,
) -> List[int]:
    """Compute `compute(cut)` = {name: array [T, ...]}, of the names of all sets, for every cut and write the sets,
    shard by shard; return the number of cuts written to each.

    cuts: gone through twice, some shards of them in memory at a time, unless they are an iterator, which is held.

    With `batch`, `compute(list of up to that many cuts)` = {cut id: {name: array}}: a network is several times faster
    on many at once. A cut that is not in its result, or has a DataError there, is left out like one that raises.

    Goes on where a killed run was: a shard is kept when the same cuts, settings, names and frame shift made it.
    `compute` runs in `executor` where one is given and must then be picklable. A DataError from it leaves the cut out
    of all sets and is added to their `problems` (also the problems of shards that are kept, so that a resumed run names
    the same ones); where a set has none it is raised. `progress(iterable, total=, desc=)` wraps the stream of cuts,
    like tqdm.
    """
    again = list(cuts) if iter(cuts) is cuts else cuts
    sizes = _look(sets, again, shard_size)
    gaps = sorted({index for one in sets for index in one.gaps()})
    unfinished = [one for one in sets if one.gaps() or not is_complete(one.folder, _in_order(one))]
    for one in unfinished:
        start_set(one.folder, keep=list(one.marks))
    if gaps:
        _fill(sets, again, compute, gaps, sizes, shard_size, batch, executor, progress)
    for one in unfinished:
        finish_set(one.folder, _in_order(one), one.names, one.frame_shift, one.settings)
    return [one.report() for one in sets]


def _look(sets: Sequence[ArraySet], cuts: Iterable[Cut], shard_size: int) -> List[int]:
    """Find the shards that there are to be, and those that are there; return how many cuts each has."""
    ids: Dict[str, None] = {}
    sizes: List[int] = []
    for shard in _shards(cuts, shard_size):
        for cut in shard:
            claim(ids, cut.id, sets[0].folder)
        for one in sets:
            one.keys.append(one.key(shard))
            mark = whole_shard(one.folder, len(sizes), one.keys[-1])
            if mark is not None:
                one.marks[len(sizes)] = mark
        sizes.append(len(shard))
    return sizes


def _fill(
    sets: Sequence[ArraySet], cuts: Iterable[Cut], compute: Callable[[Any], Any], gaps: Sequence[int],
    sizes: Sequence[int], shard_size: int, batch: Optional[int], executor: Optional[Executor],
    progress: Optional[Progress],
) -> None:  # fmt: skip
    """Compute the shards `gaps`, and write each into the sets that lack it."""
    under_way: Deque[List[Cut]] = deque()
    todo = set(gaps)

    def unwritten() -> Iterator[List[Cut]]:
        for index, shard in enumerate(_shards(cuts, shard_size)):
            if index in todo:
                under_way.append(shard)
                yield shard

    tolerant = all(one.problems is not None for one in sets)
    results = computed(compute, unwritten(), executor, tolerant=tolerant, batch=batch)
    if progress is not None:
        total = sum(sizes[index] for index in gaps)
        results = iter(progress(results, total=total, desc=sets[0].folder.name))
    for index in gaps:
        items: List[CutArrays] = []
        failed: List[Failure] = []
        for number in range(sizes[index]):
            result = next(results)  # puts its shard under way, if none before it has
            if isinstance(result, Failure):
                failed.append(result)
            else:
                items.append((under_way[0][number], result))
        under_way.popleft()
        for one in sets:
            if index not in one.marks:
                one.write(index, items, failed)
    for _ in results:  # Lets a progress bar come to its end.
        pass


def _in_order(one: ArraySet) -> List[Dict[str, Any]]:
    return [one.marks[index] for index in sorted(one.marks)]


def _shards(cuts: Iterable[Cut], shard_size: int) -> Iterator[List[Cut]]:
    stream = iter(cuts)
    while shard := list(islice(stream, shard_size)):
        yield shard
