"""What is special to AN4: its own layout, and its download. The rest of the recipe is an4.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

from hybrid.corpus import Corpus, Reading
from hybrid.errors import DataError
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lm import arpa
from hybrid.lm.model import NgramModel
from hybrid.recipes.an4.download import download_an4
from hybrid.recipes.an4.prepare import GET_IT, find_an4, read_an4
from hybrid.run import Run

get_it = GET_IT


def _data(run: Run) -> Path:
    if run.data is None:
        raise DataError("AN4 needs its data folder", remedy=GET_IT)
    return run.data


def prepare(run: Run) -> None:
    if run.config["prepare.download"]:
        download_an4(_data(run), log=run.log)


def read(run: Run, name: str, reading: Reading) -> Corpus:
    with run.executor() as executor:
        return read_an4(_data(run), name, reading, executor=executor, progress=run.bar(f"reading {name}"))


def lexicon(run: Run) -> Lexicon:
    return Lexicon.from_file(find_an4(_data(run)) / "etc" / "an4.dic")


def lm(run: Run) -> NgramModel:
    """Return CMU's unigram, for comparison with Kaldi."""
    return arpa.read(find_an4(_data(run)) / "etc" / "an4.ug.lm")


def _corpus_files(run: Run) -> Iterable[Path]:
    # A download is compared with the archive's known contents: there is nothing else to be seen as changed.
    return [] if run.config["prepare.download"] else [find_an4(_data(run))]


inputs = {
    "prepare": _corpus_files,
    "lang": lambda run: [find_an4(_data(run)) / "etc" / "an4.dic"],
    "lm": lambda run: [find_an4(_data(run)) / "etc" / "an4.ug.lm"],
}
