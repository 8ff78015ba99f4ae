"""scheduled.sources: speech that `hybrid pack` has put into shards, in the schedule beside the recipe's own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping

from hybrid.data.arrays import read_complete
from hybrid.data.stream import ShardSource, open_source
from hybrid.data.target_store import check_about
from hybrid.data.targets import TargetsAbout
from hybrid.errors import ConfigError, DataError
from hybrid.pipeline.recipe_run import RecipeRun

_FORM = re.compile(r"([A-Za-z_][\w-]*)=(.+)")
_AGAIN = "pack the speech again (hybrid pack), or take it out of scheduled.sources"


def packed_sets(run: RecipeRun) -> Dict[str, List[Path]]:
    """Return the sets of arrays of each name in scheduled.sources: of a folder of hybrid pack, one a manifest.

    Raises ConfigError for what is not NAME=FOLDER, DataError where there is no finished set.
    """
    sets_by_name: Dict[str, List[Path]] = {}
    if not run.settings.scheduled.enabled:
        return sets_by_name
    for text in run.settings.scheduled.sources:
        match = _FORM.fullmatch(str(text))
        if match is None:
            raise ConfigError(
                f"{text!r} in scheduled.sources", remedy='write NAME=FOLDER, as in scheduled.sources=["more=packed"]'
            )
        folder = Path(match[2])
        sets = [folder] if (folder / "shards").is_dir() else sorted(path.parent for path in folder.glob("*/shards"))
        if not sets:
            raise DataError("no shards of hybrid pack in this folder", file=folder, remedy=_AGAIN)
        sets_by_name.setdefault(match[1], []).extend(sets)
    return sets_by_name


def marks_of_sets(run: RecipeRun) -> List[Path]:
    """Return the files complete.json of all packed sets, which know all hashes: what a training on them depends on.
    Raises DataError."""
    sets = [path for paths in packed_sets(run).values() for path in paths]
    for path in sets:
        read_complete(path)
    return [path / "complete.json" for path in sets]


def open_packed(folder: Path, about: TargetsAbout, features: Mapping[str, Any]) -> ShardSource:
    """Open a set whose targets are `about` (or more of them a frame) and whose features are `features` (features.json).

    Raises ModelError for targets of another teacher or senones, DataError for other features.
    """
    settings = read_complete(folder)["settings"]
    try:
        stored, packed_features = TargetsAbout.from_dict(settings["about"]), settings["features"]
    except (KeyError, TypeError):
        raise DataError("not a set of hybrid pack", file=folder, remedy=_AGAIN) from None
    check_about(folder, stored, about)
    names = [name for name in {**packed_features, **features} if packed_features.get(name) != features.get(name)]
    if names:
        differences = ", ".join(
            f"{name} {packed_features.get(name)!r}, wanted {features.get(name)!r}" for name in names
        )
        raise DataError(f"its features are others than this run's: {differences}", file=folder, remedy=_AGAIN)
    return replace(open_source(folder), k=about.k)
