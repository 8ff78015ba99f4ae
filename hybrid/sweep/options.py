"""The options of `hybrid sweep`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable

from hybrid.subcommand import add_subcommand

_ABOUT = """\
Runs a table of systems over several seeds, each stage made once, and writes the table: WER per condition with
intervals, changes against a reference row with intervals and paired tests. FILE is TOML; `python -m pydoc hybrid.sweep`
tells what stands in it.
"""
_MORE = """\
example:
  hybrid sweep students.toml --data DIR --list
  hybrid sweep students.toml --data DIR

EXP gets RUN/seedN/ (folders of ordinary runs), RUN/seedN.log (what each printed), table.md, table.json and index.html.
A sweep that was stopped goes on where it was with the same command.
"""


def add_sweep(commands: Any, seed: Callable[[str], int], load_recipe: Callable[[str], Any]) -> None:
    """Adds the subcommand `sweep` to argparse's `commands`."""
    parser = add_subcommand(
        commands, "sweep", "run a table of systems over several seeds, sharing what does not differ", _ABOUT, _MORE
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the runs, their settings and rows, in TOML")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the corpus")
    parser.add_argument("--exp", type=Path, metavar="DIR", help="folder of the sweep (exp/<name of FILE>)")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="these runs and no others")
    parser.add_argument("--seeds", type=seed, nargs="+", metavar="N", help="these of the file's seeds and no others")
    parser.add_argument("--parallel", type=_count, default=1, metavar="N", help="run up to N at once (1)")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], nargs="+", metavar="NAME=VALUE",
        help="change a setting of every run",
    )  # fmt: skip
    parser.add_argument("--stop-stage", metavar="STAGE", help="end each run after this stage (number or name)")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="print the runs and how far each is, and end")
    action.add_argument("--report", action="store_true", help="make the table of what is there, and run nothing")

    def call(options: argparse.Namespace) -> int:
        from hybrid.sweep.command import sweep

        return sweep(options, load_recipe)

    parser.set_defaults(call=call)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("a number from 1")
    return value
