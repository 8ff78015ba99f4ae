"""The options of `hybrid lexicon`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from hybrid.subcommand import add_subcommand

_ABOUT = """\
Pronunciations of words that a lexicon lacks, by rules learnt from it (grapheme to phoneme).

LEXICON is Kaldi's lexicon.txt, lexiconp.txt or lexiconp_silprob.txt, a Sphinx dictionary, CMUdict or one of MFA's.
"""

_MORE = """\
example:
  hybrid lexicon g2p train lexicon.txt g2p/
  hybrid lexicon g2p apply g2p/ seventeen
"""


def add_lexicon(commands: Any) -> None:
    """Adds the subcommand `lexicon` to argparse's `commands`."""
    add_commands(add_subcommand(commands, "lexicon", "pronunciations of words that a lexicon lacks", _ABOUT, _MORE))


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Adds `g2p train` and `g2p apply` to the parser; what is parsed has the function `call`."""
    subjects = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    subject = subjects.add_parser("g2p", help="pronunciations of words that a lexicon lacks")
    commands = subject.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train = commands.add_parser("train", help="learn from a lexicon how its language is spelled")
    train.add_argument("lexicon", metavar="LEXICON", help="pronunciations, in any of the usual formats")
    train.add_argument("model", metavar="MODEL", help="the folder to write")
    train.add_argument("--order", type=int, default=8, help="of the n-gram over graphones (8)")
    train.add_argument(
        "--silence-phones", nargs="+", default=[], metavar="PHONE", help="words that hold one are not learnt from"
    )
    train.set_defaults(call=_train)
    apply = commands.add_parser("apply", help="print the words as lines of a lexicon, lexiconp.txt where N > 1")
    apply.add_argument("model", metavar="MODEL", help="a folder that train wrote")
    apply.add_argument("words", nargs="+", metavar="WORD", help="- alone reads words from standard input")
    apply.add_argument("-n", type=int, default=1, metavar="N", help="pronunciations of each word (1)")
    apply.add_argument("--skip-unknown", action="store_true", help="pass over letters that the lexicon never had")
    apply.set_defaults(call=_apply)


def _train(options: argparse.Namespace) -> None:
    from hybrid.lexicon.g2p import G2P
    from hybrid.lexicon.lexicon import Lexicon

    lexicon = Lexicon.from_file(options.lexicon)
    model = G2P.train(lexicon, order=options.order, silence_phones=options.silence_phones)
    model.save(options.model)
    print(f"{options.model}: learnt from {len(lexicon)} words, {len(model.model.graphones)} graphones")


def _apply(options: argparse.Namespace) -> int:
    """Every word that can be pronounced is; the others are named, and the exit status is 1."""
    from hybrid.errors import DataError
    from hybrid.lexicon.g2p import G2P

    model = G2P.load(options.model)
    num_failed = 0
    for word in options.words if options.words != ["-"] else sys.stdin.read().split():
        try:
            pronunciations = model.pronounce(word, options.n, skip_unknown=options.skip_unknown)
        except DataError as error:
            print(error, file=sys.stderr)
            num_failed += 1
            continue
        for pronunciation in pronunciations:
            print(word, *([f"{pronunciation.prob:.6g}"] if options.n > 1 else []), *pronunciation.phones)
    return 1 if num_failed else 0
