"""Transformer encoders of text: masked and left-to-right language models, and scorers of whole sentences.

Layers are pre-norm (Xiong et al. 2020), which train without a warm-up:

    x = x + attention(norm(x));   x = x + W_2 gelu(W_1 norm(x));   after the last layer: norm(x)

    attention(x) = W_o concat_h softmax(q_h k_h' / sqrt(d) + mask) v_h

The mask hides what stands behind a sentence's end, and from a causal model what stands behind the position itself.
Positions are the sinusoids of Vaswani et al. 2017 (section 3.5): a sentence may be of any length.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, Mapping, Optional

import torch
from torch import Tensor, nn

from hybrid.errors import ConfigError
from hybrid.nnet.base import config_from, whole_number
from hybrid.nnet.text import TextModel, check_dropout, embedding

HIDDEN = -1e30  # for the score of what is not to be seen


@dataclass(frozen=True)
class TransformerConfig:
    """causal: position t sees tokens 1 ... t alone. Raises ConfigError for a value out of its range."""

    num_tokens: int
    dim: int = 192
    layers: int = 4
    heads: int = 4
    feedforward: int = 0  # width within a layer; 0: 4 dim
    dropout: float = 0.1
    causal: bool = False

    def __post_init__(self) -> None:
        for name in ("num_tokens", "dim", "layers", "heads"):
            whole_number(name, getattr(self, name), 1)
        whole_number("feedforward", self.feedforward, 0)
        check_dropout(self.dropout)
        if self.dim % (2 * self.heads):
            raise ConfigError(f"dim is {self.dim}, with {self.heads} heads", remedy="an even number for each head")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TransformerConfig:
        """Read what `to_dict` returned. Raises ConfigError for a missing or unknown name."""
        return config_from(cls, values, "a transformer", ("num_tokens",))

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)


class TransformerLm(TextModel):
    """Logits at each position: causal, of the next token; else of the token itself, which <mask> stands for.

    The output is BERT's: a layer of gelu and norm, then the embeddings as weights (Devlin et al. 2019). Another encoder
    (nnet/bert.py) is another `build_encoder`.
    """

    kind = "transformer_lm"

    @property
    def causal(self) -> bool:
        return bool(self.config.causal)

    def _build(self) -> None:
        config = self.config
        self.encoder: Any = self.build_encoder()
        self.transform = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.LayerNorm(config.dim))
        self.bias = nn.Parameter(torch.zeros(config.num_tokens))

    def build_encoder(self) -> nn.Module:
        return Encoder(self.config)

    def build_scorer(self, seed: Optional[int] = None) -> SentenceScorer:
        """Make a scorer of sentences with the same encoder as this model's, its parameters those that `seed` draws."""
        return SentenceScorer(self.config, seed)

    def forward(self, tokens: Tensor, lengths: Tensor, at: Optional[Tensor] = None) -> Dict[str, Tensor]:
        """at: int64 [B], the position of each row whose logits are wanted alone: [B, num_tokens]."""
        x = self.encoder(tokens, lengths, self.drop)
        if at is not None:
            x = x[torch.arange(len(at), device=x.device), at.to(x.device)]
        x = self.transform(x)
        # The norm makes vectors of length sqrt(dim), embeddings begin with length 1.
        return {"logits": x @ self.encoder.embedding.weight.t() + self.bias}


class SentenceScorer(TextModel):
    """Gives one number a sentence, by a small feed-forward layer over the vector of <s>, BERT's [CLS] (RescoreBERT, Xu
    et al. 2022). It stands for a natural-log score of the sentence: higher is better."""

    kind = "sentence_scorer"
    causal = False

    def _build(self) -> None:
        config = self.config
        if config.causal:
            raise ConfigError("causal is true, and <s> would see nothing of its sentence", remedy="set causal to false")
        self.encoder: Any = self.build_encoder()
        self.hidden = nn.Linear(config.dim, config.dim)
        self.score = nn.Linear(config.dim, 1)
        # The scale and mean of what is learnt: a score is of the order of minus several nats a token.
        self.target_mean: Tensor
        self.target_scale: Tensor
        self.register_buffer("target_mean", torch.zeros(1))
        self.register_buffer("target_scale", torch.ones(1))

    def build_encoder(self) -> nn.Module:
        return Encoder(self.config)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Dict[str, Tensor]:
        first = self.drop(self.encoder(tokens, lengths, self.drop)[:, 0])
        score = self.score(self.drop(torch.tanh(self.hidden(first)))).squeeze(1)
        return {"score": score * self.target_scale + self.target_mean}

    def set_target_stats(self, mean: float, std: float) -> None:
        """Let a score begin as `mean` with the standard deviation `std` of what it is to be."""
        self.target_mean.fill_(mean)
        self.target_scale.fill_(max(std, 1e-3))


class Encoder(nn.Module):
    """tokens int64 [B, T], lengths [B] -> float32 [B, T, dim]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding(config.num_tokens, config.dim)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, tokens: Tensor, lengths: Tensor, drop: Any) -> Tensor:
        config = self.config
        places = positions(tokens.shape[1], config.dim).to(tokens.device)
        x = drop(self.embedding(tokens) * math.sqrt(config.dim) + places)
        hidden = behind_ends(tokens, lengths)
        if config.causal:
            steps = torch.arange(tokens.shape[1], device=tokens.device)
            hidden = hidden | (steps > steps.unsqueeze(1))
        layer: Any
        for layer in self.layers:
            x = layer(x, hidden, drop)
        return self.norm(x)  # type: ignore[no-any-return]


class _Layer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim, width = config.dim, config.feedforward or 4 * config.dim
        self.heads = config.heads
        self.attention_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.mix = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, width), nn.Linear(width, dim)
        for linear in (self.qkv, self.mix, self.wide, self.narrow):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        # Paths through all layers begin with the variance of one (Radford et al. 2019).
        for linear in (self.mix, self.narrow):
            linear.weight.data.mul_((2 * config.layers) ** -0.5)

    def forward(self, x: Tensor, hidden: Tensor, drop: Any) -> Tensor:
        x = x + drop(self.mix(attend(self.qkv(self.attention_norm(x)), self.heads, hidden)))
        return x + drop(self.narrow(torch.nn.functional.gelu(self.wide(self.norm(x)))))  # type: ignore[no-any-return]


def behind_ends(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return what stands behind the ends of rows of tokens [B, T], bool [B, 1, 1, T]."""
    steps = torch.arange(tokens.shape[1], device=tokens.device)
    return (steps >= lengths.to(tokens.device).unsqueeze(1))[:, None, None, :]


def attend(qkv: Tensor, heads: int, hidden: Tensor, drop: Optional[Callable[[Tensor], Tensor]] = None) -> Tensor:
    """Return the values that each position attends to, [B, T, dim], all heads beside each other.

    qkv [B, T, 3 dim]: queries, keys and values; hidden: True where a key is not to be seen, for [B, heads, T, T];
    drop: of the attention's weights.
    """
    batch, time, dim = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = qkv.view(batch, time, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(2, 3)) * (dim // heads) ** -0.5  # [B, heads, T, T]
    weights = scores.masked_fill(hidden, HIDDEN).softmax(dim=-1)
    if drop is not None:
        weights = drop(weights)
    return (weights @ v).transpose(1, 2).reshape(batch, time, dim)


def positions(time: int, dim: int) -> Tensor:
    """Return the sinusoids [time, dim]: sin(t / 10000^(2i / dim)), and cos in the other half of the columns."""
    rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angles = torch.arange(time).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
