"""Seconds of a collective operation among N workers on a ring, and a ring's two numbers from measured points.

A message of b bytes to the neighbour takes L + b / B: latency L, bandwidth B of a worker's link, all links at once.

All-reduce of b bytes. The array is cut into N pieces. In N - 1 rounds each worker sends a piece on and adds what it
gets (reduce-scatter); in N - 1 more the finished pieces go round (all-gather). Every worker sends 2 (N - 1) messages of
b / N bytes:

    t = 2 (N - 1) / N * b / B + 2 (N - 1) L                          [Patarasuk and Yuan 2009]

All-gather of one message of m bytes from each. In N - 1 rounds each worker sends on what it got last:

    t = (N - 1) m / B + (N - 1) L

The first tends to 2 b / B, whatever N is; the second grows with N without end, however little each one says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError

Point = Tuple[float, float, float]  # workers, bytes, seconds
COLLECTIVES = ("all-reduce", "all-gather")


@dataclass(frozen=True)
class Network:
    """bandwidth: bytes a second of one worker's link, may be infinite; latency: seconds. Raises ConfigError."""

    bandwidth: float
    latency: float = 0.0

    def __post_init__(self) -> None:
        if math.isnan(self.bandwidth) or self.bandwidth <= 0:
            raise ConfigError(f"bandwidth is {self.bandwidth!r}", remedy="bytes a second, above 0")
        if not 0 <= self.latency < math.inf:
            raise ConfigError(f"latency is {self.latency!r}", remedy="seconds, from 0")

    def seconds(self, collective: str, workers: int, size: float) -> float:
        """Returns the seconds of a collective.

        size: bytes of the array (all-reduce), or of one worker's message (all-gather).
        """
        sent, messages = traffic(collective, workers, size)
        return sent / self.bandwidth + messages * self.latency


def traffic(collective: str, workers: float, size: float) -> Tuple[float, float]:
    """Returns (bytes that one worker sends, messages one after the other). Raises ConfigError."""
    if collective not in COLLECTIVES:
        raise ConfigError(f"unknown collective {collective!r}", remedy=f"one of {', '.join(COLLECTIVES)}")
    if collective == "all-reduce":
        return 2 * (workers - 1) / workers * size, 2 * (workers - 1)
    return (workers - 1) * size, workers - 1


def fit_network(points: Sequence[Point], collective: str = "all-reduce") -> Tuple[Network, List[float]]:
    """Fits bandwidth and latency to (workers, bytes, seconds).

    Returns the network, and the relative error of the fit at each point.

    Least squares in 1 / B and L, neither of them negative, of the relative errors: seconds span decades, and the small
    ones are those that tell the latency. A point of one worker says nothing and is left out. Raises DataError where
    the points cannot tell the two apart.
    """
    remedy = "measure at least two sizes, a small and a large one, with 2 or more workers"
    for number, (workers, size, seconds) in enumerate(points, 1):
        values = np.asarray([workers, size, seconds], dtype=float)
        if not (np.isfinite(values).all() and workers >= 1 and size >= 0 and seconds > 0):
            raise DataError(f"point {number} of a network is {[workers, size, seconds]}", remedy=remedy)
    used = [point for point in points if point[0] > 1]
    table = np.array([traffic(collective, workers, size) for workers, size, _ in used]).reshape(-1, 2)
    table /= np.array([point[2] for point in used]).reshape(-1, 1)
    scale = table.max(axis=0, initial=0.0)
    if len(used) < 2 or not (scale > 0).all() or np.linalg.cond(table / scale) > 1e8:
        raise DataError(f"{len(used)} points do not tell bandwidth and latency apart", remedy=remedy)
    # Imported here: the plan itself needs no scipy, and answers sooner without it.
    from scipy.optimize import nnls

    # Columns in units of their largest: bytes and messages are ten decades apart.
    solution = nnls(table / scale, np.ones(len(used)))[0] / scale
    inverse, latency = float(solution[0]), float(solution[1])
    network = Network(1 / inverse if inverse > 0 else math.inf, latency)
    errors = [network.seconds(collective, int(n), size) / seconds - 1 for n, size, seconds in points]
    return network, errors
