"""What all figures of the report share: placeholder colours, figures in the page's style, their SVG.

matplotlib draws with placeholder colours; they are replaced by CSS variables, so that one figure serves the light and
the dark page. Text stays text. No figure depends on anything outside the page.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

# placeholder -> CSS variable; none of these stands for itself
INK, FAINT = "#010203", "#010204"
SERIES = [f"#01020{digit}" for digit in "56789a"]
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--line)", **{c: f"var(--s{k})" for k, c in enumerate(SERIES, 1)}}


def style_of(k: int) -> Dict[str, Any]:
    """Returns colour and dashes of the k-th line: six colours, then the same ones dashed."""
    return {"color": SERIES[k % len(SERIES)], "linestyle": ("-", "--", ":")[k // len(SERIES) % 3]}


def legend(axis: Any, **placement: Any) -> None:
    """Adds a legend in the page's ink."""
    # made outside of the figure's settings: without its colour here it would be black on the dark page
    axis.legend(frameon=False, fontsize=8, labelcolor=INK, **placement)


def new_figure(
    columns: int, width: float, height: float, *, heights: Sequence[float] = (1.0,), **shared: Any
) -> Tuple[Any, List[Any]]:
    """Makes a figure of width x height inches and its axes, row by row. heights: what each row has of the height."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_rc()):
        figure = Figure(figsize=(width, height), layout="constrained")
        ratios = {"height_ratios": heights}
        axes = list(figure.subplots(len(heights), columns, squeeze=False, gridspec_kw=ratios, **shared).ravel())
        for axis in axes:
            axis.grid(True, linewidth=0.6)
            axis.set_axisbelow(True)
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
    return figure, axes


def _rc() -> Any:
    named = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "legend.labelcolor")
    return {
        **{name: INK for name in named},
        "axes.edgecolor": FAINT,
        "grid.color": FAINT,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "font.size": 9,
        "font.family": "DejaVu Sans",  # only to measure by: comes with matplotlib; the page's own font is shown
        "axes.unicode_minus": False,
        "svg.fonttype": "none",
    }


def svg(figure: Any, name: str = "") -> str:
    """Returns a figure as an SVG element; `name` tells apart figures of a page that may be the same: their ids must not
    be."""
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


def plain(text: Optional[str]) -> str:
    """Returns a text as matplotlib shows it: $...$ would be mathematics, and a name longer than the figure would leave
    no room for it."""
    short = str(text) if len(str(text)) <= 30 else str(text)[:29] + "…"
    return short.replace("$", r"\$")
