from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.batches import Batches, Utterance, collate
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.nnet import model_io
from hybrid.nnet.batch_norm import DECAY, EPSILON, BatchNorm
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.semi_orthogonal import deviation
from hybrid.nnet.tdnnf import EVERY, TdnnfConfig, TdnnfModel, continuous_dropout, packed
from hybrid.parallel import SerialExecutor
from hybrid.train.ce import CrossEntropy
from hybrid.train.schedule import ScheduleConfig
from hybrid.train.trainer import Loss, Trainer, TrainerConfig

DIM, PDFS = 6, 11
SHAPES = {
    "plain": {},
    "one": {"strides": [1], "context": 0},
    "deep": {"strides": [1, 1, 1, 0, 3, 3], "context": 2},
    "no bypass": {"bypass": 0.0, "strides": [1, 0, 3]},
    "dropout": {"dropout": 0.3},
}


def model_of(**changes) -> TdnnfModel:
    """Running statistics as after some training: those of a few batches."""
    values = {"input_dim": DIM, "num_pdfs": PDFS, "hidden": 16, "bottleneck": 5, "small": 7, "big": 12}
    values.update({"strides": [1, 1, 3], **changes})
    model = TdnnfModel(TdnnfConfig.from_dict(values), seed=3)
    model.set_input_stats(np.linspace(-1, 1, DIM), np.linspace(0.5, 2, DIM))
    for _ in range(3):
        batch = collate(utterances_of(20, 11))
        model(batch.features, batch.lengths)
        model.add_statistics(model.batch_statistics())
    return model


def utterances_of(*lengths: int) -> list:
    rng = np.random.default_rng(0)
    return [
        Utterance(f"u{n}", rng.normal(size=(t, DIM)).astype(np.float32), rng.integers(0, PDFS, size=t))
        for n, t in enumerate(lengths)
    ]


# --- the forward pass against a slow one, utterance by utterance and frame by frame


def slow_norm(norm: BatchNorm, rows: list) -> list:
    mean, variance = norm.mean.double().numpy(), norm.variance.double().numpy()
    return [(row - mean) / np.sqrt(variance + EPSILON) for row in rows]


