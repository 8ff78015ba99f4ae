"""Stage student_ce: a network learns on noisy speech what its teacher says of the clean twins."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from hybrid.data.batches import IGNORE, Utterance
from hybrid.data.targets import TargetsAbout
from hybrid.errors import ConfigError
from hybrid.io import read_json, write_json
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.model_io import load_model
from hybrid.nnet.priors import average_posterior, count_priors, priors_of_model
from hybrid.pipeline.frames import asked
from hybrid.pipeline.network import (
    batches,
    clean_set,
    copy_of,
    dev_sets,
    fit,
    new_model,
    save,
    settings_of,
)  # fmt: skip
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.senones import aligned, network_senones, read_targets
from hybrid.pipeline.sets import network_features, set_list, set_name, twin_of
from hybrid.pipeline.soft_targets import Soft, check_settings, read_soft, soft_sets, teacher_of
from hybrid.run import Run
from hybrid.train.soft_ce import OnlineTargets, SoftCrossEntropy, Targets, stored_targets


def student_ce(run: Run, recipe: Recipe) -> None:
    """EXP/student_ce/model, selection.json."""
    from hybrid.pipeline import shards

    if not asked(run, "student.frames"):
        return
    settings = run.config.section("student")
    check_settings(run)
    senones = network_senones(run)
    folder, about = teacher_of(run, settings["targets"])
    source: Targets = stored_targets
    soft = read_soft(run, "targets", [set_name("dev", "clean")] if stored(run) else [])
    if settings["online"]:
        source = OnlineTargets(load_model(folder)[0], about.k, about.head)
    streamed = run.config["scheduled.enabled"]
    data = shards.sample(run) if streamed else [u for part in taught(run, "student_ce").values() for u in part]
    # By the same loss as in training: an epoch that learns hard labels is not to look worse for it.
    dev = soft_utterances(run, dev_sets(run), soft, folder, hard=settings["hard"] > 0)
    model = new_model(run, "student_ce", data, senones.num_pdfs)
    criterion = SoftCrossEntropy(source, settings["temperature"], settings["hard"])
    fit(run, "student_ce", model, criterion, data, dev, partial(shards.scheduled, run) if streamed else None)
    save(run, "student_ce", model, senones, priors_of(run, model, data, folder, about))


def stored(run: Run) -> bool:
    return not run.config["student.online"]


def taught(run: Run, system: str) -> Dict[str, List[Utterance]]:
    """What student_ce learns from, "labelled" and "unlabelled"; EXP/SYSTEM/selection.json."""
    folder, _ = teacher_of(run, run.config["student.targets"])
    soft = read_soft(run, "targets", soft_sets(run)) if stored(run) else {}
    names, hard = set_list(run), run.config["student.hard"] > 0
    labelled = soft_utterances(run, names["clean"] + names["noisy"], soft, folder, hard=hard)
    return {"labelled": labelled, "unlabelled": untranscribed(run, system, soft, folder)}


def priors_of(
    run: Run, model: AcousticModel, data: List[Utterance], teacher: Path, about: TargetsAbout
) -> Optional[np.ndarray]:
    """What the teacher's outputs are, the student's are: log posteriors, which want to be divided by priors, or
    likelihoods (None)."""
    if about.kind == "logits" and about.head == "logits":
        return priors_of_model(teacher)
    if not aligned(run):
        return average_posterior(model, batches(run, data, settings_of(run, "student_ce")["batch_frames"], train=False))
    counted = [pdfs for name in set_list(run)["clean"] for pdfs in read_targets(run, name).values()]
    return count_priors(counted, about.num_pdfs)


def untranscribed(run: Run, system: str, soft: Mapping[str, Soft], teacher: Path) -> List[Utterance]:
    """The unlabelled sets, clean and noisy; with student.keep below 1 those whose teacher is surest."""
    names = set_list(run)
    data = soft_utterances(run, names.get("unlabelled", []) + names.get("unlabelled_noisy", []), soft, teacher)
    return surest(run, system, data, soft)


def soft_utterances(
    run: Run, names: Sequence[str], soft: Mapping[str, Soft], teacher: Path, hard: bool = False
) -> List[Utterance]:
    """Utterances of the named sets with the targets of their clean twins, extra["soft"]; or where these are computed
    as they are needed, with the twins' features as the teacher reads them, extra["clean"].

    pdfs: -100 but where `hard` asks for the alignment. Transcripts are not looked at. A cut whose twin has neither
    targets nor features is named in problems.jsonl of the stage that should have made them.
    """
    normalise = run.config["model.normalise"]
    theirs = read_json(teacher / "features.json")["normalise"]
    pdfs: Dict[str, np.ndarray] = {}
    clean: Dict[str, np.ndarray] = {}
    for base in {clean_set(name) for name in names}:
        if hard and aligned(run):
            pdfs.update(read_targets(run, base))
        if not soft:
            clean.update(network_features(run, base, theirs)[1])
    out = []
    for name in names:
        cuts, features = network_features(run, name, normalise)
        given: Mapping[str, Any] = soft.get(clean_set(name), {}) if soft else clean
        for cut in cuts:
            twin, x = twin_of(cut.id, cut.custom or {}), features[cut.id]
            if twin not in given:
                continue
            length = min(len(x), len(given[twin]))
            aim = np.full(length, IGNORE, np.int64)
            its = pdfs.get(twin, aim)[:length]
            aim[: len(its)] = its
            learnt = {"soft" if soft else "clean": given[twin][:length]}
            extra = {"twin": twin, **copy_of(name, cut.id, twin), **learnt}
            out.append(Utterance(cut.id, x[:length], aim, extra))
    return out


def surest(run: Run, system: str, data: List[Utterance], soft: Mapping[str, Soft]) -> List[Utterance]:
    """Of the unlabelled utterances the share student.keep; EXP/SYSTEM/selection.json.

    Sure: the mean over frames of the entropy of the teacher's posteriors is low. Copies stay or go with their twin.
    """
    keep = run.config["student.keep"]
    if not 0 < keep <= 1:
        raise ConfigError(f"student.keep is {keep}", remedy="a share above 0, up to 1")
    if keep == 1 or not data:
        return data
    if not soft:
        raise ConfigError("student.keep is below 1 and student.online true", remedy="targets must be stored to choose")
    entropy = {}
    for name in set_list(run)["unlabelled"]:
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
    return [utterance for utterance in data if utterance.extra["twin"] in kept]
