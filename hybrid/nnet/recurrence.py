"""One direction of one LSTM layer, and sequences of unequal length without packing.

Recursion (torch.nn.LSTM's, gates in its order i, f, g, o; no peepholes):

    a[t] = W_ih x[t] + W_hh h[t-1] + b          a = (i, f, g, o) before their non-linearities
    i, f, o = sigmoid;  g = tanh
    c[t] = f * c[t-1] + i * g
    h[t] = o * tanh(c[t])

Backward, with dh[t] the gradient of h[t] from above plus from a[t+1], and dc[t] that of c[t]:

    dh[t] = dout[t] + W_hh' da[t+1]
    dc[t] = dc[t+1] * f[t+1] + dh[t] * o * (1 - tanh(c)^2)
    da[t] = (dc g i(1-i),  dc c[t-1] f(1-f),  dc i (1-g^2),  dh tanh(c) o(1-o))
    dW_hh = sum_t da[t] h[t-1]',   dW_ih = sum_t da[t] x[t]'

Why not autograd's own: on the CPU it adds da[t] h[t-1]' into dW_hh frame by frame, which is a pass over the whole
matrix per frame. Here everything that does not stand in the recursion is one product over all frames, and what does is
TorchScript, which does not hold Python's lock: the two directions of a layer can run in two threads
(`directions_in_parallel`), with the same numbers. What that brings: `python -m benchmarks.lstm`.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Set, Tuple

import torch
from torch import Tensor, nn

_in_parallel = False
_called: Set[Callable[..., List[Any]]] = set()


@contextmanager
def directions_in_parallel(wanted: bool = True) -> Iterator[None]:
    """Run the directions of bidirectional layers in two threads (on the CPU) within the block."""
    global _in_parallel
    before, _in_parallel = _in_parallel, wanted
    try:
        yield
    finally:
        _in_parallel = before


def _script(function: Callable[..., Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch 2.x, which has nothing yet in its place
        return torch.jit.script(function)


def _frames_forward(gates: Tensor, w_t: Tensor, cells: Tensor, outputs: Tensor, tanh_cells: Tensor) -> None:
    """gates [T, B, 4H]: W_ih x + b in, i, f, g, o out; cells, outputs [T + 1, B, H], zeros at 0; w_t: W_hh'."""
    hidden = outputs.shape[2]
    for t in range(gates.shape[0]):
        gate = gates[t]
        if t > 0:
            gate.addmm_(outputs[t], w_t)
        gate[:, : 2 * hidden].sigmoid_()
        gate[:, 2 * hidden : 3 * hidden].tanh_()
        gate[:, 3 * hidden :].sigmoid_()
        torch.mul(gate[:, hidden : 2 * hidden], cells[t], out=cells[t + 1])
        cells[t + 1].addcmul_(gate[:, :hidden], gate[:, 2 * hidden : 3 * hidden])
        torch.tanh(cells[t + 1], out=tanh_cells[t])
        torch.mul(gate[:, 3 * hidden :], tanh_cells[t], out=outputs[t + 1])


def _frames_backward(grad: Tensor, w_hh: Tensor, f: Tensor, factor: Tensor, through_tanh: Tensor, da: Tensor) -> None:
    """Fills da [T, B, 4, H] from grad = dout; factor and through_tanh as `_backward` makes them."""
    frames, batch = grad.shape[0], grad.shape[1]
    dc = torch.zeros_like(grad[0])
    dh = grad[frames - 1]
    for step in range(frames):
        t = frames - 1 - step
        if step > 0:
            dh = torch.addmm(grad[t], da[t + 1].view(batch, -1), w_hh)
            dc.mul_(f[t + 1])
        dc.addcmul_(dh, through_tanh[t])
        torch.mul(factor[t, :, :3], dc.unsqueeze(1), out=da[t, :, :3])
        torch.mul(factor[t, :, 3], dh, out=da[t, :, 3])


_scripted_forward = _script(_frames_forward)
_scripted_backward = _script(_frames_backward)


def _forward(x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor) -> List[Tensor]:
    """What `_backward` needs; the outputs are [5][1:]."""
    frames, batch, dim = x.shape
    hidden = w_hh.shape[1]
    gates = torch.addmm(bias, x.reshape(frames * batch, dim), w_ih.t()).view(frames, batch, 4 * hidden)
    cells = x.new_zeros(frames + 1, batch, hidden)
    outputs = x.new_zeros(frames + 1, batch, hidden)
    tanh_cells = x.new_empty(frames, batch, hidden)
    _scripted_forward(gates, w_hh.t(), cells, outputs, tanh_cells)
    return [x, w_ih, w_hh, gates, cells, outputs, tanh_cells]


