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
    panels: Sequence[Tuple[str, Sequence[Line]]], xlabel: str, *, whole: bool = True, width: float = 10.5
) -> str:
    """Panels side by side, each (title, lines) with a legend where it has more than one; whole: x are integers."""
    figure, axes = _figure(len(panels), width, 2.9)
    for axis, (title, content) in zip(axes, panels, strict=True):
        marker = "o" if max((len(x) for _, x, _ in content), default=0) < 30 else None
        for k, (label, x, y) in enumerate(content):
            style = _style(k)
            axis.plot(x, y, label=_plain(label), marker=marker, markersize=3, linewidth=1.6, **style)
        axis.set_title(_plain(title), loc="left", fontsize=10)
        axis.set_xlabel(_plain(xlabel))
        if whole:
            from matplotlib.ticker import MaxNLocator

            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if len(content) > 1:
            axis.legend(frameon=False, fontsize=8)
    return _svg(figure)


def intervals(cells: Mapping[Tuple[str, str], Mapping[str, Any]], systems: List[str], conditions: List[str]) -> str:
    """WER with its interval: a panel a condition, a line a system, all on one scale from 0."""
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


def occupancy(counts: Sequence[float]) -> str:
    """Frames per senone, the most frequent first, on a logarithmic scale; unseen senones end the line."""
    ranked = np.sort(np.asarray(counts, np.float64))[::-1]
    figure, (axis,) = _figure(1, 10.5, 2.6)
    seen = ranked[ranked > 0]
    axis.plot(np.arange(1, len(seen) + 1), seen, color=SERIES[0], linewidth=1.6)
    axis.fill_between(np.arange(1, len(seen) + 1), seen, seen.min() if len(seen) else 1, color=SERIES[0], alpha=0.15)
    if len(seen):
        axis.set_yscale("log")
    axis.set_xlim(0, len(ranked) + 1)
    axis.set_xlabel("senones, by frequency")
    axis.set_ylabel("frames")
    return _svg(figure)


def matrix(names: Sequence[str], values: np.ndarray) -> str:
    """A confusion matrix [reference, recognised], each row as shares of its sum; colour by square root of the share."""
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


def _svg(figure: Any) -> str:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    # element ids are hashes with this salt: fixed, so that the same figure has the same bytes
    with rc_context({**_rc(), "svg.hashsalt": "hybrid"}):
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<style.*?</style>\s*", "", text, flags=re.S)  # its rules would hold for the whole page
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    # ids are one space for the whole page
    prefix = f"f{hashlib.sha1(text.encode()).hexdigest()[:8]}-"
    for opening in (' id="', '"#', "url(#"):
        text = text.replace(opening, opening + prefix)
    # it scales with the page: the size in points only says the shape
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', _head, text, count=1)


def _head(found: re.Match) -> str:
    width = float(found.group(1).split()[2])
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} class="plot" role="img" style="max-width: {1.5 * width:.0f}px" {found.group(1)}>'


def _plain(text: Optional[str]) -> str:
    """matplotlib takes $...$ for mathematics; and a name longer than the figure would leave no room for it."""
    short = str(text) if len(str(text)) <= 30 else str(text)[:29] + "…"
    return short.replace("$", r"\$")
