"""Training on a GPU, as far as a machine without one can show it: all of it is there, and comes to what a CPU does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import List

import numpy as np
import pytest
import torch
from device_tools import GPU, HOPPER, TURING, PretendedGpu, pretend_gpus

from hybrid.data.batches import Batches, Utterance
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.nnet.priors import average_posterior
from hybrid.pipeline.train_ce import phone_confusion
from hybrid.train.ce import CrossEntropy
from hybrid.train.trainer import Trainer, TrainerConfig

PDFS = 4


def speech() -> List[Utterance]:
    rng = np.random.default_rng(3)
    labels = [rng.integers(0, PDFS, length) for length in (9, 14, 6, 11)]
    return [
        Utterance(f"u{n}", (np.eye(PDFS)[pdfs] + rng.normal(0, 0.2, (len(pdfs), PDFS))).astype(np.float32), pdfs)
        for n, pdfs in enumerate(labels)
    ]


def network() -> LstmModel:
    return LstmModel(LstmConfig(input_dim=PDFS, num_pdfs=PDFS, hidden=8, layers=1, dropout=0.0), seed=0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
    """The second of two GPUs; torch has no kernels for the first."""
    pretend_gpus(monkeypatch, HOPPER, TURING)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *device: torch.zeros(1))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *state: None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return PretendedGpu()


def test_a_training_and_what_follows_it_there(gpu: PretendedGpu, tmp_path: Path) -> None:
    data = speech()
    phones = SimpleNamespace(
        num_pdfs=PDFS, tid2pdf=np.array([-1, 0, 1, 2, 3]), tid2phone=np.array([0, 1, 1, 2, 2]),
        phone_names={1: "A", 2: "B"},
    )  # fmt: skip
    found = {}
    for device in ("cpu", "auto"):
        model, batches = network(), Batches(data, 20, shuffle=False)
        config = TrainerConfig(epochs=2, lr=0.02, device=device, optimizer="sgd", average=0)
        with gpu:
            Trainer(model, CrossEntropy(), batches, batches, config, tmp_path / device, log=lambda _: None).fit()
            place = next(model.parameters()).device
            priors, confusion = average_posterior(model, batches), phone_confusion(model, data, phones)
        found[str(place)] = priors, confusion
    assert list(found) == ["cpu", str(GPU)] and sum(gpu.counts.values()) > 50
    (priors, confusion), (there_priors, there_confusion) = found.values()
    np.testing.assert_allclose(there_priors, priors, rtol=1e-4)
    assert there_confusion == confusion and np.sum(confusion["matrix"]) == sum(len(one.pdfs) for one in data)
