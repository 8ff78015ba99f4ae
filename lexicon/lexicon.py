"""Pronunciations: reading them from the usual files, checking them, and finding the words they lack."""

from __future__ import annotations

import codecs
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, Union

from hybrid.errors import DataError
from hybrid.io import PathLike, write_text

log = logging.getLogger(__name__)

# Sphinx lists these beside real words (an4.filler); in Kaldi's recipe, sentence ends and pauses are L's business.
FILLERS = frozenset({"<s>", "</s>", "<sil>"})
RESERVED_WORDS = frozenset({"<eps>", "<s>", "</s>"})
_DISAMBIG = re.compile(r"#[0-9]+$")
_VARIANT = re.compile(r"(?P<word>.+)\((?P<number>[0-9]+)\)$")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$")


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
    """Names that graphs use for themselves: `<eps>` and the disambiguation symbols #0, #1, ..."""
    return symbol == "<eps>" or _DISAMBIG.match(symbol) is not None


class Lexicon:
    """Words and their pronunciations, in the order of the file.

    `notices` lists what was odd but usable (duplicates kept once, fillers left out); they are logged too.
    """

    def __init__(self, entries: Mapping[str, Sequence[Pronunciation]], notices: Sequence[str] = ()) -> None:
        self._entries: Dict[str, List[Pronunciation]] = {}
        self.notices = list(notices)
        for word, pronunciations in entries.items():
            for pronunciation in pronunciations:
                self._add(word, pronunciation, None)
        if not self._entries:
            raise DataError("a lexicon without a word", remedy="give at least one word with its phones")

    @classmethod
    def from_dict(cls, entries: Mapping[str, Iterable[Union[str, Sequence[str], Pronunciation]]]) -> Lexicon:
        """`{"A": ["AH", "EY"], "AND": ["AE N D"]}`; a pronunciation is a string of phones, a sequence of them,
        or a Pronunciation. Raises DataError as `from_file` does."""
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
        """Reads `WORD P1 P2` (Kaldi's lexicon.txt), `WORD(2)  P1 P2` (Sphinx) or `WORD 0.8 P1 P2` (lexiconp.txt).

        A file whose first entry has a number before its phones is a lexiconp.txt, and then every line must have
        one. Lines that are empty or start with `;;;` are skipped. Raises DataError naming file and line for a
        missing or empty file, bytes that are not UTF-8, a word without phones, a probability outside (0, 1],
        and words or phones named like the symbols of graphs.
        """
        path = Path(path)
        entries: List[Tuple[int, str, Pronunciation]] = []
        with_probs: Optional[bool] = None
        for number, line in enumerate(_lines(path), 1):
            fields = line.split()
            if not fields or fields[0].startswith(";;;"):
                continue
            word, rest = fields[0], fields[1:]
            variant = _VARIANT.match(word)
            if variant:
                word = variant["word"]
            if with_probs is None:
                with_probs = len(rest) > 1 and _NUMBER.match(rest[0]) is not None
            prob = 1.0
            if with_probs:
                if not rest or not _NUMBER.match(rest[0]):
                    raise DataError(
                        f"line {number}: no probability for {word!r}, though the first entry has one",
                        file=path,
                        remedy="give every line `WORD PROBABILITY PHONES`, or none",
                    )
                prob, rest = float(rest[0]), rest[1:]
            entries.append((number, word, Pronunciation(tuple(rest), prob)))
        self = cls.__new__(cls)
        self._entries, self.notices = {}, []
        for number, word, pronunciation in entries:
            self._add(word, pronunciation, (path, number))
        if not self._entries:
            raise DataError("a lexicon without a word", file=path, remedy="give a file of lines `WORD P1 P2 ...`")
        for notice in self.notices:
            log.warning("%s: %s", path, notice)
        return self

    def _add(self, word: str, pronunciation: Pronunciation, where: Optional[Tuple[Path, int]]) -> None:
        at, file = ("", None) if where is None else (f"line {where[1]}: ", where[0])
        if word in FILLERS:
            self.notices.append(f"{at}filler {word} left out: pauses and sentence ends are part of the graph")
            return
        if not word or len(word.split()) != 1:
            raise DataError(f"{at}{word!r} is not one word", file=file, remedy="give one word a line, without blanks")
        if _VARIANT.match(word):
            raise DataError(f"{at}{word} is named like a variant", file=file, remedy="give the word without (N)")
        if word in RESERVED_WORDS or is_reserved(word):
            raise DataError(f"{at}the word {word} is a symbol of the graphs", file=file, remedy="rename the word")
        if not pronunciation.phones:
            raise DataError(
                f"{at}no phones for the word {word!r}", file=file, remedy="give its phones, or leave the word out"
            )
        for phone in pronunciation.phones:
            if is_reserved(phone):
                raise DataError(
                    f"{at}a phone of {word!r} is named {phone}, a symbol of the graphs",
                    file=file,
                    remedy="rename the phone, or give the lexicon without disambiguation symbols",
                )
            if not phone or len(phone.split()) != 1:
                raise DataError(f"{at}{phone!r} is not one phone", file=file, remedy="part the phones by blanks")
        if not 0.0 < pronunciation.prob <= 1.0:
            raise DataError(
                f"{at}probability {pronunciation.prob:g} of {word!r} is not above 0 and at most 1",
                file=file,
                remedy="give each word probabilities of which the largest is 1, or that sum to 1",
            )
        known = self._entries.setdefault(word, [])
        for index, other in enumerate(known):
            if other.phones == pronunciation.phones:
                self.notices.append(
                    f"{at}{word} {' '.join(other.phones)} stands there twice: kept once, with the larger probability"
                )
                known[index] = max(other, pronunciation, key=lambda item: item.prob)
                return
        known.append(pronunciation)

    def with_word(self, word: str, phones: Sequence[str]) -> Lexicon:
        """A copy with one more word (as for the unknown word); the word's entries are replaced if it had any."""
        return Lexicon({**self._entries, word: [Pronunciation(tuple(phones))]})

    def pronunciations(self, word: str) -> List[Pronunciation]:
        """Raises KeyError for a word that has none."""
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
        """Every phone, sorted."""
        return sorted({phone for _, item in self for phone in item.phones})

    def __iter__(self):
        """(word, Pronunciation), every pronunciation once, in the order of the file."""
        for word, pronunciations in self._entries.items():
            for pronunciation in pronunciations:
                yield word, pronunciation

    def save(self, path: PathLike) -> None:
        """As lexicon.txt, or as lexiconp.txt where some probability is not 1; `from_file` reads it back."""
        # A first phone that looks like a number would be read back as a probability.
        with_probs = any(item.prob != 1.0 or _NUMBER.match(item.phones[0]) for _, item in self)
        write_text(
            path,
            "".join(
                f"{word} {f'{item.prob!r} ' if with_probs else ''}{' '.join(item.phones)}\n" for word, item in self
            ),
        )


