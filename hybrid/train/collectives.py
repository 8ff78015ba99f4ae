"""Collectives of torch.distributed that the ways of exchanging gradients share; what they give is in rank order."""

from __future__ import annotations

from typing import Any, List, Optional

import torch
import torch.distributed as dist
from torch import Tensor


def sum_in_order(x: Tensor, group: Optional[Any] = None) -> Tensor:
    """Return the sum of x [n] over the ranks, added in their order: all_reduce would choose an order of its own."""
    gathered = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, x, group=group)
    total = gathered[0]
    for term in gathered[1:]:
        total.add_(term)
    return total


def gather_bytes(message: Tensor, group: Optional[Any] = None) -> List[Tensor]:
    """Return the messages of all ranks, uint8 [n], n differing, in their order.

    Takes two collectives: lengths, then padded contents.
    """
    size = dist.get_world_size(group)
    length = torch.tensor([message.numel()], dtype=torch.int64, device=message.device)
    lengths = [torch.empty_like(length) for _ in range(size)]
    dist.all_gather(lengths, length, group=group)
    counts = [int(n) for n in lengths]
    padded = torch.zeros(max(counts), dtype=torch.uint8, device=message.device)
    padded[: message.numel()] = message
    messages = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(messages, padded, group=group)
    return [padded_message[:count] for padded_message, count in zip(messages, counts)]
