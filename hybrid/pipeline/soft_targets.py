"""Stage targets: what a teacher says of clean speech, transcribed or not, stored for its students."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from lhotse.cut import Cut

from hybrid.data.arrays import read_cuts
from hybrid.data.batches import Utterance
from hybrid.data.target_store import SoftTargets, open_targets
from hybrid.data.targets import KINDS, TargetsAbout, hash_file, hash_senones, write_targets
from hybrid.errors import ConfigError, ModelError
from hybrid.io import Problems, read_json
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.model_io import load_model
from hybrid.pipeline.frames import enabled
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.sets import feature_folder, network_features, set_list, set_name
from hybrid.run import Run
from hybrid.train.fsa import Fsa
from hybrid.train.lfmmi import LfMmi
from hybrid.train.sequence_student import log_occupancies

Soft = Dict[str, SoftTargets]
TEACHERS = ("teacher_ce", "teacher_lfmmi", "ce", "lfmmi")


def targets(run: Run, recipe: Recipe) -> None:
    """EXP/targets/KIND/SET: of each clean training set, and of the development set, the teacher's k highest outputs
    (KIND logits) and log occupancies (occupancies), whichever are asked for."""
    if not enabled(run):
        return
    for kind in kinds_of(run):
        folder, about = teacher_of(run, kind)
        if kind == "logits" and run.config["student.online"]:
            run.log("  student.online is true: logits are not stored")
            continue
        rows: List[Dict[str, Any]] = []
        total = 0
        with run.executor() as executor:
            for name in [*soft_sets(run), set_name("dev", "clean")]:
                found = Problems(run.dir("targets") / kind / f"{name}.problems.jsonl", "targets")
                cuts = list(read_cuts(feature_folder(run, name, "logmel")))
                write_targets(
                    store_of(run, kind, name), cuts, Labeller(run, folder, name, about), about,
                    executor=executor, problems=found, progress=run.bar(f"{kind} of {name}"),
                )  # fmt: skip
                rows += found.rows
                total += len(cuts)
        problems = Problems(run.dir("targets") / kind / "problems.jsonl", "targets")
        problems.rows = rows
        problems.close(total, run.config["limits.problems"])
        size = sum(path.stat().st_size for path in (run.dir("targets") / kind).rglob("*.tar.gz"))
        frames = sum(len(soft) for name in soft_sets(run) for soft in read_soft(run, kind, name).values())
        run.log(f"  the {about.k} highest of {about.num_pdfs} {kind} of {folder}: {frames} frames, {size / 1e6:.1f} MB")


def kinds_of(run: Run) -> List[str]:
    """The kinds of targets that the students' settings ask for. Raises ConfigError."""
    kind, weight = run.config["student.targets"], run.config["student_lfmmi.soft"]
    if kind not in KINDS:
        raise ConfigError(f"student.targets is {kind!r}", remedy=f"use one of {', '.join(KINDS)}")
    if not 0.0 <= weight < float("inf"):
        raise ConfigError(f"student_lfmmi.soft is {weight}", remedy="0: transcribed speech alone; or a weight, as 1.0")
    return sorted({*([kind] if run.config["student.frames"] else []), *(["occupancies"] if weight else [])})


def soft_sets(run: Run) -> List[str]:
    """The clean training sets, transcribed or not."""
    names = set_list(run)
    return names["clean"] + names.get("unlabelled", [])


def store_of(run: Run, kind: str, name: str) -> Path:
    return run.dir("targets") / kind / name


def teacher_of(run: Run, kind: str = "logits") -> Tuple[Path, TargetsAbout]:
    """The folder of the teacher that student.teacher names, and what targets of it are.

    Raises ConfigError, ModelError where its senones are not this run's.
    """
    settings = run.config.section("student")
    name, k = settings["teacher"], settings["k"]
    folder = run.dir(name) / "model" if name in TEACHERS else Path(name)
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"student.teacher is {name!r}", file=folder, remedy=f"use {', '.join(TEACHERS)}, or the folder of a model"
        )
    if k < 0:
        raise ConfigError(f"student.k is {k}", remedy="how many outputs of the teacher are kept, such as 20; 0: all")
    about = TargetsAbout.of_model(folder, k=k or sys.maxsize, head=_head(settings["head"], folder, kind))
    if about.senones != hash_senones(run.dir("senones") / "model"):
        raise ModelError(
            "the teacher's senones are not those of this run", file=folder,
            remedy="give a teacher that was trained on the senones of this run: its outputs mean other classes",
        )  # fmt: skip
    if kind == "occupancies":
        about = replace(about, kind=kind, graph=hash_file(graph_of(folder)))
    return folder, about


def _head(wanted: str, teacher: Path, kind: str) -> str:
    """The output of the teacher that targets are of. Raises ConfigError for one that it has not."""
    heads = ["logits", "xent"] if read_json(teacher / "config.json")["model"].get("xent_head") else ["logits"]
    if wanted not in ("auto", *heads):
        raise ConfigError(
            f"student.head is {wanted!r}, the teacher has {' and '.join(heads)}", file=teacher,
            remedy="use auto, or one that it has",
        )  # fmt: skip
    if kind == "occupancies":
        return "logits"  # what its denominator was trained with
    return heads[-1] if wanted == "auto" else wanted


def graph_of(teacher: Path) -> Path:
    """The denominator that a teacher was trained with. Raises ConfigError where it was trained without."""
    path = teacher.parent / "denominator.safetensors"
    if not path.is_file():
        raise ConfigError(
            "occupancies need a denominator, and this teacher was not trained with LF-MMI", file=path,
            remedy="set student.teacher=teacher_lfmmi, or student.targets=logits and student_lfmmi.soft=0",
        )  # fmt: skip
    return path


@dataclass(frozen=True)
class Labeller:
    """The outputs of a model on cuts of a set, or log occupancies."""

    run: Run
    folder: Path
    name: str
    about: TargetsAbout

    def __call__(self, cuts: Sequence[Cut]) -> Dict[str, np.ndarray]:
        model, features, graph = self._loaded()
        data = [Utterance(cut.id, features[cut.id]) for cut in cuts if cut.id in features]
        outputs = compute_loglikes(model, data, head=self.about.head)
        if graph is None:
            return outputs
        found = {}
        for identifier, logits in outputs.items():
            log_g = log_occupancies(graph, torch.from_numpy(logits)[None], torch.tensor([len(logits)]))
            found[identifier] = log_g[0].numpy()
        return found

    def _loaded(self) -> Tuple[AcousticModel, Dict[str, np.ndarray], Optional[LfMmi]]:
        """Once a process and set: a labeller travels to its process with every batch of cuts."""
        key = (self.run.exp, self.name, self.about)
        if key not in _LOADED:
            model, _ = load_model(self.folder)
            graph = None
            if self.about.kind == "occupancies":
                graph = LfMmi(Fsa.load(graph_of(self.folder)), model.config.num_pdfs)
            normalise = read_json(self.folder / "features.json")["normalise"]
            _LOADED.clear()
            _LOADED[key] = model, network_features(self.run, self.name, normalise)[1], graph
        return _LOADED[key]


_LOADED: Dict[Any, Any] = {}


def read_soft(run: Run, kind: str, name: str) -> Soft:
    store = open_targets(store_of(run, kind, name), teacher_of(run, kind)[1])
    return {identifier: store.soft(packed) for identifier, packed in store.read_all().items()}
