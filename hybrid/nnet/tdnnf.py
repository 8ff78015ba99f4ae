"""TDNN-F acoustic models (Povey et al. 2018, "Semi-orthogonal low-rank matrix factorization for deep neural
networks"), laid out as Kaldi's small chain recipes (mini_librispeech's run_tdnn_1j.sh, egs/an4).

    x, 10 ms ->  affine over 2 context + 1 frames, ReLU, batch norm, dropout                        [hidden]
             ->  factored layers at 10 ms (stride 1); the last gives the middle one of three frames
             ->  factored layers at 30 ms (stride 0 or 3)
             ->  linear [small], shared by the heads
    a head:  affine [big], ReLU, batch norm, linear [small], batch norm, affine [num_pdfs]

A factored layer of stride s writes its matrix over frames t - s, t, t + s as a product with a bottleneck between:

    z[t] = A x[t - s] + B x[t]                                 [A B]: semi-orthogonal, no bias      [bottleneck]
    y[t] = dropout(batchnorm(relu(C z[t] + D z[t + s] + b)))                                        [hidden]
    out  = y + bypass * x

All matrices that Kaldi gives an orthonormal-constraint are kept semi-orthogonal by `after_update`.

A batch is computed without its padding: the frames of all utterances stand one after the other as rows, so statistics
are of frames that count and a product is one big one. Each layer repeats the first and last frame of what it reads,
within the utterance's own length (Kaldi repeats those of the input): an output depends neither on padding nor, in
evaluation, on the batch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from hybrid.errors import ConfigError
from hybrid.nnet.base import AcousticModel, config_from, orthogonal, output_layer, whole_number
from hybrid.nnet.batch_norm import BatchNorm, Statistics, add_statistics, batch_statistics
from hybrid.nnet.semi_orthogonal import constrain

STACK = 3  # 10 ms frames in a network frame
EVERY = 4  # updates from one step towards semi-orthogonality to the next, as Kaldi's on average


@dataclass(frozen=True)
class TdnnfConfig:
    """Raises ConfigError for a value out of its range."""

    input_dim: int  # features per network frame: 3 fine frames
    num_pdfs: int
    hidden: int = 384
    bottleneck: int = 64
    strides: Tuple[int, ...] = (1, 1, 1, 0, 3, 3, 3, 3, 3)  # of the factored layers, in fine frames; from 1s to 0s, 3s
    context: int = 1  # fine frames on either side that the first layer sees
    small: int = 128  # the prefinal layers' width before the output
    big: int = 384  # and within
    bypass: float = 0.66  # share of a factored layer's input that is added to its output
    dropout: float = 0.0  # continuous: factors uniform in [1 - 2p, 1 + 2p], one an utterance and dimension
    xent_head: bool = False  # a second output with a prefinal layer of its own, for the CE regularisation of LF-MMI

    def __post_init__(self) -> None:
        for name in ("input_dim", "num_pdfs", "hidden", "bottleneck", "small", "big"):
            whole_number(name, getattr(self, name), 1)
        whole_number("context", self.context, 0)
        if self.input_dim % STACK:
            raise ConfigError(
                f"input_dim is {self.input_dim}, which is not {STACK} frames of the same width",
                remedy=f"stack {STACK} frames of 10 ms to a network frame",
            )
        strides = self.strides
        object.__setattr__(self, "strides", tuple(strides) if isinstance(strides, (list, tuple)) else ())
        fine = self.fine_layers
        if not fine or any(stride not in (0, STACK) or isinstance(stride, bool) for stride in self.strides[fine:]):
            raise ConfigError(
                f"strides is {strides!r}",
                remedy=f"a list: one or more times 1 (10 ms frames), then 0 or {STACK}, e.g. [1, 1, 0, 3, 3]",
            )
        for name, most in (("dropout", 0.5), ("bypass", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise ConfigError(f"{name} is {value!r}", remedy=f"a number from 0 to {most}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TdnnfConfig:
        """Read what `to_dict` returned. Raises ConfigError for a missing or unknown name."""
        return config_from(cls, values, "a TDNN-F")

    def to_dict(self) -> Dict[str, Any]:
        return {**asdict(self), "strides": list(self.strides)}

    @property
    def fine_layers(self) -> int:
        """The number of factored layers that work at 10 ms."""
        return next((n for n, stride in enumerate(self.strides) if stride != 1), len(self.strides))

    @property
    def reach(self) -> int:
        """The fine frames that an output sees to either side: frame t depends on 3 t + 1 - reach .. 3 t + 1 + reach."""
        return self.context + sum(self.strides)


class Frames(NamedTuple):
    """The rows of a packed batch at one frame rate. Neighbours are those of the same utterance; at its ends the frame
    itself."""

    utterance: Tensor  # [N]: whose frame it is
    first: Tensor  # bool [N, 1]
    last: Tensor

    def before(self, x: Tensor) -> Tensor:
        """Return x [N, D] with frame t - 1 in the place of t."""
        return torch.where(self.first, x, torch.cat((x[:1], x[:-1])))

    def after(self, x: Tensor) -> Tensor:
        return torch.where(self.last, x, torch.cat((x[1:], x[-1:])))


def packed(lengths: Tensor, rate: int) -> Frames:
    """Return the rows of a packed batch; lengths [B] in network frames of `rate` frames each."""
    lengths = lengths * rate
    utterance = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    time = torch.arange(len(utterance), device=lengths.device) - (lengths.cumsum(0) - lengths)[utterance]
    return Frames(utterance, (time == 0).unsqueeze(1), (time == lengths[utterance] - 1).unsqueeze(1))


def continuous_dropout(x: Tensor, frames: Frames, p: float) -> Tensor:
    """Apply Kaldi's GeneralDropoutComponent, continuous, with one mask for all frames of an utterance."""
    if not p or not len(x):
        return x
    utterances = int(frames.utterance[-1]) + 1
    mask = 1.0 + 2.0 * p * (2.0 * torch.rand(utterances, x.shape[1], device=x.device, dtype=x.dtype) - 1.0)
    return x * mask[frames.utterance]


