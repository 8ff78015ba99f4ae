"""Products in float32, TF32 and bfloat16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_trainer import DIM, PDFS, SETTINGS, trainer_of

from hybrid.data.batches import Utterance
from hybrid.errors import ConfigError
from hybrid.io import read_jsonl
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.nnet.precision import outputs_in, products_in
from hybrid.nnet.tdnnf import TdnnfConfig, TdnnfModel

MODELS = {
    "lstm": lambda: LstmModel(LstmConfig(DIM, PDFS, hidden=24, layers=2, bidirectional=True), seed=1),
    "tdnnf": lambda: TdnnfModel(TdnnfConfig(9, PDFS, hidden=32, bottleneck=8), seed=1),
}
CONFIG = replace(SETTINGS, epochs=2, accumulate=1, average=0, parallel_directions=True)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_float32_and_near_those_of_float32(name):
    model, lengths = MODELS[name]().train(name == "tdnnf"), torch.tensor([30, 21, 9])
    x = torch.randn(3, 30, model.config.input_dim)
    with torch.no_grad():
        wanted = model(x, lengths)["logits"]
        found = {kind: outputs_in(kind, model, x, lengths)["logits"] for kind in ("float32", "tf32", "bf16")}
    assert all(y.dtype == torch.float32 for y in found.values())
    assert torch.equal(found["float32"], wanted) and torch.equal(found["tf32"], wanted)  # on the CPU
    off = (found["bf16"] - wanted).norm() / wanted.norm()
    assert 1e-5 < off < 0.06


def test_a_teachers_outputs_in_another_precision():
    model = MODELS["lstm"]()
    data = [Utterance(str(n), np.random.default_rng(n).standard_normal((20 + n, DIM), np.float32)) for n in range(3)]
    wanted, found = (compute_loglikes(model, data, precision=kind) for kind in ("float32", "bf16"))
    assert found.keys() == wanted.keys() == {"0", "1", "2"}
    for name, x in wanted.items():
        assert found[name].dtype == np.float32
        off = np.linalg.norm(found[name] - x) / np.linalg.norm(x)
        assert 1e-5 < off < 0.06


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_bfloat16_products_point_the_same_way(name):
    def gradient(precision):
        model = MODELS[name]().train()
        torch.manual_seed(0)
        x, lengths = torch.randn(4, 30, model.config.input_dim), torch.tensor([30, 30, 21, 9])
        outputs_in(precision, model, x, lengths)["logits"].log_softmax(-1)[..., 0].sum().backward()
        assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    one, two = gradient("float32"), gradient("bf16")
    assert torch.nn.functional.cosine_similarity(one, two, dim=0) > 0.97 and not torch.equal(one, two)


def test_training_in_bfloat16_learns_as_much(tmp_path):
    losses = {}
    for precision in ("float32", "bf16"):
        model = trainer_of(tmp_path / precision, replace(CONFIG, precision=precision), model=MODELS["lstm"]()).fit()
        assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())
        rows = read_jsonl(tmp_path / precision / "log.jsonl")
        losses[precision] = [row["loss"] for row in rows if row["split"] == "dev"]
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.05) and losses["bf16"] != losses["float32"]


def test_a_checkpoint_of_another_precision_is_refused(tmp_path):
    def stop(trainer):
        raise KeyboardInterrupt

    config = replace(CONFIG, checkpoint_updates=1, precision="bf16")
    with pytest.raises(KeyboardInterrupt):
        trainer_of(tmp_path, config, on_update=stop).fit()
    with pytest.raises(ConfigError, match="other settings"):
        trainer_of(tmp_path, replace(config, precision="float32")).fit()


def test_settings_of_torch_come_back():
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32
    for precision, wanted in (("float32", False), ("tf32", True), ("bf16", True)):
        with pytest.raises(ZeroDivisionError), products_in(precision):
            assert (cuda.allow_tf32, cudnn.allow_tf32) == (wanted, wanted)
            raise ZeroDivisionError
        assert (cuda.allow_tf32, cudnn.allow_tf32) == before


def test_an_unknown_precision():
    with pytest.raises(ConfigError, match="fp16"):
        replace(CONFIG, precision="fp16")
