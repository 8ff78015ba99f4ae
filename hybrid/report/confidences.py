"""What a decode says of its words' confidences: EXP/decode/SYSTEM/CONDITION/SET/confidence.json.

The decode stage writes it (hybrid/pipeline/confidences.py): the calibration error, the words of each range of
confidences, and the development set that the calibration was learnt on.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from hybrid.decode.calibration import Bin, by_chance, error_of
from hybrid.errors import DataError
from hybrid.io import read_json
from hybrid.score.results import DEV

ALL = "all"  # set and condition of the words of all test sets together


class WordConfidences(NamedTuple):
    """The confidences of the words of one system on one set. learnt_on: set and condition that the calibration was
    learnt on, None where that is not recorded; ece: 0 to 1; nce: None where all words are right, or all wrong."""

    system: str
    condition: str
    set: str
    learnt_on: Optional[Tuple[str, str]]
    words: int
    wrong: int
    ece: float
    nce: Optional[float]
    bins: Tuple[Bin, ...]

    @property
    def same(self) -> bool:
        """Whether they are judged on the set that they were learnt on."""
        return self.learnt_on == (self.set, self.condition)

    @property
    def chance(self) -> float:
        """What ece would be by chance if the confidences were probabilities."""
        return by_chance(self.bins)


def together(rows: Sequence[WordConfidences]) -> WordConfidences:
    """Return the words of several sets of one system as one set, whose name and condition are "all"."""
    members: Dict[float, List[Bin]] = {}
    for row in rows:
        for one in row.bins:
            members.setdefault(one.low, []).append(one)
    bins = []
    for low, parts in sorted(members.items()):
        words = sum(one.words for one in parts)
        conf, right = (
            sum(one.words * share for one, share in zip(parts, shares, strict=True)) / words
            for shares in ([one.conf for one in parts], [one.right for one in parts])
        )
        bins.append(Bin(low, parts[0].high, words, conf, right))
    counts = sum(row.words for row in rows), sum(row.wrong for row in rows)
    return WordConfidences(rows[0].system, ALL, ALL, None, *counts, error_of(bins), None, tuple(bins))


def read_confidences(file: Path) -> WordConfidences:
    """Reads .../SYSTEM/CONDITION/SET/confidence.json. Raises DataError where it is not one."""
    system, condition, name = file.parent.parts[-3:]
    value = read_json(file)
    try:
        bins = tuple(
            Bin(float(row["low"]), float(row["high"]), int(row["words"]), float(row["conf"]), float(row["right"]))
            for row in value["bins"]
        )
        learnt_on = value.get("learnt_on")
        nce = None if value["nce"] is None else float(value["nce"])
        read = WordConfidences(
            system, condition, name,
            (str(learnt_on["set"]), str(learnt_on["condition"])) if learnt_on else None,
            int(value["words"]), int(value["wrong"]), float(value["ece"]), nce, bins,
        )  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _broken(file, f"{type(error).__name__}: {error}") from error
    if read.learnt_on is None and name == DEV:  # a development set's own calibration is the only one that judges it
        read = read._replace(learnt_on=(name, condition))
    if sum(row.words for row in bins) != read.words or not 0 <= read.wrong <= read.words:
        raise _broken(file, f"ranges of {sum(row.words for row in bins)} words, {read.wrong} wrong of {read.words}")
    shares = [read.ece, *(share for row in bins for share in (row.low, row.high, row.conf, row.right))]
    if not all(0 <= share <= 1 for share in shares) or any(row.words < 1 for row in bins):
        raise _broken(file, "a share that is none")
    if nce is not None and not math.isfinite(nce):
        raise _broken(file, f"a normalised cross-entropy of {nce}")
    return read


def _broken(file: Path, problem: str) -> DataError:
    return DataError(f"no confidences of words ({problem})", file=file, remedy="run the decode stage again")
