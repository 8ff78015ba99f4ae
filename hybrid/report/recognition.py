"""The sections on word error rates: the table, the speakers, the scales that were chosen, the confusions."""

from __future__ import annotations

from itertools import product
from typing import Any, Dict, List, Mapping, Optional

from hybrid.errors import DataError
from hybrid.report import plots
from hybrid.report.gather import ReportData
from hybrid.report.html import Markup, details, esc, join, none, soft, table, tag, warning
from hybrid.score.results import CONDITIONS, cells, compared, ordered
from hybrid.score.significance import p_text, paired_test

_SHOWN = 12  # most frequent errors of a kind


def wer_section(data: ReportData) -> Markup:
    if not data.results:
        return none("No results yet: the score stage has not run.")
    parts: List[Markup] = []
    for k, (name, tuned_on) in enumerate(data.groups()):
        results = cells(data.results, name, tuned_on)
        if not results:
            continue
        systems = list(dict.fromkeys(system for system, _ in results))
        conditions = ordered((condition for _, condition in results), CONDITIONS)
        content = [
            _wer_table(data, results, systems, conditions, name, tuned_on),
            Markup(plots.intervals(results, systems, conditions)),
        ]
        title = f"Set {name}, scale and penalty chosen on {tuned_on}"
        if k == 0:
            parts += [tag("h3", title), *content, _explanation(results)]
        else:
            parts.append(details(title, *content))
    return join(parts) or none("No results yet: no set has a word of reference.")


def _wer_table(
    data: ReportData, results: Mapping[Any, Any], systems: List[str], conditions: List[str], name: str, tuned_on: str
) -> Markup:
    best = {
        condition: min(cell["wer"] for (_, column), cell in results.items() if column == condition)
        for condition in conditions
    }
    rows = []
    comparisons = compared(systems)
    for system in systems:
        row: List[Any] = [system]
        for condition in conditions:
            before = comparisons.get(system)
            p = p_value(data, before, system, condition, name, tuned_on) if before else None
            row.append(_wer_cell(results.get((system, condition)), best[condition], p, before))
        rows.append(row)
    return table(["system", *conditions], rows, cls="wer")


def _wer_cell(cell: Optional[Dict[str, Any]], best: float, p: Optional[float], before: Optional[str]) -> Markup:
    if cell is None:
        return tag("td", "-")
    number = tag("b", f"{cell['wer']:.2f}", **({"cls": "best"} if cell["wer"] == best else {}))
    change: Any = ""
    if cell["relative"] is not None:
        change = tag("span", f"{cell['relative']:+.1f} %", cls="good" if cell["relative"] < 0 else "bad")
    lines = []
    if cell["low"] is not None and cell["high"] is not None:
        lines.append(tag("small", f"[{cell['low']:.2f}, {cell['high']:.2f}]"))
    detail = f"{cell['errors']} errors in {cell['words']} words"
    if cell["seeds"] > 1:
        detail += f", {cell['seeds']} seeds"
    lines.append(tag("small", detail))
    if p is not None:
        lines.append(tag("small", f"to {before}: p {p_text(p)}"))
    return tag("td", number, " ", change, *lines)


def p_value(
    data: ReportData, before: str, system: str, condition: str, name: str, tuned_on: str
) -> Optional[float]:
    pair = [data.decodes.get((system_name, condition, name, tuned_on)) for system_name in (before, system)]
    if pair[0] is None or pair[1] is None:
        return None
    counts = [
        {utterance: (row["errors"], row["words"]) for utterance, row in decode.get("utterances", {}).items()}
        for decode in pair
        if decode is not None
    ]
    try:
        p = paired_test(counts[0], counts[1], resamples=1).p
    except DataError:  # of other utterances: not a pair
        return None
    return None if p != p else p


def _explanation(results: Mapping[Any, Any]) -> Markup:
    several = any(cell["seeds"] > 1 for cell in results.values())
    return soft(
        "WER in percent; in brackets its 95 % interval by bootstrap over utterances"
        + (" (where a cell has several seeds: the mean, in brackets the lowest and highest)" if several else "")
        + ". The percentage is the change relative to the first row; green numbers are the lowest of their column. "
        "p: two-sided matched-pair test (MAPSSWE, an utterance a segment) against the row above, of a second pass "
        "against its first, of the decodes that lie in this run's folder."
    )


