"""The options of `hybrid transcribe`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hybrid.subcommand import add_subcommand

_ABOUT = """\
Transcribes speech with what a run has trained: recordings of any length, in flat memory.

SPEECH is any number of
  files       WAV, FLAC, SPHERE, Ogg, MP3, AU, CAF; with ffmpeg also m4a, WebM, mp4 ...
  folders     of such files, with all folders below
  Kaldi       data folders (wav.scp; segments and utt2spk where there are any)
  Lhotse      cuts.jsonl.gz, recordings.jsonl.gz, or a Shar folder
"""

_MORE = """\
Without --out the text is printed, a line a recording. With it, OUT gets
  text               a line a recording, as Kaldi writes it
  json               transcripts.jsonl: text, words with times and confidence, n-best lists, a segment an utterance
  ctm                words.ctm
  srt, vtt           captions/NAME.srt, captions/NAME.vtt
  textgrid           textgrid/NAME.TextGrid, tiers utterances and words
and problems.jsonl, which names what could not be transcribed, and why. The same command goes on where it was stopped.

examples:
  hybrid transcribe exp/an4 recording.wav
  hybrid transcribe exp/an4 lectures/ --out lectures-text --format text,srt --jobs 4
  hybrid transcribe exp/an4 data/test --system ce --out test-text && hybrid score data/test/text test-text/text
"""


def add_transcribe(commands: Any) -> None:
    """Adds the subcommand `transcribe` to argparse's `commands`."""
    parser = add_subcommand(commands, "transcribe", "speech to text, with times and confidences", _ABOUT, _MORE)
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a run, or one that hybrid export wrote")
    parser.add_argument("sources", type=Path, nargs="+", metavar="SPEECH", help="files, folders, manifests")
    parser.add_argument("--system", metavar="NAME", help="ce, lfmmi, tri1 ... (the best on the development set)")
    parser.add_argument("--condition", metavar="NAME", help="of which scale and penalty were chosen (clean)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--format", dest="formats", default="text,json,ctm", metavar="LIST",
        help="some of text,json,ctm,srt,vtt,textgrid (text,json,ctm)",
    )  # fmt: skip
    parser.add_argument(
        "--channel", metavar="N", help="of recordings with several, counted from 0; or all, each by itself (the first)"
    )
    parser.add_argument("--nbest", type=int, default=1, metavar="N", help="alternatives of each utterance in json (1)")
    parser.add_argument(
        "--longest", type=float, default=20.0, metavar="SECONDS",
        help="what has no endpoint is cut at its last pause after so long; no word is lost or changed by that (20)",
    )  # fmt: skip
    parser.add_argument(
        "--no-endpoints", dest="endpoints", action="store_false",
        help="a pause ends no sentence: recordings are one utterance, cut for length alone",
    )  # fmt: skip
    parser.add_argument(
        "--words", type=Path, metavar="FILE", help="new words, one a line, with their phones behind them or for G2P"
    )
    parser.add_argument(
        "--phrases", type=Path, metavar="FILE", help="likely phrases, one a line; `:3` behind one is its weight (2)"
    )
    parser.add_argument(
        "--grammar", type=Path, metavar="FILE", help="JSGF, or a sentence a line, in place of the language model"
    )
    parser.add_argument(
        "--device", default="cpu", metavar="NAME",
        help="where the network is computed: cpu, cuda, cuda:1, or auto, a GPU where there is one (cpu); workers share "
        "out the GPUs",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="worker processes (one a core)")
    parser.add_argument(
        "--max-problems", type=float, default=0.5, metavar="SHARE",
        help="exit code 1 where more of the recordings are not transcribed (0.5); all output is written all the same",
    )  # fmt: skip
    parser.set_defaults(call=_transcribe)


def _transcribe(options: argparse.Namespace) -> int:
    from hybrid.parallel import prepare_environment

    prepare_environment()
    from hybrid.transcribe.run import Options, run_transcribe

    values = {name: value for name, value in vars(options).items() if name not in ("call", "version")}
    return run_transcribe(Options(**{**values, "sources": tuple(options.sources)}))
