"""From what a transcript says to words of the lexicon, changing as little as can be.

A token that the lexicon has, byte for byte, is that word. Else, in this order:

1. the lexicon's word that differs in nothing but the form of its characters (both sides folded: Unicode's NFC, curly
   and straight apostrophes, dashes, case), in the lexicon's spelling
2. a note is no word: what is in brackets of any kind ([laughter], <noise>, (pause), {BR}, ++BREATH++, [door slams]) and
   dashes (--). It is left out, or taken as the unknown word, and counted
3. WORD(2), as aligned transcripts name pronunciations, is WORD
4. the same as 1 without the punctuation around it, and then parted at its hyphens

What is punctuation alone is left out. Numbers are not spelled out. What is not found is given in the lexicon's case,
without the punctuation around it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Callable, Dict, Iterable, List, Match, Optional, Sequence, Tuple
from typing import Counter as CounterType

from hybrid.lexicon.lexicon import FILLERS, Lexicon
from hybrid.lexicon.reader import VARIANT

_APOSTROPHES = "’‘ʼʻ´`′＇"  # noqa: RUF001
_DASHES = "‐‑‒–—―−﹣－"  # noqa: RUF001
_INVISIBLE = "\u00ad\u200b\u2060\ufeff"  # soft hyphen, zero-width blank, word joiner, byte-order mark
_STRAIGHT = str.maketrans(
    {**dict.fromkeys(_APOSTROPHES, "'"), **dict.fromkeys(_DASHES, "-"), **dict.fromkeys(_INVISIBLE)}
)
_NOTE = re.compile(r"[<\[({].*[>\])}]|\+\+.+\+\+|--+")
_SPAN = re.compile(r"\[[^\[\]]*\]|\{[^{}]*\}|<[^<>\s][^<>]*>")  # of one token or more
_SENTENCE_MARKS = ".,;:!?…\"“”"  # noqa: RUF001
_PLACE = "\0"  # stands for a note within a text


def is_note(token: str) -> bool:
    """Return whether a token, which the lexicon does not have, notes something that is no word.

    Such are [laughter], <noise> and --.
    """
    return _NOTE.fullmatch(token) is not None


def fold(word: str) -> str:
    """Returns what all forms of a word have in common: Don’t and DON'T, é of one character and of two."""
    if not word.isascii():
        word = unicodedata.normalize("NFC", word)
    word = word.translate(_STRAIGHT).casefold()
    return word if word.isascii() else unicodedata.normalize("NFC", word)


class Normaliser:
    """normalise("Hello, World!") -> ["HELLO", "WORLD"] with a lexicon in capitals.

    lexicon   None: there is none; words stay in their case, without the punctuation around them, notes are left out
    unknown   the word that a note in brackets is taken for; None: it is left out
    notes     how often each note was met
    """

    def __init__(self, lexicon: Optional[Lexicon], unknown: Optional[str] = None) -> None:
        self.lexicon = lexicon
        self.unknown = unknown
        self.notes: CounterType[str] = Counter()
        self._case: Callable[[str], str] = str if lexicon is None else case_of(lexicon.words)
        self._folded: Optional[Dict[str, List[str]]] = None
        self._token_words: Dict[str, Tuple[List[str], Optional[str]]] = {}  # token -> its words, or the note that it is

    def __call__(self, text: str) -> List[str]:
        places: List[str] = []
        if "[" in text or "<" in text or "{" in text:
            text = self._without_spans(text, places)
        words: List[str] = []
        for token in text.split():
            if token == _PLACE:
                words += self._note(places.pop(0))
                continue
            if token not in self._token_words:
                self._token_words[token] = self._token(token)
            token_words, note = self._token_words[token]
            words += token_words if note is None else self._note(note)
        return words

    def find(self, token: str) -> Optional[str]:
        """Return the lexicon's word that `token` is, or differs from in the form of its characters alone; else None.

        Where several do, that with the token's apostrophes and dashes, then its case, the lower case, the first.
        """
        if self.lexicon is None:
            return None
        if token in self.lexicon:
            return token
        if self._folded is None:  # needed by few corpora; costs a second for a million words
            self._folded = {}
            for word in self.lexicon.words:
                self._folded.setdefault(fold(word), []).append(word)
        words = self._folded.get(fold(token), ())
        return words[0] if len(words) == 1 else _nearest(token, words)

    def _note(self, note: str) -> List[str]:
        self.notes[note] += 1
        return [self.unknown] if self.unknown is not None and not note.startswith("--") else []

    def _without_spans(self, text: str, places: List[str]) -> str:
        """The text with notes in brackets, which may hold blanks, taken out; into `places`, in order."""

        def replace(match: Match[str]) -> str:
            begin, end = match.span()
            while begin > 0 and not text[begin - 1].isspace():
                begin -= 1
            while end < len(text) and not text[end].isspace():
                end += 1
            tokens = text[begin:end].split()
            if any(token in FILLERS or self._whole(token) is not None for token in (tokens[0], tokens[-1])):
                return match[0]
            places.append(" ".join(match[0].split()))
            return f" {_PLACE} "

        return _SPAN.sub(replace, text.replace(_PLACE, " "))

    def _whole(self, token: str) -> Optional[str]:
        """The lexicon's word with whatever brackets the token has, and without the marks of the sentence around it."""
        return self.find(token) or self.find(token.strip(_SENTENCE_MARKS))

    def _token(self, token: str) -> Tuple[List[str], Optional[str]]:
        if token in FILLERS:
            return [], None
        word = self._whole(token)
        if word is not None:
            return [word], None
        stripped = token.strip(_SENTENCE_MARKS)
        if is_note(stripped):
            return [], stripped
        variant = VARIANT.match(stripped)
        straight = unicodedata.normalize("NFC", variant["word"] if variant else token).translate(_STRAIGHT)
        bare = _strip(straight)
        if not bare:
            return [], None
        # 'tis and dogs': an apostrophe may belong to the word.
        for form in (straight, straight.strip("".join(_marks(straight) - {"'"})), bare):
            word = self.find(form)
            if word is not None:
                return [word], None
        parts = [self.find(_strip(part)) for part in bare.split("-")]
        if len(parts) > 1 and all(part is not None for part in parts):
            return [part for part in parts if part is not None], None
        return [self._case(bare)], None


def _nearest(token: str, words: Sequence[str]) -> Optional[str]:
    """Which of the words that are folded alike is meant."""
    composed = unicodedata.normalize("NFC", token)
    straight = composed.translate(_STRAIGHT)
    forms: List[Callable[[str], bool]] = [
        lambda word: unicodedata.normalize("NFC", word) == composed,
        lambda word: unicodedata.normalize("NFC", word).translate(_STRAIGHT) == straight,
        lambda word: word == word.lower(),
        lambda word: True,
    ]
    return next((word for form in forms for word in words if form(word)), None)


def case_of(words: Iterable[str]) -> Callable[[str], str]:
    """Returns what folds a word to the case of all of `words`: upper, lower, or nothing where they are of both."""
    words = [word for word in words if word not in FILLERS and not is_note(word)]
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
