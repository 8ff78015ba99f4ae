"""BERT's encoder (Devlin et al. 2019), whose weights others have trained, as masked language model and as scorer.

Where the encoder of transformer.py norms before a layer's two parts, this one norms behind them, as Vaswani et al. 2017
do, and its positions are learnt:

    x = norm(E[token] + P[position]);   x = norm(x + attention(x));   x = norm(x + W_2 gelu(W_1 x + b_1) + b_2)

gelu is the exact one, x Phi(x). BERT adds an embedding of the first sentence or second, too: as there is one alone,
that of the first is added to all P when weights are read (nnet/pretrained.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Dict, Mapping, Optional

import torch
from torch import Tensor, nn

from hybrid.errors import ConfigError, DataError
from hybrid.nnet.base import config_from, whole_number
from hybrid.nnet.text import TOO_LONG, check_dropout, too_long
from hybrid.nnet.transformer import SentenceScorer, TransformerLm, attend, behind_ends

_STD = 0.02  # of BERT's initial weights


@dataclass(frozen=True)
class BertConfig:
    """Raises ConfigError for a value out of its range."""

    num_tokens: int
    dim: int = 384
    layers: int = 6
    heads: int = 12
    feedforward: int = 0  # width within a layer; 0: 4 dim
    positions: int = 512  # tokens of a row at most, <s> and </s> among them
    norm_eps: float = 1e-12  # added to variances
    dropout: float = 0.1

    causal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("num_tokens", "dim", "layers", "heads"):
            whole_number(name, getattr(self, name), 1)
        whole_number("feedforward", self.feedforward, 0)
        whole_number("positions", self.positions, 3)
        check_dropout(self.dropout)
        if isinstance(self.norm_eps, bool) or not isinstance(self.norm_eps, float) or not 0 < self.norm_eps < 1:
            raise ConfigError(f"norm_eps is {self.norm_eps!r}", remedy="a small number above 0, e.g. 1e-12")
        if self.dim % self.heads:
            raise ConfigError(f"dim is {self.dim}, with {self.heads} heads", remedy="the same width for each head")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BertConfig:
        """Read what `to_dict` returned. Raises ConfigError for a missing or unknown name."""
        return config_from(cls, values, "a BERT", ("num_tokens",))

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)


class BertLm(TransformerLm):
    """A masked language model. Its output layers are those of TransformerLm, and new to weights without any."""

    kind = "bert_lm"

    @property
    def longest(self) -> int:  # type: ignore[override]
        return int(self.config.positions)

    def build_encoder(self) -> nn.Module:
        return BertEncoder(self.config)

    def build_scorer(self, seed: Optional[int] = None) -> SentenceScorer:
        return BertScorer(self.config, seed)


class BertScorer(SentenceScorer):
    kind = "bert_scorer"

    @property
    def longest(self) -> int:  # type: ignore[override]
        return int(self.config.positions)

    def build_encoder(self) -> nn.Module:
        return BertEncoder(self.config)


class BertEncoder(nn.Module):
    """tokens int64 [B, T], lengths [B] -> float32 [B, T, dim]. Raises DataError for a T above config.positions."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.num_tokens, config.dim)
        self.positions = nn.Parameter(torch.zeros(config.positions, config.dim))
        self.norm = nn.LayerNorm(config.dim, config.norm_eps)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        for matrix in (self.embedding.weight, self.positions):
            nn.init.normal_(matrix, std=_STD)

    def forward(self, tokens: Tensor, lengths: Tensor, drop: Any) -> Tensor:
        time = tokens.shape[1]
        if time > self.config.positions:
            raise DataError(too_long(time, self.config.positions), remedy=TOO_LONG)
        x = drop(self.norm(self.embedding(tokens) + self.positions[:time]))
        hidden = behind_ends(tokens, lengths)
        layer: Any
        for layer in self.layers:
            x = layer(x, hidden, drop)
        return x  # type: ignore[no-any-return]


class _Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        dim, width = config.dim, config.feedforward or 4 * config.dim
        self.heads = config.heads
        self.qkv, self.mix = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attention_norm, self.norm = (nn.LayerNorm(dim, config.norm_eps) for _ in range(2))
        self.wide, self.narrow = nn.Linear(dim, width), nn.Linear(width, dim)
        for linear in (self.qkv, self.mix, self.wide, self.narrow):
            nn.init.normal_(linear.weight, std=_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, hidden: Tensor, drop: Any) -> Tensor:
        x = self.attention_norm(x + drop(self.mix(attend(self.qkv(x), self.heads, hidden, drop))))
        return self.norm(x + drop(self.narrow(torch.nn.functional.gelu(self.wide(x)))))  # type: ignore[no-any-return]
