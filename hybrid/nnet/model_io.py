"""A model on disk: a folder with everything needed to decode anywhere, and no pickles.

model.safetensors   parameters and buffers
config.json         {"format": 1, "kind": "lstm", "model": {...}, "outputs": "posteriors", and what the caller adds};
                    outputs: of the head "logits", posteriors or likelihoods (priors.py)
senones/            tree, topology, transitions (Senones.save), priors.safetensors where the outputs are posteriors
features.json       the front end
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, TypeVar, Union

import numpy as np
import torch
from torch import nn

from hybrid.errors import ConfigError, DataError, HybridError, ModelError
from hybrid.io import atomic_folder, load_tensors, read_json, save_tensors, write_json
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.nnet.priors import check_priors, save_priors
from hybrid.nnet.tdnnf import TdnnfConfig, TdnnfModel

PathLike = Union[str, "os.PathLike[str]"]
FORMAT = 1
_ANY_SIZE = 1000  # a setting up to this may be anything

BUILDERS: Dict[str, Callable[[Mapping[str, Any], Optional[int]], AcousticModel]] = {
    LstmModel.kind: lambda values, seed: LstmModel(LstmConfig.from_dict(values), seed),
    TdnnfModel.kind: lambda values, seed: TdnnfModel(TdnnfConfig.from_dict(values), seed),
}


def build_model(kind: str, values: Mapping[str, Any], seed: Optional[int] = None) -> AcousticModel:
    """Make a new model from its settings. Raises ConfigError for an unknown kind, and as the settings do."""
    if kind not in BUILDERS:
        raise ConfigError(f"unknown kind of model {kind!r}", remedy=f"known: {', '.join(sorted(BUILDERS))}")
    return BUILDERS[kind](values, seed)


def save_model(
    folder: PathLike,
    model: nn.Module,
    *,
    config: Optional[Mapping[str, Any]] = None,
    features: Optional[Mapping[str, Any]] = None,
    writers: Optional[Mapping[str, Callable[[Path], Any]]] = None,
    priors: Optional[np.ndarray] = None,
) -> None:
    """Writes the folder beside its place and renames it, so that `folder` is a whole model or not there.

    model: has `.kind` and `.config.to_dict()`. config: further keys of config.json (format, kind, model and outputs are
    ours). writers: name -> function that writes to the path it is given, e.g. {"senones": senones.save}. priors
    [num_pdfs]: of a model whose outputs are posteriors; None: they are likelihoods. Raises ModelError for priors of
    another number of pdfs.
    """
    with atomic_folder(folder) as temporary:
        for name, write in (writers or {}).items():
            write(temporary / name)
        if priors is not None:
            save_priors(temporary / "senones", check_priors(priors, model.config.num_pdfs))  # type: ignore[union-attr,arg-type]
        if features is not None:
            write_json(temporary / "features.json", dict(features))
        save_tensors(temporary / "model.safetensors", state_arrays(model))
        about = {"format": FORMAT, "kind": model.kind, "model": model.config.to_dict()}  # type: ignore[union-attr,operator]
        about["outputs"] = "likelihoods" if priors is None else "posteriors"
        write_json(temporary / "config.json", {**dict(config or {}), **about})


def load_model(folder: PathLike, device: Union[str, torch.device] = "cpu") -> Tuple[AcousticModel, Dict[str, Any]]:
    """Returns the model, in evaluation mode, and config.json. Raises ModelError where the folder is not a model."""
    model, config = load_folder(folder, build_model)
    return model.to(device).eval(), config


Built = TypeVar("Built", bound=nn.Module)


def load_folder(folder: PathLike, build: Callable[[str, Mapping[str, Any]], Built]) -> Tuple[Built, Dict[str, Any]]:
    """Returns the model that `build` makes of (kind, settings), with its parameters, and config.json.

    Raises ModelError where the folder is not a model.
    """
    folder = Path(folder)
    path = folder / "config.json"
    remedy = "run the stage that trains it"
    if not folder.is_dir():
        raise ModelError("no such model", file=folder, remedy=remedy)
    try:
        config = read_json(path)
    except DataError as error:
        raise ModelError(error.what, file=path, remedy=remedy) from error
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise ModelError("not the configuration of a model", file=path, remedy=remedy)
    if config.get("format") != FORMAT:
        raise ModelError(f"format {config.get('format')!r}, this version reads {FORMAT}", file=path, remedy=remedy)
    arrays = load_tensors(folder / "model.safetensors")
    _check_sizes(config["model"], arrays, path)
    try:
        model = build(str(config.get("kind")), config["model"])
    except HybridError as error:
        raise ModelError(error.what, file=path, remedy=error.remedy or remedy) from error
    except (RuntimeError, MemoryError) as error:
        raise ModelError(f"a model that cannot be made: {error}", file=path, remedy=remedy) from error
    put_state(model, arrays, folder / "model.safetensors")
    return model, config


def _check_sizes(values: Mapping[str, Any], arrays: Mapping[str, Any], path: PathLike) -> None:
    """Raise ModelError for a setting of no size that the tensors have: all memory would go into the model that it asks
    for, before its tensors are missed."""
    largest = max((size for array in arrays.values() for size in array.shape), default=0)
    for name, value in values.items():
        if isinstance(value, int) and value > max(largest, _ANY_SIZE):
            raise ModelError(
                f"{name} is {value}, and no dimension of its tensors is above {largest}", file=path,
                remedy="the settings are of another model: run the stage that trains it",
            )  # fmt: skip


def state_arrays(model: nn.Module) -> Dict[str, Any]:
    return {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}


def load_state(model: nn.Module, path: PathLike) -> None:
    """Fills `model` from a safetensors file. Raises ModelError that names missing, unknown and mis-shaped tensors."""
    put_state(model, load_tensors(path), path)


def put_state(model: nn.Module, arrays: Mapping[str, Any], path: PathLike) -> None:
    state = model.state_dict()
    wrong = [f"{name} is missing" for name in state if name not in arrays]
    wrong += [f"{name} is unknown" for name in arrays if name not in state]
    for name, value in state.items():
        if name in arrays and tuple(arrays[name].shape) != tuple(value.shape):
            wrong.append(f"{name} has the shape {list(arrays[name].shape)} instead of {list(value.shape)}")
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ModelError(
            f"the tensors do not fit the model: {'; '.join(wrong[:4])}{more}",
            file=path,
            remedy="the file belongs to another configuration: run the stage that trains the model again",
        )
    model.load_state_dict({name: torch.from_numpy(arrays[name].copy()) for name in state})
