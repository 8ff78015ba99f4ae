"""The one way in: whatever form a corpus has, it comes out as a Corpus."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Callable, Optional

from hybrid.corpus.build import Corpus, Progress, build_corpus
from hybrid.corpus.kaldi import read_kaldi
from hybrid.corpus.listing import Listing
from hybrid.corpus.reading import Reading
from hybrid.errors import DataError
from hybrid.io import PathLike

LHOTSE = "lhotse:"


def read_corpus(
    source: PathLike,
    reading: Reading = Reading(),  # noqa: B008  frozen
    *,
    executor: Optional[Executor] = None,
    progress: Optional[Progress] = None,
    log: Optional[Callable[[str], None]] = None,
) -> Corpus:
    """Return what can be used of a corpus, and what cannot, with the reasons.

    source: a Kaldi data folder, a Lhotse manifest or a folder of them, a folder of audio files with transcripts beside
    them, or `lhotse:NAME[/part]`. The cuts of one corpus are the same in each form: sorted by id, with the same times,
    speakers and texts. log: is told what takes long; `notes` of the corpus are the caller's to show.

    Raises DataError where there is nothing of the kind, or a file that all depends on cannot be read. A corpus of which
    nothing can be used is returned: its `skipped` say why.
    """
    listing = _list(source, reading, executor, progress, log)
    corpus = build_corpus(listing, reading, executor=executor, progress=progress)
    if not corpus.total:
        raise DataError(
            "no utterance in the corpus",
            file=source,
            remedy="give a folder with audio files and a .lab, .txt or .TextGrid beside each",
        )
    return corpus


def _list(
    source: PathLike,
    reading: Reading,
    executor: Optional[Executor],
    progress: Optional[Progress],
    log: Optional[Callable[[str], None]],
) -> Listing:
    path = Path(source)
    if not path.exists():
        raise DataError("no such corpus", file=path, remedy="give a folder, a Kaldi data folder or a Lhotse manifest")
    return read_kaldi(path, reading)
