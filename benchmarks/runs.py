"""A run that is there already, opened by its folder."""

from __future__ import annotations

from pathlib import Path

from hybrid.config import Config, merged, nested
from hybrid.errors import DataError
from hybrid.io import read_json
from hybrid.pipeline.hook import Hook
from hybrid.pipeline.recipe import defaults
from hybrid.pipeline.recipe_run import RecipeRun


def open_run(exp: Path) -> RecipeRun:
    """Return the run with the settings that it was made with. Raises DataError where the folder holds no run."""
    path = exp / "config.json"
    if not path.exists():
        raise DataError("no run in this folder", file=path, remedy="give the --exp of a run of a recipe")
    about = read_json(exp / "run.json")
    config = Config(merged(defaults(), nested(read_json(path))), str(path))
    return RecipeRun(exp, config, file=path, hook=Hook(), seed=int(about["seed"]), recipe=str(about["recipe"]))
