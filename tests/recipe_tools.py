"""Runs of recipes without a command: with typed settings, as the stages are handed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hybrid.pipeline.recipe import find_recipe


def recipe_run(exp: Path, *settings: str, recipe: str = "demo", **more: Any) -> Any:
    """A run of a recipe of ours; nothing is written. more: data, seed."""
    chosen = find_recipe(recipe)
    return chosen.run(exp, chosen.config(settings), **more)
