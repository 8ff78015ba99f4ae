"""Priors of pdfs: counted, averaged, on disk; whether a model gives posteriors or likelihoods."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hybrid.data.batches import IGNORE, Batches, Utterance
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import read_json, save_tensors, write_json
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.nnet.model_io import save_model
from hybrid.nnet.priors import (
    average_posterior,
    count_priors,
    load_priors,
    outputs_of,
    priors_of_model,
    save_priors,
)
from hybrid.train.teacher import graph_of


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


PRIORS = np.array([0.5, 0.3, 0.2])


def saved(folder, priors=None, outputs=None):
    """A model's folder whose config.json says `outputs`; "": nothing, as before it did."""
    save_model(folder, LstmModel(LstmConfig(4, 3, hidden=4, layers=1), seed=0), priors=priors, config={"system": "x"})
    config = read_json(folder / "config.json")
    if outputs is not None:
        config["outputs"] = outputs
        if not outputs:
            del config["outputs"]
        write_json(folder / "config.json", config)
    return folder


@pytest.mark.parametrize("priors, outputs", [(PRIORS, "posteriors"), (None, "likelihoods")])
def test_a_model_says_what_it_gives_and_an_old_one_is_understood(tmp_path, priors, outputs):
    folder = saved(tmp_path / "new", priors)
    assert read_json(folder / "config.json")["outputs"] == outputs
    for path in (folder, saved(tmp_path / "old", priors, "")):
        assert outputs_of(path) == outputs
        found = priors_of_model(path)
        assert (found is None) == (priors is None) and (priors is None or np.array_equal(found, priors))


def test_config_json_is_asked_and_not_the_files_beside_it(tmp_path):
    folder = saved(tmp_path / "m", PRIORS, "likelihoods")
    assert outputs_of(folder) == "likelihoods" and priors_of_model(folder) is None
    folder = saved(tmp_path / "n", None, "posteriors")
    with pytest.raises(ModelError, match="no such file.*priors.safetensors"):
        priors_of_model(folder)


@pytest.mark.parametrize("config", ["posterior", 3, None])
def test_outputs_that_are_neither(tmp_path, config):
    folder = saved(tmp_path / "m", None, config) if config else saved(tmp_path / "m")
    if config is None:
        write_json(folder / "config.json", ["likelihoods"])
    with pytest.raises(ModelError, match="not one of posteriors, likelihoods.*config.json"):
        outputs_of(folder)


def test_priors_of_other_pdfs_are_not_saved(tmp_path):
    with pytest.raises(ModelError, match=r"priors of the shape \[2\] for 3 pdfs"):
        saved(tmp_path / "m", PRIORS[:2])
    assert not (tmp_path / "m").exists()


def test_a_denominator_beside_a_model_of_posteriors_is_not_its_own(tmp_path):
    (tmp_path / "denominator.safetensors").write_bytes(b"")
    assert graph_of(saved(tmp_path / "lfmmi")) == tmp_path / "denominator.safetensors"
    with pytest.raises(ConfigError, match="not trained with LF-MMI"):
        graph_of(saved(tmp_path / "ce", PRIORS))
    (tmp_path / "denominator.safetensors").unlink()
    with pytest.raises(ConfigError, match="not trained with LF-MMI"):
        graph_of(saved(tmp_path / "lfmmi"))