class First(nn.Module):
    """Affine over neighbouring fine frames, ReLU, batch norm, dropout."""

    def __init__(self, config: TdnnfConfig) -> None:
        super().__init__()
        self.context = config.context
        self.affine = _affine((2 * config.context + 1) * config.input_dim // STACK, config.hidden)
        self.norm = BatchNorm(config.hidden)

    def forward(self, x: Tensor, frames: Frames, dropout: float) -> Tensor:
        parts: List[Tensor] = [x]
        for _ in range(self.context):
            parts = [frames.before(parts[0]), *parts, frames.after(parts[-1])]
        return continuous_dropout(self.norm(torch.relu(self.affine(torch.cat(parts, 1)))), frames, dropout)


class Factored(nn.Module):
    """A factored layer at its own frame rate: `offsets` 2 for neighbours, 1 for none.

    middle: x is at 10 ms and the output at 30 ms, of the middle ones of three frames alone; frames is of the output.
    """

    def __init__(self, config: TdnnfConfig, offsets: int, middle: bool) -> None:
        super().__init__()
        self.offsets, self.middle, self.bypass = offsets, middle, config.bypass
        self.linear = _semi_orthogonal(config.bottleneck, offsets * config.hidden)  # [A B]
        self.affine = _affine(offsets * config.bottleneck, config.hidden)  # [C D], b
        self.norm = BatchNorm(config.hidden)

    def forward(self, x: Tensor, frames: Frames, dropout: float) -> Tensor:
        if self.offsets == 1:
            z = x @ self.linear.t()
        else:
            # Products first, neighbours then: what is moved is as narrow as the bottleneck.
            early, now = (x @ torch.cat(self.linear.chunk(2, 1)).t()).chunk(2, 1)  # A x, B x
            if self.middle:
                # z at the middle frame 1 and at 2 needs A x at 0 and 1, B x at 1 and 2: no neighbour but its own.
                early, now = (part.unflatten(0, (-1, STACK)) for part in (early, now))
                z = (early[:, 0:2] + now[:, 1:3]).flatten(1)
                x = x.unflatten(0, (-1, STACK))[:, 1]
            else:
                z = frames.before(early) + now
                z = torch.cat((z, frames.after(z)), 1)
        y = continuous_dropout(self.norm(torch.relu(self.affine(z))), frames, dropout)
        return torch.add(y, x, alpha=self.bypass)


class Prefinal(nn.Module):
    """Kaldi's prefinal-layer: affine [big], ReLU, batch norm, linear [small], batch norm."""

    def __init__(self, config: TdnnfConfig) -> None:
        super().__init__()
        self.affine = _affine(config.small, config.big)
        self.norm = BatchNorm(config.big)
        self.linear = _semi_orthogonal(config.small, config.big)
        self.last_norm = BatchNorm(config.small)

    def forward(self, x: Tensor) -> Tensor:
        return self.last_norm(self.norm(torch.relu(self.affine(x))) @ self.linear.t())


class TdnnfModel(AcousticModel):
    """As AcousticModel says. In training a trainer calls `after_update`, and hands the `batch_statistics` of each batch
    to `add_statistics`: without that, batch norm has nothing to evaluate with."""

    kind = "tdnnf"

    def _build(self) -> None:
        config: TdnnfConfig = self.config
        self.first = First(config)
        self.factored = nn.ModuleList(
            Factored(config, 2 if stride else 1, number == config.fine_layers - 1)
            for number, stride in enumerate(config.strides)
        )
        self.linear = _semi_orthogonal(config.small, config.hidden)
        self.output_prefinal = Prefinal(config)
        self.output = output_layer(config.small, config.num_pdfs)
        self.xent_prefinal: Optional[Prefinal] = None
        self.xent: Optional[nn.Linear] = None
        if config.xent_head:
            self.xent_prefinal = Prefinal(config)
            self.xent = output_layer(config.small, config.num_pdfs)

    def forward(self, x: Tensor, lengths: Tensor) -> Dict[str, Tensor]:
        config: TdnnfConfig = self.config
        lengths = lengths.to(x.device)
        batch, time, dim = x.shape
        inside = torch.arange(time, device=x.device) < lengths.unsqueeze(1)
        rows = inside.flatten().nonzero().squeeze(1)
        fine, coarse = packed(lengths, STACK), packed(lengths, 1)
        dropout = self.dropout if self.training else 0.0
        h = (x.flatten(0, 1)[rows] - self.input_mean) * self.input_scale
        h = self.first(h.reshape(-1, dim // STACK), fine, dropout)
        for number, layer in enumerate(self.factored):
            h = layer(h, fine if number < config.fine_layers - 1 else coarse, dropout)
        h = h @ self.linear.t()

        def unpacked(y: Tensor) -> Tensor:
            return y.new_zeros(batch * time, y.shape[1]).index_copy(0, rows, y).view(batch, time, -1)

        outputs = {"logits": unpacked(self.output(self.output_prefinal(h)))}
        if self.xent is not None and self.xent_prefinal is not None:
            outputs["xent"] = unpacked(self.xent(self.xent_prefinal(h)))
        return outputs

    def semi_orthogonal(self) -> Dict[str, nn.Parameter]:
        """Return the matrices that are kept semi-orthogonal, by name."""
        return {name: value for name, value in self.named_parameters() if name.split(".")[-1] == "linear"}

    def after_update(self, update: int) -> None:
        """Constrain matrices after the optimiser's step number `update` (from 0).

        Raises ModelError where a matrix is not finite.
        """
        if update % EVERY == 0:
            for matrix in self.semi_orthogonal().values():
                constrain(matrix)

    def batch_statistics(self) -> List[Statistics]:
        """Return the statistics of the last forward pass in training."""
        return batch_statistics(self)

    def add_statistics(self, statistics: List[Statistics]) -> None:
        """Add those of `batch_statistics` to the running statistics of evaluation."""
        add_statistics(self, statistics)


def _affine(inputs: int, outputs: int) -> nn.Linear:
    """As Kaldi's: normal weights of deviation 1 / sqrt(inputs)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def _semi_orthogonal(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(orthogonal(torch.empty(rows, columns)))
