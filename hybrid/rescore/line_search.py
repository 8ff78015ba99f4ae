"""The exact search along a line for weights that make the fewest word errors.

F. J. Och, "Minimum error rate training in statistical machine translation", ACL 2003; of lattices, and with the sweep
over the upper envelope: W. Macherey, F. J. Och, I. Thayer and J. Uszkoreit, "Lattice-based minimum error rate training
for statistical machine translation", EMNLP 2008.

    f_ui     the features of hypothesis i of list u, [k]: its scores and its number of words
    e_ui     its word errors, an integer
    i*_u(w)  the hypothesis that weights w choose, argmax_i w . f_ui (the first of those that share the maximum)
    E(w)     sum over u of e_u,i*_u(w)

E is constant but where the choice of some list changes, so it has no gradient that would say anything; nor need it
have. Along the line w(x) = w0 + x d each hypothesis is a straight line in x,

    w(x) . f_ui = a_ui + x b_ui,        a_ui = w0 . f_ui,   b_ui = d . f_ui

and what is chosen at x is the highest of them there: the upper envelope, which is convex and made of pieces of rising
slope. At x = -inf the lowest slope is highest (of those of one slope the one with the largest a, of those alike the
first). From a line c on the envelope the next one is, of all lines j with b_j > b_c, the one that c meets first,

    x_cj = (a_c - a_j) / (b_j - b_c),

and of those that meet it there the steepest: further right it is the highest. A list of n hypotheses, h of them on its
envelope, takes n h steps. Each passage adds e_j - e_c to E at x_cj. The passages of all lists, sorted by x and summed
from E(-inf), are E at each x: the least of all weights on the line, and not only of those that somebody thought of
trying. Between two passages all weights are alike to the development set. The middle of the widest interval with the
least E is taken: there no choice is near to changing.

`scan` does the same slowly, weights by weights; it stands here to test this.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.compiled import compiled


class PackedLists(NamedTuple):
    """The hypotheses of all lists, list after list. offsets: int64 [lists + 1], where each list begins; features:
    float64 [n, k]; errors: int64 [n]."""

    offsets: np.ndarray
    features: np.ndarray
    errors: np.ndarray

    def choices(self, weights: np.ndarray) -> np.ndarray:
        """Return the place of the hypothesis that the weights choose in each list, among all of them: int64 [lists]."""
        out = np.empty(len(self.offsets) - 1, np.int64)
        _choose(self.offsets, total_scores(self.features, weights), out)
        return out

    def num_errors(self, weights: np.ndarray) -> int:
        """Return E(weights)."""
        return int(self.errors[self.choices(weights)].sum())


def total_scores(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return w . f of each row, float64 [n], summed from the first feature to the last.

    Rows alike then have one score, which a matrix product does not promise.
    """
    total = np.zeros(len(features))
    for column, weight in enumerate(weights.tolist()):
        total += weight * features[:, column]
    return total


class Step(NamedTuple):
    """x: where on the line; errors: E there; low, high: the interval that x is the middle of."""

    x: float
    errors: int
    low: float
    high: float


def search_line(lists: PackedLists, weights: np.ndarray, direction: np.ndarray, limit: float = 1e3) -> Step:
    """Return the x in [-limit, limit] at which weights + x direction make the fewest errors: the middle of the widest
    interval of those, of equally wide ones the first."""
    breaks, changes, errors = envelope_changes(
        lists.offsets, total_scores(lists.features, weights), total_scores(lists.features, direction), lists.errors
    )
    return best_interval(breaks, changes, errors, limit)


def envelope_changes(
    offsets: np.ndarray, intercepts: np.ndarray, slopes: np.ndarray, errors: np.ndarray
) -> Tuple[np.ndarray, np.ndarray, int]:
    """Return where E changes, sorted, float64 [m], by how much, int64 [m], and E at -inf."""
    breaks, changes = np.empty(len(slopes)), np.empty(len(slopes), np.int64)
    count, start = _envelopes(offsets, intercepts, slopes, errors, breaks, changes)
    places, group = np.unique(breaks[:count], return_inverse=True)
    sums = np.bincount(group, weights=changes[:count], minlength=len(places)).astype(np.int64)
    changed = sums != 0  # an interval goes on where E stays
    return places[changed], sums[changed], int(start)


def best_interval(breaks: np.ndarray, changes: np.ndarray, errors: int, limit: float) -> Step:
    """Return the middle of the widest interval within the limits that has the fewest errors."""
    totals = errors + np.concatenate([[0], np.cumsum(changes)])
    edges = np.clip(np.concatenate([[-np.inf], breaks, [np.inf]]), -limit, limit)
    widths = np.diff(edges)
    # Narrower ones have no middle that is told apart from their edges by the sums of a score.
    real = widths > 1e-9 * (1.0 + np.abs(edges[1:]))
    best = int(totals[real].min())
    index = int(np.argmax(np.where(real & (totals == best), widths, -1.0)))
    low, high = float(edges[index]), float(edges[index + 1])
    return Step((low + high) / 2.0, best, low, high)


@compiled
def _envelopes(offsets: Any, intercepts: Any, slopes: Any, errors: Any, breaks: Any, changes: Any) -> Any:
    """Write the passages of all lists into breaks and changes; return their number and E at -inf."""
    count, start = 0, 0
    for index in range(offsets.shape[0] - 1):
        begin, end = offsets[index], offsets[index + 1]
        current = begin
        for other in range(begin + 1, end):
            if slopes[other] < slopes[current] or (
                slopes[other] == slopes[current] and intercepts[other] > intercepts[current]
            ):
                current = other
        start += errors[current]
        before = -np.inf
        while True:
            following, place = -1, np.inf
            for other in range(begin, end):
                if slopes[other] > slopes[current]:
                    x = (intercepts[current] - intercepts[other]) / (slopes[other] - slopes[current])
                    if x < place or (
                        x == place
                        and following >= 0
                        and (
                            slopes[other] > slopes[following]
                            or (slopes[other] == slopes[following] and intercepts[other] > intercepts[following])
                        )
                    ):
                        following, place = other, x
            if following < 0:
                break
            before = max(before, place)  # rounding must not turn back
            breaks[count], changes[count] = before, errors[following] - errors[current]
            count += 1
            current = following
    return count, start


@compiled
def _choose(offsets: Any, totals: Any, out: Any) -> None:
    for index in range(offsets.shape[0] - 1):
        best = offsets[index]
        for other in range(offsets[index] + 1, offsets[index + 1]):
            if totals[other] > totals[best]:
                best = other
        out[index] = best


def scan(lists: PackedLists, weights: np.ndarray, direction: np.ndarray, xs: Sequence[float]) -> List[int]:
    """Return E(weights + x direction) of each x, as it is defined: every list is searched anew."""
    out = []
    for x in xs:
        errors = 0
        for begin, end in zip(lists.offsets[:-1], lists.offsets[1:]):
            totals = [float(np.dot(weights + x * direction, row)) for row in lists.features[begin:end]]
            errors += int(lists.errors[begin + totals.index(max(totals))])
        out.append(errors)
    return out
