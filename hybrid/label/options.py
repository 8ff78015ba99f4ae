"""The options of `hybrid label`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hybrid.subcommand import add_subcommand

_ABOUT = """\
Runs a teacher over speech and keeps the k highest outputs of each frame. Each manifest (Lhotse cuts, .jsonl or
.jsonl.gz) is labelled by itself; those that are done are not done again.
"""
_MORE = """\
examples:
  hybrid label exp/an4/teacher_lfmmi/model cuts/*.jsonl.gz --out targets --jobs 8
  hybrid label MODEL cuts/*.jsonl.gz --out targets --dask tcp://scheduler:8786
"""


def add_label(commands: Any) -> None:
    """Adds the subcommand `label` to argparse's `commands`."""
    parser = add_subcommand(commands, "label", "store a teacher's soft targets for manifests of speech", _ABOUT, _MORE)
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a trained model")
    parser.add_argument("manifests", type=Path, nargs="+", metavar="CUTS", help="manifests of cuts")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the targets")
    parser.add_argument("--k", type=int, default=20, metavar="N", help="highest outputs kept of a frame (20); 0: all")
    parser.add_argument("--head", default="auto", help="output of the model: logits, xent, or auto: xent if it has one")
    parser.add_argument(
        "--kind", choices=("logits", "occupancies"), default="logits",
        help="outputs, or posteriors given the whole utterance by the model's denominator (logits)",
    )  # fmt: skip
    parser.add_argument("--shard-size", type=int, default=1000, metavar="N", help="cuts a shard (1000)")
    parser.add_argument("--max-problems", type=float, default=0.02, metavar="SHARE", help="of cuts without targets")
    work = parser.add_mutually_exclusive_group()
    work.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (one a core)")
    work.add_argument("--dask", metavar="ADDRESS", help="a Dask scheduler, or its file; workers see these folders")
    parser.set_defaults(call=_call)


def _call(options: argparse.Namespace) -> int:
    from hybrid.label.command import label

    return label(options)
