"""What gives sentences scores: n-gram models, linear rescorers, neural models; each by what its file or folder is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Protocol, Sequence, Union

import numpy as np

from hybrid.errors import ConfigError, DataError
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.load import read_any
from hybrid.lm.model import LN10
from hybrid.lm.perplexity import number_text, score
from hybrid.lm.text import END, START
from hybrid.rescore.linear import LinearRescorer
from hybrid.rescore.nbest import NbestList

KINDS = ("ngram", "linear", "neural", "part")
_UNKNOWN = -20.0  # natural log of a word that a model without <unk> does not have


class Scorer(Protocol):
    def score(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """Return natural-log scores, float64 [n], higher is better, one for each sentence (its words)."""


@dataclass(frozen=True)
class Part:
    """A part of the first pass's score, as the lists have it: it has no model."""

    name: str

    def of_lists(self, lists: Iterable[NbestList]) -> np.ndarray:
        """Return it for all hypotheses, float64 [N]. Raises DataError for a list that does not have it."""
        return np.concatenate([item.part(self.name) for item in lists])


AnyScorer = Union[Scorer, Part]


class NgramScorer:
    """log p(w_1 ... w_n </s>) by a back-off n-gram model. A word outside a model that has no <unk> costs `unknown`."""

    def __init__(self, model: NgramArrays, unknown: float = _UNKNOWN) -> None:
        self.model = model
        self.unknown = unknown

    def score(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        scores = np.full(len(sentences), self.model.logprob_of(END, [START]))
        said = np.array([number for number, words in enumerate(sentences) if words], dtype=np.int64)
        if len(said):
            text = number_text(self.model, [list(sentences[number]) for number in said])
            of_words = LN10 * score(self.model, text)[0]
            of_words[~np.isfinite(of_words)] = self.unknown
            lengths = np.array([len(sentences[number]) + 1 for number in said])
            scores[said] = np.add.reduceat(of_words, np.cumsum(lengths) - lengths)
        return scores


def load_scorer(spec: str, device: str = "cpu") -> AnyScorer:
    """Load `KIND:PATH`, KIND one of KINDS; of part:NAME the name is all that there is. Raises ConfigError for another,
    and what reading the model raises."""
    kind, _, path = spec.partition(":")
    if kind not in KINDS or not path:
        raise ConfigError(f"{spec!r} is no scorer", remedy=f"give KIND:PATH, KIND one of {', '.join(KINDS)}")
    if kind == "part":
        return Part(path)
    if not Path(path).exists():
        raise DataError("no such model", file=path, remedy=f"give the path of a model behind {kind}:")
    if kind == "ngram":
        return NgramScorer(read_any(path))
    if kind == "linear":
        return LinearRescorer.load(path)
    from hybrid.rescore.neural import NeuralScorer  # torch, which the others do not need

    return NeuralScorer.load(path, device=device)
