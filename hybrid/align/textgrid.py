"""Praat's TextGrid, written in its long form (hybrid/corpus reads it)."""

from __future__ import annotations

from typing import List, Sequence

from hybrid.corpus.textgrid import Interval, Tier
from hybrid.errors import DataError
from hybrid.io import PathLike, write_text


def tier(name: str, marked: Sequence[Interval], start: float, end: float) -> Tier:
    """Return a tier whose intervals cover start to end: gaps between those `marked` get empty ones.

    Intervals may not overlap in a TextGrid: what begins before its forerunner ends, or lies outside, is cut; an
    interval of which nothing is left is left out.
    """
    intervals: List[Interval] = []
    time = start
    for interval in sorted(marked, key=lambda interval: (interval.start, interval.end)):
        begin, stop = max(interval.start, time), min(interval.end, end)
        if stop <= begin:
            continue
        if begin > time:
            intervals.append(Interval(time, begin, ""))
        intervals.append(Interval(begin, stop, interval.text))
        time = stop
    if time < end or not intervals:
        intervals.append(Interval(time, end, ""))
    return Tier(name, start, end, intervals)


def format_textgrid(tiers: Sequence[Tier]) -> str:
    """Format the tiers in Praat's long text form.

    Raises DataError for no tier, or one whose intervals leave gaps or overlap.
    """
    if not tiers:
        raise DataError("a TextGrid without a tier", remedy="give one tier at least")
    start, end = min(tier.start for tier in tiers), max(tier.end for tier in tiers)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += [f"xmin = {_number(start)} ", f"xmax = {_number(end)} ", "tiers? <exists> ", f"size = {len(tiers)} "]
    lines += ["item []: "]
    for number, tier in enumerate(tiers, 1):
        edges = [
            (tier.start, tier.start),
            *((interval.start, interval.end) for interval in tier.intervals),
            (tier.end, tier.end),
        ]
        if any(before[1] != after[0] for before, after in zip(edges, edges[1:])):
            raise DataError(f"the intervals of tier {tier.name!r} leave gaps or overlap", remedy="make it by `tier`")
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier" ',
            f"        name = {_quoted(tier.name)} ",
            f"        xmin = {_number(tier.start)} ",
            f"        xmax = {_number(tier.end)} ",
            f"        intervals: size = {len(tier.intervals)} ",
        ]
        for place, interval in enumerate(tier.intervals, 1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {_number(interval.start)} ",
                f"            xmax = {_number(interval.end)} ",
                f"            text = {_quoted(interval.text)} ",
            ]
    return "\n".join(lines) + "\n"


def write_textgrid(path: PathLike, tiers: Sequence[Tier]) -> None:
    write_text(path, format_textgrid(tiers))


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', '""') + '"'
