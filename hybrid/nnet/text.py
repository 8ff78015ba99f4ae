"""Neural language models and sentence scorers: what they share, and an LSTM that predicts the next token.

tokens int64 [B, T] (data/tokens.py), lengths [B] -> {"logits": [B, T, num_tokens]} or {"score": [B]}; what stands
behind a sentence's length changes nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

import torch
from torch import Tensor, nn

from hybrid.errors import ConfigError
from hybrid.nnet.base import config_from, initial_parameters, whole_number
from hybrid.nnet.lstm import initialised
from hybrid.nnet.recurrence import lstm_direction, lstm_step


def check_dropout(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ConfigError(f"dropout is {value!r}", remedy="a number from 0 to below 1")


TOO_LONG = "leave the sentence out, or split it"


def too_long(size: int, longest: int) -> str:
    """Return what is wrong with a row of `size` tokens."""
    return f"a sentence of {size} tokens, <s> and </s> among them; the model has positions for {longest}"


class TextModel(nn.Module):
    """A model of token sequences. `seed` fixes its initial parameters; None: they are then loaded."""

    kind: str
    longest: Optional[int] = None  # tokens of a row that it can read, <s> and </s> among them; None: any number

    def __init__(self, config: Any, seed: Optional[int] = None) -> None:
        super().__init__()
        self.config = config
        self.dropout = config.dropout
        with initial_parameters(seed):
            self._build()

    def _build(self) -> None:
        raise NotImplementedError

    def forward(self, tokens: Tensor, lengths: Tensor) -> Dict[str, Tensor]:
        raise NotImplementedError

    def set_dropout(self, dropout: float) -> None:
        """Set the dropout from now on, in place of config.dropout. Raises ConfigError for a value out of range."""
        check_dropout(dropout)
        self.dropout = dropout

    def drop(self, x: Tensor) -> Tensor:
        return torch.nn.functional.dropout(x, self.dropout) if self.training and self.dropout else x


@dataclass(frozen=True)
class LstmLmConfig:
    """Raises ConfigError for a value out of its range."""

    num_tokens: int
    hidden: int = 256
    layers: int = 1
    dropout: float = 0.3  # of the embeddings, between layers and before the output

    def __post_init__(self) -> None:
        for name in ("num_tokens", "hidden", "layers"):
            whole_number(name, getattr(self, name), 1)
        check_dropout(self.dropout)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LstmLmConfig:
        """Read what `to_dict` returned. Raises ConfigError for a missing or unknown name."""
        return config_from(cls, values, "an LSTM language model", ("num_tokens",))

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)


class LstmLm(TextModel):
    """Predicts token t + 1 from tokens 1 ... t. The output layer's weights are the embeddings (Press and Wolf 2017)."""

    kind = "lstm_lm"
    causal = True

    def _build(self) -> None:
        config = self.config
        self.embedding = embedding(config.num_tokens, config.hidden)
        self.recurrent = nn.ModuleList(
            initialised(nn.LSTM(config.hidden, config.hidden)) for _ in range(config.layers)
        )
        self.bias = nn.Parameter(torch.zeros(config.num_tokens))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Dict[str, Tensor]:
        x = self.drop(self.embedding(tokens.t()) * self.config.hidden**0.5)  # [T, B, hidden]
        layer: Any
        for layer in self.recurrent:
            x = self.drop(lstm_direction(layer, x))
        return {"logits": self._logits(x).transpose(0, 1)}

    def step(self, tokens: Tensor, state: Tensor) -> Tuple[Tensor, Tensor]:
        """Read one token of each row: the logits of the next, [B, num_tokens], and the state after it.

        tokens: int64 [B]; state: [B, layers, 2, hidden], each layer's h and c, as `initial_state` begins it. What
        `forward` gives at the same place, but for rounding.
        """
        x = self.drop(self.embedding(tokens) * self.config.hidden**0.5)
        after = []
        layer: Any
        for layer, before in zip(self.recurrent, state.unbind(1)):
            h, c = lstm_step(layer, x, *before.unbind(1))
            after.append(torch.stack((h, c), 1))
            x = self.drop(h)
        return self._logits(x), torch.stack(after, 1)

    def initial_state(self, rows: int) -> Tensor:
        """Return the state before <s>: zeros [rows, layers, 2, hidden]."""
        return self.bias.new_zeros(rows, self.config.layers, 2, self.config.hidden)

    def _logits(self, x: Tensor) -> Tensor:
        return x @ self.embedding.weight.t() + self.bias


def embedding(num_tokens: int, dim: int) -> nn.Embedding:
    """Make embeddings of variance 1 / dim: tied logits of unit vectors then begin with a variance of about 1."""
    layer = nn.Embedding(num_tokens, dim)
    nn.init.normal_(layer.weight, std=dim**-0.5)
    return layer
