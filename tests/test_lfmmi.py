from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from lfmmi_tools import small_language

from hybrid.data.batches import Utterance, collate
from hybrid.errors import ConfigError, DataError, GraphError, MissingDependency, ModelError
from hybrid.train import k2_engine
from hybrid.train.denominator import make_denominator
from hybrid.train.fsa import Fsa
from hybrid.train.lfmmi import LfMmi
from hybrid.train.numerator import Numerators


@pytest.fixture(scope="module")
def world():
    """senones, denominator and a batch of four utterances with numerators of both kinds."""
    senones, rng, sequences, lm = small_language()
    numerators = Numerators(lm, senones)
    utterances = []
    for i, (name, phones) in enumerate(list(sequences.items())[:4]):
        durations = rng.integers(1, 4, len(phones))
        frames = int(durations.sum())
        graph = numerators.from_phones(phones) if i % 2 else numerators.from_alignment(phones, durations, 1)
        pdfs = rng.integers(0, senones.num_pdfs, frames)
        utterances.append(Utterance(name, np.zeros((frames, 2), np.float32), pdfs, {"numerator": graph}))
    return senones.num_pdfs, make_denominator(lm, senones), collate(utterances)


def outputs(world, seed=0, scale=1.0, dtype=torch.float32):
    num_pdfs, _, batch = world
    shape = (len(batch.ids), int(batch.lengths.max()), num_pdfs)
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype).requires_grad_(True)


ACCURACIES = [
    {"boost": 0.3, "accuracy": "pdf"},
    {"smbr": 1.0, "mmi": 0.0, "accuracy": "pdf"},
    {"smbr": 0.7, "mmi": 0.4, "boost": 0.2},
    {"smbr": 0.7, "mmi": 0.4, "output_scale": 0.5},
]


