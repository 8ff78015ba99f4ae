"""What a stage depends on, as one hash: the content of its inputs and the values of its settings.

No modification times: copying a corpus, unpacking it again or checking out a repository changes the times and not a
single sample, and would make every stage run again. Times spare reading alone: of files whose names, sizes and times
are those of an earlier look (`of_times`), the hash is what it was then.

A file up to `WHOLE` bytes (transcripts, lexicons, the audio of one utterance) is read whole. Of a larger one (an
archive, a shard, an hour of noise) the size and `SAMPLES` evenly spaced blocks are read, the first and the last among
them: a corpus of a terabyte is then fingerprinted by reading some 64 kB a file. What that cannot see is a change inside
a large file that keeps its size and falls between the blocks; whoever makes one deletes the stage's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Tuple, TypeVar

from hybrid.errors import DataError

WHOLE = 1 << 20  # bytes
BLOCK = 1 << 12  # bytes
SAMPLES = 16
SETTLED = 2 * 10**9  # nanoseconds; some file systems keep times in steps of two seconds

T = TypeVar("T")


def of_value(value: Any) -> str:
    """Returns the hash of anything that JSON can hold; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def of_file(path: Path) -> str:
    """Returns the hash of a file's size and content (sampled above `WHOLE` bytes). Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        digest.update(str(size).encode() + b"\n")
        if size <= WHOLE:
            digest.update(stream.read())
        else:
            for index in range(SAMPLES):
                stream.seek((size - BLOCK) * index // (SAMPLES - 1))
                digest.update(stream.read(BLOCK))
    return digest.hexdigest()


def of_inputs(paths: Iterable[Path], root: Optional[Path] = None) -> str:
    """Returns the hash of files and folders (with all that is below them), each named relative to `root` or by its own
    name.

    Raises DataError that names what is missing or cannot be read.
    """
    return of_value(sorted([name, _looked_at(file, of_file)] for name, file in _files(paths, root)))


def of_times(paths: Iterable[Path], root: Optional[Path] = None) -> Optional[str]:
    """Returns the hash of the names, sizes and times of change of what `of_inputs` reads; None where some file has
    changed in the last seconds, for it may change again at the same time. Raises DataError as of_inputs."""
    begun = time.time_ns()
    rows = []
    for name, file in _files(paths, root):
        about = _looked_at(file, os.stat)
        if about.st_mtime_ns > begun - SETTLED:
            return None
        rows.append([name, about.st_size, about.st_mtime_ns, about.st_ctime_ns])
    return of_value(sorted(rows))


def _files(paths: Iterable[Path], root: Optional[Path]) -> Iterator[Tuple[str, Path]]:
    """Yields the name and the path of each file."""
    for path in map(Path, paths):
        if not path.exists():
            raise DataError("no such file or folder", file=path, remedy="give the folder of the corpus with --data")
        label = _label(path, root)
        for name, file in [("", path)] if path.is_file() else _below(path):
            yield f"{label}/{name}", file


def _looked_at(file: Path, look: Callable[[Path], T]) -> T:
    try:
        return look(file)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=file) from error


def _label(path: Path, root: Optional[Path]) -> str:
    # abspath and not resolve: a corpus whose folders are links to other disks is still one corpus.
    absolute = Path(os.path.abspath(path))
    if root is not None and absolute.is_relative_to(os.path.abspath(root)):
        return absolute.relative_to(os.path.abspath(root)).as_posix()
    return path.name


def of_folder(folder: Path) -> Tuple[Dict[str, int], str]:
    """Returns the files below a stage's folder as {relative path: bytes}, and the hash of their names and contents."""
    sizes, rows = {}, []
    for name, file in _below(folder):
        sizes[name] = file.stat().st_size
        rows.append([name, of_file(file)])
    return sizes, of_value(rows)


def _below(folder: Path) -> Iterator[Tuple[str, Path]]:
    """Yields (relative path, path) of every file below `folder`, in the order of names; links to folders are followed
    once."""
    visited = set()
    for top, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(top)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        for name in sorted(files):
            file = Path(top) / name
            if not is_temporary(name):
                yield file.relative_to(folder).as_posix(), file


def is_temporary(name: str) -> bool:
    """Returns whether a name is one that hybrid.io writes under before it renames a file into place."""
    return name.startswith(".") and name.endswith(".tmp")