def speaker_section(data: ReportData) -> Markup:
    parts: List[Markup] = []
    several = len(data.test_sets()) > 1
    for name, condition in product(data.test_sets(), data.conditions()):
        decodes = {
            system: data.decodes[system, condition, name, "dev"]
            for system in data.systems()
            if data.decodes.get((system, condition, name, "dev"), {}).get("speakers")
        }
        if not decodes:
            continue
        systems = list(decodes)
        speakers = sorted({speaker for decode in decodes.values() for speaker in decode["speakers"]})
        # the hardest for the last system first
        speakers.sort(key=lambda speaker: -_rate(decodes[systems[-1]], speaker))
        top = max((_rate(decode, speaker) for decode in decodes.values() for speaker in speakers), default=0.0)
        rows = [
            [
                speaker,
                decodes[systems[-1]]["speakers"].get(speaker, {}).get("words", "-"),
                *(_heat(_rate(decodes[system], speaker), top) for system in systems),
            ]
            for speaker in speakers
        ]
        numeric = range(1, len(systems) + 2)
        content = table(["speaker", "words", *systems], rows, numeric=numeric)
        title = f"{name}, {condition}" if several else condition
        parts.append(details(f"{title}, {len(speakers)} speakers", content, open=not parts))
    return join(parts) or none("No decode of the test set with speakers yet.")


def _rate(decode: Mapping[str, Any], speaker: str) -> float:
    wer = decode["speakers"].get(speaker, {}).get("wer")
    return -1.0 if wer is None else float(wer)


def _heat(wer: float, top: float) -> Markup:
    if wer < 0:
        return tag("td", "-", cls="num")
    strength = 0.45 * wer / top if top > 0 else 0.0
    return tag("td", f"{wer:.1f}", cls="num", style=f"background: rgba(var(--heat), {strength:.2f})")


def scale_section(data: ReportData) -> Markup:
    rows = []
    edges = []
    names = ("acoustic_scale", "word_penalty", "lm_scale", "beam")
    for (system, condition, name, tuned_on), decode in sorted(data.decodes.items(), key=_order(data)):
        settings = decode.get("settings") or {}
        if not isinstance(settings, dict) or not settings:
            continue
        rows.append([system, condition, name, tuned_on, *(_number(settings.get(key)) for key in names)])
        if settings.get("edges") or settings.get("edge"):
            edges.append(f"{system}, {condition}, {name} ({', '.join(settings.get('edges') or ['grid'])})")
    if not rows:
        return none("No decode says which scale it used.")
    notice = warning(
        "Chosen at the end of the values tried, so that values beyond might do better: " + "; ".join(edges) + "."
    )
    head = ["system", "condition", "set", "chosen on", "acoustic scale", "word penalty", "second model", "beam"]
    listed = details(f"{len(rows)} decodes", table(head, rows, numeric=(4, 5, 6, 7)))
    return join([*([notice] if edges else []), listed])


def confusion_section(data: ReportData) -> Markup:
    parts: List[Markup] = []
    several = len(data.test_sets()) > 1
    for system in reversed(data.systems()):
        for name, condition in product(data.test_sets(), data.conditions()):
            decode = data.decodes.get((system, condition, name, "dev"))
            if decode is None or not isinstance(decode.get("confusions"), dict):
                continue
            confusions = decode["confusions"]
            counts = f"{decode.get('sub', '?')} sub, {decode.get('ins', '?')} ins, {decode.get('del', '?')} del"
            columns = [
                _errors("substitutions", ["reference", "recognised", "times"], confusions.get("sub", [])),
                _errors("insertions", ["recognised", "times"], [row[1:] for row in confusions.get("ins", [])]),
                _errors("deletions", ["reference", "times"], [[row[0], row[2]] for row in confusions.get("del", [])]),
            ]
            label = f"{name}, {condition}" if several else condition
            title = join([f"{system}, {label} ", tag("span", counts, cls="soft")])
            parts.append(details(title, tag("div", *columns, cls="columns"), open=not parts))
    return join(parts) or none("No decode of the test set yet.")


def _errors(title: str, head: List[str], rows: List[Any]) -> Markup:
    if not rows:
        return tag("div", tag("h3", title), none("none"))
    remainder = f"{len(rows) - _SHOWN} more in aligned.txt" if len(rows) > _SHOWN else ""
    listed = table(head, rows[:_SHOWN], numeric=(len(head) - 1,))
    return tag("div", tag("h3", title), listed, *([soft(remainder)] if remainder else []))


def _order(data: ReportData):
    systems, conditions = data.systems(), data.conditions()
    return lambda item: (item[0][3], item[0][2], systems.index(item[0][0]), conditions.index(item[0][1]))


def _number(value: Any) -> Markup:
    return esc(f"{value:.4g}" if isinstance(value, (int, float)) else "-")
