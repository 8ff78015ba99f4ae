"""table.md and table.json of a sweep: the numbers of hybrid/sweep/numbers.py as text and as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from hybrid.report.markdown import grid
from hybrid.score.results import DEV
from hybrid.score.seeds import Change
from hybrid.score.significance import p_text
from hybrid.sweep.numbers import Cell, Line, Table
from hybrid.sweep.plan import Job, Sweep


@dataclass
class Result:
    """All that is to be shown. tables: of test and of dev. skipped: runs and why. failed: what this sweep's runs said.

    commands: how the numbers are made again.
    """

    sweep: Sweep
    tables: List[Table]
    jobs: List[Job]
    skipped: Dict[str, str] = field(default_factory=dict)
    failed: Dict[str, str] = field(default_factory=dict)
    command: str = ""


def as_markdown(result: Result) -> str:
    sweep = result.sweep
    parts = [f"# {sweep.title}"]
    for table in result.tables:
        parts.append(f"## Set {table.name}")
        if not any(line.cells for line in table.lines):
            parts.append(f"No result on {table.name} yet.")
            continue
        head = ["row", "seeds", *table.conditions]
        parts.append(grid(head, [_row(line, table.conditions) for line in table.lines]))
        parts.append(meaning(result, table))
        rows = change_rows(result, table)
        if rows:
            parts.append("Change of errors in percent, with its 95 % interval and p:")
            parts.append(grid(["change", *table.conditions], rows))
    if result.skipped:
        parts.append("## Left out\n\n" + "\n".join(f"- {name}: {why}" for name, why in result.skipped.items()))
    if result.failed:
        parts.append("## Failed\n\n" + "\n".join(f"- {name}: {why}" for name, why in result.failed.items()))
    if result.command:
        parts.append(f"## How to get these numbers\n\n    {result.command}")
    return "\n\n".join(parts) + "\n"


def _row(line: Line, conditions: Sequence[str]) -> List[str]:
    cells = [cell_text(line.cells.get(name), line.changes.get(name), line) for name in conditions]
    return [line.label, seeds_text(line.seeds()), *cells]


def cell_text(cell: Optional[Cell], change: Optional[Change], line: Line) -> str:
    if cell is None:
        return "-"
    parts = [f"{cell.wer:.2f} {interval(cell.low, cell.high)}{spread(cell)}"]
    if change is not None:
        parts.append(f"{change_text(change)}{on_seeds(change, cell)}")
    return "; ".join(parts)


def interval(low: float, high: float, sign: str = "") -> str:
    return f"[{low:{sign}.{1 if sign else 2}f}, {high:{sign}.{1 if sign else 2}f}]"


def spread(cell: Cell) -> str:
    return f" ({cell.lowest:.2f}..{cell.highest:.2f})" if len(cell.by_seed) > 1 else ""


def change_text(change: Change) -> str:
    if math.isnan(change.relative):
        return "no error to compare with"
    return f"{change.relative:+.1f} %, p {'-' if math.isnan(change.p) else p_text(change.p)}"


def on_seeds(change: Change, cell: Optional[Cell]) -> str:
    """Tells the seeds of a change where they are not all seeds of its cell."""
    if cell is not None and set(change.keys) == set(cell.by_seed):
        return ""
    return f" (seed{'s' if len(change.keys) > 1 else ''} {seeds_text(change.keys)})"


def seeds_text(seeds: Sequence[int]) -> str:
    return " ".join(map(str, seeds)) or "-"


def change_rows(result: Result, table: Table) -> List[List[str]]:
    """Returns the rows of the table of changes: against the reference, the pairs asked for, the published ones.

    Those of which there is nothing yet are left out.
    """
    rows = []
    reference = result.sweep.reference
    if reference is not None:
        against = result.sweep.variant(reference[0]).label(reference[1])
        for line in table.lines:
            if line.row != reference:
                rows.append([f"{line.label} against {against}", *_changes(table, line.changes, line.cells)])
    lines = {line.row: line for line in table.lines}
    for comparison in table.comparisons:
        cells = lines[comparison.row].cells if comparison.row in lines else {}
        rows.append([comparison.label, *_changes(table, comparison.changes, cells)])
    if table.name != DEV:  # published numbers are of test sets
        for words, numbers in result.sweep.published:
            texts = [f"{number:+.1f} %" for number in numbers[: len(table.conditions)]]
            rows.append([f"published: {words}", *texts, *["-"] * (len(table.conditions) - len(texts))])
    return [row for row in rows if set(row[1:]) != {"-"}]


def _changes(table: Table, changes: Mapping[str, Change], cells: Mapping[str, Cell]) -> List[str]:
    texts = []
    for name in table.conditions:
        change = changes.get(name)
        if change is None:
            texts.append("-")
        elif math.isnan(change.relative):
            texts.append(change_text(change))
        else:
            relative, p = change_text(change).split(", ")
            limits = interval(change.low, change.high, "+")
            texts.append(f"{relative} {limits}, {p}{on_seeds(change, cells.get(name))}")
    return texts


def meaning(result: Result, table: Table) -> str:
    several = any(len(cell.by_seed) > 1 for line in table.lines for cell in line.cells.values())
    text = f"WER in percent on {table.name}"
    text += ", mean over seeds" if several else ""
    text += " [95 % interval by bootstrap over utterances"
    text += ", errors summed over seeds] (lowest..highest seed)" if several else "]"
    reference = result.sweep.reference
    if reference is not None:
        label = result.sweep.variant(reference[0]).label(reference[1])
        text += f"; change of the errors against {label} on the seeds that both have, p of the matched-pair test"
        text += " (MAPSSWE, an utterance a segment)"
    return text + ". Acoustic scale and word penalty are chosen on dev."


def as_json(result: Result) -> Dict[str, Any]:
    sweep = result.sweep
    return {
        "title": sweep.title,
        "recipe": sweep.recipe,
        "reference": None if sweep.reference is None else "/".join(sweep.reference),
        "sets": {table.name: _table_json(table) for table in result.tables},
        "published": [{"words": words, "changes": list(numbers)} for words, numbers in sweep.published],
        "skipped": result.skipped,
        "failed": result.failed,
        "command": result.command,
    }


def _table_json(table: Table) -> Dict[str, Any]:
    return {
        "tuned_on": "dev",
        "conditions": table.conditions,
        "rows": [
            {
                "run": line.row[0],
                "system": line.row[1],
                "label": line.label,
                "seeds": line.seeds(),
                "conditions": {
                    name: {**_cell_json(cell), "change": _change_json(line.changes.get(name))}
                    for name, cell in line.cells.items()
                },
            }
            for line in table.lines
        ],
        "comparisons": [
            {
                "row": "/".join(comparison.row),
                "against": "/".join(comparison.against),
                "conditions": {name: _change_json(change) for name, change in comparison.changes.items()},
            }
            for comparison in table.comparisons
        ],
    }


def _cell_json(cell: Cell) -> Dict[str, Any]:
    rates = {name: _number(getattr(cell, name)) for name in ("wer", "low", "high", "lowest", "highest")}
    by_seed = {
        str(seed): {"wer": _number(100.0 * errors / words) if words else None, "errors": errors, "words": words}
        for seed, (errors, words) in cell.by_seed.items()
    }
    return {**rates, "errors": cell.errors, "words": cell.words, "by_seed": by_seed}


def _change_json(change: Optional[Change]) -> Optional[Dict[str, Any]]:
    if change is None:
        return None
    rates = {name: _number(getattr(change, name)) for name in ("relative", "low", "high")}
    return {**rates, "p": None if math.isnan(change.p) else change.p, "seeds": list(change.keys)}


def _number(value: float) -> Optional[float]:
    """JSON has no nan and no inf."""
    return round(value, 4) if math.isfinite(value) else None


def shown_cells(table: Table) -> Tuple[Dict[Tuple[str, str], Dict[str, Optional[float]]], List[str]]:
    """Returns the figure's (label, condition) -> wer, low, high; and the labels, each once, in the table's order."""
    cells: Dict[Tuple[str, str], Dict[str, Optional[float]]] = {}
    labels: List[str] = []
    for line in table.lines:
        label = line.label if line.label not in labels else "/".join(line.row)
        if line.cells:
            labels.append(label)
        for name, cell in line.cells.items():
            limits = (cell.low, cell.high) if math.isfinite(cell.high) else (None, None)
            cells[label, name] = {"wer": cell.wer, "low": limits[0], "high": limits[1]}
    return cells, labels
