"""How well confidences tell probabilities, and what they cost.

    python -m benchmarks.calibration EXP [--systems ce lfmmi tri1]

EXP: a run that has been decoded, with its features. For each system and condition: a calibration is learnt on the
development set at the scale and penalty that the run chose, and judged on the test sets: the expected calibration
error (ECE, in percent) of the lattice's posteriors as they are and of the calibrated confidences, what it would be by
chance if these were probabilities, the normalised cross-entropy (NCE), the area under the curve of right words
accepted against wrong words accepted (AUC: 50 says nothing, 100 all), and CPU milliseconds an utterance, of search,
alignment and posteriors together. Last, the test sets of all conditions together, each calibrated on its own
development set.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import List, Tuple

import numpy as np

from hybrid.data.arrays import read_arrays
from hybrid.data.feature_config import kind_of
from hybrid.decode.acoustics import load_acoustics
from hybrid.decode.calibration import (
    Calibration,
    by_chance,
    calibration_error,
    normalised_cross_entropy,
    reliability,
)
from hybrid.decode.confidences import Judged, score_words
from hybrid.decode.trained import System, find_search, systems
from hybrid.pipeline.sets import speakers_of, texts_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--systems", nargs="+", default=[])
    options = parser.parse_args()
    print(
        f"{'system, set':32} {'words':>6} {'wrong':>6}  {'ECE raw':>8} {'ECE':>6} {'chance':>6}  {'NCE':>6} "
        f"{'AUC':>6}  {'ms':>6}"
    )
    for name, system in systems(options.exp).items():
        if options.systems and name not in options.systems:
            continue
        parts: List[Tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for folder in sorted((options.exp / "decode" / name).glob("*/dev")):
            condition = folder.parent.name
            dev, _ = judged(options.exp, system, condition, "dev")
            calibration = Calibration.fit(dev.features, dev.right)
            for test in sorted(folder.parent.glob("*/wer.json")):
                if test.parent.name == "dev" or not _features(options.exp, test.parent.name, condition).is_dir():
                    continue
                words, cost = judged(options.exp, system, condition, test.parent.name)
                parts.append((words.features[:, 0], calibration.conf(words.features), words.right))
                row(f"{name} {test.parent.name} {condition}", *parts[-1], f"{cost:.1f}")
        if len(parts) > 1:
            odds, conf, right = (np.concatenate(column) for column in zip(*parts, strict=True))
            row(f"{name} all", odds, conf, right, "")


def _features(exp: Path, name: str, condition: str) -> Path:
    return exp / "features" / f"{name}_{condition}"


def judged(
    exp: Path, system: System, condition: str, name: str
) -> Tuple[Judged, float]:
    """Return the words of a set, and the CPU milliseconds that an utterance took."""
    acoustics = load_acoustics(system.model, system.network)
    point = find_search(exp, system, condition, acoustics.scale)
    kind = kind_of(acoustics.features)
    cuts, features = read_arrays(_features(exp, name, condition) / kind, kind)
    loglikes = acoustics.loglikes(features, speakers_of(cuts))
    references = {utterance: text.split() for utterance, text in texts_of(cuts).items()}
    started = time.thread_time()
    words = score_words(
        loglikes, system.graph, lang=exp / "lang", senones=system.model / "senones",
        acoustic_scale=point.acoustic_scale, word_penalty=point.word_penalty, beam=point.beam,
        max_active=point.max_active,
    )  # fmt: skip
    cost = 1000 * (time.thread_time() - started) / max(len(words), 1)
    return Judged.of(words, references), cost


def row(title: str, odds: np.ndarray, conf: np.ndarray, right: np.ndarray, cost: str) -> None:
    """Print a line. odds: log odds of the lattice's posteriors; conf: calibrated; cost: the last column."""
    raw = 1 / (1 + np.exp(-odds))
    print(
        f"{title:32} {len(conf):6d} {(~right).sum():6d}  {100 * calibration_error(raw, right):8.2f} "
        f"{100 * calibration_error(conf, right):6.2f} {100 * by_chance(reliability(conf, right)):6.2f}  "
        f"{normalised_cross_entropy(conf, right):6.3f} {100 * area(conf, right):6.2f}  {cost:>6}", flush=True
    )  # fmt: skip


def area(conf: np.ndarray, right: np.ndarray) -> float:
    """Return the probability that a right word has a higher confidence than a wrong one."""
    better = conf[right][:, None] > conf[~right][None]
    same = conf[right][:, None] == conf[~right][None]
    return float((better + 0.5 * same).mean()) if better.size else float("nan")


if __name__ == "__main__":
    main()
