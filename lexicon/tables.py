"""Tables of symbols on disk, `NAME ID` a line: phones.txt and words.txt of Kaldi's lang folders."""

from __future__ import annotations

from typing import Dict, Mapping

from hybrid.errors import DataError
from hybrid.io import PathLike, read_lines, write_lines

AGAIN = "run the stage that makes the lexicon's folder again"


def write_table(path: PathLike, symbols: Mapping[str, int]) -> None:
    """Writes the symbols in their order."""
    write_lines(path, (f"{name} {number}" for name, number in symbols.items()))


def read_table(path: PathLike) -> Dict[str, int]:
    """Reads `NAME ID` lines. Raises DataError naming the line that is something else."""
    table: Dict[str, int] = {}
    for number, line in enumerate(read_lines(path, AGAIN), 1):
        fields = line.split()
        if len(fields) != 2 or not fields[1].isdigit() or fields[0] in table:
            raise DataError(f"line {number}: not a new `NAME ID`: {line!r}", file=path, remedy=AGAIN)
        table[fields[0]] = int(fields[1])
    return table
