"""The learning rate over a training: driven by the development set, or by the share of the training done.

newbob: the rate is multiplied by `factor` after an epoch that did not better the development loss by the share
`threshold`; where the loss got worse, training goes on from the best epoch; it ends after `max_decays` such epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Mapping

from hybrid.errors import ConfigError

KINDS = ("newbob", "cosine", "exponential", "constant")


@dataclass(frozen=True)
class ScheduleConfig:
    kind: str = "newbob"
    warmup: int = 0  # updates over which the rate rises linearly from 0
    factor: float = 0.5  # newbob
    threshold: float = 0.003  # newbob: relative
    max_decays: int = 6  # newbob
    restart: bool = True  # newbob: go on from the best epoch where the loss got worse
    final: float = 0.01  # cosine, exponential: the last rate as a share of the first

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"schedule is {self.kind!r}", remedy=f"one of {', '.join(KINDS)}")
        checks = (
            ("warmup", self.warmup >= 0, "0 or more updates"),
            ("factor", 0 < self.factor < 1, "between 0 and 1"),
            ("threshold", 0 <= self.threshold < 1, "a share of the loss, from 0 to below 1"),
            ("max_decays", self.max_decays >= 0, "0 or more"),
            ("final", 0 < self.final <= 1, "a share of the first rate, above 0"),
        )
        for name, good, remedy in checks:
            if not good:
                raise ConfigError(f"{name} is {getattr(self, name)}", remedy=remedy)


@dataclass
class Decision:
    """What follows from an epoch's development loss."""

    best: bool  # the best loss so far
    restart: bool = False  # go on from the best epoch's parameters
    stop: bool = False


class Schedule:
    def __init__(self, config: ScheduleConfig, lr: float) -> None:
        self.config = config
        self.lr = lr
        self.scale = 1.0
        self.decays = 0
        self.best_loss = math.inf
        self.best_epoch = -1

    def rate(self, update: int, done: float) -> float:
        """Return the rate for the update numbered `update` (from 0); done: the share of the epochs done, in [0, 1]."""
        config = self.config
        rate = self.lr
        if config.kind == "newbob":
            rate *= self.scale
        elif config.kind == "cosine":
            rate *= config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        elif config.kind == "exponential":
            rate *= config.final ** min(done, 1.0)
        if update < config.warmup:
            rate *= (update + 1) / config.warmup
        return rate

    def after_epoch(self, epoch: int, dev_loss: float) -> Decision:
        config = self.config
        # A loss that is not finite is never the best.
        best = dev_loss < self.best_loss
        gain = self.best_loss - dev_loss if best else 0.0
        enough = math.isinf(self.best_loss) or gain > config.threshold * abs(self.best_loss)
        decision = Decision(best=best)
        if best:
            self.best_loss, self.best_epoch = dev_loss, epoch
        if config.kind == "newbob" and not (best and enough):
            self.scale *= config.factor
            self.decays += 1
            decision.restart = config.restart and not best and self.best_epoch >= 0
            decision.stop = self.decays > config.max_decays
        return decision

    def state(self) -> Dict[str, Any]:
        # JSON has no infinity.
        best = None if math.isinf(self.best_loss) else self.best_loss
        return {"scale": self.scale, "decays": self.decays, "best_loss": best, "best_epoch": self.best_epoch}

    def load(self, state: Mapping[str, Any]) -> None:
        self.scale = float(state["scale"])
        self.decays = int(state["decays"])
        self.best_loss = math.inf if state["best_loss"] is None else float(state["best_loss"])
        self.best_epoch = int(state["best_epoch"])
