"""WordPiece, BERT's way of writing words in pieces (Devlin et al. 2019; Wu et al. 2016, section 4.1; the uncased form).

A word is first made plain: control characters go, letters become small, accents are taken off (NFD without its marks),
and each punctuation mark and each CJK ideograph stands for itself. Each part is then written from the left in the
longest pieces that the vocabulary has; all but a part's first piece begin with ##:

    Cafe's   ->   cafe ' s   ->   caf ##e ' s

A part that cannot be written so, or is above 100 characters, is unknown as a whole.

A vocabulary of 30,522 pieces holds many that a user's text never needs. `Vocabulary.needed_by` returns those that it
needs, and the single characters of the text and of ASCII, each as a beginning and behind ##. With these the text is
written in the same pieces as with all: at each place the longest of all pieces is among them, and nothing longer is.
"""

from __future__ import annotations

import string
import unicodedata
from typing import Dict, Iterable, List, Optional, Sequence, Set

from hybrid.errors import DataError, ModelError
from hybrid.io import PathLike, read_lines

INSIDE = "##"
_LONGEST_PART = 100  # characters
_CONTROL = ("Cc", "Cf", "Co", "Cs")  # but not what Unicode has not assigned
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def parts(word: str) -> List[str]:
    """Return the parts of a word as the uncased BERT's basic tokeniser makes them; none where nothing of it is left."""
    found: List[str] = []
    open_part = False
    for character in _plain(word):
        if character.isspace():
            open_part = False
        elif _stands_alone(character):
            found.append(character)
            open_part = False
        elif open_part:
            found[-1] += character
        else:
            found.append(character)
            open_part = True
    return found


def _plain(word: str) -> str:
    characters = [" " if character in "\t\n\r" else character for character in word]
    kept = "".join(c for c in characters if c != "\ufffd" and unicodedata.category(c) not in _CONTROL)
    marked = unicodedata.normalize("NFD", kept)
    return "".join(character for character in marked if unicodedata.category(character) != "Mn").lower()


def _stands_alone(character: str) -> bool:
    code = ord(character)
    return (
        character in string.punctuation
        or unicodedata.category(character)[0] == "P"
        or any(first <= code <= last for first, last in _IDEOGRAPHS)
    )


class WordPieces:
    """names: the pieces, without special tokens. Raises ModelError where one stands twice or is no text."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._set = frozenset(self.names)
        if len(self._set) != len(self.names):
            raise ModelError("a piece of words stands twice", remedy="train the model again")
        self._longest = max((len(name.removeprefix(INSIDE)) for name in self.names), default=0)

    def covers(self, word: str) -> bool:
        """Return whether something of the word is left when it is made plain."""
        return bool(parts(word))

    def encode(self, word: str) -> List[Optional[str]]:
        """Return the pieces of a word, None for each of its parts that has none."""
        pieces: List[Optional[str]] = []
        for part in parts(word):
            pieces += self._split(part) or [None]
        return pieces

    def _split(self, part: str) -> List[str]:
        """Return the pieces of a part, the longest first match at each place; none where there is no piece."""
        pieces: List[str] = []
        begin = 0
        while begin < len(part) <= _LONGEST_PART:
            mark = INSIDE if begin else ""
            for end in range(min(len(part), begin + self._longest), begin, -1):
                if mark + part[begin:end] in self._set:
                    pieces.append(mark + part[begin:end])
                    begin = end
                    break
            else:
                return []
        return pieces


class Vocabulary:
    """All pieces of a trained model, and their numbers: the file vocab.txt, a piece a line, numbered from 0.

    Raises DataError for a file that cannot be read, ModelError for one without BERT's special tokens.
    """

    SPECIALS = ("[CLS]", "[SEP]", "[UNK]", "[MASK]")  # they stand for <s> </s> <unk> <mask>, in this order

    def __init__(self, path: PathLike) -> None:
        lines = list(read_lines(path))
        self.numbers: Dict[str, int] = {name: number for number, name in enumerate(lines)}
        missing = [name for name in self.SPECIALS if name not in self.numbers]
        if missing or len(self.numbers) != len(lines):
            what = f"no {missing[0]}" if missing else "a piece stands twice"
            raise ModelError(f"not the vocabulary of a BERT: {what}", file=path, remedy="give its vocab.txt")
        # [unused0] and the like: no word is written so, for [ stands alone.
        self.pieces = WordPieces([name for name in lines if not (name.startswith("[") and name.endswith("]"))])

    def __len__(self) -> int:
        return len(self.numbers)

    def needed_by(self, sentences: Iterable[Sequence[str]]) -> WordPieces:
        """Return the pieces that the text needs and those of single characters, in the vocabulary's order.

        Raises DataError where the text has no word.
        """
        words = {word for sentence in sentences for word in sentence}
        if not words:
            raise DataError("no word in the text", remedy="give a text with one sentence a line")
        needed: Set[Optional[str]] = {piece for word in words for piece in self.pieces.encode(word)}
        characters = {character for word in words for part in parts(word) for character in part}
        for character in characters.union(*map(parts, string.printable)):
            needed |= {character, INSIDE + character}
        return WordPieces([name for name in self.pieces.names if name in needed])
