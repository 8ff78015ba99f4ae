"""Stages score and report."""

from __future__ import annotations

from typing import Any, Dict, List

from hybrid.errors import DataError
from hybrid.io import write_json, write_text
from hybrid.pipeline.recipe import Recipe
from hybrid.run import Run
from hybrid.score.results import SYSTEMS, collect, ordered, table
from hybrid.score.seeds import pooled


def score(run: Run, recipe: Recipe) -> None:
    """EXP/results.json, EXP/score/table.md, and EXP/score/paired.json: each system against the one before."""
    from hybrid.score.significance import paired_test

    rows = collect(run.exp)
    if not rows:
        raise DataError("no decode to score", file=run.dir("decode"), remedy="run the decode stage")
    text = "\n\n".join(
        f"Test sets, scale chosen on {tuned_on}:\n\n{table(rows, 'test', tuned_on)}"
        for tuned_on in sorted({row["tuned_on"] for row in rows})
    )
    write_text(run.dir("score") / "table.md", text + "\n")
    pairs: List[Dict[str, Any]] = []
    systems = ordered((row["system"] for row in rows), SYSTEMS)
    for condition in sorted({row["condition"] for row in rows}):
        # rows may tell of systems that this run did not decode: of another seed, in the same folder
        counts = {system: pooled([run.exp], system, condition, "test", "dev") for system in systems}
        here = [system for system in systems if counts[system]]
        for before, after in zip(here, here[1:]):
            found = paired_test(counts[before], counts[after], seed=run.seed)
            pairs.append({"condition": condition, "before": before, "after": after, **found.__dict__})
    write_json(run.dir("score") / "paired.json", pairs)
    run.log(text)
    run.log(f"\n  the third condition, rerecorded, is: {recipe.rerecorded}")


def report(run: Run, recipe: Recipe) -> None:
    """EXP/report/index.html and EXP/report/RESULTS.md."""
    from hybrid.report import write_report, write_results_md

    path = write_report(run.exp, recipe.title)
    notes = f"The third condition, `rerecorded`, is: {recipe.rerecorded}.\n\n{recipe.notes}".strip()
    write_results_md(run.exp, run.dir("report") / "RESULTS.md", recipe.title, notes)
    run.log(f"  read {path}")
