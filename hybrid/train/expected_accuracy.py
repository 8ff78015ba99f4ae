"""Expected accuracy over the paths of a shared graph, and its gradient: the inner loop of lattice-free sMBR.

With a[t, k] the accuracy of pdf k in frame t, A(path) = sum_t a[t, pdf_t], p(path | x) = weight(path) e^{x(path)} / Z,

    Abar = sum over paths of  p(path | x) A(path)
    d Abar / d x[t, k] = gamma_t(k) (E[A | pdf k in frame t] - Abar)

(Povey 2003, section 6.3, for MPE; Gibson and Hain 2006 for states; Kanda et al. 2018 without lattices). As A is a sum,
Abar is the derivative of log Z in the direction of a, so that both passes of forward_backward.py are done with dual
numbers: beside every sum of weights goes the same sum of weight times accuracy so far (primed). In its notation,

    u_t  = T alpha_t                    v(k)  = e^x u(k)                    alpha_{t+1}(j)  = sum over slots of j of v
    u'_t = T alpha'_t                   v'(k) = e^x (u'(k) + a u(k))        alpha'_{t+1}(j) = sum over slots of j of v'
    w_t(k)  = e^x beta_{t+1}(node k)                                        beta_t  = T' w_t
    w'_t(k) = e^x (beta'_{t+1}(node k) + a beta_{t+1}(node k))              beta'_t = T' w'_t

    gamma_t(k) = u w,    gamma_t(k) E[A | k] = u' w + u w',    gradient = u' w + u w' - gamma sum_k (u' w + u w').

The last term keeps float32 exact enough: a constant added to all of alpha'/alpha or beta'/beta cancels in the gradient.
So alpha' is centred in every frame, alpha' -= (sum alpha') alpha, and so is beta', beta' -= (sum u w') beta; neither
grows with the length of the utterance, and the sums taken off alpha' add up to Abar. Scaling, the leak, and what is
done where a sequence leaves the range of float32 are those of forward_backward.py. (The leak adds eps pi sum alpha' to
alpha', which is 0 after centring.)
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Callable, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from hybrid.errors import GraphError
from hybrid.train.forward_backward import SharedGraph, no_denormals, trusted
from hybrid.train.frame_passes import LongestFirst
from hybrid.train.fsa import Fsa
from hybrid.train.graph_batch import check_outputs

MAX_BYTES = 2**28  # of kept u, u'; more sequences are done in groups


@dataclass
class Expected:
    """values [B] float64, Abar summed over frames; gradient [B, T, num_pdfs], of Abar; log_z [B] float64 and posteriors
    [B, T, num_pdfs], as SharedGraph.forward_backward gives them."""

    values: Tensor
    gradient: Tensor
    log_z: Tensor
    posteriors: Tensor


def expected_accuracy(
    graph: SharedGraph, logits: Tensor, lengths: Tensor, accuracy: Tensor, *, dtype: Optional[torch.dtype] = None
) -> Expected:
    """Compute the expected accuracy of each sequence over the paths of `graph`, and its gradient.

    logits, accuracy [B, T, num_pdfs], lengths [B]; dtype: what to begin with, as in SharedGraph.forward_backward.
    A sequence that the graph does not accept has value 0, log Z -inf, gradient and posteriors 0.
    Raises GraphError where the shapes do not fit.
    """
    if dtype is None:
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    logits, accuracy = logits.detach(), accuracy.detach()
    if accuracy.shape != logits.shape:
        raise GraphError(
            f"accuracies of shape {list(accuracy.shape)} for outputs of shape {list(logits.shape)}",
            remedy="give one for every output",
        )
    frames = check_outputs(logits, lengths, graph.num_pdfs, logits.shape[0])
    with no_denormals():
        expected = _by_groups(graph, logits, accuracy, frames, dtype)
    good = trusted(expected.posteriors, lengths, expected.log_z, expected.values)
    for row in torch.nonzero(~good)[:, 0].tolist():  # rare: one at a time
        graph.retried += 1
        index = slice(row, row + 1)
        inputs = (logits[index], lengths[index.start : index.stop], accuracy[index])
        if dtype == torch.float32:
            redone = expected_accuracy(graph, *inputs, dtype=torch.float64)
        else:
            leak = None if graph.leak_to is None else graph.leaky * graph.leak_to
            redone = _in_log_domain(graph.fsa, leak, logits[row], accuracy[row], frames[row])
        for name in ("values", "gradient", "log_z", "posteriors"):
            values = getattr(expected, name)
            values[index] = getattr(redone, name).to(values.dtype)
    return expected


def _by_groups(graph: SharedGraph, logits: Tensor, accuracy: Tensor, frames: List[int], dtype: torch.dtype) -> Expected:
    """As many sequences at once as MAX_BYTES hold in pairs u, u' of two segments; at least one."""
    item = torch.empty(0, dtype=dtype).element_size()
    sequence_bytes = 2 * 2 * len(graph._slot_pdf) * item * max(int(max(frames) ** 0.5), 1)
    count = max(1, int(MAX_BYTES // sequence_bytes))
    parts = []
    for begin in range(0, len(frames), count):
        rows = slice(begin, begin + count)
        parts.append(_dual(graph, logits[rows], accuracy[rows], frames[rows], dtype))
    if len(parts) == 1:
        return parts[0]
    columns = zip(*((p.values, p.gradient, p.log_z, p.posteriors) for p in parts))
    return Expected(*(torch.cat(column) for column in columns))


def _dual(graph: SharedGraph, logits: Tensor, accuracy: Tensor, frames: List[int], dtype: torch.dtype) -> Expected:
    device, longest, count = logits.device, max(frames), len(frames)
    g = graph._tensors(device, dtype)
    slots, states = len(graph._slot_pdf), graph.fsa.num_states
    by_length = LongestFirst(frames, device)
    running = by_length.running
    posteriors = logits.new_zeros(logits.shape, dtype=torch.promote_types(dtype, logits.dtype))
    gradient = torch.zeros_like(posteriors)

    def emitted(t: int) -> Tuple[Tensor, Tensor]:
        """e^x of every slot, [K, running]; and what it is relative to."""
        emission, best = by_length.emission(logits, t, dtype)
        return emission.index_select(0, g.slot_pdf), best

    def slot_accuracy(t: int) -> Tensor:
        """The accuracy of every slot, [K, running]."""
        return by_length.frame(accuracy, t, dtype).t().index_select(0, g.slot_pdf)

    def through(product: Callable[[Tensor], Tensor], pair: Tensor) -> Tensor:
        """The product of a matrix with both halves of pair [n, 2, now]."""
        return product(pair.reshape(pair.shape[0], -1)).unflatten(1, (2, -1))

    start_sum = float(np.log(np.exp(graph.fsa.start).sum()))
    log_z = torch.full((count,), start_sum, dtype=torch.float64, device=device)
    values = torch.zeros(count, dtype=torch.float64, device=device)
    ends = torch.zeros(count, dtype=dtype, device=device)  # sum_j alpha_T(j) final(j)
    sums: List[Tensor] = []
    segment = max(int(longest**0.5), 1)
    segment_sums: List[Tensor] = []  # u, u' of the running segment

    def forward(first: int, alpha: Tensor) -> Tensor:
        """Frames of the segment that begins at `first`; returns the alpha, alpha' [states, 2, now] after it."""
        segment_sums.clear()
        for t in range(first, min(first + segment, longest)):
            now, after = running[t], running[t + 1]
            if g.leak is not None:
                alpha = torch.stack([alpha[:, 0] + g.leak, alpha[:, 1]], 1)
            u = through(g.along, alpha)
            segment_sums.append(u)
            e, best = emitted(t)
            v = torch.stack([e * u[:, 0], e * (u[:, 1] + slot_accuracy(t) * u[:, 0])], 1)
            for begin, low, high in graph._layers[1:]:
                v[low:high] += v[begin : begin + high - low]
            v = v[:states]
            is_repeat = t < len(sums)
            total = sums[t] if is_repeat else v[:, 0].sum(0)
            alpha = v / total
            centre = alpha[:, 1].sum(0)
            alpha[:, 1] -= centre * alpha[:, 0]
            if not is_repeat:  # the first time here
                sums.append(total)
                log_z[:now] += torch.log(total).to(torch.float64) + best
                values[:now] += centre.to(torch.float64)
            if after < now:
                if not is_repeat:
                    ended = (g.final[:, :, None] * alpha[:, :, after:]).sum(0)
                    ends[after:now] = ended[0]
                    values[after:now] += (ended[1] / ended[0]).to(torch.float64)
                alpha = alpha[:, :, :after].contiguous()
        return alpha

    begins = list(range(0, longest, segment))
    begun = g.start.expand(-1, count)
    starts = [torch.stack([begun, torch.zeros_like(begun)], 1)]
    for first in begins:
        starts.append(forward(first, starts[-1]))
    log_z += torch.log(ends).to(torch.float64)

    beta = torch.empty(states, 2, 0, dtype=dtype, device=device)
    for first in reversed(begins):
        if first != begins[-1]:
            forward(first, starts[first // segment])
        for t in reversed(range(first, min(first + segment, longest))):
            now = running[t]
            if beta.shape[2] < now:
                new = g.final / ends[beta.shape[2] : now]
                beta = torch.cat([beta, torch.stack([new, torch.zeros_like(new)], 1)], 2)
            beta = beta / sums[t]
            w = torch.empty(slots, 2, now, dtype=dtype, device=device)
            for begin, low, high in graph._layers:
                w[begin : begin + high - low] = beta[low:high]
            w[:, 1] += slot_accuracy(t) * w[:, 0]
            w *= emitted(t)[0][:, None]
            u = segment_sums[t - first]
            later = u[:, 0] * w[:, 1]
            products = through(g.to_pdf.matmul, torch.stack([u[:, 0] * w[:, 0], u[:, 1] * w[:, 0] + later], 1))
            by_length.put(products[:, 0], t, posteriors)
            by_length.put(products[:, 1] - products[:, 0] * products[:, 1].sum(0), t, gradient)
            beta = through(g.back, w)
            if g.leak is not None:
                beta = beta + (g.leak[:, :, None] * beta).sum(0)
            beta[:, 1] -= later.sum(0) * beta[:, 0]

    back = by_length.back
    return Expected(values[back], gradient, log_z[back], posteriors)


def _in_log_domain(fsa: Fsa, leak: Optional[np.ndarray], logits: Tensor, accuracy: Tensor, frames: int) -> Expected:
    """The same for one sequence [T, num_pdfs], arc by arc in the log domain: Abar is the derivative of log Z in the
    direction of the accuracies, and its gradient the derivative of that, both by autograd. Slow; nothing underflows."""
    device = logits.device
    zero, shape = torch.zeros(1, dtype=torch.float64, device=device), logits.shape
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 1.13 calls scatter_reduce a beta, once per process
        x = logits.to(torch.float64).clone().requires_grad_(True)
        log_z = _log_z(fsa, leak, x, frames)
        if not bool(torch.isfinite(log_z)):
            zeros = torch.zeros((1, *shape), dtype=torch.float64, device=device)
            return Expected(zero, zeros, zero - float("inf"), zeros.clone())
        (posteriors,) = torch.autograd.grad(log_z, x, create_graph=True)
        value = (posteriors * accuracy.to(torch.float64)).sum()
        (gradient,) = torch.autograd.grad(value, x)
    return Expected(value.detach()[None], gradient[None], log_z.detach()[None], posteriors.detach()[None])


def _log_z(fsa: Fsa, leak: Optional[np.ndarray], x: Tensor, frames: int) -> Tensor:
    src, dst, pdf, weight, start, final = (
        torch.as_tensor(values, device=x.device, dtype=kind)
        for values, kind in (
            (fsa.src, torch.int64),
            (fsa.dst, torch.int64),
            (fsa.pdf, torch.int64),
            (fsa.logw, torch.float64),
            (fsa.start, torch.float64),
            (fsa.final, torch.float64),
        )
    )
    # Only arcs that can be taken, only states that can be jumped to: -inf plus -inf has no gradient.
    to_leak = torch.as_tensor(np.zeros(0, np.int64) if leak is None else np.flatnonzero(leak), device=x.device)
    log_leak = None if leak is None else torch.as_tensor(np.log(leak[leak > 0]), device=x.device)

    alpha = start
    for t in range(frames):
        if log_leak is not None:
            alpha = alpha.index_copy(0, to_leak, torch.logaddexp(alpha[to_leak], _logsumexp(alpha) + log_leak))
        arcs = torch.isfinite(alpha.detach()[src])
        score = alpha[src[arcs]] + weight[arcs] + x[t, pdf[arcs]]
        to = dst[arcs]
        reached, place = torch.unique(to, return_inverse=True)
        top = torch.full((len(reached),), float("-inf"), dtype=score.dtype, device=x.device)
        top = top.scatter_reduce(0, place, score.detach(), "amax")
        total = torch.zeros_like(top).index_add(0, place, torch.exp(score - top[place]))
        alpha = torch.full_like(start, float("-inf")).index_copy(0, reached, torch.log(total) + top)
    return _logsumexp(alpha + final)


def _logsumexp(values: Tensor) -> Tensor:
    finite = values[torch.isfinite(values.detach())]
    return torch.logsumexp(finite, 0) if len(finite) else values.new_tensor(float("-inf"))
