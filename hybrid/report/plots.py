"""The report's figures, as SVG that stands inside the page and takes its colours from the page's style sheet.

matplotlib draws with placeholder colours; they are replaced by CSS variables, so that one figure serves the light and
the dark page. Text stays text. No figure depends on anything outside the page.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

# placeholder -> CSS variable; none of these stands for itself
_INK, _FAINT = "#010203", "#010204"
SERIES = [f"#01020{digit}" for digit in "56789a"]
_VARIABLES = {_INK: "var(--ink)", _FAINT: "var(--line)", **{c: f"var(--s{k})" for k, c in enumerate(SERIES, 1)}}

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
    figure, axes = _figure(len(panels), width, 2.9)
    for axis, (title, content) in zip(axes, panels, strict=True):
        marker = "o" if max((len(x) for _, x, _ in content), default=0) < 30 else None
        for k, (label, x, y) in enumerate(content):
            style = _style((styles or {}).get(label, k))
            axis.plot(x, y, label=_plain(label), marker=marker, markersize=3, linewidth=1.6, **style)
        axis.set_title(_plain(title), loc="left", fontsize=10)
        axis.set_xlabel(_plain(xlabel))
        if whole:
            from matplotlib.ticker import MaxNLocator

            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if len(content) > 1:
            _legend(axis)
    return _svg(figure)


def intervals(cells: Mapping[Tuple[str, str], Mapping[str, Any]], systems: List[str], conditions: List[str]) -> str:
    """Draws WER with its interval: a panel a condition, a line a system, all on one scale from 0."""
    figure, axes = _figure(len(conditions), 10.5, 0.8 + 0.3 * len(systems), sharey=True, sharex=True)
    for k, (axis, condition) in enumerate(zip(axes, conditions, strict=True)):
        for row, system in enumerate(systems):
            cell = cells.get((system, condition))
            if cell is None:
                continue
            colour = SERIES[k % len(SERIES)]
            if cell["low"] is not None and cell["high"] is not None:
                axis.plot([cell["low"], cell["high"]], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
            axis.plot([cell["wer"]], [row], marker="o", markersize=5, color=colour)
        axis.set_title(_plain(condition), loc="left", fontsize=10)
        axis.set_xlabel("WER, %")
        axis.set_yticks(range(len(systems)), [_plain(system) for system in systems])
        axis.set_ylim(len(systems) - 0.5, -0.5)
    # by hand: a limit set on one of several shared axes ends the automatic choice for all
    ends = [value for cell in cells.values() for value in (cell["wer"], cell["high"]) if value is not None]
    axes[0].set_xlim(0, 1.05 * max(ends, default=1.0) or 1.0)
    return _svg(figure)


def occupancy(curves: Mapping[str, Sequence[float]], xlabel: str = "senones, by frequency") -> str:
    """Draws frames per senone, the most frequent first, on a logarithmic scale; unseen senones end the line."""
    figure, (axis,) = _figure(1, 10.5, 2.6)
    longest = 0
    for k, (label, counts) in enumerate(curves.items()):
        ranked = np.sort(np.asarray(counts, np.float64))[::-1]
        longest = max(longest, len(ranked))
        observed = ranked[ranked > 0]
        if not len(observed):
            continue
        axis.set_yscale("log")
        places = np.arange(1, len(observed) + 1)
        axis.plot(places, observed, label=_plain(label), linewidth=1.6, **_style(k))
        if len(curves) == 1:
            axis.fill_between(places, observed, observed.min(), color=SERIES[0], alpha=0.15)
    axis.set_xlim(0, longest + 1)
    axis.set_xlabel(_plain(xlabel))
    axis.set_ylabel("frames")
    if len(curves) > 1:
        _legend(axis)
    return _svg(figure)


def histogram(values: Sequence[float], marked: Mapping[str, float], xlabel: str) -> str:
    """Draws how often values are; `marked` ones stand as lines with their names at the upper end."""
    figure, (axis,) = _figure(1, 10.5, 2.3)
    counts, edges = np.histogram(np.asarray(values, np.float64), bins=min(60, max(6, len(values) // 6)))
    axis.stairs(counts, edges, color=SERIES[0], linewidth=1.2, fill=False)
    axis.stairs(counts, edges, color=SERIES[0], alpha=0.2, linewidth=0, fill=True)
    room, level, before = 0.13 * (edges[-1] - edges[0]), 0, -np.inf
    for label, value in sorted(marked.items(), key=lambda item: item[1]):
        # a name that would stand in the one before it goes a line up
        level, before = (level + 1 if value - before < room else 0), value
        axis.axvline(value, color=SERIES[1], linewidth=1.2)
        place = {"transform": axis.get_xaxis_transform(), "va": "bottom", "ha": "left"}
        axis.text(value, 1.0 + 0.085 * level, _plain(label), fontsize=8, color=_INK, **place)
    axis.set_xlabel(_plain(xlabel))
    axis.set_ylabel("utterances")
    return _svg(figure)


def boxes(rows: Sequence[Tuple[str, Sequence[float], bool]], ylabel: str) -> str:
    """Draws quantiles of each named row as a box with whiskers, on a logarithmic scale.

    rows: name, quantiles 5, 25, 50, 75, 95 %, and whether it is flagged.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure, (axis,) = _figure(1, 10.5, 3.3)
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
    longest = max(len(_plain(name)) for name, _, _ in rows)
    turned = 90 if longest * len(rows) > 130 else 0
    axis.set_xticks(range(len(rows)), [_plain(name) for name, _, _ in rows], rotation=turned, fontsize=8)
    axis.set_xlim(-0.8, len(rows) - 0.2)
    axis.grid(False, axis="x")
    axis.set_ylabel(_plain(ylabel))
    return _svg(figure)


