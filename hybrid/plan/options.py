"""The options of `hybrid plan`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hybrid.plan.assumptions import GROUPS
from hybrid.subcommand import add_subcommand

TEACHER, STUDENT = "5x832b", "5x768"
_ABOUT = """\
With RECIPE: CPU time, disk and memory of each of its stages on this machine, beside what the machine has. The corpus is
looked at as `hybrid init` does; with --hours it need not be there. Nothing is run.

Without: what a teacher and a student on up to a million hours of speech cost: disk, GPU-hours, days, network traffic of
three ways to train on many GPUs (DDP, GTC, BMUF). Every number that the plan rests on is printed with where it comes
from, and is an option. Nothing is trained.
"""
_MORE = """\
examples:
  hybrid plan librispeech --hours 960
  hybrid plan my.toml --set augment.noisy_copies=1
  hybrid plan an4 --data DIR --measured exp/demo    (with the speed of this machine, as a run of it took)
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
    _add_recipe(parser)
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
        from hybrid.plan.recipe_command import refuse_foreign, show_recipe_plan

        others = [f"assume_{assumption.name}" for _, group in GROUPS for assumption in group]
        refuse_foreign(options, ["rates", "measure", *others])
        return show_plan(options) if options.recipe is None else show_recipe_plan(options)

    parser.set_defaults(call=call)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    """Adds RECIPE and the options of its plan."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a TOML file, or the name of one of our recipes")
    section = parser.add_argument_group("plan of a recipe")
    section.add_argument("--data", type=Path, metavar="DIR", help="folder of the corpus, as for hybrid run")
    section.add_argument("--exp", type=Path, metavar="DIR", help="where the run would lie: its disk is looked at")
    section.add_argument(
        "--set", dest="overrides", action="append", default=[], nargs="+", metavar="NAME=VALUE", help="change a setting"
    )
    section.add_argument(
        "--config", dest="configs", action="append", default=[], type=Path, metavar="FILE", help="as for hybrid run"
    )
    section.add_argument("--hours", type=float, metavar="H", help="training speech; the corpus is not looked at")
    section.add_argument("--test-hours", type=float, metavar="H", help="in each development and test set, with --hours")
    section.add_argument("--utterance-seconds", type=float, metavar="S", help="of an utterance, with --hours (10)")
    section.add_argument("--words", type=float, metavar="N", help="in the lexicon (counted, or 200,000)")
    section.add_argument("--ngrams", type=float, metavar="N", help="of the models of corpus.lm (counted, or 3,000,000)")
    section.add_argument("--measured", type=Path, metavar="EXP", help="take the costs from a finished run's marks")
