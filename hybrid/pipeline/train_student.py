"""Students trained with soft cross-entropy (stage student_ce): a network learns on noisy speech what its teacher says
of the clean twins."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Optional

import numpy as np

from hybrid.data.targets import TargetsAbout
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.model_io import load_model
from hybrid.nnet.priors import average_posterior, count_priors, priors_of_model
from hybrid.pipeline.alignments import open_alignments
from hybrid.pipeline.network import Data, batches, dev_sets, fit, new_model, save
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.senones import network_senones
from hybrid.pipeline.sets import set_list
from hybrid.pipeline.shards import sample, scheduled
from hybrid.pipeline.soft_data import soft_utterances, stored, taught
from hybrid.pipeline.soft_targets import read_soft, teacher_of
from hybrid.pipeline.speech import JoinedSpeech
from hybrid.pipeline.systems import System, is_aligned
from hybrid.train.soft_ce import OnlineTargets, SoftCrossEntropy, Targets, stored_targets


def train_student(run: RecipeRun, system: System) -> None:
    """Write EXP/student_ce/model, selection.json."""
    settings = run.settings.student
    senones = network_senones(run)
    folder, about = teacher_of(run, settings.targets)
    source: Targets = stored_targets
    soft = read_soft(run, "targets", [set_list(run).clean_dev.name] if stored(run) else [])
    if settings.online:
        source = OnlineTargets(load_model(folder)[0], about.k, about.head)
    streamed = run.settings.scheduled.enabled
    data: Data = sample(run) if streamed else JoinedSpeech(list(taught(run, system.name).values()))
    # By the same loss as in training: an epoch that learns hard labels is not to look worse for it.
    dev = soft_utterances(run, dev_sets(run), soft, folder, hard=settings.hard_weight > 0)
    model = new_model(run, system, data, senones.num_pdfs)
    criterion = SoftCrossEntropy(source, settings.temperature, settings.hard_weight)
    fit(run, system, model, criterion, data, dev, partial(scheduled, run) if streamed else None)
    save(run, system, model, senones, priors_of(run, system, model, data, folder, about))


def priors_of(
    run: RecipeRun, system: System, model: AcousticModel, data: Data, teacher: Path, about: TargetsAbout
) -> Optional[np.ndarray]:
    """Return the priors of a student, or None. What the teacher's outputs are, the student's are: log posteriors, which
    want to be divided by priors, or likelihoods (None)."""
    if about.kind == "logits" and about.head == "logits":
        return priors_of_model(teacher)
    if not is_aligned(run.settings):
        frames = getattr(run.settings, system.name).batch_frames
        return average_posterior(model, batches(run, data, frames, train=False))
    sets = (open_alignments(run, name) for name in set_list(run).clean)
    return count_priors((each.pdfs(place) for each in sets for place in range(len(each))), about.num_pdfs)
