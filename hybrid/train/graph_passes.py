"""The two passes of graph_batch.py over one graph, compiled, for the CPU.

What graph_batch.py computes for all utterances and arcs of a batch, this computes where a path can be: a state
that no path has reached, or whose window does not hold the frame, has no arcs to look at. Of a numerator made from an
alignment that is a few states a frame.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from hybrid.compiled import compiled
from hybrid.train.fsa import Fsa

_NEVER = 2**30  # beyond any frame


@compiled
def _forward(outputs, first_arc, src, pdf, logw, first, last, alpha):  # type: ignore[no-untyped-def]
    """Fill alpha [T + 1, N] but for frame 0, arcs in the order of the states that they lead to: state's are
    first_arc[state] to first_arc[state + 1]."""
    frames, states = outputs.shape[0], first.shape[0]
    for t in range(frames):
        for state in range(states):
            if first[state] > t + 1 or last[state] < t + 1:
                continue
            top = -np.inf
            for arc in range(first_arc[state], first_arc[state + 1]):
                if alpha[t, src[arc]] > -np.inf:
                    top = max(top, alpha[t, src[arc]] + logw[arc] + outputs[t, pdf[arc]])
            if top == -np.inf:
                continue
            total = 0.0
            for arc in range(first_arc[state], first_arc[state + 1]):
                if alpha[t, src[arc]] > -np.inf:
                    total += np.exp(alpha[t, src[arc]] + logw[arc] + outputs[t, pdf[arc]] - top)
            alpha[t + 1, state] = top + np.log(total)


@compiled
def _backward(outputs, first_arc, dst, pdf, logw, first, last, alpha, beta, posteriors):  # type: ignore[no-untyped-def]
    """Add the posteriors of all arcs to `posteriors` [T, P], arcs in the order of the states that they leave.

    beta [2, N]: the last frame's, minus the score, and room for the one before.
    """
    frames, states = outputs.shape[0], first.shape[0]
    for back in range(frames):
        t = frames - 1 - back
        after, before = beta[back % 2], beta[(back + 1) % 2]
        for state in range(states):
            before[state] = -np.inf
            if alpha[t, state] == -np.inf:
                continue
            top = -np.inf
            for arc in range(first_arc[state], first_arc[state + 1]):
                to = dst[arc]
                if first[to] <= t + 1 <= last[to] and after[to] > -np.inf:
                    top = max(top, logw[arc] + outputs[t, pdf[arc]] + after[to])
            if top == -np.inf:
                continue
            total = 0.0
            scale = np.exp(alpha[t, state] + top)
            for arc in range(first_arc[state], first_arc[state + 1]):
                to = dst[arc]
                if first[to] <= t + 1 <= last[to] and after[to] > -np.inf:
                    share = np.exp(logw[arc] + outputs[t, pdf[arc]] + after[to] - top)
                    total += share
                    posteriors[t, pdf[arc]] += share * scale
            before[state] = top + np.log(total)


def both_passes(graph: Fsa, outputs: np.ndarray, posteriors: np.ndarray) -> float:
    """Return the score of outputs [T, P] and add its posteriors to `posteriors` [T, P]; -inf, and nothing added, where
    the graph does not accept T frames.

    outputs: float32 or float64, finite; posteriors: likewise, in one run of memory.
    """
    frames, states = len(outputs), graph.num_states
    outputs = np.ascontiguousarray(outputs)
    first = np.zeros(states, np.int32) if graph.first is None else np.asarray(graph.first, np.int32)
    last = np.full(states, _NEVER, np.int32) if graph.last is None else np.asarray(graph.last, np.int32)
    alpha = np.full((frames + 1, states), -np.inf)
    alpha[0] = graph.start
    _forward(outputs, *_by(graph.dst, states, graph.src, graph), first, last, alpha)
    ends = alpha[frames] + graph.final
    best = ends.max(initial=-np.inf)
    if best == -np.inf:
        return -np.inf
    score = float(best + np.log(np.exp(ends - best).sum()))
    beta = np.empty((2, states))
    beta[0] = graph.final - score
    _backward(outputs, *_by(graph.src, states, graph.dst, graph), first, last, alpha, beta, posteriors)
    return score


def _by(key: np.ndarray, states: int, others: np.ndarray, graph: Fsa) -> Tuple[np.ndarray, ...]:
    """Return where the arcs of each state of `key` begin [N + 1], and others, pdfs and weights [arcs] in that order: of
    the same types always, for which the passes are compiled."""
    order = np.argsort(key, kind="stable")
    begin = np.searchsorted(key[order], np.arange(states + 1))
    others, pdf = (np.asarray(column[order], np.int32) for column in (others, graph.pdf))
    return begin, others, pdf, np.asarray(graph.logw[order], np.float64)