def phones(num_pdfs):
    """As if two pdfs in a row were of one phone."""
    return [pdf // 2 for pdf in range(num_pdfs)]


@pytest.mark.parametrize("options", [{}, {"xent_regularize": 0.1, "l2_output": 0.01, "output_scale": 0.5}, *ACCURACIES])
def test_engines_agree(world, options):
    pytest.importorskip("k2")
    num_pdfs, denominator, batch = world
    x, y = outputs(world, 1), outputs(world, 2)
    results = []
    for engine in ("sparse", "k2", "auto"):
        criterion = LfMmi(denominator, num_pdfs, engine=engine, phones=phones(num_pdfs), **options)
        loss = criterion({"logits": x, "xent": y}, batch)
        gradient = torch.autograd.grad(loss.value, (x, y) if "xent_regularize" in options else (x,))
        results.append((loss, gradient))
    for loss, gradient in results[1:]:
        assert loss.value.item() == pytest.approx(float(results[0][0].value), rel=1e-4)
        assert loss.stats == pytest.approx(results[0][0].stats, rel=1e-4)
        for mine, theirs in zip(gradient, results[0][1], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("xent_targets", ["numerator", "alignment"])
@pytest.mark.parametrize("leaky", [0.0, 0.01])
def test_gradient_equals_finite_differences(world, leaky, xent_targets):
    num_pdfs, denominator, batch = world
    # The numerator's posteriors are constants as targets of the second head, so that head alone is moved for them.
    for xent in (0.0, 0.2):
        criterion = LfMmi(
            denominator, num_pdfs, leaky=leaky, xent_regularize=xent, xent_targets=xent_targets, l2_output=0.01
        )
        x, y = outputs(world, 1, dtype=torch.float64), outputs(world, 2, dtype=torch.float64)
        moved = y if xent else x

        def value(x=x, y=y, criterion=criterion):
            return criterion({"logits": x, "xent": y}, batch).value

        gradient = torch.autograd.grad(value(), moved)[0]
        for seed in range(3):
            way = 1e-5 * outputs(world, 10 + seed, dtype=torch.float64).detach()
            with torch.no_grad():
                up, down = (value(y=y + s * way) if xent else value(x=x + s * way) for s in (1, -1))
            assert float((gradient * way).sum()) == pytest.approx(float(up - down) / 2, rel=1e-4)


@pytest.mark.parametrize("options", ACCURACIES)
@pytest.mark.parametrize("leaky", [0.0, 0.01])
def test_gradient_with_accuracies_equals_finite_differences(world, leaky, options, monkeypatch):
    num_pdfs, denominator, batch = world
    criterion = LfMmi(denominator, num_pdfs, leaky=leaky, phones=phones(num_pdfs), **options)
    x = outputs(world, 1, dtype=torch.float64)
    # The accuracies are constants: those of x, wherever the outputs are moved to.
    numerators = criterion._numerators(batch)
    accuracy = criterion._accuracy(numerators.forward_backward(x * criterion.output_scale, batch.lengths)[1])
    monkeypatch.setattr(criterion, "_accuracy", lambda posteriors: accuracy)
    loss = criterion({"logits": x}, batch)
    gradient = torch.autograd.grad(loss.value, x)[0]
    for seed in range(3):
        way = 1e-5 * outputs(world, 10 + seed, dtype=torch.float64).detach()
        with torch.no_grad():
            up, down = (criterion({"logits": x + s * way}, batch).value for s in (1, -1))
        assert float((gradient * way).sum()) == pytest.approx(float(up - down) / 2, rel=1e-4)


def test_accuracies_are_the_numerators(world):
    num_pdfs, denominator, batch = world
    posteriors = torch.rand(2, 3, num_pdfs)
    by_pdf = LfMmi(denominator, num_pdfs, boost=0.1, accuracy="pdf")._accuracy(posteriors)
    assert by_pdf is posteriors
    groups = phones(num_pdfs)
    by_phone = LfMmi(denominator, num_pdfs, boost=0.1, phones=groups)._accuracy(posteriors)
    for pdf in range(num_pdfs):
        same = [other for other in range(num_pdfs) if groups[other] == groups[pdf]]
        torch.testing.assert_close(by_phone[:, :, pdf], posteriors[:, :, same].sum(2))


def test_boosting_gives_weight_to_errors(world):
    num_pdfs, denominator, batch = world
    x = outputs(world, 1, 3.0)
    objectives = [
        LfMmi(denominator, num_pdfs, boost=boost, accuracy="pdf")({"logits": x}, batch).stats["objective"]
        for boost in (0.0, 0.1, 1.0, 5.0)
    ]
    assert objectives == sorted(objectives, reverse=True) and objectives[0] <= 0.0


@pytest.mark.parametrize("options", ACCURACIES[1:3])
def test_expected_errors_go_to_zero(world, options):
    num_pdfs, denominator, batch = world
    criterion = LfMmi(denominator, num_pdfs, phones=phones(num_pdfs), **options)
    x = torch.zeros_like(outputs(world)).requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=0.5)
    errors = []
    for _ in range(80):
        loss = criterion({"logits": x}, batch)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        errors.append(1.0 - loss.stats["accuracy"] / loss.frames)
    assert errors[0] > 0.2 and errors[-1] < 0.01 and float(loss.value) >= 0.0


def test_objective_is_never_positive_and_stats_add_up(world):
    num_pdfs, denominator, batch = world
    for scale in (0.0, 1.0, 10.0, 50.0):
        loss = LfMmi(denominator, num_pdfs, l2_output=0.5)({"logits": outputs(world, 3, scale)}, batch)
        assert loss.stats["objective"] <= 1e-2
        assert loss.stats["objective"] == pytest.approx(loss.stats["num"] - loss.stats["den"])
        assert loss.value.item() == pytest.approx(-loss.stats["objective"] + 0.5 * loss.stats["l2"], rel=1e-5)
        assert loss.frames == float(batch.lengths.sum())


def test_padding_changes_nothing(world):
    num_pdfs, denominator, batch = world
    criterion = LfMmi(denominator, num_pdfs, xent_regularize=0.1, l2_output=0.01)
    x = outputs(world, 4)
    loss = criterion({"logits": x}, batch)
    gradient = torch.autograd.grad(loss.value, x)[0]
    inside = torch.arange(x.shape[1])[None] < batch.lengths[:, None]
    assert not gradient[~inside].any() and gradient[inside].any(1).all()
    changed = x.detach().clone()
    changed[~inside] = 17.0
    assert float(criterion({"logits": changed}, batch).value) == pytest.approx(float(loss.value), rel=1e-6)
    # One by one, the same sum.
    alone = sum(
        float(criterion({"logits": x[i : i + 1, : int(n)]}, collate([u])).value)
        for i, (n, u) in enumerate(zip(batch.lengths, batch.utterances, strict=True))
    )
    assert alone == pytest.approx(float(loss.value), rel=1e-5)


def test_overfitting_one_batch_ends_at_zero(world):
    num_pdfs, denominator, batch = world
    criterion = LfMmi(denominator, num_pdfs)
    x = torch.zeros_like(outputs(world)).requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=0.5)
    history = []
    for _ in range(60):
        loss = criterion({"logits": x}, batch)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        history.append(loss.stats["objective"] / loss.frames)
    assert history[0] < -0.3 and -0.01 < history[-1] <= 1e-4


