"""A training stopped at any moment goes on as if nothing had been: model, optimiser and place in one file.

One safetensors file holds the tensors flat (`model.NAME`, `optimizer.INDEX.KEY`, `strategy.NAME`), its header the rest
as JSON; one file, so that one rename replaces all of it at once.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Mapping, Optional, Tuple, Union

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from hybrid.errors import ModelError
from hybrid.io import disk_errors, save_tensors
from hybrid.nnet.model_io import put_state, state_arrays

PathLike = Union[str, "os.PathLike[str]"]
_REMEDY = "delete it and run the stage again: training starts from the beginning"


def save_checkpoint(
    path: PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Dict[str, Any],
    strategy: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> None:
    """Write a checkpoint; state: anything that JSON holds; strategy: tensors of one (strategies.py)."""
    arrays = {f"model.{name}": array for name, array in state_arrays(model).items()}
    arrays.update({f"strategy.{name}": value.detach().cpu().numpy() for name, value in strategy.items()})
    tensors, scalars, groups = _flatten(optimizer)
    arrays.update(tensors)
    about = {"state": state, "scalars": scalars, "groups": groups}
    save_tensors(path, arrays, metadata={"hybrid": json.dumps(about)})


def load_checkpoint(path: PathLike, model: nn.Module, optimizer: torch.optim.Optimizer) -> Dict[str, Any]:
    """Fills model and optimizer; returns the state. Raises ModelError where the file is broken or does not fit."""
    arrays, about = _read(path)
    put_state(
        model,
        {name[len("model.") :]: array for name, array in arrays.items() if name.startswith("model.")},
        path,
    )
    _unflatten(path, optimizer, arrays, about)
    return about["state"]


def strategy_tensors(path: PathLike) -> Dict[str, torch.Tensor]:
    """Return what save_checkpoint was given as `strategy`, save_own as `tensors`. Raises as load_checkpoint."""
    arrays, _ = _read(path)
    start = "strategy."
    return {name[len(start) :]: torch.from_numpy(x.copy()) for name, x in arrays.items() if name.startswith(start)}


def save_own(path: PathLike, tensors: Mapping[str, torch.Tensor], optimizer: Optional[torch.optim.Optimizer]) -> None:
    """Write what one worker alone has."""
    arrays = {f"strategy.{name}": value.detach().cpu().numpy() for name, value in tensors.items()}
    about: Dict[str, Any] = {"scalars": {}, "groups": None}
    if optimizer is not None:
        optimizer_arrays, about["scalars"], about["groups"] = _flatten(optimizer)
        arrays.update(optimizer_arrays)
    save_tensors(path, arrays, metadata={"hybrid": json.dumps(about)})


def load_own(path: PathLike, optimizer: torch.optim.Optimizer) -> Dict[str, torch.Tensor]:
    """Fills the optimiser if save_own was given one; returns the tensors. Raises as load_checkpoint."""
    arrays, about = _read(path)
    if about["groups"] is not None:
        _unflatten(path, optimizer, arrays, about)
    return strategy_tensors(path)


def _read(path: PathLike) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
    try:
        with safe_open(str(path), framework="np") as stream:
            about = json.loads((stream.metadata() or {})["hybrid"])
            return {name: stream.get_tensor(name) for name in stream.keys()}, about
    except FileNotFoundError:
        raise ModelError("no such file", file=path, remedy=_REMEDY) from None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ModelError(f"not a checkpoint of ours: {error}", file=path, remedy=_REMEDY) from error


def _flatten(optimizer: torch.optim.Optimizer) -> Tuple[Dict[str, np.ndarray], Dict[str, Any], Any]:
    state = optimizer.state_dict()
    tensors: Dict[str, np.ndarray] = {}
    scalars: Dict[str, Any] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            name = f"optimizer.{index}.{key}"
            if torch.is_tensor(value) and value.dim():
                tensors[name] = value.detach().cpu().numpy()
            elif torch.is_tensor(value):
                # Adam counts its steps in a tensor without dimensions, which numpy would give one.
                scalars[name] = {"tensor": str(value.dtype).split(".")[1], "value": value.item()}
            else:
                scalars[name] = {"value": value}
    groups = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
    return tensors, scalars, groups


def _unflatten(
    path: PathLike, optimizer: torch.optim.Optimizer, arrays: Dict[str, np.ndarray], about: Dict[str, Any]
) -> None:
    state: Dict[int, Dict[str, Any]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def put(name: str, value: Any) -> None:
        _, index, key = name.split(".", 2)
        state.setdefault(int(index), {})[key] = value

    for name, array in arrays.items():
        if name.startswith("optimizer."):
            put(name, torch.from_numpy(array.copy()))
    for name, scalar in about["scalars"].items():
        value = scalar["value"]
        put(name, torch.tensor(value, dtype=getattr(torch, scalar["tensor"])) if "tensor" in scalar else value)
    template = optimizer.state_dict()["param_groups"]
    if len(template) != len(about["groups"]) or any(index >= len(parameters) for index in state):
        raise ModelError("the optimiser's state does not fit the model", file=path, remedy=_REMEDY)
    groups = []
    for group, saved in zip(template, about["groups"]):
        # Keys that another torch version adds keep this version's defaults; tuples came back as lists.
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
        groups.append({**group, **settings, "params": group["params"]})
    optimizer.load_state_dict({"state": state, "param_groups": groups})


class Curve:
    """log.jsonl: rows are appended; after a resume, those written later than the checkpoint are gone."""

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.size = 0

    def truncate(self, size: int) -> None:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as stream:
                # A file shorter than it was (a crash of the machine) must not be filled up with zeros.
                size = min(size, stream.tell())
                stream.truncate(size)
        self.size = size

    def add(self, row: Mapping[str, Any]) -> None:
        # Plain JSON has no NaN: a reader in a browser would choke on it.
        clean = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in row.items()}
        data = (json.dumps(clean, ensure_ascii=False) + "\n").encode("utf-8")
        with disk_errors(self.path), open(self.path, "ab") as stream:
            stream.write(data)
        self.size += len(data)
