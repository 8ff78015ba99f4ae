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
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from hybrid.data.shards import AGAIN, CutArrays, FrameShift, read_shard, write_shard
from hybrid.errors import DataError
from hybrid.io import PathLike, disk_errors, read_json, write_json

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
    belongs into `write_shards` (array_writing.py), which resumes. Raises DataError (duplicate id, missing or odd
    array), DiskError.
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
