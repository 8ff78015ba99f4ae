"""The lines of a lexicon as L has them: phones with marks of their place in the word, pieces once for each place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from hybrid.lexicon.checks import POSITIONS
from hybrid.lexicon.fst import Entry
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lexicon.subword import MARK, Pieces


@dataclass(frozen=True)
class Marks:
    """How phones are marked: not at all, or by _B, _I, _E and _S, but for those of silence.

    pieces: where the words are pieces of words, but for the word `oov`.
    """

    position_dependent: bool
    silence_phones: Sequence[str]
    pieces: Optional[Pieces] = None
    oov: Optional[str] = None

    @property
    def positions(self) -> Tuple[str, ...]:
        return POSITIONS if self.position_dependent else ("",)

    def mark(self, phones: Sequence[str], begins: bool = True, ends: bool = True) -> Tuple[str, ...]:
        """Return the phones of one word with their marks: ("AE", "N", "D") -> ("AE_B", "N_I", "D_E").

        `begins`, `ends`: whether these are its first and its last; not so for the phones of a piece.
        """
        if not self.position_dependent:
            return tuple(phones)
        marks = ["_I"] * len(phones)
        if begins:
            marks[0] = "_B"
        if ends:
            marks[-1] = "_S" if begins and len(phones) == 1 else "_E"
        return tuple(
            phone if phone in self.silence_phones else phone + mark
            for phone, mark in zip(phones, marks, strict=True)
        )

    def places(self, word: str) -> List[Tuple[bool, bool]]:
        """Return (begins a word, ends it) of each entry that the word, or piece, has in L."""
        if self.pieces is None or word == self.oov:
            return [(True, True)]
        return [(word.startswith(MARK), False), (word.startswith(MARK), True)]

    def entries(self, lexicon: Lexicon) -> List[Entry]:
        """Return the lines of L, by word."""
        return [
            Entry(word, self.mark(item.phones, begins, ends), item.prob, begins, ends)
            for word, item in sorted(lexicon, key=lambda pair: pair[0])
            for begins, ends in self.places(word)
        ]
