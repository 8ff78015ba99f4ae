"""Text files of corpora: lines end at the line feed alone, and what Unicode calls a blank is a blank.

`str.splitlines` also ends a line at U+2028, U+0085 and six others, which stand in transcripts as any blank does.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Iterator, Optional, Tuple

from hybrid.errors import DataError
from hybrid.io import PathLike


def text_lines(path: PathLike) -> Iterator[Tuple[int, str, Optional[str]]]:
    """Yield (number, line, None), or (number, line with marks for its bad bytes, what is wrong).

    Blanks at both ends, a byte-order mark and blank lines are left out. Raises DataError where the file cannot be
    opened.
    """
    for number, raw in enumerate(read_bytes(path).split(b"\n"), 1):
        raw = raw.strip().removeprefix(codecs.BOM_UTF8)
        try:
            line, wrong = raw.decode("utf-8").strip(), None
        except UnicodeDecodeError as error:
            line = raw.decode("utf-8", "replace").strip()
            wrong = f"line {number} of {Path(path).name} is not UTF-8 (byte 0x{raw[error.start]:02x})"
        if line:
            yield number, line, wrong


def read_bytes(path: PathLike) -> bytes:
    """Return the whole file. Raises DataError where it is absent or cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="restore it, or give the right folder") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path, remedy="check its permissions") from error


def decode(raw: bytes) -> str:
    """Return the text of a file: UTF-16 where its mark or its zero bytes tell so, else UTF-8.

    Raises UnicodeDecodeError.
    """
    if len(raw) % 2 == 0 and (raw[1:4:2] == b"\0\0" or raw[0:3:2] == b"\0\0"):
        return raw.decode("utf-16-le" if raw[1:2] == b"\0" else "utf-16-be")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16")
    return raw.removeprefix(codecs.BOM_UTF8).decode("utf-8")


def one_line(text: str) -> str:
    """Return the words of a text with one space between them, whatever blanks and line ends stood there."""
    return " ".join(text.split())


def plain_id(name: str) -> str:
    """Return a name without blanks, which part the columns of a CTM."""
    return re.sub(r"\s+", "_", name.strip())
