"""The options of `hybrid serve`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, Callable

from hybrid.subcommand import add_subcommand

_ABOUT = """\
Recognises speech for many clients at once, over websockets, with one graph and one network in memory. Clients of
Vosk's server work as they are; at the same address a page records or takes a file and shows the words as they come.
"""
_MORE = """\
examples:
  hybrid serve exp/an4                                  then open http://127.0.0.1:2700/
  hybrid serve exp/an4 --system lfmmi --port 8080
  hybrid serve exp/an4 --host 0.0.0.0 --origin https://example.org

A client sends {"config": {"sample_rate": 8000}}, 16-bit PCM (little-endian, mono) in pieces of any size, {"eof": 1};
each piece is answered with {"partial": "..."} or, where an utterance is over, {"text": "...", "result": [...]}.
More in config: words, max_alternatives, phrase_list as Vosk has them; "format": "hybrid" answers with the results that
transcribe writes; "endpointing": {"rules": [{"needs_words": true, "trailing_silence": 0.5, "relative_cost": 2}],
"longest": 20, "pause": 0.2} says when an utterance is over.
GET /healthz tells version and number of streams. SIGTERM and Ctrl-C end every stream with its final result.
There is no login and no encryption: beyond this machine, put a proxy that has both before it.
"""


def add_serve(commands: Any) -> None:
    """Adds the subcommand `serve` to argparse's `commands`."""
    parser = add_subcommand(commands, "serve", "recognise speech for many clients, by websocket", _ABOUT, _MORE)
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a run, or of hybrid export")
    parser.add_argument("--system", metavar="S", help="system of the run (the best on its development set)")
    parser.add_argument("--condition", metavar="C", help="of which scale and penalty were chosen (clean)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=_whole(0, 65535), default=2700, metavar="N", help="(2700); 0: a free one")
    parser.add_argument(
        "--origin", dest="origins", action="append", default=[], metavar="ORIGIN",
        help="pages of this origin may connect too (https://example.org; * is any); else only the server's own may",
    )  # fmt: skip
    parser.add_argument(
        "--device", default="cpu", metavar="NAME",
        help="where the network is computed: cpu, cuda, cuda:1, or auto, a GPU where there is one (cpu)",
    )  # fmt: skip
    parser.add_argument("--threads", type=_whole(0, 1024), default=0, metavar="N", help="that compute; 0: one a core")
    parser.add_argument(
        "--slots", type=_whole(1, 1024), default=12, metavar="N", help="streams that share a call of the network (12)"
    )
    parser.add_argument(
        "--gather-ms", type=_whole(0, 1000), default=50, metavar="N",
        help="milliseconds that speech waits for other streams to share a call with, at most (50)",
    )  # fmt: skip
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-connections", type=_whole(1, 100000), default=100, metavar="N", help="clients at once (100)"
    )
    limits.add_argument(
        "--max-seconds", type=_seconds, default=14400.0, metavar="X", help="seconds of speech of a connection (14400)"
    )
    limits.add_argument(
        "--max-message", type=_whole(1, 65536), default=1024, metavar="KB", help="size of a message in KiB (1024)"
    )
    limits.add_argument(
        "--idle", type=_seconds, default=60.0, metavar="X", help="seconds without a message that end a connection (60)"
    )
    parser.set_defaults(call=_serve)


def _serve(options: argparse.Namespace) -> int:
    from hybrid.parallel import prepare_environment

    prepare_environment()
    from hybrid.serve.command import serve_model

    return serve_model(options)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"a whole number from {low} to {high}")
        return value

    return number


def _seconds(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("seconds above 0")
    return value
