"""A Gaussian system on disk: senones, mixtures, the transform that makes its features, and what adaptation needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from hybrid.errors import ModelError
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.hmm.senones import Senones
from hybrid.io import PathLike, load_tensors, read_json, save_tensors, write_json


@dataclass
class GmmModel:
    """loglikes(features [T, D]) -> [T, num_pdfs] float32, natural log; features are what `feature_transform` makes.

    speaker_independent: for a speaker-adapted system, mixtures of the same sizes for features without a speaker's
    transform: they find the first hypothesis (Kaldi's final.alimdl). None: the system knows no speakers.
    """

    senones: Senones
    gmms: DiagGmms
    feature_transform: FeatureTransform
    speaker_independent: Optional[DiagGmms] = None

    @property
    def adapted(self) -> bool:
        return self.speaker_independent is not None

    @property
    def first_pass(self) -> DiagGmms:
        """The mixtures for features without a speaker's transform: what a speaker is first recognised with."""
        return self.gmms if self.speaker_independent is None else self.speaker_independent

    def loglikes(self, features: np.ndarray, *, adapted: bool = True) -> np.ndarray:
        """Returns [frames, num_pdfs], natural log, of features [frames, dim]. adapted: by a speaker's transform, where
        the system has any; False: of a first pass."""
        return np.ascontiguousarray((self.gmms if adapted else self.first_pass).loglikes(features).T)

    def save(self, folder: PathLike, features: Optional[Mapping[str, Any]] = None) -> None:
        """Writes a model folder as DESIGN says: model.safetensors, config.json, senones/, features.json."""
        folder = Path(folder)
        self.senones.save(folder / "senones")
        tensors = {**self.gmms.tensors(), **self.feature_transform.tensors()}
        if self.speaker_independent is not None:
            tensors.update({f"independent.{name}": value for name, value in self.speaker_independent.tensors().items()})
        save_tensors(folder / "model.safetensors", tensors)
        if features is not None:
            write_json(folder / "features.json", features)
        about = {"kind": "gmm", "dim": self.gmms.dim, "num_pdfs": self.gmms.num_pdfs, "adapted": self.adapted}
        write_json(folder / "config.json", about)

    @classmethod
    def load(cls, folder: PathLike) -> GmmModel:
        """Reads a model folder. Raises DataError or ModelError naming the file that is missing or does not fit."""
        folder = Path(folder)
        about = read_json(folder / "config.json")
        if not isinstance(about, dict) or about.get("kind") != "gmm":
            raise ModelError("not a GMM", file=folder / "config.json", remedy="give the folder of a GMM system")
        senones = Senones.load(folder / "senones")
        path = folder / "model.safetensors"
        tensors = load_tensors(path)
        prefix = "independent."
        independent = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
        try:
            model = cls(
                senones,
                DiagGmms.from_tensors(tensors),
                FeatureTransform.from_tensors(tensors),
                DiagGmms.from_tensors(independent) if about.get("adapted") else None,
            )
        except ModelError as error:
            raise ModelError(error.what, file=path, remedy=error.remedy) from error
        problem = None
        if model.gmms.num_pdfs != senones.num_pdfs:
            problem = f"{model.gmms.num_pdfs} mixtures for {senones.num_pdfs} pdfs"
        elif {model.gmms.dim, model.first_pass.dim} != {model.feature_transform.dim}:
            problem = f"mixtures of {model.gmms.dim} dimensions for features of {model.feature_transform.dim}"
        elif not np.array_equal(model.gmms.offsets, model.first_pass.offsets):
            problem = "mixtures with and without transforms that differ in their numbers of Gaussians"
        if problem is not None:
            raise ModelError(
                problem, file=folder, remedy="the parts of this folder are of two runs: run the stage again"
            )
        return model


def boosted(gmms: DiagGmms, senones: Senones, silence_phones: Sequence[int], factor: float) -> DiagGmms:
    """Returns mixtures in which silence is `factor` times as likely, for alignment (Kaldi's gmm-boost-silence)."""
    if factor == 1.0 or not len(silence_phones):
        return gmms
    silent = np.isin(senones.tid2phone[1:], silence_phones)
    pdfs = np.setdiff1d(senones.tid2pdf[1:][silent], senones.tid2pdf[1:][~silent])
    weights = gmms.weights.copy()
    for pdf in pdfs:
        weights[gmms.offsets[pdf] : gmms.offsets[pdf + 1]] *= factor
    return replace(gmms, weights=weights)
