"""Sentences and their words, from files and in memory.

Words are parted by blanks and tabs alone, as KenLM, SRILM and Kaldi part them: the no-break space of 10 000 is part of
a word. At the ends of a word it is a blank like others.
"""

from __future__ import annotations

import re
from typing import Iterator, List, Sequence, Union

from hybrid.errors import DataError
from hybrid.io import PathLike, read_lines

START, END = "<s>", "</s>"
_BLANKS = re.compile(r"[ \t]+")

Sentence = Union[str, Sequence[str]]


def split_words(line: str) -> List[str]:
    """Returns the words of a line."""
    if line.isascii():
        return line.split()
    return [word for word in (part.strip() for part in _BLANKS.split(line)) if word]


def sentence_words(sentence: Sentence, place: str = "a sentence") -> List[str]:
    """Returns the words of a sentence without the <s> and </s> around it, which may be there (SRILM takes both, too).

    Raises DataError that names the place where one stands within it.
    """
    words = split_words(sentence) if isinstance(sentence, str) else list(sentence)
    if words and words[0] == START:
        del words[0]
    if words and words[-1] == END:
        del words[-1]
    for mark in (START, END):
        if mark in words:
            raise DataError(f"{place} holds {mark} within it", remedy="give one sentence a line")
    return words


def read_sentences(path: PathLike) -> Iterator[List[str]]:
    """Yields the words of each line of a text, as sentence_words; of an empty one none.

    Raises DataError naming file and line.
    """
    for number, line in enumerate(read_lines(path, "give a file with one sentence a line", what="text"), 1):
        try:
            yield sentence_words(line, f"line {number}")
        except DataError as error:
            raise DataError(error.what, file=path, remedy=error.remedy) from None


def read_words(path: PathLike) -> List[str]:
    """Returns the words of a file, one or more a line. Raises DataError naming file and line."""
    return [word for line in read_lines(path, "give a file of words") for word in split_words(line)]
