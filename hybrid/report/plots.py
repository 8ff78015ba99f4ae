"""The report's figures, as SVG that stands inside the page and takes its colours from the page's style sheet."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hybrid.decode.calibration import Bin
from hybrid.report.canvas import INK, SERIES, legend, new_figure, plain, style_of, svg
from hybrid.score.significance import wilson_interval

Line = Tuple[str, Sequence[float], Sequence[float]]  # label, x, y


def lines(
    panels: Sequence[Tuple[str, Sequence[Line]]],
    xlabel: str,
    *,
    whole: bool = True,
    width: float = 10.5,
    styles: Optional[Mapping[str, int]] = None,
) -> str:
    """Draws panels side by side, each (title, lines) with a legend where it has more than one; whole: x are integers.

    `styles`: label -> number of its colour, so that a line looks the same in every panel; else by place.
    """
    figure, axes = new_figure(len(panels), width, 2.9)
    for axis, (title, content) in zip(axes, panels, strict=True):
        marker = "o" if max((len(x) for _, x, _ in content), default=0) < 30 else None
        for k, (label, x, y) in enumerate(content):
            style = style_of((styles or {}).get(label, k))
            axis.plot(x, y, label=plain(label), marker=marker, markersize=3, linewidth=1.6, **style)
        axis.set_title(plain(title), loc="left", fontsize=10)
        axis.set_xlabel(plain(xlabel))
        if whole:
            from matplotlib.ticker import MaxNLocator

            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if len(content) > 1:
            legend(axis)
    return svg(figure)


def intervals(cells: Mapping[Tuple[str, str], Mapping[str, Any]], systems: List[str], conditions: List[str]) -> str:
    """Draws WER with its interval: a panel a condition, a line a system, all on one scale from 0."""
    figure, axes = new_figure(len(conditions), 10.5, 0.8 + 0.3 * len(systems), sharey=True, sharex=True)
    for k, (axis, condition) in enumerate(zip(axes, conditions, strict=True)):
        for row, system in enumerate(systems):
            cell = cells.get((system, condition))
            if cell is None:
                continue
            colour = SERIES[k % len(SERIES)]
            if cell["low"] is not None and cell["high"] is not None:
                axis.plot([cell["low"], cell["high"]], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
            axis.plot([cell["wer"]], [row], marker="o", markersize=5, color=colour)
        axis.set_title(plain(condition), loc="left", fontsize=10)
        axis.set_xlabel("WER, %")
        axis.set_yticks(range(len(systems)), [plain(system) for system in systems])
        axis.set_ylim(len(systems) - 0.5, -0.5)
    # by hand: a limit set on one of several shared axes ends the automatic choice for all
    ends = [value for cell in cells.values() for value in (cell["wer"], cell["high"]) if value is not None]
    axes[0].set_xlim(0, 1.05 * max(ends, default=1.0) or 1.0)
    return svg(figure)


def occupancy(curves: Mapping[str, Sequence[float]], xlabel: str = "senones, by frequency") -> str:
    """Draws frames per senone, the most frequent first, on a logarithmic scale; unseen senones end the line."""
    figure, (axis,) = new_figure(1, 10.5, 2.6)
    longest = 0
    for k, (label, counts) in enumerate(curves.items()):
        ranked = np.sort(np.asarray(counts, np.float64))[::-1]
        longest = max(longest, len(ranked))
        observed = ranked[ranked > 0]
        if not len(observed):
            continue
        axis.set_yscale("log")
        places = np.arange(1, len(observed) + 1)
        axis.plot(places, observed, label=plain(label), linewidth=1.6, **style_of(k))
        if len(curves) == 1:
            axis.fill_between(places, observed, observed.min(), color=SERIES[0], alpha=0.15)
    axis.set_xlim(0, longest + 1)
    axis.set_xlabel(plain(xlabel))
    axis.set_ylabel("frames")
    if len(curves) > 1:
        legend(axis)
    return svg(figure)


def histogram(values: Sequence[float], marked: Mapping[str, float], xlabel: str) -> str:
    """Draws how often values are; `marked` ones stand as lines with their names at the upper end."""
    figure, (axis,) = new_figure(1, 10.5, 2.3)
    counts, edges = np.histogram(np.asarray(values, np.float64), bins=min(60, max(6, len(values) // 6)))
    axis.stairs(counts, edges, color=SERIES[0], linewidth=1.2, fill=False)
    axis.stairs(counts, edges, color=SERIES[0], alpha=0.2, linewidth=0, fill=True)
    room, level, before = 0.13 * (edges[-1] - edges[0]), 0, -np.inf
    for label, value in sorted(marked.items(), key=lambda item: item[1]):
        # a name that would stand in the one before it goes a line up
        level, before = (level + 1 if value - before < room else 0), value
        axis.axvline(value, color=SERIES[1], linewidth=1.2)
        place = {"transform": axis.get_xaxis_transform(), "va": "bottom", "ha": "left"}
        axis.text(value, 1.0 + 0.085 * level, plain(label), fontsize=8, color=INK, **place)
    axis.set_xlabel(plain(xlabel))
    axis.set_ylabel("utterances")
    return svg(figure)


def boxes(rows: Sequence[Tuple[str, Sequence[float], bool]], ylabel: str) -> str:
    """Draws quantiles of each named row as a box with whiskers, on a logarithmic scale.

    rows: name, quantiles 5, 25, 50, 75, 95 %, and whether it is flagged.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure, (axis,) = new_figure(1, 10.5, 3.3)
    for k, (_, quantiles, flagged) in enumerate(rows):
        low, first, middle, third, high = quantiles
        colour = SERIES[1] if flagged else SERIES[0]
        axis.plot([k, k], [low, high], color=colour, linewidth=1.0, solid_capstyle="butt")
        axis.bar(k, third - first, bottom=first, width=0.62, color=colour, alpha=0.35, linewidth=0)
        axis.plot([k - 0.31, k + 0.31], [middle, middle], color=colour, linewidth=2.2, solid_capstyle="butt")
    axis.set_yscale("log")
    ends = [value for _, quantiles, _ in rows for value in (quantiles[0], quantiles[-1])]
    low, high = min(ends), max(ends)
    axis.set_ylim(0.85 * low, 1.2 * high)
    ticks = [step * scale for scale in (1, 10, 100, 1000, 10000) for step in (1, 2, 3, 5)]
    axis.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if 0.85 * low <= tick <= 1.2 * high]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    longest = max(len(plain(name)) for name, _, _ in rows)
    turned = 90 if longest * len(rows) > 130 else 0
    axis.set_xticks(range(len(rows)), [plain(name) for name, _, _ in rows], rotation=turned, fontsize=8)
    axis.set_xlim(-0.8, len(rows) - 0.2)
    axis.grid(False, axis="x")
    axis.set_ylabel(plain(ylabel))
    return svg(figure)


