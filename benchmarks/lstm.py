"""How fast does an LSTM acoustic model train on the CPU? Ours against torch's own, in the same run.

    python -m benchmarks.lstm [--hidden 192] [--layers 2] [--batches 4 8 16 32] [--frames 90] [--repeat 5]

Frames per second of forward and backward (input 192, 370 outputs, one torch thread) of bidirectional models: torch's
nn.LSTM over packed sequences, as a model without our recursion would run; ours in one thread; ours with the directions
in two. A column is a number of sequences per batch: small batches train better per epoch and cost more per frame.
The last rows are the ratios to torch's. The best of `repeat` passes counts: other work on the machine only adds time.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Callable, Dict, List, Optional, Sequence

from hybrid.cpu import prefer_fast_kernels

prefer_fast_kernels()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402

from hybrid.nnet.lstm import LstmConfig, LstmModel  # noqa: E402
from hybrid.nnet.recurrence import directions_in_parallel  # noqa: E402

DIM, PDFS = 192, 370


class Packed(nn.Module):
    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(DIM, hidden, layers, bidirectional=True, batch_first=True)
        self.output = nn.Linear(2 * hidden, PDFS)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        return self.output(pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0])


def rate(model: Callable[[Tensor, Tensor], Tensor], x: Tensor, lengths: Tensor, repeat: int) -> float:
    best = float("inf")
    for attempt in range(repeat + 2):  # the first two also compile
        begin = time.perf_counter()
        model(x, lengths).sum().backward()
        if attempt > 1:
            best = min(best, time.perf_counter() - begin)
    return int(lengths.sum()) / best


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    ours = LstmModel(LstmConfig(DIM, PDFS, hidden=options.hidden, layers=options.layers, bidirectional=True), seed=0)
    packed = Packed(options.hidden, options.layers)
    rates: Dict[str, List[float]] = {"torch, packed": [], "ours": [], "ours, two threads": []}
    for batch in options.batches:
        x = torch.randn(batch, options.frames, DIM)
        # lengths as in a batch sorted by length: a few percent of padding
        lengths = torch.linspace(options.frames, 0.9 * options.frames, batch).long()
        timed = partial(rate, x=x, lengths=lengths, repeat=options.repeat)
        rates["torch, packed"].append(timed(packed))
        rates["ours"].append(timed(lambda x, lengths: ours(x, lengths)["logits"]))
        with directions_in_parallel():
            rates["ours, two threads"].append(timed(lambda x, lengths: ours(x, lengths)["logits"]))
    print(f"{options.layers} x {options.hidden} bidirectional, {options.frames} frames a sequence; frames per second")
    print(f"{'sequences a batch':20}" + "".join(f"{batch:>9}" for batch in options.batches))
    for name, values in rates.items():
        print(f"{name:20}" + "".join(f"{value:9.0f}" for value in values))
    base = rates.pop("torch, packed")
    for name, values in rates.items():
        print(f"{'ratio, ' + name:20}" + "".join(f"{value / other:9.2f}" for value, other in zip(values, base)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
