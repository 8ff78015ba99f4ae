"""What names speech: the prefix of Lhotse's recipes, and audio files in manifests (a run's own relative to the
manifest, so that it can be moved)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, List, Optional

from hybrid.io import PathLike

LHOTSE = "lhotse:"  # begins the name of a source that Lhotse's own recipe reads: lhotse:NAME/part
PARTED = {"librispeech"}  # corpora of which a part is a folder with all that is of it
RUN = "run.json"  # stands in the folder of a run


def run_folder(path: PathLike) -> Optional[Path]:
    """Return the folder of the run that a file or folder is in; None where it is in none."""
    full = Path(os.path.abspath(path))
    return next((folder for folder in (full, *full.parents) if (folder / RUN).is_file()), None)


def relative_sources(cut: Any, folder: PathLike, root: Optional[PathLike]) -> Any:
    """Return a cut's dictionary with its audio named from `folder`, the manifest's, where it lies below `root`; else by
    its absolute path."""
    base, top = os.path.abspath(folder), None if root is None else os.path.abspath(root)

    def named(source: str) -> str:
        full = os.path.abspath(source)
        return os.path.relpath(full, base) if top is not None and Path(full).is_relative_to(top) else full

    return with_sources(cut, named)


def absolute_sources(cut: Any, folder: PathLike) -> Any:
    """Return a cut's dictionary with audio that it names by a relative path looked for from `folder`."""
    base = os.path.abspath(folder)
    return with_sources(cut, lambda source: os.path.normpath(os.path.join(base, source)))


def with_sources(value: Any, name: Callable[[str], str]) -> Any:
    """Return a cut's dictionary with every file of its recordings renamed, those of mixed cuts too."""
    if isinstance(value, list):
        return [with_sources(item, name) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "file" and isinstance(value.get("source"), str):
        return {**value, "source": name(value["source"])}
    return {key: with_sources(item, name) if key != "custom" else item for key, item in value.items()}


def folder_of(source: str, data: Path) -> Path:
    """Return the folder of `data` that lhotse:NAME/PART reads: of a corpus in PARTED that of the part
    (LibriSpeech/train-clean-100), else `data` itself. Nothing in it is read."""
    name, _, part = source[len(LHOTSE) :].partition("/")
    if name not in PARTED or not part or not data.is_dir():
        return data
    return next((place / part for place in places(data, name) if (place / part).is_dir()), data)


def places(data: Path, name: str) -> List[Path]:
    """Return the folders where a Lhotse recipe may find its corpus: the folder, then those in it that are called as the
    recipe, and one that is alone."""
    subfolders = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    letters = "".join(filter(str.isalnum, name))
    namesakes = [path for path in subfolders if letters in "".join(filter(str.isalnum, path.name.lower()))]
    return [data, *(namesakes or (subfolders if len(subfolders) == 1 else []))]
