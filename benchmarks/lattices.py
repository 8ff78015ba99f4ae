"""What lattices hold: the fewest errors that a path, or one of the n best, has, beside those of the best path.

    python -m benchmarks.lattices EXP [--systems lfmmi ce tri1] [--condition clean] [--set test] [--beam 8]

EXP: a run that has been decoded. Each utterance is searched once, at the acoustic scale, word penalty and beams that
the run chose on its development set; its lattice is determinised over words. Printed, in percent of the reference's
words: the errors of the best path, of the words of minimum Bayes risk, and the oracle errors of the 10 best, the 100
best and the lattice; words of all paths a word of the reference; CPU milliseconds a second of speech of what comes
after the search.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import List, Sequence

import numpy as np

from hybrid.data.arrays import read_arrays
from hybrid.data.feature_config import kind_of
from hybrid.decode.acoustics import load_acoustics
from hybrid.decode.decoder import Decoder
from hybrid.decode.mbr import mbr
from hybrid.decode.trained import System, find_search, systems
from hybrid.errors import ConfigError
from hybrid.lexicon.lang import Lang
from hybrid.pipeline.sets import speakers_of
from hybrid.score.wer import align, count

NAMES = ("best", "MBR", "10 best", "100 best", "lattice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--systems", nargs="+", default=["lfmmi", "ce", "tri1"])
    parser.add_argument("--condition", default="clean")
    parser.add_argument("--set", default="test")
    parser.add_argument("--beam", type=float, default=8.0)
    options = parser.parse_args()
    known = systems(options.exp)
    print(f"{'system':12} {'words':>6} " + " ".join(f"{name:>8}" for name in NAMES) + f" {'density':>8} {'ms/s':>6}")
    for name in options.systems:
        if name not in known:
            raise ConfigError(f"no system {name} in {options.exp}", remedy=f"use some of {', '.join(known)}")
        print(row(options.exp, known[name], options.condition, options.set, options.beam), flush=True)


def row(exp: Path, system: System, condition: str, test: str, beam: float) -> str:
    acoustics, lang = load_acoustics(system.model, system.network), Lang.load(exp / "lang")
    point = find_search(exp, system, condition, acoustics.scale)
    kind = kind_of(acoustics.features)
    cuts, features = read_arrays(exp / "features" / f"{test}_{condition}" / kind, kind)
    loglikes = acoustics.loglikes(features, speakers_of(cuts))
    decoder = Decoder(
        system.graph, beam=point.beam, max_active=point.max_active, word_penalty=point.word_penalty
    )
    errors, words, arcs, frames, seconds = np.zeros(len(NAMES), np.int64), 0, 0, 0, 0.0
    for cut in cuts:
        text = " ".join(supervision.text or "" for supervision in cut.supervisions)
        reference = [lang.words.get(word, -1) for word in text.split()]
        words, frames = words + len(reference), frames + len(loglikes[cut.id])
        raw = decoder.lattice(loglikes[cut.id], point.acoustic_scale, cut.id, lattice_beam=beam)
        if raw is None:
            errors += len(reference)
            continue
        began = time.thread_time()
        lattice = raw.determinised(point.acoustic_scale, lattice_beam=beam)
        entries = [entry.words for entry in lattice.nbest(100, point.acoustic_scale)]
        risk = mbr(lattice, point.acoustic_scale)
        seconds += time.thread_time() - began
        arcs += int((lattice.word != 0).sum())
        errors += [
            fewest(entries[:1], reference), fewest([risk.words], reference), fewest(entries[:10], reference),
            fewest(entries, reference), lattice.oracle(reference).errors,
        ]  # fmt: skip
    cells = " ".join(f"{100 * count / words:8.2f}" for count in errors)
    cost = 1e3 * seconds / (frames * acoustics.frame_shift)
    return f"{system.name:12} {words:6d} {cells} {arcs / words:8.1f} {cost:6.2f}"


def fewest(hypotheses: Sequence[Sequence[int]], reference: List[int]) -> int:
    names = [str(word) for word in reference]
    return min(count(align(names, [str(word) for word in words])).errors for words in hypotheses)


if __name__ == "__main__":
    main()
