"""The search against Kaldi's: CPU time of one thread, on the same graph and log-likelihoods.

    python -m benchmarks.search EXP [EXP ...] [--systems mono lfmmi] [--conditions clean] [--utterances 100]
        [--repeat 3] [--graphs OUT ...]

EXP: a run that has been decoded; OUT: what benchmarks.big_graphs made of it, in place of the run's own graphs. For each
graph, system and condition of the test sets: our best path, our lattice (beam 8), Kaldi's FasterDecoder (a best path,
no lattice) and LatticeFasterDecoder (lattice beam 8, not determinised; the best path is read from it), by turns, each
`repeat` times over the same utterances at the acoustic scale, beam and max_active that the run decoded with; the least
of the times counts. Printed: microseconds a frame, the ratios, how many best paths cost more or less than
FasterDecoder's, and the links a frame of our lattices.

The last two columns are links a frame of --simple utterances without max_active, which Kaldi's LatticeSimpleDecoder
does not know: ours and its own, at the same beams.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import kaldi_decoder
import kaldi_hmm_gmm as khg
import kaldifst
import numpy as np

from hybrid.data.arrays import read_arrays
from hybrid.data.feature_config import kind_of
from hybrid.decode.acoustics import load_acoustics
from hybrid.decode.decoder import Decoder
from hybrid.decode.kaldi import FasterDecoder
from hybrid.decode.trained import System, find_search, systems
from hybrid.fst import const, read_fst
from hybrid.hmm.senones import Senones
from hybrid.pipeline.sets import speakers_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", nargs="+", type=Path)
    parser.add_argument("--systems", nargs="+", default=[])
    parser.add_argument("--conditions", nargs="+", default=[])
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--graphs", nargs="+", type=Path, default=[])
    parser.add_argument("--simple", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':38} {'microseconds a frame':^35} {'times ours':^13}  {'cost':^9}  {'links a frame':^22}")
    print(f"{'run system set':38} {'best':>8} {'lattice':>8} {'Faster':>8} {'Lattice':>8} {'Faster':>6} {'Latt.':>6}"
          f"  {'more':>4} {'less':>4}  {'':>6} {'all':>7} {'Simple':>7}")  # fmt: skip
    for exp in options.exp:
        for name, test, scaled, system, limits in jobs(exp, options.systems, options.conditions, options.utterances):
            row(f"{exp.name} {name} {test}", scaled, system, limits, options.repeat, options.simple)
            for folder in options.graphs:
                other = replace(system, graph=folder / system.graph.name)
                if other.graph.exists():
                    row(f"{folder.name} {name} {test}", scaled, other, limits, options.repeat, options.simple)


def jobs(
    exp: Path, wanted: List[str], conditions: List[str], most: int
) -> Iterator[Tuple[str, str, List[np.ndarray], System, Dict[str, Any]]]:
    """Yield name, test set, scaled log-likelihoods of some utterances, system, and the limits of the search."""
    for name, system in systems(exp).items():
        if wanted and name not in wanted:
            continue
        acoustics = load_acoustics(system.model, system.network)
        kind = kind_of(acoustics.features)
        for file in sorted((exp / "decode" / name).glob("*/*/wer.json")):
            condition, test = file.parts[-3:-1]
            if test == "dev" or (conditions and condition not in conditions):
                continue
            if not (exp / "features" / f"{test}_{condition}").is_dir():
                continue
            point = find_search(exp, system, condition, acoustics.scale)
            cuts, features = read_arrays(exp / "features" / f"{test}_{condition}" / kind, kind)
            chosen = sorted(features)[:: max(len(features) // most, 1)][:most]
            speakers = speakers_of(cuts)
            loglikes = acoustics.loglikes({one: features[one] for one in chosen}, speakers)
            scale = np.float32(point.acoustic_scale)
            limits = {"beam": point.beam, "max_active": point.max_active}
            yield name, f"{test} {condition}", [scale * loglikes[one] for one in chosen], system, limits


def row(
    title: str, scaled: List[np.ndarray], system: System, limits: Dict[str, Any], repeat: int, simple: int
) -> None:
    graph = const(read_fst(system.graph))
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
    times = " ".join(f"{1e6 * least[name]:8.1f}" for name in searches)
    ratios = " ".join(f"{least[name] / least['lattice']:6.2f}" for name in ("faster", "lattice_faster"))
    print(
        f"{title:38} {times} {ratios}  {(differences > 1e-3).sum():4d} {(differences < -1e-3).sum():4d}"
        f"  {links / frames:6.1f} {links_without_max_active(graph, scaled[:simple], limits['beam'])}", flush=True
    )  # fmt: skip


def links_without_max_active(graph: kaldifst.StdConstFst, scaled: List[np.ndarray], beam: float) -> str:
    """Return the links a frame of our lattices, and of LatticeSimpleDecoder's; empty where there is no utterance."""
    if not scaled:
        return ""
    ours = Decoder(graph, beam=beam, max_active=2**31 - 1)
    config = kaldi_decoder.LatticeSimpleDecoderConfig(
        beam=beam, lattice_beam=8.0, determinize_lattice=False, prune_lattice=False
    )
    links = [0, 0]
    for matrix in scaled:
        lattice = ours.lattice(matrix)
        links[0] += 0 if lattice is None else len(lattice.source)
        search = kaldi_decoder.LatticeSimpleDecoder(graph, config)
        search.decode(kaldi_decoder.DecodableCtc(matrix))
        _, raw = search.get_raw_lattice()
        links[1] += sum(len(line.split()) > 2 for line in raw.to_str().splitlines())
    return " ".join(f"{count / sum(map(len, scaled)):7.1f}" for count in links)


if __name__ == "__main__":
    main()
