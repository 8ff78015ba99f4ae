"""A trained model as a teacher: its outputs on utterances, or the log posteriors of its denominator."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Union

import numpy as np
import torch

from hybrid.data.batches import Utterance
from hybrid.data.targets import TargetsAbout, hash_file
from hybrid.errors import ConfigError
from hybrid.io import PathLike, read_json
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.model_io import load_model
from hybrid.nnet.priors import outputs_of
from hybrid.train.fsa import Fsa
from hybrid.train.lfmmi import LfMmi
from hybrid.train.sequence_student import log_denominator_posteriors

# Of a batch. A GPU takes a step of a recurrence for a hundred utterances as fast as for ten.
_FRAMES = {"cpu": 4000, "cuda": 32000}


class Teacher:
    """The model in `folder`; about.head is the output taken, about.kind logits or occupancies. precision: of the
    products of its network (nnet/precision.py).

    features: what the model's input is (features.json). Raises ModelError, and ConfigError where occupancies are asked
    of a model that was trained without a denominator.
    """

    def __init__(
        self,
        folder: PathLike,
        about: TargetsAbout,
        device: Union[str, torch.device] = "cpu",
        precision: str = "float32",
    ) -> None:
        self.folder, self.about = Path(folder), about
        self.device, self.precision = torch.device(device), precision
        model, _ = load_model(self.folder)
        self.model = model.to(self.device)
        self.features: Dict[str, Any] = read_json(self.folder / "features.json")
        self.graph = None
        if about.kind == "occupancies":
            self.graph = LfMmi(Fsa.load(graph_of(self.folder)), self.model.config.num_pdfs)

    def __call__(self, data: List[Utterance]) -> Dict[str, np.ndarray]:
        """Return the targets of utterances, {id: float32 [T, num_pdfs]}."""
        outputs = compute_loglikes(
            self.model, data, head=self.about.head, device=self.device, precision=self.precision,
            max_frames=_FRAMES[self.device.type],
        )  # fmt: skip
        if self.graph is None:
            return outputs
        posteriors = {}
        for identifier, logits in outputs.items():
            batch = torch.from_numpy(logits)[None].to(self.device)
            length = torch.tensor([len(logits)])
            posteriors[identifier] = log_denominator_posteriors(self.graph, batch, length)[0].cpu().numpy()
        return posteriors


def about_of(folder: Path, k: int, head: str, kind: str) -> TargetsAbout:
    """Return what targets of this teacher are; k 0: all; head "auto" or an output. Raises as its parts."""
    about = TargetsAbout.of_model(folder, k=k or sys.maxsize, head=head_of(head, folder, kind))
    if kind == "occupancies":
        about = replace(about, kind=kind, graph=hash_file(graph_of(folder)))
    return about


def graph_of(teacher: Path) -> Path:
    """Return the file of the denominator that a teacher was trained with.

    Raises ConfigError where it was trained without.
    """
    path = teacher.parent / "denominator.safetensors"
    if outputs_of(teacher) != "likelihoods" or not path.is_file():
        raise ConfigError(
            "occupancies need a denominator, and this teacher was not trained with LF-MMI", file=path,
            remedy="take a teacher of LF-MMI (student.teacher=teacher_lfmmi), or its logits (student.targets=logits)",
        )  # fmt: skip
    return path


def head_of(wanted: str, teacher: Path, kind: str) -> str:
    """Return the output of the teacher that targets are of. Raises ConfigError for one that it has not."""
    heads = ["logits", "xent"] if read_json(teacher / "config.json")["model"].get("xent_head") else ["logits"]
    if wanted not in ("auto", *heads):
        raise ConfigError(
            f"the output {wanted!r} is asked for, the teacher has {' and '.join(heads)}", file=teacher,
            remedy="use auto, or one that it has",
        )  # fmt: skip
    if kind == "occupancies":
        return "logits"  # what its denominator was trained with
    return heads[-1] if wanted == "auto" else wanted
