"""One training over several processes: of one machine, or those that torchrun has started (torchrun.py).

Every process holds the model and makes the same updates; what differs is which batches it computes. Sums are taken
in the order of the ranks, so that the numbers depend on the number of processes alone, never on timing.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence

import torch
import torch.distributed as dist
from torch import nn

from hybrid.errors import ConfigError, HybridError
from hybrid.parallel import _context, _start_worker, start_server
from hybrid.train.collectives import sum_in_order


class Alone:
    """A training in one process."""

    rank = 0
    size = 1
    tensors: Any = None

    def gather(self, value: Any) -> List[Any]:
        return [value]

    def sum_gradients(self, parameters: Sequence[nn.Parameter], present: Sequence[int]) -> None:
        """Sums .grad over the ranks; `present`: the indices of the parameters that have one on any rank."""

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Over the ranks; the same bits on all."""
        return x


class Group(Alone):
    """A process group of torch.distributed (None: the default one) for objects, and one for tensors: NCCL's takes none
    that are not on a GPU."""

    def __init__(self, objects: Optional[Any] = None, tensors: Optional[Any] = None) -> None:
        self.objects, self.tensors = objects, tensors
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def gather(self, value: Any) -> List[Any]:
        """The value of every rank, in their order."""
        values: List[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.objects)
        return values

    def sum_gradients(self, parameters: Sequence[nn.Parameter], present: Sequence[int]) -> None:
        chosen = [parameters[index] for index in present]
        if not chosen:
            return
        parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in chosen]
        total = sum_in_order(torch.cat(parts), self.tensors)
        start = 0
        for parameter in chosen:
            parameter.grad = total[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total, group=self.tensors)
        return total.div_(self.size)


def check_same_model(members: Alone, model: nn.Module, epoch: int, file: Path) -> None:
    """Each makes the updates for itself; sums are equal to the bit, but machines may round differently. Raises
    HybridError where a model is not that of worker 0."""
    if members.size == 1:
        return
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    digests = members.gather(digest.hexdigest())
    others = [str(rank) for rank, its in enumerate(digests) if its != digests[0]]
    if others:
        who = f"workers {', '.join(others)} (of {members.size})"
        raise HybridError(
            f"after epoch {epoch + 1} the models of {who} are not that of worker 0",
            file=file,
            remedy="let all run on one kind of processor with the same versions (hybrid doctor); the same command goes "
            "on from the last checkpoint, which all read",
        )


@contextmanager
def group(trainer: Any, workers: int) -> Iterator[Alone]:
    """Starts workers - 1 processes that run trainer._fit with us, and ends them with the block. Under torchrun, those
    that there are do.

    An error in one of them is raised here.
    """
    from hybrid.train.torchrun import lead, under_torchrun

    minutes = trainer.config.timeout_minutes
    if under_torchrun():
        yield lead(_packed(trainer), minutes, trainer.config.find_device().type == "cuda")
        return
    if workers == 1:
        yield Alone()
        return
    payload = _packed(trainer)
    folder = tempfile.mkdtemp(prefix="hybrid-")
    start_server()
    context = _context()
    processes: List[Any] = []
    pipes: List[Connection] = []
    try:
        for rank in range(1, workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, rank, workers, folder), daemon=True)
            process.start()
            theirs.close()
            ours.send_bytes(payload)
            processes.append(process)
            pipes.append(ours)
        del payload
        try:
            _join(folder, 0, workers, minutes)
            yield Group()
        except (RuntimeError, OSError) as error:
            found = _their_error(pipes)
            if found is None and "imed out" in str(error):
                found = HybridError(
                    f"a training process gave no sign of life for {minutes:g} minutes",
                    remedy="run the same command again, it goes on where it was; or set timeout_minutes higher",
                )
            if found is None:
                raise
            raise found from error
        for process in processes:
            process.join(30)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join(5)
        for pipe in pipes:
            pipe.close()
        shutil.rmtree(folder, ignore_errors=True)


def _packed(trainer: Any) -> bytes:
    # Plain pickle: multiprocessing's own would share the parameters' memory between the processes.
    try:
        return pickle.dumps(trainer.arguments())
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(f"this training cannot be shared out: {error}", remedy="set train.workers to 1") from error


def _join(folder: str, rank: int, size: int, minutes: float) -> None:
    # The loopback device: a host name that does not resolve, as in many containers, must not matter.
    name = "GLOO_SOCKET_IFNAME"
    before = os.environ.get(name)
    if before is None and Path("/sys/class/net/lo").exists():
        os.environ[name] = "lo"
    try:
        patience = timedelta(minutes=minutes)
        store = f"file://{folder}/store"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=patience)
    finally:
        if before is None:
            os.environ.pop(name, None)


def _work(pipe: Any, rank: int, size: int, folder: str) -> None:
    """A worker process."""
    _start_worker(None)
    from hybrid.train.trainer import Trainer

    try:
        trainer = Trainer(*pickle.loads(pipe.recv_bytes()), log=_silent)
        _join(folder, rank, size, trainer.config.timeout_minutes)
        trainer._fit(Group())
        dist.destroy_process_group()
    except HybridError as error:
        pipe.send(error)
        os._exit(1)
    except Exception as error:
        # Where the first process failed or was killed, the connection broke: nobody reads this then.
        try:
            pipe.send(RuntimeError(f"worker {rank}: {type(error).__name__}: {error}"))
        except OSError:
            pass
        os._exit(1)


def _silent(_: str) -> None:
    pass


def _their_error(pipes: Sequence[Connection]) -> Optional[Exception]:
    for pipe in pipes:
        if not pipe.poll(5):
            continue
        try:
            return pipe.recv()
        except EOFError:
            return HybridError(
                "a training process was killed",
                remedy="often there is too little memory: set train.workers to 1, or make the batches smaller",
            )
    return None
