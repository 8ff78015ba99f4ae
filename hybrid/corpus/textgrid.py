"""Praat's TextGrid, read in its long and its short form.

Praat itself reads either form by one rule (manual page "TextGrid file formats"): of the file only free-standing
numbers, texts in double quotes (a quote inside is doubled) and flags in angle brackets count, in their order;
everything else (`xmin =`, `intervals [1]:`) is a comment to the eye, and so is what follows an exclamation mark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Iterator, List, Tuple, Union

from hybrid.corpus.text import decode, read_bytes
from hybrid.errors import DataError
from hybrid.io import PathLike

_TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|<(?P<flag>\w+)>|(?P<number>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?=\s|$)|![^\n]*|[^\s"]+'
)
_REMEDY = "open it in Praat and save it again as a text file"


@dataclass(frozen=True)
class Interval:
    """Seconds; `text` is empty where nothing is marked."""

    start: float
    end: float
    text: str


@dataclass
class Tier:
    """A tier of intervals; points are intervals without duration (`points`: the tier is a TextTier)."""

    name: str
    start: float
    end: float
    intervals: List[Interval] = field(default_factory=list)
    points: bool = False


def read_textgrid(path: PathLike) -> List[Tier]:
    """Return the tiers of a file in UTF-8, or UTF-16 with its mark, as Praat writes. Raises DataError naming it."""
    raw = read_bytes(path)
    try:
        return parse_textgrid(decode(raw))
    except UnicodeDecodeError as error:
        raise DataError(f"neither UTF-8 nor UTF-16: {error.reason}", file=path, remedy=_REMEDY) from None
    except DataError as error:
        raise DataError(error.what, file=path, remedy=error.remedy) from None


def parse_textgrid(text: str) -> List[Tier]:
    """Return the tiers of a text. Raises DataError for one that is no TextGrid, and where sizes and content differ."""
    tokens = _tokens(text)
    if [next(tokens, None), next(tokens, None)] != [("text", "ooTextFile"), ("text", "TextGrid")]:
        raise DataError("not a TextGrid in text form", remedy=_REMEDY)
    for _ in range(2):
        _take(tokens, "number", "the header")
    tiers: List[Tier] = []
    if _take(tokens, "flag", "the header") == "exists":
        for number in range(_count(tokens, "the header")):
            tiers.append(_parse_tier(tokens, number + 1, tiers))
    num_left = sum(1 for _ in tokens)
    if num_left:
        last_part = f"tier {tiers[-1].name!r} of {len(tiers[-1].intervals)} intervals" if tiers else "the header"
        raise DataError(
            f"{num_left} numbers or texts are left over after {last_part}: its number of intervals, or that of the "
            "tiers, is too small",
            remedy=_REMEDY,
        )
    return tiers


def _parse_tier(tokens: Iterator[Tuple[str, str]], number: int, before: List[Tier]) -> Tier:
    location = f"tier {number}"
    if before:
        location += f", after tier {before[-1].name!r} of {len(before[-1].intervals)} intervals (are there more?)"
    kind = str(_take(tokens, "text", location))
    if kind not in ("IntervalTier", "TextTier"):
        raise DataError(f"{location}: of the class {kind!r}", remedy=_REMEDY)
    name = str(_take(tokens, "text", location))
    location = f"tier {name!r}"
    tier = Tier(name, _time(tokens, location), _time(tokens, location), points=kind == "TextTier")
    for place in range(_count(tokens, location)):
        interval_place = f"{location}, interval {place + 1}"
        begin = _time(tokens, interval_place)
        end = begin if tier.points else _time(tokens, interval_place)
        if end < begin:
            raise DataError(f"{location}: an interval from {begin:g} to {end:g}", remedy=_REMEDY)
        tier.intervals.append(Interval(begin, end, str(_take(tokens, "text", interval_place))))
    return tier


def _tokens(text: str) -> Iterator[Tuple[str, str]]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup is not None:
            value = match[match.lastgroup]
            yield match.lastgroup, value.replace('""', '"') if match.lastgroup == "text" else value


def _take(tokens: Iterator[Tuple[str, str]], kind: str, location: str) -> Union[str, float]:
    token = next(tokens, None)
    if token is None:
        raise DataError(f"the TextGrid is truncated in {location}", remedy=_REMEDY)
    if token[0] != kind:
        raise DataError(f"{location}: a {kind} is wanted where {token[1]!r} stands", remedy=_REMEDY)
    return token[1]


def _time(tokens: Iterator[Tuple[str, str]], location: str) -> float:
    return float(_take(tokens, "number", location))


def _count(tokens: Iterator[Tuple[str, str]], location: str) -> int:
    value = _time(tokens, location)
    if not 0 <= value < 1e9 or value != int(value):
        raise DataError(f"{location}: {value:g} as a number of tiers or intervals", remedy=_REMEDY)
    return int(value)
