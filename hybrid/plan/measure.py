"""How fast are teacher, student and targets on this machine? Some tens of seconds.

Random features of one length: an LSTM's time does not depend on values. One GPU, or one thread of one core. The first
step of each is not counted, and steps go on for SECONDS, three at least. Seconds are the clock's on a GPU and the
processor's on a core, where other work may run beside. Steps of equal batches differ by what the machine does besides;
real batches differ by their utterances as well, so that waits come out as a lower bound. Products of a GPU are in
`precision` (nnet/precision.py).

GTC's own work (methods.py) is that on the student's gradients: a few passes over all parameters, and the adding of what
eight workers send.

Targets are packed from logits that are already there and read from the page cache, by CPU seconds of one thread.
"""

from __future__ import annotations

import platform
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import torch
from lhotse import MonoCut

from hybrid.cpu import prefer_fast_kernels
from hybrid.data.batches import Batch, Utterance, collate
from hybrid.data.target_store import open_targets
from hybrid.data.targets import TargetsAbout, write_targets
from hybrid.device import choose
from hybrid.errors import ConfigError
from hybrid.nnet.lstm import LstmModel
from hybrid.nnet.precision import outputs_in, products_in
from hybrid.pipeline.sets import OUTPUT_FRAME_SHIFT
from hybrid.plan.models import Count
from hybrid.plan.rates import Rates, parse_rates
from hybrid.train.ce import CrossEntropy
from hybrid.train.gtc import Gtc, total

SECONDS = 5.0  # a measurement
LENGTH = 128  # frames of a sequence
CORE_BATCH = 1024  # frames a step of a core: a GPU's batch would take it half a minute
TARGET_FRAMES = 4000


def measure(
    teacher: Count,
    student: Count,
    *,
    on_gpu: bool,
    batch: int = 8192,
    k: int = 20,
    seconds: float = SECONDS,
    precision: str = "tf32",
) -> Rates:
    """Measures the rates of this machine. batch: frames a step, of a GPU. Raises ConfigError where there is no GPU."""
    try:
        device = torch.device(choose("cuda" if on_gpu else "cpu"))
    except ConfigError as error:
        raise ConfigError(
            f"no GPU to measure on: {error.what}", remedy="--gpus 0 --cores N measures a core and plans for cores"
        ) from error
    prefer_fast_kernels()
    clock = time.perf_counter if on_gpu else time.process_time
    frames = batch if on_gpu else min(batch, CORE_BATCH)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        forward = steps_of(teacher, False, frames, device, precision, seconds, clock)
        steps = steps_of(student, True, frames, device, precision, seconds, clock)
        coding = measure_gtc(student.parameters, device, clock=clock)
    finally:
        torch.set_num_threads(threads)
    name = torch.cuda.get_device_name(device) if on_gpu else f"{platform.machine()}, one core of {platform.node()}"
    num_frames = batch_frames(frames)
    about = {
        "format": 1,
        "device": device.type,
        "machine": name,
        "teacher": {
            "model": teacher.name,
            "parameters": teacher.parameters,
            "frames_per_second": num_frames / float(np.mean(forward)),
        },
        "student": {
            "model": student.name,
            "parameters": student.parameters,
            "frames_per_second": num_frames / float(np.mean(steps)),
            "batch": num_frames,
            "seconds": [steps],
        },
        "gtc": coding,
        "targets": _targets(teacher.config.num_pdfs, min(k, teacher.config.num_pdfs)),
    }
    return parse_rates(about, "what was measured")


def measure_gtc(
    parameters: int,
    device: torch.device,
    density: float = 0.002,
    *,
    clock: Callable[[], float] = time.process_time,
    repeats: int = 10,
) -> Dict[str, float]:
    """Measures GTC's own work.

    scan: seconds a parameter to choose what is sent; decode: seconds to add a received element.
    """
    gtc, like = Gtc(density=density), [torch.zeros(parameters, device=device)]
    gradients = [torch.randn(parameters, device=device) for _ in range(3)]

    def seconds(work: Callable[[int], object]) -> float:
        durations = []
        for number in range(repeats + 1):
            begin = clock()
            work(number)
            if device.type == "cuda":
                torch.cuda.synchronize()
            durations.append(clock() - begin)
        return float(np.median(durations[1:]))

    scan = seconds(lambda number: gtc.message(gradients[number % 3], like))
    elements, message = gtc.elements, gtc.message(gradients[0], like)
    single, nine = (seconds(lambda number, n=n: total([message] * n, like[0])) for n in (1, 9))  # type: ignore[misc]
    message_seconds = max(nine - single, 1e-9) / 8  # at least what a clock can tell
    return {
        "scan": (scan + max(single - message_seconds, 0.0)) / parameters,
        "decode": message_seconds / (gtc.elements - elements),
    }


