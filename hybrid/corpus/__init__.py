"""Corpora: one way in for recipes and aligner alike.

    corpus = read_corpus("data/train")            # Kaldi folder, Lhotse manifest, audio with labels, lhotse:NAME[/part]
    cuts, notes = at_rate(corpus.cuts, common_rate(corpus.cuts))
    train, dev = hold_out(cuts, speakers=8)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.corpus.build import Corpus as Corpus
    from hybrid.corpus.build import build_corpus as build_corpus
    from hybrid.corpus.listing import Listing as Listing
    from hybrid.corpus.listing import Skipped as Skipped
    from hybrid.corpus.listing import Utterance as Utterance
    from hybrid.corpus.rates import at_rate as at_rate
    from hybrid.corpus.rates import common_rate as common_rate
    from hybrid.corpus.read import read_corpus as read_corpus
    from hybrid.corpus.reading import Reading as Reading
    from hybrid.corpus.splits import choose_speakers as choose_speakers
    from hybrid.corpus.splits import hold_out as hold_out
    from hybrid.corpus.splits import withhold as withhold

# name -> its module, which is imported when it is used: most need Lhotse, which takes seconds
_PLACES = {
    "Corpus": "hybrid.corpus.build",
    "build_corpus": "hybrid.corpus.build",
    "Listing": "hybrid.corpus.listing",
    "Skipped": "hybrid.corpus.listing",
    "Utterance": "hybrid.corpus.listing",
    "at_rate": "hybrid.corpus.rates",
    "common_rate": "hybrid.corpus.rates",
    "read_corpus": "hybrid.corpus.read",
    "Reading": "hybrid.corpus.reading",
    "choose_speakers": "hybrid.corpus.splits",
    "hold_out": "hybrid.corpus.splits",
    "withhold": "hybrid.corpus.splits",
}
__all__ = tuple(_PLACES)

if not TYPE_CHECKING:  # a name that is not there is an error for type checkers

    def __getattr__(name: str) -> Any:
        if name in _PLACES:
            return getattr(import_module(_PLACES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
