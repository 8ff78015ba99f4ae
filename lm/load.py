"""Reading an n-gram model of any of the formats that there are, by its first bytes."""

from __future__ import annotations

from io import BufferedReader
from typing import BinaryIO, cast

from hybrid.io import PathLike, open_bytes
from hybrid.lm import arpa, sphinx_bin
from hybrid.lm.arrays import NgramArrays

_WHAT = {"remedy": "give the path of an n-gram model", "what": "language model"}
COMPACT = ".safetensors"  # how the names of files end that NgramArrays.save writes


def read_any(path: PathLike) -> NgramArrays:
    """Read an ARPA file, a binary model of Sphinx's, or what NgramArrays.save wrote (.safetensors).

    Raises DataError as their readers do."""
    if str(path).endswith(COMPACT):
        return NgramArrays.load(path)
    with open_bytes(path, **_WHAT) as stream:
        return sphinx_bin.read_stream(stream, path) if _is_sphinx(stream) else arpa.read_stream(stream, path)


def is_arpa(path: PathLike) -> bool:
    """Return whether `read_any` would take it for an ARPA file. Raises DataError where it cannot be opened."""
    with open_bytes(path, **_WHAT) as stream:
        return not str(path).endswith(COMPACT) and not _is_sphinx(stream)


def _is_sphinx(stream: BinaryIO) -> bool:
    # peek, and not a second look: a pipe is read once
    return cast(BufferedReader, stream).peek(len(sphinx_bin.MAGIC)).startswith(sphinx_bin.MAGIC)


def write_any(path: PathLike, model: NgramArrays) -> None:
    """Write an ARPA file, or with NgramArrays.save where the name ends in .safetensors. Raises DiskError."""
    if str(path).endswith(COMPACT):
        model.save(path)
    else:
        arpa.write(path, model)
