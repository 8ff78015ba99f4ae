"""Praat's TextGrid: read in its long and its short form, written in the long one.

Praat itself reads either form by one rule (manual page "TextGrid file formats"): of the file only free-standing
numbers, texts in double quotes (a quote inside is doubled) and flags in angle brackets count, in their order;
everything else (`xmin =`, `intervals [1]:`) is a comment to the eye, and so is what follows an exclamation mark.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple, Union

from hybrid.errors import DataError
from hybrid.io import PathLike, write_text

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


def tier(name: str, marked: Sequence[Interval], start: float, end: float) -> Tier:
    """A tier whose intervals cover start to end: gaps between those `marked` get empty ones.

    Intervals may not overlap in a TextGrid: what begins before its forerunner ends, or lies outside, is cut; an
    interval of which nothing is left is left out.
    """
    out: List[Interval] = []
    at = start
    for one in sorted(marked, key=lambda item: (item.start, item.end)):
        begin, stop = max(one.start, at), min(one.end, end)
        if stop <= begin:
            continue
        if begin > at:
            out.append(Interval(at, begin, ""))
        out.append(Interval(begin, stop, one.text))
        at = stop
    if at < end or not out:
        out.append(Interval(at, end, ""))
    return Tier(name, start, end, out)


def format_textgrid(tiers: Sequence[Tier]) -> str:
    """Praat's long text form. Raises DataError for no tier, or one whose intervals leave gaps or overlap."""
    if not tiers:
        raise DataError("a TextGrid without a tier", remedy="give one tier at least")
    start, end = min(one.start for one in tiers), max(one.end for one in tiers)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += [f"xmin = {_number(start)} ", f"xmax = {_number(end)} ", "tiers? <exists> ", f"size = {len(tiers)} "]
    lines += ["item []: "]
    for number, one in enumerate(tiers, 1):
        edges = [(one.start, one.start), *((item.start, item.end) for item in one.intervals), (one.end, one.end)]
        if any(before[1] != after[0] for before, after in zip(edges, edges[1:])):
            raise DataError(f"the intervals of tier {one.name!r} leave gaps or overlap", remedy="make it by `tier`")
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier" ',
            f"        name = {_quoted(one.name)} ",
            f"        xmin = {_number(one.start)} ",
            f"        xmax = {_number(one.end)} ",
            f"        intervals: size = {len(one.intervals)} ",
        ]
        for place, item in enumerate(one.intervals, 1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {_number(item.start)} ",
                f"            xmax = {_number(item.end)} ",
                f"            text = {_quoted(item.text)} ",
            ]
    return "\n".join(lines) + "\n"


def write_textgrid(path: PathLike, tiers: Sequence[Tier]) -> None:
    write_text(path, format_textgrid(tiers))


def read_textgrid(path: PathLike) -> List[Tier]:
    """UTF-8, or UTF-16 with its mark, as Praat writes. Raises DataError naming the file."""
    try:
        return parse_textgrid(decode(Path(path).read_bytes()))
    except FileNotFoundError:
        raise DataError("no such TextGrid", file=path, remedy="restore it") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path, remedy="check its permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"neither UTF-8 nor UTF-16: {error.reason}", file=path, remedy=_REMEDY) from None
    except DataError as error:
        raise DataError(error.what, file=path, remedy=error.remedy) from None


def decode(raw: bytes) -> str:
    """Bytes of a text file -> text: UTF-16 where it begins with that mark, else UTF-8. Raises UnicodeDecodeError."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16")
    return raw.removeprefix(codecs.BOM_UTF8).decode("utf-8")


def parse_textgrid(text: str) -> List[Tier]:
    """Raises DataError for a text that is no TextGrid."""
    tokens = _tokens(text)
    if [next(tokens, None), next(tokens, None)] != [("text", "ooTextFile"), ("text", "TextGrid")]:
        raise DataError("not a TextGrid in text form", remedy=_REMEDY)
    _take(tokens, "number"), _take(tokens, "number")
    if _take(tokens, "flag") != "exists":
        return []
    return [_parse_tier(tokens) for _ in range(_count(tokens))]


def _parse_tier(tokens: Iterator[Tuple[str, str]]) -> Tier:
    kind = str(_take(tokens, "text"))
    if kind not in ("IntervalTier", "TextTier"):
        raise DataError(f"a tier of the class {kind!r}", remedy=_REMEDY)
    out = Tier(str(_take(tokens, "text")), _time(tokens), _time(tokens), points=kind == "TextTier")
    for _ in range(_count(tokens)):
        begin = _time(tokens)
        end = begin if out.points else _time(tokens)
        if end < begin:
            raise DataError(f"tier {out.name!r}: an interval from {begin:g} to {end:g}", remedy=_REMEDY)
        out.intervals.append(Interval(begin, end, str(_take(tokens, "text"))))
    return out


def _tokens(text: str) -> Iterator[Tuple[str, str]]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup is not None:
            value = match[match.lastgroup]
            yield match.lastgroup, value.replace('""', '"') if match.lastgroup == "text" else value


def _take(tokens: Iterator[Tuple[str, str]], kind: str) -> Union[str, float]:
    found = next(tokens, None)
    if found is None:
        raise DataError("the TextGrid is truncated", remedy=_REMEDY)
    if found[0] != kind:
        raise DataError(f"a {kind} is wanted where {found[1]!r} stands", remedy=_REMEDY)
    return found[1]


def _time(tokens: Iterator[Tuple[str, str]]) -> float:
    return float(_take(tokens, "number"))


def _count(tokens: Iterator[Tuple[str, str]]) -> int:
    value = _time(tokens)
    if value != int(value) or value < 0:
        raise DataError(f"{value:g} as a number of tiers or intervals", remedy=_REMEDY)
    return int(value)


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', '""') + '"'
