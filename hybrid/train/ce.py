"""Frame-wise cross-entropy against an alignment.

    loss = - sum_t log softmax(logits[t])[pdf[t]]

With label smoothing s the target is (1 - s) at the aligned pdf plus s / num_pdfs everywhere (Szegedy et al. 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import torch
from torch import Tensor

from hybrid.data.batches import IGNORE, Batch
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.train.loss import Loss


@dataclass(frozen=True)
class CrossEntropy:
    """Reads output[head] [B, T, num_pdfs] and batch.pdfs [B, T]; frames of pdf -100 do not count.

    Raises DataError for utterances without pdfs, ModelError for a pdf that the model does not have.
    """

    label_smoothing: float = 0.0
    head: str = "logits"

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}", remedy="a number from 0 to below 1")

    def __call__(self, output: Mapping[str, Tensor], batch: Batch) -> Loss:
        logits = output[self.head]
        # Soft targets (top-k of a teacher) will come in here, beside the pdfs of the alignment.
        pdfs = hard_targets(batch, logits.shape[-1])
        # [B, T] -> the frames that count only: padding costs nothing in the softmax.
        keep = pdfs != IGNORE
        scores, labels = logits[keep], pdfs[keep]
        value = torch.nn.functional.cross_entropy(scores, labels, reduction="sum", label_smoothing=self.label_smoothing)
        with torch.no_grad():
            correct = float((scores.argmax(dim=-1) == labels).sum())
        return Loss(value=value, frames=float(labels.numel()), stats={"correct": correct})


def hard_targets(batch: Batch, num_pdfs: int) -> Tensor:
    """Return batch.pdfs, checked against the width of the output.

    Raises DataError where there are none, ModelError for a pdf that the model does not have.
    """
    if batch.pdfs is None:
        name = next((u.id for u in batch.utterances if u.pdfs is None), None)
        raise DataError("no alignment to train on", utterance=name, remedy="run the stage that aligns, or leave it out")
    high = int(batch.pdfs.max())
    if high >= num_pdfs:
        row = int((batch.pdfs == high).any(dim=1).nonzero()[0])
        raise ModelError(
            f"the alignment has pdf {high}, the model {num_pdfs} pdfs",
            utterance=batch.ids[row],
            remedy="alignment and model come from different trees: run the senones stage and what follows again",
        )
    return batch.pdfs