def _backward(grad: Tensor, saved: List[Tensor], needs_x: bool) -> List[Any]:
    """Gradients of x (None if not wanted), w_ih, w_hh, bias."""
    x, w_ih, w_hh, gates, cells, outputs, tanh_cells = saved
    frames, batch, dim = x.shape
    hidden = w_hh.shape[1]
    i, f, g, o = gates.view(frames, batch, 4, hidden).unbind(2)
    # da[t] = factor[t] * (dc, dc, dc, dh): the factors of all frames at once, the recursion keeps only products.
    factor = x.new_empty(frames, batch, 4, hidden)
    torch.mul(g * i, 1 - i, out=factor[:, :, 0])
    torch.mul(cells[:-1] * f, 1 - f, out=factor[:, :, 1])
    torch.mul(i, 1 - g * g, out=factor[:, :, 2])
    torch.mul(tanh_cells * o, 1 - o, out=factor[:, :, 3])
    through_tanh = o * (1 - tanh_cells * tanh_cells)
    da = x.new_empty(frames, batch, 4, hidden)
    _scripted_backward(grad, w_hh, f, factor, through_tanh, da)
    flat = da.view(frames * batch, 4 * hidden)
    grad_x = (flat @ w_ih).view(frames, batch, dim) if needs_x else None
    grad_w_ih = flat.t() @ x.reshape(frames * batch, dim)
    grad_w_hh = flat[batch:].t() @ outputs[1:-1].reshape(-1, hidden)
    return [grad_x, grad_w_ih, grad_w_hh, flat.sum(0)]


class _LstmDirection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor) -> Tensor:
        saved = _forward(x, w_ih, w_hh, bias)
        ctx.save_for_backward(*saved)
        return saved[5][1:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tuple[Tensor, ...]:
        return tuple(_backward(grads[0], list(ctx.saved_tensors), ctx.needs_input_grad[0]))


class _LstmPair(torch.autograd.Function):
    """Two directions, each (x, w_ih, w_hh, bias), in two threads."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tuple[Tensor, Tensor]:
        first, second = _two_threads(_forward, inputs[:4], inputs[4:])
        ctx.save_for_backward(*first, *second)
        return first[5][1:], second[5][1:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tuple[Tensor, ...]:
        saved = list(ctx.saved_tensors)
        half, needs = len(saved) // 2, ctx.needs_input_grad
        first, second = _two_threads(_backward, (grads[0], saved[:half], needs[0]), (grads[1], saved[half:], needs[4]))
        return (*first, *second)


def _two_threads(work: Callable[..., List[Any]], first: Any, second: Any) -> Tuple[List[Any], List[Any]]:
    # What libraries prepare at their first call is not safe in two threads: with torch 2.13's MKL, the first row that
    # came out of the second thread's first tanh was 4e-5 off in one process of fifty. So one thread makes it alone.
    if work not in _called:
        results = work(*first), work(*second)
        _called.add(work)
        return results
    threads = torch.get_num_threads()

    def run_second() -> List[Any]:
        # A new thread's matrix products would otherwise be shared out over all cores, and so have other sums.
        torch.set_num_threads(threads)
        with torch.no_grad():  # a thread's own switch
            return work(*second)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run_second)
        return work(*first), future.result()


def _ours(layer: nn.LSTM, x: Tensor) -> bool:
    return x.device.type == "cpu" and not layer.proj_size and x.shape[0] > 0


def _weights(layer: nn.LSTM) -> Tuple[Tensor, Tensor, Tensor]:
    w_ih, w_hh, b_ih, b_hh = layer.all_weights[0]
    return w_ih, w_hh, b_ih + b_hh


def lstm_direction(layer: nn.LSTM, x: Tensor) -> Tensor:
    """Runs a one-layer, one-direction nn.LSTM (time first) over x [T, B, D] -> [T, B, hidden or projection].

    On the CPU by the recursion above; on other devices, with a projection, or in double backward, by torch.
    """
    if not _ours(layer, x):
        return layer(x)[0]
    with torch.autocast("cpu", enabled=False):
        weights = _weights(layer)
        return _LstmDirection.apply(x.to(weights[0].dtype), *weights)


def lstm_step(layer: nn.LSTM, x: Tensor, h: Tensor, c: Tensor) -> Tuple[Tensor, Tensor]:
    """Run one frame of a one-layer, one-direction nn.LSTM without a projection: x [B, D], h, c [B, H] -> h, c after."""
    w_ih, w_hh, bias = _weights(layer)
    i, f, g, o = torch.addmm(torch.addmm(bias, x, w_ih.t()), h, w_hh.t()).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def lstm_both(forward: nn.LSTM, backward: nn.LSTM, x: Tensor, index: Tensor) -> Tensor:
    """Run both directions over x [T, B, D] -> [T, B, 2 x (hidden or projection)]; index: `reversal` of the lengths."""
    turned = take(x, index)
    if _in_parallel and _ours(forward, x):
        with torch.autocast("cpu", enabled=False):
            weights, back_weights = _weights(forward), _weights(backward)
            y, back = _LstmPair.apply(x.to(weights[0].dtype), *weights, turned.to(back_weights[0].dtype), *back_weights)
    else:
        y, back = lstm_direction(forward, x), lstm_direction(backward, turned)
    return torch.cat((y, take(back, index)), dim=-1)


def reversal(lengths: Tensor, frames: int) -> Tensor:
    """Return the index [T, B] that turns every sequence round within its own length; padding stays where it is.

    lengths [2, 3], frames 3 -> columns [1, 0, 2] and [2, 1, 0]. It is its own inverse.
    """
    time = torch.arange(frames, device=lengths.device).unsqueeze(1)
    return torch.where(time < lengths.unsqueeze(0), lengths.unsqueeze(0) - 1 - time, time)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Pick frames of x [T, B, D] by index [T', B] -> [T', B, D] with out[t, b] = x[index[t, b], b]."""
    return x[index, torch.arange(x.shape[1], device=x.device).unsqueeze(0)]
