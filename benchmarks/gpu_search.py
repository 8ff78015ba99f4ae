"""k2's search on a device against our own on one CPU core: the same graph and log-likelihoods.

    python -m benchmarks.gpu_search EXP [--system lfmmi] [--set test_clean] [--utterances 100] [--device auto]
        [--repeat 3] [--graphs OUT ...]

EXP: a run that has been decoded; OUT: what benchmarks.big_graphs made of it, in place of the run's own graph. For each
graph: states and arcs before and after epsilons are removed, the seconds and growth of memory that this and the copy to
the device take; then lattices (beam 8) of all utterances by k2 in batches, made into ours, and one by one by our own
search, by turns, each `repeat` times; the least of the times counts. Printed: utterances a second, real-time factor
(seconds of search a second of speech), links a frame, and how many best paths have the same words, and a higher or
lower cost by k2.

k2 is also timed alone, without what makes our lattices of its arcs on the CPU. On the CPU k2 has one thread, as ours.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import kaldifst
import numpy as np
import torch

from hybrid.data.arrays import read_arrays
from hybrid.data.feature_config import kind_of
from hybrid.decode.acoustics import load_acoustics
from hybrid.decode.decoder import Decoder
from hybrid.decode.k2_search import K2Search, batches
from hybrid.decode.trained import find_search, find_system
from hybrid.device import choose
from hybrid.pipeline.sets import speakers_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--system", default="lfmmi")
    parser.add_argument("--set", dest="name", default="test_clean")
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--graphs", nargs="+", type=Path, default=[])
    options = parser.parse_args()
    device = choose(options.device)
    torch.set_num_threads(1)
    where = torch.cuda.get_device_name(device) if device != "cpu" else "cpu, one thread"
    print(f"k2 on {device} ({where})")
    system = find_system(options.exp, options.system, None)
    acoustics = load_acoustics(system.model, system.network, device)
    point = find_search(options.exp, system, options.name.rpartition("_")[2], acoustics.scale)
    kind = kind_of(acoustics.features)
    cuts, features = read_arrays(options.exp / "features" / options.name / kind, kind)
    chosen = sorted(features)[:: max(len(features) // options.utterances, 1)][: options.utterances]
    loglikes = acoustics.loglikes({name: features[name] for name in chosen}, speakers_of(cuts))
    for graph in [system.graph, *(folder / system.graph.name for folder in options.graphs)]:
        decoder = Decoder(graph, beam=point.beam, max_active=point.max_active, word_penalty=point.word_penalty)
        scaled = [decoder.scaled(loglikes[name], point.acoustic_scale, name) for name in chosen]
        compare(str(graph), decoder, scaled, acoustics.frame_shift, point.acoustic_scale, device, options.repeat)


def compare(
    title: str, decoder: Decoder, scaled: List[np.ndarray], frame_shift: float, scale: float, device: str, repeat: int
) -> None:
    """Print a graph's rows."""
    decoder.lattice(scaled[0])  # compiled, and warm
    small = Decoder(kaldifst.compile("0 1 1 1 0\n1 0\n")).graph
    K2Search(small, decoder.options, device).lattices([np.zeros((2, 1), np.float32)])
    before, started = _memory(), time.perf_counter()
    search = K2Search(decoder.graph, decoder.options, device)
    made = search.on_device()
    graph = decoder.graph
    print(
        f"{title}: {graph.num_states} states, {graph.num_arcs} arcs; without epsilons {made.graph.num_states} and "
        f"{made.graph.num_arcs} ({made.graph.num_arcs / graph.num_arcs:.2f} times), in "
        f"{time.perf_counter() - started:.2f} s and {_memory() - before:.0f} MB"
    )

    def alone() -> None:
        for batch in batches(scaled, len):
            search.surviving(made.fsas, batch)

    results: Dict[str, List[Any]] = {}
    ways: Dict[str, Callable[[], Any]] = {
        "k2 alone": alone, "k2": lambda: search.lattices(scaled, scale),
        "ours": lambda: [decoder.lattice(matrix / scale, scale) for matrix in scaled],
    }  # fmt: skip
    least: Dict[str, Tuple[float, float]] = dict.fromkeys(ways, (np.inf, np.inf))
    for _ in range(repeat):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            results[name] = way()
            took = time.perf_counter() - wall, time.process_time() - cpu
            least[name] = min(least[name], took)
    frames = sum(map(len, scaled))
    print(f"  {'':9} {'utt./s':>8} {'RTF':>9} {'CPU s':>7} {'links/frame':>12}")
    for name, (wall, cpu) in least.items():
        links = sum(len(one.source) for one in results[name] or [] if one is not None) / frames
        print(f"  {name:9} {len(scaled) / wall:8.1f} {wall / (frames * frame_shift):9.6f} {cpu:7.2f} "
              + (f"{links:12.1f}" if links else f"{'':12}"))  # fmt: skip
    same = more = less = 0
    for found, own in zip(results["k2"], results["ours"], strict=True):
        if found is not None and own is not None:
            a, b = found.best_path(scale), own.best_path(scale)
            same += a.words == b.words
            more, less = more + (a.cost > b.cost + 1e-3), less + (a.cost < b.cost - 1e-3)
    print(f"  of {len(scaled)} utterances {same} have the same words; cost by k2 higher {more}, lower {less}")


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
