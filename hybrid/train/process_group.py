"""The processes that share one training, as its parts see them: one alone, or a group of torch.distributed.

Every process holds the model and makes the same updates; what differs is which batches it computes. Sums are taken
in the order of the ranks, so that the numbers depend on the number of processes alone, never on timing.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
import torch.distributed as dist
from torch import nn

from hybrid.errors import ConfigError, HybridError
from hybrid.train.collectives import sum_in_order


class SingleProcess:
    """A training in one process."""

    rank = 0
    world_size = 1
    tensors: Any = None

    @property
    def is_main(self) -> bool:
        """True where this process writes the files that all read."""
        return self.rank == 0

    def gather(self, value: Any) -> List[Any]:
        """Returns the value of every rank, in their order; all wait for each other."""
        return [value]

    def sum_gradients(self, parameters: Sequence[nn.Parameter], present: Sequence[int]) -> None:
        """Sums .grad over the ranks; `present`: the indices of the parameters that have one on any rank."""

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the mean over the ranks; the same bits on all."""
        return x


class ProcessGroup(SingleProcess):
    """A process group of torch.distributed (None: the default one) for objects, and one for tensors: NCCL's takes none
    that are not on a GPU."""

    def __init__(self, objects: Optional[Any] = None, tensors: Optional[Any] = None) -> None:
        self.objects, self.tensors = objects, tensors
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()

    def gather(self, value: Any) -> List[Any]:
        values: List[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.objects)
        return values

    def sum_gradients(self, parameters: Sequence[nn.Parameter], present: Sequence[int]) -> None:
        selected = [parameters[index] for index in present]
        if not selected:
            return
        gradients = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in selected]
        total = sum_in_order(torch.cat(gradients), self.tensors)
        start = 0
        for parameter in selected:
            parameter.grad = total[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total, group=self.tensors)
        return total.div_(self.world_size)


# Trains in a process that is not the main one: its group, and what the main process's training is made of.
Task = Callable[[SingleProcess, Tuple[Any, ...]], None]


def pack(task: Task, arguments: Tuple[Any, ...]) -> bytes:
    """Returns `task` (a function of a module) and its arguments as bytes. Raises ConfigError where they cannot be."""
    # Plain pickle: multiprocessing's own would share the parameters' memory between the processes.
    try:
        return pickle.dumps((task, arguments))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(f"this training cannot be shared out: {error}", remedy="set train.workers to 1") from error


def unpack(payload: bytes) -> Tuple[Task, Tuple[Any, ...]]:
    """Returns what `pack` was given."""
    return pickle.loads(payload)


def check_same_model(group: SingleProcess, model: nn.Module, epoch: int, file: Path) -> None:
    """Compares the models: each process makes the updates for itself; sums are equal to the bit, but machines may round
    differently. Raises HybridError where a model is not that of rank 0."""
    if group.world_size == 1:
        return
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    digests = group.gather(digest.hexdigest())
    ranks = [str(rank) for rank, rank_digest in enumerate(digests) if rank_digest != digests[0]]
    if ranks:
        workers = f"workers {', '.join(ranks)} (of {group.world_size})"
        raise HybridError(
            f"after epoch {epoch + 1} the models of {workers} are not that of worker 0",
            file=file,
            remedy="let all run on one kind of processor with the same versions (hybrid doctor); the same command goes "
            "on from the last checkpoint, which all read",
        )
