"""What students learn from: noisy speech with the targets that the teacher gives its clean twins."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from hybrid.data.batches import IGNORE, Utterance
from hybrid.io import read_json, write_json
from hybrid.pipeline.network import copy_of
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.senones import read_targets
from hybrid.pipeline.sets import clean_cut_of, clean_set, network_features, set_list
from hybrid.pipeline.soft_targets import Soft, read_soft, soft_sets, teacher_of
from hybrid.pipeline.systems import is_aligned


def stored(run: RecipeRun) -> bool:
    return not run.settings.student.online


def taught(run: RecipeRun, system: str) -> Dict[str, List[Utterance]]:
    """What student_ce learns from, "labelled" and "unlabelled"; EXP/SYSTEM/selection.json."""
    folder, _ = teacher_of(run, run.settings.student.targets)
    soft = read_soft(run, "targets", soft_sets(run)) if stored(run) else {}
    hard = run.settings.student.hard_weight > 0
    labelled = soft_utterances(run, set_list(run).training, soft, folder, hard=hard)
    return {"labelled": labelled, "unlabelled": untranscribed(run, system, soft, folder)}


def untranscribed(run: RecipeRun, system: str, soft: Mapping[str, Soft], teacher: Path) -> List[Utterance]:
    """The unlabelled sets, clean and noisy; with student.confident below 1 those whose teacher is surest."""
    sets = set_list(run)
    data = soft_utterances(run, sets.unlabelled + sets.unlabelled_noisy, soft, teacher)
    return surest(run, system, data, soft)


def soft_utterances(
    run: RecipeRun, names: Sequence[str], soft: Mapping[str, Soft], teacher: Path, hard: bool = False
) -> List[Utterance]:
    """Utterances of the named sets with the targets of their clean twins, extra["soft"]; or where these are computed
    as they are needed, with the twins' features as the teacher reads them, extra["clean"].

    pdfs: -100 but where `hard` asks for the alignment. Transcripts are not looked at. A cut whose clean cut has neither
    targets nor features is named in problems.jsonl of the stage that should have made them.
    """
    cmvn, dev, aligned = run.settings.model.cmvn, set_list(run).dev, is_aligned(run.settings)
    theirs = read_json(teacher / "features.json")["cmvn"]
    pdfs: Dict[str, np.ndarray] = {}
    clean: Dict[str, np.ndarray] = {}
    for base in {clean_set(name, dev) for name in names}:
        if hard and aligned:
            pdfs.update(read_targets(run, base))
        if not soft:
            clean.update(network_features(run, base, theirs)[1])
    out = []
    for name in names:
        cuts, features = network_features(run, name, cmvn)
        given: Mapping[str, Any] = soft.get(clean_set(name, dev), {}) if soft else clean
        for cut in cuts:
            clean_cut, x = clean_cut_of(cut.id, cut.custom or {}), features[cut.id]
            if clean_cut not in given:
                continue
            length = min(len(x), len(given[clean_cut]))
            aim = np.full(length, IGNORE, np.int64)
            its = pdfs.get(clean_cut, aim)[:length]
            aim[: len(its)] = its
            learnt = {"soft" if soft else "clean": given[clean_cut][:length]}
            extra = {"clean_cut": clean_cut, **copy_of(name, cut.id, clean_cut), **learnt}
            out.append(Utterance(cut.id, x[:length], aim, extra))
    return out


def surest(run: RecipeRun, system: str, data: List[Utterance], soft: Mapping[str, Soft]) -> List[Utterance]:
    """Of the unlabelled utterances the share student.confident; EXP/SYSTEM/selection.json.

    Sure: the mean over frames of the entropy of the teacher's posteriors is low.
    Copies stay or go with their clean cut.
    """
    keep = run.settings.student.confident
    if keep == 1 or not data:
        return data
    entropy = {}
    for name in set_list(run).unlabelled:
        for identifier, its in soft[name].items():
            entropy[identifier] = float(np.mean(its.codec.posterior_entropy(*its.decode())))
    ranked = sorted(entropy, key=lambda identifier: (entropy[identifier], identifier))
    kept = set(ranked[: max(1, round(keep * len(ranked)))])
    write_json(
        run.dir(system) / "selection.json",
        {"entropy": {i: round(entropy[i], 5) for i in ranked}, "kept": len(kept), "of": len(ranked)},
    )
    most = entropy[ranked[len(kept) - 1]]
    run.log(f"  {len(kept)} of {len(ranked)} unlabelled utterances, entropy up to {most:.2f} nats a frame")
    return [utterance for utterance in data if utterance.extra["clean_cut"] in kept]
