"""A TDNN-F chunk by chunk: each layer keeps the last frames that it has read, and nothing is computed twice.

A layer that sees a frame on either side gives its output a frame late; at the two ends of a stream it repeats the first
and the last frame of what it reads, as on a whole utterance. The outputs differ from the whole utterance's by rounding;
a stream has the same bits in any company (row_product.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

import torch
from torch import Tensor

from hybrid.errors import ConfigError
from hybrid.nnet.row_product import RowProduct
from hybrid.nnet.streaming import Chunk, StreamState
from hybrid.nnet.tdnnf import STACK, Factored, First, Prefinal, TdnnfModel

_State = Dict[str, Tensor]


@dataclass(frozen=True)
class _Layer:
    """A factored layer and its products; linear: [A; B] one above the other where it has neighbours."""

    layer: Factored
    linear: RowProduct
    affine: RowProduct

    @classmethod
    def of(cls, layer: Factored) -> _Layer:
        matrix = layer.linear if layer.offsets == 1 else torch.cat(layer.linear.chunk(2, 1))
        return cls(layer, RowProduct(matrix), RowProduct.of(layer.affine))

    def out(self, z: Tensor, x: Tensor) -> Tensor:
        return self.layer.norm(torch.relu(self.affine(z))) + self.layer.bypass * x


class TdnnfStream:
    """As ModelStream says."""

    left = right = 0

    def __init__(self, model: TdnnfModel, right_context: int = 0) -> None:
        if right_context:
            raise ConfigError(
                f"a right context of {right_context} frames for a TDNN-F",
                remedy="it looks ahead by its own strides: leave the right context out",
            )
        self.model = model
        self._first = RowProduct.of(model.first.affine)
        self._layers = [_Layer.of(layer) for layer in model.factored]  # type: ignore[arg-type]
        prefinal: Prefinal = model.output_prefinal
        self._linear, self._output = RowProduct(model.linear), RowProduct.of(model.output)
        self._prefinal = RowProduct.of(prefinal.affine), RowProduct(prefinal.linear)
        self.lookahead = model.config.reach / STACK

    def start(self) -> StreamState:
        return StreamState()

    def step(self, state: StreamState, chunk: Chunk) -> Tuple[Tensor, StreamState]:
        model, after = self.model, StreamState()
        batch, frames, dim = chunk.x.shape
        x = ((chunk.x - model.input_mean) * model.input_scale).reshape(batch, frames * STACK, dim // STACK)
        x = _first(model.first, self._first, x, chunk.last, state.tensors, after.tensors)
        for number, products in enumerate(self._layers):
            name = f"{number}."
            if products.layer.offsets == 1:
                x = products.out(products.linear(x), x)
            elif products.layer.middle:
                x = _middle(products, x, name, state.tensors, after.tensors)
            else:
                x = _neighbours(products, x, chunk.last, name, state.tensors, after.tensors)
        prefinal: Prefinal = model.output_prefinal
        x = prefinal.norm(torch.relu(self._prefinal[0](self._linear(x))))
        return self._output(prefinal.last_norm(self._prefinal[1](x))), after


def _first(layer: First, affine: RowProduct, x: Tensor, last: bool, before: _State, after: _State) -> Tensor:
    context = layer.context
    if "first" in before:
        x = torch.cat((before["first"], x), 1)
    elif x.shape[1]:
        x = torch.cat((x[:, :1].expand(-1, context, -1), x), 1)
    if last and x.shape[1]:
        x = torch.cat((x, x[:, -1:].expand(-1, context, -1)), 1)
    frames = max(0, x.shape[1] - 2 * context)
    if x.shape[1]:
        after["first"] = x[:, frames:]
    parts = [x[:, offset : offset + frames] for offset in range(2 * context + 1)]
    return layer.norm(torch.relu(affine(torch.cat(parts, 2))))


def _middle(products: _Layer, x: Tensor, name: str, before: _State, after: _State) -> Tensor:
    """Three frames at 10 ms to one at 30 ms; those that are not three wait."""
    if name + "x" in before:
        x = torch.cat((before[name + "x"], x), 1)
    frames = x.shape[1] // STACK
    after[name + "x"] = x[:, frames * STACK :]
    x = x[:, : frames * STACK]
    early, now = products.linear(x).chunk(2, 2)
    early, now, x = (part.reshape(part.shape[0], frames, STACK, part.shape[2]) for part in (early, now, x))
    return products.out((early[:, :, 0:2] + now[:, :, 1:3]).flatten(2), x[:, :, 1])


def _neighbours(products: _Layer, x: Tensor, last: bool, name: str, before: _State, after: _State) -> Tensor:
    """z[t] = A x[t - 1] + B x[t] as x comes; the output at t when z[t + 1] has come."""
    early, now = products.linear(x).chunk(2, 2)
    previous = before.get(name + "early", early[:, :1])
    z = torch.cat((previous, early[:, :-1]), 1) + now if x.shape[1] else now
    if name + "z" in before:
        z, x = torch.cat((before[name + "z"], z), 1), torch.cat((before[name + "x"], x), 1)
    if x.shape[1]:
        after[name + "early"] = early[:, -1:] if early.shape[1] else previous
        after[name + "z"], after[name + "x"] = z[:, -1:], x[:, -1:]
    if last and x.shape[1]:
        z = torch.cat((z, z[:, -1:]), 1)
    frames = max(0, z.shape[1] - 1)
    return products.out(torch.cat((z[:, :frames], z[:, 1 : frames + 1]), 2), x[:, :frames])
