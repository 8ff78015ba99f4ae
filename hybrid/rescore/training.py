"""Training of neural language models on text, and of sentence scorers on n-best lists, by the one trainer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Iterable, List, Mapping, Optional, Sequence

import numpy as np

from hybrid.data.batches import Batches
from hybrid.data.hypothesis_batches import Hypotheses, HypothesisLists, ListBatches
from hybrid.data.text_batches import LONGEST, MaskedTokens, NextTokens, Sentences
from hybrid.data.tokens import Tokens
from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike
from hybrid.nnet.text import TOO_LONG, TextModel, too_long
from hybrid.nnet.text_io import build_text_model, save_text_model
from hybrid.nnet.transformer import SentenceScorer, TransformerLm
from hybrid.rescore.nbest import NbestList
from hybrid.rescore.neural import NeuralScorer
from hybrid.train.ce import CrossEntropy
from hybrid.train.config import TrainerConfig
from hybrid.train.rescoring import RescoringLoss
from hybrid.train.schedule import ScheduleConfig
from hybrid.train.trainer import Criterion, Trainer

Log = Callable[[str], Any]
Texts = Iterable[Sequence[str]]


@dataclass(frozen=True)
class TextTraining:
    """What a training of text takes besides model and data. max_tokens: of a batch, padded."""

    max_tokens: int = 2000
    masked: float = 0.15  # share of the tokens that a masked language model is to predict
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            epochs=20, optimizer="adamw", lr=1e-3, weight_decay=0.01, clip=1.0, schedule=ScheduleConfig(warmup=100)
        )
    )
    seed: int = 0

    def changed(self, **settings: Any) -> TextTraining:
        """Return the same with other settings of the trainer."""
        return replace(self, trainer=replace(self.trainer, **settings))


def train_lm(
    kind: str,
    settings: Mapping[str, Any],
    tokens: Tokens,
    text: Texts,
    dev: Texts,
    folder: PathLike,
    training: TextTraining,
    *,
    init: Optional[TextModel] = None,
    log: Log = print,
) -> NeuralScorer:
    """Train a language model of `kind` (nnet/text_io.py) on the sentences `text`, and save it in folder/model.

    A masked one is a transformer_lm that is not causal, or a bert_lm. The epoch of the least loss on `dev` is kept.
    init: a model of the same kind and settings, but for dropout, whose parameters it begins with. What is killed goes
    on from folder/training.
    Raises ConfigError for settings and `init` that do not fit, DataError for empty text and sentences too long for the
    model.
    """
    model = build_text_model(kind, {**settings, "num_tokens": len(tokens)}, training.seed)
    if init is not None:
        if init.kind != model.kind or replace(init.config, dropout=model.config.dropout) != model.config:
            raise ConfigError(
                f"a model to begin with of other settings: {init.kind} {init.config}, not {model.kind} {model.config}",
                remedy="give the same settings, and the same tokens",
            )
        model.load_state_dict(init.state_dict())
    longest = LONGEST if model.longest is None else min(model.longest, LONGEST)
    sources = [Sentences(part, tokens, longest=longest) for part in (text, dev)]
    train_batches, dev_batches = (
        _text_batches(model, source, training, shuffle=number == 0) for number, source in enumerate(sources)
    )
    _fit(model, CrossEntropy(), train_batches, dev_batches, training, Path(folder), log)
    save_text_model(Path(folder) / "model", model, tokens, {"purpose": "language model"})
    return NeuralScorer(model, tokens)


def _text_batches(model: TextModel, source: Sentences, training: TextTraining, shuffle: bool) -> Batches:
    if model.causal:
        return NextTokens(source, training.max_tokens, training.seed, shuffle=shuffle)
    return MaskedTokens(
        source, training.max_tokens, training.seed, num_tokens=model.config.num_tokens, masked=training.masked,
        shuffle=shuffle,
    )  # fmt: skip


def prepared(lists: Sequence[NbestList], tokens: Tokens, targets: Optional[NeuralScorer] = None) -> HypothesisLists:
    """Make what a scorer trains on of lists with references: tokens, errors and, by `targets`, scores to distil.

    Raises DataError for a list without reference.
    """
    rows: List[List[np.ndarray]] = [[tokens.encode(words) for words in item.hypotheses] for item in lists]
    every = [row for of_list in rows for row in of_list]
    scores = np.full(len(every), np.nan) if targets is None else targets.score_tokens(every)
    found, place = [], 0
    for item, of_list in zip(lists, rows, strict=True):
        errors = item.errors().astype(np.float64)
        found.append(Hypotheses(item.id, of_list, item.scores, errors, scores[place : place + len(of_list)]))
        place += len(of_list)
    return HypothesisLists(found)


def train_scorer(
    masked: TransformerLm,
    tokens: Tokens,
    lists: HypothesisLists,
    dev: HypothesisLists,
    folder: PathLike,
    criterion: RescoringLoss,
    training: TextTraining,
    *,
    init: Optional[SentenceScorer] = None,
    log: Log = print,
) -> NeuralScorer:
    """Train a sentence scorer whose encoder begins as that of the masked model, and save it in folder/model.

    init: a scorer to begin with instead, as one that was distilled is trained on by its errors.
    Raises DataError for a list with a hypothesis that is too long for the model.
    """
    model = masked.build_scorer(training.seed)
    for part in (lists, dev):
        _check_lengths(part, model.longest)
    if init is not None:
        model.load_state_dict(init.state_dict())
    else:
        model.encoder.load_state_dict(masked.encoder.state_dict())
        targets = np.concatenate([lists.list(i).targets for i in range(len(lists))])
        if np.isfinite(targets).all():
            model.set_target_stats(float(targets.mean()), float(targets.std()))
    train_batches = ListBatches(lists, training.max_tokens, training.seed)
    dev_batches = ListBatches(dev, training.max_tokens, training.seed, shuffle=False)
    _fit(model, criterion, train_batches, dev_batches, training, Path(folder), log)
    save_text_model(Path(folder) / "model", model, tokens, {"purpose": "rescoring"})
    return NeuralScorer(model, tokens)


def _check_lengths(lists: HypothesisLists, longest: Optional[int]) -> None:
    for number in range(len(lists)):
        size = max(map(len, lists.list(number).tokens))
        if longest is not None and size > longest:
            raise DataError(too_long(size, longest), utterance=lists.id(number), remedy=TOO_LONG)


def _fit(
    model: TextModel, criterion: Criterion, train: Batches, dev: Batches, training: TextTraining, folder: Path, log: Log
) -> None:
    Trainer(model, criterion, train, dev, training.trainer, folder / "training", training.seed, log=log).fit()
