"""Words that a lexicon gets after the model is trained: their pronunciations, and the Lang that holds them too."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, Union

from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, read_lines
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.missing import train_g2p
from hybrid.lexicon.silence import WordSilence

# a word, whose pronunciation is the lexicon's or G2P's; or with one, or several: phones parted by blanks
NewWord = Union[str, Tuple[str, Union[str, Sequence[str]]]]


class Speller:
    """Pronounces words as a lexicon's are spelled. model: a G2P model or its folder; without one it is learnt from the
    lexicon, when it is first asked (seconds for a thousand words, minutes for a hundred thousand)."""

    def __init__(self, lang: Lang, model: Union[G2P, PathLike, None] = None) -> None:
        self._lang = lang
        self._model: Optional[G2P] = model if isinstance(model, G2P) else None if model is None else G2P.load(model)
        if self._model is not None:
            _check_phones(self._model.phones, lang, "the G2P model")

    def pronounce(self, word: str) -> List[Pronunciation]:
        """Return the best pronunciation. Raises DataError for letters that no word of the lexicon has."""
        if self._model is None:
            self._model = train_g2p(self._lang.lexicon)
        try:
            return self._model.pronounce(word)
        except DataError as error:
            raise DataError(error.what, remedy=f'give its phones: ("{word}", "P1 P2 ...")') from error


def read_words(path: PathLike) -> List[NewWord]:
    """Read a file with a new word a line, alone or with its phones behind it, as in a lexicon: `covfefe K AA V F EY`.

    Raises DataError for a file without any.
    """
    rows = [line.split() for line in read_lines(path, "give a file with one word a line", what="words")]
    words: List[NewWord] = [row[0] if len(row) == 1 else (row[0], row[1:]) for row in rows if row]
    if not words:
        raise DataError("no word", file=path, remedy="give one word a line")
    return words


def pronounced(lang: Lang, words: Iterable[NewWord], speller: Speller) -> Dict[str, List[Pronunciation]]:
    """Return the pronunciations of new words, in their order: those given, else the lexicon's, else G2P's.

    Raises DataError for a word that is none, is given twice with different pronunciations, has phones that the model
    does not know or letters that G2P does not know; ConfigError where words are spelled in pieces.
    """
    if lang.pieces is not None:
        raise ConfigError(
            "words are spelled in pieces here: any word can be recognised without being added",
            remedy="give it as a phrase, where it is recognised too seldom",
        )
    if isinstance(words, str):
        raise ConfigError(f"the string {words!r} where a list of words should be", remedy=f"give [{words!r}]")
    found: Dict[str, List[Pronunciation]] = {}
    for item in words:
        word, given = _read(item)
        if given:
            _check_phones([phone for phones in given for phone in phones], lang, word)
            pronunciations = [Pronunciation(phones) for phones in given]
        else:
            Lexicon.from_dict({word: ["x"]})  # a name that is none is said before it is pronounced
            known = word in lang.lexicon
            pronunciations = lang.lexicon.pronunciations(word) if known else speller.pronounce(word)
        pronunciations = Lexicon({word: pronunciations}).pronunciations(word)
        if found.setdefault(word, pronunciations) != pronunciations:
            raise DataError(f"{word} twice, with different pronunciations", remedy="give them as one list")
    return found


def _read(item: NewWord) -> Tuple[str, List[Tuple[str, ...]]]:
    """The word, and the phones of each pronunciation given."""
    if isinstance(item, str):
        return item, []
    try:
        word, phones = item
        rows = [phones] if isinstance(phones, str) else list(phones)
        if isinstance(word, str) and rows and all(isinstance(row, str) and row.split() for row in rows):
            return word, [tuple(row.split()) for row in rows]
    except (TypeError, ValueError):
        pass
    raise DataError(
        f"{item!r} is no word to add", remedy='give "word", ("word", "P1 P2 ...") or ("word", ["P1 P2", "P1 P3"])'
    )


def _check_phones(phones: Iterable[str], lang: Lang, owner: str) -> None:
    known = {*lang.nonsilence_base, *lang.silence_phones}
    for phone in phones:
        if phone not in known:
            raise DataError(
                f"{owner} has the phone {phone}, which the model does not know",
                remedy=f"use its phones: {' '.join(sorted(known))}",
            )


def extended(lang: Lang, entries: Dict[str, List[Pronunciation]]) -> Lang:
    """Return a Lang with more words, or more pronunciations of words that it has. Phones keep their ids, words do not:
    they are sorted."""
    rows: Dict[str, List[Pronunciation]] = {word: lang.lexicon.pronunciations(word) for word in lang.lexicon.words}
    for word, pronunciations in entries.items():
        old = rows.get(word, [])
        spoken = {item.phones for item in old}
        rows[word] = old + [item for item in pronunciations if item.phones not in spoken]
    silences = lang.silence_probs
    if silences is not None:  # of a new pronunciation nothing is known
        unknown = WordSilence(silences.overall)
        table = {word: [*known, *[unknown] * (len(rows[word]) - len(known))] for word, known in silences.words.items()}
        silences = replace(silences, words=table)
    return Lang(
        Lexicon(rows),
        silence_phones=lang.silence_phones,
        oov=lang.oov,
        position_dependent=lang.position_dependent,
        silence_prob=lang.silence_prob,
        silence_probs=silences,
    )
