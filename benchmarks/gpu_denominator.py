"""How fast is the exact forward-backward over an LF-MMI denominator on a GPU? The public case, for every engine.

    python -m benchmarks.gpu_denominator [--engines triton sparse k2] [--repeat 10] [--floor-only]

A graph of 3,032 states and 50,000 arcs in the shape of a denominator, 128 sequences of 700 frames, 3,000 pdfs: log Z
of all, and its gradient in the outputs. Milliseconds by CUDA events around both (median, shortest and longest of the
repeated runs, after two that also compile), peak memory of torch above what stood before. Before anything is timed,
the engines' values and gradients are compared on four of the sequences, with the sparse engine in float64.
k2 runs where it is installed, with the beam at which its gradient is exact to 1e-4.

What was published for this case: 2.0 s for the fastest of four programs on a GTX 1080, about 20 s for the others.

The floor, on paper. One program carries one sequence, and a frame needs the whole graph: 6 bytes an arc (number
int16, weight float32) as it is laid out, padding included, plus what each slot, state and pdf reads and writes. That
is more than a processor's L1 cache holds (420 KB against 256 KB), so the graph comes from L2 for every frame of every
sequence, in both passes:

    L2   2 x 70,000 x 6 B + 360 KB  =  1.2 MB a frame and sequence;  x 128 x 700  =  107 GB
    HBM  kept v written, read, and overwritten by posteriors (3 x 24 KB), outputs read three times and posteriors
         zeroed, written and summed (6 x 12 KB), the gradient (2 x 12 KB)  =  170 KB;  x 128 x 700  =  15 GB

With 5.5 TB/s from L2 and 4.8 TB/s from HBM (an H200; --l2-gbs, --hbm-gbs) that is 19 ms and 3 ms; what is printed is
worked out from the very tables that the kernels read. Not in the floor: a frame waits for the one before, so each of
the 1,400 frames costs its chain of latencies too (some 20 tiles, each a read from L2, a pick from shared memory and a
sum: 5 to 10 us, or 7 to 14 ms in all if nothing overlaps). Expected on an H200, then, is 20 to 40 ms: an estimate
that no run has confirmed yet.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from hybrid.device import usable_gpus
from hybrid.errors import HybridError
from hybrid.train import triton_engine
from hybrid.train.forward_backward import SharedGraph, total_scores
from hybrid.train.fsa import Fsa
from hybrid.train.k2_engine import import_k2, k2_total_scores
from hybrid.train.triton_layout import Tiles, lay_out

Engine = Callable[[Tensor, Tensor], Tensor]


def random_denominator(states: int, arcs: int, num_pdfs: int, *, seed: int = 0) -> Fsa:
    """A graph in the shape of a phone LM's: a state has an entry pdf for all arcs from others, and a loop.

    In-degrees and out-degrees are skewed (log-normal) as those of an n-gram without backing off: many states are
    histories seen once or twice, a few are short histories that hundreds of arcs lead to.
    """
    rng = np.random.default_rng(seed)
    between = arcs - states
    into, out = (rng.lognormal(0.0, 1.0, states) for _ in range(2))
    ring = np.arange(states)  # one arc from each state to the next: everything can be reached
    src = np.concatenate([ring, rng.choice(states, between - states, p=out / out.sum())])
    dst = np.concatenate([(ring + 1) % states, rng.choice(states, between - states, p=into / into.sum())])
    entry, loop = rng.integers(0, num_pdfs, (2, states))
    weight = rng.gamma(0.5, size=between) + 1e-3
    weight *= 0.5 / np.bincount(src, weights=weight, minlength=states)[src]
    start = np.full(states, -np.inf)
    start[0] = 0.0
    return Fsa(
        np.concatenate([src, ring]).astype(np.int32),
        np.concatenate([dst, ring]).astype(np.int32),
        np.concatenate([entry[dst], loop]).astype(np.int32),
        np.log(np.concatenate([weight, np.full(states, 0.5)])),
        start,
        np.full(states, np.log(0.1)),
    )


def bytes_a_frame(fsa: Fsa, num_pdfs: int) -> Tuple[int, int]:
    """What a frame of one sequence moves in both passes, (through L2, through HBM), with the engine's own tables."""
    keys, slot = np.unique(fsa.dst.astype(np.int64) * num_pdfs + fsa.pdf, return_inverse=True)
    slots, states = len(keys), fsa.num_states
    each, weight = np.arange(slots), np.exp(fsa.logw)

    def read(tiles: Tiles) -> int:
        elements = sum((high - low) << c for c, (low, high) in enumerate(zip(tiles.rows, tiles.rows[1:])))
        return elements * (tiles.index.itemsize + (0 if tiles.weight is None else 4))

    def rows(row: np.ndarray, index: np.ndarray, weight: Optional[np.ndarray], count: int, values: int) -> int:
        tile = triton_engine.TILE
        return read(lay_out(row, index, weight, num_rows=count, num_values=values, tile=tile))

    forward = rows(slot.reshape(-1), fsa.src, weight, slots, states) + rows(keys // num_pdfs, each, None, states, slots)
    forward += slots * (2 + 4 + 4) + states * (4 + 4 + 4)  # pdf, v written and read; target, alpha written and read
    backward = rows(fsa.src, slot.reshape(-1), weight, states, slots)
    backward += rows(keys % num_pdfs, each, None, num_pdfs, slots)
    backward += slots * (2 + 2 + 4 * 5) + states * (4 + 4 + 4) + num_pdfs * (4 + 4)  # numbers; v, w; beta; posteriors
    memory = 4 * (3 * slots + 8 * num_pdfs)
    return forward + backward + 4 * 2 * num_pdfs, memory


def engines(fsa: Fsa, num_pdfs: int, names: Sequence[str]) -> Dict[str, Engine]:
    """Those of `names` that can run here; why another cannot is printed."""
    found: Dict[str, Engine] = {}
    for name in names:
        try:
            if name == "triton":
                triton_engine.check_usable()
                fused = triton_engine.TritonGraph(fsa, num_pdfs)
                found[name] = lambda x, lengths, graph=fused: total_scores(graph, x, lengths)
            elif name == "sparse":
                sparse = SharedGraph(fsa, num_pdfs)
                found[name] = lambda x, lengths, graph=sparse: total_scores(graph, x, lengths)
            else:
                import_k2()
                graph = SharedGraph(fsa, num_pdfs)
                found[name] = lambda x, lengths, graph=graph: k2_total_scores(graph, x, lengths)
        except HybridError as error:
            print(f"{name} is left out: {error}")
    return found


def disagreement(engine: Engine, fsa: Fsa, x: Tensor, lengths: Tensor) -> Tuple[float, float]:
    """Largest relative difference of log Z and largest difference of a posterior, from the sparse engine in float64."""
    results: List[Tuple[Tensor, Tensor]] = []
    exact = SharedGraph(fsa, x.shape[2])
    for run, values in ((engine, x), (lambda a, n: total_scores(exact, a, n), x.to(torch.float64))):
        leaf = values.detach().clone().requires_grad_(True)
        scores = run(leaf, lengths)
        scores.sum().backward()
        assert leaf.grad is not None
        results.append((scores.detach().to(torch.float64), leaf.grad.to(torch.float64)))
    (scores, gradient), (right, shares) = results
    return float(((scores - right) / right).abs().max()), float((gradient - shares).abs().max())


def timed(engine: Engine, x: Tensor, lengths: Tensor, repeat: int) -> Tuple[List[float], int]:
    """Milliseconds of each run, and bytes at the peak above those that stood before."""
    milliseconds: List[float] = []
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for attempt in range(repeat + 2):  # the first two also compile
        x.grad = None
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        engine(x, lengths).sum().backward()
        end.record()
        torch.cuda.synchronize()
        if attempt > 1:
            milliseconds.append(begin.elapsed_time(end))
    return milliseconds, torch.cuda.max_memory_allocated() - before


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=3032)
    parser.add_argument("--arcs", type=int, default=50000)
    parser.add_argument("--pdfs", type=int, default=3000)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--frames", type=int, default=700)
    parser.add_argument("--engines", nargs="+", choices=("triton", "sparse", "k2"), default=["triton", "sparse", "k2"])
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--l2-gbs", type=float, default=5500.0, help="GB/s from L2, assumed")
    parser.add_argument("--hbm-gbs", type=float, default=4800.0, help="GB/s from memory (H100: 3350)")
    parser.add_argument("--floor-only", action="store_true", help="what has to move, without a GPU")
    options = parser.parse_args(arguments)
    fsa = random_denominator(options.states, options.arcs, options.pdfs).check(options.pdfs)
    frames = options.sequences * options.frames
    through_l2, through_hbm = (frames * count for count in bytes_a_frame(fsa, options.pdfs))
    print(f"{fsa.num_states} states, {fsa.num_arcs} arcs, {options.sequences} sequences of {options.frames} frames")
    print(
        f"floor: {through_l2 / 1e9:.1f} GB through L2, {through_l2 / options.l2_gbs / 1e6:.1f} ms; "
        f"{through_hbm / 1e9:.1f} GB through HBM, {through_hbm / options.hbm_gbs / 1e6:.1f} ms"
    )
    if options.floor_only:
        return 0
    if not usable_gpus():
        print("no GPU that torch has kernels for (hybrid doctor); --floor-only needs none", file=sys.stderr)
        return 1
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    generator = torch.Generator(device="cuda").manual_seed(0)
    shape = (options.sequences, options.frames, options.pdfs)
    x = (2.0 * torch.randn(shape, device="cuda", generator=generator)).requires_grad_(True)
    lengths = torch.full((options.sequences,), options.frames)
    few = min(4, options.sequences)
    wrong = False
    print(f"{'engine':8}{'median ms':>11}{'min':>9}{'max':>9}{'peak MB':>10}{'d log Z':>11}{'d gradient':>12}")
    for name, engine in engines(fsa, options.pdfs, options.engines).items():
        value, gradient = disagreement(engine, fsa, x[:few].detach(), lengths[:few])
        if not (value < 1e-4 and gradient < 1e-3):
            print(f"{name:8} is wrong: log Z by {value:.1e} of itself, gradient by {gradient:.1e}; not timed")
            wrong = True
            continue
        ms, peak = timed(engine, x, lengths, options.repeat)
        row = f"{name:8}{statistics.median(ms):11.1f}{min(ms):9.1f}{max(ms):9.1f}{peak / 1e6:10.0f}"
        print(f"{row}{value:11.1e}{gradient:12.1e}")
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
