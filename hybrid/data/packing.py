"""Training shards: features and what is learnt from them, side by side in one set of arrays (arrays.py).

    FOLDER/shards/features.000000.tar    float32 or float16 [T, D]
    FOLDER/shards/pdfs.000000.tar        int32 [T], where the utterances have pdfs
    FOLDER/shards/targets.000000.tar     uint8 [T, B], where they have soft targets (topk_codec.py)
    FOLDER/complete.json                 "shards": cuts and frames of each; "settings": "dim", and "codec" and "k"

Targets are written from the clean twins and features for every copy, in folders of their own; a training that streams
(stream.py) wants them together. As with targets a folder is for some thousand hours: the ids of one lie in memory.
"""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np
from lhotse import MonoCut, SupervisionSegment

from hybrid.data.arrays import VERSION, claim, finish_set, is_complete, start_set
from hybrid.data.batches import Utterance, check_utterance
from hybrid.data.shards import CutArrays, Failure, whole_shard, write_shard
from hybrid.data.target_store import SoftTargets
from hybrid.data.targets import NAME
from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, Problems, disk_errors, read_json

DTYPES = ("float32", "float16")
FEATURES, PDFS = "features", "pdfs"


def pack(
    folder: PathLike,
    utterances: Iterable[Utterance],
    *,
    frame_shift: float,
    shard_size: int = 500,
    dtype: str = "float32",
    compress: Optional[int] = None,
    settings: Optional[Mapping[str, Any]] = None,
    problems: Optional[Problems] = None,
) -> int:
    """Writes `utterances`, of which one shard lies in memory at a time; returns how many were written.

    frame_shift in seconds. dtype: of the features on disk; float16 takes half the room. compress: a gzip level;
    features shrink by a tenth and then take three times as long to read, so None. Kept of `extra`: "soft"
    (SoftTargets), "clean_cut" and "text". Which arrays there are, the first utterance decides. settings: JSON, kept
    beside "dim" and "codec", that says where they come from; what other settings have made is made anew.

    Goes on where a killed run was, if the utterances come again in the same order: shards that hold the same are kept.
    An utterance that cannot be used, or lacks what the first one has, is left out and added to `problems`; without
    `problems` its DataError is raised. Raises DataError (no utterances, an id twice), ConfigError, DiskError.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"features of the type {dtype!r} cannot be packed", remedy=f"one of {', '.join(DTYPES)}")
    if isinstance(shard_size, bool) or not isinstance(shard_size, int) or shard_size < 1:
        raise ConfigError(f"shard_size is {shard_size!r}", remedy="utterances a shard, e.g. 500")
    folder = Path(folder)
    stream = iter(utterances)
    shard = list(islice(stream, shard_size))
    if not shard:
        raise DataError("no utterances to pack", file=folder, remedy="look at problems.jsonl of the stages before")
    form = _Form(shard[0], np.dtype(dtype), settings or {})
    marks: List[Dict[str, Any]] = []
    ids: Dict[str, None] = {}
    while shard:
        items, failed = _items(shard, form, frame_shift, folder, ids, tolerant=problems is not None)
        key = _key(items, failed, form, frame_shift, compress)
        mark = whole_shard(folder, len(marks), key)
        if mark is None:
            _make_room(folder, len(marks))
            names = list(form.names)
            mark = write_shard(folder, len(marks), items, names, frame_shift, key, failed, compress)
        marks.append(mark)
        shard = list(islice(stream, shard_size))
    if not _is_finished(folder, marks, form):
        start_set(folder, keep=range(len(marks)))  # away with what a longer or a killed run left
        finish_set(folder, marks, list(form.names), frame_shift, form.settings)
    if problems is not None:
        for row in (row for mark in marks for row in mark["problems"]):
            problems.add(row["utterance"], row["reason"], row["file"], row.get("remedy"))
    return sum(mark["cuts"] for mark in marks)


class _Form:
    """What every utterance of a set has, by the first one."""

    def __init__(self, first: Utterance, dtype: np.dtype, settings: Mapping[str, Any]) -> None:
        check_utterance(first)
        soft: Optional[SoftTargets] = first.extra.get("soft")
        self.dtype = dtype
        self.dim = int(first.features.shape[1])
        self.codec = None if soft is None else soft.codec
        self.k = None if soft is None else soft.k
        self.names: Tuple[str, ...] = (FEATURES,)
        self.names += () if first.pdfs is None else (PDFS,)
        self.names += () if soft is None else (NAME,)
        self.settings: Dict[str, Any] = {**settings, "dim": self.dim}
        if self.codec is not None:
            self.settings.update(codec=self.codec.to_dict(), k=self.k)

    def arrays(self, utterance: Utterance) -> Dict[str, np.ndarray]:
        """Raises DataError where it cannot be used."""
        check_utterance(utterance, self.dim)
        with np.errstate(over="ignore"):
            features = utterance.features.astype(self.dtype, copy=False)
        if not np.isfinite(features).all():
            raise DataError(f"features too large for {self.dtype}", utterance=utterance.id, remedy="pack float32")
        arrays = {FEATURES: features}
        if utterance.pdfs is not None:
            arrays[PDFS] = np.asarray(utterance.pdfs).astype(np.int32)
        soft = utterance.extra.get("soft")
        if soft is not None:
            arrays[NAME] = self._packed(soft, utterance)
        if tuple(arrays) != self.names:
            problem = f"{', '.join(arrays)} where the first utterance has {', '.join(self.names)}"
            raise DataError(problem, utterance=utterance.id, remedy="pack what has other arrays into another folder")
        return arrays

    def _packed(self, soft: SoftTargets, utterance: Utterance) -> np.ndarray:
        if (soft.codec, soft.k) != (self.codec, self.k):
            raise DataError("its soft targets are of another codec or k", utterance=utterance.id, remedy="one of each")
        if len(soft) != utterance.num_frames:
            raise DataError(
                f"soft targets of {len(soft)} frames for {utterance.num_frames} frames",
                utterance=utterance.id,
                remedy="cut both to the shorter one",
            )
        return soft.packed


def _items(
    shard: List[Utterance], form: _Form, frame_shift: float, folder: Path, ids: Dict[str, None], *, tolerant: bool
) -> Tuple[List[CutArrays], List[Failure]]:
    items: List[CutArrays] = []
    failed: List[Failure] = []
    for utterance in shard:
        claim(ids, utterance.id, folder)
        try:
            items.append((_cut(utterance, frame_shift), form.arrays(utterance)))
        except DataError as error:
            if not tolerant:
                raise
            failed.append(Failure.of(utterance.id, error))
    return items, failed


def _cut(utterance: Utterance, frame_shift: float) -> MonoCut:
    """It stands for a time, a text and a clean cut; there is no audio behind it."""
    duration = round(max(1, len(utterance.features)) * frame_shift, 6)
    text, clean_cut = utterance.extra.get("text"), utterance.extra.get("clean_cut")
    supervisions = [] if text is None else [SupervisionSegment(utterance.id, utterance.id, 0.0, duration, text=text)]
    custom = None if clean_cut is None else {"clean_cut": clean_cut}
    return MonoCut(utterance.id, 0.0, duration, 0, supervisions=supervisions, custom=custom)


def _key(
    items: List[CutArrays], failed: List[Failure], form: _Form, frame_shift: float, compress: Optional[int]
) -> str:
    """Of all that a shard holds: the arrays lie in memory anyway, and hashing is faster than writing."""
    head = [VERSION, frame_shift, str(form.dtype), compress, form.names, form.settings, [vars(f) for f in failed]]
    digest = hashlib.sha256(json.dumps(head).encode())
    for cut, arrays in items:
        digest.update(json.dumps(cut.to_dict(), sort_keys=True, default=repr).encode())
        for array in arrays.values():
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _make_room(folder: Path, index: int) -> None:
    """The set is no longer complete, and nothing of the old shard is left under another name."""
    with disk_errors(folder):
        (folder / "complete.json").unlink(missing_ok=True)
        for path in (folder / "shards").glob(f"*.{index:06d}.*"):
            path.unlink()


def _is_finished(folder: Path, marks: List[Dict[str, Any]], form: _Form) -> bool:
    return is_complete(folder, marks) and read_json(folder / "complete.json").get("settings") == form.settings
