"""From what a transcript says to words of the lexicon, changing as little as can be.

A token that the lexicon has is taken as it stands. Else, in this order, the first form that the lexicon has: in the
lexicon's case (where all of its words are of one case) with straight apostrophes; without the punctuation around it;
and parted at its hyphens. What is punctuation alone is left out. Numbers are not spelled out.
"""

from __future__ import annotations

import unicodedata
from typing import Callable, Container, List

from hybrid.lexicon.lexicon import FILLERS, Lexicon

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})  # noqa: RUF001


class Normaliser:
    """normalise("Hello, World!") -> ["HELLO", "WORLD"] with a lexicon in capitals."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.words: Container[str] = lexicon
        self.fold: Callable[[str], str] = case_of(lexicon.words)

    def __call__(self, text: str) -> List[str]:
        words: List[str] = []
        for token in text.split():
            words += self._token(unicodedata.normalize("NFC", token))
        return words

    def _token(self, token: str) -> List[str]:
        if token in FILLERS:
            return []
        if token in self.words:
            return [token]
        straight = token.translate(_APOSTROPHES)
        bare = _strip(straight)
        if not bare:
            return []
        # 'tis and dogs': an apostrophe may belong to the word.
        for form in (straight, straight.strip("".join(_marks(straight) - {"'"})), bare):
            for one in (form, self.fold(form)):
                if one in self.words:
                    return [one]
        parts = [self.fold(_strip(part)) for part in bare.replace("–", "-").split("-")]  # noqa: RUF001
        if len(parts) > 1 and all(part in self.words for part in parts):
            return parts
        return [self.fold(bare)]


def case_of(words: List[str]) -> Callable[[str], str]:
    """What folds a word to the case of all of `words`: upper, lower, or nothing where they are of both."""
    words = [word for word in words if word not in FILLERS and not (word.startswith("<") and word.endswith(">"))]
    if all(word == word.upper() for word in words):
        return str.upper
    if all(word == word.lower() for word in words):
        return str.lower
    return str


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PSZC"


def _marks(token: str) -> set:
    return {character for character in token if _is_mark(character)}


def _strip(token: str) -> str:
    """Without punctuation and symbols at both ends."""
    begin, end = 0, len(token)
    while begin < end and _is_mark(token[begin]):
        begin += 1
    while end > begin and _is_mark(token[end - 1]):
        end -= 1
    return token[begin:end]
