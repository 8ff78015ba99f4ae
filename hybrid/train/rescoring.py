"""Criteria of a sentence scorer that rescores n-best lists: RescoreBERT (Xu et al., ICASSP 2022, arXiv 2202.01094).

Of a list of hypotheses i = 1 ... n, with errors e_i (edit distances) and the score that the scorer gives each, r_i, the
score of the list's second pass is, higher being better,

    s_i = first_weight * first_i + r_i                      (the paper's s_first + beta s_bert is -s_i)

    MD    (1/n) sum_i (r_i - PLL_i)^2                       PLL: of a masked language model, log p of each token unseen
    MWER  sum_i P_i (e_i - mean e),   P = softmax(s)        expected errors above the list's mean
    MWED  - sum_i D_i log Q_i,   D = softmax(e),  Q = softmax(-s / T),   T = sum_i (-s_i) / sum_i e_i

    loss = MWER or MWED + distillation * MD

MWED lets the distribution of the costs be that of the errors. T brings both to one range; it is taken as a constant of
the update (its gradient is not followed), and as its absolute value, for a cost may be below 0; a list without an
error, or without a cost, teaches nothing. The gradient of MWER is d/ds_j = P_j (e_j - sum_i P_i e_i).

The forms of MD, MWER and MWED are those that re-implementations state; the paper's own text was not at hand, nor were
its T, first_weight and temperature settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping

import torch
from torch import Tensor

from hybrid.data.batches import Batch
from hybrid.errors import ConfigError, DataError
from hybrid.train.loss import Loss

DISCRIMINATIVE = ("", "mwer", "mwed")


@dataclass(frozen=True)
class RescoringLoss:
    """Reads output["score"] [R] and the lists of the batch (data/hypothesis_batches.py). A frame of the loss is a list.

    discriminative: "mwer", "mwed" or "" for none; distillation: weight of MD. Raises ConfigError for other values.
    """

    discriminative: str = "mwer"
    distillation: float = 1e-4
    first_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.discriminative not in DISCRIMINATIVE:
            raise ConfigError(f"discriminative is {self.discriminative!r}", remedy='one of "mwer", "mwed", ""')
        for name in ("distillation", "first_weight"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise ConfigError(f"{name} is {value!r}", remedy="a number, 0 or more")
        if not self.discriminative and not self.distillation:
            raise ConfigError("neither a discriminative loss nor distillation", remedy="give one, or both")

    def __call__(self, output: Mapping[str, Tensor], batch: Batch) -> Loss:
        """Raises DataError for a list without targets where there is distillation."""
        scores = output["score"]
        value = scores.new_zeros(())
        stats: Dict[str, float] = dict.fromkeys(("expected_errors", "chosen_errors", "squared_error"), 0.0)
        row = 0
        for utterance in batch.utterances:
            item = utterance.extra["hypotheses"]
            learnt = scores[row : row + len(item.tokens)]
            row += len(item.tokens)
            errors = torch.as_tensor(item.errors, dtype=scores.dtype, device=scores.device)
            first = torch.as_tensor(item.first, dtype=scores.dtype, device=scores.device)
            total = self.first_weight * first + learnt
            if self.discriminative:
                value = value + (mwer if self.discriminative == "mwer" else mwed)(total, errors)
            if self.distillation:
                targets = torch.as_tensor(item.targets, dtype=scores.dtype, device=scores.device)
                if not bool(torch.isfinite(targets).all()):
                    raise DataError("no pseudo-log-likelihoods to distil", utterance=utterance.id)
                squared = (learnt - targets).square().mean()
                value = value + self.distillation * squared
                stats["squared_error"] += float(squared.detach())
            with torch.no_grad():
                stats["expected_errors"] += float((total.softmax(0) * errors).sum())
                stats["chosen_errors"] += float(errors[total.argmax()])
        return Loss(value=value, frames=float(len(batch.utterances)), stats=stats)


def mwer(scores: Tensor, errors: Tensor) -> Tensor:
    """Return the expected errors of softmax(scores) [n] above the mean of errors [n]."""
    return (scores.softmax(0) * (errors - errors.mean())).sum()


def mwed(scores: Tensor, errors: Tensor) -> Tensor:
    """Return the cross-entropy from softmax(errors) to softmax(-scores / T), both [n]."""
    costs = -scores
    temperature = (costs.detach().sum() / errors.sum()).abs()
    if not bool(torch.isfinite(temperature)) or float(temperature) == 0.0:
        return scores.sum() * 0.0
    return -(errors.softmax(0) * (costs / temperature).log_softmax(0)).sum()
