"""Networks as ONNX: the numbers of torch, whatever the network, the length and the rest of the batch."""

from __future__ import annotations

import sys
from typing import Any, Dict

import numpy as np
import pytest
import torch

from hybrid.errors import MissingDependency, ModelError
from hybrid.nnet.model_io import build_model, state_arrays
from hybrid.nnet.onnx_export import onnx_bytes

DIM, PDFS = 12, 7
LSTM: Dict[str, Any] = {"hidden": 10, "layers": 2}
TDNNF: Dict[str, Any] = {"hidden": 16, "bottleneck": 4, "small": 8, "big": 16}
NETWORKS = [
    ("lstm", {}),
    ("lstm", {"bidirectional": True}),
    ("lstm", {"bidirectional": True, "layer_norm": True, "xent_head": True}),
    ("lstm", {"delay": 3}),
    ("lstm", {"proj": 5}),
    ("lstm", {"proj": 5, "bidirectional": True, "layer_norm": True}),
    ("lstm", {"input_layer_dim": 9, "input_layer_context": 2, "bidirectional": True}),
    ("lstm", {"input_layer_dim": 9, "proj": 4, "delay": 2}),
    ("tdnnf", {}),
    ("tdnnf", {"strides": [1, 0, 3], "context": 2, "bypass": 0.5}),
    ("tdnnf", {"strides": [1], "context": 0}),
    ("tdnnf", {"strides": [1, 1, 3, 0], "xent_head": True}),
]


def network(kind: str, more: Dict[str, Any]) -> torch.nn.Module:
    """One whose every parameter and statistic counts."""
    model = build_model(kind, {"input_dim": DIM, "num_pdfs": PDFS, **(LSTM if kind == "lstm" else TDNNF), **more}, 1)
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith(("variance", "scale")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("mean", "bias")) or "bias_" in name:
            value.normal_(0.0, 0.3, generator=generator)
    return model.eval()


@pytest.mark.parametrize("kind, more", NETWORKS, ids=lambda value: str(value))
def test_onnxruntime_gives_torchs_numbers(kind: str, more: Dict[str, Any]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = network(kind, more)
    data = onnx_bytes(kind, model.config.to_dict(), state_arrays(model))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)
    spread = []
    for lengths in ([1], [2], [3], [40], [9, 4, 1], [20, 20, 2]):
        x, sizes = torch.randn(len(lengths), max(lengths), DIM, generator=generator), torch.tensor(lengths)
        with torch.no_grad():
            wanted = model(x, sizes)["logits"].numpy()
        (found,) = session.run(["logits"], {"features": x.numpy(), "lengths": sizes.numpy()})
        assert found.shape == wanted.shape and found.dtype == np.float32
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(found[row, :length], wanted[row, :length], atol=1e-4)
            spread.append(float(wanted[row, :length].std()))
    assert min(spread) > 0.05  # else a constant would do


def test_an_output_does_not_depend_on_the_padding() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    for kind, more in NETWORKS:
        model = network(kind, more)
        data = onnx_bytes(kind, model.config.to_dict(), state_arrays(model))
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        x = np.random.default_rng(2).standard_normal((1, 9, DIM)).astype(np.float32)
        (alone,) = session.run(None, {"features": x, "lengths": np.array([9])})
        padded = np.full((2, 15, DIM), 50.0, np.float32)
        padded[0, :9] = x
        (found,) = session.run(None, {"features": padded, "lengths": np.array([9, 15])})
        np.testing.assert_allclose(found[0, :9], alone[0], atol=1e-5)


def test_a_kind_without_an_onnx_form() -> None:
    pytest.importorskip("onnx")
    with pytest.raises(ModelError, match="the kind 'gru' has no ONNX form"):
        onnx_bytes("gru", {}, {})


def test_without_the_package_its_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match=r"hybrid-asr\[onnx\]"):
        onnx_bytes("lstm", {}, {})
