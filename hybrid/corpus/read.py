"""The one way in: whatever form a corpus has, it comes out as a Corpus."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from pathlib import Path
from typing import Callable, Optional

from hybrid.corpus import recipes
from hybrid.corpus.build import Corpus, Progress, build_corpus
from hybrid.corpus.folder import list_folder
from hybrid.corpus.kaldi import list_kaldi
from hybrid.corpus.listing import Listing
from hybrid.corpus.manifests import holds_manifests, list_manifests
from hybrid.corpus.reading import Reading
from hybrid.corpus.shar import list_shar, shards
from hybrid.data.sources import LHOTSE
from hybrid.errors import DataError
from hybrid.io import PathLike


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
    corpus = build_corpus(_list(source, reading, log), reading, executor=executor, progress=progress)
    if not corpus.total:
        raise DataError(
            "no utterance in the corpus",
            file=source,
            remedy="give a folder with audio files and a .lab, .txt or .TextGrid beside each",
        )
    return corpus


def _list(source: PathLike, reading: Reading, log: Optional[Callable[[str], None]]) -> Listing:
    if str(source).startswith(LHOTSE):
        return recipes.list_recipe(str(source), reading, log)
    path = Path(source)
    if not os.path.exists(path):
        raise DataError(
            "no such corpus",
            file=path,
            remedy="give a folder of audio, a Kaldi data folder, a Lhotse manifest, or lhotse:NAME",
        )
    if path.is_file():
        return list_manifests(path, reading)
    try:
        os.listdir(path)
    except OSError as error:
        what = f"the corpus cannot be read: {error.strerror}"
        raise DataError(what, file=path, remedy="give a folder, or check its permissions") from error
    if (path / "wav.scp").is_file():
        return list_kaldi(path, reading)
    if shards(path):
        return list_shar(path, reading, log)
    return list_manifests(path, reading) if holds_manifests(path) else list_folder(path, reading)
