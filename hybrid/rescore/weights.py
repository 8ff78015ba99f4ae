"""Weights of several scores, tuned to the fewest word errors of the best-scored hypotheses of lists.

    total(h) = sum_k w_k s_k(h)        s_1: the first pass, then language models, ..., the number of words

The errors of the best hypotheses are a step function of w, without a gradient. Along a line w + x d, though, each
hypothesis's total is itself a line in x, with slope a = sum_k d_k s_k and intercept b = sum_k w_k s_k, and the best
hypothesis of a list follows the upper envelope of these lines: n lines have at most n pieces, between which the best
one changes. The pieces of all lists together cut x into intervals with a constant number of errors, and the best
interval is found exactly (Och, "Minimum error rate training in statistical machine translation", ACL 2003; the sweep is
that of Macherey et al., "Lattice-based minimum error rate training", EMNLP 2008). The search goes along each
coordinate and along drawn directions, from where it stands to the middle of the best interval, until no line betters
it, and begins again from drawn weights.

Weights are known up to a positive factor: the first pass's is 1 where it is not 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError

Envelope = List[Tuple[float, int]]


@dataclass(frozen=True, eq=False)
class ScoredList:
    """scores: float64 [n, K], of n hypotheses by K scores; errors: float64 [n]."""

    scores: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True, eq=False)
class Tuned:
    """weights: float64 [K]; errors: of the lists' best hypotheses with them."""

    weights: np.ndarray
    errors: float


def tune(
    lists: Sequence[ScoredList],
    *,
    start: Optional[Sequence[float]] = None,
    restarts: int = 8,
    directions: int = 8,
    seed: int = 0,
) -> Tuned:
    """Return the weights of the fewest errors found from `start` (the first score alone) and `restarts` drawn ones,
    `directions` lines drawn beside the coordinates for each sweep. The same seed gives the same weights.

    Raises DataError for no list or scores that are not finite, ConfigError for numbers out of range.
    """
    if restarts < 0 or directions < 0:
        raise ConfigError(f"{restarts} restarts, {directions} directions", remedy="0 or more")
    if not lists:
        raise DataError("no list to tune weights on", remedy="give n-best lists with references")
    if not all(np.isfinite(item.scores).all() for item in lists):
        raise DataError("scores that are not finite", remedy="look for words that a model gives no probability")
    num_scores = lists[0].scores.shape[1]
    # Each score on a scale of its own: a drawn direction then moves all of them by about as much.
    spread = np.sqrt(np.mean([np.mean((item.scores - item.scores.mean(0)) ** 2, axis=0) for item in lists], axis=0))
    scale = 1.0 / np.where(spread > 0, spread, 1.0)
    scaled = [ScoredList(item.scores * scale, item.errors) for item in lists]
    random = np.random.default_rng(seed)
    begins = [np.eye(num_scores)[0] if start is None else np.asarray(start, dtype=np.float64) / scale]
    begins += [np.abs(random.standard_normal(num_scores)) for _ in range(restarts)]
    best = Tuned(begins[0], np.inf)
    for begin in begins:
        weights, errors = begin, errors_of(scaled, begin)
        while True:
            lines = [*np.eye(num_scores), *random.standard_normal((directions, num_scores))]
            found = [line_search(scaled, weights, line) for line in lines]
            step = min(range(len(lines)), key=lambda i: found[i][1])
            if not found[step][1] < errors:
                break
            weights, errors = weights + found[step][0] * lines[step], found[step][1]
        if errors < best.errors:
            best = Tuned(weights, errors)
    weights = best.weights * scale
    return Tuned(weights / abs(weights[0]) if weights[0] else weights, best.errors)


def best_of(scores: np.ndarray, weights: np.ndarray) -> int:
    """Return the place of the highest total of scores [n, K]; of equal ones the first."""
    return int(np.argmax(scores @ weights))


def errors_of(lists: Sequence[ScoredList], weights: np.ndarray) -> float:
    """Return the errors of the lists' best hypotheses."""
    return float(sum(item.errors[best_of(item.scores, weights)] for item in lists))


def line_search(lists: Sequence[ScoredList], weights: np.ndarray, direction: np.ndarray) -> Tuple[float, float]:
    """Return (x, errors): the middle of the interval of fewest errors on weights + x direction. Of several the one that
    is nearest to 0; one without an end reaches 1 beyond the last change."""
    changes: List[Tuple[float, float]] = []
    first = 0.0
    for item in lists:
        pieces = upper_envelope(item.scores @ direction, item.scores @ weights)
        before = item.errors[pieces[0][1]]
        first += before
        for begin, place in pieces[1:]:
            changes.append((begin, item.errors[place] - before))
            before = item.errors[place]
    if not changes:
        return 0.0, first
    changes.sort()
    at = np.array([x for x, _ in changes])
    errors = first + np.cumsum([0.0, *(step for _, step in changes)])
    low, high = np.concatenate([[at[0] - 2.0], at]), np.concatenate([at, [at[-1] + 2.0]])
    # Errors count between changes alone; where several fall together, what lies between them is no interval.
    real = high - low > 1e-9 * np.maximum(1.0, np.abs(low))
    fewest = errors[real].min()
    middles = ((low + high) / 2)[real & (errors <= fewest + 1e-9)]
    x = float(middles[np.argmin(np.abs(middles))])
    return x, float(fewest)


def upper_envelope(slopes: np.ndarray, intercepts: np.ndarray) -> Envelope:
    """Return the pieces of max_i (intercept_i + x slope_i) as (where it begins, i), from x = -inf on.

    Lines by rising slope, of equal slopes the highest alone; a line that comes in takes off those before it that it
    overtakes left of where they begin.
    """
    pieces: Envelope = []
    for i in np.lexsort((np.arange(len(slopes))[::-1], intercepts, slopes)).tolist():
        begin = -np.inf
        while pieces:
            begin, top = pieces[-1][0], pieces[-1][1]
            if slopes[i] == slopes[top]:  # higher, or as high and earlier in the list
                pieces.pop()
                begin = -np.inf
                continue
            cross = (intercepts[top] - intercepts[i]) / (slopes[i] - slopes[top])
            if cross > begin:
                begin = float(cross)
                break
            pieces.pop()
            begin = -np.inf
        pieces.append((float(begin), i))
    return pieces
