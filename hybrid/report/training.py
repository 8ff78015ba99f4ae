"""The sections on how the networks came about: curves, senones, phone confusions."""

from __future__ import annotations

import math
from typing import Any, List, Mapping, Sequence, Tuple

import numpy as np

from hybrid.report import plots
from hybrid.report.gather import ReportData
from hybrid.report.html import Markup, details, join, none, soft, table, tag

# Drawn over the epochs where a training has it; the last two of soft targets, the divergence times T^2.
_PANELS = (
    ("loss a frame", "loss", 1.0),
    ("frame accuracy, %", "frame_accuracy", 100.0),
    ("divergence from the teacher, nats", "divergence", 1.0),
    ("best senone is the teacher's, %", "agreed", 100.0),
)
_POINTS = 400  # a line of more is thinned: the eye sees no difference, the page stays small


def curve_section(data: ReportData) -> Markup:
    parts = []
    for system, rows in data.curves.items():
        panels = []
        for title, key, factor in _PANELS:
            content = [(split, *_curve(rows, split, key, factor)) for split in ("update", "train", "dev")]
            content = [line for line in content if line[1] and (line[0] != "update" or len(line[1]) > 1)]
            if len(content) > 1 and any(line[0] == "train" for line in content):
                content = [line for line in content if line[0] != "update"]
            if content:
                panels.append((title, content))
        rates = _curve(rows, "dev", "lr", 1.0)
        if rates[0]:
            panels.append(("learning rate", [("lr", *rates)]))
        if not panels:
            continue
        parts += [tag("h3", system), Markup(plots.lines(panels, "epoch")), _last(rows)]
    return join(parts) or none("No training curves yet: no network has been trained.")


def _curve(rows: Sequence[Mapping[str, Any]], split: str, key: str, factor: float) -> Tuple[List[float], List[float]]:
    points = [
        (float(row.get("epoch") or 0), factor * float(row[key]))
        for row in rows
        if row.get("split") == split and isinstance(row.get(key), (int, float)) and math.isfinite(row[key])
    ]
    points = points[:: max(1, math.ceil(len(points) / _POINTS))]
    return [x for x, _ in points], [y for _, y in points]


def _last(rows: Sequence[Mapping[str, Any]]) -> Markup:
    facts = []
    for split in ("train", "dev"):
        split_rows = [row for row in rows if row.get("split") == split and isinstance(row.get("loss"), (int, float))]
        if split_rows:
            last = split_rows[-1]
            text = f"{split} at the end: loss {last['loss']:.4f}"
            if isinstance(last.get("frame_accuracy"), (int, float)):
                text += f", frame accuracy {100 * last['frame_accuracy']:.1f} %"
            facts.append(text)
    left_out = sum(row.get("split") == "skipped" for row in rows)
    if left_out:
        facts.append(f"{left_out} batches left out: loss or gradient not finite")
    return soft("; ".join(facts))


def senone_section(data: ReportData) -> Markup:
    counts = np.asarray(data.occupancy or [], np.float64)
    if not len(counts):
        return none("No senones yet.")
    observed = counts[counts > 0]
    middle = f"{np.median(counts):.0f}"
    text = f"{len(counts)} senones, {counts.sum():.0f} frames; frames a senone: median {middle}"
    if len(observed):
        text += f", most {observed.max():.0f}, fewest among the seen {observed.min():.0f}"
    text += f"; {len(counts) - len(observed)} never seen"
    return join([tag("p", text + "."), Markup(plots.occupancy({"": counts.tolist()}))])


def phone_section(data: ReportData) -> Markup:
    parts: List[Markup] = []
    for system, value in data.phone_confusions.items():
        names = [str(name) for name in value["phones"]]
        matrix = np.asarray(value["matrix"], np.float64)
        if matrix.shape != (len(names), len(names)) or not np.isfinite(matrix).all():
            parts.append(none(f"{system}: the matrix does not fit its {len(names)} phones."))
            continue
        right = float(np.trace(matrix) / max(matrix.sum(), 1e-30))
        content = [
            tag("p", f"{100 * right:.1f} % of frames on the diagonal; rows are shares of the reference's frames."),
            tag("div", tag("div", Markup(plots.matrix(names, matrix))), _pairs(names, matrix), cls="columns"),
        ]
        parts.append(details(system, *content, open=not parts))
    return join(parts) or none("No phone confusions yet.")


def _pairs(names: Sequence[str], matrix: np.ndarray) -> Markup:
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    totals = np.maximum(matrix.sum(axis=1), 1e-30)
    order = np.argsort(-off, axis=None, kind="stable")[:15]
    pairs = [divmod(int(place), len(names)) for place in order]
    rows = [
        [names[row], names[column], f"{off[row, column]:.0f}", f"{100 * off[row, column] / totals[row]:.1f} %"]
        for row, column in pairs
        if off[row, column] > 0
    ]
    return tag("div", table(["reference", "recognised", "frames", "share"], rows, numeric=(2, 3)))
