"""A Lang of which only the tables are read at first: words are spelled and graphs checked by them, and pronunciations,
of which a large lexicon has seconds' worth, are read when something asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hybrid.errors import ModelError
from hybrid.io import PathLike, read_json
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.tables import AGAIN, read_table


class DeferredLang(Lang):
    """As `Lang.load` returns it, and raises, the latter when pronunciations are first asked for.

    Raises DataError or ModelError for a missing or broken table.
    """

    def __init__(self, folder: PathLike) -> None:
        self._folder = Path(folder)
        config = read_json(self._folder / "config.json")
        if not isinstance(config, dict):
            raise ModelError("not the settings of a lexicon", file=self._folder / "config.json", remedy=AGAIN)
        self.words = read_table(self._folder / "words.txt")
        self.phones = read_table(self._folder / "phones.txt")
        self.oov = config.get("oov")
        if "pieces" not in config:
            self.pieces = None
        self.disambig_phones = [
            number for name, number in self.phones.items() if name.startswith("#") and name[1:].isdigit()
        ]
        if "#0" not in self.words or not self.disambig_phones:
            raise ModelError("a table without #0", file=self._folder / "words.txt", remedy=AGAIN)
        self.word_disambig = self.words["#0"]

    def __getattr__(self, name: str) -> Any:  # of what is not there yet
        if "lexicon" in self.__dict__ or name.startswith("__") or "_folder" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.__dict__.update(vars(Lang.load(self._folder)))
        return getattr(self, name)
