"""A folder that `hybrid export` wrote, as it is read: what it holds, and that it is whole.

    config.json, features.json, model.safetensors, senones/    the model, as a run keeps it
    network.onnx         the network once more (nnet/onnx_export.py), where it was asked for
    graph.safetensors    the search's graph (graph_file.py)
    lang/                words and pronunciations
    calibration.json     of confidences, where the run has one
    export.json          {"kind", "format", "system", "condition", "network", "sampling_rate", "backend", "search",
                         "commit", "onnx", "files": {name: {"bytes", "sha256", "sampled"}}}

Nothing of it is trusted: every file that is read is named in export.json with its size and hash, lies in the folder and
is no link; what is in it is checked where it is read.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NoReturn, Optional

from hybrid import fingerprint
from hybrid.decode.calibration import CALIBRATION
from hybrid.decode.trained import Search
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import read_json

ABOUT = "export.json"
KIND, FORMAT = "hybrid export", 1
MODEL = ("config.json", "features.json", "model.safetensors")
GRAPH, ONNX = "graph.safetensors", "network.onnx"
SENONES, LANG = "senones", "lang"
_NEEDED = (
    *MODEL, GRAPH, "senones/phones.json", "senones/topology.json", "senones/transitions.safetensors",
    "senones/tree.json", "lang/config.json", "lang/lexicon.txt", "lang/phones.txt", "lang/words.txt",
)  # fmt: skip
_NAME = re.compile(rf"(({SENONES}|{LANG})/)?[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HASHED = 64 << 20  # bytes; of a larger file `sampled` is compared (fingerprint.of_file), which takes no time
_AGAIN = "export it again, or get it whole from whoever did"


@dataclass(frozen=True)
class Export:
    """network: False for Gaussians; onnx: whether there is an ONNX form of it; backend: the library of the run's
    features; search: what a development set chose; commit: of the source that trained; sampling_rate: in Hz."""

    folder: Path
    system: str
    condition: Optional[str]
    network: bool
    onnx: bool
    sampling_rate: int
    backend: str
    search: Search
    commit: Optional[str]

    @property
    def graph(self) -> Path:
        return self.folder / GRAPH

    @property
    def lang(self) -> Path:
        return self.folder / LANG

    @property
    def calibration(self) -> Optional[Path]:
        path = self.folder / CALIBRATION
        return path if path.exists() else None

    def to_json(self, files: Mapping[str, Any]) -> Dict[str, Any]:
        about = {**asdict(self), "files": files}
        del about["folder"]
        return {"kind": KIND, "format": FORMAT, **about}


def is_export(folder: Path) -> bool:
    """Return whether a folder says that it is an export, whole or not."""
    return os.path.lexists(folder / ABOUT)


def open_export(folder: Path) -> Export:
    """Return what an export holds, after a look at every file of it.

    Raises ModelError naming the file that is absent, cut off, another, a link, or of another version.
    """
    path = folder / ABOUT
    about = _read(path)
    if about.get("kind") != KIND:
        _fail("not of an export", path)
    if about.get("format") != FORMAT:
        raise ModelError(
            f"an export of format {about.get('format')!r}, this version reads {FORMAT}", file=path,
            remedy="export the run again with this version, or use the version that wrote it",
        )  # fmt: skip
    files = about.get("files")
    if not isinstance(files, dict):
        _fail("no list of files", path)
    for name, row in files.items():
        _check_file(folder, name, row)
    wanted = [*_NEEDED, *([ONNX] if about.get("onnx") else [])]
    missing = [name for name in wanted if name not in files]
    if missing:
        _fail(f"it does not name {', '.join(missing)}", path)
    for name in _present(folder):
        if name not in files:
            raise ModelError(f"{ABOUT} does not name this file", file=folder / name, remedy="take it out of the folder")
    return _export(folder, about, path)


def describe(folder: Path) -> Dict[str, Dict[str, Any]]:
    """Return {name: {"bytes", "sha256", "sampled"}} of the files of a folder that is to be an export."""
    return {name: _description(folder / name) for name in _present(folder)}


def _export(folder: Path, about: Mapping[str, Any], path: Path) -> Export:
    kinds = {"system": str, "network": bool, "onnx": bool, "sampling_rate": int, "backend": str, "search": dict}
    for name, kind in kinds.items():
        if not isinstance(about.get(name), kind):
            _fail(f"{name} is {about.get(name)!r}", path)
    for name in ("condition", "commit"):
        if not isinstance(about.get(name), (str, type(None))):
            _fail(f"{name} is {about.get(name)!r}", path)
    values = {field.name: about[field.name] for field in fields(Export) if field.name not in ("folder", "search")}
    return Export(folder=folder, search=_search(about["search"], path), **values)


def _search(values: Mapping[str, Any], path: Path) -> Search:
    numbers = all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        for value in values.values()
    )
    try:
        search = Search(**values)
    except TypeError as error:
        _fail(f"search: {error}", path)
    if not (numbers and search.acoustic_scale > 0 and search.beam > 0 and search.max_active >= 2):
        _fail(f"search settings of no use: {dict(values)}", path)
    return search


def _check_file(folder: Path, name: str, row: Any) -> None:
    path = folder / ABOUT
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        _fail(f"it names {name!r}, which is no file of an export", path)
    if not isinstance(row, dict) or not isinstance(row.get("bytes"), int) or row["bytes"] < 0:
        _fail(f"it describes {name} as {row!r}", path)
    file = folder / name
    if "/" in name and file.parent.is_symlink():
        _fail("a symbolic link, which no export holds", file.parent)
    try:
        about = os.lstat(file)
    except OSError as error:
        _fail(f"not there: {error.strerror}", file)
    if not stat.S_ISREG(about.st_mode):
        _fail("a symbolic link or no plain file, which no export holds", file)
    if about.st_size != row["bytes"]:
        _fail(f"{about.st_size} bytes instead of {row['bytes']}: cut off, or another file", file)
    digest = "sha256" if about.st_size <= _HASHED else "sampled"
    if _digests(file)[digest]() != row.get(digest):
        _fail("its content is not what was exported", file)


def _description(path: Path) -> Dict[str, Any]:
    return {"bytes": path.stat().st_size, **{name: digest() for name, digest in _digests(path).items()}}


def _digests(path: Path) -> Dict[str, Any]:
    return {"sha256": lambda: _sha256(path), "sampled": lambda: fingerprint.of_file(path)}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _present(folder: Path) -> Iterator[str]:
    """Yield the files that a loader may read, as they are named in export.json. Others, such as a README that was put
    beside them, are nobody's business."""
    for name in (*MODEL, GRAPH, ONNX, CALIBRATION):
        if os.path.lexists(folder / name):
            yield name
    for below in (SENONES, LANG):
        yield from (f"{below}/{path.name}" for path in sorted((folder / below).glob("*")))


def _read(path: Path) -> Dict[str, Any]:
    if path.is_symlink():
        _fail("a symbolic link, which no export holds", path)
    try:
        about = read_json(path)
    except DataError as error:
        _fail(error.what, path)
    if not isinstance(about, dict):
        _fail("not of an export", path)
    return about


def _fail(what: str, path: Path) -> NoReturn:
    raise ModelError(what, file=path, remedy=_AGAIN)


def check_same(export: Export, system: Optional[str], condition: Optional[str]) -> None:
    """Raise ConfigError where another system or condition is wanted than the one that the folder holds."""
    for what, wanted, there in (("system", system, export.system), ("condition", condition, export.condition)):
        if wanted not in (None, there):
            raise ConfigError(
                f"the export {export.folder} holds the {what} {there}, not {wanted}",
                remedy=f"leave the {what} out, or export it from the run",
            )
