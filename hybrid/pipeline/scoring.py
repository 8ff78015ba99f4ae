"""Stages score and report."""

from __future__ import annotations

from typing import Any, Dict, List

from hybrid.errors import DataError
from hybrid.io import write_json, write_text
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.score.results import collect, read_results, table, test_sets
from hybrid.score.seeds import pooled


def score(run: RecipeRun) -> None:
    """Write EXP/results.json, EXP/score/table.md, and EXP/score/paired.json: each system against the one before."""
    from hybrid.score.significance import paired_test

    rows = collect(run.exp)
    if not rows:
        raise DataError("no decode to score", file=run.dir("decode"), remedy="run the decode stage")
    text = "\n\n".join(
        f"Test sets, scale chosen on {tuned_on}:\n\n{table(rows, None, tuned_on)}"
        for tuned_on in sorted({row["tuned_on"] for row in rows})
    )
    write_text(run.dir("score") / "table.md", text + "\n")
    pairs: List[Dict[str, Any]] = []
    systems = list(dict.fromkeys(row["system"] for row in rows))
    for name, condition in sorted({(row["set"], row["condition"]) for row in rows if row["set"] in test_sets(rows)}):
        # rows may tell of systems that this run did not decode: of another seed, in the same folder
        counts = {system: pooled([run.exp], system, condition, name, "dev") for system in systems}
        decoded = [system for system in systems if counts[system]]
        for before, after in zip(decoded, decoded[1:]):
            test = paired_test(counts[before], counts[after], seed=run.seed)
            pairs.append({"set": name, "condition": condition, "before": before, "after": after, **test.__dict__})
    write_json(run.dir("score") / "paired.json", pairs)
    run.log(text)
    run.log(_third(run, rows))


def report(run: RecipeRun) -> None:
    """Write EXP/report/index.html and EXP/report/RESULTS.md."""
    from hybrid.report import write_report, write_results_md

    recipe = run.settings.recipe
    title = recipe.title or run.recipe
    path = write_report(run.exp, title)
    third = _third(run, read_results(run.exp / "results.json"))
    notes = f"{third}\n\n{recipe.notes}".strip()
    write_results_md(run.exp, run.dir("report") / "RESULTS.md", title, notes)
    run.log(f"  read {path}")


def _third(run: RecipeRun, rows: List[Dict[str, Any]]) -> str:
    """Say what the re-recorded condition is, where there is one."""
    description = run.settings.recipe.rerecorded
    has_rerecorded = any(row["condition"] == "rerecorded" for row in rows)
    return f"The condition `rerecorded` is: {description}." if has_rerecorded and description else ""
