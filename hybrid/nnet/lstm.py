"""LSTM acoustic models: uni- and bidirectional, any depth and width.

An output depends on its own utterance alone: neither on the padding nor on what else is in the batch. A
unidirectional layer never sees padding before the frames that count; a backward layer reads each sequence turned
round within its own length, so no packing is needed (see recurrence.py for why that is faster).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Optional

import torch
from torch import Tensor, nn

from hybrid.errors import ConfigError
from hybrid.nnet.base import AcousticModel, config_from, orthogonal, output_layer, whole_number
from hybrid.nnet.recurrence import lstm_both, lstm_direction, reversal, take


@dataclass(frozen=True)
class LstmConfig:
    """Raises ConfigError for a value out of its range."""

    input_dim: int  # features per network frame, e.g. 3 x 64
    num_pdfs: int
    hidden: int = 320  # per direction
    layers: int = 3
    bidirectional: bool = False
    dropout: float = 0.0  # between layers and before the output
    locked_dropout: bool = False  # one mask for all frames of an utterance (Gal and Ghahramani 2016)
    proj: int = 0  # recurrent projection (LSTMP, Sak et al. 2014); 0: none
    delay: int = 0  # network frames that the output at t may look ahead; unidirectional models only
    layer_norm: bool = False  # after each layer
    input_layer_dim: int = 0  # linear + ReLU over 2 * input_layer_context + 1 frames before the first layer; 0: none
    input_layer_context: int = 1
    xent_head: bool = False  # a second output layer, for the CE regularisation of LF-MMI

    def __post_init__(self) -> None:
        for name in ("input_dim", "num_pdfs", "hidden", "layers"):
            whole_number(name, getattr(self, name), 1)
        for name in ("proj", "delay", "input_layer_dim", "input_layer_context"):
            whole_number(name, getattr(self, name), 0)
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout!r}", remedy="a number from 0 to below 1")
        if self.proj and self.proj >= self.hidden:
            raise ConfigError(f"proj is {self.proj}, hidden {self.hidden}", remedy="make proj smaller than hidden")
        if self.delay and self.bidirectional:
            raise ConfigError(
                f"delay is {self.delay} in a bidirectional model",
                remedy="a bidirectional model sees the whole utterance: set delay to 0",
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LstmConfig:
        """Read what `to_dict` returned. Raises ConfigError for a missing or unknown name."""
        return config_from(cls, values, "an LSTM")

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)

    @property
    def output_dim(self) -> int:
        """The width of what the output layer reads."""
        return (self.proj or self.hidden) * (2 if self.bidirectional else 1)


class LstmModel(AcousticModel):
    """As AcousticModel says."""

    kind = "lstm"

    def _build(self) -> None:
        config = self.config
        dim = config.input_dim
        self.input_layer: Optional[nn.Linear] = None
        if config.input_layer_dim:
            self.input_layer = nn.Linear(dim * (2 * config.input_layer_context + 1), config.input_layer_dim)
            dim = config.input_layer_dim
        self.forward_layers = nn.ModuleList()
        self.backward_layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        for _ in range(config.layers):
            for layers in (self.forward_layers, self.backward_layers)[: 2 if config.bidirectional else 1]:
                layers.append(initialised(nn.LSTM(dim, config.hidden, proj_size=config.proj)))
            dim = config.output_dim
            if config.layer_norm:
                self.norms.append(nn.LayerNorm(dim))
        self.output = output_layer(dim, config.num_pdfs)
        self.xent: Optional[nn.Linear] = None
        if config.xent_head:
            self.xent = output_layer(dim, config.num_pdfs)

    def forward(self, x: Tensor, lengths: Tensor) -> Dict[str, Tensor]:
        config = self.config
        lengths = lengths.to(x.device)
        x = (x.transpose(0, 1) - self.input_mean) * self.input_scale  # [T, B, D]
        if self.input_layer is not None:
            x = torch.relu(self.input_layer(splice_frames(x, lengths, config.input_layer_context)))
        if config.delay:
            # The last frame is repeated `delay` times; the first `delay` outputs belong to no frame.
            time = torch.arange(x.shape[0] + config.delay, device=x.device).unsqueeze(1)
            x = take(x, torch.minimum(time, lengths.unsqueeze(0) - 1))
        index = reversal(lengths, x.shape[0]) if config.bidirectional else None
        layer: Any  # of a ModuleList, which knows modules alone
        backward: Any = self.backward_layers
        for number, layer in enumerate(self.forward_layers):
            y = lstm_direction(layer, x) if index is None else lstm_both(layer, backward[number], x, index)
            if config.layer_norm:
                y = self.norms[number](y)
            x = self._drop(y)
        x = x[config.delay :].transpose(0, 1)
        outputs = {"logits": self.output(x)}
        if self.xent is not None:
            outputs["xent"] = self.xent(x)
        return outputs

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or not self.dropout:
            return x
        if self.config.locked_dropout:
            mask = torch.nn.functional.dropout(torch.ones_like(x[:1]), self.dropout)
            return x * mask
        return torch.nn.functional.dropout(x, self.dropout)


def splice_frames(x: Tensor, lengths: Tensor, context: int) -> Tensor:
    """x [T, B, D] -> [T, B, (2 context + 1) D]; frames before the first and after the last are copies of these."""
    time = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    last = lengths.unsqueeze(0) - 1
    parts: List[Tensor] = []
    for offset in range(-context, context + 1):
        parts.append(take(x, torch.minimum((time + offset).clamp(min=0), last)))
    return torch.cat(parts, dim=-1)


def initialised(layer: nn.LSTM) -> nn.LSTM:
    """Glorot input weights, orthogonal recurrent weights per gate, forget bias 1 (Jozefowicz et al. 2015)."""
    hidden = layer.hidden_size
    weights = dict(layer.named_parameters())
    nn.init.xavier_uniform_(weights["weight_ih_l0"])
    for gate in weights["weight_hh_l0"].detach().split(hidden, dim=0):
        orthogonal(gate)
    nn.init.zeros_(weights["bias_ih_l0"])
    nn.init.zeros_(weights["bias_hh_l0"])
    with torch.no_grad():
        weights["bias_ih_l0"][hidden : 2 * hidden].fill_(1.0)
    return layer
