"""Settings of second passes: which there are, and the networks of text that they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

from hybrid.errors import ConfigError
from hybrid.typed import above, at_least, between, device_name

NGRAM = "ngram"
TRAINED_ON_TEXT = {"lstm": "lstm", "transformer": "transformer", "pll": "masked", "bert": "masked"}  # and by what model
TRAINED_ON_LISTS = ("bert", "linear")
COMPONENTS = (NGRAM, *TRAINED_ON_TEXT, "linear")
TOGETHER = "+"  # joins components in a name


@dataclass(frozen=True, kw_only=True)
class RescoreSettings:
    systems: List[str]
    passes: List[str]
    ngram: str
    lm_scales: List[float] = above(0)
    lattice_beam: float = above(0)
    nbest: int = at_least(1)
    train_lists: int = at_least(1)
    train_nbest: int = at_least(2)

    def __post_init__(self) -> None:
        if not self.lm_scales:
            raise ConfigError("rescore.lm_scales is empty", remedy="at least one, as [1.0]")
        for name in self.passes:
            parts = name.split(TOGETHER)
            if len(set(parts)) < len(parts) or not set(parts) <= set(COMPONENTS):
                raise ConfigError(
                    f"rescore.passes has {name!r}",
                    remedy=f"use {', '.join(COMPONENTS)}, or several of them joined, as ngram+lstm",
                )
        if self.systems and not self.passes:
            raise ConfigError("rescore.passes is empty", remedy='name one, as "ngram", or leave rescore.systems empty')

    @property
    def of_lists(self) -> List[str]:
        """The passes over n-best lists: all but the n-gram model alone, which is put into lattices."""
        return [name for name in self.passes if name != NGRAM]

    @property
    def components(self) -> Tuple[str, ...]:
        """What the passes over n-best lists are made of, each once."""
        return tuple(dict.fromkeys(part for name in self.of_lists for part in name.split(TOGETHER)))

    @property
    def text_models(self) -> Tuple[str, ...]:
        """The networks that are to be trained on text: lstm, transformer, masked."""
        return tuple(dict.fromkeys(TRAINED_ON_TEXT[name] for name in self.components if name in TRAINED_ON_TEXT))

    @property
    def learns(self) -> bool:
        """Whether something is trained on n-best lists of training speech."""
        return any(name in TRAINED_ON_LISTS for name in self.components)


@dataclass(frozen=True, kw_only=True)
class TextTrainingSettings:
    epochs: int = at_least(1)
    lr: float = above(0)
    dropout: float = between(0, 0.99)


@dataclass(frozen=True, kw_only=True)
class LstmLmSettings(TextTrainingSettings):
    hidden: int = at_least(1)
    layers: int = at_least(1)


@dataclass(frozen=True, kw_only=True)
class TransformerLmSettings(TextTrainingSettings):
    dim: int = at_least(2)
    layers: int = at_least(1)
    heads: int = at_least(1)


@dataclass(frozen=True, kw_only=True)
class MaskedLmSettings(TransformerLmSettings):
    masked: float = between(0.01, 0.99)


@dataclass(frozen=True, kw_only=True)
class BertSettings:
    distil_epochs: int = at_least(1)
    epochs: int = at_least(0)
    lr: float = above(0)
    distillation: float = at_least(0)


@dataclass(frozen=True, kw_only=True)
class TextModelSettings:
    text: List[str]
    least: int = at_least(1)
    pieces: int = at_least(0)
    max_tokens: int = at_least(1)
    device: str = device_name()
    lstm: LstmLmSettings
    transformer: TransformerLmSettings
    masked: MaskedLmSettings
    bert: BertSettings
