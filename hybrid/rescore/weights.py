"""Weights of several scores, tuned to the fewest word errors of the best-scored hypotheses of lists.

    total(h) = sum_k w_k s_k(h)        s_1: the first pass, s_2: the number of words, then language models, ...

and the hypothesis with the highest total is the answer. A positive factor on all weights changes no answer: the first
pass's is 1 where it is above 0, else the largest is 1 or -1.

The search (Och 2003) goes line by line, each exactly (line_search.py), and moves where errors become fewer, until
rounds over all lines bring nothing. It does so from several points, for the errors have many minima: each score alone,
all weights alike, and random ones of a seed. Of ends with equally many errors the one is taken whose neighbours make
the fewest, the mean over `PROBES` points around it, the same for each; of equal ones one that trusts the first pass.

Scores of language models are much alike, and what is to be found is often how much of their difference counts: a valley
that lies aslant to all weights, and is narrow. So the search is in coordinates in which the scores are not correlated
and have a variance of one. Let x be the scores of a hypothesis less the mean of its list, and C = (1/N) sum x x' =
V diag(d) V'; then

    z = d^(-1/2) V' x        has (1/N) sum z z' = 1,   and   w' x = (w_z)' z   with   w = V d^(-1/2) w_z

and lines are the axes of z, those of x, and random ones. Directions whose d is below `FLOOR` of the largest are left
out: no weight is given to a difference that is no more than rounding, nor to a score that is always the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError
from hybrid.rescore.line_search import PackedLists, search_line, total_scores

RESTARTS = 8  # random points
RANDOM_LINES = 8  # a round, beside those along each weight
ROUNDS = 50
IDLE_ROUNDS = 2  # a search ends after as many rounds that brought nothing
PROBES = 64
FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class ScoredList:
    """scores: float64 [n, k], of n hypotheses by k scores; errors: whole numbers [n]."""

    scores: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True, eq=False)
class Tuned:
    """weights: float64 [k]; errors: of the lists' best hypotheses with them."""

    weights: np.ndarray
    errors: int


def tune(lists: Sequence[ScoredList], *, seed: int = 0, restarts: int = RESTARTS) -> Tuned:
    """Return the weights of the fewest errors that were found. The same lists and seed give the same weights.

    Raises DataError for no list or scores that are not finite, ConfigError for restarts below 0.
    """
    if restarts < 0:
        raise ConfigError(f"{restarts} restarts", remedy="0 or more")
    packed = pack(lists)
    random = np.random.default_rng(seed)
    size = packed.features.shape[1]
    white, basis, axes = _whitened(packed)
    starts = [*axes, axes.sum(axis=0), *random.normal(size=(restarts, size))]
    lines = [*np.eye(size), *(axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-12))]
    ends = [_descend(white, start, lines, random) for start in starts]
    errors = [white.num_errors(end) for end in ends]
    probes = random.normal(size=(PROBES, size)) * (0.1 / math.sqrt(size))
    tied = [end for end, count in zip(ends, errors, strict=True) if count == min(errors)]
    rough = [sum(white.num_errors(end + probe) for probe in probes) for end in tied]
    found = [basis @ end for end in tied]
    weights = found[min(range(len(found)), key=lambda k: (rough[k], found[k][0] <= 0))]
    weights = weights / (weights[0] if weights[0] > 0 else np.abs(weights).max() or 1.0)
    return Tuned(weights, packed.num_errors(weights))


def pack(lists: Sequence[ScoredList]) -> PackedLists:
    """Return lists as the search takes them. Raises DataError for no list and scores that are not finite."""
    if not lists:
        raise DataError("no list to tune weights on", remedy="give n-best lists with references")
    features = np.concatenate([item.scores for item in lists]).astype(np.float64)
    if not np.isfinite(features).all():
        raise DataError("scores that are not finite", remedy="look for words that a model gives no probability")
    offsets = np.cumsum([0, *(len(item.errors) for item in lists)]).astype(np.int64)
    return PackedLists(offsets, features, np.concatenate([item.errors for item in lists]).astype(np.int64))


def best_of(scores: np.ndarray, weights: np.ndarray) -> int:
    """Return the place of the highest total of scores [n, k]; of equal ones the first."""
    return int(np.argmax(total_scores(scores, weights)))


def errors_of(lists: Sequence[ScoredList], weights: np.ndarray) -> int:
    """Return the errors of the lists' best hypotheses."""
    return pack(lists).num_errors(np.asarray(weights, dtype=np.float64))


def _centred(lists: PackedLists) -> np.ndarray:
    """Return the features less their mean in the list: no answer changes, float64 [n, k]."""
    sizes = np.diff(lists.offsets)
    means = np.add.reduceat(lists.features, lists.offsets[:-1], axis=0) / sizes[:, None]
    return np.asarray(lists.features - np.repeat(means, sizes, axis=0))


def _whitened(lists: PackedLists) -> Tuple[PackedLists, np.ndarray, np.ndarray]:
    """Return the lists with z above as scores; V d^(-1/2), which makes weights of the scores of those of z; and its
    inverse, whose columns are the axes of the scores, as rows."""
    centred = _centred(lists)
    spread = np.sqrt(np.mean(centred**2, axis=0))
    scale = np.where(spread > 1e-12, spread, 1.0)
    scaled = centred / scale
    values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    root = np.sqrt(np.maximum(values, 0.0))
    kept = values > FLOOR * values[-1]
    basis = vectors * np.divide(1.0, root, out=np.zeros_like(root), where=kept)
    features = np.ascontiguousarray(scaled @ basis)
    return lists._replace(features=features), basis / scale[:, None], vectors * scale[:, None] * (root * kept)


def _descend(
    lists: PackedLists, start: np.ndarray, fixed: Sequence[np.ndarray], random: np.random.Generator
) -> np.ndarray:
    """Return the end of a search that begins at `start`, along the lines `fixed` and random ones of each round."""
    size = len(start)
    weights = start / max(float(np.linalg.norm(start)), 1e-12)
    errors = lists.num_errors(weights)
    idle = 0
    for _ in range(ROUNDS):
        before = errors
        lines: List[np.ndarray] = [*fixed, *random.normal(size=(RANDOM_LINES, size)) / math.sqrt(size)]
        for line in lines:
            step = search_line(lists, weights, line, limit=10.0)
            moved = weights + step.x * line
            length = float(np.linalg.norm(moved))
            if length < 1e-9:
                continue
            moved /= length
            # Counted, not believed: at a point where two lines cross by rounding the sums may choose otherwise.
            count = lists.num_errors(moved)
            if count < errors or (count == errors and step.errors == count):
                weights, errors = moved, count
        idle = idle + 1 if errors == before else 0
        if idle == IDLE_ROUNDS:
            break
    return weights
