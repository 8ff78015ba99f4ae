"""Forward-backward over one graph per utterance, in the log domain: the engine of the numerators.

With x[t] the outputs of frame t, and sums in the log semiring (log of the sum of exponentials),

    alpha[0, j]   = start(j)
    alpha[t+1, j] = log sum over arcs i->j of exp(alpha[t, i] + logw + x[t, pdf])
    score         = log sum_j exp(alpha[T, j] + final(j))
    beta[T, i]    = final(i)
    beta[t, i]    = log sum over arcs i->j of exp(logw + x[t, pdf] + beta[t+1, j])
    posterior of an arc at t = exp(alpha[t, i] + logw + x[t, pdf] + beta[t+1, j] - score)

and d score / d x[t, k] = sum of the posteriors at t of the arcs of pdf k. The graphs of a batch are put side
by side as one graph of disjoint parts, so that a frame of all utterances is one operation. Nothing can
underflow here, whatever the outputs; the price, two exponentials an arc and frame, does not matter for
graphs of the size of a transcript. (The leak is that of forward_backward.py, which falls back on this.) On a CPU, and
without a leak, graph_passes.py does the same for one graph after the other.
"""

from __future__ import annotations

import warnings
from typing import List, Optional, Sequence, Tuple

import numpy as np
import torch

from hybrid.errors import GraphError
from hybrid.train.fsa import Fsa
from hybrid.train.graph_passes import both_passes


def check_outputs(logits: torch.Tensor, lengths: torch.Tensor, num_pdfs: int, num_graphs: int) -> List[int]:
    """Return lengths as a list. Raises GraphError where logits [B, T, num_pdfs], lengths [B] do not fit the graphs."""
    frames = [int(n) for n in lengths]
    if logits.dim() != 3 or logits.shape[2] != num_pdfs:
        raise GraphError(
            f"outputs of shape {list(logits.shape)} against graphs of {num_pdfs} pdfs",
            remedy="network and graphs are of different trees: train the network with the tree of the graphs",
        )
    if len(frames) != logits.shape[0] or len(frames) != num_graphs or not frames:
        raise GraphError(
            f"{logits.shape[0]} sequences of outputs, {len(frames)} lengths, {num_graphs} graphs",
            remedy="give one of each for every sequence",
        )
    if min(frames) < 1 or max(frames) > logits.shape[1]:
        raise GraphError(
            f"lengths {min(frames)} to {max(frames)} for outputs of {logits.shape[1]} frames",
            remedy="leave out empty sequences and pad the outputs to the longest",
        )
    return frames


def _log_sum(values: torch.Tensor, index: torch.Tensor, size: int) -> torch.Tensor:
    """out[i] = log sum of exp(values[k]) over the k with index[k] == i; -inf where there is none."""
    top = torch.full((size,), float("-inf"), dtype=values.dtype, device=values.device)
    top = top.scatter_reduce(0, index, values, "amax")
    top = torch.where(torch.isinf(top), torch.zeros_like(top), top)
    total = torch.zeros_like(top).index_add_(0, index, torch.exp(values - top[index]))
    return torch.log(total) + top


