from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hybrid.cpu import prefer_fast_kernels
from hybrid.data.batches import Utterance, collate
from hybrid.errors import ConfigError, DataError, DiskError, HybridError, ModelError
from hybrid.io import load_tensors, save_tensors
from hybrid.nnet import model_io, recurrence
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.nnet.recurrence import directions_in_parallel, lstm_both, lstm_direction, reversal, take
from hybrid.parallel import SerialExecutor

SHAPES = {
    "uni": {},
    "bi": {"bidirectional": True},
    "delay": {"delay": 3},
    "proj": {"proj": 5},
    "bi-proj": {"proj": 5, "bidirectional": True},
    "front": {"input_layer_dim": 7, "input_layer_context": 2},
    "norm": {"layer_norm": True, "bidirectional": True},
    "dropout": {"dropout": 0.5, "locked_dropout": True},
}


def model_of(**changes) -> LstmModel:
    config = {"input_dim": 6, "num_pdfs": 11, "hidden": 8, "layers": 2, **changes}
    model = LstmModel(LstmConfig(**config), seed=3)
    model.set_input_stats(np.linspace(-1, 1, 6), np.linspace(0.5, 2, 6))
    return model


def utterances_of(*lengths: int) -> list:
    rng = np.random.default_rng(0)
    return [Utterance(f"u{n}", rng.normal(size=(t, 6)).astype(np.float32)) for n, t in enumerate(lengths)]


# --- the recursion against torch's own


def test_direction_equals_torch():
    torch.manual_seed(0)
    layer = nn.LSTM(5, 7).double()
    x = torch.randn(9, 3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 3, 7, dtype=torch.float64)
    wanted, found = layer(x)[0], lstm_direction(layer, x)
    torch.testing.assert_close(found, wanted)
    of = [x, *layer.parameters()]
    ours, theirs = (torch.autograd.grad((output * weight).sum(), of) for output in (found, wanted))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_direction_against_finite_differences():
    torch.manual_seed(1)
    layer = nn.LSTM(2, 3).double()
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: lstm_direction(layer, x), (x, *layer.parameters()))


@pytest.mark.parametrize("frames", [0, 1])
def test_direction_of_few_frames(frames):
    layer = nn.LSTM(2, 3)
    x = torch.randn(frames, 2, 2)
    if frames == 0:
        with pytest.raises(RuntimeError):
            lstm_direction(layer, x)
        return
    lstm_direction(layer, x).sum().backward()
    assert torch.equal(layer.weight_hh_l0.grad, torch.zeros(12, 3))


@pytest.mark.parametrize("frozen", [False, True])
def test_directions_in_two_threads_give_the_same_bits(frozen):
    model = model_of(bidirectional=True)
    batch = collate(utterances_of(12, 5, 9))
    for parameter in model.forward_layers[0].parameters():
        parameter.requires_grad_(not frozen)

    def gradients():
        model.zero_grad(set_to_none=True)
        logits = model(batch.features, batch.lengths)["logits"]
        logits.square().sum().backward()
        return [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]

    one = gradients()
    with directions_in_parallel():
        gradients()  # the first call of a process is made by one thread
        two = gradients()
    assert len(one) == len(two) > 9 and all(torch.equal(a, b) for a, b in zip(one, two))


SAME_PRODUCTS = """
import torch
from torch import nn
from hybrid.nnet.recurrence import directions_in_parallel, lstm_both, reversal

torch.manual_seed(0)
torch.set_num_threads(1)
layers = nn.LSTM(256, 128), nn.LSTM(256, 128)
for frames in range(130, 194, 3):
    x = torch.randn(frames, 1, 256, requires_grad=True)
    index, weight = reversal(torch.tensor([frames]), frames), torch.randn(frames, 1, 256)
    found = []
    for parallel in (False, True):
        with directions_in_parallel(parallel):
            y = lstm_both(*layers, x, index)
        found.append(torch.autograd.grad((y * weight).sum(), [x, *layers[1].parameters()]))
    assert all(torch.equal(a, b) for a, b in zip(*found)), frames
"""


def test_the_second_thread_does_its_matrix_products_as_the_first():
    # Too small for torch to look at the number of threads before the product, which over two cores has other sums.
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", SAME_PRODUCTS], check=True, env=environment, timeout=120)


def test_first_calls_are_made_by_one_thread(monkeypatch):
    """Those in which libraries prepare themselves, which is not safe in two."""
    monkeypatch.setattr(recurrence, "_called", set())
    threads = []

    def work(number):
        threads.append(threading.get_ident())
        return [number]

    for _ in range(2):
        assert recurrence._two_threads(work, (1,), (2,)) == ([1], [2])
    here = threading.get_ident()
    assert threads[:2] == [here, here] and here in threads[2:] and len(set(threads[2:])) == 2


def test_an_error_in_the_second_thread_is_raised():
    layers = nn.LSTM(2, 3), nn.LSTM(2, 3)
    x, index = torch.randn(4, 2, 2), reversal(torch.tensor([4, 3]), 4)
    layers[1].weight_hh_l0 = nn.Parameter(torch.zeros(12, 2))
    with directions_in_parallel(), pytest.raises(RuntimeError):
        lstm_both(*layers, x, index)


