"""Files that are either whole or absent, text that users give, and the record of what could not be used.

Every write of a plain file goes to a temporary name in the same folder and is renamed into place, so that a process
killed at any moment leaves the old file or the new one, never half of one. Of a symbolic link the file that it leads to
is written so, and the link stays. What is no plain file (a pipe, a terminal, /dev/null, the shell's >(command)) cannot
be renamed into place and is written into (hybrid/destination.py).
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import secrets
import shutil
import zlib
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Union, cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from hybrid.destination import find_destination, open_special
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
_PLACE = {
    errno.EISDIR: "give the name of a file, not that of a folder",
    errno.ENOTDIR: "what stands for a folder in this path is a file: give another path",
    errno.EEXIST: "what stands for a folder in this path is a file: give another path",
    errno.ENOENT: "no file can be made there: give another path",
    errno.EINVAL: "no file can be made there: give another path",
    errno.ELOOP: "the symbolic links lead in a circle: remove them, or give another path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENXIO: "give the name of a file: this is a disk, or a socket",
    errno.EBADF: "nothing is open under this number: give the name of a file",
}
_AGAIN = "delete it and run its stage again"
_ABSENT = "run the stage that writes it"

_BOM = b"\xef\xbb\xbf"
_PACKED = {  # the first bytes of what is no text -> what it is, and what makes text of it
    b"BZh": ("compressed by bzip2", "unpack it: bunzip2 FILE"),
    b"\xfd7zXZ\x00": ("compressed by xz", "unpack it: unxz FILE"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "unpack it: unzstd FILE"),
    b"PK\x03\x04": ("a zip archive", "unpack it, and give the file in it"),
    b"\xff\xfe": ("UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"\xfe\xff": ("UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
}
_NOT_UTF8 = "convert it: iconv -f ENCODING -t UTF-8 FILE > NEW; the ENCODING of old texts is often ISO-8859-1 or CP1252"


# ------------------------------------------------------------------ writing


@contextmanager
def disk_errors(path: PathLike, remedies: Mapping[int, str] = _DISK) -> Iterator[None]:
    """Turns a full disk, a missing permission and the like into a DiskError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in remedies:
            raise
        message = f"cannot write: {os.strerror(error.errno)}"
        raise DiskError(message, file=path, remedy=remedies[error.errno]) from error


def disk_error(error: OSError) -> Optional[DiskError]:
    """Returns what an error is that nobody foresaw: a place that is none, a permission, a full disk; else None."""
    remedy = {**_PLACE, **_DISK}.get(error.errno or 0)
    if remedy is None or error.filename is None or error.errno == errno.ENOENT:
        return None
    return DiskError(os.strerror(error.errno or 0), file=error.filename, remedy=remedy)


