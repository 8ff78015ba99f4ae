from __future__ import annotations

import numpy as np
import pytest
import torch

from hybrid.data.batches import IGNORE, Utterance, collate
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.train.ce import CrossEntropy


def batch_of(*rows):
    return collate(
        [Utterance(f"u{n}", np.zeros((len(row), 2), np.float32), np.array(row)) for n, row in enumerate(rows)]
    )


def naive(logits, pdfs, smoothing):
    """The definition, frame by frame."""
    total, frames, correct = 0.0, 0, 0
    for row in range(pdfs.shape[0]):
        for t in range(pdfs.shape[1]):
            pdf = int(pdfs[row, t])
            if pdf == IGNORE:
                continue
            x = logits[row, t].double()
            log_posterior = x - torch.log(torch.exp(x).sum())
            target = torch.full_like(x, smoothing / len(x))
            target[pdf] += 1 - smoothing
            total -= float((target * log_posterior).sum())
            frames += 1
            correct += int(x.argmax()) == pdf
    return total, frames, correct


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_against_the_definition(smoothing):
    batch = batch_of([0, 4, IGNORE, 2], [3, 3])
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    loss = CrossEntropy(label_smoothing=smoothing)({"logits": logits}, batch)
    value, frames, correct = naive(logits, batch.pdfs, smoothing)
    assert float(loss.value) == pytest.approx(value, rel=1e-5)
    assert (loss.frames, loss.stats) == (frames, {"correct": correct})


def test_gradient_against_finite_differences():
    batch = batch_of([0, 2, IGNORE], [1])
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    criterion = CrossEntropy(label_smoothing=0.1)
    assert torch.autograd.gradcheck(lambda x: criterion({"logits": x}, batch).value, (logits,))
    (gradient,) = torch.autograd.grad(criterion({"logits": logits}, batch).value, logits)
    assert gradient[0, 2].eq(0).all() and gradient[1, 1:].eq(0).all()


def test_no_frame_counts():
    loss = CrossEntropy()({"logits": torch.zeros(1, 2, 3)}, batch_of([IGNORE, IGNORE]))
    assert float(loss.value) == 0 and loss.frames == 0


def test_bad_input():
    with pytest.raises(ConfigError, match="label_smoothing"):
        CrossEntropy(label_smoothing=1.0)
    with pytest.raises(ModelError, match="pdf 7, the model 5 pdfs") as caught:
        CrossEntropy()({"logits": torch.zeros(2, 3, 5)}, batch_of([0, 1, 2], [3, 7, 1]))
    assert caught.value.utterance == "u1"
    without = collate([Utterance("bare", np.zeros((2, 2), np.float32))])
    with pytest.raises(DataError, match="no alignment") as missing:
        CrossEntropy()({"logits": torch.zeros(1, 2, 5)}, without)
    assert missing.value.utterance == "bare"
