"""Three ways to train one network on N workers: what each sends, and how long training stands still for it.

P parameters, g bytes a value sent dense (4), c the mean seconds of a worker's own step. Transfers as network.py says.

DDP      every step, an all-reduce of the gradient, g P bytes. Gradients of the last layers are ready while those of
         the first are still computed: a share `overlap` of the transfer can hide, but only behind the backward pass,
         which is 2/3 of a step (models.py):

             t = T - min(overlap T, 2/3 c),   T = all_reduce(g P)

GTC      gradient threshold compression (Strom, Interspeech 2015). Every step, each worker sends the `density` P values
         of its gradient that passed the threshold, one bit each, with the gap to the one before, `element_bytes`
         together (2; Strom packs 4); the rest is carried over to the next step. The sets differ, so they cannot be
         added on the way: an all-gather, and each worker then adds the elements of all N (its own too), `decode`
         seconds each. Before, it passes over all it holds back, to add, compare and find: `scan` seconds a parameter,
         whatever is sent.

             t = scan P + all_gather(density P element_bytes) + N density P decode

         Gaps that do not fit their bits need a filler element. `element_bytes` is to count them (word_bytes).

BMUF     blockwise model update filtering (Chen and Huo, ICASSP 2016). Workers train alone for `period` steps, then
         their models are averaged by an all-reduce of g P bytes:

             t = all_reduce(g P) / period     a step

         and nobody waits in between: the wait is for the largest of N sums of `period` steps (simulate.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from hybrid.errors import ConfigError
from hybrid.plan.network import Network, traffic

BACKWARD = 2 / 3  # of a step's operations


class Method(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def period(self) -> int:
        """The steps from one meeting of the workers to the next."""

    def transfer(self, network: Network, workers: int, parameters: int, compute: float) -> float:
        """Returns the seconds a step that no worker computes in, all being there.

        compute: seconds of a worker's own step.
        """

    def sent(self, workers: int, parameters: int) -> float:
        """Returns the bytes that a worker sends a step, on average; it receives as many."""


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most or math.isinf(value):
        raise ConfigError(f"{name} is {value!r}", remedy=f"a number from {least:g} to {most:g}")


@dataclass(frozen=True)
class Ddp:
    """Raises ConfigError, as all of these."""

    overlap: float = 0.0
    value_bytes: float = 4.0
    name: str = field(default="DDP", init=False)
    period: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        _check("overlap", self.overlap, 0, 1)
        _check("value_bytes", self.value_bytes, 0, math.inf)

    def transfer(self, network: Network, workers: int, parameters: int, compute: float) -> float:
        seconds = network.seconds("all-reduce", workers, self.value_bytes * parameters)
        return seconds - min(self.overlap * seconds, BACKWARD * compute)

    def sent(self, workers: int, parameters: int) -> float:
        return traffic("all-reduce", workers, self.value_bytes * parameters)[0]


def word_bytes(density: float) -> float:
    """Returns the bytes an element, fillers and all, of messages as train/gtc.py writes them.

    What is sent is taken to be spread evenly.

    Of a gap of m places or more, of which there are q = (1 - density)^m, a filler passes over m, and what is left is a
    gap of the same distribution: 1 / (1 - q) words an element. Of 16 or of 8 bits (m = 2^15 - 1 or 2^7 - 1), whichever
    makes the message shorter.
    """
    if density == 0:
        return 2.0
    return min(width / (1 - (1 - density) ** (2 ** (8 * width - 1) - 1)) for width in (2, 1))


@dataclass(frozen=True)
class Gtc:
    density: float = 0.002
    element_bytes: float = 2.0
    decode: float = 1e-9
    scan: float = 0.0
    name: str = field(default="GTC", init=False)
    period: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        _check("density", self.density, 0, 1)
        _check("element_bytes", self.element_bytes, 0, math.inf)
        _check("decode", self.decode, 0, math.inf)
        _check("scan", self.scan, 0, math.inf)

    def transfer(self, network: Network, workers: int, parameters: int, compute: float) -> float:
        if workers == 1:  # nobody to tell: nothing is coded
            return 0.0
        elements = self.density * parameters
        gathered = network.seconds("all-gather", workers, elements * self.element_bytes)
        return self.scan * parameters + gathered + workers * elements * self.decode

    def sent(self, workers: int, parameters: int) -> float:
        return traffic("all-gather", workers, self.density * parameters * self.element_bytes)[0]


@dataclass(frozen=True)
class Bmuf:
    period: int = 50
    value_bytes: float = 4.0
    name: str = field(default="BMUF", init=False)

    def __post_init__(self) -> None:
        if isinstance(self.period, bool) or not isinstance(self.period, int) or self.period < 1:
            raise ConfigError(f"period is {self.period!r}", remedy="a whole number of steps, at least 1")
        _check("value_bytes", self.value_bytes, 0, math.inf)

    def transfer(self, network: Network, workers: int, parameters: int, compute: float) -> float:
        return network.seconds("all-reduce", workers, self.value_bytes * parameters) / self.period

    def sent(self, workers: int, parameters: int) -> float:
        return traffic("all-reduce", workers, self.value_bytes * parameters)[0] / self.period
