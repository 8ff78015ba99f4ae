"""The options of `hybrid lm`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hybrid.subcommand import add_subcommand

_ABOUT = """\
n-gram language models: train one on text, mix several, prune one, measure how well one predicts a text.

TEXT has one sentence a line, in UTF-8, plain or gzipped; <s> and </s> around a sentence may be there or not. Words are
parted by blanks and tabs; a no-break space is part of its word, as in ARPA files. A model is an ARPA file, plain or
gzipped, a binary one of pocketsphinx (.lm.bin, read but not written), or compact arrays (.safetensors).
"""

_MORE = """\
example:
  hybrid lm train --order 3 --text train.txt --arpa lm.arpa.gz
  hybrid lm perplexity --arpa lm.arpa.gz --text dev.txt
  hybrid lm interpolate --models lm.arpa.gz en-us.lm.bin --text dev.txt --arpa mixed.arpa.gz
  hybrid lm prune --arpa mixed.arpa.gz --most 300000 --out small.arpa
"""
_MODEL = "the model: ARPA, .lm.bin or .safetensors"
_OUT = "the file to write; .gz compresses, .safetensors: compact arrays"


def add_lm(commands: Any) -> None:
    """Adds the subcommand `lm` to argparse's `commands`."""
    add_commands(add_subcommand(commands, "lm", "train, mix, prune or measure n-gram models", _ABOUT, _MORE))


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Adds the commands to the parser; what is parsed has the function `call`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train = commands.add_parser("train", help="interpolated modified Kneser-Ney, written as an ARPA file")
    train.add_argument("--order", type=int, default=3, help="3: words are predicted from the two before (3)")
    train.add_argument("--text", required=True, help="one sentence a line")
    train.add_argument("--arpa", required=True, help=_OUT)
    train.add_argument("--vocabulary", metavar="FILE", help="a file of words; default: the words of the text")
    train.add_argument("--unknown", metavar="WORD", help="stands for words outside the vocabulary, as <unk>")
    train.set_defaults(call=_train)
    perplexity = commands.add_parser("perplexity", aliases=["ppl"], help="perplexity of a text")
    perplexity.add_argument("--arpa", required=True, help=_MODEL)
    perplexity.add_argument("--text", required=True, help="one sentence a line")
    perplexity.set_defaults(call=_perplexity)
    mix = commands.add_parser("interpolate", help="one model of several, as their linear mixture has it")
    mix.add_argument("--models", nargs="+", required=True, metavar="FILE", help=_MODEL)
    weights = mix.add_mutually_exclusive_group(required=True)
    weights.add_argument("--text", help="a development text, on which the weights are tuned by EM")
    weights.add_argument("--weights", nargs="+", type=float, metavar="WEIGHT", help="one a model; they sum to 1")
    mix.add_argument("--arpa", required=True, help=_OUT)
    mix.set_defaults(call=_interpolate)
    prune = commands.add_parser("prune", help="entropy pruning (Stolcke 1998)")
    prune.add_argument("--arpa", required=True, help=_MODEL)
    prune.add_argument("--threshold", type=float, default=0.0, help="the least relative change of perplexity, as 1e-8")
    prune.add_argument("--most", type=int, default=0, metavar="N", help="n-grams of all orders that may be left")
    prune.add_argument("--out", required=True, help=_OUT)
    prune.set_defaults(call=_prune)


def _train(options: argparse.Namespace) -> None:
    from hybrid.lm import ngram
    from hybrid.lm.text import read_sentences, read_words

    vocabulary = None if options.vocabulary is None else read_words(options.vocabulary)
    model = ngram.train_arrays(
        read_sentences(options.text), options.order, vocabulary=vocabulary, unknown=options.unknown
    )
    _write(options.arpa, model)


def _perplexity(options: argparse.Namespace) -> None:
    from hybrid.lm.load import read_any
    from hybrid.lm.perplexity import perplexity
    from hybrid.lm.text import read_sentences

    result = perplexity(read_any(options.arpa), read_sentences(options.text))
    hits = ", ".join(f"{count} as {order}-grams" for order, count in enumerate(result.hits, 1))
    print(
        f"perplexity {result.perplexity:.3f} (logprob {result.logprob:.3f}, {result.sentences} sentences, "
        f"{result.words} words, {result.oovs} out of vocabulary, {result.zeros} of probability 0; found {hits})"
    )


def _interpolate(options: argparse.Namespace) -> None:
    from hybrid.errors import ConfigError
    from hybrid.lm.interpolate import check_weights, interpolate, tune_weights
    from hybrid.lm.load import read_any
    from hybrid.lm.text import read_sentences

    if len(options.models) < 2:
        raise ConfigError("one model, and nothing to mix it with", remedy="give two or more behind --models")
    if options.weights is not None:
        check_weights(options.weights, len(options.models))
    models = [_told(read_any(path)) for path in options.models]
    shares = options.weights
    if shares is None:
        tuned = tune_weights(models, read_sentences(options.text))
        shares = tuned.weights
        print(
            f"perplexity {tuned.perplexity:.3f} of the text ({tuned.words} words and sentence ends, {tuned.left_out} "
            "that no model has)", file=sys.stderr,
        )  # fmt: skip
    for path, share in zip(options.models, shares):
        print(f"{share:.4f} {path}", file=sys.stderr)
    _write(options.arpa, _told(interpolate(models, shares)))


def _prune(options: argparse.Namespace) -> None:
    from hybrid.errors import ConfigError
    from hybrid.lm.load import read_any
    from hybrid.lm.prune import prune

    if not options.threshold and not options.most:
        raise ConfigError("pruning without a measure", remedy="give --threshold 1e-8 or --most N, or both")
    model = _told(read_any(options.arpa))
    _write(options.out, _told(prune(model, threshold=options.threshold, most=options.most)))


def _told(model: Any) -> Any:
    """The model, whose notices go to standard error."""
    for notice in model.notices:
        print(notice, file=sys.stderr)
    return model


def _write(path: str, model: Any) -> None:
    from hybrid.destination import find_destination
    from hybrid.lm.load import write_any

    write_any(path, model)
    sizes = ", ".join(f"{size} {order}-grams" for order, size in enumerate(model.sizes, 1))
    # The model itself may go to standard output, or to a pipe that is read from there.
    print(f"{path}: {sizes}", file=sys.stderr if find_destination(Path(path)).special else sys.stdout)
