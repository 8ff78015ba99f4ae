"""The sections on the run itself: problems, stages and their cost, versions, settings, commands."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Dict, List, Tuple

from hybrid.report.gather import ReportData
from hybrid.report.html import Markup, bytes_text, details, join, none, seconds_text, soft, table, tag

_SHOWN = 200


def problem_section(data: ReportData) -> Markup:
    if not data.problems and not data.marks:
        return none("No stage has run yet.")
    if not data.problems:
        return none("No problem was found: every utterance could be used.")
    counts: Counter = Counter()
    for row in data.problems:
        counts[str(row.get("stage", "-")), _kind(str(row.get("reason", "-")))] += 1
    ranked = sorted(counts.items(), key=lambda item: (item[0][0], -item[1]))
    summary = [[stage, reason, n] for (stage, reason), n in ranked]
    rows = [
        [row.get("utterance", "-"), row.get("stage", "-"), row.get("reason", "-"), row.get("file") or ""]
        for row in data.problems[:_SHOWN]
    ]
    unlisted = len(data.problems) - len(rows)
    listed = [table(["utterance", "stage", "reason", "file"], rows)]
    if unlisted > 0:
        listed.append(soft(f"{unlisted} more in the problems.jsonl of their stages."))
    return join(
        [
            table(["stage", "reason", "utterances"], summary, numeric=(2,)),
            details(f"The utterances ({len(data.problems)})", *listed),
        ]
    )


def _kind(reason: str) -> str:
    """Reasons that differ in numbers only count as one."""
    words = ["N" if any(letter.isdigit() for letter in word) else word for word in reason.split()]
    return " ".join(words)


def stage_section(data: ReportData) -> Markup:
    if not data.marks:
        return none("No stage has left a mark yet.")
    longest = max((_float(mark.get("seconds")) for mark in data.marks), default=0.0)
    rows: List[List[Any]] = []
    for mark in data.marks:
        width = 10 * _float(mark.get("seconds")) / longest if longest else 0.0
        rows.append(
            [
                " ".join(str(mark[key]) for key in ("number", "stage") if key in mark),
                _state(mark),
                seconds_text(mark.get("seconds")),
                tag("span", "", cls="bar", style=f"width: {width:.2f}rem"),
                seconds_text(mark.get("cpu_seconds")),
                bytes_text(mark.get("peak_memory_bytes")),
            ]
        )
    total = sum(_float(mark.get("seconds")) for mark in data.marks)
    cpu = sum(_float(mark.get("cpu_seconds")) for mark in data.marks)
    peak = max((_float(mark.get("peak_memory_bytes")) for mark in data.marks), default=0.0)
    rows.append(["all", "", seconds_text(total), "", seconds_text(cpu), bytes_text(peak) if peak else "-"])
    return table(["stage", "state", "time", "", "CPU time", "peak memory"], rows, numeric=(2, 4, 5))


def is_this_page(mark: Dict[str, Any]) -> bool:
    """Tells whether a mark is of the stage that is writing the page, which cannot be done yet."""
    return mark.get("stage") == "report" and mark.get("state") == "started"


def _state(mark: Dict[str, Any]) -> str:
    if is_this_page(mark):
        return "writes this page"
    attempts = mark.get("attempts", 1)
    state = str(mark.get("state", "-"))
    return f"{state}, {attempts} attempts" if isinstance(attempts, int) and attempts > 1 else state


def origin_section(data: ReportData) -> Markup:
    commits, commands = data.distinct("commit"), data.distinct("command")
    facts: List[Tuple[str, Any]] = [
        ("commit", ", ".join(map(str, commits)) or "not known"),
        ("seed", ", ".join(map(str, data.seeds())) or "not known"),
        ("first stage began", next(iter(data.distinct("start")), "not known")),
        ("last stage ended", next(reversed(data.distinct("end")), "not known")),
    ]
    parts = [table(["", ""], facts)]
    parts.append(tag("h3", "Commands"))
    parts.append(tag("pre", "\n".join(map(str, commands))) if commands else none("No command is recorded."))
    versions = data.versions()
    if versions:
        listed = table(["package", "version"], versions.items())
        parts.append(details(f"Versions ({len(versions)} packages)", listed, open=True))
    else:
        parts.append(none("No versions are recorded."))
    if data.config:
        rows = [[name, json.dumps(value, ensure_ascii=False)] for name, value in data.config.items()]
        parts.append(details(f"Settings ({len(rows)})", table(["setting", "value"], rows)))
    return join(parts)


def _float(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
