"""Corpora: one way in for recipes and aligner alike.

    corpus = read_corpus("data/train")            # Kaldi folder, Lhotse manifest, audio with labels, lhotse:NAME[/part]
    cuts, notes = at_rate(corpus.cuts, common_rate(corpus.cuts))
    train, dev = hold_out(cuts, speakers=8)
"""

from hybrid.corpus.build import Corpus, build_corpus
from hybrid.corpus.listing import Listing, Skipped, Utterance
from hybrid.corpus.rates import at_rate, common_rate
from hybrid.corpus.read import read_corpus
from hybrid.corpus.reading import Reading
from hybrid.corpus.splits import choose_speakers, hold_out, withhold

__all__ = [
    "Corpus",
    "Listing",
    "Reading",
    "Skipped",
    "Utterance",
    "at_rate",
    "build_corpus",
    "choose_speakers",
    "common_rate",
    "hold_out",
    "read_corpus",
    "withhold",
]
