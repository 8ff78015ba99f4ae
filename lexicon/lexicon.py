"""Pronunciations: reading them from the usual files, checking them, and finding the words they lack."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Container, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, Union

from hybrid.errors import DataError
from hybrid.io import PathLike, write_text
from hybrid.lexicon.reader import NUMBER, VARIANT, Row, read_rows, read_saved

log = logging.getLogger(__name__)

# Sphinx lists these beside real words (an4.filler); in Kaldi's recipe, sentence ends and pauses are L's business.
FILLERS = frozenset({"<s>", "</s>", "<sil>"})
UNKNOWN_WORD, SPOKEN_NOISE = "<UNK>", "SPN"  # the word for words without a pronunciation, and its phone
RESERVED_WORDS = frozenset({"<eps>", "<s>", "</s>"})
_DISAMBIG = re.compile(r"#[0-9]+$")
_MAX_LOGGED = 5  # notices that are logged; all are kept


class Pronunciation(NamedTuple):
    """`phones` without position marks; `prob` in (0, 1], 1.0 where the file gives none."""

    phones: Tuple[str, ...]
    prob: float = 1.0


@dataclass(frozen=True)
class Oov:
    """A word without a pronunciation, how often it was met, and the utterances it was met in (each once)."""

    word: str
    count: int
    utterances: Tuple[str, ...]


def is_reserved(symbol: str) -> bool:
    """Return whether graphs use a name for themselves: `<eps>` and the disambiguation symbols #0, #1, ..."""
    return symbol == "<eps>" or _DISAMBIG.match(symbol) is not None


