"""Pieces of words with the phones of a dictionary: what part of a word's pronunciation is a piece's.

Each pronunciation of the dictionary is cut into graphones, letters with their phones (lexicon/graphones.py), and they
are dealt out to the pieces that the word is written in; one over the border of two pieces goes to the first:

    WEATHER = ▁WE ATHER     W:W EA:EH TH:DH E: R:ER     ->     ▁WE  W EH     ATHER  DH ER

A piece then has every phone sequence that it was dealt, each with the share of running words that deal it, the
largest made 1 (as in Kaldi's lexiconp.txt). A word that is one piece keeps its pronunciations as they are, cut or
not. A piece that was dealt nothing in some word (a silent E) is left with what it has elsewhere: L has no entries
without phones.
"""

from __future__ import annotations

from collections import Counter
from typing import Counter as CounterType
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from hybrid.errors import ConfigError, DataError
from hybrid.lexicon.graphones import Aligner, Graphone
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.subword import MARK, Pieces, Pronounce, piece_lexicon

Phones = Tuple[str, ...]


def phone_pieces(
    pieces: Pieces,
    lexicon: Lexicon,
    pronounce: Pronounce,
    *,
    counts: Optional[Mapping[str, int]] = None,
    least: float = 0.1,
) -> Lexicon:
    """Make a lexicon of all pieces, in the phones of `lexicon`.

    `counts`: how often each word occurs in the training text; every word counts once more than that.
    `pronounce` (as of `piece_lexicon`) is asked for pieces that no word of the lexicon deals phones to; where it raises
    DataError, the piece sounds like its twin with the mark or without it, if that was dealt any.
    Pronunciations below the share `least` (0 to 1) of the commonest are left out. The lexicon's `notices` say how
    many words could not be cut, how often a piece was dealt nothing, and which pieces were asked for.
    Raises ConfigError for another `least`, DataError where no word is written in the pieces' letters.
    """
    if not 0.0 <= least <= 1.0:
        raise ConfigError(f"pronunciations above a share of {least:g}", remedy="give a share from 0 to 1; usual: 0.1")
    phone_counts: Dict[str, CounterType[Phones]] = {}
    num_silent, word_counts = 0, counts or {}
    pronunciations = [(word, item.phones) for word, item in lexicon if pieces.covers(word)]
    if not pronunciations:
        raise DataError(
            "no word of the lexicon is written in the letters of the pieces",
            remedy="check that lexicon and transcripts write words alike (capitals, accents)",
        )
    num_failed = 0
    for (word, word_phones), graphones in zip(pronunciations, _graphones(pronunciations), strict=True):
        word_pieces = pieces.encode(word)
        num_failed += len(word_pieces) > 1 and not graphones
        for piece, phones in [(word_pieces[0], word_phones)] if len(word_pieces) == 1 else deal(word_pieces, graphones):
            if phones:
                phone_counts.setdefault(piece, Counter())[phones] += 1 + word_counts.get(word, 0)
            elif graphones:
                num_silent += 1
    missing_pieces = [piece for piece in pieces.names if piece not in phone_counts]
    table: Dict[str, List[Pronunciation]] = {}
    for piece in missing_pieces:
        twin = piece[1:] if piece.startswith(MARK) else MARK + piece
        try:
            table[piece] = piece_lexicon([piece], pronounce).pronunciations(piece)
        except DataError as error:
            if twin not in phone_counts:
                raise DataError(
                    f"no pronunciation for the piece {piece}: {error.what}",
                    remedy="give the dictionary words in which it sounds, or spell pieces in letters",
                ) from error
            phone_counts[piece] = phone_counts[twin]
    for piece, shares in phone_counts.items():
        largest = max(shares.values())
        table[piece] = [
            Pronunciation(phones, count / largest)
            for phones, count in sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))
            if count >= least * largest
        ]
    notices = [
        f"{what}: {count}"
        for what, count in (
            ("pronunciations that could not be cut into graphones", num_failed),
            ("pronunciations in which a piece was dealt no phone", num_silent),
            ("pieces of no word of the lexicon, pronounced by their letters", len(missing_pieces)),
        )
        if count
    ]
    return Lexicon({piece: table[piece] for piece in sorted(table)}, notices)


def deal(pieces: Sequence[str], graphones: Sequence[Graphone]) -> Iterator[Tuple[str, Phones]]:
    """Yield (piece, its phones) of one word; the letters of the graphones are those of the pieces."""
    owner = [number for number, piece in enumerate(pieces) for _ in piece[piece.startswith(MARK) :]]
    phones: List[List[str]] = [[] for _ in pieces]
    position = 0
    for graphone in graphones:
        phones[owner[position]] += graphone.phones
        position += len(graphone.letters)
    for piece, piece_phones in zip(pieces, phones, strict=True):
        yield piece, tuple(piece_phones)


def _graphones(pairs: Sequence[Tuple[str, Phones]]) -> List[Tuple[Graphone, ...]]:
    """Of each pair; none where it cannot be cut."""
    segmentations: List[Tuple[Graphone, ...]] = [() for _ in pairs]
    try:
        aligner = Aligner(pairs)
    except DataError:
        return segmentations
    aligner.train()
    for index, path in zip(aligner.accepted, aligner.best(), strict=True):
        segmentations[index] = path
    return segmentations
