"""What a criterion gives the trainer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Protocol

from torch import Tensor

from hybrid.data.batches import Batch


@dataclass
class Loss:
    """value: scalar, to be minimised, summed over the frames of the batch; the trainer divides by frames.

    stats: sums over the same frames, e.g. {"correct": 812.0}; logged per frame ("correct" as frame_accuracy).
    """

    value: Tensor
    frames: float
    stats: Dict[str, float] = field(default_factory=dict)


class Criterion(Protocol):
    """output: what the model returned for the batch. To train with more than one worker, it must be picklable."""

    def __call__(self, output: Mapping[str, Tensor], batch: Batch) -> Loss: ...
