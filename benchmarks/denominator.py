"""What LF-MMI's denominator costs: this project's sparse engine against k2, exact and with a beam of 10.

    python -m benchmarks.denominator DATA [--folder FOLDER] [--limit GB] [--plot FILE.png]

DATA holds an4/. Measured is the forward-backward (log Z and its gradient) over denominator graphs of three sizes, made
from AN4, on the outputs of networks trained for each (an4_graphs.py says how), with utterances of some 2.7 s, in one
thread: CPU seconds (user and system) and peak memory per second of audio. Then how both grow with frames and with the
number of sequences in a batch.

Each row is a fresh process, so that none hides another's memory. A short call comes first: what is made once for a
graph is not counted. Memory is the peak of the resident set during the first call, less what was resident before it;
CPU time is that of the fastest call of several, as other work on the machine only adds to it.

The error of log Z is in nats a frame; that of the gradient is |g - g*| / |g*|, Euclidean over all frames and pdfs, with
g* of the sparse engine in float64; beside it |g - g*| / |a - g*|, with a the alignment (1 for its pdf): what LF-MMI
trains on is a numerator's posteriors minus g. k2 exact is a beam of 30. A process that would allocate more than --limit
is ended by that; the batch is then halved until it fits, and the ratios are to the sparse engine on the same batch.

What it does not say: anything of GPUs, which k2 is made for. k2's memory is that of its lattice, which depends on how
sure the outputs are: "flat" rows have noise in their place, as a network's before training.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before numpy is imported

from hybrid.cpu import prefer_fast_kernels  # noqa: E402

prefer_fast_kernels()

import torch  # noqa: E402

from benchmarks import an4_graphs  # noqa: E402
from hybrid.errors import HybridError  # noqa: E402
from hybrid.train.forward_backward import SharedGraph, total_scores  # noqa: E402
from hybrid.train.k2_engine import BEAM, import_k2, k2_total_scores  # noqa: E402

ENGINES = ("sparse", "k2 exact", "k2 beam 10")
BEAMS = {"k2 exact": BEAM, "k2 beam 10": 10.0}
FRAMES, BATCH = 90, 16
SWEEP = "medium"  # the graph of the sweeps over frames and batches
MOST_SECONDS, MOST_CALLS = 1.5, 10  # of the calls that are timed
Row = Dict[str, Any]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, help="where graphs and outputs are kept (default: a temporary one)")
    parser.add_argument("--limit", type=float, default=6.0, help="GB that a process may allocate (6)")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the inner process: what to measure
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.one is not None:
        print(json.dumps(one(options.folder, **json.loads(options.one))))
        return 0
    import_k2()  # better now than in the first process
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hybrid-denominator-"))
    try:
        an4_graphs.make(options.data, folder)
        measure = Measure(options.data, folder, options.limit)
        graphs = {name: about(folder, name) for name in an4_graphs.SIZES}
        compare(measure, graphs)
        frames = sweep(measure, "frames", [{"count": 4, "frames": n} for n in (50, 100, 200)])
        batches = sweep(measure, "batch", [{"count": n, "frames": FRAMES} for n in (1, 4, 16, 32)])
        if options.plot is not None:
            plot(measure, graphs, frames, batches, options.plot)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


# ------------------------------------------------------------------ one process, one measurement


def one(folder: Path, *, size: str, engine: str, count: int, frames: int, flat: bool, limit: float) -> Row:
    problem = an4_graphs.load(folder, size, count, frames, flat)
    graph = SharedGraph(problem.graph, problem.num_pdfs)
    run = _engine(engine, graph)
    short = torch.full_like(problem.lengths[:1], 20)
    run(problem.outputs[:1, :20], short)
    _begin_peak()
    before = _status("VmRSS")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + int(limit * 1e9), limits[1]))
    spent: List[float] = []
    peak = 0
    while len(spent) < MOST_CALLS and sum(spent) < MOST_SECONDS:
        began = time.process_time()  # user and system time of all threads
        scores, gradient = run(problem.outputs, problem.lengths)
        spent.append(time.process_time() - began)
        peak = peak or _status("VmHWM") - before
    resource.setrlimit(resource.RLIMIT_AS, limits)
    # Exact: on the same inputs, as float16 on disk rounded them for all alike.
    exact, posteriors = graph.forward_backward(problem.outputs.double(), problem.lengths)
    aligned = torch.zeros_like(posteriors)
    inside = problem.pdfs >= 0
    aligned[inside] = torch.nn.functional.one_hot(problem.pdfs[inside], problem.num_pdfs).to(aligned.dtype)
    off = float((gradient.double() - posteriors).norm())
    return {
        "seconds": problem.seconds,
        "cpu": min(spent) / problem.seconds,
        "memory": peak / 1e6,
        "score_error": float((scores - exact).sum() / problem.lengths.sum()),
        "gradient_error": off / float(posteriors.norm()),
        "training_error": off / float((aligned - posteriors).norm()),
    }


def _engine(
    name: str, graph: SharedGraph
) -> Callable[[torch.Tensor, torch.Tensor], Tuple[torch.Tensor, torch.Tensor]]:
    """outputs, lengths -> log Z [B] and its gradient."""

    def run(outputs: torch.Tensor, lengths: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        x = outputs.detach().requires_grad_(True)
        if name == "sparse":
            scores = total_scores(graph, x, lengths)
        else:
            scores = k2_total_scores(graph, x, lengths, beam=BEAMS[name])
        return scores.detach(), torch.autograd.grad(scores.sum(), x)[0]

    return run


def _status(name: str) -> int:
    """Bytes, of /proc/self/status."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise HybridError(f"no {name} in /proc/self/status", remedy="run it on Linux")


