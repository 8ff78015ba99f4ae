"""RescoreBERT in two steps: what a masked model thinks of sentences distilled into one forward pass, then errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

import numpy as np

from hybrid.errors import ModelError
from hybrid.io import PathLike
from hybrid.nnet.transformer import SentenceScorer, TransformerLm
from hybrid.rescore.combine import columns, with_errors
from hybrid.rescore.nbest import NbestList
from hybrid.rescore.neural import NeuralScorer
from hybrid.rescore.training import TextTraining, prepared, train_scorer
from hybrid.rescore.weights import tune
from hybrid.train.rescoring import RescoringLoss


@dataclass(frozen=True)
class BertTraining:
    """distil, errors: how each step is trained, None: the second is left out; discriminative: "mwer" or "mwed";
    distillation: weight of the squared distance beside it."""

    distil: TextTraining
    errors: Optional[TextTraining]
    discriminative: str = "mwer"
    distillation: float = 1e-4


def train_bert(
    masked: NeuralScorer,
    train: Sequence[NbestList],
    dev: Sequence[NbestList],
    folder: PathLike,
    training: BertTraining,
    log: Callable[[str], Any] = print,
) -> NeuralScorer:
    """Train a scorer that begins as the masked model, on lists with references, and save it in folder/model.

    The first step learns pseudo-log-likelihoods, by their variance over all hypotheses. The second adds the first
    pass's score with the weight that is best for the scorer of the first step on dev. What was killed goes on from
    folder. Raises ModelError where `masked` is no masked model, DataError as prepared.
    """
    model, tokens = masked.model, masked.tokens
    if not isinstance(model, TransformerLm) or model.causal:
        raise ModelError("no masked language model", remedy="give one that hybrid rescore train-lm --kind masked made")
    folder = Path(folder)
    lists, held = (prepared(part, tokens, masked) for part in (train, dev))
    variance = float(np.concatenate([lists.list(i).targets for i in range(len(lists))]).var())
    first_step = folder / "distilled" if training.errors is not None else folder
    criterion = RescoringLoss("", 1.0 / max(variance, 1e-6))
    scorer = train_scorer(model, tokens, lists, held, first_step, criterion, training.distil, log=log)
    if training.errors is None:
        return scorer
    weights = tune(with_errors(dev, columns(dev, [scorer]))).weights
    first_weight = float(weights[0] / weights[2]) if weights[0] > 0 and weights[2] > 0 else 1.0
    begin = scorer.model
    assert isinstance(begin, SentenceScorer)
    criterion = RescoringLoss(training.discriminative, training.distillation, first_weight)
    return train_scorer(model, tokens, lists, held, folder, criterion, training.errors, init=begin, log=log)
