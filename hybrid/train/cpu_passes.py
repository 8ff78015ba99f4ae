"""forward_backward.py's two passes on a CPU: products with the arcs by torch, what stands between them compiled.

A frame has two products with a sparse matrix, and these are as fast as they get; but some twenty small operations of
torch on [K, B] and [P, B] stood between them, and took longer than the products. Here they are two loops, one a
pass, over slots and within a slot over the sequences, which lie side by side:

    forward     v(k) = u_t(k) e(pdf k),   alpha_{t+1}(j) = sum of v over the slots of node j,
                s_t = sum of alpha_{t+1},   and alpha_{t+1} / s_t
    backward    w_t(k) = e(pdf k) beta_{t+1}(node k) / s_t,   posterior(p) = sum of u_t w_t over the slots of pdf p

The exponentials e of all frames are taken at once: as many numbers as there are outputs.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np
import torch

from hybrid.compiled import compiled
from hybrid.train.frame_passes import Layers, LongestFirst


@compiled
def _emission(e, order, t, now, work):  # type: ignore[no-untyped-def]
    """work[p, b] = e[order[b], t, p]."""
    for b in range(now):
        row = e[order[b], t]
        for pdf in range(row.shape[0]):
            work[pdf, b] = row[pdf]


@compiled
def forward_frame(e, order, t, u, slot_pdf, slot_node, work, alpha, total):  # type: ignore[no-untyped-def]
    """Write alpha_{t+1} / s_t [N, now] and s_t, float64 [now], of u_t [K, now]."""
    slots, now = u.shape
    _emission(e, order, t, now, work)
    alpha[:, :] = 0
    for slot in range(slots):
        emitted, into, values = work[slot_pdf[slot]], alpha[slot_node[slot]], u[slot]
        for b in range(now):
            into[b] += values[b] * emitted[b]
    total[:] = 0.0
    for node in range(alpha.shape[0]):
        values = alpha[node]
        for b in range(now):
            total[b] += values[b]
    factor = work[0]  # the emissions are done with
    for b in range(now):
        factor[b] = 1.0 / total[b]
    for node in range(alpha.shape[0]):
        values = alpha[node]
        for b in range(now):
            values[b] *= factor[b]


@compiled
def backward_frame(  # type: ignore[no-untyped-def]
    e, order, t, u, slot_pdf, slot_node, work, beta, total, w, shares, posteriors
):  # fmt: skip
    """Write w_t [K, now], and the posteriors of frame t into those of all, of u_t [K, now], beta_{t+1} [N, now] and s_t
    [now]; shares [P, >= now]: room."""
    slots, now = u.shape
    _emission(e, order, t, now, work)
    for pdf in range(work.shape[0]):
        for b in range(now):
            shares[pdf, b] = 0
    for b in range(now):
        factor = 1.0 / total[b]
        for node in range(beta.shape[0]):
            beta[node, b] *= factor
    for slot in range(slots):
        pdf = slot_pdf[slot]
        emitted, onward, values, into, share = work[pdf], beta[slot_node[slot]], u[slot], w[slot], shares[pdf]
        for b in range(now):
            into[b] = emitted[b] * onward[b]
            share[b] += values[b] * into[b]
    for b in range(now):
        row = posteriors[order[b], t]
        for pdf in range(work.shape[0]):
            row[pdf] = shares[pdf, b]


class CompiledFrames:
    """Frames as frame_passes.Frames says, compiled, on a CPU."""

    def __init__(
        self, g: Any, layers: Layers, by_length: LongestFirst, logits: torch.Tensor, dtype: torch.dtype
    ) -> None:
        self._states, self._dtype, self._order = len(g.start), dtype, by_length.order.numpy()
        self._slot_pdf = g.slot_pdf.numpy()
        self._slot_node = np.concatenate([np.arange(low, high) for _, low, high in layers])
        outputs = logits.to(dtype)
        best = outputs.amax(2, keepdim=True)
        self._e = torch.exp(outputs - best).contiguous().numpy()
        self._best = best[by_length.order, :, 0].to(torch.float64)
        rooms = torch.empty(2, logits.shape[2], logits.shape[0], dtype=dtype).numpy()
        self._work, self._shares = rooms[0], rooms[1]
        self.posteriors = torch.zeros(logits.shape, dtype=torch.promote_types(dtype, logits.dtype))

    def forward(
        self, t: int, u: torch.Tensor, room: torch.Tensor, known: Optional[torch.Tensor]
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        now = u.shape[1]
        alpha = torch.empty(self._states, now, dtype=self._dtype)
        total = torch.empty(now, dtype=torch.float64)
        forward_frame(
            self._e, self._order, t, u.numpy(), self._slot_pdf, self._slot_node, self._work, alpha.numpy(),
            total.numpy(),
        )  # fmt: skip
        return alpha, total, self._best[:now, t]

    def backward(self, t: int, u: torch.Tensor, room: torch.Tensor, beta: torch.Tensor, total: torch.Tensor) -> None:
        backward_frame(
            self._e, self._order, t, u.numpy(), self._slot_pdf, self._slot_node, self._work,
            beta.contiguous().numpy(), total.numpy(), room.numpy(), self._shares, self.posteriors.numpy(),
        )  # fmt: skip
