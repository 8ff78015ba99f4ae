"""The networks of a recipe: built by their kind, and what LF-MMI starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import PROJECT
from recipe_tools import recipe_run

from hybrid.data.batches import Utterance
from hybrid.errors import ConfigError, ModelError
from hybrid.io import save_tensors
from hybrid.nnet.batch_norm import BatchNorm
from hybrid.nnet.model_io import build_model, save_model, state_arrays
from hybrid.pipeline.network import network_settings, new_model
from hybrid.pipeline.recipe import find_recipe
from hybrid.pipeline.systems import system
from hybrid.pipeline.train_lfmmi import start_from_frames, start_from_model
from hybrid.train.scheduled import parse
from hybrid.train.trainer import epoch_file

DIM, PDFS = 6, 5
SMALL = {
    "lstm": {"hidden": 4, "layers": 1, "bidirectional": True, "dropout": 0.3},
    "tdnnf": {"hidden": 8, "bottleneck": 3, "small": 4, "big": 6, "strides": [1, 3], "dropout": 0.3},
}


@pytest.mark.parametrize("xent_head", [False, True])
@pytest.mark.parametrize("kind", SMALL)
def test_lfmmi_starts_from_the_likelihoods_of_ce(tmp_path, kind, xent_head):
    trained = build_model(kind, {**SMALL[kind], "input_dim": DIM, "num_pdfs": PDFS}, seed=1)
    trained.set_input_stats(np.linspace(-1, 1, DIM), np.linspace(0.5, 2, DIM))
    for module in trained.modules():
        if isinstance(module, BatchNorm):
            module.add((torch.rand(len(module.mean)), torch.rand(len(module.mean)) + 0.5, 100))
    priors = np.arange(1.0, PDFS + 1) / sum(range(1, PDFS + 1))

    save_model(tmp_path / "ce" / "model", trained, priors=priors)
    model = start_from_frames(tmp_path / "ce", xent_head, 0.4, scale=0.25)
    assert model.kind == kind and model.config.dropout == model.dropout == 0.4
    x, lengths = torch.randn(2, 7, DIM), torch.tensor([7, 4])
    posteriors, found = trained.eval()(x, lengths)["logits"], model.eval()(x, lengths)
    assert set(found) == ({"logits", "xent"} if xent_head else {"logits"})
    for row, length in enumerate(lengths.tolist()):
        wanted = posteriors[row, :length]
        likelihoods = wanted - torch.from_numpy(np.log(priors)).float()
        torch.testing.assert_close(found["logits"][row, :length], 0.25 * likelihoods)
        if xent_head:
            torch.testing.assert_close(found["xent"][row, :length], wanted)
    if xent_head:
        # Copies, that go their own ways.
        places = [value.data_ptr() for value in model.parameters()]
        assert len(set(places)) == len(places)


def test_lfmmi_starts_from_an_earlier_epoch_of_ce_where_it_was_kept(tmp_path):
    about = {**SMALL["lstm"], "input_dim": DIM, "num_pdfs": PDFS}
    finished, early = (build_model("lstm", about, seed) for seed in (1, 2))
    priors = np.full(PDFS, 1 / PDFS)

    save_model(tmp_path / "ce" / "model", finished, priors=priors)
    with pytest.raises(ConfigError, match="init_epoch is 3.*not kept") as caught:
        start_from_frames(tmp_path / "ce", False, 0.0, epoch=3)
    assert "ce.trainer.keep_every=1" in str(caught.value)
    save_tensors(epoch_file(tmp_path / "ce", 2), state_arrays(early))
    x, lengths = torch.randn(1, 4, DIM), torch.tensor([4])
    for epoch, begun in ((0, finished), (3, early)):
        found = start_from_frames(tmp_path / "ce", False, 0.0, epoch=epoch).eval()(x, lengths)["logits"]
        torch.testing.assert_close(found, begun.eval()(x, lengths)["logits"] - float(np.log(1 / PDFS)))


def test_the_input_is_normalised_by_all_frames():
    rng = np.random.default_rng(0)
    data = [Utterance(f"u{n}", (5 + 3 * rng.normal(size=(n, DIM))).astype(np.float32)) for n in (4, 9, 30)]
    run = recipe_run(PROJECT, *(f"model.{name}={str(value).lower()}" for name, value in SMALL["lstm"].items()))
    model = new_model(run, system("ce"), data, PDFS)
    assert model.config.hidden == SMALL["lstm"]["hidden"]
    x = torch.from_numpy(np.concatenate([u.features for u in data]))
    normal = (x - model.input_mean) * model.input_scale
    torch.testing.assert_close(normal.mean(0), torch.zeros(DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std(0, unbiased=False), torch.ones(DIM))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", SMALL)
def test_training_goes_on_from_a_model(tmp_path, kind, before, after):
    trained = build_model(kind, {**SMALL[kind], "input_dim": DIM, "num_pdfs": PDFS, "xent_head": before}, seed=1)
    save_model(tmp_path / "model", trained)
    model = start_from_model(tmp_path / "model", after, 0.1, DIM, PDFS)
    x, lengths = torch.randn(2, 7, DIM), torch.tensor([7, 4])
    wanted, found = trained.eval()(x, lengths), model.eval()(x, lengths)
    assert model.dropout == 0.1 and set(found) == ({"logits", "xent"} if after else {"logits"})
    torch.testing.assert_close(found["logits"], wanted["logits"])
    if after:
        torch.testing.assert_close(found["xent"], wanted["xent" if before else "logits"])
    for dim, pdfs, words in ((DIM + 3, PDFS, "input_dim"), (DIM, PDFS + 1, "num_pdfs")):
        with pytest.raises(ModelError, match=f"{words} of this model"):
            start_from_model(tmp_path / "model", after, 0.1, dim, pdfs)


@pytest.mark.parametrize("recipe", ["an4", "demo"])
@pytest.mark.parametrize("kind", SMALL)
def test_recipes_build_either_kind(recipe, kind):
    run = recipe_run(PROJECT, f"model.kind={kind}", "model.tdnnf.hidden=96", "model.hidden=40", recipe=recipe)
    for name in ("ce", "teacher_lfmmi", "student_ce"):
        found, values = network_settings(run, system(name))
        model = build_model(found, {**values, "input_dim": 192, "num_pdfs": 9}, seed=0)
        assert model.kind == found == kind and model.config.hidden == {"lstm": 40, "tdnnf": 96}[kind]


@pytest.mark.parametrize("recipe", ["an4", "demo"])
@pytest.mark.parametrize(
    "path", [path for path in sorted((PROJECT / "recipes" / "models").glob("*.toml")) if path.stem != "streaming"],
    ids=lambda path: path.stem,
)  # fmt: skip
def test_models_of_a_paper_are_settings_of_every_recipe(recipe, path):
    chosen = find_recipe(recipe)
    run = chosen.run(PROJECT, chosen.config(files=[path]))
    built = {}
    for name in ("teacher_ce", "student_ce"):
        kind, values = network_settings(run, system(name))
        built[name] = build_model(kind, {**values, "input_dim": 192, "num_pdfs": 50}).config
    teacher, student = built["teacher_ce"], built["student_ce"]
    assert teacher.bidirectional and not student.bidirectional and teacher.hidden == student.hidden
    parse(run.config["scheduled.chunks"])


@pytest.mark.parametrize("recipe", ["an4", "demo"])
def test_a_network_that_streams_is_settings_of_every_recipe(recipe: str) -> None:
    chosen = find_recipe(recipe)
    run = chosen.run(PROJECT, chosen.config(files=[PROJECT / "recipes" / "models" / "streaming.toml"]))
    for name in ("ce", "lfmmi"):
        kind, values = network_settings(run, system(name))
        model = build_model(kind, {**values, "input_dim": 192, "num_pdfs": 50}).config
        assert not model.bidirectional and model.delay > 0 and run.config["model.cmvn"] == "online"


@pytest.mark.parametrize("kind", ["tdnn", "vtlp", "seed"])
def test_unknown_kinds(kind):
    with pytest.raises(ConfigError, match=f"model.kind is '{kind}'.*use one of 'lstm', 'tdnnf'"):
        recipe_run(PROJECT, f"model.kind={kind}", recipe="an4")
    with pytest.raises(ConfigError, match=f"unknown kind of model '{kind}'") as caught:
        build_model(kind, {"input_dim": 192, "num_pdfs": 9})
    assert "lstm, tdnnf" in str(caught.value)
