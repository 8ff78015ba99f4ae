"""Grammars as users give them: JSGF or a list of sentences, in a file, as text or in Python."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Iterable, List, Optional, Union

from hybrid.errors import ConfigError, DataError
from hybrid.io import read_lines
from hybrid.lm.jsgf import Alternatives, Grammar, Sequence, Word, is_jsgf, parse
from hybrid.lm.text import sentence_words

GrammarSource = Union[str, "PathLike[str]", Iterable[str]]

_REMEDY = "give a file, a text that begins with #JSGF V1.0;, or a list of sentences"


def read_grammar(source: GrammarSource) -> Grammar:
    """Return the grammar of a file, of a text that begins with #JSGF, or of a list of sentences.

    A file is JSGF where it begins with #JSGF, else it has one sentence a line. An utterance is then one whole sentence
    (or public rule) of the grammar. Raises DataError naming file and line for what cannot be read (lm/jsgf.py).
    """
    if isinstance(source, Grammar):
        return source
    if isinstance(source, str) and is_jsgf(source):
        return parse(source)
    if isinstance(source, (str, PathLike)):
        if isinstance(source, str) and "\n" in source:
            raise DataError("a text that is no JSGF", remedy=_REMEDY)
        lines = list(read_lines(source, _REMEDY, what="grammar"))
        text = "\n".join(lines)
        return parse(text, Path(source)) if is_jsgf(text) else _sentences(lines, str(source))
    if not isinstance(source, Iterable):
        raise ConfigError(f"a grammar as {type(source).__name__}", remedy=_REMEDY)
    return _sentences(source, None)


def _sentences(sentences: Iterable[str], file: Optional[str]) -> Grammar:
    parts: List[Sequence] = []
    for number, sentence in enumerate(sentences, 1):
        line = number if file is not None else 0
        if not isinstance(sentence, str):
            raise ConfigError(f"sentence {number} is a {type(sentence).__name__}", remedy="give strings")
        try:
            words = tuple(Word(word, line) for word in sentence_words(sentence, f"line {number}"))
        except DataError as error:
            raise DataError(error.what, file=file, remedy=error.remedy) from None
        if words:
            parts.append(Sequence(words))
    if not parts:
        raise DataError("a grammar without a sentence", file=file, remedy="give one sentence a line")
    return Grammar({"sentences": Alternatives(tuple(parts))}, ("sentences",), file)
