"""The section on the words' confidences: how well they tell probabilities, of each system and set.

An error that is measured on the very set that the calibration was learnt on flatters, and is marked wherever it stands.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, List, Sequence

from hybrid.report import plots
from hybrid.report.confidences import ALL, WordConfidences, together
from hybrid.report.gather import ReportData
from hybrid.report.html import Markup, details, join, soft, table, tag
from hybrid.score.results import CONDITIONS, DEV, ordered

HEAD = ("system", "condition", "set", "learnt on", "words", "wrong", "ECE, %", "by chance", "NCE")
SAME = "the same set"
_ACROSS = 3  # panels beside each other


def confidence_section(data: ReportData) -> Markup:
    """Makes the table of errors and a reliability diagram of each set; nothing where the run has no confidences."""
    rows = in_order(data)
    if not rows:
        return Markup("")
    parts = [table(HEAD, [_cells(row) for row in rows], numeric=range(4, len(HEAD)))]
    parts += [soft(text) for text in _explanation(rows)]
    for number, (system, group) in enumerate(groupby(rows, key=lambda row: row.system)):
        drawn = list(group)
        figures = [
            Markup(plots.reliability([(_title(row), row.bins) for row in drawn[k : k + _ACROSS]], f"{system} {k}"))
            for k in range(0, len(drawn), _ACROSS)
        ]
        parts.append(details(system, *figures, open=number == 0))
    return join(parts)


def _cells(row: WordConfidences) -> List[Any]:
    cells = confidence_cells(row)
    if row.same:
        cells[3] = tag("td", cells[3].replace(f", {SAME}", ""), " ", tag("span", SAME, cls="bad"))
    return cells


def _title(row: WordConfidences) -> str:
    return f"{row.set}, {row.condition}: ECE {100 * row.ece:.2f} %{'*' if row.same else ''}"


def in_order(data: ReportData) -> List[WordConfidences]:
    """Returns the confidences of a run as they are shown: by system, the test sets first, then by condition; and where
    a system has several test sets, these together before them."""
    systems = [*data.systems(), *sorted({row.system for row in data.confidences})]
    conditions = ordered((row.condition for row in data.confidences), CONDITIONS)
    rows = sorted(
        data.confidences,
        key=lambda row: (
            systems.index(row.system), row.same, row.set == DEV, row.set, conditions.index(row.condition)
        ),
    )  # fmt: skip
    shown: List[WordConfidences] = []
    for _, group in groupby(rows, key=lambda row: row.system):
        own = list(group)
        tests = [row for row in own if not row.same and row.set != DEV]
        shown += [together(tests), *own] if len(tests) > 1 else own
    return shown


def confidence_cells(row: WordConfidences) -> List[Any]:
    """Returns a row of the table whose head is HEAD."""
    learnt = "not recorded" if row.learnt_on is None else " ".join(row.learnt_on) + (f", {SAME}" if row.same else "")
    learnt = "each as below" if row.set == ALL else learnt
    star = "*" if row.same else ""
    nce = "-" if row.nce is None else f"{row.nce:.3f}"
    errors = f"{100 * row.ece:.2f}{star}", f"{100 * row.chance:.2f}"
    return [row.system, row.condition, row.set, learnt, row.words, row.wrong, *errors, nce]


def _explanation(rows: Sequence[WordConfidences]) -> List[str]:
    return [
        f"{error_text(rows)} NCE: normalised cross-entropy, 1 of a confidence that knows, 0 of one that says the same "
        "of every word, below 0 of one that misleads.",
        "Diagrams: the share of right words of each tenth of confidences against their mean, with its 95 % interval "
        "(Wilson, as if words were independent); dotted: where confidences are probabilities. Points above it: words "
        "are right more often than is said. Below, the number of words, on a logarithmic scale.",
    ]


def error_text(rows: Sequence[WordConfidences]) -> str:
    """Returns what the ECE is, and what the mark of some of them means."""
    text = (
        "ECE: expected calibration error, the mean over all words of the difference between the mean confidence of "
        "their tenth and its share of right words; by chance: what it would be if confidences were probabilities, for "
        "the words of a tenth are few."
    )
    if any(row.same for row in rows):
        text += (
            " * measured on the set that the calibration was learnt on: it flatters, and says nothing of other speech"
        )
        text += "." if any(not row.same for row in rows) else ' (decode.confidence = "test" judges the test sets too).'
    return text