def test_bidirectional_equals_packed_torch():
    model = model_of(bidirectional=True)
    oracle = nn.LSTM(6, 8, num_layers=2, bidirectional=True)
    with torch.no_grad():
        for number in range(2):
            for layers, suffix in ((model.forward_layers, ""), (model.backward_layers, "_reverse")):
                for name, value in layers[number].named_parameters():
                    getattr(oracle, f"{name[:-1]}{number}{suffix}").copy_(value)
    batch = collate(utterances_of(12, 5, 9))
    x = (batch.features - model.input_mean) * model.input_scale
    packed = pack_padded_sequence(x, batch.lengths, batch_first=True)
    wanted = model.output(pad_packed_sequence(oracle(packed)[0], batch_first=True)[0])
    found = model.eval()(batch.features, batch.lengths)["logits"]
    for row, length in enumerate(batch.lengths.tolist()):
        torch.testing.assert_close(found[row, :length], wanted[row, :length], atol=1e-5, rtol=1e-5)


def test_reversal():
    index = reversal(torch.tensor([3, 2]), 3)
    assert index.tolist() == [[2, 1], [1, 0], [0, 2]]
    x = torch.arange(6).view(3, 2, 1)
    assert take(take(x, index), index).equal(x)


# --- the model


@pytest.mark.parametrize("shape", SHAPES)
def test_neither_padding_nor_company_matters(shape):
    model = model_of(xent_head=True, **SHAPES[shape]).eval()
    utterances = utterances_of(14, 3, 9, 1, 14)
    with torch.no_grad():
        batch = collate(utterances)
        padded = torch.cat((batch.features, torch.full((5, 4, 6), 1e3)), dim=1)
        together = model(padded, batch.lengths)
        assert together["logits"].shape == together["xent"].shape == (5, 18, 11)
        for row, utterance in enumerate(batch.utterances):
            alone = collate([utterance])
            for head, value in model(alone.features, alone.lengths).items():
                found = together[head][row, : utterance.num_frames]
                torch.testing.assert_close(found, value[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_reach_every_parameter(shape):
    model = model_of(xent_head=True, **SHAPES[shape])
    batch = collate(utterances_of(9, 5))
    outputs = model(batch.features, batch.lengths)
    sum((value[:, :5] ** 2).sum() for value in outputs.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name


@pytest.mark.parametrize("delay", [0, 2])
def test_look_ahead_is_the_delay(delay):
    model = model_of(delay=delay).eval()
    x = torch.from_numpy(utterances_of(10)[0].features)[None]
    changed = x.clone()
    changed[0, 7] += 1
    lengths = torch.tensor([10])
    with torch.no_grad():
        same = (model(x, lengths)["logits"] == model(changed, lengths)["logits"]).all(dim=-1)[0]
    assert same.tolist() == [t + delay < 7 for t in range(10)]


def test_seed_fixes_the_parameters_and_nothing_else():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, two = model_of(), model_of()
    assert torch.rand(3).equal(wanted)
    assert all(a.equal(b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_locked_dropout_is_one_mask_for_all_frames():
    model = model_of(dropout=0.5, locked_dropout=True)
    dropped = model._drop(torch.ones(7, 3, 40))
    assert dropped.eq(dropped[:1]).all() and 0 < int(dropped[0].eq(0).sum()) < 120


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"layers": 1.5}, "layers is 1.5"),
        ({"num_pdfs": True}, "num_pdfs is True"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"proj": 8}, "proj is 8, hidden 8"),
        ({"delay": 2, "bidirectional": True}, "delay is 2"),
        ({"widht": 3}, "unknown setting of an LSTM: widht"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        LstmConfig.from_dict({"input_dim": 6, "num_pdfs": 11, "hidden": 8, **settings})
    with pytest.raises(ConfigError, match="needs num_pdfs"):
        LstmConfig.from_dict({"input_dim": 6})


@pytest.mark.parametrize("mean, std", [(np.zeros(5), np.ones(6)), (np.zeros(6), np.full(6, np.nan))])
def test_bad_input_stats(mean, std):
    with pytest.raises(DataError):
        model_of().set_input_stats(mean, std)


# --- on disk


@pytest.mark.parametrize("shape", SHAPES)
def test_save_and_load(tmp_path, shape):
    model = model_of(xent_head=True, **SHAPES[shape])
    folder = tmp_path / "model"
    for _ in range(2):  # the second replaces the first
        model_io.save_model(
            folder, model, config={"seed": 3}, features={"mel": 64}, writers={"senones": lambda path: path.mkdir()}
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "features.json", "model.safetensors", "senones"]
    loaded, config = model_io.load_model(folder)
    assert config["kind"] == "lstm" and config["seed"] == 3 and not loaded.training
    batch = collate(utterances_of(7, 4))
    wanted = model.eval()(batch.features, batch.lengths)["logits"]
    assert loaded(batch.features, batch.lengths)["logits"].equal(wanted)


def _break(folder, how):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    arrays = load_tensors(folder / "model.safetensors")
    if how == "no config":
        path.unlink()
    elif how == "not JSON":
        path.write_text("{")
    elif how == "no dictionary":
        path.write_text("[]")
    elif how == "kind":
        path.write_text(json.dumps({**config, "kind": "tdnn"}))
    elif how == "format":
        path.write_text(json.dumps({**config, "format": 99}))
    elif how == "setting":
        path.write_text(json.dumps({**config, "model": {**config["model"], "hidden": -1}}))
    elif how == "no tensors":
        (folder / "model.safetensors").unlink()
    elif how == "truncated":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10])
    elif how == "missing":
        save_tensors(folder / "model.safetensors", {k: v for k, v in arrays.items() if k != "output.bias"})
    elif how == "unknown":
        save_tensors(folder / "model.safetensors", {**arrays, "extra": np.zeros(2)})
    elif how == "shape":
        save_tensors(folder / "model.safetensors", {**arrays, "output.bias": np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    "how, message",
    [
        ("no config", "no such file"),
        ("not JSON", "not JSON"),
        ("no dictionary", "not the configuration"),
        ("kind", "unknown kind of model 'tdnn'"),
        ("format", "format 99"),
        ("setting", "hidden is -1"),
        ("no tensors", "no such file"),
        ("truncated", "not a safetensors file"),
        ("missing", "output.bias is missing"),
        ("unknown", "extra is unknown"),
        ("shape", r"output.bias has the shape \[3\] instead of \[11\]"),
    ],
)
def test_broken_models(tmp_path, how, message):
    model_io.save_model(tmp_path / "m", model_of())
    _break(tmp_path / "m", how)
    with pytest.raises(ModelError, match=message) as caught:
        model_io.load_model(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value) and "Remedy" in str(caught.value)


def test_no_model_there(tmp_path):
    with pytest.raises(ModelError, match="no such model"):
        model_io.load_model(tmp_path / "m")


def test_a_failed_save_leaves_the_old_model(tmp_path):
    model_io.save_model(tmp_path / "m", model_of(), config={"old": 1})

    def fail(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskError, match="No space"):
        model_io.save_model(tmp_path / "m", model_of(), writers={"senones": fail})
    assert model_io.load_model(tmp_path / "m")[1]["old"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


# --- inference


def test_loglikes(tmp_path):
    model = model_of(bidirectional=True)
    model.train()
    utterances = utterances_of(3, 12, 7, 12, 5)
    priors = np.arange(1.0, 12.0) / 66.0
    plain = compute_loglikes(model, utterances)
    divided = compute_loglikes(model, utterances, priors, max_frames=20)
    dealt = compute_loglikes(model, utterances, priors, executor=SerialExecutor(), jobs=3)
    assert model.training and list(plain) == list(divided) == list(dealt) == [u.id for u in utterances]
    for utterance in utterances:
        logits = plain[utterance.id].astype(np.float64)
        assert logits.shape == (utterance.num_frames, 11) and plain[utterance.id].dtype == np.float32
        wanted = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)) - np.log(priors)
        np.testing.assert_allclose(divided[utterance.id], wanted, atol=1e-4)
        np.testing.assert_allclose(dealt[utterance.id], wanted, atol=1e-4)
    assert compute_loglikes(model, []) == {}


def _bad_output(model):
    with torch.no_grad():
        model.output.bias[0] = float("nan")


@pytest.mark.parametrize(
    "kind, arguments, spoil, message",
    [
        (DataError, {"utterances": [Utterance("wide", np.zeros((3, 9), np.float32))]}, None, "9 features a frame"),
        (ModelError, {"priors": np.ones(4) / 4}, None, "for 11 pdfs"),
        (ModelError, {"priors": np.zeros(11)}, None, "must be positive"),
        (ModelError, {"head": "xent"}, None, "no output 'xent'"),
        (ModelError, {}, _bad_output, "not finite"),
    ],
)
def test_bad_inference(kind, arguments, spoil, message):
    model = model_of()
    if spoil:
        spoil(model)
    with pytest.raises(HybridError, match=message) as caught:
        compute_loglikes(model, **{"utterances": utterances_of(4), **arguments})
    assert type(caught.value) is kind


# --- kernels


@pytest.mark.parametrize(
    "text, given, wanted",
    [
        ("vendor_id : AuthenticAMD\nflags : fpu fma avx avx2\n", None, "5"),
        ("vendor_id : AuthenticAMD\nflags : fpu avx\n", None, None),
        ("vendor_id : GenuineIntel\nflags : fpu fma avx avx2\n", None, None),
        ("vendor_id : AuthenticAMD\nflags : fpu fma avx avx2\n", "4", "4"),
    ],
)
def test_kernels_of_amd_processors(tmp_path, monkeypatch, text, given, wanted):
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "x")
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE")
    if given:
        monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", given)
    (tmp_path / "cpuinfo").write_text(text)
    import os

    assert prefer_fast_kernels(str(tmp_path / "cpuinfo")) == (wanted == "5")
    assert os.environ.get("MKL_DEBUG_CPU_TYPE") == wanted
    assert prefer_fast_kernels(str(tmp_path / "absent")) is False
