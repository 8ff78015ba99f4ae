"""Manifests of cuts, read row by row: a row that is no cut is a problem by name, and the others are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from lhotse import CutSet, Recording, SupervisionSegment
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from hybrid.corpus.listing import find_file
from hybrid.data.sources import with_sources
from hybrid.errors import DataError
from hybrid.io import Problems, read_jsonl

_OTHERS = {
    Recording: ("a recording", "lhotse cut simple -r MANIFEST CUTS.jsonl.gz"),
    SupervisionSegment: ("a supervision", "lhotse cut simple -r RECORDINGS -s MANIFEST CUTS.jsonl.gz"),
}
_REMEDY = "give Lhotse cuts, .jsonl.gz"


class Manifest(NamedTuple):
    """What a manifest holds: cuts, each id once, and {id or place: why a row is none}."""

    cuts: List[Cut]
    problems: Dict[str, DataError]

    def usable(self, path: Path, problems: Problems) -> List[Cut]:
        """Return the cuts, after `problems` has been told what is none. Raises DataError where none is left."""
        for name, error in self.problems.items():
            problems.add_error(name, error)
        if not self.cuts:
            raise DataError(f"none of its {len(self.problems)} rows is a cut that can be used", file=path)
        return self.cuts


def read_manifest(path: Path) -> Manifest:
    """Read a manifest of cuts. Raises DataError where it cannot be read, is empty, or is one of something else, which
    it names; where single rows are no cuts, they are its problems.

    Relative paths in it are from the folder you work in where there is such a file, else from beside the manifest."""
    manifest = Manifest([], {})
    ids = set()
    kinds = set()
    for number, item in enumerate(_items(path), 1):
        kinds.add(type(item))
        if isinstance(item, DataError):
            manifest.problems[item.utterance or f"row {number}"] = item
        elif not isinstance(item, Cut):
            what = f"{_name(type(item))[0]}, not a cut"
            manifest.problems[f"row {number}"] = DataError(what, file=path, remedy=_REMEDY)
        elif item.id in ids:
            manifest.problems[f"{item.id} (row {number})"] = DataError(
                "a cut of this id stands before it", file=path, utterance=item.id, remedy="give each cut its own id"
            )
        else:
            ids.add(item.id)
            manifest.cuts.append(item)
    if not kinds:
        raise DataError("no cuts in this manifest", file=path)
    if len(kinds) == 1 and not manifest.cuts and DataError not in kinds:
        name, remedy = _name(kinds.pop())
        raise DataError(f"not a manifest of cuts: each row is {name}", file=path, remedy=remedy)
    return manifest


def _name(kind: type) -> Tuple[str, str]:
    """What a row of this kind is, and how to make cuts of such a manifest."""
    name, command = _OTHERS.get(kind, (f"of the kind {kind.__name__}", ""))
    return name, f"make cuts of it: {command}" if command else _REMEDY


def _items(path: Path) -> List[Any]:
    """What each row is: an object of Lhotse's, or the DataError that says why it is none."""
    try:
        if not path.name.removesuffix(".gz").endswith(".jsonl"):
            return list(CutSet.from_file(path))
        rows = read_jsonl(path)
    except Exception as error:  # Lhotse's readers raise whatever the file brings about
        what = error.what if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        raise DataError(f"not a manifest of cuts: {what}", file=path, remedy=_REMEDY) from error
    return [_item(row, path) for row in rows]


def _item(row: Any, path: Path) -> Any:
    name = str(row["id"]) if isinstance(row, dict) and "id" in row else None
    try:
        return deserialize_item(with_sources(row, lambda source: str(find_file(source, path.parent))))
    except Exception as error:  # likewise
        return DataError(
            f"not a cut of Lhotse's: {type(error).__name__}: {error}", file=path, utterance=name,
            remedy="mend this row of the manifest",
        )  # fmt: skip
