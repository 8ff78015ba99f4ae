"""The report of a run: one HTML page that needs nothing but itself."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, Optional, Tuple

from hybrid.io import PathLike, write_text
from hybrid.report import bootstrap, calibration, recognition, running, training
from hybrid.report.gather import ReportData, gather
from hybrid.report.html import Markup, document, join, none, tag, warning

Section = Tuple[str, str, Callable[[ReportData], Markup]]

SECTIONS: Tuple[Section, ...] = (
    ("wer", "Word error rates", recognition.wer_section),
    ("speakers", "Speakers", recognition.speaker_section),
    ("words", "Word confusions", recognition.confusion_section),
    ("scales", "Scales chosen", recognition.scale_section),
    ("confidences", "Confidences of words", calibration.confidence_section),
    ("curves", "Training curves", training.curve_section),
    ("gmm", "GMM passes", bootstrap.gmm_section),
    ("alignments", "Alignments", bootstrap.alignment_section),
    ("durations", "Phone durations", bootstrap.duration_section),
    ("trees", "Decision trees", bootstrap.tree_section),
    ("senones", "Senone occupancy", training.senone_section),
    ("phones", "Phone confusions", training.phone_section),
    ("problems", "Problems found", running.problem_section),
    ("stages", "Stages", running.stage_section),
    ("origin", "Versions, seed, commands", running.origin_section),
)


def write_report(exp: PathLike, title: Optional[str] = None) -> Path:
    """Writes EXP/report/index.html from what lies in the run's folder; returns its path.

    A part that is absent is said to be; a file that cannot be read is named at the head of the page. Raises DiskError.
    """
    data = gather(exp)
    path = Path(exp) / "report" / "index.html"
    write_text(path, render(data, title or f"Run {Path(exp).resolve().name}"))
    return path


def render(data: ReportData, title: str) -> str:
    made = [(name, heading, _section(data, make)) for name, heading, make in SECTIONS]
    bodies = [one for one in made if one[2]]  # a section that not all runs have is empty
    # after the sections: a part that could not be made is among the notes then
    notes = [warning("Not all could be shown:", tag("ul", *(tag("li", note) for note in data.notes)))]
    links = join((tag("a", heading, href=f"#{name}") for name, heading, _ in bodies), " ")
    body = join(
        [
            tag("header", tag("h1", title), _summary(data), tag("nav", links)),
            *(notes if data.notes else []),
            *(tag("section", tag("h2", heading), content, id=name) for name, heading, content in bodies),
        ],
        "\n",
    )
    return document(title, body)


def _section(data: ReportData, make: Callable[[ReportData], Markup]) -> Markup:
    # Files of another version, or edited by hand, may hold anything; one odd value must not cost the whole page.
    try:
        return make(data)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        name = make.__name__.replace("_", " ")
        data.notes.append(f"{name}: a file holds what is not expected there ({type(error).__name__}: {error})")
        return none("This part could not be made: see the note at the head of the page.")


def _summary(data: ReportData) -> Markup:
    facts: List[str] = []
    commits = data.distinct("commit")
    if commits:
        facts.append(f"commit {', '.join(str(commit)[:12] for commit in commits)}")
    if data.seeds():
        facts.append(f"seed {', '.join(map(str, data.seeds()))}")
    marks = [mark for mark in data.marks if not running.is_this_page(mark)]
    if marks:
        facts.append(f"{sum(mark.get('state') == 'done' for mark in marks)} of {len(marks)} stages done")
    if data.problems:
        facts.append(f"{len(data.problems)} problems noted")
    return tag("p", " · ".join(facts) or "nothing has run yet", cls="soft")
