"""Which sets of cuts a run has, where they are, and what they hold.

Training sets are clean (`train`, `train_sp0.9`, `train_sp1.1`) and their noisy twins (`train_noisy1` ...), and where a
recipe has untranscribed speech `unlabelled` and its likes; the development and test sets exist in each of the three
conditions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, Tuple

import numpy as np
from lhotse import CutSet

from hybrid.data.arrays import read_arrays
from hybrid.data.transforms import apply_cmvn, stack_frames
from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, read_json, read_jsonl, write_json, write_jsonl
from hybrid.run import Run

CONDITIONS = ("clean", "noisy", "rerecorded")
NETWORK_RATE = 3  # frames of features in a network frame
FRAME_SHIFT = 0.01  # seconds
NETWORK_SHIFT = FRAME_SHIFT * NETWORK_RATE


def write_cuts(path: PathLike, cuts: CutSet) -> None:
    write_jsonl(path, (cut.to_dict() for cut in cuts))


def read_cuts(path: PathLike) -> CutSet:
    return CutSet.from_dicts(read_jsonl(path)).to_eager()


def prepared(run: Run, split: str) -> CutSet:
    return read_cuts(run.dir("prepare") / f"{split}.jsonl.gz")


def has_unlabelled(run: Run) -> bool:
    return (run.dir("prepare") / "unlabelled.jsonl.gz").exists()


def augmented(run: Run, name: str) -> CutSet:
    return read_cuts(run.dir("augment") / f"{name}.jsonl.gz")


def set_name(split: str, condition: str) -> str:
    """dev, clean -> dev_clean."""
    return f"{split}_{condition}"


def write_set_list(run: Run, names: Mapping[str, List[str]]) -> None:
    """names: training sets, "clean" and "noisy", "unlabelled" and "unlabelled_noisy", and sets to "decode"; kept by the
    augment stage."""
    write_json(run.dir("augment") / "sets.json", names)


def set_list(run: Run) -> Dict[str, List[str]]:
    return read_json(run.dir("augment") / "sets.json")


def feature_folder(run: Run, name: str, kind: str) -> Path:
    return run.dir("features") / name / kind


def speakers_of(cuts: CutSet) -> Dict[str, str]:
    return {cut.id: cut.supervisions[0].speaker for cut in cuts}


def texts_of(cuts: CutSet) -> Dict[str, str]:
    return {cut.id: cut.supervisions[0].text for cut in cuts}


def gmm_features(run: Run, name: str) -> Tuple[CutSet, Dict[str, np.ndarray]]:
    """MFCC normalised per speaker [T, B] (Kaldi's apply-cmvn); a model's front makes its features of them."""
    cuts, features = read_arrays(feature_folder(run, name, "mfcc"), "mfcc")
    return cuts, apply_cmvn(features, speakers_of(cuts), variance=run.config["gmm.variance_normalisation"])


def network_features(run: Run, name: str, normalise: str) -> Tuple[CutSet, Dict[str, np.ndarray]]:
    """Log mel less a mean, three frames stacked: [ceil(T / 3), 192]."""
    cuts, features = read_arrays(feature_folder(run, name, "logmel"), "logmel")
    return cuts, normalised(features, speakers_of(cuts), normalise)


def normalised(
    features: Mapping[str, np.ndarray], speakers: Mapping[str, str], normalise: str
) -> Dict[str, np.ndarray]:
    """normalise: "speaker" or "utterance": whose mean is taken off; with "+variance" the result is also divided by the
    deviation; or "none"."""
    whose, plus, more = normalise.partition("+")
    if whose not in ("speaker", "utterance", "none") or (plus and (more != "variance" or whose == "none")):
        raise ConfigError(
            f"normalise is {normalise!r}",
            remedy="use speaker, speaker+variance, utterance, utterance+variance or none",
        )
    found = dict(features)
    if whose != "none":
        found = apply_cmvn(features, speakers if whose == "speaker" else None, variance=more == "variance")
    return {identifier: stack_frames(x, NETWORK_RATE) for identifier, x in found.items()}


def twin_of(cut_id: str, custom: Mapping[str, str]) -> str:
    """The clean cut whose alignment a cut uses: its own where it is clean."""
    return custom.get("clean_twin", cut_id)


def need(mapping: Mapping[str, np.ndarray], key: str, what: str) -> np.ndarray:
    try:
        return mapping[key]
    except KeyError:
        raise DataError(f"no {what}", utterance=key, remedy="run the stage that makes it again") from None