def _begin_peak() -> None:
    """VmHWM begins anew at VmRSS, which no longer holds what was freed: memory used again would not be seen."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


# ------------------------------------------------------------------ all of them


class Measure:
    """Rows by what was asked for; each is measured once, in a process of its own. None: over the limit of memory."""

    def __init__(self, data: Path, folder: Path, limit: float) -> None:
        self.data, self.folder, self.limit = data, folder, limit
        self._known: Dict[str, Optional[Row]] = {}

    def __call__(
        self, engine: str, *, size: str, count: int = BATCH, frames: int = FRAMES, flat: bool = False
    ) -> Optional[Row]:
        wanted = {"size": size, "engine": engine, "count": count, "frames": frames, "flat": flat, "limit": self.limit}
        key = json.dumps(wanted)
        if key not in self._known:
            command = [sys.executable, "-m", "benchmarks.denominator", str(self.data), "--folder", str(self.folder)]
            done = subprocess.run([*command, "--one", key], capture_output=True, text=True, check=False)
            if done.returncode and not _out_of_memory(done.stderr):
                raise HybridError(f"{engine} on {size}, batch {count}: exit code {done.returncode}\n{done.stderr}")
            self._known[key] = None if done.returncode else json.loads(done.stdout.splitlines()[-1])
        return self._known[key]


def _out_of_memory(text: str) -> bool:
    """Whether an allocation was refused: by numpy, torch, the C++ library, or k2's own check of its allocator."""
    words = ("MemoryError", "can't allocate memory", "not enough memory", "bad_alloc", "Cannot allocate memory")
    return any(word in text for word in words)


def about(folder: Path, name: str) -> Row:
    return json.loads((folder / name / "about.json").read_text(encoding="utf-8"))


