"""The options of `hybrid export`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hybrid.subcommand import add_subcommand

_ABOUT = """\
Writes one system of a run as a folder that recognises anywhere, without the trainer and the rest of the run: network
or Gaussians, graph, words, features, scales, and the calibration of confidences where the run has one. Whatever takes
the folder of a run to recognise with takes this one, and gives the same words, costs and times.
"""

_MORE = """\
With --onnx the network is written once more, as ONNX: where onnxruntime is installed it runs that, starts without torch
and is faster on single utterances; words may differ where two were equally good. Both sides need what
    pip install 'hybrid-asr[onnx]'
brings.

example:
  hybrid export exp/an4 lfmmi an4-asr --onnx
"""


def add_export(commands: Any) -> None:
    """Adds the subcommand `export` to argparse's `commands`."""
    parser = add_subcommand(commands, "export", "write a trained system as a folder of its own", _ABOUT, _MORE)
    parser.add_argument("exp", type=Path, metavar="EXP", help="folder of a run, or of another export")
    parser.add_argument("system", metavar="SYSTEM", help="as in the run's tables: lfmmi, ce, tri3_si ...")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder; an export that is there is replaced")
    parser.add_argument("--onnx", action="store_true", help="add the network as ONNX")
    parser.add_argument(
        "--condition", metavar="NAME", help="whose scale and penalty are taken (clean, or the first that there is)"
    )
    parser.set_defaults(call=_export)


def _export(options: argparse.Namespace) -> int:
    from hybrid.parallel import prepare_environment

    prepare_environment()
    from hybrid.decode.export import export

    written = export(options.exp, options.system, options.out, condition=options.condition, onnx=options.onnx)
    print(f"{options.out}: {written.export.system}, {written.size / 1e6:.1f} MB, {written.export.search}")
    if options.onnx and written.difference is None:
        print("onnxruntime is not installed here: the ONNX form was not compared with torch")
    elif options.onnx:
        print(f"onnxruntime and torch differ by {written.difference:.1g} at most")
    return 0
