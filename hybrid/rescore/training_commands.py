"""What `hybrid rescore train-lm | train-bert` do."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

from hybrid.data.tokens import Tokens
from hybrid.errors import ConfigError
from hybrid.lm.text import read_sentences
from hybrid.nnet.bert import BertLm
from hybrid.nnet.pretrained import pretrained_lm
from hybrid.nnet.text import TextModel
from hybrid.nnet.text_io import load_text_model
from hybrid.nnet.transformer import SentenceScorer, TransformerLm
from hybrid.rescore import training
from hybrid.rescore.commands import find_spelling, input_lists, shown
from hybrid.rescore.neural import NeuralScorer, model_folder, perplexity
from hybrid.rescore.training import TextTraining
from hybrid.train.rescoring import RescoringLoss
from hybrid.train.schedule import ScheduleConfig

_SIZES = {"lstm": (256, 1), "transformer": (192, 4), "masked": (192, 4)}
# What is trained by where it is not given. Pretrained weights take small rates, and batches as small as BERT's own.
_NEW_LM: Dict[str, Any] = {"epochs": 20, "lr": 2e-3, "max_tokens": 2000}
_PRETRAINED_LM: Dict[str, Any] = {"epochs": 10, "lr": 2e-4, "max_tokens": 500}
_SCORER: Dict[str, Any] = {"epochs": 10, "lr": 3e-4, "max_tokens": 2000}
_PRETRAINED_SCORER: Dict[str, Any] = {"epochs": 10, "lr": 5e-5, "max_tokens": 2000}


def _training(options: argparse.Namespace, defaults: Dict[str, Any]) -> TextTraining:
    given = {name: getattr(options, name) for name in defaults if getattr(options, name) is not None}
    chosen = {**defaults, **given}
    settings = replace(TextTraining(), max_tokens=chosen["max_tokens"], seed=options.seed)
    return settings.changed(
        epochs=chosen["epochs"], lr=chosen["lr"], schedule=ScheduleConfig(kind="cosine", warmup=options.warmup),
        threads=options.threads, device=options.device,
    )  # fmt: skip


class _Text:
    """The sentences of a file in the spelling that is asked for, read again by each who goes through them."""

    def __init__(self, path: Path, spelling: str) -> None:
        self.path = path
        self.spelling = find_spelling(spelling) if spelling else None

    def __iter__(self) -> Iterator[Sequence[str]]:
        sentences = read_sentences(self.path)
        return sentences if self.spelling is None else map(self.spelling, sentences)


def train_lm(options: argparse.Namespace) -> None:
    text, dev = _Text(options.text, options.spelling), _Text(options.dev, options.spelling)
    init: Optional[TextModel] = None
    if options.pretrained:
        _check_pretrained(options)
        init, tokens = pretrained_lm(options.pretrained, text, dropout=options.dropout, seed=options.seed)
    elif options.init:
        init, tokens, _ = load_text_model(model_folder(options.init))
    elif options.pieces:
        tokens = Tokens.of_pieces(text, options.pieces)
    else:
        tokens = Tokens.of_words(text, 2 if options.least is None else options.least)
    kind, settings = _settings(options, init)
    how = _training(options, _PRETRAINED_LM if isinstance(init, BertLm) else _NEW_LM)
    scorer = training.train_lm(kind, settings, tokens, text, dev, options.out, how, init=init)
    value, count = perplexity(scorer, [words for words in dev if words])
    what = "pseudo-perplexity" if options.kind == "masked" else "perplexity"
    print(f"{options.out}: {len(tokens)} tokens, {what} {value:.2f} on {count} tokens of {options.dev}")


def _check_pretrained(options: argparse.Namespace) -> None:
    """Raise ConfigError for options that a pretrained start leaves no choice of."""
    if options.kind != "masked":
        raise ConfigError(f"--pretrained for --kind {options.kind}", remedy="it is a masked model: --kind masked")
    given = {
        "--init": options.init, "--pieces": options.pieces, "--least": options.least is not None, "--dim": options.dim,
        "--layers": options.layers,
    }  # fmt: skip
    for name, value in given.items():
        if value:
            raise ConfigError(f"--pretrained and {name}", remedy=f"its size and pieces are given: leave {name} out")


def _settings(options: argparse.Namespace, init: Optional[TextModel]) -> Tuple[str, Dict[str, Any]]:
    """Return the kind of model and its settings; of a BERT to begin with its own."""
    if isinstance(init, BertLm) and options.kind == "masked" and not (options.dim or options.layers):
        return init.kind, {**init.config.to_dict(), "dropout": options.dropout}
    dim, layers = _SIZES[options.kind]
    dim, layers = options.dim or dim, options.layers or layers
    settings: Dict[str, Any] = {"layers": layers, "dropout": options.dropout}
    if options.kind == "lstm":
        return "lstm_lm", {**settings, "hidden": dim}
    return "transformer_lm", {**settings, "dim": dim, "causal": options.kind == "transformer"}


def train_bert(options: argparse.Namespace) -> None:
    masked, tokens, _ = load_text_model(model_folder(options.masked))
    if not isinstance(masked, TransformerLm) or masked.causal:
        raise ConfigError(f"{options.masked} is no masked language model", remedy="train one: train-lm --kind masked")
    init: Optional[SentenceScorer] = None
    if options.init:
        model, _, _ = load_text_model(model_folder(options.init))
        if not isinstance(model, SentenceScorer) or model.config != masked.config:
            raise ConfigError(f"{options.init} is no scorer of the size of {options.masked}", remedy="leave --init out")
        init = model
    how = _training(options, _PRETRAINED_SCORER if isinstance(masked, BertLm) else _SCORER)
    loss = RescoringLoss(
        "" if options.loss == "none" else options.loss, options.distillation, options.first_weight
    )
    teacher = NeuralScorer(masked, tokens) if options.distillation else None
    if teacher is not None:
        teacher.progress = partial(shown, name="pseudo-log-likelihoods")
    train, dev = (
        training.prepared(list(input_lists(options, paths)), tokens, teacher)
        for paths in (options.lists, [options.dev])
    )
    training.train_scorer(masked, tokens, train, dev, options.out, loss, how, init=init)
    print(f"{options.out}: a sentence scorer; rescore with neural:{options.out}")
