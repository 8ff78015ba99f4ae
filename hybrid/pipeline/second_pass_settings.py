"""Settings of second passes: which there are, and the networks of text that they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Tuple

from hybrid.errors import ConfigError
from hybrid.typed import above, at_least, between, device_name

NGRAM = "ngram"
TRAINED_ON_TEXT = {"lstm": "lstm", "transformer": "transformer", "pll": "masked", "bert": "masked"}  # and by what model
TRAINED_ON_LISTS = ("bert", "linear")
COMPONENTS = (NGRAM, *TRAINED_ON_TEXT, "linear")
IN_LATTICES = {NGRAM: "", "lattice-lstm": "lstm", "lattice-transformer": "transformer"}  # and the network of text
TOGETHER = "+"  # joins components in a name


@dataclass(frozen=True, kw_only=True)
class RescoreSettings:
    systems: List[str]
    passes: List[str]
    ngram: str
    lm_scales: List[float] = above(0)
    neural_scales: List[float] = above(0)
    history: int = at_least(0)
    lattice_beam: float = above(0)
    nbest: int = at_least(1)
    train_lists: int = at_least(1)
    train_nbest: int = at_least(2)

    def __post_init__(self) -> None:
        for name in ("lm_scales", "neural_scales"):
            if not getattr(self, name):
                raise ConfigError(f"rescore.{name} is empty", remedy="at least one, as [1.0]")
        for name in self.of_lists:
            parts = name.split(TOGETHER)
            if len(set(parts)) < len(parts) or not set(parts) <= set(COMPONENTS):
                raise ConfigError(
                    f"rescore.passes has {name!r}",
                    remedy=f"use {', '.join((*IN_LATTICES, *COMPONENTS[1:]))}, or several joined, as ngram+lstm",
                )
        if self.systems and not self.passes:
            raise ConfigError("rescore.passes is empty", remedy='name one, as "ngram", or leave rescore.systems empty')

    @property
    def of_lists(self) -> List[str]:
        """The passes over n-best lists."""
        return [name for name in self.passes if name not in IN_LATTICES]

    @property
    def of_lattices(self) -> Dict[str, str]:
        """The passes over lattices, each with its network of text; "" is the n-gram model."""
        return {name: IN_LATTICES[name] for name in self.passes if name in IN_LATTICES}

    @property
    def takes_ngram(self) -> bool:
        return NGRAM in (*self.passes, *self.components)

    @property
    def components(self) -> Tuple[str, ...]:
        """What the passes over n-best lists are made of, each once."""
        return tuple(dict.fromkeys(part for name in self.of_lists for part in name.split(TOGETHER)))

    @property
    def text_models(self) -> Tuple[str, ...]:
        """The networks that are to be trained on text: lstm, transformer, masked."""
        wanted = [TRAINED_ON_TEXT[name] for name in self.components if name in TRAINED_ON_TEXT]
        return tuple(dict.fromkeys([*wanted, *filter(None, self.of_lattices.values())]))

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

    def __post_init__(self) -> None:
        if self.dim % (2 * self.heads):
            raise ConfigError(f"dim is {self.dim}, with {self.heads} heads", remedy="an even number for each head")


@dataclass(frozen=True, kw_only=True)
class MaskedLmSettings(TransformerLmSettings):
    masked: float = between(0.01, 0.99)
    pretrained: str


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