def steps_of(
    model: Count,
    training: bool,
    frames: int,
    device: torch.device,
    precision: str,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> List[float]:
    """Measures the seconds of steps over `batch_frames(frames)` frames.

    A step is forward, loss, backward and update, or forward alone.
    """
    make = _training if training else _labelling
    with products_in(precision):
        return _steps(make(model, frames, device, precision), seconds, clock)


def batch_frames(frames: int) -> int:
    return max(1, frames // LENGTH) * min(LENGTH, frames)


def _batch(model: Count, frames: int, device: torch.device) -> Batch:
    random = np.random.default_rng(0)
    length = min(LENGTH, frames)
    data = []
    for number in range(max(1, frames // LENGTH)):
        x = random.standard_normal((length, model.config.input_dim)).astype(np.float32)
        data.append(Utterance(str(number), x, random.integers(0, model.config.num_pdfs, length)))
    return collate(data).to(device)


def _labelling(model: Count, frames: int, device: torch.device, precision: str) -> Callable[[], None]:
    network = LstmModel(model.config, seed=0).to(device).eval()
    batch = _batch(model, frames, device)

    def step() -> None:
        with torch.no_grad():
            outputs_in(precision, network, batch.features, batch.lengths)["logits"].sum().item()  # waits for the GPU

    return step


def _training(model: Count, frames: int, device: torch.device, precision: str) -> Callable[[], None]:
    network = LstmModel(model.config, seed=0).to(device).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    batch, loss = _batch(model, frames, device), CrossEntropy()

    def step() -> None:
        optimiser.zero_grad()
        result = loss(outputs_in(precision, network, batch.features, batch.lengths), batch)
        (result.value / result.frames).backward()
        optimiser.step()
        result.value.item()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _steps(step: Callable[[], None], seconds: float, clock: Callable[[], float]) -> List[float]:
    """Seconds of each."""
    step()
    durations: List[float] = []
    while len(durations) < 3 or sum(durations) < seconds:
        begin = clock()
        step()
        durations.append(clock() - begin)
    return durations


def _targets(num_pdfs: int, k: int) -> Dict[str, float]:
    random = np.random.default_rng(0)
    duration = round(LENGTH * OUTPUT_FRAME_SHIFT, 2)
    cuts = [MonoCut(f"utterance{n:06d}", 0.0, duration, 0) for n in range(TARGET_FRAMES // LENGTH)]
    # Neighbouring frames are alike, as a network's are: gzip finds as much in them as in real ones, about.
    logits = {}
    for cut in cuts:
        steps = random.standard_normal((LENGTH, num_pdfs)).astype(np.float32)
        logits[cut.id] = np.cumsum(steps, axis=0) + 3 * random.standard_normal(num_pdfs).astype(np.float32)
    frames = LENGTH * len(cuts)
    about = TargetsAbout("a" * 64, "b" * 64, num_pdfs, OUTPUT_FRAME_SHIFT, k)
    with tempfile.TemporaryDirectory(prefix="hybrid-plan-") as place:
        folder = Path(place) / "targets"
        begin = time.process_time()
        write_targets(folder, cuts, lambda batch: {cut.id: logits[cut.id] for cut in batch}, about)
        write_end = time.process_time()
        store = open_targets(folder, about)
        for _, packed in store.sequential():
            store.codec.decode(packed)
        read_end = time.process_time()
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "k": k,
        "senones": num_pdfs,
        "bytes_per_frame": size / frames,
        "write": frames / (write_end - begin),
        "read": frames / (read_end - write_end),
    }
