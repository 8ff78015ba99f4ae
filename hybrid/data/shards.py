"""One shard of a set of arrays (hybrid/data/arrays.py): its files, its mark, and how it is known to be whole."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import tarfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from lhotse.array import Array, TemporalArray
from lhotse.cut import Cut, MixedCut
from lhotse.serialization import deserialize_item
from lhotse.utils import fastcopy

from hybrid.data.sources import absolute_sources, relative_sources, run_folder
from hybrid.errors import DataError, HybridError
from hybrid.io import atomic_write, read_json, read_jsonl, write_json, write_jsonl

AGAIN = "delete the folder and run the stage that writes it again"
FrameShift = Union[float, Mapping[str, float]]
CutArrays = Tuple[Cut, Mapping[str, np.ndarray]]


@dataclass
class Failure:
    """A cut that gave no arrays, and why."""

    utterance: str
    reason: str
    file: Optional[str]
    remedy: Optional[str] = None

    @classmethod
    def of(cls, utterance: str, error: HybridError) -> Failure:
        return cls(utterance, error.what, error.file, error.remedy)


def write_shard(
    folder: Path,
    index: int,
    items: Sequence[CutArrays],
    names: Sequence[str],
    frame_shift: FrameShift,
    key: str,
    problems: Sequence[Failure],
    compress: Optional[int] = None,
) -> Dict[str, Any]:
    """Write arrays first, then cuts, then the mark that makes the shard count; return the mark.

    compress: a gzip level. Headers and manifests, 2 kB a cut, then take some 100 bytes.
    """
    shards = folder / "shards"
    number = f"{index:06d}"
    for name in names:
        if not name.isidentifier() or name == "cuts":
            raise DataError(f"'{name}' cannot name an array: it becomes an attribute of the cuts", file=folder)
    shifts = {name: frame_shift[name] if isinstance(frame_shift, Mapping) else frame_shift for name in names}
    paths = []
    for name in names if items else ():
        path = shards / (f"{name}.{number}.tar" if compress is None else f"{name}.{number}.tar.gz")
        with _tar(path, compress) as tar:
            for cut, arrays in items:
                array = _checked(arrays, name, cut, folder)
                manifest = _manifest(array, shifts[name], cut)
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                _add(tar, f"{cut.id}.npy", buffer.getvalue())
                _add(tar, f"{cut.id}.json", (json.dumps(manifest.to_dict()) + "\n").encode("utf-8"))
        paths.append(path)
    if items:
        paths.append(shards / f"cuts.{number}.jsonl.gz")
        root = run_folder(folder)
        write_jsonl(paths[-1], (on_disk(cut, folder, root) for cut, _ in items))
    mark = {
        "input": key,
        "cuts": len(items),
        "frames": {name: sum(len(arrays[name]) for _, arrays in items) for name in names},
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in paths},
        "problems": [vars(problem) for problem in problems],
    }
    write_json(folder / "marks" / f"{number}.json", mark)
    return mark


def whole_shard(folder: Path, index: int, key: str) -> Optional[Dict[str, Any]]:
    """Return the mark of a shard that the same input made and whose files are all there; None otherwise."""
    try:
        mark = read_json(folder / "marks" / f"{index:06d}.json")
        if mark["input"] != key:
            return None
        for name, row in mark["files"].items():
            if _sha256(folder / "shards" / name) != row["sha256"]:
                return None
        return mark
    except (DataError, OSError, KeyError, TypeError):
        return None


def check_sizes(folder: Path, shards: Sequence[Mapping[str, Any]]) -> None:
    """Raise DataError for a file of a set that is missing or of another size; shards: the rows of complete.json."""
    for shard in shards:
        for name, row in shard["files"].items():
            path = folder / "shards" / name
            try:
                size = path.stat().st_size
            except OSError:
                raise DataError("a shard of this set is missing", file=path, remedy=AGAIN) from None
            if size != row["bytes"]:
                raise DataError(
                    f"a shard of this set is damaged: {size} bytes of {row['bytes']}", file=path, remedy=AGAIN
                )


def on_disk(cut: Cut, folder: Path, root: Optional[Path]) -> Any:
    """Return a cut as it stands in a shard of the set `folder`: audio of `root`, the run that the set is in, relative
    to the shard, so that the same set in another place is the same bytes."""
    return relative_sources(without_arrays(cut).to_dict(), folder / "shards", root)


def without_arrays(cut: Cut) -> Any:
    """Copy a cut without attached arrays: they live in their own sets, and bytes do not fit into a manifest."""
    if isinstance(cut, MixedCut):
        return fastcopy(cut, tracks=[fastcopy(track, cut=without_arrays(track.cut)) for track in cut.tracks])
    custom = getattr(cut, "custom", None)
    if not custom:
        return fastcopy(cut)
    fields = {
        name: value
        for name, value in custom.items()
        if not isinstance(value, (Array, TemporalArray)) and name not in ("shard_origin", "shar_epoch")
    }
    return fastcopy(cut, custom=fields or None)


def _checked(arrays: Mapping[str, np.ndarray], name: str, cut: Cut, folder: Path) -> np.ndarray:
    if name not in arrays:
        raise DataError(f"no array '{name}' for this cut (only: {', '.join(arrays)})", file=folder, utterance=cut.id)
    array = np.ascontiguousarray(arrays[name])
    if array.dtype.kind not in "biuf" or np.ndim(arrays[name]) == 0:
        raise DataError(
            f"array '{name}' must be [T, ...] of numbers, not {array.dtype} {list(array.shape)}",
            file=folder,
            utterance=cut.id,
        )
    return array


def _manifest(array: np.ndarray, frame_shift: float, cut: Cut) -> TemporalArray:
    array_manifest = Array(storage_type="shar", storage_path="", storage_key="", shape=list(array.shape))
    # The cuts keep their place in the recording, so the array starts where its cut starts.
    return TemporalArray(array=array_manifest, temporal_dim=0, frame_shift=frame_shift, start=cut.start)


@contextmanager
def _tar(path: Path, compress: Optional[int]) -> Iterator[tarfile.TarFile]:
    with atomic_write(path) as stream:
        if compress is None:
            with tarfile.open(fileobj=stream, mode="w") as tar:
                yield tar
        else:
            # Neither time nor name in the header: the same arrays give the same bytes.
            with gzip.GzipFile("", "wb", compress, stream, mtime=0) as packed:
                with tarfile.open(fileobj=packed, mode="w") as tar:
                    yield tar


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_shard(
    folder: Path, index: int, shard: Mapping[str, Any], names: Sequence[str]
) -> Iterator[Tuple[Cut, Dict[str, np.ndarray]]]:
    """Yield (cut, {name: array}) of shard `index`, whose row in complete.json is `shard`.

    Raises DataError where the shard is missing or damaged.
    """
    for row, arrays in read_rows(folder, index, shard, names):
        yield cut_of(row, folder), arrays


def cut_of(row: Mapping[str, Any], folder: Path) -> Cut:
    """Return the cut that a JSON object of a shard of the set `folder` stands for."""
    return without_arrays(deserialize_item(absolute_sources(row, folder / "shards")))


def read_rows(
    folder: Path, index: int, shard: Mapping[str, Any], names: Sequence[str]
) -> Iterator[Tuple[Dict[str, Any], Dict[str, np.ndarray]]]:
    """Yield what `read_shard` does, the cuts as the JSON objects that they are on disk, which is faster."""
    for row, members in read_members(folder, index, shard, names):
        yield row, {name: array_of(member.data) for name, member in members.items()}


class Member(NamedTuple):
    """The file of an array in a shard: its bytes, and the place of the first of them (in a gzipped one: unpacked)."""

    offset: int
    data: bytes


def read_members(
    folder: Path, index: int, shard: Mapping[str, Any], names: Sequence[str]
) -> Iterator[Tuple[Dict[str, Any], Dict[str, Member]]]:
    """Yield what `read_rows` does, arrays as they lie in their files."""
    if not shard["cuts"]:
        return
    rows = read_jsonl(_intact(folder, shard, f"cuts.{index:06d}.jsonl.gz"))
    streams = [_tar_members(_intact(folder, shard, array_file(shard, index, name))) for name in names]
    for row in rows:
        members = {}
        for name, stream in zip(names, streams, strict=True):
            identifier, member = next(stream, (None, None))
            if identifier != row["id"] or member is None:
                raise DataError(f"no array '{name}' for this cut", file=folder, utterance=row["id"], remedy=AGAIN)
            members[name] = member
        yield row, members


def array_file(shard: Mapping[str, Any], index: int, name: str) -> str:
    """Return the name of the file of shard `index` that has the arrays `name`."""
    file = f"{name}.{index:06d}.tar"
    return f"{file}.gz" if f"{file}.gz" in shard["files"] else file


def _intact(folder: Path, shard: Mapping[str, Any], name: str) -> Path:
    path = folder / "shards" / name
    try:
        if _sha256(path) == shard["files"][name]["sha256"]:
            return path
    except FileNotFoundError:
        raise DataError("a shard of this set is missing", file=path, remedy=AGAIN) from None
    except (KeyError, TypeError):
        pass
    raise DataError("a shard of this set was damaged after it was written", file=path, remedy=AGAIN)


def _tar_members(path: Path) -> Iterator[Tuple[str, Member]]:
    with _opened(path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        for entry in tar:
            if entry.name.endswith(".npy"):
                if not entry.isreg():  # a folder or a link of that name
                    raise DataError(f"{entry.name} is not a plain file", file=path, remedy=AGAIN)
                # Not tar.extractfile: its layers take longer than the bytes.
                stream.seek(entry.offset_data)
                yield entry.name[: -len(".npy")], Member(entry.offset_data, stream.read(entry.size))


def array_of(data: bytes) -> np.ndarray:
    """Return what np.load gives of the bytes of a file .npy.

    Parsing its header takes longer than all the rest, and few lengths make few headers.
    """
    head = data[: 10 + int.from_bytes(data[8:10], "little")]
    if data[:8] != b"\x93NUMPY\x01\x00":
        return np.load(io.BytesIO(data), allow_pickle=False)
    shape, fortran, dtype = _header(head)
    if fortran or dtype.hasobject:
        return np.load(io.BytesIO(data), allow_pickle=False)
    return np.frombuffer(data, dtype, offset=len(head)).reshape(shape).copy()


@functools.lru_cache(maxsize=4096)
def _header(head: bytes) -> Tuple[Tuple[int, ...], bool, np.dtype]:
    return np.lib.format.read_array_header_1_0(io.BytesIO(head[8:]))


def _opened(path: Path) -> IO[bytes]:
    """Gzipped ones as a whole: tarfile seeks, which a gzip stream does slowly."""
    if path.suffix != ".gz":
        return open(path, "rb")
    try:
        return io.BytesIO(gzip.decompress(path.read_bytes()))
    except (EOFError, OSError, zlib.error) as error:  # whole by its hash, and yet: written by something else
        raise DataError(f"not a gzip file: {error}", file=path, remedy=AGAIN) from error
