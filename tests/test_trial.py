from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hybrid.data.batches import Batches, Utterance
from hybrid.errors import HybridError
from hybrid.train.ce import CrossEntropy
from hybrid.train.trial import Trial, fitting, try_worst, worst_batch


def utterances(lengths):
    rng = np.random.default_rng(0)
    return [
        Utterance(f"u{k}", rng.normal(size=(n, 3)).astype(np.float32), rng.integers(0, 5, n))
        for k, n in enumerate(lengths)
    ]


class Small(nn.Module):
    """Dropout and a batch norm: both leave traces when they are tried."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.output = nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 5)
        self.seen = []

    def forward(self, x, lengths):
        self.seen.append(tuple(x.shape[:2]))
        return {"logits": self.output(self.drop(self.norm(x.flatten(0, 1)).view(x.shape)))}


@pytest.mark.parametrize(
    "lengths, max_frames, limit, shape",
    [
        ([5, 20, 9, 19], 60, 0, ["u1", "u3", "u2"]),
        ([5, 20, 9, 19], 39, 0, ["u1"]),
        ([5, 20, 9, 19], 10, 0, ["u1"]),
        ([5, 20, 9, 19], 999, 2, ["u1", "u3"]),
        ([5, 20, 9, 19], 999, 0, ["u1", "u3", "u2", "u0"]),
    ],
)
def test_the_worst_batch_has_the_longest_utterances(lengths, max_frames, limit, shape):
    batches = Batches(utterances(lengths), max_frames, max_utterances=limit)
    worst = worst_batch(batches)
    assert worst.ids == shape
    padded = [len(b.ids) * int(b.lengths[0]) for epoch in range(20) for b in batches.epoch(epoch)]
    assert max(padded) <= max(max_frames, 20) and len(worst.ids) * int(worst.lengths[0]) <= max(max_frames, 20)


def test_nothing_of_the_trial_stays():
    model = Small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    trial = try_worst(model.eval(), CrossEntropy(), Batches(utterances([9, 4, 7]), 18), torch.device("cpu"))
    assert model.seen == [(2, 9)] and (trial.utterances, trial.frames) == (2, 9) and "2 utterances" in str(trial)
    assert not model.training and all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def too_much(limit):
    """A criterion that needs memory by the padded frames of its batch."""

    def criterion(output, batch):
        rows, frames = output["logits"].shape[:2]
        if rows * frames > limit:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return CrossEntropy()(output, batch)

    return criterion


@pytest.mark.parametrize("limit, chosen", [(200, 100), (60, 50), (30, 20), (20, 20)])
def test_batches_are_halved_until_they_fit(tmp_path, limit, chosen):
    data, said = utterances([20, 10, 10, 5, 20, 20, 3]), []

    def fit(criterion):
        return fitting(
            Small(), criterion, lambda n: Batches(data, n), 100, torch.device("cpu"), tmp_path, log=said.append
        )

    assert fit(too_much(limit)) == chosen
    assert any("worst batch" in line for line in said) and any("instead" in line for line in said) == (chosen < 100)
    # Going on: the same, whatever memory there is now.
    said.clear()
    assert fit(too_much(10**9)) == chosen and not said


def test_an_utterance_that_does_not_fit_alone_is_named(tmp_path):
    data = utterances([5, 50, 9])
    with pytest.raises(HybridError, match="one utterance of 50 frames.*u1.*chunk_frames"):
        fitting(Small(), too_much(40), lambda n: Batches(data, n), 100, torch.device("cpu"), tmp_path)
    assert not (tmp_path / "batches.json").exists()


def test_other_errors_are_not_taken_for_memory(tmp_path):
    def broken(output, batch):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        try_worst(Small(), broken, Batches(utterances([5]), 10), torch.device("cpu"))


def test_memory_is_seen():
    class Large(Small):
        def forward(self, x, lengths):
            self.held = torch.ones(50_000_000).add_(1)  # 200 MB
            return super().forward(x, lengths)

    trial = try_worst(Large(), CrossEntropy(), Batches(utterances([5]), 10), torch.device("cpu"))
    assert isinstance(trial, Trial) and trial.bytes > 100e6