@contextmanager
def atomic_write(path: PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path`; renames it to `path` when the block ends without an error.

    `path` may be a symbolic link (its target is replaced) or no plain file (it is written into, see above).
    Raises DiskError (no room, no permission, a folder); whatever stood at a plain `path` is then still there.
    """
    encoding = None if "b" in mode else "utf-8"
    with disk_errors(path):
        with disk_errors(path, _PLACE):  # not of the block: there the same errors are of something else
            destination = find_destination(Path(path))
            target = destination.path
            # Processes of two machines may have the same number.
            temporary = target.with_name(f".{target.name[:50]}.{os.getpid()}-{secrets.token_hex(3)}.tmp")
            if destination.special:
                stream = open_special(destination, mode, encoding)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                stream = open(temporary, mode, encoding=encoding)
        if destination.special:
            with stream:
                yield stream
            return
        try:
            with stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            with disk_errors(path, _PLACE):
                os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(folder: PathLike) -> Iterator[Path]:
    """Makes a temporary folder beside `folder`, to be filled in the block; it takes the place of `folder`, and of all
    that was in it, when the block ends without an error. Raises DiskError."""
    folder = Path(folder)
    temporary, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.replace(folder, old)
            os.replace(temporary, folder)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def write_text(path: PathLike, text: str) -> None:
    with atomic_write(path, "w") as stream:
        stream.write(text)


def write_lines(path: PathLike, lines: Iterable[str]) -> None:
    """Writes each line with a \\n behind it; gzipped where the name ends in .gz (without a time stamp: the same lines,
    the same bytes)."""
    with atomic_lines(path) as write:
        for line in lines:
            write(line)


@contextmanager
def atomic_lines(path: PathLike) -> Iterator[Callable[[str], Any]]:
    """Gives a function that writes a line as write_lines does; the file is there when the block has ended."""
    with atomic_write(path) as stream, ExitStack() as stack:
        out = stream
        if str(path).endswith(".gz"):
            out = cast(IO[Any], stack.enter_context(gzip.GzipFile("", "wb", fileobj=stream, mtime=0)))
        yield lambda line: out.write(f"{line}\n".encode())


def write_json(path: PathLike, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n")


def write_jsonl(path: PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, as write_lines."""
    write_lines(path, (json.dumps(row, ensure_ascii=False) for row in rows))


# ------------------------------------------------------------------ text


@contextmanager
def open_bytes(
    path: PathLike, remedy: str = "give the path of a file that can be read", what: str = "file"
) -> Iterator[BinaryIO]:
    """Opens a file for reading; gzipped ones, known by their first bytes and not by their name, are unpacked.

    Raises DataError (absent, a folder, not readable, a gzip file that is cut off) with `remedy`; `what` it calls it.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            with gzip.GzipFile(fileobj=raw) if packed else raw as stream:
                yield cast(BinaryIO, stream)
    except FileNotFoundError:
        raise DataError(f"no such {what}", file=path, remedy=remedy) from None
    except IsADirectoryError:
        raise DataError(f"this is a folder, no {what}", file=path, remedy=remedy) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"a broken gzip file: {error}", file=path, remedy="copy or make it again") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", file=path, remedy=remedy) from error


def read_lines(
    path: PathLike,
    remedy: str = "give the path of a text file",
    on_bad_line: Optional[Callable[[int, str, str], None]] = None,
    what: str = "file",
) -> Iterator[str]:
    """Yields the lines of a text in UTF-8, plain or gzipped, without their ends: \\n or \\r\\n and nothing else, for
    U+2028, U+0085 and form feeds stand inside of lines. Byte-order marks are taken off, also those of files that were
    put together, and the Ctrl-Z that ends files of DOS.

    A line that is not UTF-8 raises DataError naming it; with `on_bad_line` it is left out, and told as (number of the
    line, the line with marks for its bad bytes, what is wrong). Raises DataError as open_bytes (which is given
    `remedy` and `what`), and for what is compressed otherwise, UTF-16, or holds NUL bytes.
    """
    with open_bytes(path, remedy, what) as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = decode_line(raw, number, path)
            except NotUtf8 as error:
                if on_bad_line is None:
                    raise
                on_bad_line(number, _bare(raw).decode("utf-8", "replace"), error.reason)
                continue
            yield line


class NotUtf8(DataError):
    """A line of a text that is not UTF-8; reason: what is wrong in it, without the line's number."""

    reason = ""


def decode_line(raw: bytes, number: int, path: PathLike) -> str:
    """Return a line of a text as read_lines yields it. number: the line's, from 1, for errors.

    Raises NotUtf8, and DataError for what is compressed, UTF-16, or holds NUL bytes.
    """
    if number == 1:
        for magic, (kind, advice) in _PACKED.items():
            if raw.startswith(magic):
                raise DataError(kind, file=path, remedy=advice)
    raw = _bare(raw)
    if b"\0" in raw:
        raise DataError(
            f"line {number}: NUL bytes: no text, or UTF-16",
            file=path,
            remedy="give a text file; UTF-16 is converted by iconv -f UTF-16LE -t UTF-8 FILE > NEW",
        )
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 (byte {error.start + 1} of the line is 0x{raw[error.start]:02x})"
        bad_line = NotUtf8(f"line {number}: {reason}", file=path, remedy=_NOT_UTF8)
        bad_line.reason = reason
        raise bad_line from None
    return "" if line == "\x1a" else line


def _bare(raw: bytes) -> bytes:
    return raw.removesuffix(b"\n").removesuffix(b"\r").removeprefix(_BOM)


def read_json(path: PathLike) -> Any:
    """Reads a JSON file, gzipped or not. Raises DataError where the file is absent or not JSON."""
    try:
        with open_bytes(path, _ABSENT) as stream:
            return json.loads(stream.read().removeprefix(_BOM).decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:  # [[[[... nests too deep
        raise DataError(f"not JSON: {error}", file=path, remedy=_AGAIN) from error


def iter_jsonl(path: PathLike) -> Iterator[Dict[str, Any]]:
    """Yields the object of each line as it is read, gzipped or not; a line ends at \\n, whatever stands in its strings.

    Raises DataError where the file is absent, truncated or not JSON, with the number of the line.
    """
    for number, line in enumerate(read_lines(path, _ABSENT), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise DataError(f"line {number}: not JSON: {error}", file=path, remedy=_AGAIN) from error
            yield row


def read_jsonl(path: PathLike) -> List[Dict[str, Any]]:
    """Returns the rows of iter_jsonl; raises what it raises."""
    return list(iter_jsonl(path))


# ------------------------------------------------------------------ tensors


def save_tensors(
    path: PathLike, tensors: Mapping[str, np.ndarray], metadata: Optional[Mapping[str, str]] = None
) -> None:
    """Writes safetensors; `metadata` is a flat map of strings kept in the header."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    data = save(contiguous, metadata=dict(metadata) if metadata else None)
    with atomic_write(path) as stream:
        stream.write(data)


def load_tensors(path: PathLike) -> Dict[str, np.ndarray]:
    """Reads a safetensors file as {name: array}. Raises ModelError where the file is absent or not safetensors."""
    try:
        return load_file(str(path))
    except FileNotFoundError:
        raise ModelError("no such file", file=path, remedy=_ABSENT) from None
    except SafetensorError as error:
        raise ModelError(
            f"not a safetensors file: {error}", file=path, remedy=_AGAIN
        ) from error


class Problems:
    """What could not be used, and why: `problems.jsonl`, one row an utterance, and a share above which a stage stops.

    Rows: {"stage", "utterance", "reason", "file"}, and "remedy" where there is one; "used": true in those of utterances
    that were used all the same, which count for nothing.
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

    def remark(self, utterance: str, reason: str) -> None:
        """Notes what is odd about an utterance that is used nevertheless."""
        self.add(utterance, reason)
        self.rows[-1]["used"] = True

    def close(self, total: int, limit: float) -> Tuple[int, int]:
        """Writes the rows; returns (problems, total).

        Raises DataError when more than the share `limit` (0 to 1) of `total` utterances cannot be used, with the remedy
        of the first row; the rows are written before, so that the user can read which.
        """
        write_jsonl(self.path, self.rows)
        rows = [row for row in self.rows if not row.get("used")]
        unusable = len({row["utterance"] for row in rows})
        if total == 0 or unusable > limit * total:
            first = f"; the first: {rows[0]['utterance']}: {rows[0]['reason']}" if rows else ""
            remedy = rows[0].get("remedy") if rows else None
            raise DataError(
                f"{unusable} of {total} utterances cannot be used, above the limit of {100 * limit:g} %{first}",
                file=self.path,
                remedy=f"{remedy or 'read that file and mend the data'}, or raise the limit with "
                "--set limits.problems=SHARE",
            )
        return unusable, total
