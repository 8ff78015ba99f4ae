"""Words or phones with times in NIST's CTM, as Kaldi writes it: `recording channel start duration label confidence`."""

from __future__ import annotations

import math
from typing import Iterable, List, NamedTuple, Optional

from hybrid.errors import DataError
from hybrid.io import PathLike, read_lines, write_text


class CtmRow(NamedTuple):
    """Seconds; the confidence is 0 to 1, or None."""

    recording: str
    channel: str
    start: float
    duration: float
    label: str
    confidence: Optional[float] = None


def format_ctm(rows: Iterable[CtmRow]) -> str:
    """Format the rows as a CTM, sorted by recording, channel and time.

    Times are rounded to milliseconds at both ends, so that neighbours stay neighbours.
    """
    lines = []
    for row in sorted(rows, key=lambda row: (row.recording, row.channel, row.start)):
        begin, end = round(1000 * row.start), round(1000 * (row.start + row.duration))
        confidence = "" if row.confidence is None else f" {row.confidence:.2f}"
        times = f"{begin / 1000:.3f} {(end - begin) / 1000:.3f}"
        lines.append(f"{row.recording} {row.channel} {times} {row.label}{confidence}\n")
    return "".join(lines)


def write_ctm(path: PathLike, rows: Iterable[CtmRow]) -> None:
    write_text(path, format_ctm(rows))


def read_ctm(path: PathLike) -> List[CtmRow]:
    """Read the rows of a CTM without its comments (`;;`) and empty lines. Raises DataError naming file and line."""
    rows = []
    for number, line in enumerate(read_lines(path, "give the path of a CTM"), 1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        try:
            if len(fields) not in (5, 6):
                raise ValueError(f"{len(fields)} columns")
            confidence = float(fields[5]) if len(fields) == 6 else None
            start, duration = float(fields[2]), float(fields[3])
            if not (math.isfinite(start) and math.isfinite(duration)):
                raise ValueError(f"{fields[2]} {fields[3]} are no times")
            rows.append(CtmRow(fields[0], fields[1], start, duration, fields[4], confidence))
        except ValueError as error:
            raise DataError(
                f"line {number} is not `recording channel start duration label [confidence]`: {error}",
                file=path,
                remedy="mend that line",
            ) from None
    return rows
