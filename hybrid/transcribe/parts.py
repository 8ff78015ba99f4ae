"""What is done of recordings that are being transcribed, on disk, so that a run that was stopped goes on within them.

    OUT/work/parts/NAME.jsonl           a first line {"id", "key", "stats"}, then a segment each
    OUT/work/parts/NAME.safetensors     where to go on (hybrid/decode/recording.py), and how many segments are before

The segments are written first, and then the place replaces the last one as a whole: a kill at any moment leaves a place
whose segments are there; what stands behind these, torn or not, is done again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from hybrid.data.cmvn import CmvnStats
from hybrid.decode.recording import Checkpoint
from hybrid.errors import HybridError
from hybrid.fingerprint import of_value
from hybrid.io import disk_errors, load_tensors, save_tensors, write_text

LONG = 60.0  # seconds: of shorter recordings nothing is kept before they are done
EVERY = 60.0  # seconds of speech between two places

Key = Mapping[str, str]  # what a recording's words depend on: {"model", "options", "audio"} -> a hash


class Place(NamedTuple):
    """Where a recording's part is kept, and what it must have been made with."""

    folder: Path
    id: str
    key: Key

    def files(self) -> List[Path]:
        """Return the paths of its segments and of where to go on."""
        name = of_value(self.id)[:16]
        return [self.folder / f"{name}.jsonl", self.folder / f"{name}.safetensors"]

    def remove(self) -> None:
        """Delete what is kept; nothing happens where nothing is."""
        for file in reversed(self.files()):  # a place without its segments would be a lie
            with disk_errors(file):
                file.unlink(missing_ok=True)


class Part:
    """What is kept of one recording.

    stats: of its features, None where they are not known yet; segments: of the transcript, as JSON, to which the next
    are appended; checkpoint: where to go on behind these, None: at the beginning; changed: why what was there cannot be
    used, or "".
    """

    def __init__(self, place: Place) -> None:
        self._place, (self._lines, self._state) = place, place.files()
        self.stats: Optional[CmvnStats] = None
        self.segments: List[Dict[str, Any]] = []
        self.checkpoint: Optional[Checkpoint] = None
        self.changed = ""
        self._written = 0
        if self._lines.exists():
            try:
                self._read()
            except (HybridError, OSError, LookupError, TypeError, ValueError, AttributeError):
                self.changed = "what was kept of it is damaged"
                self.stats, self.segments, self.checkpoint = None, [], None

    def _read(self) -> None:
        lines = self._lines.read_text(encoding="utf-8").splitlines()
        head = json.loads(lines[0])
        self.changed = difference(head["key"], self._place.key)
        if self.changed:
            return
        if head["stats"] is not None:
            count, *sums = head["stats"]
            self.stats = CmvnStats(float(count), *(np.array(values, np.float64) for values in sums))
        if self._state.exists():
            state = load_tensors(self._state)
            frame, segments = (int(state.pop(name)[0]) for name in ("frame", "segments"))
            self.segments = [json.loads(line) for line in lines[1 : 1 + segments]]
            if len(self.segments) < segments:
                raise ValueError(f"{len(self.segments)} of {segments} segments")
            self.checkpoint = Checkpoint(frame, state)

    def begin(self, stats: Optional[CmvnStats]) -> None:
        """Write what is known before the first new segment. stats: of the recording, None where they are not needed or
        those of other recordings too."""
        if self.checkpoint is None:
            with disk_errors(self._state):
                self._state.unlink(missing_ok=True)
        sums = None if stats is None else [stats.count, stats.sum.tolist(), stats.squares.tolist()]
        head = {"id": self._place.id, "key": dict(self._place.key), "stats": sums}
        write_text(self._lines, "".join(_line(row) for row in (head, *self.segments)))
        self._written = len(self.segments)

    def save(self, checkpoint: Optional[Checkpoint], frame_shift: float) -> None:
        """Write the segments and where to go on behind them, where there is such a place and it is worth it."""
        before = 0 if self.checkpoint is None else self.checkpoint.frame
        if checkpoint is None or (checkpoint.frame - before) * frame_shift < EVERY:
            return
        with disk_errors(self._lines), open(self._lines, "a", encoding="utf-8") as stream:
            stream.writelines(map(_line, self.segments[self._written :]))
        self._written = len(self.segments)
        numbers = {"frame": checkpoint.frame, "segments": self._written}
        arrays = {name: np.array([number]) for name, number in numbers.items()}
        save_tensors(self._state, {**checkpoint.acoustics, **arrays})
        self.checkpoint = checkpoint


def difference(kept: Any, key: Key) -> str:
    """Return what has changed since something was kept, "" where nothing has."""
    if not isinstance(kept, dict) or set(kept) != set(key):
        return "what was kept of it is of another version"
    names = {"model": "the model has", "options": "the options have", "audio": "the audio has"}
    changed = [names[name] for name in key if kept[name] != key[name]]
    return f"{' and '.join(changed)} changed" if changed else ""


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
