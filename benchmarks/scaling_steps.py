"""What is a step of distributed training made of, on 1, 2 and 4 processes of this machine?

    python -m benchmarks.scaling_steps [--workers 1 2 4] [--model 3x256] [--steps 60] [--out RATES.json]

Each process trains an LSTM with batches of its own (random features, sequences of unlike lengths as of real speech),
over gloo. A step is taken apart: compute (forward, backward, optimiser), wait (until the last one has its gradient; a
barrier), transfer (the exchange by itself, GTC's own work included). BMUF waits and transfers once in `period` steps.
Bytes are those that the loopback device carried while exchanging, by all, a worker and step: headers and all, beside
what the method says it hands over.

Then the simulator (hybrid/plan/simulate.py) is given the compute times of that many processes, the bandwidth and
latency fitted to all-reduces of three sizes, and the seconds of GTC's own work that each process measured beside the
others (hybrid/plan/measure.py); its steps are put beside the measured ones. --out writes what
benchmarks.scaling --simulate reads. More processes than cores share them: compute grows, as it would not on machines
of their own.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from hybrid.data.batches import Batch, Utterance, collate
from hybrid.io import read_json, write_json
from hybrid.nnet.lstm import LstmModel
from hybrid.plan.measure import measure_gtc
from hybrid.plan.methods import Bmuf as PlannedBmuf
from hybrid.plan.methods import Ddp as PlannedDdp
from hybrid.plan.methods import Gtc as PlannedGtc
from hybrid.plan.methods import Method
from hybrid.plan.models import find_model
from hybrid.plan.network import fit_network
from hybrid.plan.rates import FORMAT
from hybrid.plan.simulate import Measured, simulate
from hybrid.train.bmuf import Bmuf, BmufConfig, flat, put
from hybrid.train.ce import CrossEntropy
from hybrid.train.gtc import Gtc
from hybrid.train.process_group import ProcessGroup, SingleProcess

METHODS = ("DDP", "GTC", "BMUF")
PARTS = ("compute", "wait", "transfer")
BATCH, SENONES, DIM = 800, 3000, 192
WARM = 3  # steps that are not counted
SIZES = (1 << 12, 1 << 20, 1 << 24)  # bytes of the all-reduces that the network is fitted to


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--model", default="3x256", help="layers x cells of the LSTM (3x256)")
    parser.add_argument("--steps", type=int, default=60, help="counted, of each method (60)")
    parser.add_argument("--period", type=int, default=20, help="steps of BMUF's block (20)")
    parser.add_argument("--density", type=float, default=0.002, help="share of the gradients that GTC sends (0.002)")
    parser.add_argument("--out", type=Path, metavar="RATES.json")
    options = parser.parse_args(arguments)
    found: Dict[int, List[Dict[str, Any]]] = {}
    for count in options.workers:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(_worker, (count, folder, options), nprocs=count)
            found[count] = [read_json(Path(folder) / f"{rank}.json") for rank in range(count)]
    points = [tuple(point) for count in options.workers if count > 1 for point in found[count][0]["points"]]
    network, errors = fit_network(points)  # type: ignore[arg-type]
    parameters = found[options.workers[0]][0]["parameters"]
    print(f"{options.model}, {parameters / 1e6:.2f} M parameters, {BATCH} frames a batch, gloo, {os.cpu_count()} cores")
    print(f"network: {network.bandwidth / 1e9:.2f} GB/s, {1e6 * network.latency:.0f} us a message, errors of the fit "
          + " ".join(f"{100 * error:+.0f} %" for error in errors))  # fmt: skip
    show(found, options, network, parameters)
    if options.out is not None:
        # Of two workers where there are: each with a core of its own.
        rows = found[min((n for n in options.workers if n > 1), default=options.workers[0])]
        seconds = [row["DDP"]["compute"] for row in rows]
        student = {"model": options.model, "parameters": parameters, "batch": BATCH, "seconds": seconds}
        student["frames_per_second"] = BATCH / float(np.mean(seconds))
        about = {"format": FORMAT, "device": "cpu", "machine": platform.machine(), "student": student}
        about["gtc"] = _coding(rows)
        write_json(options.out, {**about, "network": {"bandwidth": network.bandwidth, "latency": network.latency}})
    return 0


def show(found: Dict[int, List[Dict[str, Any]]], options: argparse.Namespace, network: Any, parameters: int) -> None:
    head = "workers method compute wait transfer ms/step simulated error kB/step wire,kB of-DDP".split()
    print("".join(f"{name:>11}" for name in head))
    for count, rows in found.items():
        dense = 0.0
        for name in METHODS:
            mine = [row[name] for row in rows]
            split = [1e3 * float(np.mean([np.mean(row[part]) for row in mine])) for part in PARTS]
            handed, wire = (float(np.mean([row[part] for row in mine])) / 1e3 for part in ("handed", "wire"))
            dense = handed if name == "DDP" else dense
            density = float(np.mean([row["density"] for row in mine]))
            planned: Dict[str, Method] = {
                "DDP": PlannedDdp(),
                "GTC": PlannedGtc(density=density, **_coding(rows)),
                "BMUF": PlannedBmuf(options.period),
            }
            times = Measured([row["compute"] for row in mine])
            (cost,) = simulate(planned[name], times, network, parameters, [count], steps=4000)
            share = f"{100 * handed / dense:.2f} %" if dense else "-"
            error = f"{100 * (1e3 * cost.seconds / sum(split) - 1):+.1f} %"
            cells = [*(f"{value:.1f}" for value in (*split, sum(split), 1e3 * cost.seconds)), error]
            cells += [f"{handed:.1f}", f"{wire:.1f}", share]
            print("".join(f"{cell:>11}" for cell in (str(count), name, *cells)))


def _coding(rows: List[Dict[str, Any]]) -> Dict[str, float]:
    """GTC's own work, the mean over the processes."""
    return {part: float(np.mean([row["coding"][part] for row in rows])) for part in ("scan", "decode")}


