"""Phrases that an utterance is likely to hold (names, titles, commands), from Python or a file, and their words."""

from __future__ import annotations

import math
import re
from typing import Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, read_lines
from hybrid.lexicon.lang import Lang
from hybrid.lm.text import split_words

WEIGHT = 2.0  # of a phrase that is given without one
Phrases = Union[Mapping[str, float], Iterable[str]]

_SCORE = re.compile(r"^(.*?)(?:\t|[ \t]+:)[ \t]*(\S+)[ \t]*$")


class Phrase(NamedTuple):
    """words as they were written; weight: by so much a path with the phrase costs less, natural log."""

    words: Tuple[str, ...]
    weight: float


def read_phrases(path: PathLike) -> Dict[str, float]:
    """Read a file with one phrase a line, as sherpa's hotwords; {phrase: weight}.

        JOHN SMITH
        MAIN STREET :4.5        # or a tab and the weight

    Empty lines and those that begin with `# ` are skipped. Raises DataError naming file and line.
    """
    found: Dict[str, float] = {}
    for number, line in enumerate(read_lines(path, "give a file with one phrase a line", what="phrases"), 1):
        if not line.strip() or line.startswith("# "):
            continue
        match = _SCORE.match(line)
        text, weight = (line, WEIGHT) if match is None else (match.group(1), _number(match.group(2)))
        try:
            (phrase,) = checked({text: weight})
        except (ConfigError, DataError) as error:
            raise DataError(f"line {number}: {error.what}", file=path, remedy=error.remedy) from None
        found[" ".join(phrase.words)] = weight
    if not found:
        raise DataError("no phrase", file=path, remedy="give one phrase a line")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def checked(phrases: Phrases) -> List[Phrase]:
    """Return the phrases with their weights, WEIGHT where none is given.

    Raises DataError for one without a word, ConfigError for a weight that is not above 0 and finite, and for what is no
    list.
    """
    if isinstance(phrases, (str, bytes)) or not isinstance(phrases, Iterable):
        raise ConfigError(
            f"phrases as {type(phrases).__name__}",
            remedy='give a list, or {"john smith": 2.0}; of a file: read_phrases',
        )
    pairs = phrases.items() if isinstance(phrases, Mapping) else [(phrase, WEIGHT) for phrase in phrases]
    rows = []
    for text, weight in pairs:
        words = tuple(split_words(text)) if isinstance(text, str) else ()
        if not words:
            raise DataError(f"{text!r} is no phrase", remedy="give one or more words, parted by blanks")
        if not (isinstance(weight, (int, float)) and 0 < weight < math.inf):
            raise ConfigError(
                f"the weight {weight} of the phrase {text!r}", remedy=f"give a number above 0; {WEIGHT:g} is usual"
            )
        rows.append(Phrase(words, float(weight)))
    return rows


def written(word: str, lang: Lang) -> Optional[str]:
    """Return a word as the lexicon writes it: as it is, else all in capitals or small letters; None where it lacks
    it."""
    return next((form for form in (word, word.upper(), word.lower()) if form in lang.lexicon), None)


def phrase_ids(
    phrases: Iterable[Phrase], lang: Lang, in_graph: Callable[[int], bool]
) -> Tuple[List[Tuple[List[int], float]], List[str]]:
    """Return the ids and weight of each phrase, and the words that the lexicon or the graph lacks, each once. Words
    that are spelled in pieces: a phrase ends with a piece, so that a longer last word counts, too."""
    rows: List[Tuple[List[int], float]] = []
    missing: Dict[str, None] = {}
    for phrase in phrases:
        ids: List[int] = []
        for word in phrase.words:
            form = written(word, lang)
            if lang.pieces is not None:
                ids += lang.word_ids(word)
            elif form is None or not in_graph(lang.words[form]):
                missing[form or word] = None
            else:
                ids.append(lang.words[form])
        rows.append((ids, phrase.weight))
    return rows, list(missing)


def missing_words(words: Sequence[str], what: str) -> DataError:
    """Return the error for words that cannot be recognised."""
    shown = ", ".join(words[:10]) + (", ..." if len(words) > 10 else "")
    return DataError(
        f"{what} {len(words)} words that this model does not know: {shown}",
        remedy="add them before with add_words, or pass add=True to have them pronounced by G2P",
    )
