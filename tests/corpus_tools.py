"""Corpora for tests: audio of a tone, a Listing of single files."""

from __future__ import annotations

from pathlib import Path
from typing import List

from lhotse import MonoCut

from hybrid.corpus import Listing, Reading, Utterance, build_corpus
from hybrid.errors import DataError


def listing_of(*files: Path) -> Listing:
    """Each file is an utterance of the speaker s, named as the file."""
    listing = Listing("test", keep_order=True)
    for file in files:
        listing.recordings[file.stem] = file
        listing.utterances.append(Utterance(file.stem, file.stem, "GO", "s"))
    return listing


def cuts_of(*files: Path, decode: bool = True) -> List[MonoCut]:
    """The same as cuts. Raises DataError for the first that cannot be used."""
    corpus = build_corpus(listing_of(*files), Reading(decode=decode))
    for row in corpus.skipped:
        raise DataError(row.reason, file=row.file, utterance=row.utterance, remedy=row.remedy)
    return corpus.cuts