def check_text(lexicon: Lexicon, texts: Union[Mapping[str, str], Iterable]) -> List[Oov]:
    """The words of the texts that the lexicon lacks, the most frequent first.

    `texts` is {utterance: text}, pairs (utterance, text), or cuts with one supervision each.
    """
    pairs: Iterable = texts.items() if isinstance(texts, Mapping) else texts
    counts: Dict[str, int] = {}
    where: Dict[str, List[str]] = {}
    seen: Set[Tuple[str, str]] = set()
    for item in pairs:
        if hasattr(item, "supervisions"):
            utterance, text = item.id, " ".join(s.text or "" for s in item.supervisions)
        else:
            utterance, text = item
        for word in text.split():
            if word in lexicon or word in FILLERS:
                continue
            counts[word] = counts.get(word, 0) + 1
            if (word, utterance) not in seen:
                seen.add((word, utterance))
                where.setdefault(word, []).append(utterance)
    return [Oov(word, counts[word], tuple(where[word])) for word in sorted(counts, key=lambda w: (-counts[w], w))]


def _lines(path: Path) -> List[str]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError("no such lexicon", file=path, remedy="give the path of the pronunciations") from None
    except IsADirectoryError:
        raise DataError("a folder, not a lexicon", file=path, remedy="give the file in it") from None
    lines = []
    for number, line in enumerate(raw.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number}: not UTF-8 ({error.reason} at byte {error.start + 1} of the line)",
                file=path,
                remedy="convert it: iconv -f ISO-8859-1 -t UTF-8 FILE > NEW",
            ) from None
    return lines