def compare(measure: Measure, graphs: Dict[str, Row]) -> None:
    print(f"utterances of about {FRAMES * 0.03:.1f} s; CPU ms and memory: of one second of audio, and of the batch")
    print(
        f"{'graph':12}{'pdfs':>6}{'arcs':>8}  {'engine':12}{'batch':>6}{'CPU ms/s':>10}{'peak MB':>9}{'MB/s':>8}"
        f"{'time x':>8}{'memory x':>10}{'log Z/frame':>13}{'gradient':>10}{'training':>10}"
    )
    for name, facts in graphs.items():
        for flat in (False, True):
            head = f"{name + ' flat' if flat else name:12}{facts['num_pdfs']:6}{facts['arcs']:8}  "
            for engine in ENGINES:
                for count in [BATCH >> n for n in range(BATCH.bit_length())]:
                    row = measure(engine, size=name, count=count, flat=flat)
                    print(f"{head}{engine:12}{count:6}", end="")
                    if row is not None:
                        break
                    print(f"  over {measure.limit:g} GB", flush=True)
                else:
                    continue
                ours = measure("sparse", size=name, count=count, flat=flat)
                assert ours is not None  # it takes less memory
                print(
                    f"{1e3 * row['cpu']:10.2f}{row['memory']:9.1f}{row['memory'] / row['seconds']:8.2f}"
                    f"{row['cpu'] / ours['cpu']:8.1f}{row['memory'] / ours['memory']:10.1f}"
                    f"{row['score_error']:13.1e}{row['gradient_error']:10.1e}{row['training_error']:10.1e}",
                    flush=True,
                )


def sweep(measure: Measure, what: str, points: List[Dict[str, int]]) -> Dict[str, List[Tuple[int, Optional[Row]]]]:
    """Engine -> (frames or batch, row) of each point."""
    found: Dict[str, List[Tuple[int, Optional[Row]]]] = {engine: [] for engine in ENGINES}
    title = f"batch of {points[0]['count']}, frames" if what == "frames" else f"{FRAMES} frames, batch"
    print(f"\n{SWEEP} graph, network's outputs, CPU ms a second of audio (peak MB)\n{title:24}", end="")
    print("".join(f"{point['frames' if what == 'frames' else 'count']:>18}" for point in points))
    for engine in ENGINES:
        print(f"{engine:24}", end="")
        for point in points:
            row = measure(engine, size=SWEEP, **point)
            found[engine].append((point["frames" if what == "frames" else "count"], row))
            cell = "over the limit" if row is None else f"{1e3 * row['cpu']:.2f} ({row['memory']:.0f})"
            print(f"{cell:>18}", end="", flush=True)
        print()
    return found


def plot(
    measure: Measure,
    graphs: Dict[str, Row],
    frames: Dict[str, List[Tuple[int, Optional[Row]]]],
    batches: Dict[str, List[Tuple[int, Optional[Row]]]],
    path: Path,
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    arcs, flat = (
        {engine: [(facts["arcs"], measure(engine, size=name, flat=noise)) for name, facts in graphs.items()]
         for engine in ENGINES}
        for noise in (False, True)
    )  # fmt: skip
    columns = (("arcs", arcs), ("arcs, flat outputs", flat), ("frames", frames), ("sequences in a batch", batches))
    figure, axes = pyplot.subplots(2, 4, figsize=(12, 6), layout="constrained", sharey="row")
    for column, (label, found) in enumerate(columns):
        for engine, rows in found.items():
            known = [(at, row) for at, row in rows if row is not None]
            xs = [at for at, _ in known]
            axes[0, column].plot(xs, [1e3 * row["cpu"] for _, row in known], "o-", label=engine)
            axes[1, column].plot(xs, [row["memory"] for _, row in known], "o-", label=engine)
        for axis in axes[:, column]:
            axis.set(xscale="log", yscale="log", xlabel=label)
            axis.set_xticks([], minor=True)
            ticks = [at for at, _ in found[ENGINES[0]]]
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axes[0, 0].set_ylabel("CPU ms a second of audio")
    axes[1, 0].set_ylabel("peak MB")
    axes[0, 0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    raise SystemExit(main())
