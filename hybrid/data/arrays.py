"""Sets of cuts with arrays (features, alignments, targets) on disk, as Lhotse Shar.

    FOLDER/shards/cuts.000000.jsonl.gz    the cuts; they keep pointing at their audio files (sources.py)
    FOLDER/shards/mfcc.000000.tar         one .npy and its manifest per cut, in the cuts' order (.tar.gz: gzipped)
    FOLDER/marks/000000.json              the shard is whole: its input's fingerprint, sizes, hashes, problems
    FOLDER/complete.json                  the set is whole; written last

`CutSet.from_shar(in_dir=FOLDER/shards)` reads it too. A file appears under its name only when it is whole
and a shard counts only by its mark, so that a process killed at any moment loses at most the shard that it
was writing, and the next run neither doubles nor drops a cut.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from concurrent.futures import Executor
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from hybrid.data.compute import computed
from hybrid.data.shards import AGAIN, CutArrays, Failure, FrameShift, on_disk, read_shard, whole_shard, write_shard
from hybrid.errors import DataError
from hybrid.io import PathLike, Problems, disk_errors, read_json, write_json

VERSION = 1
Progress = Callable[..., Iterable[Any]]


# ------------------------------------------------------------------ writing


def write_arrays(
    folder: PathLike,
    items: Iterable[CutArrays],
    *,
    names: Sequence[str],
    frame_shift: FrameShift,
    shard_size: int = 500,
) -> int:
    """Writes `items` = (cut, {name: array [T, ...]}) afresh, whatever stood in `folder`; returns the number of cuts.

    `frame_shift` in seconds, one for all or one per name. Memory: one shard. What takes long to compute
    belongs into `write_shards`, which resumes. Raises DataError (duplicate id, missing or odd array), DiskError.
    """
    folder = Path(folder)
    start_set(folder)
    marks: List[Dict[str, Any]] = []
    ids: Dict[str, None] = {}
    shard: List[CutArrays] = []
    for cut, arrays in items:
        claim(ids, cut.id, folder)
        shard.append((cut, arrays))
        if len(shard) == shard_size:
            marks.append(write_shard(folder, len(marks), shard, names, frame_shift, key="", problems=[]))
            shard = []
    if shard:
        marks.append(write_shard(folder, len(marks), shard, names, frame_shift, key="", problems=[]))
    finish_set(folder, marks, names, frame_shift, None)
    return sum(mark["cuts"] for mark in marks)


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
    """Computes `compute(cut)` = {name: array [T, ...]} for every cut and writes the set; returns the cuts written.

    cuts: gone through twice, some shards of them in memory at a time, unless they are an iterator, which is held.

    With `batch`, `compute(list of up to that many cuts)` = {cut id: {name: array}}: a network is several times faster
    on many at once. A cut that is not in its result, or has a DataError there, is left out like one that raises.
    compress: a gzip level for the arrays, 1 to 9.

    Goes on where a killed run was: a shard is kept when the same cuts, `settings` (anything JSON can hold that
    the arrays depend on), names and frame shift made it. `compute` runs in `executor` where one is given and
    must then be picklable. A DataError from it leaves the cut out and is added to `problems` (also the problems
    of shards that are kept, so that a resumed run names the same ones); without `problems` it is raised.
    `progress(iterable, total=, desc=)` wraps the stream of cuts, like tqdm.
    """
    folder = Path(folder)
    again = list(cuts) if iter(cuts) is cuts else cuts
    ids: Dict[str, None] = {}
    keys: List[str] = []
    sizes: List[int] = []
    for shard in _shards(again, shard_size):
        for cut in shard:
            claim(ids, cut.id, folder)
        keys.append(_key(folder, shard, settings, names, frame_shift, compress))
        sizes.append(len(shard))
    marks = {index: mark for index, key in enumerate(keys) if (mark := whole_shard(folder, index, key)) is not None}
    gaps = [index for index in range(len(keys)) if index not in marks]
    if gaps or not is_complete(folder, list(marks.values())):
        start_set(folder, keep=list(marks))
        under_way: Deque[List[Cut]] = deque()

        def unwritten() -> Iterator[List[Cut]]:
            for index, shard in enumerate(_shards(again, shard_size)):
                if index in todo:
                    under_way.append(shard)
                    yield shard

        todo = set(gaps)
        results = computed(compute, unwritten() if gaps else (), executor, tolerant=problems is not None, batch=batch)
        if progress is not None:
            results = iter(progress(results, total=sum(sizes[index] for index in gaps), desc=folder.name))
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
            marks[index] = write_shard(folder, index, items, names, frame_shift, keys[index], failed, compress)
        for _ in results:  # Lets a progress bar come to its end.
            pass
        finish_set(folder, [marks[index] for index in range(len(keys))], names, frame_shift, settings)
    num_cuts = 0
    for index in range(len(keys)):
        mark = marks[index]
        num_cuts += mark["cuts"]
        if problems is not None:
            for row in mark["problems"]:
                problems.add(row["utterance"], row["reason"], row["file"], row.get("remedy"))
    return num_cuts


def _shards(cuts: Iterable[Cut], shard_size: int) -> Iterator[List[Cut]]:
    stream = iter(cuts)
    while shard := list(islice(stream, shard_size)):
        yield shard


def start_set(folder: Path, keep: Sequence[int] = ()) -> None:
    """Takes the mark of completeness away, then every file that no kept shard owns (left by a killed run)."""
    with disk_errors(folder):
        (folder / "complete.json").unlink(missing_ok=True)
        for subfolder in ("marks", "shards"):
            (folder / subfolder).mkdir(parents=True, exist_ok=True)
        numbers = {f"{index:06d}" for index in keep}
        for path in [*(folder / "marks").iterdir(), *(folder / "shards").iterdir()]:
            if path.name.startswith(".") or not numbers.intersection(path.name.split(".")):
                path.unlink(missing_ok=True)


def finish_set(
    folder: Path, marks: Sequence[Mapping[str, Any]], names: Sequence[str], frame_shift: FrameShift, settings: Any
) -> None:
    write_json(folder / "complete.json", _summary(marks, names, frame_shift, settings))


def _summary(
    marks: Sequence[Mapping[str, Any]], names: Sequence[str], frame_shift: FrameShift, settings: Any
) -> Dict[str, Any]:
    return {
        "version": VERSION,
        "cuts": sum(mark["cuts"] for mark in marks),
        "names": list(names),
        "frame_shift": dict(frame_shift) if isinstance(frame_shift, Mapping) else frame_shift,
        "settings": settings,
        # Shards that an earlier version wrote do not say how many frames they hold.
        "shards": [{name: mark[name] for name in ("cuts", "frames", "files") if name in mark} for mark in marks],
        "fingerprint": _fingerprint(marks),
    }


def _fingerprint(marks: Sequence[Mapping[str, Any]]) -> str:
    rows = [(name, row["sha256"]) for mark in marks for name, row in sorted(mark["files"].items())]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def is_complete(folder: Path, marks: Sequence[Mapping[str, Any]]) -> bool:
    try:
        complete = read_json(folder / "complete.json")
        return complete["fingerprint"] == _fingerprint(marks)
    except (DataError, KeyError, TypeError):
        return False


def _key(
    folder: Path, cuts: Sequence[Cut], settings: Any, names: Sequence[str], frame_shift: FrameShift,
    compress: Optional[int],
) -> str:  # fmt: skip
    """What the arrays of a shard depend on: its cuts and the settings, in one hash."""
    shift = dict(frame_shift) if isinstance(frame_shift, Mapping) else frame_shift
    files = [] if compress is None else [{"gzip": compress}]
    head = json.dumps([VERSION, settings, list(names), shift, *files], sort_keys=True)
    body = (json.dumps(on_disk(cut, folder), sort_keys=True, default=repr) for cut in cuts)
    return hashlib.sha256("\n".join([head, *body]).encode("utf-8")).hexdigest()


def claim(seen: Dict[str, None], identifier: str, folder: Path) -> None:
    if identifier in seen:
        raise DataError(
            "two cuts have the same id", file=folder, utterance=identifier, remedy="give each utterance its own id"
        )
    seen[identifier] = None


# ------------------------------------------------------------------ reading


def read_arrays(folder: PathLike, *names: str) -> Tuple[Any, ...]:
    """Return (CutSet, {id: array}, ...): a dict for each of `names`, all in memory, in the order they were written.

    Raises DataError where the set is missing, unfinished or damaged, or holds no such array.
    """
    cuts: List[Cut] = []
    arrays: List[Dict[str, np.ndarray]] = [{} for _ in names]
    for cut, cut_arrays in iterate_arrays(folder, *names):
        cuts.append(cut)
        for name, values in zip(names, arrays, strict=True):
            values[cut.id] = cut_arrays[name]
    return (CutSet.from_cuts(cuts), *arrays)


def iterate_arrays(folder: PathLike, *names: str) -> Iterator[Tuple[Cut, Dict[str, np.ndarray]]]:
    """Yield (cut, {name: array}) of a set in its order, a cut at a time, for sets that do not fit in memory.

    Raises as `read_arrays`.
    """
    folder = Path(folder)
    complete = read_complete(folder)
    check_names(folder, complete, names)
    for index, shard in enumerate(complete["shards"]):
        yield from read_shard(folder, index, shard, names)


def check_names(folder: Path, complete: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise DataError where a set, of which `complete` is the mark, lacks arrays of one of these names."""
    for name in names:
        if name not in complete["names"]:
            raise DataError(
                f"no arrays '{name}' in this set (there are: {', '.join(complete['names'])})",
                file=folder,
                remedy="run the stage that writes them again",
            )


class StoredCuts:
    """The cuts of a set in its order, read whenever they are gone through, a shard in memory at a time."""

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)

    def __len__(self) -> int:
        return int(read_complete(self.folder)["cuts"])

    def __iter__(self) -> Iterator[Cut]:
        return (cut for cut, _ in iterate_arrays(self.folder))


def read_cuts(folder: PathLike) -> CutSet:
    """Return the cuts of a set, without its arrays. Raises as `read_arrays`."""
    return read_arrays(folder)[0]


def read_complete(folder: PathLike) -> Dict[str, Any]:
    """Return the mark of a finished set.

    It has "cuts" (how many), "names", "frame_shift", "settings", "shards" and "fingerprint".
    Raises DataError where the set is missing, unfinished or of another version.
    """
    folder = Path(folder)
    path = folder / "complete.json"
    if not folder.is_dir():
        raise DataError("no such set of arrays", file=folder, remedy="run the stage that writes it")
    if not path.is_file():
        raise DataError("this set of arrays is not finished", file=folder, remedy="run the stage that writes it again")
    complete = read_json(path)
    if not isinstance(complete, dict) or complete.get("version") != VERSION:
        raise DataError("this set of arrays has another version", file=path, remedy=AGAIN)
    return complete
