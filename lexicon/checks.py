"""What a Lang cannot be made of: names of phones that clash, pieces without pronunciation; and what is odd about it."""

from __future__ import annotations

from typing import List, Optional, Sequence

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike
from hybrid.lexicon.lexicon import Lexicon, is_reserved
from hybrid.lexicon.subword import Pieces
from hybrid.lexicon.transcript import is_note

POSITIONS = ("_B", "_E", "_I", "_S")  # first, last, inner phone of a word, and the only one
_PLAIN = "strip _B, _E, _I and _S from the lexicon, or set position_dependent to false"


def check_silences(silences: Sequence[str], position_dependent: bool) -> None:
    """Raises ConfigError for silence phones that are no names, or named like symbols of graphs or position marks."""
    for silence in silences:
        what = (
            "which is not one name" if not silence or len(silence.split()) != 1
            else "a symbol of the graphs" if is_reserved(silence)
            else "which ends like a position mark" if position_dependent and silence.endswith(POSITIONS)
            else None
        )  # fmt: skip
        if what is not None:
            raise ConfigError(
                f"the phone of silence or noise is named {silence!r}, {what}",
                remedy="give it a name of its own, as SIL or SPN (lang.silence)",
            )


def check_phones(lexicon: Lexicon, silences: Sequence[str], position_dependent: bool) -> None:
    """Raises DataError for phones that end like position marks, and for a lexicon of silences alone."""
    for phone in lexicon.phones if position_dependent else ():
        if phone.endswith(POSITIONS):
            raise DataError(f"the phone {phone} ends like a position mark", remedy=_PLAIN)
    if all(phone in silences for phone in lexicon.phones):
        raise DataError("the lexicon has no phone but silences", remedy="give the phones of its words")


def silences_in_words(lexicon: Lexicon, silences: Sequence[str], oov: Optional[str]) -> List[str]:
    """Returns a notice of each silence phone that words are made of, but for words that are pauses and noises."""
    notices = []
    for silence in silences:
        words = dict.fromkeys(word for word, item in lexicon if silence in item.phones)
        spoken_words = [word for word in words if word != oov and not is_note(word) and not word.startswith("!")]
        if spoken_words:
            notices.append(
                f"{silence} is the phone of silence or noise, and also in {len(spoken_words)} words, as "
                f"{', '.join(spoken_words[:3])}: what is learnt of it is of both"
            )
    return notices


def check_pieces(pieces: Pieces, lexicon: Lexicon, file: Optional[PathLike] = None) -> None:
    """Raises ModelError where the lexicon lacks a piece that transcripts can be written in."""
    missing = [piece for piece in pieces.names if piece not in lexicon]
    if missing:
        raise ModelError(
            f"{len(missing)} pieces have no pronunciation, as {missing[0]}",
            file=file,
            remedy="make the lexicon of the pieces of this model",
        )
