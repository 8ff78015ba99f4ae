"""Batch normalisation without scale and offset, its statistics taken of the frames that count alone.

    training:    y = (x - m) / sqrt(v + eps),  m and v the mean and variance of each dimension over the batch's frames
    evaluation:  y = (x - M) / sqrt(V + eps),  M and V those of the training so far

as Kaldi's BatchNormComponent (target-rms 1, epsilon 1e-3). M and V are of all batches so far, each weighted by its
frames times DECAY^(batches since). Batch n of f frames joins F frames of before, F already decayed, by (Chan et al.
1979, two samples made one)

    w = f / (F + f),   d = m - M
    M <- M + w d
    V <- V + w (v - V) + w (1 - w) d^2

A forward pass does not change M and V: it leaves (m, v, f) in `statistics`, and who trains hands them to `add`. So a
batch whose loss is not finite leaves no trace, and processes that share out the batches of an update keep the same M
and V, by adding the same statistics in the same order.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

EPSILON = 1e-3
DECAY = 0.9  # per batch: half of the weight is on the last 7; parameters that move fast leave older ones behind

Statistics = Tuple[Tensor, Tensor, int]  # mean [D], variance [D] (of the frames, not of a population), frames


class BatchNorm(nn.Module):
    """x [N, D] -> the same shape; every row is a frame that counts."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.variance: Tensor
        self.frames: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("frames", torch.zeros(1))
        self.statistics: Optional[Statistics] = None  # of the last batch in training

    def forward(self, x: Tensor) -> Tensor:
        x = x.float() if x.dtype == torch.bfloat16 else x  # whose sums would be of no use
        if not self.training:
            return (x - self.mean) * torch.rsqrt(self.variance + EPSILON)
        # One pass forth and one back, where elementary operations take a dozen.
        y, mean, inverse = torch.native_batch_norm(x, None, None, None, None, True, 0.0, EPSILON)
        variance = inverse.detach().double() ** -2 - EPSILON
        self.statistics = (mean.detach(), variance.clamp(min=0.0).to(mean.dtype), x.shape[0])
        return y

    def add(self, statistics: Statistics) -> None:
        mean, variance, frames = statistics
        if not frames:
            return
        before = float(self.frames) * DECAY
        weight = frames / (before + frames)
        difference = mean - self.mean
        self.mean.add_(difference, alpha=weight)
        self.variance.add_(variance - self.variance, alpha=weight)
        self.variance.add_(difference**2, alpha=weight * (1.0 - weight))
        self.frames.fill_(before + frames)


def batch_statistics(model: nn.Module) -> List[Statistics]:
    """Return the statistics of the last forward pass in training, one for each BatchNorm of the model, in its order."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    return [norm.statistics for norm in norms if norm.statistics is not None]


def add_statistics(model: nn.Module, statistics: Sequence[Statistics]) -> None:
    """Add to the model what `batch_statistics` returned, of this process or of another with the same model."""
    modules = [module for module in model.modules() if isinstance(module, BatchNorm)]
    for module, entry in zip(modules, statistics, strict=True):
        module.add(entry)
