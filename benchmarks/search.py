"""The search against Kaldi's: CPU time of one thread, on the same graph and log-likelihoods.

    python -m benchmarks.search EXP [EXP ...] [--systems mono ce lfmmi] [--utterances 100] [--repeat 3]

EXP: a run that has been decoded. For each system and each condition of its test sets: our best path, our lattice (beam
8), Kaldi's FasterDecoder (a best path, no lattice) and LatticeFasterDecoder (lattice beam 8, not determinised; the best
path is read from it), by turns, each `repeat` times over the same utterances at the acoustic scale, beam and max_active
that the run decoded with; the least of the times counts. Printed: microseconds a frame, the ratios, how many best paths
cost more or less than FasterDecoder's, and the links a frame of our lattices.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import kaldi_hmm_gmm as khg
import numpy as np

from hybrid.data.arrays import read_arrays
from hybrid.data.feature_config import kind_of
from hybrid.decode.acoustics import load_acoustics
from hybrid.decode.decoder import Decoder, read_graph
from hybrid.decode.kaldi import FasterDecoder
from hybrid.decode.trained import System, find_search, systems
from hybrid.hmm.senones import Senones
from hybrid.pipeline.sets import speakers_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", nargs="+", type=Path)
    parser.add_argument("--systems", nargs="+", default=[])
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':42} {'microseconds a frame':^39} {'times ours':^17}  {'cost':^11}  links")
    print(f"{'run system set':42} {'best':>9} {'lattice':>9} {'Faster':>9} {'Lattice':>9} {'Faster':>8} {'Lattice':>8}"
          f"  {'more':>5} {'less':>5}  {'a frame':>7}")  # fmt: skip
    for exp in options.exp:
        for name, test, scaled, system, limits in jobs(exp, options.systems, options.utterances):
            row(f"{exp.name} {name} {test}", scaled, system, limits, options.repeat)


def jobs(
    exp: Path, wanted: List[str], most: int
) -> Iterator[Tuple[str, str, List[np.ndarray], System, Dict[str, Any]]]:
    """Yield name, test set, scaled log-likelihoods of some utterances, system, and the limits of the search."""
    for name, system in systems(exp).items():
        if wanted and name not in wanted:
            continue
        acoustics = load_acoustics(system.model, system.network)
        kind = kind_of(acoustics.features)
        for file in sorted((exp / "decode" / name).glob("*/*/wer.json")):
            condition, test = file.parts[-3:-1]
            if test == "dev" or not (exp / "features" / f"{test}_{condition}").is_dir():
                continue
            point = find_search(exp, system, condition, acoustics.scale)
            cuts, features = read_arrays(exp / "features" / f"{test}_{condition}" / kind, kind)
            chosen = sorted(features)[:: max(len(features) // most, 1)][:most]
            speakers = speakers_of(cuts)
            loglikes = acoustics.loglikes({one: features[one] for one in chosen}, speakers)
            scale = np.float32(point.acoustic_scale)
            limits = {"beam": point.beam, "max_active": point.max_active}
            yield name, f"{test} {condition}", [scale * loglikes[one] for one in chosen], system, limits


def row(title: str, scaled: List[np.ndarray], system: System, limits: Dict[str, Any], repeat: int) -> None:
    graph = read_graph(system.graph)
    transitions = Senones.load(system.model / "senones").transition_model
    ours, kaldis = Decoder(graph, **limits), FasterDecoder(graph, **limits)
    config = khg.LatticeFasterDecoderConfig(
        beam=limits["beam"], max_active=limits["max_active"], min_active=20, lattice_beam=8.0, determinize_lattice=False
    )

    def lattice_faster(matrix: np.ndarray) -> Any:
        search = khg.LatticeFasterDecoderStdConstFst(graph, config)
        return khg.decode_utterance_lattice_faster(search, khg.DecodableCtc(matrix), transitions, "", True)

    searches: Dict[str, Callable[[np.ndarray], Any]] = {
        "best": ours.decode, "lattice": ours.lattice, "faster": kaldis.decode, "lattice_faster": lattice_faster,
    }  # fmt: skip
    for search in searches.values():  # compiled, read, warm
        search(scaled[0])
    frames = sum(map(len, scaled))
    least = dict.fromkeys(searches, float("inf"))
    results: Dict[str, List[Any]] = {}
    for _ in range(repeat):
        for name, search in searches.items():
            started = time.thread_time()
            results[name] = [search(matrix) for matrix in scaled]
            least[name] = min(least[name], (time.thread_time() - started) / frames)
    differences = np.array([a.cost - b.cost for a, b in zip(results["best"], results["faster"], strict=True)])
    links = sum(0 if lattice is None else len(lattice.source) for lattice in results["lattice"])
    times = " ".join(f"{1e6 * least[name]:9.1f}" for name in searches)
    ratios = " ".join(f"{least[name] / least['lattice']:8.2f}" for name in ("faster", "lattice_faster"))
    print(
        f"{title:42} {times} {ratios}"
        f"  {(differences > 1e-3).sum():5d} {(differences < -1e-3).sum():5d}  {links / frames:7.1f}", flush=True
    )  # fmt: skip


if __name__ == "__main__":
    main()
