"""The options of `hybrid init`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hybrid.subcommand import add_subcommand

_ABOUT = """\
Look at a corpus and print a recipe for it: hybrid init CORPUS > my.toml, then hybrid run my.toml.

CORPUS is one of
  a folder    audio files, each with a transcript beside it (.lab, .txt, .TextGrid); folders are speakers
  Kaldi       a data folder: wav.scp with plain paths, text, segments, utt2spk, spk2gender where there are any
  Lhotse      cuts.jsonl.gz, or recordings with supervisions beside them, or a folder of Shar
  a folder with several of these: train*, dev* (or valid*), test* (or eval*)
  lhotse:NAME/part    read by Lhotse's own recipe from --data DIR, as lhotse:librispeech/train-clean-100
"""

_MORE = """\
A lexicon that lies in CORPUS (lexicon.txt, *.dict, *.dic) is taken. What the recipe does not say has the value of
recipes/defaults.toml; sizes follow from the hours of speech.

example:
  hybrid init data/ --lexicon lexicon.txt --noise musan/ > my.toml
"""


def add_init(commands: Any) -> None:
    init = add_subcommand(commands, "init", "look at a corpus and print a recipe for it", _ABOUT, _MORE)
    init.add_argument("corpus", metavar="CORPUS", help="see above")
    init.add_argument("--data", type=Path, metavar="DIR", help="where lhotse:NAME finds the unpacked corpus")
    init.add_argument("--dev", metavar="SOURCE", default="", help="development set (else speakers held out)")
    init.add_argument(
        "--test", metavar="NAME=SOURCE", action="append", default=[], help="a test set; may be given several times"
    )
    init.add_argument("--lexicon", metavar="FILE", default="", help="pronunciations (else words are spelled)")
    init.add_argument("--lm", metavar="FILE", default="", help="an ARPA file (without: an n-gram of the transcripts)")
    init.add_argument("--noise", metavar="DIR", default="", help="recordings of noise, as musan/")
    init.add_argument("--rooms", metavar="DIR", default="", help="room impulse responses, as RIRS_NOISES/")
    init.add_argument("--speaker", metavar="WHAT", default="folder", help="see corpus.speaker in recipes/defaults.toml")
    init.set_defaults(call=_init)


def _init(options: argparse.Namespace) -> int:
    from hybrid.init.write import describe

    print(describe(options), end="")
    return 0
