"""Training on many machines: `torchrun --nnodes 4 --nproc_per_node 8 -m hybrid.cli run ...`.

torchrun starts the same command in every process. The first (rank 0) runs it. The others wait, and train with it
whenever it trains: it sends them what a trainer is made of, as it does to the worker processes of one machine
(workers.py). So stages need not know of them, and nothing but the trainer writes from more than one process.

Where one process dies, torchrun ends all, and with --max_restarts begins them again: the first finds the checkpoint
and all go on from there. A process that hangs is noticed by the others after trainer.timeout_minutes; they end, and
torchrun does the rest.

torch 1.13 under Python 3.11 needs `torchrun --redirects 1 --tee 1`: its default, 0, has no name there any more
("'NoneType' object has no attribute 'get'").
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Iterator, List

import torch
import torch.distributed as dist

from hybrid.device import choose
from hybrid.errors import HybridError
from hybrid.train.process_group import ProcessGroup, unpack

# Stages between two trainings may take days, in which the others only wait.
_PATIENCE = timedelta(days=30)


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """Return the number of this process among those that torchrun has started on this machine; 0 without it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def crew() -> Iterator[bool]:
    """Yield True in the process that is to run the command; in the others False, after all trainings of the first.

    An error ends the process that it happens in, and so, by torchrun, all.
    """
    if not under_torchrun():
        yield True
        return
    # The store outlives an attempt, and torch 2 looks in it for processes of the one before.
    store, rank, size = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    device = choose("auto", local_rank())
    if device != "cpu":
        torch.cuda.set_device(device)
    try:
        if dist.get_rank():
            _train_when_told()
            yield False
        else:
            yield True
            _send(None)
    finally:
        dist.destroy_process_group()


def start_training(payload: bytes, minutes: float, cuda: bool) -> ProcessGroup:
    """Sends the main process's `payload` (process_group.pack) to the others, which begin to train with it."""
    _send((payload, minutes, cuda))
    return _new_group(minutes, cuda)


def _train_when_told() -> None:
    while True:
        message = _receive()
        if message is None:
            return
        payload, minutes, cuda = message
        try:
            task, arguments = unpack(payload)
            task(_new_group(minutes, cuda), arguments)
        except HybridError as error:
            # The first says the same, unless it is of this process alone.
            print(f"process {dist.get_rank()}: {error}", flush=True)
            raise SystemExit(1) from error


def _new_group(minutes: float, cuda: bool) -> ProcessGroup:
    patience = timedelta(minutes=minutes)
    objects = dist.new_group(backend="gloo", timeout=patience)
    return ProcessGroup(objects, dist.new_group(backend="nccl", timeout=patience) if cuda else objects)


def _send(value: Any) -> None:
    dist.broadcast_object_list([value], src=0)


def _receive() -> Any:
    values: List[Any] = [None]
    dist.broadcast_object_list(values, src=0)
    return values[0]
