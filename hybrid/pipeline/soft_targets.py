"""Stages targets and occupancies: what a teacher says of clean speech, transcribed or not, stored for its students."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from lhotse.cut import Cut

from hybrid.data.arrays import StoredCuts
from hybrid.data.network_features import NetworkFeatures, open_network_features
from hybrid.data.target_store import StoredTargets, open_targets
from hybrid.data.targets import NAME, TargetsAbout, hash_senones, write_targets
from hybrid.data.utterances import Utterance
from hybrid.device import choose, for_workers
from hybrid.errors import ModelError
from hybrid.io import Problems
from hybrid.parallel import worker_number
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import feature_folder, set_list
from hybrid.pipeline.systems import NETWORKS
from hybrid.train.teacher import Teacher, about_of


def targets(run: RecipeRun) -> None:
    """Write EXP/targets/SET, for student_ce: the teacher's k highest outputs, or log occupancies, as student.targets
    says."""
    store(run, "targets", soft_sets(run))


def occupancies(run: RecipeRun) -> None:
    """Write EXP/occupancies/SET, for student_lfmmi: the teacher's k highest log occupancies on untranscribed speech."""
    store(run, "occupancies", set_list(run).unlabelled)


def store(run: RecipeRun, stage: str, names: Sequence[str]) -> None:
    """Write EXP/STAGE/SET of each clean set."""
    kind = kind_of(run, stage)
    folder, about = teacher_of(run, kind)
    device = for_workers(run.device())
    problems = run.problems(stage)
    total = num_written = 0
    with run.executor() as executor:
        for name in names:
            set_problems = Problems(run.dir(stage) / f"{name}.problems.jsonl", stage)
            cuts = StoredCuts(feature_folder(run, name, "logmel"))
            num_written += write_targets(
                run.dir(stage) / name, cuts, Labeller(run, folder, name, about, device), about, compress=None,
                executor=executor, problems=set_problems, progress=run.bar(f"{kind} of {name}"),
            )  # fmt: skip
            problems.rows += set_problems.rows
            total += len(cuts)
    problems.close(max(total, 1), run.settings.limits.problems)
    size = sum(path.stat().st_size for path in run.dir(stage).rglob(f"{NAME}.*"))
    run.log(f"  the {about.k} highest of {about.num_pdfs} {kind} of {folder}: {num_written} cuts, {size / 1e6:.1f} MB")


def kind_of(run: RecipeRun, stage: str) -> str:
    return "occupancies" if stage == "occupancies" else run.settings.student.targets


def soft_sets(run: RecipeRun) -> List[str]:
    """Return the clean sets that student_ce has targets of: training, transcribed or not, and development."""
    sets = set_list(run)
    return [*sets.clean, *sets.unlabelled, sets.clean_dev.name]


def teacher_of(run: RecipeRun, kind: str = "logits") -> Tuple[Path, TargetsAbout]:
    """Return the folder of the teacher that student.teacher names, and what targets of it are.

    Raises ModelError where its senones are not this run's.
    """
    settings = run.settings.student
    name = settings.teacher
    folder = run.dir(name) / "model" if name in [row.name for row in NETWORKS] else Path(name)
    about = about_of(folder, settings.k, settings.head, kind)
    if about.senones != hash_senones(run.dir("senones") / "model"):
        raise ModelError(
            "the teacher's senones are not those of this run", file=folder,
            remedy="give a teacher that was trained on the senones of this run: its outputs mean other classes",
        )  # fmt: skip
    return folder, about


@dataclass(frozen=True)
class Labeller:
    """The outputs of a model on cuts of a set, or log occupancies. device: what each process chooses by."""

    run: RecipeRun
    folder: Path
    name: str
    about: TargetsAbout
    device: str

    def __call__(self, cuts: Sequence[Cut]) -> Dict[str, np.ndarray]:
        teacher, features, places = self._loaded()
        return teacher([Utterance(cut.id, features[places[cut.id]]) for cut in cuts if cut.id in places])

    def _loaded(self) -> Tuple[Teacher, NetworkFeatures, Dict[str, int]]:
        """Return the teacher and the features of the set with their places, opened once a process and set: a labeller
        travels to its process with every batch of cuts."""
        key = (self.run.exp, self.name, self.about)
        if key not in _LOADED:
            teacher = Teacher(self.folder, self.about, choose(self.device, worker_number()))
            features = open_network_features(feature_folder(self.run, self.name, "logmel"), teacher.features)
            _LOADED.clear()
            _LOADED[key] = teacher, features, {name: place for place, name in enumerate(features.index.ids)}
        return _LOADED[key]


_LOADED: Dict[Any, Any] = {}


def read_soft(run: RecipeRun, stage: str, names: Sequence[str]) -> Dict[str, StoredTargets]:
    """Open the soft targets of each of these sets, as the stage has stored them. Raises as open_targets."""
    _, about = teacher_of(run, kind_of(run, stage))
    return {name: open_targets(run.dir(stage) / name, about).at_random() for name in names}