def with_numerator(batch, row, graph):
    changed = copy.copy(batch)
    changed.utterances = list(batch.utterances)
    old = batch.utterances[row]
    changed.utterances[row] = Utterance(old.id, old.features, old.pdfs, {} if graph is None else {"numerator": graph})
    return changed


def test_numerator_outside_the_denominator_is_explained(world):
    num_pdfs, denominator, batch = world
    good = batch.utterances[1].extra["numerator"]
    # As if the phone LM's costs had been forgotten.
    heavy = Fsa(good.src, good.dst, good.pdf, good.logw * 0.0 + 1.0, good.start, good.final, good.first, good.last)
    with pytest.raises(ModelError, match=f"numerator weighs more .*{batch.ids[1]}.*phone LM"):
        LfMmi(denominator, num_pdfs)({"logits": outputs(world)}, with_numerator(batch, 1, heavy))


def test_unusable_utterances_are_named(world):
    num_pdfs, denominator, batch = world
    criterion = LfMmi(denominator, num_pdfs)
    long = Fsa.from_lists([(i, i + 1, 0, 0.0) for i in range(99)], {0: 0.0}, {99: 0.0})
    with pytest.raises(DataError, match=f"at least 99 .*{batch.ids[2]}"):
        criterion({"logits": outputs(world)}, with_numerator(batch, 2, long))
    with pytest.raises(DataError, match=f"no numerator.*{batch.ids[0]}"):
        criterion({"logits": outputs(world)}, with_numerator(batch, 0, None))
    # Only odd lengths fit: the shortest path is short enough, and still there is no path.
    even = int(batch.lengths[3]) % 2 == 0
    arcs = [(0, 1, 0, 0.0), (1, 0, 0, 0.0)]
    graph = Fsa.from_lists(arcs, {0: 0.0}, {1: 0.0} if even else {0: 0.0})
    with pytest.raises(DataError, match=f"no path .*{batch.ids[3]}"):
        criterion({"logits": outputs(world)}, with_numerator(batch, 3, graph))
    wrong = Fsa.from_lists([(0, 0, num_pdfs, 0.0)], {0: 0.0}, {0: 0.0})
    with pytest.raises(GraphError, match="labels"):
        criterion({"logits": outputs(world)}, with_numerator(batch, 3, wrong))


def test_outputs_that_are_not_finite_are_named(world):
    num_pdfs, denominator, batch = world
    x = outputs(world).detach()
    x[1, 2, 0] = float("nan")
    with pytest.raises(ModelError, match=f"not finite from frame 2 .*{batch.ids[1]}"):
        LfMmi(denominator, num_pdfs)({"logits": x}, batch)
    x = outputs(world).detach()[..., 1:]
    with pytest.raises(GraphError, match="outputs of shape"):
        LfMmi(denominator, num_pdfs)({"logits": x}, batch)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"engine": "cuda"}, "cuda"),
        ({"leaky": -0.1}, "leaky"),
        ({"leaky": 1.0}, "leaky"),
        ({"xent_regularize": -1.0}, "xent_regularize"),
        ({"l2_output": -1.0}, "l2_output"),
        ({"output_scale": 0.0}, "output_scale"),
        ({"xent_targets": "teacher"}, "teacher"),
        ({"boost": -0.1}, "boost"),
        ({"smbr": -1.0}, "smbr"),
        ({"mmi": 0.0}, "mmi or smbr above 0"),
        ({"smbr": 1.0, "accuracy": "word"}, "word"),
        ({"smbr": 1.0}, "the phone of every pdf"),
        ({"boost": 1.0, "phones": [0, 1]}, "the phone of every pdf"),
    ],
)
def test_bad_settings(world, options, words):
    with pytest.raises(ConfigError, match=words):
        LfMmi(world[1], world[0], **options)


def test_without_k2_the_error_says_what_to_do(world, monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "k2":
            raise ImportError("No module named 'k2'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match="make setup"):
        k2_engine.import_k2()
    with pytest.raises(MissingDependency, match="sparse"):
        LfMmi(world[1], world[0], engine="k2")
    assert LfMmi(world[1], world[0], engine="auto").engine != "k2"


def test_k2_refuses_what_it_cannot_do(world):
    pytest.importorskip("k2")
    with pytest.raises(ConfigError, match="leaky"):
        LfMmi(world[1], world[0], engine="k2", leaky=0.1)


def test_criterion_can_be_sent_to_another_process(world):
    num_pdfs, denominator, batch = world
    criterion = LfMmi(denominator, num_pdfs, leaky=1e-5)
    x = outputs(world, 5)
    value = criterion({"logits": x}, batch).value.item()
    assert float(pickle.loads(pickle.dumps(criterion))({"logits": x}, batch).value) == value
