"""A function in several processes that make one gloo group."""

from __future__ import annotations

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, List

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def everywhere(function: Callable[..., Any], size: int, *arguments: Any) -> List[Any]:
    """function(rank, *arguments) in `size` processes; what each returned, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_one, (function, size, folder, arguments), nprocs=size)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(size)]


def _one(rank: int, function: Callable[..., Any], size: int, folder: str, arguments: Any) -> None:
    torch.set_num_threads(1)
    if Path("/sys/class/net/lo").exists():
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=timedelta(seconds=60))
    torch.save(function(rank, *arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
