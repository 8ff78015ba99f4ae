"""The processes of one training: those of one machine are started here, or torchrun has started them (torchrun.py)."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import torch.distributed as dist

from hybrid.errors import HybridError
from hybrid.parallel import _context, _start_worker, start_server
from hybrid.train.process_group import ProcessGroup, SingleProcess, Task, pack, unpack
from hybrid.train.torchrun import start_training, under_torchrun


@contextmanager
def process_group(
    task: Task, arguments: Tuple[Any, ...], workers: int, *, minutes: float, cuda: bool = False
) -> Iterator[SingleProcess]:
    """Starts workers - 1 processes that run task(group, arguments) beside the block, and ends them with it.

    Under torchrun, the processes that it has started do; cuda: their tensors are on GPUs. minutes: after which a
    process that does not answer is taken for dead. Raises here what one of them raises.
    """
    if under_torchrun():
        yield start_training(pack(task, arguments), minutes, cuda)
        return
    if workers == 1:
        yield SingleProcess()
        return
    payload = pack(task, arguments)
    folder = tempfile.mkdtemp(prefix="hybrid-")
    start_server()
    context = _context()
    processes: List[Any] = []
    pipes: List[Connection] = []
    try:
        for rank in range(1, workers):
            parent_pipe, child_pipe = context.Pipe()
            process = context.Process(target=_work, args=(child_pipe, rank, workers, folder, minutes), daemon=True)
            process.start()
            child_pipe.close()
            parent_pipe.send_bytes(payload)
            processes.append(process)
            pipes.append(parent_pipe)
        del payload
        try:
            _join(folder, 0, workers, minutes)
            yield ProcessGroup()
        except (RuntimeError, OSError) as error:
            fault = _their_error(pipes)
            if fault is None and "imed out" in str(error):
                fault = HybridError(
                    f"a training process gave no sign of life for {minutes:g} minutes",
                    remedy="run the same command again, it goes on where it was; or set timeout_minutes higher",
                )
            if fault is None:
                raise
            raise fault from error
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


def _work(pipe: Any, rank: int, size: int, folder: str, minutes: float) -> None:
    """Trains in a worker process."""
    _start_worker(None)
    try:
        task, arguments = unpack(pipe.recv_bytes())
        _join(folder, rank, size, minutes)
        task(ProcessGroup(), arguments)
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
