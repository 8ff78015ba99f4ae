"""Priors of pdfs: what a CE-trained model's posteriors are divided by to become (scaled) likelihoods.

log p(x | s) = log p(s | x) - log p(s) + const        (Bourlard and Morgan 1994)

Which of both a model gives, its config.json says: "outputs" is "posteriors" (and senones/priors.safetensors has what
to divide by) or "likelihoods" (LF-MMI). Folders written before it said so have priors where they give posteriors.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Iterable, Optional, Union

import numpy as np

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import load_tensors, read_json, save_tensors

if TYPE_CHECKING:  # priors are read where torch is not loaded
    from torch import nn

    from hybrid.data.batches import Batches

PathLike = Union[str, "os.PathLike[str]"]
FILE = "priors.safetensors"
OUTPUTS = ("posteriors", "likelihoods")


def count_priors(
    alignments: Iterable[np.ndarray], num_pdfs: int, *, smoothing: float = 1.0, floor: float = 1e-7
) -> np.ndarray:
    """Count the priors of pdfs on alignments: float64 [num_pdfs], sums to 1.

    `smoothing` frames are added to every pdf's count, so that one never seen does not get an infinite likelihood; then
    comes `floor`. Raises DataError for a pdf out of range or no frames at all.
    """
    from hybrid.data.batches import IGNORE

    if smoothing < 0 or not 0 <= floor < 1:
        raise ConfigError(f"smoothing is {smoothing}, floor {floor}", remedy="smoothing >= 0, 0 <= floor < 1")
    counts = np.zeros(num_pdfs, dtype=np.float64)
    for pdfs in alignments:
        pdfs = np.asarray(pdfs)
        pdfs = pdfs[pdfs != IGNORE]
        if pdfs.size and (pdfs.min() < 0 or pdfs.max() >= num_pdfs):
            raise DataError(
                f"an alignment has pdf {int(pdfs.max()) if pdfs.max() >= num_pdfs else int(pdfs.min())} of {num_pdfs}",
                remedy="alignment and tree do not belong together: run the senones stage again",
            )
        counts += np.bincount(pdfs, minlength=num_pdfs)
    if not counts.sum():
        raise DataError("no aligned frames to count priors on", remedy="look at problems.jsonl of the align stage")
    return floored((counts + smoothing) / (counts + smoothing).sum(), floor)


def average_posterior(model: nn.Module, batches: Batches, *, floor: float = 1e-7) -> np.ndarray:
    """Return the model's mean posterior over the frames of one epoch of `batches`, float64 [num_pdfs], computed where
    the model is."""
    import torch

    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = None
    frames = 0
    with torch.no_grad():
        for batch in batches.epoch(0):
            batch = batch.to(device)
            posteriors = torch.softmax(model(batch.features, batch.lengths)["logits"], dim=-1)
            for row, length in enumerate(batch.lengths.tolist()):
                posterior_sum = posteriors[row, :length].double().sum(0)
                total = posterior_sum if total is None else total + posterior_sum
                frames += length
    model.train(was_training)
    if total is None or not frames:
        raise DataError("no frames to average posteriors over")
    return floored((total / frames).cpu().numpy(), floor)


def floored(priors: np.ndarray, floor: float) -> np.ndarray:
    priors = np.maximum(priors, floor)
    return priors / priors.sum()


def check_priors(priors: np.ndarray, num_pdfs: int) -> np.ndarray:
    """Return the priors as float64 [num_pdfs]. Raises ModelError for a wrong length, or values not all positive."""
    priors = np.asarray(priors, dtype=np.float64)
    if priors.shape != (num_pdfs,):
        raise ModelError(
            f"priors of the shape {list(priors.shape)} for {num_pdfs} pdfs",
            remedy="priors and model come from different trees: run the stage that trains the model again",
        )
    if not np.isfinite(priors).all() or (priors <= 0).any():
        raise ModelError("priors must be positive", remedy="count them again with smoothing")
    return priors


def save_priors(folder: PathLike, priors: np.ndarray) -> Path:
    """Writes `folder`/priors.safetensors; in a model's folder that is senones/priors.safetensors."""
    path = Path(folder) / FILE
    save_tensors(path, {"priors": np.asarray(priors, dtype=np.float64)})
    return path


def outputs_of(model_folder: PathLike) -> str:
    """Returns what the model in this folder gives: "posteriors" (their logarithms, unnormalised) or "likelihoods".

    Raises DataError where its config.json cannot be read, ModelError where that says neither.
    """
    folder = Path(model_folder)
    path = folder / "config.json"
    config = read_json(path)
    if isinstance(config, dict) and "outputs" not in config:
        return OUTPUTS[0] if (folder / "senones" / FILE).exists() else OUTPUTS[1]
    outputs = config["outputs"] if isinstance(config, dict) else config
    if outputs not in OUTPUTS:
        raise ModelError(
            f"outputs is {outputs!r}, not one of {', '.join(OUTPUTS)}", file=path,
            remedy="run the stage that trains the model again",
        )  # fmt: skip
    return str(outputs)


def priors_of_model(model_folder: PathLike) -> Optional[np.ndarray]:
    """Returns what the outputs of the model in this folder are to be divided by; None where they are likelihoods.

    Raises as `outputs_of` and `load_priors`.
    """
    return load_priors(Path(model_folder) / "senones") if outputs_of(model_folder) == OUTPUTS[0] else None


def load_priors(folder: PathLike) -> np.ndarray:
    """Reads `folder`/priors.safetensors. Raises ModelError where it is absent or broken."""
    path = Path(folder) / FILE
    arrays = load_tensors(path)
    if "priors" not in arrays:
        raise ModelError("no priors in the file", file=path, remedy="run the stage that trains the model again")
    return check_priors(arrays["priors"], len(arrays["priors"]))
