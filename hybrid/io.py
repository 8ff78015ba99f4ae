"""Files that are either whole or absent, and the record of what could not be used.

Every write goes to a temporary name in the same folder and is renamed into place, so that a process
killed at any moment leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Union

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from hybrid.errors import DataError, DiskError, HybridError, ModelError

PathLike = Union[str, "os.PathLike[str]"]

_DISK = {
    errno.ENOSPC: "free some space or give another --exp, then run the same command again: it goes on where it was",
    errno.EDQUOT: "your quota is used up: free some space or give another --exp, then run the same command again",
    errno.EACCES: "make the folder writable or give another --exp",
    errno.EPERM: "make the folder writable or give another --exp",
    errno.EROFS: "the file system is read-only: give another --exp",
    errno.EIO: "the medium fails: check it, then run the same command again",
}


@contextmanager
def disk_errors(path: PathLike) -> Iterator[None]:
    """Turns a full disk, a missing permission and the like into a DiskError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK:
            raise DiskError(
                f"cannot write: {os.strerror(error.errno)}", file=path, remedy=_DISK[error.errno]
            ) from error
        raise


@contextmanager
def atomic_write(path: PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path`; renames it to `path` when the block ends without an error.

    Raises DiskError (no room, no permission); whatever stood at `path` is then still there.
    """
    path = Path(path)
    # Processes of two machines may have the same number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}.tmp")
    encoding = None if "b" in mode else "utf-8"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, mode, encoding=encoding) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: PathLike, text: str) -> None:
    with atomic_write(path, "w") as stream:
        stream.write(text)


def write_json(path: PathLike, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n")


def read_json(path: PathLike) -> Any:
    """Raises DataError where the file is absent or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="run the stage that writes it") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"not JSON: {error}", file=path, remedy="delete it and run its stage again") from error


def write_jsonl(path: PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line; gzipped where the name ends in .gz (without a time stamp: same rows, same bytes)."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
    with atomic_write(path) as stream:
        stream.write(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def read_jsonl(path: PathLike) -> List[Dict[str, Any]]:
    """Raises DataError where the file is absent, truncated or not JSON, with the number of the line."""
    number = 0
    try:
        raw = Path(path).read_bytes()
        text = (gzip.decompress(raw) if str(path).endswith(".gz") else raw).decode("utf-8")
        rows = []
        for line in text.splitlines():
            number += 1
            rows.append(json.loads(line))
        return rows
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="run the stage that writes it") from None
    except (EOFError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"line {number}: {error}", file=path, remedy="delete it and run its stage again"
        ) from error


def save_tensors(
    path: PathLike, tensors: Mapping[str, np.ndarray], metadata: Optional[Mapping[str, str]] = None
) -> None:
    """Safetensors; `metadata` is a flat map of strings kept in the header."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    data = save(contiguous, metadata=dict(metadata) if metadata else None)
    with atomic_write(path) as stream:
        stream.write(data)


def load_tensors(path: PathLike) -> Dict[str, np.ndarray]:
    """Raises ModelError where the file is absent or not safetensors."""
    try:
        return load_file(str(path))
    except FileNotFoundError:
        raise ModelError("no such file", file=path, remedy="run the stage that writes it") from None
    except SafetensorError as error:
        raise ModelError(
            f"not a safetensors file: {error}", file=path, remedy="delete it and run its stage again"
        ) from error


class Problems:
    """What could not be used, and why: `problems.jsonl`, one row an utterance, and a share above which a stage stops.

    Rows: {"stage", "utterance", "reason", "file"}, and "remedy" where there is one.
    """

    def __init__(self, path: PathLike, stage: str) -> None:
        self.path = Path(path)
        self.stage = stage
        self.rows: List[Dict[str, Any]] = []

    def add(
        self, utterance: str, reason: str, file: Optional[PathLike] = None, remedy: Optional[str] = None
    ) -> None:
        """Notes an utterance that cannot be used; `remedy` says what to do about it, as an error's does."""
        where = None if file is None else str(file)
        row = {"stage": self.stage, "utterance": utterance, "reason": reason, "file": where}
        self.rows.append({**row, "remedy": remedy} if remedy else row)

    def add_error(self, utterance: str, error: HybridError) -> None:
        """Notes an utterance that `error` is about, with its file and remedy."""
        self.add(utterance, error.what, error.file, error.remedy)

    def close(self, total: int, limit: float) -> Tuple[int, int]:
        """Writes the rows; returns (problems, total).

        Raises DataError when more than the share `limit` (0 to 1) of `total` utterances cannot be used; the
        rows are written before, so that the user can read which.
        """
        write_jsonl(self.path, self.rows)
        bad = len({row["utterance"] for row in self.rows})
        if total == 0 or bad > limit * total:
            first = f"; the first: {self.rows[0]['utterance']}: {self.rows[0]['reason']}" if self.rows else ""
            raise DataError(
                f"{bad} of {total} utterances cannot be used, above the limit of {100 * limit:g} %{first}",
                file=self.path,
                remedy="read that file and mend the data, or raise the limit with --set limits.problems=SHARE",
            )
        return bad, total
