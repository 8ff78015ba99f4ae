from __future__ import annotations

import numpy as np
import pytest
import torch

from hybrid.data.batches import IGNORE, Batches, Utterance
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import save_tensors
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.train.priors import average_posterior, count_priors, load_priors, save_priors


def test_counts_by_hand():
    alignments = [np.array([0, 0, 1, IGNORE]), np.array([3], dtype=np.uint8)]
    np.testing.assert_allclose(count_priors(alignments, 4, smoothing=0.5, floor=0), np.array([2.5, 1.5, 0.5, 1.5]) / 6)
    floored = count_priors(alignments, 4, smoothing=0, floor=0.1)
    np.testing.assert_allclose(floored, np.array([0.5, 0.25, 0.1, 0.25]) / 1.1)


@pytest.mark.parametrize(
    "kind, alignments, settings, message",
    [
        (DataError, [np.array([0, 4])], {}, "pdf 4 of 4"),
        (DataError, [np.array([-1, 2])], {}, "pdf -1 of 4"),
        (DataError, [np.array([IGNORE])], {}, "no aligned frames"),
        (DataError, [], {}, "no aligned frames"),
        (ConfigError, [np.array([0])], {"smoothing": -1}, "smoothing"),
    ],
)
def test_bad_counts(kind, alignments, settings, message):
    with pytest.raises(kind, match=message):
        count_priors(alignments, 4, **settings)


def test_average_posterior():
    rng = np.random.default_rng(0)
    utterances = [Utterance(f"u{n}", rng.normal(size=(t, 3)).astype(np.float32)) for n, t in enumerate((5, 9, 2))]
    model = LstmModel(LstmConfig(3, 6, hidden=4, layers=1, dropout=0.5), seed=0)
    found = average_posterior(model, Batches(utterances, 12))
    assert model.training and found.sum() == pytest.approx(1)
    model.eval()
    rows = []
    for utterance in utterances:
        x = torch.from_numpy(utterance.features)[None]
        rows.append(torch.softmax(model(x, torch.tensor([x.shape[1]]))["logits"][0], dim=-1).detach().numpy())
    np.testing.assert_allclose(found, np.concatenate(rows).mean(axis=0), rtol=1e-5)


def test_on_disk(tmp_path):
    priors = np.array([0.25, 0.75])
    assert save_priors(tmp_path, priors) == tmp_path / "priors.safetensors"
    np.testing.assert_array_equal(load_priors(tmp_path), priors)
    save_tensors(tmp_path / "priors.safetensors", {"other": priors})
    with pytest.raises(ModelError, match="no priors"):
        load_priors(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        load_priors(tmp_path / "absent")
