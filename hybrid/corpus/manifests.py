"""Lhotse's manifests: cuts, or recordings and supervisions; one file, its partner beside it, or a folder of them."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from itertools import chain
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Tuple

from lhotse import Recording, SupervisionSegment
from lhotse.serialization import deserialize_item

from hybrid.corpus.items import Items
from hybrid.corpus.listing import Listing
from hybrid.corpus.reading import Reading
from hybrid.errors import DataError

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
BROKEN = (KeyError, TypeError, ValueError, AttributeError, AssertionError)  # of a row that is not what it should be
_AGAIN = "write the manifest again with lhotse"
_KINDS = ("cuts", "recordings", "supervisions")


def holds_manifests(folder: Path) -> bool:
    """Return whether a folder has manifests of cuts or recordings by their names."""
    return any(_named(folder, kind) for kind in _KINDS[:2])


def list_manifests(path: Path, reading: Reading) -> Listing:
    """List a manifest, with its partner where it is one of two, or those of a folder.

    Relative paths in them are from the folder you work in where there is such a file, else from beside the manifest. A
    row that cannot be read is skipped by name. Raises DataError for a file that is no manifest, or half of two.
    """
    if path.is_dir():
        path = _choose(path)
    listing = Listing(f"Lhotse manifest {path.name}")
    items = Items(listing, path.parent, reading)
    kind = _kind(path)
    if kind == "cuts":
        _each(listing, path, deserialize_item, items.add_cut)
        return listing
    recordings = path if kind == "recordings" else _partner(path, "supervisions", "recordings")
    supervisions = path if kind == "supervisions" else _partner(path, "recordings", "supervisions")
    if recordings is None:
        remedy = "put the recordings beside them under the same name (supervisions -> recordings), or give cuts"
        raise DataError("supervisions without recordings", file=path, remedy=remedy)
    if supervisions is None and reading.transcripts:
        remedy = "put the supervisions beside them under the same name (recordings -> supervisions), or give cuts"
        raise DataError("recordings without supervisions", file=path, remedy=remedy)
    _each(listing, recordings, Recording.from_dict, items.add_recording)
    if supervisions is not None:
        _each(listing, supervisions, SupervisionSegment.from_dict, items.add_supervision)
    items.finish()
    return listing


def _each(
    listing: Listing, path: Path, make: Callable[[Dict[str, Any]], Any], add: Callable[[Any], None]
) -> None:
    for number, row in read_rows(path):
        try:
            item = make(row)
        except BROKEN as error:
            name = str(row.get("id") or f"{path.name}:{number}")
            listing.skip(name, f"line {number} cannot be read: {type(error).__name__}: {error}", path, _AGAIN)
            continue
        add(item)


# ------------------------------------------------------------------ files


def _named(folder: Path, kind: str) -> List[Path]:
    return sorted(file for file in folder.glob(f"*{kind}*") if file.name.endswith(ENDINGS) and file.is_file())


def _choose(folder: Path) -> Path:
    """The manifest of cuts, else of recordings, in a folder made by lhotse."""
    for kind in _KINDS:
        files = _named(folder, kind)
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise DataError(f"several manifests of {kind}: {names}", file=folder, remedy="give one of them as CORPUS")
        if files:
            return files[0]
    raise DataError("no manifest", file=folder, remedy=_AGAIN)


def _partner(path: Path, kind: str, other_kind: str) -> Optional[Path]:
    """The file beside `path` whose name has `other` where its own has `kind`, in any of the endings."""
    ending = next(ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.name.endswith(ending))
    stem = path.name[: -len(ending)]
    if kind not in stem:
        return None
    for candidate in (ending, *ENDINGS):
        partner = path.with_name(stem.replace(kind, other_kind) + candidate)
        if partner.is_file():
            return partner
    return None


def _kind(path: Path) -> str:
    for _, row in read_rows(path):
        if "sources" in row:
            return "recordings"
        if str(row.get("type", "")).endswith("Cut") or "supervisions" in row or "tracks" in row:
            return "cuts"
        if "recording_id" in row and "features_type" not in row:
            return "supervisions"
        break
    raise DataError("not a list of cuts, recordings or supervisions", file=path, remedy=_AGAIN)


def read_rows(path: Path) -> Iterator[Tuple[int, Dict[str, Any]]]:
    """Yield (number, object) of each line of a manifest in JSON lines, gzipped or not, or of a JSON list.

    Lines end at the line feed alone: a transcript may hold U+2028. Raises DataError with the number of the line.
    """
    if not path.name.endswith(ENDINGS):
        remedy = "give a folder, or a manifest of Lhotse named *.jsonl or *.jsonl.gz"
        raise DataError("a file that is no manifest", file=path, remedy=remedy)
    number = 0
    try:
        with _open(path) as stream:
            if path.name.endswith((".json", ".json.gz")):
                rows: Iterator[Any] = chain(json.loads(stream.read().decode("utf-8-sig")))
            else:
                rows = (json.loads(line) for raw in stream if (line := raw.decode("utf-8-sig").strip()))
            for number, row in enumerate(rows, 1):
                if not isinstance(row, dict):
                    raise TypeError(f"{str(row)[:60]!r} is no object")
                yield number, row
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="restore it") from None
    except (OSError, EOFError, zlib.error, ValueError, RecursionError, TypeError) as error:  # of JSON and UTF-8
        raise DataError(f"not a manifest: line {number + 1}: {error}", file=path, remedy=_AGAIN) from None


def _open(path: Path) -> IO[bytes]:
    stream = open(path, "rb")  # noqa: SIM115  closed by the caller, through whichever of the two is given back
    packed = stream.peek(2)[:2] == b"\x1f\x8b"
    return io.BufferedReader(gzip.GzipFile(fileobj=stream)) if packed else stream  # type: ignore[arg-type]
