"""RESULTS.md of a recipe: the tables, what they cost, and how to get them again."""

from __future__ import annotations

from typing import Any, Iterable, List, Optional, Sequence

from hybrid.io import PathLike, write_text
from hybrid.report.gather import Material, gather
from hybrid.report.html import bytes_text, seconds_text
from hybrid.report.recognition import p_value
from hybrid.score.results import CONDITIONS, cells, ordered, table
from hybrid.score.significance import p_text


def write_results_md(exp: PathLike, path: PathLike, title: str, notes: Optional[str] = None) -> None:
    """Writes the results of a run as Markdown. notes: Markdown that stands below the title (what the corpus is, what
    was changed, against which published numbers to read the table). Raises DiskError."""
    write_text(path, results_md(gather(exp, models=False), title, notes))


def results_md(material: Material, title: str, notes: Optional[str] = None) -> str:
    parts = [f"# {title}"]
    if notes:
        parts.append(notes.strip())
    if not material.results:
        parts.append("No results yet.")
    if len(material.test_sets()) > 1:
        parts += ["## All test sets, scale and penalty chosen on dev", table(material.results)]
    for name, tuned_on in material.groups():
        parts.append(f"## Set {name}, scale and penalty chosen on {tuned_on}")
        parts.append(table(material.results, name, tuned_on))
        parts += _paired(material, name, tuned_on)
    parts += _scales(material) + _cost(material) + _origin(material)
    if material.notes:
        parts += ["## Could not be read", "\n".join(f"- {note}" for note in material.notes)]
    return "\n\n".join(parts) + "\n"


def _paired(material: Material, name: str, tuned_on: str) -> List[str]:
    found = cells(material.results, name, tuned_on)
    systems = list(dict.fromkeys(system for system, _ in found))
    conditions = ordered((condition for _, condition in found), CONDITIONS)
    rows = []
    for before, system in zip(systems, systems[1:], strict=False):
        ps = [p_value(material, before, system, condition, name, tuned_on) for condition in conditions]
        if any(p is not None for p in ps):
            rows.append([f"{system} to {before}", *("-" if p is None else p_text(p) for p in ps)])
    if not rows:
        return []
    text = "Matched-pair test (MAPSSWE, an utterance a segment), two-sided p against the row above:"
    return [text, grid(["systems", *conditions], rows)]


def _scales(material: Material) -> List[str]:
    rows = []
    edge = False
    tests = material.test_sets()
    for (system, condition, name, tuned_on), decode in material.decodes.items():
        settings = decode.get("settings")
        if name in tests and isinstance(settings, dict) and "acoustic_scale" in settings:
            mark = " (end of the grid)" if settings.get("edges") else ""
            edge = edge or bool(mark)
            scale, penalty = settings["acoustic_scale"], settings.get("word_penalty", 0)
            rows.append([system, condition, name, tuned_on, f"{scale:.4g}", f"{penalty:.4g}{mark}"])
    if not rows:
        return []
    systems, conditions = material.systems(), material.conditions()
    rows.sort(key=lambda row: (row[3], row[2], systems.index(row[0]), conditions.index(row[1])))
    if len(tests) == 1:
        rows = [[*row[:2], *row[3:]] for row in rows]
    which = ["set"] if len(tests) > 1 else []
    scales = grid(["system", "condition", *which, "chosen on", "acoustic scale", "word penalty"], rows)
    said = ["Where a value stands at the end of the grid, values beyond might do better."] if edge else []
    return ["## Scales", scales, *said]


def _cost(material: Material) -> List[str]:
    if not material.marks:
        return []
    rows = [
        [
            mark.get("stage", "-"),
            seconds_text(mark.get("seconds")),
            seconds_text(mark.get("cpu_seconds")),
            bytes_text(mark.get("peak_memory_bytes")),
        ]
        for mark in material.marks
    ]
    sums = [sum(float(mark.get(key) or 0) for mark in material.marks) for key in ("seconds", "cpu_seconds")]
    peak = max(float(mark.get("peak_memory_bytes") or 0) for mark in material.marks)
    rows.append(["all", seconds_text(sums[0]), seconds_text(sums[1]), bytes_text(peak)])
    said = "Peak memory is the largest sum of resident sets over the stage's processes."
    return ["## Time and memory", grid(["stage", "time", "CPU time", "peak memory"], rows), said]


def _origin(material: Material) -> List[str]:
    parts = ["## How to get these numbers"]
    commands = material.distinct("command")
    parts.append("\n".join(["```", *map(str, commands), "```"]) if commands else "No command is recorded.")
    facts = []
    if material.distinct("commit"):
        facts.append(f"commit {', '.join(map(str, material.distinct('commit')))}")
    if material.seeds():
        facts.append(f"seed {', '.join(map(str, material.seeds()))}")
    facts += [f"{name} {version}" for name, version in material.versions().items()]
    return parts + (["; ".join(facts) + "."] if facts else [])


def grid(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["-" * max(3, len(name)) for name in head], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
