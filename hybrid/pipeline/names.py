"""The names of our recipes, found without importing anything heavy: `hybrid --help` tells them."""

from __future__ import annotations

from pathlib import Path
from typing import List

# NAME/NAME.toml, and defaults.toml.
FOLDER = Path(__file__).resolve().parents[1] / "recipes"


def recipe_names() -> List[str]:
    return sorted(path.stem for path in FOLDER.glob("*/*.toml") if path.stem == path.parent.name)
