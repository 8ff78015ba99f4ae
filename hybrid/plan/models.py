"""Parameters and floating-point operations of an LSTM, counted from its settings without building it.

One direction of a layer with D inputs, H cells and R outputs (R = H, or `proj`) has, as torch.nn.LSTM lays it out,

    4 H D  input weights      4 H R  recurrent weights      8 H  biases (two of each gate)      R H  projection, if any

and a bidirectional layer has two of them; the next layer reads the 2 R outputs of both directions. The output layer is
R' P + P for P senones, R' being what the last layer gives. A frame multiplies by each weight once: 2 operations a
weight forward (biases, gates and normalisation are left out: below one percent at these widths), and twice that
backward, for the gradients of inputs and of weights. `delay` frames at the end of an utterance are left out, too.

What the paper's sizes say, for 192 inputs and 3,000 senones:

    5 x 768                    24,161,208     paper: 24 M
    5 x 768, bidirectional     67,193,784     paper: 78 M
    the same, directions never joined between layers   48.3 M
    6 x 768, bidirectional     81,361,848
    5 x 832, bidirectional     78,330,808

So the student's sizes and parameters agree; the teacher's do not, whichever way directions are joined: 78 M at five
layers needs some 830 cells a direction (or 10,000 senones). A plan takes 5 x 832, for parameters are what costs.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Mapping

from hybrid.errors import ConfigError, HybridError
from hybrid.io import read_json
from hybrid.nnet.lstm import LstmConfig

PAPER = {"teacher": 78e6, "student": 24e6}
_SPEC = re.compile(r"(\d+)x(\d+)(b?)")


@dataclass(frozen=True)
class Count:
    """`name` for tables; `parts`: what the parameters are made of; `weights`: those that a frame multiplies by."""

    name: str
    config: LstmConfig
    parts: Mapping[str, int]
    weights: int

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())

    @property
    def forward_flops(self) -> int:
        """The operations of a network frame, forward."""
        return 2 * self.weights

    @property
    def training_flops(self) -> int:
        return 3 * self.forward_flops

    def to_dict(self) -> Dict[str, Any]:
        return {
            "name": self.name,
            "config": asdict(self.config),
            "parts": dict(self.parts),
            "parameters": self.parameters,
            "forward_flops": self.forward_flops,
        }


def count(config: LstmConfig, name: str = "") -> Count:
    """Counts parameters and operations as the module's docstring says."""
    directions = 2 if config.bidirectional else 1
    hidden, out = config.hidden, config.proj or config.hidden
    parts: Dict[str, int] = {}
    weights, dim = 0, config.input_dim
    if config.input_layer_dim:
        matrix = dim * (2 * config.input_layer_context + 1) * config.input_layer_dim
        parts["front"], dim = matrix + config.input_layer_dim, config.input_layer_dim
        weights += matrix
    for number in range(1, config.layers + 1):
        matrices = 4 * hidden * (dim + out) + config.proj * hidden
        parts[f"layer {number}"] = directions * (matrices + 8 * hidden)
        weights += directions * matrices
        dim = config.output_dim
        if config.layer_norm:
            parts[f"layer {number}"] += 2 * dim
    for head in ("output", "xent")[: 2 if config.xent_head else 1]:
        parts[head] = (dim + 1) * config.num_pdfs
        weights += dim * config.num_pdfs
    return Count(name or _name(config), config, parts, weights)


def _name(config: LstmConfig) -> str:
    return f"{config.layers} x {config.hidden}{', bidirectional' if config.bidirectional else ''}"


def find_model(text: str, input_dim: int, num_pdfs: int) -> Count:
    """Counts the model that a text names.

    The text is `5x768`, `5x768b` (bidirectional), a model's folder, or a JSON with {"kind": "lstm", "model": {...}}.

    Raises ConfigError for what is none of these, is no LSTM, or has another number of senones than the plan.
    """
    match = _SPEC.fullmatch(text)
    if match:
        layers, hidden, bidirectional = int(match[1]), int(match[2]), bool(match[3])
        return count(LstmConfig(input_dim, num_pdfs, hidden=hidden, layers=layers, bidirectional=bidirectional))
    path = Path(text)
    if not path.exists():
        raise ConfigError(
            f"unknown model {text!r}", remedy="LAYERSxCELLS (5x768; 5x768b is bidirectional), or the folder of a model"
        )
    path = path / "config.json" if path.is_dir() else path
    return count(_read(path, num_pdfs), text)


def _read(path: Path, num_pdfs: int) -> LstmConfig:
    remedy = "give the folder of a trained LSTM, or LAYERSxCELLS"
    try:
        about = read_json(path)
    except HybridError as error:
        raise ConfigError(error.what, file=path, remedy=remedy) from error
    if not isinstance(about, dict) or not isinstance(about.get("model"), dict):
        raise ConfigError("not the configuration of a model", file=path, remedy=remedy)
    if about.get("kind", "lstm") != "lstm":
        raise ConfigError(f"a model of the kind {about['kind']!r}; LSTMs alone are counted", file=path, remedy=remedy)
    config = LstmConfig.from_dict(about["model"])
    if config.num_pdfs != num_pdfs:
        raise ConfigError(
            f"the model has {config.num_pdfs} senones, the plan {num_pdfs}",
            file=path,
            remedy=f"--senones {config.num_pdfs}",
        )
    return config
