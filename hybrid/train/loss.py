"""What a criterion hands to the trainer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict

import torch


@dataclass
class Loss:
    """`value`: scalar to minimise, summed over frames; `frames`: the number of frames in it;
    `stats`: named sums over the same frames, to be divided by `frames` for a curve."""

    value: torch.Tensor
    frames: float
    stats: Dict[str, float] = field(default_factory=dict)
