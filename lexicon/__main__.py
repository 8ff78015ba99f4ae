"""`python -m hybrid.lexicon g2p train LEXICON MODEL` and `python -m hybrid.lexicon g2p apply MODEL WORD...`."""

from __future__ import annotations

import argparse
import sys
from typing import Optional, Sequence

from hybrid.errors import DataError, HybridError
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lexicon import Lexicon


def _train(args: argparse.Namespace) -> int:
    lexicon = Lexicon.from_file(args.lexicon)
    model = G2P.train(lexicon, order=args.order, silence_phones=args.silence_phones)
    model.save(args.model)
    print(f"{args.model}: learnt from {len(lexicon)} words, {len(model.model.graphones)} graphones")
    return 0


def _apply(args: argparse.Namespace) -> int:
    """Every word that can be pronounced is; the others are named, and the exit status is 1."""
    model = G2P.load(args.model)
    bad = 0
    for word in args.words if args.words != ["-"] else sys.stdin.read().split():
        try:
            found = model.pronounce(word, args.n, skip_unknown=args.skip_unknown)
        except DataError as error:
            print(error, file=sys.stderr)
            bad += 1
            continue
        for item in found:
            print(word, *([f"{item.prob:.6g}"] if args.n > 1 else []), *item.phones)
    return 1 if bad else 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lexicon", description="pronunciations")
    subjects = parser.add_subparsers(dest="subject", required=True)
    subject = subjects.add_parser("g2p", help="pronunciations of words that a lexicon lacks")
    commands = subject.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="learn from a lexicon how its language is spelled")
    command.add_argument("lexicon", help="lexicon.txt, lexiconp.txt or a Sphinx dictionary")
    command.add_argument("model", help="the folder to write")
    command.add_argument("--order", type=int, default=8, help="of the n-gram over graphones")
    command.add_argument(
        "--silence-phones", nargs="+", default=[], metavar="PHONE", help="words that hold one are not learnt from"
    )
    command.set_defaults(run=_train)
    command = commands.add_parser("apply", help="print the words as lines of a lexicon, lexiconp.txt where N > 1")
    command.add_argument("model", help="a folder that train wrote")
    command.add_argument("words", nargs="+", metavar="WORD", help="- alone reads words from standard input")
    command.add_argument("-n", type=int, default=1, metavar="N", help="pronunciations of each word")
    command.add_argument("--skip-unknown", action="store_true", help="pass over letters that the lexicon never had")
    command.set_defaults(run=_apply)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except HybridError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
