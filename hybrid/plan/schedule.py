"""`hybrid schedule`: a schedule of labelled and unlabelled speech (hybrid/train/scheduled.py) as a table and a plot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from hybrid.errors import ConfigError
from hybrid.subcommand import add_subcommand

_ABOUT = """\
Prints which speech a training by SCHEDULE hears when, how often, and at which learning rate, before it is begun.
SCHEDULE: sub-epochs of chunks, e.g. '20*(unlabelled 50h, labelled 5h @2)'; `python -m pydoc hybrid.train.scheduled`.
"""
_MORE = """\
examples:
  hybrid schedule '20*(unlabelled 50000h, labelled 350h @2)' --hours labelled=7000 unlabelled=1000000
  hybrid schedule '4*unlabelled 25%, 4*labelled 100%' --hours labelled=1 unlabelled=10 --plot segregated.png
"""


def add_schedule(commands: Any) -> None:
    """Adds the subcommand `schedule` to argparse's `commands`."""
    parser = add_subcommand(
        commands, "schedule", "what a schedule of labelled and unlabelled speech comes to", _ABOUT, _MORE
    )
    parser.add_argument("schedule", metavar="SCHEDULE")
    parser.add_argument("--hours", nargs="+", required=True, metavar="SOURCE=HOURS", help="what there is of each")
    parser.add_argument("--shard-hours", type=float, default=0.0, metavar="H", help="of a shard (a 200th of it all)")
    parser.add_argument("--lr", type=float, default=0.001, help="the trainer's learning rate (0.001)")
    parser.add_argument("--decay", default="cosine", help="its schedule: cosine, exponential, constant (cosine)")
    parser.add_argument("--final", type=float, default=0.02, help="its last rate, as a share of the first (0.02)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="learning rate over hours, sources in colours")
    parser.set_defaults(call=_call)


def _call(options: argparse.Namespace) -> int:
    from hybrid.train.schedule import Schedule, ScheduleConfig
    from hybrid.train.scheduled import Scheduled, parse, total_hours

    sources = _hours(options.hours)
    shards = {name: _shards(hours, options.shard_hours) for name, hours in sources.items()}
    scheduled = Scheduled(parse(options.schedule), shards, options.seed)
    pieces = scheduled.pieces
    if options.decay == "newbob":
        raise ConfigError("newbob depends on what is learnt", remedy="cosine, exponential or constant")
    rates = Schedule(ScheduleConfig(options.decay, final=options.final), options.lr)
    print(scheduled.table(pieces))
    hours_heard = total_hours(pieces)
    total = sum(hours_heard.values())
    for name, hours in hours_heard.items():
        print(f"{name}: {hours:,.1f} of {total:,.1f} hours, {hours / sources[name]:.2f} passes")
    chunks: List[Tuple[str, float, float, float]] = []  # source, begin, end, rate
    before = 0.0
    for sub in pieces:
        for piece in sub:
            chunks.append((piece.source, before, before + piece.hours, rates.rate(0, before / total) * piece.rate))
            before += piece.hours
    print(f"learning rate: {chunks[0][3]:.3g} in the first chunk, {chunks[-1][3]:.3g} in the last")
    if options.plot is not None:
        plot(chunks, [sum(piece.hours for piece in sub) for sub in pieces], options.schedule, options.plot)
    return 0


def _hours(texts: Sequence[str]) -> Dict[str, float]:
    hours: Dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            hours[name] = float(value)
        except ValueError:
            hours[name] = 0.0
        if not equals or not 0 < hours[name] < float("inf"):
            raise ConfigError(f"--hours {text}", remedy="write SOURCE=HOURS, e.g. labelled=7000")
    return hours


def _shards(hours: float, shard_hours: float) -> List[float]:
    count = max(1, round(hours / shard_hours)) if shard_hours > 0 else 200
    return [hours / count] * count


def plot(drawn: Sequence[Tuple[str, float, float, float]], subs: Sequence[float], title: str, path: Path) -> None:
    """Draws the learning rate over the hours of training.

    drawn: source, first and last hour of training, learning rate of each chunk; subs: hours of each sub-epoch.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
    names = list(dict.fromkeys(name for name, *_ in drawn))
    for place, name in enumerate(names):
        bars = [(begin, end - begin, rate) for source, begin, end, rate in drawn if source == name]
        begins, widths, rates = zip(*bars)
        axis.bar(begins, rates, widths, align="edge", color=f"C{place}", label=name, linewidth=0)
    at = 0.0
    for hours in subs[:-1]:
        at += hours
        axis.axvline(at, color="grey", linewidth=0.4)
    axis.set(xlabel="hours of training speech heard", ylabel="learning rate", title=title)
    axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
