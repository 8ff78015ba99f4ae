"""`hybrid plan RECIPE`, and the word that `hybrid run` says of a disk that is too small."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Optional, Sequence

from hybrid.errors import ConfigError, HybridError
from hybrid.io import write_json
from hybrid.marks import Stage
from hybrid.parallel import prepare_environment
from hybrid.plan.recipe_plan import Machine, giga, plan_recipe


def show_recipe_plan(options: argparse.Namespace) -> int:
    """Print the plan of options.recipe; return the exit code. Raises ConfigError and DataError."""
    from hybrid.pipeline.recipe import find_recipe
    from hybrid.plan.recipe_table import as_text
    from hybrid.plan.speech_amounts import Said, amounts_of_corpus, amounts_said

    prepare_environment()
    said = Said(options.hours, options.test_hours, options.utterance_seconds, options.words, options.ngrams)
    said.check()
    recipe = find_recipe(options.recipe)
    if recipe.own_stages is not None:
        raise ConfigError(f"the recipe {recipe.name} has stages of its own, whose costs nobody knows",
                          remedy="plan a recipe of the standard stages")  # fmt: skip
    exp = options.exp or Path("exp") / recipe.name
    config = recipe.config([text for group in options.overrides for text in group], options.configs)
    data = options.data if said.hours is None else _there(options.data)
    # Not in EXP, where a run may have found other hours: what is planned is what is asked for.
    with tempfile.TemporaryDirectory(prefix="hybrid-plan-") as folder:
        run: Any = recipe.run(Path(folder), config, data=data)
        speech = (amounts_of_corpus if said.hours is None else amounts_said)(run.settings, said, run)
        run.size(speech.train.hours)
        names = [stage.name for stage in recipe.stages(run)]
    plan = plan_recipe(recipe.name, run.settings, speech, names, Machine.here(exp), options.measured)
    print(as_text(plan))
    if options.json is not None:
        write_json(options.json, plan.to_dict())
    return 0


def _there(folder: Optional[Path]) -> Optional[Path]:
    """Return the folder where it is there: with --hours it need not be."""
    return folder if folder is not None and folder.is_dir() and any(folder.iterdir()) else None


def disk_warning(run: Any, stages: Sequence[Stage]) -> str:
    """Return a warning where a run wants more disk than is free, "" where it does not, or where nobody can tell: hours
    are known when the stage prepare is done, and not of a recipe with stages of its own."""
    from hybrid.pipeline.recipe_run import ABOUT, RecipeRun
    from hybrid.plan.speech_amounts import Said, amounts_of_run, words_and_ngrams

    if not isinstance(run, RecipeRun) or not (run.exp / "prepare" / ABOUT).is_file():
        return ""
    try:
        words, ngrams = words_and_ngrams(run.settings, Said(), run, [])
        speech = replace(amounts_of_run(run.exp), words=words, ngrams=ngrams)
        names = [stage.name for stage in stages]
        plan = plan_recipe(run.recipe, run.settings, speech, names, Machine.here(run.exp))
        taken = sum(_size(run.exp / name) for name in names)
    except (HybridError, OSError, KeyError):  # of a prepare that was killed, or an older version's
        return ""
    wanted = plan.disk - taken
    if wanted <= plan.machine.free_disk:
        return ""
    return (f"this run wants some {giga(plan.disk)} GB of disk, {giga(taken)} GB of which it has, and "
            f"{giga(plan.machine.free_disk)} GB are free: hybrid plan {run.recipe} says which settings take less")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0


OWN_OPTIONS = ("data", "exp", "hours", "test_hours", "utterance_seconds", "words", "ngrams", "measured")


def refuse_foreign(options: argparse.Namespace, others: Sequence[str]) -> None:
    """Raise ConfigError for options of the other plan: those of a recipe where none is given, of a million hours where
    one is."""

    def given(names: Sequence[str]) -> List[str]:
        return [name for name in names if getattr(options, name) not in (None, [])]

    if options.recipe is None and given((*OWN_OPTIONS, "overrides", "configs")):
        (name, *_) = given((*OWN_OPTIONS, "overrides", "configs"))
        name = {"overrides": "set", "configs": "config"}.get(name, name).replace("_", "-")
        raise ConfigError(f"--{name} is of the plan of a recipe", remedy="name it: hybrid plan RECIPE ...")
    if options.recipe is not None and given(others):
        name = given(others)[0].replace("assume_", "").replace("_", "-")
        raise ConfigError(f"--{name} is of the plan of a million hours", remedy="leave out the recipe, or the option")
