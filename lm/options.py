"""The options of `hybrid lm`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hybrid.subcommand import add_subcommand

_ABOUT = """\
n-gram language models: train one on text, measure how well one predicts a text.

TEXT has one sentence a line, in UTF-8, plain or gzipped; <s> and </s> around a sentence may be there or not. Words are
parted by blanks and tabs; a no-break space is part of its word, as in ARPA files.
"""

_MORE = """\
example:
  hybrid lm train --order 3 --text train.txt --arpa lm.arpa.gz
  hybrid lm ppl --arpa lm.arpa.gz --text dev.txt
"""


def add_lm(commands: Any) -> None:
    """Adds the subcommand `lm` to argparse's `commands`."""
    add_commands(add_subcommand(commands, "lm", "train an n-gram model, or measure its perplexity", _ABOUT, _MORE))


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Adds `train` and `ppl` to the parser; what is parsed has the function `call`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train = commands.add_parser("train", help="interpolated modified Kneser-Ney, written as an ARPA file")
    train.add_argument("--order", type=int, default=3, help="3: words are predicted from the two before (3)")
    train.add_argument("--text", required=True, help="one sentence a line")
    train.add_argument("--arpa", required=True, help="the file to write; .gz compresses")
    train.add_argument("--vocabulary", metavar="FILE", help="a file of words; default: the words of the text")
    train.add_argument("--unknown", metavar="WORD", help="stands for words outside the vocabulary, as <unk>")
    train.set_defaults(call=_train)
    perplexity = commands.add_parser("ppl", help="perplexity of a text")
    perplexity.add_argument("--arpa", required=True, help="the model, plain or gzipped")
    perplexity.add_argument("--text", required=True, help="one sentence a line")
    perplexity.set_defaults(call=_perplexity)


def _train(options: argparse.Namespace) -> None:
    from hybrid.destination import find_destination
    from hybrid.lm import arpa, ngram
    from hybrid.lm.text import read_sentences, read_words

    vocabulary = None if options.vocabulary is None else read_words(options.vocabulary)
    model = ngram.train(
        read_sentences(options.text), options.order, vocabulary=vocabulary, unknown=options.unknown
    )
    arpa.write(options.arpa, model)
    sizes = ", ".join(f"{len(table)} {order}-grams" for order, table in enumerate(model.probs, 1))
    # The model itself may go to standard output, or to a pipe that is read from there.
    special = find_destination(Path(options.arpa)).special
    print(f"{options.arpa}: {sizes}", file=sys.stderr if special else sys.stdout)


def _perplexity(options: argparse.Namespace) -> None:
    from hybrid.lm import arpa
    from hybrid.lm.text import read_sentences

    result = arpa.read(options.arpa).perplexity(read_sentences(options.text))
    print(
        f"perplexity {result.perplexity:.3f} (logprob {result.logprob:.3f}, {result.sentences} sentences, "
        f"{result.words} words, {result.oovs} out of vocabulary, {result.zeros} of probability 0)"
    )
