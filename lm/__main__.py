"""`python -m hybrid.lm train --order 3 --text FILE --arpa OUT`, `python -m hybrid.lm ppl --arpa FILE --text FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from hybrid.errors import DataError, HybridError
from hybrid.lm import arpa, ngram


def read_sentences(path: str) -> List[str]:
    """One sentence a line, UTF-8. Raises DataError naming file and line."""
    try:
        raw = Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise DataError("no such text", file=path, remedy="give a file with one sentence a line") from None
    lines = []
    for number, line in enumerate(raw.split(b"\n"), 1):
        try:
            lines.append(line.decode("utf-8").strip())
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number}: not UTF-8 ({error.reason})",
                file=path,
                remedy="convert it: iconv -f ISO-8859-1 -t UTF-8 FILE > NEW",
            ) from None
    return lines


def _train(args: argparse.Namespace) -> None:
    vocabulary = None if args.vocabulary is None else " ".join(read_sentences(args.vocabulary)).split()
    model = ngram.train(read_sentences(args.text), args.order, vocabulary=vocabulary, unknown=args.unknown)
    arpa.write(args.arpa, model)
    print(f"{args.arpa}: " + ", ".join(f"{len(table)} {n}-grams" for n, table in enumerate(model.probs, 1)))


def _ppl(args: argparse.Namespace) -> None:
    result = arpa.read(args.arpa).perplexity(read_sentences(args.text))
    print(
        f"perplexity {result.perplexity:.3f} (logprob {result.logprob:.3f}, {result.sentences} sentences, "
        f"{result.words} words, {result.oovs} out of vocabulary, {result.zeros} of probability 0)"
    )


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lm", description="n-gram language models")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="interpolated modified Kneser-Ney, written as an ARPA file")
    command.add_argument("--order", type=int, default=3, help="3: words are predicted from the two before")
    command.add_argument("--text", required=True, help="one sentence a line")
    command.add_argument("--arpa", required=True, help="the file to write; .gz compresses")
    command.add_argument("--vocabulary", help="a file of words; default: the words of the text")
    command.add_argument("--unknown", help="the word that stands for those outside the vocabulary, as <unk>")
    command.set_defaults(run=_train)
    command = commands.add_parser("ppl", help="perplexity of a text")
    command.add_argument("--arpa", required=True)
    command.add_argument("--text", required=True, help="one sentence a line")
    command.set_defaults(run=_ppl)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except HybridError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
