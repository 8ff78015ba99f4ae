"""Whether the settings ask for a stage."""

from __future__ import annotations

from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.systems import not_asked


def is_wanted(run: RecipeRun, *settings: str) -> bool:
    """Whether these settings are all true (or above 0); else the log says which is not."""
    for name in not_asked(run.settings, settings)[:1]:
        run.log(f"  {name} is {run.config[name]!r}: nothing to do".lower())
        return False
    return True
