"""The two passes of forward_backward.py, frame by frame: segments, ends of sequences and the leak here, and what stands
between the products with the arcs in steps, by torch's operations on any device or compiled for a CPU (cpu_passes.py).

u_t are kept of a segment of frames for the way back; those of earlier segments are computed once more from the alpha
that each began with.
"""

from __future__ import annotations

from typing import Any, List, Optional, Protocol, Tuple

import torch

Layers = List[Tuple[int, int, int]]  # (first slot, first node, end node)


class LongestFirst:
    """A batch frame by frame and sorted by length, so that the sequences still running at a frame come first.

    running: how many these are at each frame, and 0 at the end; back: index [B] that restores the order of the batch.
    Frames are turned one at a time, in the processor's cache: a turned copy of all outputs would cost more memory than
    all else.
    """

    def __init__(self, frames: List[int], device: torch.device) -> None:
        self.running = [sum(n > t for n in frames) for t in range(max(frames))] + [0]
        order = sorted(range(len(frames)), key=lambda b: -frames[b])
        self.order = torch.as_tensor(order, device=device)
        self.back = torch.empty_like(self.order)
        self.back[self.order] = torch.arange(len(frames), device=device)

    def frame(self, values: torch.Tensor, t: int, dtype: torch.dtype) -> torch.Tensor:
        """Return frame t of values [B, T, num_pdfs], of the sequences still running: [running, num_pdfs]."""
        return values[self.order[: self.running[t]], t].to(dtype)

    def emission(self, logits: torch.Tensor, t: int, dtype: torch.dtype) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return e^x [num_pdfs, running] relative to the best pdf of the frame; and that one's x, float64 [running]."""
        outputs = self.frame(logits, t, dtype)
        best = outputs.amax(1, keepdim=True)
        return torch.exp_(outputs - best).t().contiguous(), best[:, 0].to(torch.float64)

    def put(self, values: torch.Tensor, t: int, into: torch.Tensor) -> None:
        """Write values [num_pdfs, running] as frame t of `into` [B, T, num_pdfs]: the undoing of `frame`."""
        into[self.order[: self.running[t]], t] = values.t().to(into.dtype)


class Frames(Protocol):
    """What a frame computes but for its products with the arcs. room: [K, running], to work in."""

    def forward(
        self, t: int, u: torch.Tensor, room: torch.Tensor, known: Optional[torch.Tensor]
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return alpha_{t+1} / s_t [N, running], s_t [running] (known: where it has been computed before), and the
        outputs' best of the frame, float64 [running], of u_t [K, running]."""

    def backward(self, t: int, u: torch.Tensor, room: torch.Tensor, beta: torch.Tensor, total: torch.Tensor) -> None:
        """Write w_t into `room`, and the posteriors of frame t, of beta_{t+1} [N, running] and s_t."""

    @property
    def posteriors(self) -> torch.Tensor:
        """[B, T, num_pdfs], 0 where nothing is written."""


def both_passes(
    g: Any, steps: Frames, by_length: LongestFirst, logits: torch.Tensor, dtype: torch.dtype, segment: int,
    memory: torch.Tensor,
) -> Tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return scores [B] float64 and posteriors [B, T, num_pdfs]; those that are not to be trusted show it.

    g: the graph's tensors; segment: how many frames' u_t are kept; memory: room for segment + 1 of them.
    """
    running, device = by_length.running, logits.device
    longest, count, states, slots = len(running) - 1, len(by_length.back), len(g.start), len(g.slot_pdf)
    size = slots * count

    def place(number: int, t: int) -> torch.Tensor:
        """Room for [K, running]; the last is to work in, the others are of u_t."""
        return memory[number * size : number * size + slots * running[t]].view(slots, running[t])

    scores = torch.full((count,), g.start_score, dtype=torch.float64, device=device)
    ends = torch.zeros(count, dtype=dtype, device=device)  # sum_j alpha_T(j) final(j)
    sums: List[torch.Tensor] = []  # s_t

    def forward(first: int, alpha: torch.Tensor) -> torch.Tensor:
        """Frames of the segment that begins at `first`; returns the alpha after it."""
        for t in range(first, min(first + segment, longest)):
            now, after = running[t], running[t + 1]
            if g.leak is not None:
                alpha = alpha + g.leak
            u = g.along(alpha, out=place(t % segment, t))
            known = sums[t] if t < len(sums) else None
            alpha, total, best = steps.forward(t, u, place(segment, t), known)
            if known is None:  # the first time here
                sums.append(total)
                scores[:now] += torch.log(total).to(torch.float64) + best
            if after < now:
                ends[after:now] = (g.final * alpha[:, after:]).sum(0)
                alpha = alpha[:, :after].contiguous()
        return alpha

    begins = list(range(0, longest, segment))
    starts = [g.start.expand(-1, count).contiguous()]
    for first in begins:
        starts.append(forward(first, starts[-1]))
    scores += torch.log(ends).to(torch.float64)

    beta = torch.empty(states, 0, dtype=dtype, device=device)
    for first in reversed(begins):
        if first != begins[-1]:
            forward(first, starts[first // segment])
        for t in reversed(range(first, min(first + segment, longest))):
            now = running[t]
            if beta.shape[1] < now:
                beta = torch.cat([beta, g.final / ends[beta.shape[1] : now]], 1)
            w = place(segment, t)
            steps.backward(t, place(t % segment, t), w, beta, sums[t])
            beta = g.back(w)
            if g.leak is not None:
                beta = beta + (g.leak * beta).sum(0)
    return scores[by_length.back], steps.posteriors


class TorchFrames:
    """Frames by torch's operations, on any device."""

    def __init__(
        self, g: Any, layers: Layers, by_length: LongestFirst, logits: torch.Tensor, dtype: torch.dtype
    ) -> None:
        self.g, self.layers, self.by_length, self.logits, self.dtype = g, layers, by_length, logits, dtype
        self.posteriors = logits.new_zeros(logits.shape, dtype=torch.promote_types(dtype, logits.dtype))

    def forward(
        self, t: int, u: torch.Tensor, room: torch.Tensor, known: Optional[torch.Tensor]
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        best = self._emitted(t, room)
        room.mul_(u)
        for begin, low, high in self.layers[1:]:
            room[low:high] += room[begin : begin + high - low]
        alpha = room[: len(self.g.start)]
        total = alpha.sum(0) if known is None else known
        return alpha / total, total, best

    def backward(self, t: int, u: torch.Tensor, room: torch.Tensor, beta: torch.Tensor, total: torch.Tensor) -> None:
        beta = beta / total
        self._emitted(t, room)
        for begin, low, high in self.layers:
            room[begin : begin + high - low] *= beta[low:high]
        self.by_length.put(self.g.to_pdf @ u.mul_(room), t, self.posteriors)

    def _emitted(self, t: int, room: torch.Tensor) -> torch.Tensor:
        """Write e^x of every slot into `room` [K, running]; return what it is relative to."""
        emission, best = self.by_length.emission(self.logits, t, self.dtype)
        torch.index_select(emission, 0, self.g.slot_pdf, out=room)
        return best
