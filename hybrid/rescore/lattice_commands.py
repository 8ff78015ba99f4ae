"""What `hybrid rescore lattices` does: lattices with another language model in the place of the first pass's."""

from __future__ import annotations

import argparse
import math
from typing import Callable, Iterator, Tuple

from hybrid.decode.archive import lattices_of_words, write_lattices
from hybrid.decode.ngram_rescoring import NgramRescorer, Rescored
from hybrid.decode.word_lattice import WordLattice
from hybrid.errors import ConfigError, DataError
from hybrid.lexicon.tables import read_table
from hybrid.lm.load import read_any
from hybrid.rescore.commands import shown
from hybrid.rescore.scorers import NgramScorer, load_scorer


def rescore_lattices(options: argparse.Namespace) -> None:
    for name in ("acoustic_scale", "lattice_beam"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"--{name.replace('_', '-')} is {value}", remedy="a number above 0")
    rescorer = _rescorer(options)
    count = 0

    def rescored() -> Iterator[Tuple[str, WordLattice]]:
        nonlocal count
        lattices = lattices_of_words(options.archive, options.acoustic_scale, options.word_penalty)
        for identifier, words in shown(lattices, options.archive.name):
            try:
                found = rescorer(
                    words, acoustic_scale=options.acoustic_scale, word_penalty=options.word_penalty,
                    lm_scale=options.lm_scale, beam=options.lattice_beam,
                )  # fmt: skip
            except DataError as error:
                raise DataError(error.what, file=options.archive, utterance=identifier, remedy=error.remedy) from None
            count += 1
            yield identifier, found.scaled(options.lm_scale)

    write_lattices(options.out, rescored())
    print(f"{options.out}: {count} lattices of words")


def _rescorer(options: argparse.Namespace) -> Callable[..., Rescored]:
    """Return what puts the model of --scorer into a lattice. Raises ConfigError for one that has no histories."""
    scorer = load_scorer(options.scorer, options.device)
    words = read_table(options.words)
    first = read_any(options.first) if options.first else None
    if isinstance(scorer, NgramScorer):
        return NgramRescorer(first, scorer.model, words)
    from hybrid.decode.neural_rescoring import NeuralRescorer
    from hybrid.rescore.neural import NeuralScorer

    if not isinstance(scorer, NeuralScorer):
        remedy = "give ngram:FILE, or neural:DIR of an LSTM or a transformer from the left"
        raise ConfigError(f"{options.scorer} in lattices", remedy=remedy)
    return NeuralRescorer(
        scorer.model, scorer.tokens, words, first=first, history=options.history, device=str(scorer.device)
    )
