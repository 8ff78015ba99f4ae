"""Where a write goes: to a plain file, by symbolic links, or into what is no plain file (a pipe, a terminal, a device).

Only a plain file can be replaced by renaming a whole one into its place. Were a pipe replaced so, its reader would wait
for ever; were a link, the file that it leads to would stay as it was.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import IO, Any, NamedTuple, Optional, cast

_MOST_LINKS = 40  # Linux follows as many


class Destination(NamedTuple):
    """`path` with its symbolic links followed. `special`: it is no plain file. `descriptor`: its number where it is one
    of this process (/dev/stdout, /dev/fd/63 of the shell's >(command))."""

    path: Path
    special: bool = False
    descriptor: Optional[int] = None


def find_destination(path: Path) -> Destination:
    """Follows `path` through its symbolic links to where a write goes.

    Raises OSError for links in a circle, a folder, and a block device: a whole disk is never meant.
    """
    for _ in range(_MOST_LINKS):
        if path.name.isdigit() and os.path.realpath(path.parent) == f"/proc/{os.getpid()}/fd":
            return Destination(path, True, int(path.name))
        if not path.is_symlink():
            return Destination(path, _is_special(path))
        path = path.parent / os.readlink(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _is_special(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISBLK(mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), str(path))
    return not stat.S_ISREG(mode)


def open_special(destination: Destination, mode: str, encoding: Optional[str]) -> IO[Any]:
    """Opens what is no plain file for writing. A descriptor is not opened anew by its name, which would lose its place
    in a file that others write to as well (`command > file` and /dev/stdout)."""
    if destination.descriptor is None:
        return cast(IO[Any], open(destination.path, mode, encoding=encoding))
    for stream in (sys.stdout, sys.stderr):  # what was printed before stands before
        stream.flush()
    return cast(IO[Any], open(os.dup(destination.descriptor), mode, encoding=encoding))
