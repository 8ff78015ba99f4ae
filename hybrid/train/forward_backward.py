"""Exact forward-backward over one graph that all sequences of a batch share: the engine of the denominator.

Derivation. Z = sum over paths of T arcs of  start * prod_t a(arc_t) e^{x[t, pdf(arc_t)]} * final, with a(arc)
its probability. With alpha_t(j) the sum over the first t arcs of paths that lead to j,

    alpha_0(j) = start(j),    alpha_{t+1}(j) = sum over arcs i->j of  alpha_t(i) a e^{x[t, pdf]}.

Many arcs into a state share its pdf, so arcs are grouped by (destination, pdf) into K *slots*: with
T [K, N] the matrix of arc probabilities from a state to a slot, node(k) and pdf(k) of a slot,

    u_t = T alpha_t,      alpha_{t+1}(j) = sum over slots k of node j of  u_t(k) e^{x[t, pdf(k)]}.

A pdf per slot is as good as a pdf per state, and spares the copy of all leaving arcs that splitting a state
into "just entered" and "looped" would cost. Slots are laid out in *layers*: the first holds one slot of
every node, in the order of the nodes, the next a second slot of those nodes that have one, and so on (gaps
are filled with slots without arcs). Sums over a node's slots are then sums of slices.

The two passes are a product with a sparse matrix per frame, for all sequences of the batch at once
(columns), in the probability domain: no exponential per arc, which is what makes it fast. (Arcs that several
states share are in that matrix once: arc_groups.py. On a CPU what stands between the products is compiled:
cpu_passes.py.) Going back, with
w_t(k) = e^{x[t, pdf(k)]} beta_{t+1}(node(k)),

    beta_T(i) = final(i),   beta_t = T' w_t,   and the posterior of slot k at frame t is u_t(k) w_t(k) / Z.

d log Z / d x[t, p] is the sum of the posteriors of the slots of pdf p.

Range. The naive form under- or overflows after a few frames. Here e^x is relative to the frame's best pdf,
alpha is divided by its sum s_t in every frame and the logarithms are added up; beta is divided by the same
s_t and begins as final / sum_j alpha_T(j) final(j), so that sum_j alpha_t(j) beta_t(j) = 1 in every frame.
What can still be lost is a path that is far behind at some frame (e^-87 in float32, e^-700 in float64) and
comes back later. It is then missing in alpha before it comes back and another one in beta after it,
so that the posteriors of some frame no longer sum to one. That is tested for every sequence, and those that
fail are done again in float64, then in the log domain (graph_batch.py). Numbers below the normal range are
taken for zero: with the outputs of a trained network many alphas and betas come there, and arithmetic on
them is so slow on a CPU that both passes took five times as long.

Leaky HMM (Povey et al. 2016, section 2.5; chain/chain-denominator.h). Before every frame, from any state one
may jump to state j with probability eps pi(j): alpha'_t = alpha_t + eps (sum_i alpha_t(i)) pi, which is
alpha_t + eps pi as the sum is one; going back, beta_t = beta'_t + eps sum_j pi(j) beta'_t(j), the transpose.
Paths are only added, so that the numerator stays contained.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Protocol, Tuple

import numpy as np
import torch

from hybrid.errors import ConfigError, GraphError
from hybrid.train.arc_groups import part
from hybrid.train.cpu_passes import CompiledFrames
from hybrid.train.frame_passes import LongestFirst, TorchFrames, both_passes
from hybrid.train.fsa import Fsa
from hybrid.train.graph_batch import GraphBatch, check_outputs

KEPT_BYTES = 2**24  # of u_t kept for the way back, or as many as the outputs have; see kept_bytes
TOLERANCE = 1e-3  # how far from one the posteriors of a frame may sum


@contextmanager
def no_denormals() -> Iterator[None]:
    """Let this thread's CPU take numbers below the normal range for zero in the block, where the processor can."""
    # torch sets that, but does not tell what it was.
    before = not bool(torch.full((1,), 1e-40, dtype=torch.float32) * 1.0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def kept_bytes(logits: torch.Tensor) -> int:
    """Return how many bytes of u_t are kept for the way back: what does not fit is computed twice, in segments.

    They are as much again as the outputs take, which are there anyway: the engine then never needs more than a small
    multiple of them.
    """
    return max(KEPT_BYTES, logits.numel() * logits.element_size())


def trusted(posteriors: torch.Tensor, lengths: torch.Tensor, *finite: torch.Tensor) -> torch.Tensor:
    """Return whether posteriors [B, T, num_pdfs] sum to one in every frame and the numbers [B] are finite, bool [B]."""
    inside = torch.arange(posteriors.shape[1], device=posteriors.device)[None] < lengths.to(posteriors.device)[:, None]
    sums = posteriors.sum(2)
    wrong = (torch.where(inside, sums, torch.ones_like(sums)) - 1.0).abs().amax(1)
    good = wrong <= TOLERANCE  # false for NaN
    for numbers in finite:
        good &= torch.isfinite(numbers)
    return good


@dataclass
class _Tensors:
    arcs: torch.Tensor  # T, CSR [K, N]; or A [K, G + N] of T = A B, where arcs are shared (arc_groups.py)
    arcs_back: torch.Tensor  # its transpose
    gather: Optional[torch.Tensor]  # B, CSR [G + N, N]
    gather_back: Optional[torch.Tensor]
    to_pdf: torch.Tensor  # CSR [num_pdfs, K] of ones
    slot_pdf: torch.Tensor  # [K]
    start: torch.Tensor  # [N, 1]
    final: torch.Tensor  # [N, 1]
    leak: Optional[torch.Tensor]  # eps pi, [N, 1]
    start_score: float  # what the sum of the start weights was, log

    def along(self, values: torch.Tensor, out: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Return T values, [K, B], of values [N, B]."""
        gathered = values if self.gather is None else self.gather @ values
        return self.arcs @ gathered if out is None else torch.addmm(out, self.arcs, gathered, beta=0, out=out)

    def back(self, values: torch.Tensor) -> torch.Tensor:
        """Return T' values, [N, B], of values [K, B]."""
        before = self.arcs_back @ values
        return before if self.gather_back is None else self.gather_back @ before


class SharedGraph:
    """The denominator graph, ready for a batch of any size on any device.

    leaky: eps above, 0 for none (Kaldi: 1e-5 for chunks); leak_to: pi as log probabilities [states], needed
    where leaky > 0 (denominator.average_start). Raises GraphError for a graph that is empty or does not fit
    num_pdfs, ConfigError for a leaky coefficient outside [0, 1) or without leak_to.
    """

    def __init__(self, fsa: Fsa, num_pdfs: int, *, leaky: float = 0.0, leak_to: Optional[np.ndarray] = None) -> None:
        self.fsa = fsa.check(num_pdfs)
        self.num_pdfs = num_pdfs
        if fsa.first is not None:
            raise GraphError("a graph with windows cannot be shared", remedy="put it into a GraphBatch")
        if not 0.0 <= leaky < 1.0 or (leaky > 0.0 and leak_to is None):
            raise ConfigError(
                f"leaky HMM coefficient {leaky}", remedy="use 0 (off) or a small number as 1e-5, with leak_to"
            )
        self.leaky = leaky
        self.leak_to = None if leak_to is None or leaky == 0.0 else np.exp(leak_to)
        self._lay_out()
        self._tensors_of: Dict[Tuple[torch.device, torch.dtype], _Tensors] = {}
        self._memory_of: Dict[Tuple[torch.device, torch.dtype], torch.Tensor] = {}
        self.k2_fsa: Any = None  # kept by k2_engine.py
        self.retried = 0  # how often a sequence was done again, as float32 or float64 could not hold it

    def __getstate__(self) -> Dict[str, Any]:
        # What can be made again, and cannot travel to another process.
        return {**self.__dict__, "_tensors_of": {}, "_memory_of": {}, "k2_fsa": None}

    def _lay_out(self) -> None:
        """_slot [arcs], _slot_pdf [K], _layers: (first slot, first node, end node) of each."""
        # Slots by node; rank: the how-manieth slot of its node.
        keys, slot = np.unique(self.fsa.dst.astype(np.int64) * self.num_pdfs + self.fsa.pdf, return_inverse=True)
        node, pdf = keys // self.num_pdfs, keys % self.num_pdfs
        rank = np.arange(len(keys)) - np.searchsorted(node, node)
        self._layers: List[Tuple[int, int, int]] = [(0, 0, self.fsa.num_states)]
        size = self.fsa.num_states
        for number in range(1, int(rank.max(initial=0)) + 1):
            low, high = int(node[rank == number].min()), int(node[rank == number].max()) + 1
            self._layers.append((size, low, high))
            size += high - low
        offset = np.asarray([first - low for first, low, _ in self._layers])
        place = offset[rank] + node
        self._slot = place[slot.reshape(-1)]
        self._slot_pdf = np.zeros(size, dtype=np.int64)
        self._slot_pdf[place] = pdf

    def _memory(self, size: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Kept from call to call: fresh pages for every batch cost as much as the arithmetic."""
        memory = self._memory_of.get((device, dtype))
        if memory is None or len(memory) < size:
            memory = self._memory_of[(device, dtype)] = torch.empty(size, dtype=dtype, device=device)
        return memory

    def _tensors(self, device: torch.device, dtype: torch.dtype) -> _Tensors:
        if (device, dtype) not in self._tensors_of:
            from scipy.sparse import csr_matrix

            slots, states = len(self._slot_pdf), self.fsa.num_states
            numbers = np.arange(slots)
            fsa = self.fsa
            arcs, gather = part(self._slot, fsa.src, fsa.dst, np.exp(fsa.logw), (slots, states))
            ones = np.ones(slots)

            def sparse(matrix: csr_matrix) -> torch.Tensor:
                with warnings.catch_warnings():  # torch 1.13 calls its CSR layout a beta once per process
                    warnings.simplefilter("ignore")
                    return torch.sparse_csr_tensor(
                        torch.as_tensor(matrix.indptr, dtype=torch.int32),
                        torch.as_tensor(matrix.indices, dtype=torch.int32),
                        torch.as_tensor(matrix.data, dtype=dtype),
                        size=matrix.shape,
                    ).to(device)

            def column(values: np.ndarray) -> torch.Tensor:
                return torch.as_tensor(values, dtype=dtype, device=device)[:, None].contiguous()

            start = np.exp(self.fsa.start)
            self._tensors_of[(device, dtype)] = _Tensors(
                arcs=sparse(arcs),
                arcs_back=sparse(arcs.T.tocsr()),
                gather=None if gather is None else sparse(gather),
                gather_back=None if gather is None else sparse(gather.T.tocsr()),
                to_pdf=sparse(csr_matrix((ones, (self._slot_pdf, numbers)), shape=(self.num_pdfs, slots))),
                slot_pdf=torch.as_tensor(self._slot_pdf, device=device),
                start=column(start / start.sum()),
                final=column(np.exp(self.fsa.final)),
                leak=None if self.leak_to is None else column(self.leaky * self.leak_to),
                start_score=float(np.log(start.sum())),
            )
        return self._tensors_of[(device, dtype)]

    def forward_backward(
        self, logits: torch.Tensor, lengths: torch.Tensor, *, dtype: Optional[torch.dtype] = None
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return (log Z [B] float64, posteriors [B, T, num_pdfs]) of logits [B, T, num_pdfs] and lengths [B].

        Posteriors sum to one in every frame of a sequence and are 0 in the padding. A sequence shorter than
        the graph's shortest path has log Z = -inf and posteriors 0.
        dtype: what to begin with (default: float64 for float64 logits, else float32).
        """
        if dtype is None:
            dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        logits = logits.detach()
        frames = check_outputs(logits, lengths, self.num_pdfs, logits.shape[0])
        with no_denormals():
            scores, posteriors = self._scaled(logits, frames, dtype)
        rows = torch.nonzero(~trusted(posteriors, lengths, scores))[:, 0]
        if len(rows):
            part_logits, part_lengths = logits[rows], lengths[rows.to(lengths.device)]
            self.retried += len(rows)
            if dtype == torch.float32:
                redone = self.forward_backward(part_logits, part_lengths, dtype=torch.float64)
            else:
                with np.errstate(divide="ignore"):
                    leak = None if self.leak_to is None else np.log(self.leaky * self.leak_to)
                exact = GraphBatch([self.fsa] * len(rows), self.num_pdfs, leak=leak)
                redone = exact.forward_backward(part_logits, part_lengths)
            scores[rows], posteriors[rows] = redone[0], redone[1].to(posteriors.dtype)
        return scores, posteriors

    def _scaled(self, logits: torch.Tensor, frames: List[int], dtype: torch.dtype) -> Tuple[torch.Tensor, torch.Tensor]:
        """Both passes in the probability domain; scores or posteriors that are not to be trusted show it."""
        g = self._tensors(logits.device, dtype)
        # u_t of a segment and one more [K, B] to work in.
        size, longest = len(self._slot_pdf) * len(frames), max(frames)
        fits = kept_bytes(logits) // (size * torch.empty(0, dtype=dtype).element_size()) - 1
        segment = min(longest, max(fits, int(longest**0.5), 1))
        memory = self._memory((segment + 1) * size, logits.device, dtype)
        by_length = LongestFirst(frames, logits.device)
        kind = CompiledFrames if logits.device.type == "cpu" else TorchFrames
        steps = kind(g, self._layers, by_length, logits, dtype)
        return both_passes(g, steps, by_length, logits, dtype, segment, memory)


class Graph(Protocol):
    def forward_backward(self, logits: torch.Tensor, lengths: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]: ...


class _TotalScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, lengths, graph, shared):  # type: ignore[no-untyped-def]
        scores, posteriors = graph.forward_backward(logits, lengths)
        ctx.save_for_backward(posteriors)
        ctx.dtype, ctx.shared = logits.dtype, shared
        if not shared:
            return scores
        ctx.mark_non_differentiable(posteriors)
        return scores, posteriors

    @staticmethod
    def backward(ctx, gradient, *_):  # type: ignore[no-untyped-def]
        (posteriors,) = ctx.saved_tensors
        factors = gradient.to(posteriors.dtype)[:, None, None]
        # What nobody else holds becomes the gradient itself: it is as large as the outputs. (A second backward pass
        # through the same node then is an error of torch's, which sees that a saved tensor was changed.)
        total = posteriors * factors if ctx.shared else posteriors.mul_(factors)
        return total.to(ctx.dtype), None, None, None


def total_scores_and_posteriors(
    graph: Graph, logits: torch.Tensor, lengths: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return log Z [B], float64, differentiable in logits [B, T, num_pdfs]; and its gradient, the posteriors.

    These are [B, T, num_pdfs].
    graph: a SharedGraph or a GraphBatch. -inf (gradient 0) for a sequence that the graph does not accept.
    """
    return _TotalScores.apply(logits, lengths, graph, True)


def total_scores(graph: Graph, logits: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return log Z of `total_scores_and_posteriors` alone, in less memory; its backward pass can be done once."""
    return _TotalScores.apply(logits, lengths, graph, False)