def stacked(rows: Mapping[str, Mapping[str, float]], ylabel: str, name: str = "") -> str:
    """Draws a bar a row, made of its named parts one upon another; the same part has the same colour in all.

    `name` of the figure, where another of the page may show the same.
    """
    figure, (axis,) = _figure(1, 10.5, 2.6)
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    below = np.zeros(len(rows))
    for k, part in enumerate(parts):
        heights = np.array([row.get(part, 0) for row in rows.values()], np.float64)
        places = np.flatnonzero(heights)
        colour = SERIES[k % len(SERIES)]
        axis.bar(places, heights[places], 0.72, below[places], label=_plain(part), color=colour, alpha=0.8)
        below += heights
    names = [_plain(name) for name in rows]
    turned = 90 if sum(map(len, names)) > 130 else 0
    axis.set_xticks(range(len(rows)), names, rotation=turned, fontsize=8)
    axis.set_xlim(-0.8, len(rows) - 0.2)
    axis.grid(False, axis="x")
    axis.set_ylabel(_plain(ylabel))
    if len(parts) > 1:
        # above the bars, which may fill the figure
        _legend(axis, loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=len(parts))
    return _svg(figure, name)


def matrix(names: Sequence[str], values: np.ndarray) -> str:
    """Draws a confusion matrix [reference, recognised], each row as shares of its sum.

    Its colour goes by the square root of the share.
    """
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-30)
    size = min(7.4, max(4.0, 1.6 + 0.17 * len(names)))
    figure, (axis,) = _figure(1, size, size)
    # one colour of varying opacity, in cells: an image would carry a background of its own
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_ylim(len(names) - 0.5, -0.5)
    from matplotlib.patches import Rectangle

    for row, column in zip(*np.nonzero(shares > 0.005), strict=True):
        share = float(np.sqrt(shares[row, column]))
        # placed by attributes of the artist, so that opacity survives the change of colour
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=SERIES[0], alpha=share, linewidth=0))
    small = max(4.0, min(9.0, 260 / max(len(names), 1)))
    labels = [_plain(name) for name in names]
    axis.set_xticks(range(len(names)), labels, rotation=90, fontsize=small)
    axis.set_yticks(range(len(names)), labels, fontsize=small)
    axis.set_xlabel("recognised")
    axis.set_ylabel("reference")
    axis.set_aspect("equal")
    axis.grid(False)
    return _svg(figure)


def _style(k: int) -> Dict[str, Any]:
    # six colours, then the same ones dashed
    return {"color": SERIES[k % len(SERIES)], "linestyle": ("-", "--", ":")[k // len(SERIES) % 3]}


def _legend(axis: Any, **placement: Any) -> None:
    # made outside of the figure's settings: without its colour here it would be black on the dark page
    axis.legend(frameon=False, fontsize=8, labelcolor=_INK, **placement)


def _figure(columns: int, width: float, height: float, **shared: Any) -> Tuple[Any, List[Any]]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_rc()):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = list(figure.subplots(1, columns, squeeze=False, **shared)[0])
        for axis in axes:
            axis.grid(True, linewidth=0.6)
            axis.set_axisbelow(True)
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
    return figure, axes


def _rc() -> Any:
    named = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "legend.labelcolor")
    return {
        **{name: _INK for name in named},
        "axes.edgecolor": _FAINT,
        "grid.color": _FAINT,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "font.size": 9,
        "font.family": "DejaVu Sans",  # only to measure by: comes with matplotlib; the page's own font is shown
        "axes.unicode_minus": False,
        "svg.fonttype": "none",
    }


def _svg(figure: Any, name: str = "") -> str:
    """`name` tells apart figures of a page that may be the same: their ids must not be."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    # element ids are hashes with this salt: fixed, so that the same figure has the same bytes
    with rc_context({**_rc(), "svg.hashsalt": "hybrid"}):
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    # within tags a hundredth of a point is enough; between them lines need no indent
    text = re.sub(r"<[^>]+>", lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match.group()), text)
    text = re.sub(r"\n\s+", "\n", text)
    text = re.sub(r"<style.*?</style>\s*", "", text, flags=re.S)  # its rules would hold for the whole page
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    # most ids name a part that nothing refers to; the others are one space for the whole page
    used = set(re.findall(r'"#([^"]+)"|url\(#([^)]+)\)', text))
    referenced = {name for pair in used for name in pair}
    text = re.sub(r' id="([^"]*)"', lambda match: match.group() if match.group(1) in referenced else "", text)
    prefix = f"f{hashlib.sha1((name + text).encode()).hexdigest()[:8]}-"
    for opening in (' id="', '"#', "url(#"):
        text = text.replace(opening, opening + prefix)
    # it scales with the page: the size in points only says the shape
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', _head, text, count=1)


def _head(match: re.Match) -> str:
    width = float(match.group(1).split()[2])
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} class="plot" role="img" style="max-width: {1.5 * width:.0f}px" {match.group(1)}>'


def _plain(text: Optional[str]) -> str:
    """matplotlib takes $...$ for mathematics; and a name longer than the figure would leave no room for it."""
    short = str(text) if len(str(text)) <= 30 else str(text)[:29] + "…"
    return short.replace("$", r"\$")