def _worker(rank: int, size: int, folder: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    group = SingleProcess()
    if size > 1:
        store = f"file://{folder}/store"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=timedelta(minutes=5))
        group = ProcessGroup()
    config = find_model(options.model, DIM, SENONES).config
    model = LstmModel(config, seed=0).train()
    found: Dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    found["points"] = _network(size) if size > 1 else []
    group.gather(None)  # all measure at the same time
    found["coding"] = measure_gtc(found["parameters"], torch.device("cpu"), options.density, clock=time.perf_counter)
    batches = [_batch(rank, number) for number in range(12)]
    for name in METHODS:
        found[name] = _measure(name, model, batches, group, options)
    write_json(Path(folder) / f"{rank}.json", found)
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def _measure(
    name: str, model: LstmModel, batches: List[Batch], group: SingleProcess, options: argparse.Namespace
) -> Dict[str, Any]:
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    exchange, handed, elements = _exchange(name, parameters, group, options)
    criterion = CrossEntropy()
    rows: Dict[str, List[float]] = {"compute": [], "wait": [], "transfer": []}
    # BMUF's blocks are counted whole.
    block = options.period if name == "BMUF" else 1
    total = -(-options.steps // block) * block
    carried = sent = before = 0.0
    for step in range(-WARM if block == 1 else -block, total):
        if step == 0:
            carried, sent, before = _loopback(), handed(), elements()
        batch = batches[step % len(batches)]
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(batch.features, batch.lengths), batch)
        (loss.value / loss.frames).backward()
        computed = time.perf_counter()
        arrived = moved = computed
        if group.world_size > 1 and (step + 1) % block == 0:
            dist.barrier()
            arrived = time.perf_counter()
            exchange()
            moved = time.perf_counter()
        optimizer.step()
        if step >= 0:
            rows["compute"].append(computed - began + time.perf_counter() - moved)
            rows["wait"].append(arrived - computed)
            rows["transfer"].append(moved - arrived)
    if group.world_size > 1:
        dist.barrier()
    steps = total * group.world_size
    density = (elements() - before) / total / sum(p.numel() for p in parameters)
    # What a ring sends for what is handed in: network.py.
    ring = (group.world_size - 1) * (1 if name == "GTC" else 2 / group.world_size)
    return {
        **rows, "density": density,
        "handed": ring * (handed() - sent) / total, "wire": (_loopback() - carried) / steps,
    }  # fmt: skip


def _exchange(
    name: str, parameters: List[Tensor], group: SingleProcess, options: argparse.Namespace
) -> Tuple[Callable[[], object], Callable[[], float], Callable[[], float]]:
    """(what is done when all are there; bytes that this worker has handed in; values that it has sent one by one)."""
    count = {"sent": 0.0}
    if name == "DDP":

        def reduce() -> None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            whole = flat(gradients)
            dist.all_reduce(whole)
            put(gradients, whole.div_(group.world_size))
            count["sent"] += 4 * whole.numel()

        return reduce, lambda: count["sent"], lambda: 0.0
    if name == "GTC":
        gtc = Gtc(density=options.density)

        def compress() -> None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            put(gradients, gtc.reduce(flat(gradients), list(parameters)))

        return compress, lambda: float(gtc.sent), lambda: float(gtc.elements)
    bmuf = Bmuf(parameters, [], group, BmufConfig(options.period))
    return bmuf.sync, lambda: float(bmuf.sent), lambda: 0.0


def _network(size: int) -> List[List[float]]:
    """[workers, bytes, seconds] of all-reduces: the median of each size."""
    points = []
    for bytes_ in SIZES:
        x = torch.zeros(bytes_ // 4)
        seconds = []
        for _ in range(12):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(x)
            seconds.append(time.perf_counter() - began)
        points.append([size, bytes_, float(np.median(seconds[2:]))])
    return points


def _batch(rank: int, number: int) -> Batch:
    """Sequences of 60 to 400 frames, of unlike lengths in a batch's sum as batches of real speech."""
    rng = np.random.default_rng([rank, number])
    longest = int(rng.integers(60, 400))
    count = max(1, BATCH // longest)
    utterances = []
    for place in range(count):
        frames = max(1, int(longest * rng.uniform(0.8, 1.0)))
        x = rng.standard_normal((frames, DIM)).astype(np.float32)
        utterances.append(Utterance(f"{number}-{place}", x, rng.integers(0, SENONES, frames)))
    return collate(utterances)


def _loopback() -> float:
    """Bytes that the loopback device has carried."""
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return float(rest.split()[0])
    return float("nan")


if __name__ == "__main__":
    raise SystemExit(main())
