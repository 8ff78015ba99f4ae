"""Dropout over a training, in the notation of Kaldi's --trainer.dropout-schedule.

"0,0@0.20,0.3@0.50,0": 0 at the beginning, 0 where a fifth of the training is done, 0.3 at half, 0 at the end, and
straight lines between. A value in the middle without @ stands at half; two at one place make a step, of which the
second holds there (steps/libs/nnet3/train/dropout_schedule.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Tuple

from hybrid.errors import ConfigError

_REMEDY = 'write it as "0,0@0.20,0.3@0.50,0": first, values at shares of the training, last'


@dataclass(frozen=True)
class DropoutSchedule:
    points: Tuple[Tuple[float, float], ...]  # (share of the training done, dropout), from 0 to 1

    @classmethod
    def parse(cls, text: str) -> DropoutSchedule:
        """Read a schedule in the notation of the head of this file. Raises ConfigError where it cannot be read."""
        items = [item.strip() for item in text.split(",")]
        if len(items) < 2:
            raise ConfigError(f"dropout_schedule is {text!r}: it needs a first and a last value", remedy=_REMEDY)
        points: List[Tuple[float, float]] = []
        for number, item in enumerate(items):
            value, at, share = item.partition("@")
            middle = 0 < number < len(items) - 1
            if at and not middle:
                raise ConfigError(
                    f"dropout_schedule is {text!r}: the first and last value have no @, they stand at 0 and 1",
                    remedy=_REMEDY,
                )
            place = 0.5 if middle else float(number > 0)
            points.append((_number(share, text) if at else place, _number(value, text)))
        for (before, _), (share_done, dropout) in zip([(0.0, 0.0), *points], points):
            if not before <= share_done <= 1:
                raise ConfigError(f"dropout_schedule is {text!r}: shares rise from 0 to 1", remedy=_REMEDY)
            if not 0 <= dropout < 1:
                raise ConfigError(f"dropout_schedule is {text!r}: dropout is from 0 to below 1", remedy=_REMEDY)
        return cls(tuple(points))

    def dropout(self, done: float) -> float:
        """Return the dropout where a share `done` of the training, 0 to 1, lies behind."""
        share, value = self.points[0]
        for next_share, next_value in self.points[1:]:
            if next_share > done:
                return value + (next_value - value) * (done - share) / (next_share - share)
            share, value = next_share, next_value
        return value


def _number(item: str, text: str) -> float:
    try:
        value = float(item)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"dropout_schedule is {text!r}: {item!r} is not a number", remedy=_REMEDY)
    return value