def slow_forward(model: TdnnfModel, features: np.ndarray, head: str) -> np.ndarray:
    """In evaluation mode, from the formulas of the module; every layer at 10 ms until the last of stride 1 is done."""
    config = model.config
    arrays = {name: value.detach().double().numpy() for name, value in model.named_parameters()}

    def at(rows, t):
        return rows[min(max(t, 0), len(rows) - 1)]

    x = (features - model.input_mean.numpy()) * model.input_scale.numpy()
    h = list(x.astype(np.float64).reshape(-1, config.input_dim // 3))
    w, b = arrays["first.affine.weight"], arrays["first.affine.bias"]
    context = range(-config.context, config.context + 1)
    h = [np.maximum(w @ np.concatenate([at(h, t + k) for k in context]) + b, 0) for t in range(len(h))]
    h = slow_norm(model.first.norm, h)
    for number, stride in enumerate(config.strides):
        name, layer = f"factored.{number}.", model.factored[number]
        linear, w, b = (arrays[name + part] for part in ("linear", "affine.weight", "affine.bias"))
        step = 1 if stride else 0  # one frame at the layer's own rate
        if stride:
            ab = np.split(linear, 2, axis=1)
            z = [ab[0] @ at(h, t - step) + ab[1] @ h[t] for t in range(len(h))]
            y = [np.maximum(w @ np.concatenate([z[t], at(z, t + step)]) + b, 0) for t in range(len(h))]
        else:
            y = [np.maximum(w @ (linear @ row) + b, 0) for row in h]
        h = [config.bypass * a + c for a, c in zip(h, slow_norm(layer.norm, y))]
        if number == config.fine_layers - 1:
            h = h[1::3]
    h = [arrays["linear"] @ row for row in h]
    prefinal = getattr(model, f"{head}_prefinal")
    w, b = arrays[f"{head}_prefinal.affine.weight"], arrays[f"{head}_prefinal.affine.bias"]
    h = slow_norm(prefinal.norm, [np.maximum(w @ row + b, 0) for row in h])
    h = slow_norm(prefinal.last_norm, [arrays[f"{head}_prefinal.linear"] @ row for row in h])
    return np.stack([arrays[f"{head}.weight"] @ row + arrays[f"{head}.bias"] for row in h])


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_equals_the_slow_one(shape):
    model = model_of(xent_head=True, **SHAPES[shape]).eval()
    batch = collate(utterances_of(9, 1, 4, 2))
    with torch.no_grad():
        outputs = model(batch.features, batch.lengths)
    for row, utterance in enumerate(batch.utterances):
        for head, name in (("logits", "output"), ("xent", "xent")):
            wanted = slow_forward(model, utterance.features, name)
            found = outputs[head][row, : utterance.num_frames].double().numpy()
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_neither_padding_nor_company_matters(shape):
    model = model_of(xent_head=True, **SHAPES[shape]).eval()
    utterances = utterances_of(14, 3, 9, 1, 14)
    with torch.no_grad():
        batch = collate(utterances)
        padded = torch.cat((batch.features, torch.full((5, 4, DIM), float("nan"))), dim=1)
        together = model(padded, batch.lengths)
        assert together["logits"].shape == together["xent"].shape == (5, 18, PDFS)
        for row, utterance in enumerate(batch.utterances):
            alone = collate([utterance])
            for head, value in model(alone.features, alone.lengths).items():
                found = together[head][row, : utterance.num_frames]
                torch.testing.assert_close(found, value[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strides, context", [([1], 0), ([1], 2), ([1, 1, 1], 1), ([1, 0, 3], 1), ([1, 1, 3, 3], 0)])
def test_an_output_sees_its_reach_and_no_more(strides, context):
    model = model_of(strides=strides, context=context, hidden=64, bottleneck=24).eval()
    frames = 15
    x = torch.from_numpy(utterances_of(frames)[0].features)[None].double()
    model.double()
    lengths = torch.tensor([frames])
    with torch.no_grad():
        before = model(x, lengths)["logits"][0]
        for fine in range(3 * frames):
            changed = x.clone()
            changed.view(-1, DIM // 3)[fine] += 3.0
            seen = (model(changed, lengths)["logits"][0] != before).any(dim=1)
            # Output t is centred on the middle one of its three fine frames.
            wanted = [abs(3 * t + 1 - fine) <= model.config.reach for t in range(frames)]
            assert seen.tolist() == wanted, fine


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_reach_every_parameter(shape):
    model = model_of(xent_head=True, **SHAPES[shape])
    batch = collate(utterances_of(30, 25))
    outputs = model(batch.features, batch.lengths)
    sum(CrossEntropy(head=head)(outputs, batch).value for head in outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name


def test_gradients_against_finite_differences():
    model = model_of(strides=[1, 1, 0, 3], hidden=6, bottleneck=2, small=3, big=5).double()
    batch = collate(utterances_of(5, 3))
    weight = torch.randn(2, 5, PDFS, dtype=torch.float64)
    inputs = batch.features.double()

    def value(*_):
        return (model(inputs, batch.lengths)["logits"] * weight).sum()

    assert torch.autograd.gradcheck(value, tuple(model.parameters()), eps=1e-7, atol=1e-4)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.sampled_from([1, 3]))
@settings(max_examples=50, deadline=None)
def test_neighbours_are_those_of_the_utterance(lengths, rate):
    frames = packed(torch.tensor(lengths), rate)
    rows = [(n, t, length * rate) for n, length in enumerate(lengths) for t in range(length * rate)]
    x = torch.tensor([[100.0 * n + t] for n, t, _ in rows]).view(-1, 1)
    assert frames.utterance.tolist() == [n for n, _, _ in rows]
    assert frames.before(x).flatten().tolist() == [100 * n + max(t - 1, 0) for n, t, _ in rows]
    assert frames.after(x).flatten().tolist() == [100 * n + min(t + 1, length - 1) for n, t, length in rows]


# --- batch norm


def test_statistics_are_of_the_frames_that_count():
    """The first layer's, of a padded batch, against numpy over each utterance's own frames."""
    model = model_of(strides=[1])
    norm = model.first.norm
    batch = collate(utterances_of(9, 4, 1))
    batch.features[1, 4:] = 1e6  # padding
    heard = []
    model.first.affine.register_forward_hook(lambda module, inputs, output: heard.append(output.detach()))
    model(batch.features, batch.lengths)
    rows = torch.relu(heard[0]).double().numpy()
    assert len(rows) == 3 * (9 + 4 + 1) and rows.max() < 1e3
    mean, variance, frames = norm.statistics
    assert frames == len(rows)
    np.testing.assert_allclose(mean.numpy(), rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance.numpy(), rows.var(0), rtol=1e-4, atol=1e-5)
    wanted = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + EPSILON)
    found = norm(torch.relu(heard[0]))
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_running_statistics_against_weighted_samples():
    """All frames so far in one sample, those of a batch weighted by DECAY^(batches since)."""
    rng = np.random.default_rng(1)
    norm = BatchNorm(4)
    rows, weights = np.zeros((0, 4)), np.zeros(0)
    for frames in (5, 1, 30, 8):
        x = rng.normal(size=(frames, 4)) * [0.1, 1.0, 3.0, 1.0] + [5.0, 0.0, -1.0, frames]
        norm(torch.from_numpy(x.astype(np.float32)))
        norm.add(norm.statistics)
        rows, weights = np.concatenate((rows, x)), np.concatenate((weights * DECAY, np.ones(frames)))
        mean = np.average(rows, axis=0, weights=weights)
        np.testing.assert_allclose(norm.mean.numpy(), mean, rtol=1e-4, atol=1e-4)
        variance = np.average((rows - mean) ** 2, axis=0, weights=weights)
        np.testing.assert_allclose(norm.variance.numpy(), variance, rtol=1e-3, atol=1e-4)
        assert float(norm.frames) == pytest.approx(weights.sum(), rel=1e-5)
    x = torch.randn(3, 4)
    wanted = (x - norm.mean) / (norm.variance + EPSILON).sqrt()
    torch.testing.assert_close(norm.eval()(x), wanted)


def test_a_forward_pass_alone_leaves_the_running_statistics():
    model = model_of()
    before = {name: value.clone() for name, value in model.named_buffers()}
    batch = collate(utterances_of(5))
    model(batch.features, batch.lengths)
    model.eval()(batch.features, batch.lengths)
    assert before and all(value.equal(before[name]) for name, value in model.named_buffers())


# --- dropout


def test_dropout_is_one_factor_for_all_frames_of_an_utterance():
    torch.manual_seed(0)
    frames = packed(torch.tensor([4, 2]), 3)
    factors = continuous_dropout(torch.ones(18, 2000), frames, 0.2)
    assert factors[:12].eq(factors[0]).all() and factors[12:].eq(factors[12]).all()
    assert not factors[0].eq(factors[12]).any()
    assert 0.6 <= float(factors.min()) < 0.62 and 1.38 < float(factors.max()) <= 1.4
    # Uniform over [0.6, 1.4]: mean 1, variance 0.8^2 / 12.
    assert float(factors[0].mean()) == pytest.approx(1, abs=0.03)
    assert float(factors[0].var()) == pytest.approx(0.8**2 / 12, rel=0.1)


def test_set_dropout():
    model = model_of(dropout=0.3)
    batch = collate(utterances_of(9, 5))
    outputs = [model(batch.features, batch.lengths)["logits"] for _ in range(2)]
    assert not outputs[0].equal(outputs[1])
    model.set_dropout(0)
    outputs = [model(batch.features, batch.lengths)["logits"] for _ in range(2)]
    assert outputs[0].equal(outputs[1]) and model.config.dropout == 0.3
    with pytest.raises(ConfigError, match="dropout is 0.6"):
        model.set_dropout(0.6)


# --- training


def train(model, utterances, folder, **settings) -> Trainer:
    config = TrainerConfig(**{"lr": 1e-2, "schedule": ScheduleConfig("constant"), **settings})
    batches = Batches(utterances, 100, seed=1)
    trainer = Trainer(model, CrossEntropy(), batches, batches, config, folder, log=lambda message: None)
    trainer.fit()
    return trainer


def test_overfits_a_batch_and_stays_semi_orthogonal(tmp_path):
    model = model_of(hidden=32, bottleneck=8, small=16, big=24)
    seen = []
    trainer = train(model, utterances_of(24, 17, 20), tmp_path / "a", epochs=60)
    assert trainer.evaluate().means()["frame_accuracy"] == 1.0
    matrices = model.semi_orthogonal()
    assert len(matrices) == 3 + 2 and matrices["factored.0.linear"].shape == (8, 64)
    bound = {name: deviation(value) for name, value in matrices.items()}
    assert max(bound.values()) < 0.1, bound
    free = model_of(hidden=32, bottleneck=8, small=16, big=24)
    free.after_update = seen.append
    train(free, utterances_of(24, 17, 20), tmp_path / "b", epochs=60)
    assert seen == list(range(len(seen))) and len(seen) >= 60
    for name, value in free.semi_orthogonal().items():
        assert deviation(value) > 2 * bound[name], name


def test_the_constraint_comes_every_few_updates():
    model = model_of()
    with torch.no_grad():
        for matrix in model.semi_orthogonal().values():
            matrix.add_(0.1 * torch.randn_like(matrix))
    states = [copy.deepcopy(model.state_dict())]
    for update in range(1, EVERY + 1):
        model.after_update(update)
        states.append(copy.deepcopy(model.state_dict()))
    for name in states[0]:
        assert all(state[name].equal(states[0][name]) for state in states[:EVERY]), name
        assert states[EVERY][name].equal(states[0][name]) == (name.split(".")[-1] != "linear"), name


def test_seed_fixes_the_parameters_and_nothing_else():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, two = (TdnnfModel(TdnnfConfig(DIM, PDFS), seed=1) for _ in range(2))
    assert torch.rand(3).equal(wanted)
    assert all(a.equal(b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    for name, matrix in one.semi_orthogonal().items():
        assert deviation(matrix) < 1e-5, name


class Killed(Exception):
    pass


def kill_at(update: int):
    def on_update(trainer):
        if trainer.state.update == update:
            raise Killed

    return on_update


def small_training(folder, *, workers=1, **more) -> Trainer:
    settings = {"epochs": 3, "lr": 1e-2, "accumulate": 2, "checkpoint_updates": 3}
    config = TrainerConfig(**settings, workers=workers, dropout_schedule="0,0.3@0.4,0")
    model = TdnnfModel(TdnnfConfig(DIM, PDFS, hidden=8, bottleneck=3, small=4, big=8, strides=(1, 3)), seed=1)
    train = Batches(utterances_of(9, 12, 4, 7, 11, 8, 5, 6), 20, seed=5)
    dev = Batches(utterances_of(10, 8), 20, shuffle=False)
    return Trainer(model, CrossEntropy(), train, dev, config, folder, 9, log=lambda message: None, **more)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_numbers_of_a_training_are_those_of_an_undisturbed_one(tmp_path, workers):
    """Killed and begun again, or shared out over two processes: parameters and running statistics, bit for bit."""
    wanted = small_training(tmp_path / "whole").fit().state_dict()
    if workers == 1:
        with pytest.raises(Killed):
            small_training(tmp_path / "again", on_update=kill_at(4)).fit()
    found = small_training(tmp_path / "again", workers=workers).fit().state_dict()
    assert all(found[name].equal(value) for name, value in wanted.items())
    assert float(wanted["first.norm.frames"]) > 3 * 20


class Spoilt:
    """Cross-entropy, but NaN for a batch with the given utterance."""

    def __call__(self, output, batch):
        loss = CrossEntropy()(output, batch)
        return Loss(loss.value * float("nan"), loss.frames, loss.stats) if "huge" in batch.ids else loss


def test_a_bad_batch_leaves_no_trace_in_the_running_statistics(tmp_path):
    huge = Utterance("huge", np.full((9, DIM), 1e6, dtype=np.float32), np.zeros(9, dtype=np.int64))
    trainer = small_training(tmp_path)
    trainer.criterion = Spoilt()
    trainer.train = Batches([*utterances_of(9, 12, 4), huge], 1, seed=5)
    model = trainer.fit()
    assert trainer.state.skipped == 3
    assert float(model.first.norm.mean.abs().max()) < 100


# --- settings


@pytest.mark.parametrize(
    "values, message",
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"bottleneck": 1.5}, "bottleneck is 1.5"),
        ({"small": True}, "small is True"),
        ({"context": -1}, "context is -1"),
        ({"input_dim": 64}, "input_dim is 64, which is not 3 frames"),
        ({"strides": []}, r"strides is \[\]"),
        ({"strides": 3}, "strides is 3"),
        ({"strides": [3, 3]}, r"strides is \[3, 3\]"),
        ({"strides": [1, 3, 1]}, r"strides is \[1, 3, 1\]"),
        ({"strides": [1, 2]}, r"strides is \[1, 2\]"),
        ({"dropout": 0.6}, "dropout is 0.6"),
        ({"dropout": "much"}, "dropout is 'much'"),
        ({"bypass": -0.1}, "bypass is -0.1"),
        ({"layers": 3}, "unknown setting of a TDNN-F: layers"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ConfigError, match=message):
        TdnnfConfig.from_dict({"input_dim": 6, "num_pdfs": 11, **values})


def test_settings_go_through_json():
    with pytest.raises(ConfigError, match="a TDNN-F needs num_pdfs"):
        TdnnfConfig.from_dict({"input_dim": 6})
    config = TdnnfConfig(6, 11, strides=(1, 3))
    assert TdnnfConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("mean, std", [(np.zeros(5), np.ones(6)), (np.zeros(6), np.full(6, np.nan))])
def test_bad_input_stats(mean, std):
    with pytest.raises(DataError):
        model_of().set_input_stats(mean, std)


def test_size_of_the_defaults():
    model = TdnnfModel(TdnnfConfig(192, 400))
    layers = 8 * 4 * 384 * 64 + 2 * 384 * 64 + 9 * 384  # of factored layers, one of them without neighbours
    around = (192 * 384 + 384) + 128 * 384 + (2 * 128 * 384 + 384) + 400 * 129
    assert sum(parameter.numel() for parameter in model.parameters()) == layers + around == 1_112_592


# --- on disk


def test_save_and_load(tmp_path):
    model = model_of(xent_head=True, strides=[1, 0, 3])
    model_io.save_model(tmp_path / "m", model, config={"seed": 3})
    loaded, config = model_io.load_model(tmp_path / "m")
    assert config["kind"] == loaded.kind == "tdnnf" and loaded.config == model.config and not loaded.training
    batch = collate(utterances_of(7, 4))
    wanted = model.eval()(batch.features, batch.lengths)
    found = loaded(batch.features, batch.lengths)
    assert found.keys() == wanted.keys() == {"logits", "xent"} and all(found[k].equal(wanted[k]) for k in found)


def test_broken_settings_on_disk(tmp_path):
    model_io.save_model(tmp_path / "m", model_of())
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "model": {**config["model"], "strides": [2]}}))
    with pytest.raises(ModelError, match=r"strides is \[2\]") as caught:
        model_io.load_model(tmp_path / "m")
    assert str(path) in str(caught.value)


def test_loglikes_from_workers():
    model = model_of()
    utterances = utterances_of(3, 12, 7)
    plain = compute_loglikes(model, utterances)
    dealt = compute_loglikes(model, utterances, executor=SerialExecutor(), jobs=2)
    for utterance in utterances:
        np.testing.assert_allclose(dealt[utterance.id], plain[utterance.id], atol=1e-4)
