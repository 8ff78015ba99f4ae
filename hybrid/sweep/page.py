"""index.html of a sweep: its tables, the figure of its error rates, and links to the report of each run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List, Optional
from urllib.parse import quote

from hybrid.report import plots
from hybrid.report.html import Markup, details, document, join, none, soft, table, tag, warning
from hybrid.score.results import DEV
from hybrid.score.seeds import Change
from hybrid.sweep.numbers import Cell, Line, Table
from hybrid.sweep.table import (
    Result,
    change_rows,
    change_text,
    interval,
    meaning,
    on_seeds,
    seeds_text,
    shown_cells,
    spread,
)


def render(result: Result, exp: Path) -> str:
    """Makes the page, to stand at EXP/index.html."""
    notes = [f"{name} failed: {why}" for name, why in result.failed.items()]
    notes += [f"{name} is left out: {why}" for name, why in result.skipped.items()]
    facts = [f"{len(result.sweep.variants)} runs, {len(result.jobs)} with their seeds", f"recipe {result.sweep.recipe}"]
    body = join(
        [
            tag("header", tag("h1", result.sweep.title), tag("p", " · ".join(facts), cls="soft")),
            *([warning("Not all is shown:", tag("ul", *(tag("li", note) for note in notes)))] if notes else []),
            *(_section(result, set_table) for set_table in result.tables),
            tag("section", tag("h2", "Runs"), _runs(result, exp), id="runs"),
            *([tag("section", tag("h2", "Command"), tag("pre", result.command))] if result.command else []),
        ],
        "\n",
    )
    return document(result.sweep.title, body)


def _section(result: Result, set_table: Table) -> Markup:
    heading = tag("h2", f"Set {set_table.name}, scale and penalty chosen on dev")
    if not any(line.cells for line in set_table.lines):
        return tag("section", heading, none(f"No result on {set_table.name} yet."), id=set_table.name)
    best = {
        name: min(line.cells[name].wer for line in set_table.lines if name in line.cells)
        for name in set_table.conditions
    }
    rows: List[List[Any]] = [
        [
            _name(line),
            seeds_text(line.seeds()),
            *(_cell(line.cells.get(name), line.changes.get(name), best[name]) for name in set_table.conditions),
        ]
        for line in set_table.lines
    ]
    cells, labels = shown_cells(set_table)
    changes = change_rows(result, set_table)
    content = [
        table(["row", "seeds", *set_table.conditions], rows, cls="wer"),
        soft(meaning(result, set_table) + " Green numbers are the lowest of their column."),
        Markup(plots.intervals(cells, labels, set_table.conditions)),
    ]
    if changes:
        content += [
            tag("h3", "Changes of errors, with 95 % intervals (paired bootstrap over utterances)"),
            table(["change", *set_table.conditions], [[row[0], *map(_change, row[1:])] for row in changes], cls="wer"),
        ]
    if set_table.name == DEV:
        return tag("section", heading, details(f"table of {set_table.name}", *content), id=set_table.name)
    return tag("section", heading, *content, id=set_table.name)


def _name(line: Line) -> Markup:
    row_name = "/".join(line.row)
    return join([line.label] if line.label == row_name else [line.label, tag("small", row_name)])


def _cell(cell: Optional[Cell], change: Optional[Change], best: float) -> Markup:
    if cell is None:
        return tag("td", "-")
    lines = [tag("small", f"{interval(cell.low, cell.high)}{spread(cell)}")]
    lines.append(tag("small", f"{cell.errors} errors in {cell.words} words"))
    if change is not None:
        kind = "good" if change.relative < 0 else "bad"
        text = f"{change_text(change)}{on_seeds(change, cell)}"
        lines.insert(0, tag("small", tag("span", text, cls=kind)))
    return tag("td", tag("b", f"{cell.wer:.2f}", **({"cls": "best"} if cell.wer == best else {})), *lines)


def _change(text: str) -> Markup:
    """`-19.0 % [-29.3, -7.7], p 0.002` in three lines."""
    change, bracket, remainder = text.partition(" [")
    interval, _, p = remainder.partition("], ")
    lines = [tag("small", f"[{interval}]"), tag("small", p)] if bracket else []
    return tag("td", tag("b", change), *lines)


def _runs(result: Result, exp: Path) -> Markup:
    """What all runs have set stands above the table."""
    shared = [text for text in result.jobs[0].settings if all(text in job.settings for job in result.jobs)]
    rows = [
        [
            job.name,
            _link(exp, job.exp / "report" / "index.html", "report"),
            _link(exp, job.log, "log"),
            tag("td", tag("code", " ".join(text for text in job.settings if text not in shared)), cls="wrap"),
        ]
        for job in result.jobs
    ]
    notes = [tag("p", "All: ", tag("code", " ".join(shared)), cls="wrap")] if shared else []
    return join([*notes, table(["run", "report", "output", "settings"], rows)])


def _link(exp: Path, path: Path, words: str) -> Any:
    if not path.exists():
        return "-"
    return tag("a", words, href=quote(Path(os.path.relpath(path, exp)).as_posix()))

