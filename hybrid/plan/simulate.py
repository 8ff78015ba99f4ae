"""How long is a step on N workers that are not equally fast, and what is lost?

Workers meet every `period` steps (DDP, GTC: 1; BMUF: some 50) and go on together when the last one is there. With c_wi
the seconds that worker w computes in the i-th step since the last meeting, S_w = c_w1 + ... + c_w,period, one round
takes

    max_w S_w  +  period * transfer

so that a step is, on average over rounds,

    compute   mean_w S_w / period                       what a worker needs for itself
    wait      (max_w S_w - mean_w S_w) / period         for the slowest
    transfer  as methods.py says                        analytic

    efficiency = compute / (compute + wait + transfer)

Each worker has a batch of its own, so this is what N workers hear in a second over N times what one hears alone (weak
scaling): 1 for one worker, never above. The maximum has no closed form for a measured sample, hence rounds are drawn.
Where there is one it is the test: for exponential times of mean 1 the largest of N is H_N = 1 + 1/2 + ... + 1/N. For
independent steps of spread s the wait of BMUF is about 1 / sqrt(period) of DDP's. That does not hold for a worker that
is always slow: it does not average out. `Measured` keeps it so, for a simulated worker is one of the measured ones.

All numbers of workers see the same draws (worker w of 64 is worker w of 1,024), so that curves differ by what they show
and not by chance. The size of a batch counts through the times alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Protocol, Sequence, Union

import numpy as np

from hybrid.errors import ConfigError, DataError
from hybrid.plan.methods import Method
from hybrid.plan.network import Network

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STEPS = 2000  # simulated; of BMUF as many steps, which are fewer rounds
Seconds = Union[Sequence[float], np.ndarray]
_CHUNK = 1 << 22  # draws held at once, 32 MB


class ComputeTimes(Protocol):
    """A worker's own seconds a step, as a distribution."""

    def workers(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Draws what sets the workers apart for good, [count]."""

    def draw(self, random: np.random.Generator, workers: np.ndarray, rounds: int, period: int) -> np.ndarray:
        """Draws seconds, [rounds, workers, period]."""


class LogNormal:
    """All workers alike. spread: standard deviation over mean, from 0; mean in seconds. Raises ConfigError."""

    def __init__(self, mean: float, spread: float) -> None:
        if not 0 < mean < float("inf") or not 0 <= spread < float("inf"):
            raise ConfigError(
                f"step times of mean {mean!r} and spread {spread!r}", remedy="a mean above 0, a spread from 0"
            )
        self.mean, self.spread = mean, spread

    @classmethod
    def fitted(cls, seconds: Seconds) -> LogNormal:
        """Fits mean and standard deviation."""
        (values,) = _checked([seconds])
        return cls(float(values.mean()), float(values.std() / values.mean()))

    def workers(self, random: np.random.Generator, count: int) -> np.ndarray:
        return np.zeros(count, dtype=np.int64)

    def draw(self, random: np.random.Generator, workers: np.ndarray, rounds: int, period: int) -> np.ndarray:
        # exp(m + s z) has the mean exp(m + s^2 / 2) and the squared spread exp(s^2) - 1.
        variance = np.log1p(self.spread**2)
        normal = random.standard_normal((rounds, len(workers), period))
        return self.mean * np.exp(np.sqrt(variance) * normal - variance / 2)


class Measured:
    """Seconds of steps, a row a measured worker: a simulated worker is one of them, by lot. Raises DataError."""

    def __init__(self, rows: Sequence[Seconds]) -> None:
        self.rows = _checked(rows)

    @property
    def mean(self) -> float:
        return float(np.mean([row.mean() for row in self.rows]))

    def workers(self, random: np.random.Generator, count: int) -> np.ndarray:
        return random.integers(len(self.rows), size=count)

    def draw(self, random: np.random.Generator, workers: np.ndarray, rounds: int, period: int) -> np.ndarray:
        seconds = np.empty((rounds, len(workers), period))
        for number, row in enumerate(self.rows):
            assigned = workers == number
            seconds[:, assigned] = random.choice(row, size=(rounds, int(assigned.sum()), period))
        return seconds


def _checked(rows: Sequence[Seconds]) -> List[np.ndarray]:
    times = [np.asarray(row, dtype=float).reshape(-1) for row in rows]
    if not times or any(not len(row) or not (np.isfinite(row).all() and (row > 0).all()) for row in times):
        raise DataError("step times are to be seconds above 0, one or more a worker", remedy="measure them again")
    return times


@dataclass(frozen=True)
class StepCost:
    """Seconds a step, on average."""

    workers: int
    compute: float
    wait: float
    transfer: float

    @property
    def seconds(self) -> float:
        return self.compute + self.wait + self.transfer

    @property
    def efficiency(self) -> float:
        return self.compute / self.seconds

    def to_dict(self) -> Dict[str, float]:
        return {
            "workers": self.workers,
            "compute": self.compute,
            "wait": self.wait,
            "transfer": self.transfer,
            "efficiency": self.efficiency,
        }


def simulate(
    method: Method,
    times: ComputeTimes,
    network: Network,
    parameters: int,
    workers: Sequence[int] = WORKERS,
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> List[StepCost]:
    """Returns one StepCost for each number of workers, in their order. Raises ConfigError."""
    for name, values in (("workers", workers), ("parameters", [parameters]), ("steps", [steps])):
        if not len(values) or any(isinstance(v, bool) or int(v) != v or v < 1 for v in values):
            raise ConfigError(f"{name} is {list(values)!r}", remedy="whole numbers, at least 1")
    random = np.random.default_rng(seed)
    largest, rounds = max(workers), max(1, steps // method.period)
    worker_ids = times.workers(random, largest)
    chunk = max(1, _CHUNK // (largest * method.period))
    compute, slowest = np.zeros(len(workers)), np.zeros(len(workers))
    for begin in range(0, rounds, chunk):
        sums = times.draw(random, worker_ids, min(chunk, rounds - begin), method.period).sum(axis=2)
        for place, count in enumerate(workers):
            compute[place] += sums[:, :count].mean(axis=1).sum()
            slowest[place] += sums[:, :count].max(axis=1).sum()
    compute /= rounds * method.period
    slowest /= rounds * method.period
    return [
        # The mean of equal numbers can be above them by rounding.
        StepCost(n, c, max(0.0, s - c) if n > 1 else 0.0, method.transfer(network, n, parameters, c))
        for n, c, s in zip(workers, compute.tolist(), slowest.tolist())
    ]


def falls_under(costs: Sequence[StepCost], share: float = 0.5) -> float:
    """Returns the number of workers at which the efficiency first falls under `share`.

    It lies between simulated numbers on a line over log workers; infinite where it does not. costs: in order of
    workers.
    """
    before = None
    for cost in costs:
        if cost.efficiency < share:
            if before is None:
                return float(cost.workers)
            part = (before.efficiency - share) / (before.efficiency - cost.efficiency)
            return float(np.exp(np.log(before.workers) + part * np.log(cost.workers / before.workers)))
        before = cost
    return float("inf")
