"""Reading an n-gram model of any of the formats that there are, by its first bytes."""

from __future__ import annotations

from io import BufferedReader
from typing import cast

from hybrid.io import PathLike, open_bytes
from hybrid.lm import arpa, sphinx_bin
from hybrid.lm.arrays import NgramArrays

COMPACT = ".safetensors"  # how the names of files end that NgramArrays.save writes


def read_any(path: PathLike) -> NgramArrays:
    """Read an ARPA file, a binary model of Sphinx's, or what NgramArrays.save wrote (.safetensors).

    Raises DataError as their readers do."""
    if str(path).endswith(COMPACT):
        return NgramArrays.load(path)
    with open_bytes(path, "give the path of an n-gram model", what="language model") as stream:
        # peek, and not a second look: a pipe is read once
        if cast(BufferedReader, stream).peek(len(sphinx_bin.MAGIC)).startswith(sphinx_bin.MAGIC):
            return sphinx_bin.read_stream(stream, path)
        return arpa.read_stream(stream, path)


def write_any(path: PathLike, model: NgramArrays) -> None:
    """Write an ARPA file, or with NgramArrays.save where the name ends in .safetensors. Raises DiskError."""
    if str(path).endswith(COMPACT):
        model.save(path)
    else:
        arpa.write(path, model)
