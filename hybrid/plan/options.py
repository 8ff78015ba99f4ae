"""The options of `hybrid plan`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hybrid.plan.assumptions import GROUPS
from hybrid.subcommand import add_subcommand

TEACHER, STUDENT = "5x832b", "5x768"
_ABOUT = """\
What a teacher and a student on up to a million hours of speech cost: disk, GPU-hours, days, network traffic of three
ways to train on many GPUs (DDP, GTC, BMUF). Every number that the plan rests on is printed with where it comes from,
and is an option. Nothing is trained.
"""
_MORE = """\
examples:
  hybrid plan --labelled 7000 --unlabelled 1000000 --gpus 64
  hybrid plan --gpus 0 --cores 512 --unlabelled 1000
  hybrid plan --measure rates.json --gpus 8        (on a machine with such a GPU)
  hybrid plan --rates rates.json --gpus 64 --json plan.json

MODEL is LAYERSxCELLS (5x768; 5x768b is bidirectional), or the folder of a trained LSTM.
"""


def add_plan(commands: Any) -> None:
    """Adds the subcommand `plan` to argparse's `commands`."""
    parser = add_subcommand(
        commands, "plan", "what a training on many hours costs: disk, GPU-hours, days, network", _ABOUT, _MORE
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the plan as JSON, too")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the simulated waits (0)")
    rates = parser.add_mutually_exclusive_group()
    rates.add_argument(
        "--measure", type=Path, metavar="FILE",
        help="measure speeds on this machine (about a minute), write them to FILE and plan with them",
    )  # fmt: skip
    rates.add_argument("--rates", type=Path, metavar="FILE", help="plan with speeds that --measure wrote")
    parser.add_argument(
        "--precision", default="tf32", choices=("float32", "tf32", "bf16"),
        help="arithmetic of what --measure measures on a GPU (tf32)",
    )  # fmt: skip
    for title, group in GROUPS:
        section = parser.add_argument_group(title)
        if title == "models and passes":
            section.add_argument("--teacher", default=TEACHER, metavar="MODEL", help=f"({TEACHER})")
            section.add_argument("--student", default=STUDENT, metavar="MODEL", help=f"({STUDENT})")
        for assumption in group:
            default = "" if assumption.default is None else f" ({assumption.default:g})"
            text = f"{assumption.unit}; {assumption.why}{default}".replace("%", "%%")
            name = assumption.name
            section.add_argument(f"--{name}", type=float, metavar="X", dest=f"assume_{name}", help=text)

    def call(options: argparse.Namespace) -> int:
        from hybrid.plan.command import show_plan

        return show_plan(options)

    parser.set_defaults(call=call)
