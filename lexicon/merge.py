"""Several lexicons as one: that of a corpus, and a dictionary of the language behind it.

Of a word that several have, the pronunciations of the first of them count; words are the same where they differ in the
form of their characters alone (lexicon/transcript.py), and what the later ones add is written in the case of the first.

Phones must be of one set. ARPAbet's vowels are written with stress (AH0 AH1 AH2) or without (AH): dictionaries of both
kinds go together once stress is left out. Nothing tells how a dictionary without stress would place it, and leaving it
out of the other costs an acoustic model some of its detail, but no word.
"""

from __future__ import annotations

import re
from typing import Dict, List, Sequence

from hybrid.errors import DataError
from hybrid.io import PathLike
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.transcript import case_of, fold

_STRESSED = re.compile(r"([A-Za-z]{2})[0-2]")
_NAMED = 5


def bare_phone(phone: str) -> str:
    """Return an ARPAbet vowel without its stress, and any other phone as it is."""
    match = _STRESSED.fullmatch(phone)
    return match[1] if match else phone


def without_stress(lexicon: Lexicon) -> Lexicon:
    """Return the lexicon with ARPAbet's vowels without their stress; pronunciations that differed in it alone are one,
    with the larger probability."""
    entries: Dict[str, List[Pronunciation]] = {}
    for word, item in lexicon:
        _add(entries, word, Pronunciation(tuple(map(bare_phone, item.phones)), item.prob))
    return Lexicon(entries, lexicon.notices)


def merge(lexicons: Sequence[Lexicon]) -> Lexicon:
    """Return the words of all lexicons, each as the first that has it pronounces it."""
    first = lexicons[0]
    if len(lexicons) == 1:
        return first
    entries = {word: first.pronunciations(word) for word in first.words}
    case = case_of(first.words)
    taken = {fold(word) for word in first.words}
    for lexicon in lexicons[1:]:
        added: Dict[str, List[Pronunciation]] = {}
        for word, item in lexicon:
            if fold(word) not in taken:
                _add(added, case(word), item)
        entries.update(added)
        taken |= {fold(word) for word in added}
    return Lexicon(entries, [notice for lexicon in lexicons for notice in lexicon.notices])


def check_phones(first: Lexicon, other: Lexicon, file: PathLike, remedy: str) -> None:
    """Raise DataError where one of two lexicons has stress on its vowels and the other the same vowels without, with
    `remedy`, and where they have no phone in common. Phones that only one has are right: a small lexicon has not all of
    its language, and those that no training word has are told by unheard.py."""
    known, phones = set(first.phones), set(other.phones)
    stressed = [{phone for phone in each if bare_phone(phone) != phone} for each in (known, phones)]
    with_stress, without = (stressed[0], phones) if stressed[0] else (stressed[1], known)
    both = sorted(phone for phone in with_stress if bare_phone(phone) in without)
    if both and not all(stressed):
        which = "the first lexicon" if stressed[0] else "this lexicon"
        raise DataError(
            f"{which} has stress on its vowels ({both[0]}), and the other has them without ({bare_phone(both[0])})",
            file=file, remedy=remedy,
        )  # fmt: skip
    if not known & phones:
        raise DataError(
            f"no phone of the first lexicon ({' '.join(sorted(known)[:_NAMED])} ...) is in this one "
            f"({' '.join(sorted(phones)[:_NAMED])} ...)",
            file=file, remedy="give lexicons of one phone set",
        )  # fmt: skip


def _add(entries: Dict[str, List[Pronunciation]], word: str, item: Pronunciation) -> None:
    pronunciations = entries.setdefault(word, [])
    for place, other in enumerate(pronunciations):
        if other.phones == item.phones:
            pronunciations[place] = max(other, item, key=lambda each: each.prob)
            return
    pronunciations.append(item)