class GraphBatch:
    """graphs: one Fsa a sequence, in the order of the sequences; leak: log(eps pi) [states], of every graph.

    Raises GraphError for labels out of range.
    """

    def __init__(self, graphs: Sequence[Fsa], num_pdfs: int, *, leak: Optional[np.ndarray] = None) -> None:
        for graph in graphs:
            if graph.num_arcs and (graph.pdf.min() < 0 or graph.pdf.max() >= num_pdfs):
                graph.check(num_pdfs)
        self.graphs = list(graphs)
        self.num_pdfs = num_pdfs
        self.leak = leak

    def forward_backward(self, logits: torch.Tensor, lengths: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return (scores [B] float64, posteriors [B, T, num_pdfs]) of logits [B, T, num_pdfs] and lengths [B].

        Posteriors sum to one in every frame of a sequence and are 0 in the padding. A sequence that its
        graph does not accept has score -inf and posteriors 0: `Fsa.min_frames` tells beforehand.
        """
        frames = check_outputs(logits, lengths, self.num_pdfs, len(self.graphs))
        plain = logits.device.type == "cpu" and logits.dtype in (torch.float32, torch.float64)
        if plain and self.leak is None and bool(torch.isfinite(logits).all()):
            return self._one_by_one(logits, frames)
        return self.together(logits, frames)

    def _one_by_one(self, logits: torch.Tensor, frames: List[int]) -> Tuple[torch.Tensor, torch.Tensor]:
        outputs = logits.detach().numpy()
        posteriors = np.zeros(outputs.shape, np.promote_types(outputs.dtype, np.float32))
        scores = [
            both_passes(graph, outputs[b, :count], posteriors[b, :count])
            for b, (graph, count) in enumerate(zip(self.graphs, frames, strict=True))
        ]
        return torch.tensor(scores, dtype=torch.float64), torch.from_numpy(posteriors)

    def together(self, logits: torch.Tensor, frames: List[int]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the same by operations on all graphs at once, on any device; frames [B]: the lengths."""
        with warnings.catch_warnings():  # torch 1.13 calls scatter_reduce a beta, once per process
            warnings.simplefilter("ignore")
            return self._both_passes(logits, frames)

    def _both_passes(self, logits: torch.Tensor, frames: List[int]) -> Tuple[torch.Tensor, torch.Tensor]:
        device, num_pdfs, count = logits.device, self.num_pdfs, len(frames)
        # Longest first: the sequences still running at a frame are then a prefix of states and of arcs.
        order = sorted(range(count), key=lambda b: -frames[b])
        graphs = [self.graphs[b] for b in order]
        state_ends = np.cumsum([0] + [graph.num_states for graph in graphs])
        arc_ends = np.cumsum([0] + [graph.num_arcs for graph in graphs])

        def joined(parts: List[np.ndarray], dtype: torch.dtype) -> torch.Tensor:
            return torch.as_tensor(np.concatenate(parts), dtype=dtype, device=device)

        src = joined([g.src + n for g, n in zip(graphs, state_ends, strict=False)], torch.int64)
        dst = joined([g.dst + n for g, n in zip(graphs, state_ends, strict=False)], torch.int64)
        pdfs = [g.pdf.astype(np.int64) + num_pdfs * b for g, b in zip(graphs, order, strict=True)]
        column = joined(pdfs, torch.int64)
        weight = joined([g.logw for g in graphs], torch.float64)
        start = joined([g.start for g in graphs], torch.float64)
        final = joined([g.final for g in graphs], torch.float64)
        sequence = torch.repeat_interleave(
            torch.arange(count, device=device), torch.as_tensor(np.diff(state_ends), device=device)
        )
        ordered = np.asarray([frames[b] for b in order])
        longest = frames[order[0]]
        running = [int((ordered > t).sum()) for t in range(longest)]
        outputs = logits.detach().transpose(0, 1).reshape(logits.shape[1], -1)  # [T, B * num_pdfs]

        windows: Optional[Tuple[torch.Tensor, torch.Tensor]] = None
        if any(graph.first is not None for graph in graphs):
            never = 2**30
            low = joined([np.zeros(g.num_states) if g.first is None else g.first for g in graphs], torch.int64)
            high = joined([np.full(g.num_states, never) if g.last is None else g.last for g in graphs], torch.int64)
            windows = (low, high)

        def inside(values: torch.Tensor, t: int, states: int) -> torch.Tensor:
            """`values` of all states, -inf for those of the running ones whose window does not hold frame t."""
            if windows is None:
                return values
            outside = (windows[0][:states] > t) | (windows[1][:states] < t)
            return torch.cat([values[:states].masked_fill(outside, float("-inf")), values[states:]])

        leak = None if self.leak is None else joined([self.leak] * count, torch.float64)

        alphas = [start]
        scored = outputs[:longest, column] + weight  # logw + x[t, pdf] of every arc
        for t in range(longest):
            states, arcs = int(state_ends[running[t]]), int(arc_ends[running[t]])
            if leak is not None:
                total = _log_sum(alphas[t][:states], sequence[:states], count)
                jumped = torch.logaddexp(alphas[t][:states], total[sequence[:states]] + leak[:states])
                alphas[t] = torch.cat([jumped, alphas[t][states:]])
            after = inside(_log_sum(alphas[t][src[:arcs]] + scored[t, :arcs], dst[:arcs], states), t + 1, states)
            # Sequences that have ended keep their last alpha.
            alphas.append(after if states == len(start) else torch.cat([after, alphas[t][states:]]))
        score = _log_sum(alphas[longest] + final, sequence, count)

        # Minus the score from the start: arcs of a sequence with no path would give inf - inf.
        accepted = torch.isfinite(score)
        beta = final - torch.where(accepted, score, torch.zeros_like(score))[sequence]
        for t in reversed(range(longest)):
            states, arcs = int(state_ends[running[t]]), int(arc_ends[running[t]])
            # An arc that leaves its window has no share, though what follows it would have weight.
            onward = scored[t, :arcs] + inside(beta, t + 1, states)[dst[:arcs]]
            scored[t, :arcs] = alphas[t][src[:arcs]] + onward
            scored[t, arcs:] = float("-inf")
            before = _log_sum(onward, src[:arcs], states)
            if leak is not None:
                jump = _log_sum(before + leak[:states], sequence[:states], count)
                before = torch.logaddexp(before, jump[sequence[:states]])
            beta = before if states == len(start) else torch.cat([before, beta[states:]])
        # What were scores have become log posteriors of arcs.
        dtype = torch.promote_types(logits.dtype, torch.float32)
        posteriors = torch.zeros(logits.shape[1], count * num_pdfs, dtype=dtype, device=device)
        posteriors[:longest].scatter_add_(1, column.expand(longest, -1), torch.exp(scored).to(dtype))
        posteriors = posteriors.view(logits.shape[1], count, num_pdfs).transpose(0, 1)
        scores = torch.empty_like(score)
        scores[torch.as_tensor(order, device=device)] = score
        posteriors = posteriors.masked_fill(~torch.isfinite(scores)[:, None, None], 0.0)
        return scores, posteriors.contiguous()
