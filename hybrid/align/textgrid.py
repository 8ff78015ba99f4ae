"""Praat's TextGrid, written in its long form (hybrid/corpus reads it)."""

from __future__ import annotations

from typing import List, Sequence

from hybrid.corpus.textgrid import Interval, Tier
from hybrid.errors import DataError
from hybrid.io import PathLike, write_text


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


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', '""') + '"'
