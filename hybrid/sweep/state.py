"""What the folders of a sweep hold: which runs are done, and whose numbers are those of the file's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

from hybrid.errors import HybridError
from hybrid.marks import StageMarks, find, states
from hybrid.pipeline.recipe import Recipe
from hybrid.run import Run
from hybrid.score.results import STAGES
from hybrid.sweep.plan import Job


def run_of(job: Job, recipe: Recipe, data: Optional[Path]) -> Run:
    return recipe.run(job.exp, recipe.config(job.settings), data=data, seed=job.seed, command="hybrid sweep")


def progress(recipe: Recipe, run: Run, last: Optional[str]) -> Tuple[int, int, str]:
    """Returns stages done, stages wanted (those up to `last`), and why the first of the others is not done."""
    stages = recipe.stages(run)
    end = len(stages) if last is None else find(stages, last) + 1
    if not run.exp.is_dir():
        return 0, end, "not begun"
    try:
        rows = states(stages, run)[:end]
    except HybridError as error:  # its corpus is not there
        return 0, end, error.what
    waiting = [f"{stage.name}: {why}" for _, stage, state, why in rows if state != "done"]
    return end - len(waiting), end, waiting[0] if waiting else ""


def why_not_shown(recipe: Recipe, run: Run) -> str:
    """Returns "" where the decodes in a run's folder are those of its settings; else what is wrong, in words.

    Judged by the marks of the last stage that decodes and all before it: settings, seed, and that each was done on what
    now lies before it. Inputs are not read: the table can be made anew where the corpus is not.
    """
    all_stages = recipe.stages(run)
    stages = {stage.name: stage for stage in all_stages}
    last = next((stages[name] for name in reversed(STAGES) if name in stages), all_stages[-1])
    marks = StageMarks(all_stages, run)
    for name in [*marks.before(last), last.name]:
        stage, mark = stages[name], marks.read(stages[name])
        if mark is None or mark["state"] != "done":
            return f"its stage {name} is not done"
        settings = marks.settings(stage)
        old = mark.get("settings", {})
        for key in sorted({*old, *settings}):
            if old.get(key) != settings.get(key):
                return f"its stage {name} was made with {key} {old.get(key)!r}, and not {settings.get(key)!r}"
        if stage.seeded and mark.get("seed") != run.seed:
            return f"its stage {name} was made with the seed {mark.get('seed')}, and not {run.seed}"
        for need in stage.needs:
            before = marks.read(stages[need]) or {}
            if (mark.get("needs", {}).get(need), mark.get("sources", {}).get(need)) != (
                before.get("fingerprint"),
                before.get("output"),
            ):
                return f"its stage {name} is older than {need}"
    return ""