class Lexicon:
    """Words and their pronunciations, in the order of the file.

    `notices` lists what was odd but usable (duplicates kept once, fillers left out); they are logged too.
    """

    def __init__(self, entries: Mapping[str, Sequence[Pronunciation]], notices: Sequence[str] = ()) -> None:
        self._entries: Dict[str, List[Pronunciation]] = {}
        self._checked: Set[str] = set()  # phones whose names are sound
        self.notices = list(notices)
        for word, pronunciations in entries.items():
            for pronunciation in pronunciations:
                self._add(word, pronunciation, None)
        if not self._entries:
            raise DataError("a lexicon without a word", remedy="give at least one word with its phones")

    @classmethod
    def from_dict(cls, entries: Mapping[str, Iterable[Union[str, Sequence[str], Pronunciation]]]) -> Lexicon:
        """Make a lexicon of a dictionary, `{"A": ["AH", "EY"], "AND": ["AE N D"]}`.

        A pronunciation is a string of phones, a sequence of them, or a Pronunciation. Raises DataError as `from_file`
        does.
        """
        table: Dict[str, List[Pronunciation]] = {}
        for word, pronunciations in entries.items():
            if isinstance(pronunciations, str):
                raise DataError(f"the pronunciations of {word!r} are a string", remedy="give a list of pronunciations")
            table[word] = [
                item
                if isinstance(item, Pronunciation)
                else Pronunciation(tuple(item.split()) if isinstance(item, str) else tuple(item))
                for item in pronunciations
            ]
            if not table[word]:
                raise DataError(f"no pronunciation for the word {word!r}", remedy="give one, or leave the word out")
        return cls(table)

    @classmethod
    def from_file(cls, path: PathLike) -> Lexicon:
        """Read a lexicon in any of the formats of lexicon/reader.py, or Kaldi's folder `dict`.

        Raises DataError naming file, line and word for what read_rows refuses, a file without a word, a probability
        outside (0, 1], and words or phones named like the symbols of graphs.
        """
        rows, notices = read_rows(path)
        return cls._of_rows(rows, Path(path), notices)

    @classmethod
    def load(cls, path: PathLike) -> Lexicon:
        """Read what `save` wrote; there a phone may be named by a number, as letters of a spelled word are (4U: 4 u).

        Raises DataError as `from_file`.
        """
        return cls._of_rows(read_saved(path), Path(path))

    @classmethod
    def _of_rows(cls, rows: Iterable[Row], path: Path, notices: Sequence[str] = ()) -> Lexicon:
        self = cls.__new__(cls)
        self._entries, self._checked, self.notices = {}, set(), list(notices)
        for row in rows:
            self._add(row.word, Pronunciation(row.phones, row.prob), (path, row.number))
        if not self._entries:
            raise DataError("a lexicon without a word", file=path, remedy="give a file of lines `WORD P1 P2 ...`")
        for notice in self.notices[:_MAX_LOGGED]:
            log.warning("%s: %s", path, notice)
        if len(self.notices) > _MAX_LOGGED:
            log.warning("%s: and %d more of that kind", path, len(self.notices) - _MAX_LOGGED)
        return self

    def _add(self, word: str, pronunciation: Pronunciation, location: Optional[Tuple[Path, int]]) -> None:
        prefix, file = ("", None) if location is None else (f"line {location[1]}: ", location[0])
        if word in FILLERS:
            self.notices.append(f"{prefix}filler {word} left out: pauses and sentence ends are part of the graph")
            return
        if not word or len(word.split()) != 1:
            raise DataError(
                f"{prefix}{word!r} is not one word", file=file, remedy="give one word a line, without blanks"
            )
        if VARIANT.match(word):
            raise DataError(f"{prefix}{word} is named like a variant", file=file, remedy="give the word without (N)")
        if word in RESERVED_WORDS or is_reserved(word):
            raise DataError(f"{prefix}the word {word} is a symbol of the graphs", file=file, remedy="rename the word")
        if not pronunciation.phones:
            raise DataError(
                f"{prefix}no phones for the word {word!r}", file=file, remedy="give its phones, or leave the word out"
            )
        for phone in pronunciation.phones:
            if phone in self._checked:
                continue
            if is_reserved(phone):
                raise DataError(
                    f"{prefix}a phone of {word!r} is named {phone}, a symbol of the graphs",
                    file=file,
                    remedy="rename the phone, or give the lexicon without disambiguation symbols",
                )
            if not phone or len(phone.split()) != 1:
                raise DataError(f"{prefix}{phone!r} is not one phone", file=file, remedy="part the phones by blanks")
            self._checked.add(phone)
        if not 0.0 < pronunciation.prob <= 1.0:
            raise DataError(
                f"{prefix}probability {pronunciation.prob:g} of {word!r} is not above 0 and at most 1",
                file=file,
                remedy="give each word probabilities of which the largest is 1, or that sum to 1",
            )
        pronunciations = self._entries.setdefault(word, [])
        for index, candidate in enumerate(pronunciations):
            if candidate.phones == pronunciation.phones:
                self.notices.append(
                    f"{prefix}{word} {' '.join(candidate.phones)} stands there twice: kept once, with the larger "
                    "probability"
                )
                pronunciations[index] = max(candidate, pronunciation, key=lambda item: item.prob)
                return
        pronunciations.append(pronunciation)

    def with_word(self, word: str, phones: Sequence[str]) -> Lexicon:
        """Return a copy with one more word (as for the unknown word); the word's entries are replaced if it had any."""
        return Lexicon({**self._entries, word: [Pronunciation(tuple(phones))]})

    def of_words(self, words: Container[str]) -> Lexicon:
        """Return a lexicon of those of its words that are among `words`, in the order that they have here."""
        return Lexicon({word: entries for word, entries in self._entries.items() if word in words})

    def pronunciations(self, word: str) -> List[Pronunciation]:
        """Return the pronunciations of a word. Raises KeyError for a word that has none."""
        return list(self._entries[word])

    def __contains__(self, word: object) -> bool:
        return word in self._entries

    def __len__(self) -> int:
        """The number of words."""
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lexicon) and self._entries == other._entries

    @property
    def words(self) -> List[str]:
        return list(self._entries)

    @property
    def phones(self) -> List[str]:
        """The phones, each once, sorted."""
        return sorted({phone for _, item in self for phone in item.phones})

    def __iter__(self):
        """(word, Pronunciation), every pronunciation once, in the order of the file."""
        for word, pronunciations in self._entries.items():
            for pronunciation in pronunciations:
                yield word, pronunciation

    def save(self, path: PathLike) -> None:
        """Write a lexicon.txt, or a lexiconp.txt where some probability is not 1; `load` reads it back."""
        # A first phone that looks like a number would be read back as a probability.
        with_probs = any(item.prob != 1.0 or NUMBER.match(item.phones[0]) for _, item in self)
        write_text(
            path,
            "".join(
                f"{word} {f'{item.prob!r} ' if with_probs else ''}{' '.join(item.phones)}\n" for word, item in self
            ),
        )


def check_text(lexicon: Lexicon, texts: Union[Mapping[str, str], Iterable]) -> List[Oov]:
    """Return the words of the texts that the lexicon lacks, the most frequent first.

    `texts` is {utterance: text}, pairs (utterance, text), or cuts with one supervision each.
    """
    pairs: Iterable = texts.items() if isinstance(texts, Mapping) else texts
    counts: Dict[str, int] = {}
    utterances_of: Dict[str, List[str]] = {}
    word_utterances: Set[Tuple[str, str]] = set()
    for item in pairs:
        if hasattr(item, "supervisions"):
            utterance, text = item.id, " ".join(supervision.text or "" for supervision in item.supervisions)
        else:
            utterance, text = item
        for word in text.split():
            if word in lexicon or word in FILLERS:
                continue
            counts[word] = counts.get(word, 0) + 1
            if (word, utterance) not in word_utterances:
                word_utterances.add((word, utterance))
                utterances_of.setdefault(word, []).append(utterance)
    return [
        Oov(word, counts[word], tuple(utterances_of[word]))
        for word in sorted(counts, key=lambda word: (-counts[word], word))
    ]
