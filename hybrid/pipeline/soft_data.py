"""What students learn from: noisy speech with the targets that the teacher gives its clean twins."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from hybrid.data.batches import IGNORE, Utterance
from hybrid.io import read_json, write_json
from hybrid.pipeline.network import copy_of, features_about
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.senones import read_targets
from hybrid.pipeline.sets import clean_cut_of, clean_set, network_features, set_list
from hybrid.pipeline.soft_targets import Soft, read_soft, soft_sets, teacher_of
from hybrid.pipeline.systems import is_aligned


def stored(run: RecipeRun) -> bool:
    return not run.settings.student.online


def taught(run: RecipeRun, system: str) -> Dict[str, List[Utterance]]:
    """Return what student_ce learns from, "labelled" and "unlabelled"; EXP/SYSTEM/selection.json."""
    folder, _ = teacher_of(run, run.settings.student.targets)
    soft = read_soft(run, "targets", soft_sets(run)) if stored(run) else {}
    hard = run.settings.student.hard_weight > 0
    labelled = soft_utterances(run, set_list(run).training, soft, folder, hard=hard)
    return {"labelled": labelled, "unlabelled": untranscribed(run, system, soft, folder)}


def untranscribed(run: RecipeRun, system: str, soft: Mapping[str, Soft], teacher: Path) -> List[Utterance]:
    """Return the unlabelled sets, clean and noisy; with student.confident below 1 those whose teacher is surest."""
    sets = set_list(run)
    data = soft_utterances(run, sets.unlabelled + sets.unlabelled_noisy, soft, teacher)
    return surest(run, system, data, soft)


def soft_utterances(
    run: RecipeRun, names: Sequence[str], soft: Mapping[str, Soft], teacher: Path, hard: bool = False
) -> List[Utterance]:
    """Return the utterances of the named sets with the targets of their clean twins, extra["soft"]; or where these are
    computed as they are needed, with the twins' features as the teacher reads them, extra["clean"].

    pdfs: -100 but where `hard` asks for the alignment. Transcripts are not looked at. A cut whose clean cut has neither
    targets nor features is named in problems.jsonl of the stage that should have made them.
    """
    about, dev, aligned = features_about(run), set_list(run).dev, is_aligned(run.settings)
    teacher_about = read_json(teacher / "features.json")
    pdfs: Dict[str, np.ndarray] = {}
    clean: Dict[str, np.ndarray] = {}
    for base in {clean_set(name, dev) for name in names}:
        if hard and aligned:
            pdfs.update(read_targets(run, base))
        if not soft:
            clean.update(network_features(run, base, teacher_about)[1])
    utterances = []
    for name in names:
        cuts, features = network_features(run, name, about)
        sources: Mapping[str, Any] = soft.get(clean_set(name, dev), {}) if soft else clean
        for cut in cuts:
            clean_cut, matrix = clean_cut_of(cut.id, cut.custom or {}), features[cut.id]
            if clean_cut not in sources:
                continue
            length = min(len(matrix), len(sources[clean_cut]))
            labels = np.full(length, IGNORE, np.int64)
            alignment = pdfs.get(clean_cut, labels)[:length]
            labels[: len(alignment)] = alignment
            source = {"soft" if soft else "clean": sources[clean_cut][:length]}
            extra = {"clean_cut": clean_cut, **copy_of(name, cut.id, clean_cut), **source}
            utterances.append(Utterance(cut.id, matrix[:length], labels, extra))
    return utterances


def surest(run: RecipeRun, system: str, data: List[Utterance], soft: Mapping[str, Soft]) -> List[Utterance]:
    """Return the share student.confident of the unlabelled utterances, those whose teacher is surest; write
    EXP/SYSTEM/selection.json.

    Sure: the mean over frames of the entropy of the teacher's posteriors is low.
    Copies stay or go with their clean cut.
    """
    share = run.settings.student.confident
    if share == 1 or not data:
        return data
    entropy = {}
    for name in set_list(run).unlabelled:
        for identifier, soft_targets in soft[name].items():
            entropy[identifier] = float(np.mean(soft_targets.codec.posterior_entropy(*soft_targets.decode())))
    ranked = sorted(entropy, key=lambda identifier: (entropy[identifier], identifier))
    selected = set(ranked[: max(1, round(share * len(ranked)))])
    write_json(
        run.dir(system) / "selection.json",
        {
            "entropy": {identifier: round(entropy[identifier], 5) for identifier in ranked},
            "kept": len(selected),
            "of": len(ranked),
        },
    )
    highest = entropy[ranked[len(selected) - 1]]
    run.log(f"  {len(selected)} of {len(ranked)} unlabelled utterances, entropy up to {highest:.2f} nats a frame")
    return [utterance for utterance in data if utterance.extra["clean_cut"] in selected]
