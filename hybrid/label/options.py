"""The options of `hybrid label` and `hybrid pack`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hybrid.subcommand import add_subcommand

_LABEL = """\
Runs a teacher over speech and keeps the k highest outputs of each frame. Each manifest (Lhotse cuts, .jsonl or
.jsonl.gz) is labelled by itself; those that are done are not done again.
"""
_LABEL_MORE = """\
examples:
  hybrid label exp/an4/teacher_lfmmi/model cuts/*.jsonl.gz --out targets --jobs 8
  hybrid label MODEL cuts/*.jsonl.gz --out targets --dask tcp://scheduler:8786

`hybrid pack` makes training shards of speech and targets.
"""
_PACK = """\
Puts the features of speech beside the targets that `hybrid label` has made, in shards that a student's training streams
(scheduled.sources). Each manifest takes the targets of the manifest of its name; a cut whose `custom` has a clean_cut,
such as a noisy copy, takes those of that twin.
"""
_PACK_MORE = """\
examples:
  hybrid pack exp/an4/teacher_lfmmi/model cuts/*.jsonl.gz --targets targets --out packed/clean
  hybrid pack exp/an4/teacher_lfmmi/model noisy/*.jsonl.gz --targets targets --out packed/noisy
  hybrid run an4 --data DIR --set student.enabled=true scheduled.enabled=true \\
      'scheduled.sources=["more=packed/clean","more=packed/noisy"]' 'scheduled.chunks=10*(more 20h, labelled 100% @2)'
"""


def add_label(commands: Any) -> None:
    """Adds the subcommand `label` to argparse's `commands`."""
    what = "store a teacher's soft targets for manifests of speech"
    parser = add_subcommand(commands, "label", what, _LABEL, _LABEL_MORE)
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a trained model")
    _add_manifests(parser, "folder of the targets")
    parser.add_argument("--k", type=int, default=20, metavar="N", help="highest outputs kept of a frame (20); 0: all")
    parser.add_argument("--head", default="auto", help="output of the model: logits, xent, or auto: xent if it has one")
    parser.add_argument(
        "--kind", choices=("logits", "occupancies"), default="logits",
        help="outputs, or posteriors given the whole utterance by the model's denominator (logits)",
    )  # fmt: skip
    parser.add_argument(
        "--device", default="auto", metavar="NAME",
        help="where the teacher runs: cpu, cuda, cuda:1, or auto, a GPU where torch can use one; processes share "
        "out the GPUs that they see (auto)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("float32", "tf32", "bf16"), default="float32", help="of its products on a GPU (float32)"
    )
    _add_work(parser, "without targets")
    parser.set_defaults(call=_label)


def add_pack(commands: Any) -> None:
    """Adds the subcommand `pack` to argparse's `commands`."""
    what = "put features and a teacher's targets into shards for training"
    parser = add_subcommand(commands, "pack", what, _PACK, _PACK_MORE)
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="folder of a model whose input the features are to be: the teacher"
    )
    _add_manifests(parser, "folder of the shards")
    parser.add_argument("--targets", type=Path, required=True, metavar="DIR", help="the --out of hybrid label")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the features (float16)")
    _add_work(parser, "left out")
    parser.set_defaults(call=_pack)


def _add_manifests(parser: argparse.ArgumentParser, out: str) -> None:
    parser.add_argument("manifests", type=Path, nargs="+", metavar="CUTS", help="manifests of cuts")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)


def _add_work(parser: argparse.ArgumentParser, bad: str) -> None:
    parser.add_argument("--shard-size", type=int, default=1000, metavar="N", help="cuts a shard (1000)")
    parser.add_argument(
        "--max-problems", type=float, default=0.02, metavar="SHARE", help=f"of cuts that may be {bad} (0.02)"
    )
    work = parser.add_mutually_exclusive_group()
    work.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (one a core)")
    work.add_argument("--dask", metavar="ADDRESS", help="a Dask scheduler, or its file; workers see these folders")


def _label(options: argparse.Namespace) -> int:
    from hybrid.label.command import label

    return label(options)


def _pack(options: argparse.Namespace) -> int:
    from hybrid.label.command import pack

    return pack(options)
