"""Words or phones with times in NIST's CTM, as Kaldi writes it: `recording channel start duration label confidence`."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, List, NamedTuple, Optional

from hybrid.errors import DataError
from hybrid.io import PathLike, write_text


class CtmRow(NamedTuple):
    """Seconds; the confidence is 0 to 1, or None."""

    recording: str
    channel: str
    start: float
    duration: float
    label: str
    confidence: Optional[float] = None


def format_ctm(rows: Iterable[CtmRow]) -> str:
    """Sorted by recording, channel and time; milliseconds, rounded at both ends, so that neighbours stay neighbours."""
    lines = []
    for row in sorted(rows, key=lambda one: (one.recording, one.channel, one.start)):
        begin, end = round(1000 * row.start), round(1000 * (row.start + row.duration))
        sure = "" if row.confidence is None else f" {row.confidence:.2f}"
        lines.append(f"{row.recording} {row.channel} {begin / 1000:.3f} {(end - begin) / 1000:.3f} {row.label}{sure}\n")
    return "".join(lines)


def write_ctm(path: PathLike, rows: Iterable[CtmRow]) -> None:
    write_text(path, format_ctm(rows))


def read_ctm(path: PathLike) -> List[CtmRow]:
    """Comments (`;;`) and empty lines are left out. Raises DataError naming file and line."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="give the path of a CTM") from None
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error.reason}", file=path, remedy="convert it to UTF-8") from None
    rows = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        try:
            if len(fields) not in (5, 6):
                raise ValueError(f"{len(fields)} columns")
            sure = float(fields[5]) if len(fields) == 6 else None
            rows.append(CtmRow(fields[0], fields[1], float(fields[2]), float(fields[3]), fields[4], sure))
        except ValueError as error:
            raise DataError(
                f"line {number} is not `recording channel start duration label [confidence]`: {error}",
                file=path,
                remedy="mend that line",
            ) from None
    return rows