def stacked(rows: Mapping[str, Mapping[str, float]], ylabel: str, name: str = "") -> str:
    """Draws a bar a row, made of its named parts one upon another; the same part has the same colour in all.

    `name` of the figure, where another of the page may show the same.
    """
    figure, (axis,) = new_figure(1, 10.5, 2.6)
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    below = np.zeros(len(rows))
    for k, part in enumerate(parts):
        heights = np.array([row.get(part, 0) for row in rows.values()], np.float64)
        places = np.flatnonzero(heights)
        colour = SERIES[k % len(SERIES)]
        axis.bar(places, heights[places], 0.72, below[places], label=plain(part), color=colour, alpha=0.8)
        below += heights
    names = [plain(name) for name in rows]
    turned = 90 if sum(map(len, names)) > 130 else 0
    axis.set_xticks(range(len(rows)), names, rotation=turned, fontsize=8)
    axis.set_xlim(-0.8, len(rows) - 0.2)
    axis.grid(False, axis="x")
    axis.set_ylabel(plain(ylabel))
    if len(parts) > 1:
        # above the bars, which may fill the figure
        legend(axis, loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=len(parts))
    return svg(figure, name)


def matrix(names: Sequence[str], values: np.ndarray) -> str:
    """Draws a confusion matrix [reference, recognised], each row as shares of its sum.

    Its colour goes by the square root of the share.
    """
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-30)
    size = min(7.4, max(4.0, 1.6 + 0.17 * len(names)))
    figure, (axis,) = new_figure(1, size, size)
    # one colour of varying opacity, in cells: an image would carry a background of its own
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_ylim(len(names) - 0.5, -0.5)
    from matplotlib.patches import Rectangle

    for row, column in zip(*np.nonzero(shares > 0.005), strict=True):
        share = float(np.sqrt(shares[row, column]))
        # placed by attributes of the artist, so that opacity survives the change of colour
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=SERIES[0], alpha=share, linewidth=0))
    small = max(4.0, min(9.0, 260 / max(len(names), 1)))
    labels = [plain(name) for name in names]
    axis.set_xticks(range(len(names)), labels, rotation=90, fontsize=small)
    axis.set_yticks(range(len(names)), labels, fontsize=small)
    axis.set_xlabel("recognised")
    axis.set_ylabel("reference")
    axis.set_aspect("equal")
    axis.grid(False)
    return svg(figure)


def reliability(panels: Sequence[Tuple[str, Sequence[Bin]]], name: str = "") -> str:
    """Draws reliability diagrams side by side: a panel a set, each (title, ranges of confidence).

    Above: the share of right words of each range against their mean confidence, with its 95 % interval (Wilson), and
    the diagonal on which confidences that are probabilities lie; below: how many words each range has, on a
    logarithmic scale. `name` of the figure, where another of the page may show the same.
    """
    columns = max(len(panels), 3)  # a single one does not fill the page
    figure, axes = new_figure(columns, 3.5 * columns, 4.4, heights=(3, 1), sharex=True)
    for axis in [axes[k + row] for row in (0, columns) for k in range(len(panels), columns)]:
        figure.delaxes(axis)
    most = max((one.words for _, bins in panels for one in bins), default=1)
    for axis, below, (title, bins) in zip(axes, axes[columns:], panels):
        axis.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=":")
        for one in bins:
            low, high = wilson_interval(round(one.right * one.words), one.words)
            axis.plot([one.conf] * 2, [low, high], color=SERIES[0], linewidth=1.6, solid_capstyle="butt", alpha=0.55)
        axis.plot(
            [one.conf for one in bins], [one.right for one in bins], color=SERIES[0], marker="o", markersize=4,
            linewidth=1.0,
        )  # fmt: skip
        axis.set_title(plain(title), loc="left", fontsize=10)
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
        for one in bins:
            below.bar(
                one.low, one.words - 0.5, one.high - one.low, 0.5, align="edge", color=SERIES[0], alpha=0.35,
                linewidth=0.8, edgecolor=SERIES[0],
            )  # fmt: skip
            below.text(
                (one.low + one.high) / 2, 1.15 * one.words, str(one.words), ha="center", va="bottom", fontsize=6.5,
                color=INK,
            )  # fmt: skip
        below.set_yscale("log")
        below.set_ylim(0.5, 4 * most)
        below.set_xlabel("confidence")
    axes[0].set_ylabel("share of right words")
    axes[columns].set_ylabel("words")
    return svg(figure, name)
