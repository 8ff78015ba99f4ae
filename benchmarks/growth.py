"""What grows with the speech: values of series at several sizes, judged and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Sequence, Tuple

Points = Sequence[Tuple[float, float]]  # (hours, value), hours rising


def growth(values: Sequence[float]) -> float:
    """Return by which share the largest of the later values lies over the first, 0 where none does.

    A fall is no growth: what a process costs before it reads any speech counts less an hour, the more hours there are.
    """
    return max(0.0, max(values, default=0.0) / values[0] - 1) if values and values[0] > 0 else 0.0


def slopes(points: Points) -> Sequence[float]:
    """Return what each further hour costs between neighbouring sizes: of totals (hours, value), one less than them.

    What is there at any size cancels, so that work that grows faster than the speech cannot hide behind it.
    """
    return [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in zip(points, points[1:])]


def plot(panels: Sequence[Tuple[str, Mapping[str, Points]]], path: Path) -> None:
    """Draw panels side by side, each (label of its values, {name of a line: its points}), over the hours of speech."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3), layout="constrained", squeeze=False)
    for axis, (label, lines) in zip(axes[0], panels):
        for k, (name, points) in enumerate(lines.items()):
            x, y = zip(*points)
            axis.plot(x, y, marker="o", markersize=4, label=name, linestyle=("-", "--", ":")[k // 10 % 3])
        axis.set(xscale="log", xlabel="hours of speech", ylabel=label)
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
    if len(panels[-1][1]) > 1:
        axes[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
