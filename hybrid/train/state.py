"""What a training counts, and where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple


@dataclass
class Record:
    """What became of one batch."""

    index: int
    loss: float = 0.0
    frames: float = 0.0
    stats: Dict[str, float] = field(default_factory=dict)
    bad: bool = False
    statistics: Any = None  # of its frames, where the model keeps running ones (batch norm)


@dataclass
class Sums:
    """Of losses over frames."""

    loss: float = 0.0
    frames: float = 0.0
    stats: Dict[str, float] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        self.loss += record.loss
        self.frames += record.frames
        for name, value in record.stats.items():
            self.stats[name] = self.stats.get(name, 0.0) + value

    def means(self) -> Dict[str, float]:
        frames = self.frames or math.nan
        means = {"loss": self.loss / frames}
        for name, value in self.stats.items():
            means["frame_accuracy" if name == "correct" else name] = value / frames
        return means


@dataclass
class State:
    """Where a training stands; JSON in the checkpoint."""

    epoch: int = 0
    piece: int = 0  # of the epoch (loaders.py)
    batch: int = 0  # the next of the piece
    positions: List[Any] = field(default_factory=list)  # in the piece, of each rank's loader, where data are streamed
    update: int = 0
    skipped: int = 0
    seconds: float = 0.0
    grad_norm: float = 0.0  # of the last update
    finished: bool = False
    epoch_sums: Dict[str, Any] = field(default_factory=dict)
    recent_sums: Dict[str, Any] = field(default_factory=dict)
    history: List[Tuple[int, float]] = field(default_factory=list)  # (epoch, development loss)
