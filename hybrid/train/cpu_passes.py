"""forward_backward.py's two passes on a CPU: products with the arcs by torch, what stands between them compiled.

A frame has two products with a sparse matrix, and these are as fast as they get; but some twenty small operations of
torch on [K, B] and [P, B] stood between them, and took twice as long as the products. Here they are two loops, one a
pass, over slots and within a slot over the sequences, which lie side by side:

    forward     v(k) = u_t(k) e(pdf k),   alpha_{t+1}(j) = sum of v over the slots of node j,
                s_t = sum of alpha_{t+1},   and alpha_{t+1} / s_t
    backward    w_t(k) = e(pdf k) beta_{t+1}(node k) / s_t,   posterior(p) = sum of u_t w_t over the slots of pdf p

The exponentials e of all frames are taken at once: as many numbers as there are outputs.
"""

from __future__ import annotations

from typing import Any, List, Tuple

import numpy as np
import torch

from hybrid.compiled import compiled


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


def both_passes(
    g: Any, slot_node: np.ndarray, logits: torch.Tensor, frames: List[int], dtype: torch.dtype, segment: int,
    memory: torch.Tensor,
) -> Tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return scores [B] float64 and posteriors [B, T, num_pdfs], as SharedGraph._scaled does: those that are not to be
    trusted show it.

    g: the graph's tensors; segment: how many frames' u_t are kept; memory: room for segment + 1 of them.
    """
    longest, count, states, slots = max(frames), len(frames), len(g.start), len(g.slot_pdf)
    order = np.asarray(sorted(range(count), key=lambda b: -frames[b]))
    lengths = np.asarray(frames)[order]
    running = [int((lengths > t).sum()) for t in range(longest)] + [0]
    outputs = logits.to(dtype)
    best = outputs.amax(2, keepdim=True)
    e = torch.exp(outputs - best).contiguous().numpy()
    best_of = best[:, :, 0].to(torch.float64).numpy()[order]
    result = torch.promote_types(dtype, logits.dtype)
    posteriors = torch.zeros(logits.shape, dtype=result)
    posteriors_of = posteriors.numpy()
    slot_pdf = g.slot_pdf.numpy()
    work, shares = (torch.empty(e.shape[2], count, dtype=dtype).numpy() for _ in range(2))
    size = slots * count

    def place(number: int, t: int) -> torch.Tensor:
        """Room for [K, running]."""
        return memory[number * size : number * size + slots * running[t]].view(slots, running[t])

    scores = np.full(count, g.start_score, np.float64)
    ends = torch.zeros(count, dtype=dtype)  # sum_j alpha_T(j) final(j)
    sums: List[np.ndarray] = []  # s_t

    def forward(first: int, alpha: torch.Tensor) -> torch.Tensor:
        """Frames of the segment that begins at `first`; returns the alpha after it."""
        for t in range(first, min(first + segment, longest)):
            now, after = running[t], running[t + 1]
            if g.leak is not None:
                alpha = alpha + g.leak
            u = g.along(alpha, out=place(t % segment, t))
            alpha, total = torch.empty(states, now, dtype=dtype), np.empty(now)
            forward_frame(e, order, t, u.numpy(), slot_pdf, slot_node, work, alpha.numpy(), total)
            if t == len(sums):  # the first time here
                sums.append(total)
                with np.errstate(divide="ignore", invalid="ignore"):
                    scores[:now] += np.log(total) + best_of[:now, t]
            if after < now:
                ends[after:now] = (g.final * alpha[:, after:]).sum(0)
                alpha = alpha[:, :after].contiguous()
        return alpha

    begins = list(range(0, longest, segment))
    starts = [g.start.expand(-1, count).contiguous()]
    for first in begins:
        starts.append(forward(first, starts[-1]))
    with np.errstate(divide="ignore"):  # a sequence that is not accepted
        scores += np.log(ends.to(torch.float64).numpy())

    beta = torch.empty(states, 0, dtype=dtype)
    for first in reversed(begins):
        if first != begins[-1]:
            forward(first, starts[first // segment])
        for t in reversed(range(first, min(first + segment, longest))):
            now = running[t]
            if beta.shape[1] < now:
                beta = torch.cat([beta, g.final / ends[beta.shape[1] : now]], 1)
            w = place(segment, t)
            backward_frame(
                e, order, t, place(t % segment, t).numpy(), slot_pdf, slot_node, work, beta.contiguous().numpy(),
                sums[t], w.numpy(), shares, posteriors_of,
            )  # fmt: skip
            beta = g.back(w)
            if g.leak is not None:
                beta = beta + (g.leak * beta).sum(0)
    found = np.empty(count)
    found[order] = scores
    return torch.from_numpy(found), posteriors
