"""What all acoustic models share: checked settings, parameters of their own seed, normalised input, dropout."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, replace
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from hybrid.errors import ConfigError, DataError

Config = TypeVar("Config")
_DRAWN: ContextVar[bool] = ContextVar("_DRAWN", default=True)


def whole_number(name: str, value: Any, least: int) -> None:
    """Raise ConfigError unless `value` is a whole number, at least `least`; name: of the setting."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} is {value!r}", remedy=f"a whole number, at least {least}")


def config_from(
    cls: type[Config], values: Mapping[str, Any], what: str, needed: Sequence[str] = ("input_dim", "num_pdfs")
) -> Config:
    """Make a dataclass of settings, cls(**values); what: its name in messages, such as "an LSTM".

    Raises ConfigError for an unknown name, or where one of `needed` is missing.
    """
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise ConfigError(f"unknown setting of {what}: {name}", remedy=f"one of {', '.join(names)}")
    for name in needed:
        if name not in values:
            raise ConfigError(f"{what} needs {name}", remedy=f"set {name}")
    return cls(**values)


class AcousticModel(nn.Module):
    """x [B, T, D], lengths [B] -> {"logits": [B, T, num_pdfs], "xent": the same shape if config.xent_head}.

    Logits beyond an utterance's length are without meaning. `seed` fixes the initial parameters and leaves torch's own
    random state as it was; None: of a model whose parameters are then loaded. Parameters and buffers that "logits"
    alone needs have names that begin with `output`; those of "xent" the same names with `xent` in its place, so that
    one head can be copied to the other.
    """

    kind: str

    def __init__(self, config: Any, seed: Optional[int] = None) -> None:
        super().__init__()
        self.config = config
        self.dropout = config.dropout
        self.input_mean: Tensor
        self.input_scale: Tensor
        self.register_buffer("input_mean", torch.zeros(config.input_dim))
        self.register_buffer("input_scale", torch.ones(config.input_dim))
        with initial_parameters(seed):
            self._build()

    def _build(self) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor, lengths: Tensor) -> Dict[str, Tensor]:
        raise NotImplementedError

    def set_dropout(self, dropout: float) -> None:
        """Set the dropout from now on, in place of config.dropout. Raises ConfigError as the model's settings do."""
        self.dropout = replace(self.config, dropout=dropout).dropout

    def set_input_stats(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Fixes the input normalisation (x - mean) / std; both [D]. Raises DataError for a wrong shape or NaN."""
        for name, value in (("mean", mean), ("std", std)):
            if np.shape(value) != (self.config.input_dim,):
                raise DataError(f"{name} has the shape {np.shape(value)}, the input {self.config.input_dim} values")
            if not np.all(np.isfinite(value)):
                raise DataError(f"{name} of the input is not finite", remedy="look for broken audio in the features")
        # A constant feature carries nothing: its scale must not blow up rounding noise.
        scale = 1.0 / np.maximum(np.asarray(std, dtype=np.float64), 1e-3)
        self.input_mean.copy_(torch.as_tensor(np.asarray(mean, dtype=np.float32)))
        self.input_scale.copy_(torch.as_tensor(scale.astype(np.float32)))


@contextmanager
def initial_parameters(seed: Optional[int]) -> Iterator[None]:
    """Draw what is drawn within the block from `seed`, and leave torch's own random state as it was; None: the
    parameters are then loaded."""
    drawn = _DRAWN.set(seed is not None)
    try:
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            yield
    finally:
        _DRAWN.reset(drawn)


def orthogonal(matrix: Tensor) -> Tensor:
    """Fill a matrix with orthogonal rows or columns, in place (Saxe et al. 2014); with zeros where the parameters are
    loaded: the decomposition takes longer than reading them."""
    with torch.no_grad():
        return nn.init.orthogonal_(matrix) if _DRAWN.get() else matrix.zero_()


def output_layer(inputs: int, num_pdfs: int) -> nn.Linear:
    layer = nn.Linear(inputs, num_pdfs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
