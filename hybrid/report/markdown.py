"""RESULTS.md of a recipe: the tables, what they cost, and how to get them again."""

from __future__ import annotations

from typing import Any, Iterable, List, Optional, Sequence

from hybrid.io import PathLike, write_text
from hybrid.report.calibration import HEAD, confidence_cells, error_text, in_order
from hybrid.report.gather import ReportData, gather
from hybrid.report.html import bytes_text, seconds_text
from hybrid.report.recognition import p_value
from hybrid.score.results import CONDITIONS, SECOND, cells, compared, ordered, table
from hybrid.score.significance import p_text


def write_results_md(exp: PathLike, path: PathLike, title: str, notes: Optional[str] = None) -> None:
    """Writes the results of a run as Markdown. notes: Markdown that stands below the title (what the corpus is, what
    was changed, against which published numbers to read the table). Raises DiskError."""
    write_text(path, results_md(gather(exp, models=False), title, notes))


def results_md(data: ReportData, title: str, notes: Optional[str] = None) -> str:
    parts = [f"# {title}"]
    if notes:
        parts.append(notes.strip())
    if not data.results:
        parts.append("No results yet.")
    if len(data.test_sets()) > 1:
        parts += ["## All test sets, scale and penalty chosen on dev", table(data.results)]
    for name, tuned_on in data.groups():
        parts.append(f"## Set {name}, scale and penalty chosen on {tuned_on}")
        parts.append(table(data.results, name, tuned_on))
        parts += _paired(data, name, tuned_on)
    parts += _confidences(data) + _scales(data) + _cost(data) + _origin(data)
    if data.notes:
        parts += ["## Could not be read", "\n".join(f"- {note}" for note in data.notes)]
    return "\n\n".join(parts) + "\n"


def _paired(data: ReportData, name: str, tuned_on: str) -> List[str]:
    results = cells(data.results, name, tuned_on)
    systems = list(dict.fromkeys(system for system, _ in results))
    conditions = ordered((condition for _, condition in results), CONDITIONS)
    rows = []
    for system, before in compared(systems).items():
        ps = [p_value(data, before, system, condition, name, tuned_on) for condition in conditions]
        if any(p is not None for p in ps):
            rows.append([f"{system} to {before}", *("-" if p is None else p_text(p) for p in ps)])
    if not rows:
        return []
    second = any(SECOND in name for name in systems)
    against = "the row above, of a second pass against its first" if second else "the row above"
    text = f"Matched-pair test (MAPSSWE, an utterance a segment), two-sided p against {against}:"
    return [text, grid(["systems", *conditions], rows)]


def _confidences(data: ReportData) -> List[str]:
    rows = in_order(data)
    if not rows:
        return []
    return ["## Confidences of words", grid(HEAD, [confidence_cells(row) for row in rows]), error_text(rows)]


def _scales(data: ReportData) -> List[str]:
    rows = []
    edge = False
    tests = data.test_sets()
    for (system, condition, name, tuned_on), decode in data.decodes.items():
        settings = decode.get("settings")
        if name in tests and isinstance(settings, dict) and "acoustic_scale" in settings:
            mark = " (end of the grid)" if settings.get("edges") else ""
            edge = edge or bool(mark)
            scale, penalty = settings["acoustic_scale"], settings.get("word_penalty", 0)
            rows.append([system, condition, name, tuned_on, f"{scale:.4g}", f"{penalty:.4g}{mark}"])
    if not rows:
        return []
    systems, conditions = data.systems(), data.conditions()
    rows.sort(key=lambda row: (row[3], row[2], systems.index(row[0]), conditions.index(row[1])))
    if len(tests) == 1:
        rows = [[*row[:2], *row[3:]] for row in rows]
    set_column = ["set"] if len(tests) > 1 else []
    scales = grid(["system", "condition", *set_column, "chosen on", "acoustic scale", "word penalty"], rows)
    note = ["Where a value stands at the end of the grid, values beyond might do better."] if edge else []
    return ["## Scales", scales, *note]


def _cost(data: ReportData) -> List[str]:
    if not data.marks:
        return []
    rows = [
        [
            mark.get("stage", "-"),
            seconds_text(mark.get("seconds")),
            seconds_text(mark.get("cpu_seconds")),
            bytes_text(mark.get("peak_memory_bytes")),
        ]
        for mark in data.marks
    ]
    sums = [sum(float(mark.get(key) or 0) for mark in data.marks) for key in ("seconds", "cpu_seconds")]
    peak = max(float(mark.get("peak_memory_bytes") or 0) for mark in data.marks)
    rows.append(["all", seconds_text(sums[0]), seconds_text(sums[1]), bytes_text(peak)])
    note = "Peak memory is the largest sum of resident sets over the stage's processes."
    return ["## Time and memory", grid(["stage", "time", "CPU time", "peak memory"], rows), note]


def _origin(data: ReportData) -> List[str]:
    parts = ["## How to get these numbers"]
    commands = data.distinct("command")
    parts.append("\n".join(["```", *map(str, commands), "```"]) if commands else "No command is recorded.")
    facts = []
    if data.distinct("commit"):
        facts.append(f"commit {', '.join(map(str, data.distinct('commit')))}")
    if data.seeds():
        facts.append(f"seed {', '.join(map(str, data.seeds()))}")
    facts += [f"{name} {version}" for name, version in data.versions().items()]
    return parts + (["; ".join(facts) + "."] if facts else [])


def grid(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Makes a Markdown table."""
    lines = [head, ["-" * max(3, len(name)) for name in head], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
