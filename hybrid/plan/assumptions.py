"""The numbers that a plan rests on: each with its unit, its range and where it comes from. Each is an option.

"paper": Parthasarathi and Strom (ICASSP 2019). "assumed": nobody measured it here; measure it, or give your own.
A default of None is derived from others, which `Values.derive` does; what is given takes precedence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

from hybrid.errors import ConfigError


@dataclass(frozen=True)
class Assumption:
    """least <= value <= most, or least < value where `above`; `whole`: an integer."""

    name: str
    default: Optional[float]
    unit: str
    why: str
    least: float = 0.0
    most: float = math.inf
    above: bool = True
    whole: bool = False

    def check(self, value: float) -> None:
        """Raises ConfigError for a value that is out of range or, where `whole`, no integer."""
        good = math.isfinite(value) and value <= self.most
        good = good and (value > self.least if self.above else value >= self.least)
        if good and (not self.whole or value == int(value)):
            return
        kind = "a whole number" if self.whole else "a number"
        side = f"above {self.least:g}" if self.above else f"of at least {self.least:g}"
        limit = "" if self.most == math.inf else f", at most {self.most:g}"
        raise ConfigError(f"--{self.name} is {value:g}", remedy=f"{kind} {side}{limit} ({self.unit})")


def _count(name: str, default: Optional[float], unit: str, why: str, least: float = 1.0) -> Assumption:
    return Assumption(name, default, unit, why, least, above=False, whole=True)


def _some(name: str, default: Optional[float], unit: str, why: str, most: float = math.inf) -> Assumption:
    """From 0."""
    return Assumption(name, default, unit, why, most=most, above=False)


GROUPS: Tuple[Tuple[str, Tuple[Assumption, ...]], ...] = (
    (
        "data",
        (
            _some("labelled", 7000, "hours", "paper: transcribed speech"),
            _some("unlabelled", 1e6, "hours", "paper: untranscribed speech"),
            Assumption("frame-shift", 0.03, "s", "paper: 3 frames of 10 ms stacked"),
            _count("senones", 3000, "outputs", "paper: about 3,000", least=2),
            _count("k", 20, "logits a frame", "paper: the 20 highest are stored"),
            Assumption("target-bytes", None, "bytes a frame", "derived from k and senones"),
            Assumption("audio-bytes", 17600, "bytes a second", "assumed: 16 kHz, 16 bits, FLAC at 55 %"),
            Assumption("feature-bytes", None, "bytes a frame", "derived: float16, as hybrid pack stores them"),
            _count("copies", 1, "copies of the speech", "packed: as it is; each noisy copy is one more"),
            Assumption("replication", 3, "copies on disk", "assumed: as HDFS keeps them", 1, above=False),
        ),
    ),
    (
        "models and passes",
        (
            _count("input-dim", 192, "features a frame", "paper: 64 log mel, 3 frames stacked"),
            _some("teacher-epochs", 10, "passes", "assumed: teacher, cross-entropy on labelled"),
            _some("teacher-sequence-epochs", 3, "passes", "assumed: teacher, sequence training on labelled"),
            _some("passes", 1, "passes", "assumed: student, soft targets on unlabelled"),
            _some("labelled-passes", 10, "passes", "assumed: student, labelled speech in between"),
            _some("sequence-epochs", 3, "passes", "assumed: student, sequence training on labelled"),
        ),
    ),
    (
        "machines",
        (
            _count("gpus", 64, "GPUs", "paper does not say", least=0),
            _count("cores", 0, "CPU cores", "0: not looked at; with --gpus 0 they train", least=0),
            Assumption("gpu-tflops", 312, "TFLOP/s", "data sheet of an A100, dense bfloat16"),
            Assumption("utilisation", 0.1, "share of the peak", "assumed: a recurrence is many small products", most=1),
            Assumption("core-tflops", 0.1, "TFLOP/s", "701 frames/s of 5 x 768 on a core (benchmarks/README.md)"),
            _count("cores-a-worker", 16, "cores", "assumed: cores of a machine, which train as one worker"),
            Assumption("teacher-rate", None, "frames/s, forward", "derived from FLOPs"),
            Assumption("teacher-training-rate", None, "frames/s", "derived: a third of the forward rate"),
            Assumption("student-rate", None, "frames/s", "derived from FLOPs"),
            Assumption("denominator-rate", None, "frames/s", "derived from benchmarks/README.md"),
            Assumption("write-rate", 46000, "frames/s, a core", "packing targets to disk (benchmarks/README.md)"),
            Assumption("read-rate", 520000, "frames/s, a core", "reading targets (benchmarks/README.md)"),
            Assumption("pack-rate", 1100, "s of audio/s, a core", "FLAC to shards, hybrid pack (benchmarks/README.md)"),
            Assumption("stream-rate", 535000, "frames/s, a core", "streaming shards (benchmarks/README.md)"),
        ),
    ),
    (
        "distributed training",
        (
            _count("batch", 8192, "frames a worker, step", "assumed: 64 sequences of 128 frames"),
            Assumption("bandwidth", 12.5e9, "bytes/s a worker", "assumed: 100 Gbit/s each"),
            _some("latency", 2e-5, "s a message", "assumed"),
            _some("spread", 0.1, "std / mean", "assumed: of a worker's step times, log-normal"),
            Assumption("gradient-bytes", 4, "bytes a value", "float32, sent dense (DDP, BMUF)"),
            _some("overlap", 0.5, "share", "assumed: of DDP's transfer, hidden behind the backward pass", most=1),
            Assumption("density", 0.002, "share", "GTC: as Strom (2015); recipes/demo took 0.031", most=1),
            Assumption("element-bytes", 2, "bytes", "GTC: a sign and a gap of 15 bits (of 7, 1 byte, at 2 %)"),
            _some("scan", 1e-10, "s a parameter", "assumed: GTC, passes over what is not sent, on a GPU"),
            _some("decode", 1e-9, "s an element", "assumed: GTC, adding a received element"),
            _count("period", 50, "steps", "BMUF: batches between two averages (Chen and Huo 2016)"),
        ),
    ),
)
ASSUMPTIONS: Dict[str, Assumption] = {assumption.name: assumption for _, group in GROUPS for assumption in group}


class Values:
    """name -> number, and where each comes from. Raises ConfigError for a value out of its range."""

    def __init__(self, given: Mapping[str, float]) -> None:
        self._numbers: Dict[str, float] = {}
        self._why: Dict[str, str] = {}
        for name, value in given.items():
            if name not in ASSUMPTIONS:
                raise ConfigError(f"no assumption {name}", remedy=f"one of {', '.join(ASSUMPTIONS)}")
            ASSUMPTIONS[name].check(value)
            self._numbers[name], self._why[name] = value, "given"
        for name, assumption in ASSUMPTIONS.items():
            if assumption.default is not None:
                self.derive(name, assumption.default, assumption.why)

    def __getitem__(self, name: str) -> float:
        return self._numbers[name]

    def whole(self, name: str) -> int:
        return int(self._numbers[name])

    def derive(self, name: str, value: float, why: str) -> float:
        """Fills what was not given; returns what then counts."""
        if name not in self._numbers:
            ASSUMPTIONS[name].check(value)
            self._numbers[name], self._why[name] = value, why
        return self._numbers[name]

    def measured(self, name: str, value: float) -> None:
        """Takes the place of a default, not of what was given."""
        if self._why.get(name) != "given":
            ASSUMPTIONS[name].check(value)
            self._numbers[name], self._why[name] = value, "measured"

    def rows(self) -> List[Tuple[str, str, float, str, str]]:
        """Returns (group, name, value, unit, where it comes from) of all that have a value, in the order of GROUPS."""
        return [
            (group, assumption.name, self._numbers[assumption.name], assumption.unit, self._why[assumption.name])
            for group, assumptions in GROUPS
            for assumption in assumptions
            if assumption.name in self._numbers
        ]
