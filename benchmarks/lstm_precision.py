"""How much speech do the paper's teacher and student hear in an hour of a GPU, in float32, TF32 and bfloat16?

    python -m benchmarks.lstm_precision [--teacher 5x832b] [--student 5x768] [--batch 8192] [--seconds 5]
        [--precisions float32 tf32 bf16] [--device cuda]

Sequences of 128 frames of 30 ms, 192 random features, 3,000 senones. Labelling is the teacher's forward pass, training
is forward, cross-entropy, backward and an update of SGD. Hours of audio an hour; TFLOP/s by the operations that
hybrid/plan/models.py counts; and the share of the peak, which is the best that products of square matrices (--square)
reach on the same device, in the same arithmetic and the same run. `--device cpu` is there to try the command.
"""

from __future__ import annotations

import argparse
import time
from typing import List, Optional, Sequence

import numpy as np
import torch

from hybrid.device import choose
from hybrid.errors import ConfigError
from hybrid.nnet.precision import PRECISIONS, products_in
from hybrid.pipeline.sets import OUTPUT_FRAME_SHIFT
from hybrid.plan.measure import batch_frames, steps_of
from hybrid.plan.models import find_model

DIM = 192


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="5x832b")
    parser.add_argument("--student", default="5x768")
    parser.add_argument("--senones", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=8192, help="frames a step (8192)")
    parser.add_argument("--seconds", type=float, default=5.0, help="a measurement (5)")
    parser.add_argument("--square", type=int, default=8192, help="rows of the matrices of the peak (8192)")
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    options = parser.parse_args(arguments)
    try:
        device = torch.device(choose(options.device))
    except ConfigError as error:
        parser.error(f"{error.what}; --device cpu is there to try the command")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    heard = batch_frames(options.batch)
    print(f"{name}, torch {torch.__version__}; {heard} frames a step")
    jobs = [("teacher, labelling", options.teacher, False), ("teacher, training", options.teacher, True)]
    jobs.append(("student, training", options.student, True))
    print(f"{'':20}{'model':>9}{'arithmetic':>12}{'hours/hour':>12}{'ratio':>8}{'TFLOP/s':>10}{'peak':>8}{'share':>9}")
    peaks = {precision: peak(options.square, device, precision, options.seconds) for precision in options.precisions}
    for what, text, training in jobs:
        model = find_model(text, DIM, options.senones)
        flops = model.training_flops if training else model.forward_flops
        first = 0.0
        for precision in options.precisions:
            seconds = float(np.mean(steps_of(model, training, options.batch, device, precision, options.seconds)))
            hours, rate = heard * OUTPUT_FRAME_SHIFT / seconds, heard * flops / seconds / 1e12
            first = first or hours
            print(
                f"{what:20}{text:>9}{precision:>12}{hours:12.0f}{hours / first:8.2f}{rate:10.2f}"
                f"{peaks[precision]:8.1f}{100 * rate / peaks[precision]:7.1f} %", flush=True,
            )  # fmt: skip
    return 0


def peak(rows: int, device: torch.device, precision: str, seconds: float) -> float:
    """TFLOP/s of the best of products [rows, rows] x [rows, rows]."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(rows, rows, device=device, dtype=dtype) for _ in range(2))
    found: List[float] = []
    with products_in(precision):
        while len(found) < 4 or sum(found) < seconds / 5:
            begin = time.perf_counter()
            a @ b
            if device.type == "cuda":
                torch.cuda.synchronize()
            found.append(time.perf_counter() - begin)
    return 2 * rows**3 / min(found) / 1e12


if __name__ == "__main__":
    raise SystemExit(main())
