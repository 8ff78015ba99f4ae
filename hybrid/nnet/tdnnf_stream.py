"""A TDNN-F chunk by chunk: each layer keeps the last frames that it has read, and nothing is computed twice.

A layer that sees a frame on either side gives its output a frame late; at the two ends of a stream it repeats the first
and the last frame of what it reads, as on a whole utterance. The outputs differ from the whole utterance's by rounding.
"""

from __future__ import annotations

from typing import Dict, Tuple

import torch
from torch import Tensor

from hybrid.errors import ConfigError
from hybrid.nnet.streaming import Chunk, StreamState
from hybrid.nnet.tdnnf import STACK, Factored, First, TdnnfModel

_State = Dict[str, Tensor]


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
        self.lookahead = model.config.reach / STACK

    def start(self) -> StreamState:
        return StreamState()

    def step(self, state: StreamState, chunk: Chunk) -> Tuple[Tensor, StreamState]:
        model, after = self.model, StreamState()
        batch, frames, dim = chunk.x.shape
        x = ((chunk.x - model.input_mean) * model.input_scale).reshape(batch, frames * STACK, dim // STACK)
        x = _first(model.first, x, chunk.last, state.tensors, after.tensors)
        for number, layer in enumerate(model.factored):
            name = f"{number}."
            if layer.offsets == 1:
                x = _out(layer, _product(x, layer.linear), x)
            elif layer.middle:
                x = _middle(layer, x, name, state.tensors, after.tensors)
            else:
                x = _neighbours(layer, x, chunk.last, name, state.tensors, after.tensors)
        return model.output(model.output_prefinal(_product(x, model.linear))), after


def _first(layer: First, x: Tensor, last: bool, before: _State, after: _State) -> Tensor:
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
    return layer.norm(torch.relu(layer.affine(torch.cat(parts, 2))))


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    """x [B, T, D] times matrix' [D, N] as one product of B T rows, whatever the strides of x: see network.py of
    hybrid/online for why their number matters."""
    return (x.reshape(x.shape[0] * x.shape[1], x.shape[2]) @ matrix.t()).view(x.shape[0], x.shape[1], len(matrix))


def _out(layer: Factored, z: Tensor, x: Tensor) -> Tensor:
    return torch.add(layer.norm(torch.relu(layer.affine(z))), x, alpha=layer.bypass)


def _middle(layer: Factored, x: Tensor, name: str, before: _State, after: _State) -> Tensor:
    """Three frames at 10 ms to one at 30 ms; those that are not three wait."""
    if name + "x" in before:
        x = torch.cat((before[name + "x"], x), 1)
    frames = x.shape[1] // STACK
    after[name + "x"] = x[:, frames * STACK :]
    x = x[:, : frames * STACK]
    early, now = _product(x, torch.cat(layer.linear.chunk(2, 1))).chunk(2, 2)
    early, now, x = (part.reshape(part.shape[0], frames, STACK, part.shape[2]) for part in (early, now, x))
    return _out(layer, (early[:, :, 0:2] + now[:, :, 1:3]).flatten(2), x[:, :, 1])


def _neighbours(layer: Factored, x: Tensor, last: bool, name: str, before: _State, after: _State) -> Tensor:
    """z[t] = A x[t - 1] + B x[t] as x comes; the output at t when z[t + 1] has come."""
    early, now = _product(x, torch.cat(layer.linear.chunk(2, 1))).chunk(2, 2)
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
    return _out(layer, torch.cat((z[:, :frames], z[:, 1 : frames + 1]), 2), x[:, :frames])
