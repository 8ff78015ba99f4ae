"""An LSTM from a state, without gradients: each stream of a batch has the same bits in any company.

The recursion is that of recurrence.py, with the projection of LSTMP where the layer has one (h' = P h is then what is
put out and comes back). Its products are those of row_product.py. The non-linearities are made of what rounds in one
way alone, additions, products and divisions of single numbers:

    sigmoid(x) = 1 / (1 + e^-x),   tanh(x) = 1 - 2 / (1 + e^2x),   e^x = 2^k e^r,   k whole, |r| <= log(2) / 2,

e^r by its series up to r^7 / 7!, which leaves 5e-9. A library's vector functions differ from those that it applies to
the rest of an array that is no whole vector: in the last bit, by the place.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor, nn

from hybrid.compiled import compiled, inlined
from hybrid.nnet.row_product import WIDTH, RowProduct, add_product, in_blocks

_F = np.float32
_ONE, _TWO, _HALF, _MOST = _F(1), _F(2), _F(0.5), _F(87)
_LOG2E, _LN2, _LN2_REST = _F(1.4426950408889634), _F(0.693359375), _F(-2.1219444005469057e-4)  # log 2 in two parts
_C2, _C3, _C4, _C5, _C6, _C7 = (_F(1 / n) for n in (2, 6, 24, 120, 720, 5040))


def _power(typingctx: Any, exponent: Any) -> Any:
    """2^k of a whole k in [-126, 127], float32 as its argument is."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        whole = ir.IntType(32)
        biased = builder.add(builder.fptosi(values[0], whole), ir.Constant(whole, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(whole, 23)), ir.FloatType())

    return types.float32(types.float32), generate


_power_of_two: Any = intrinsic(_power)


@inlined
def _exp(value):
    x = min(max(value, -_MOST), _MOST)
    k = np.floor(x * _LOG2E + _HALF)
    r = (x - k * _LN2) - k * _LN2_REST
    series = _ONE + r * (_ONE + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * _C7))))))
    return series * _power_of_two(k) + (value - value)  # what is not finite stays so


@inlined
def _sigmoid(x):
    return _ONE / (_ONE + _exp(-x))


@inlined
def _tanh(x):
    return _ONE - _TWO / (_ONE + _exp(_TWO * x))


@compiled
def _gated(i, f, g, o, before, cell, hidden):
    """A stream's cell and h of a frame, float32 [H] all; the first four as the products leave them. A function of its
    own, over whole arrays, for LLVM makes vectors of such loops."""
    for j in range(len(cell)):
        c = _sigmoid(f[j]) * before[j] + _sigmoid(i[j]) * _tanh(g[j])
        cell[j] = c
        hidden[j] = _sigmoid(o[j]) * _tanh(c)


@compiled
def lstm_frames(gates, w, project, frames, batch, carried, cells, hidden, outputs):
    """gates [frames * batch, width]: W_ih x + b, flat; w: W_hh in blocks; project: P in blocks, or without a block;
    cells [frames + 1, batch, H], outputs [frames + 1, batch, P or H]: those before at 0, zeros where none is carried;
    hidden [batch, H]: room for h where it is projected."""
    size, width = cells.shape[2], w.shape[0] * WIDTH
    flat, room = outputs.reshape(outputs.size), hidden.reshape(hidden.size)
    step = batch * outputs.shape[2]
    projected = np.empty(batch * project.shape[0] * WIDTH, np.float32)
    for t in range(frames):
        if t > 0 or carried:
            add_product(flat, t * step, batch, w, gates, t * batch * width)
        for b in range(batch):
            at = (t * batch + b) * width
            _gated(
                gates[at : at + size], gates[at + size : at + 2 * size], gates[at + 2 * size : at + 3 * size],
                gates[at + 3 * size : at + 4 * size], cells[t, b], cells[t + 1, b], hidden[b],
            )  # fmt: skip
        if project.shape[0] == 0:
            outputs[t + 1] = hidden
            continue
        projected[:] = 0
        add_product(room, 0, batch, project, projected, 0)
        for b in range(batch):
            at = b * project.shape[0] * WIDTH
            outputs[t + 1, b] = projected[at : at + outputs.shape[2]]


class RowLstm:
    """One direction of one layer, on the CPU as said above; on another device torch's own."""

    def __init__(self, layer: nn.LSTM) -> None:
        self._layer = layer
        weight: Tensor = layer.weight_ih_l0  # type: ignore[assignment]
        self._ours = weight.device.type == "cpu" and weight.dtype == torch.float32
        if self._ours:
            parameters = [one.detach() for one in layer.all_weights[0]]
            w_ih, w_hh, b_ih, b_hh = parameters[:4]
            self._inputs = RowProduct(w_ih, b_ih + b_hh)
            self._recurrent = in_blocks(w_hh.numpy())
            self._project = np.zeros((0, layer.hidden_size, WIDTH), np.float32)
            if layer.proj_size:
                self._project = in_blocks(parameters[4].numpy())

    def __call__(
        self, x: Tensor, state: Optional[Tuple[Tensor, Tensor]], keep: int
    ) -> Tuple[Tensor, Tuple[Tensor, Tensor]]:
        """Run over x [T, B, D], T at least 1, from a state: the outputs [T, B, H], and the state after `keep` frames
        (without meaning where that is 0).

        A state is (h [B, hidden or projection], c [B, hidden]); None: zeros.
        """
        if not self._ours:
            return _by_torch(self._layer, x, state, keep)
        layer, (frames, batch, _) = self._layer, x.shape
        cells = np.zeros((frames + 1, batch, layer.hidden_size), np.float32)
        outputs = np.zeros((frames + 1, batch, layer.proj_size or layer.hidden_size), np.float32)
        if state is not None:
            outputs[0], cells[0] = state[0].numpy(), state[1].numpy()
        gates, hidden = self._inputs.filled(x).reshape(-1), np.empty(cells.shape[1:], np.float32)
        lstm_frames(
            gates, self._recurrent, self._project, frames, batch, state is not None, cells, hidden, outputs
        )  # fmt: skip
        y, c = torch.from_numpy(outputs), torch.from_numpy(cells)
        return y[1:], (y[keep], c[keep])


def _by_torch(
    layer: nn.LSTM, x: Tensor, state: Optional[Tuple[Tensor, Tensor]], keep: int
) -> Tuple[Tensor, Tuple[Tensor, Tensor]]:
    pair = None if state is None else (state[0].unsqueeze(0), state[1].unsqueeze(0))
    if not 0 < keep < x.shape[0]:
        y, (h, c) = layer(x, pair)
        return y, (h[0], c[0])
    y, after = layer(x[:keep], pair)
    return torch.cat((y, layer(x[keep:], after)[0])), (after[0][0], after[1][0])
