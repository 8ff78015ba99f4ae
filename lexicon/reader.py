"""Reading files of pronunciations, line by line, in the formats that are in use:

    WORD PH PH                      Kaldi's lexicon.txt
    WORD(2)  PH PH                  a second pronunciation (Sphinx, CMUdict)
    WORD PH PH # foreign            CMUdict: what follows a # alone is a comment
    WORD 0.8 PH PH                  Kaldi's lexiconp.txt: the pronunciation's probability
    WORD 0.8 0.2 1.1 0.9 PH PH      Kaldi's lexiconp_silprob.txt: and three numbers on silence around it
    WORD \\t 0.8 \\t ... \\t PH PH    dictionaries of the Montreal Forced Aligner: with none, one, four or five numbers,
                                    and lines of all these kinds in one file

Columns are parted by blanks or tabs. A number is never a phone: what is no number in one of these places is refused,
and so is all that may be meant in two ways. The numbers on silence are not used (lexicon/prons.py learns better ones).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, NoReturn, Optional, Set, Tuple

from hybrid.errors import DataError
from hybrid.io import PathLike, read_lines

LEAST = 0.01  # a pronunciation's probability: MFA writes 0.0 for very rare ones
VARIANT = re.compile(r"(?P<word>.+)\((?P<number>[0-9]+)\)$")
NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")
_STRANGE_NUMBER = re.compile(r"[-+]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][-+]?[0-9]+)?$|[-+](nan|inf)$")
_COMMENT = re.compile(r"[ \t]#(?=[ \t]|$)")
_ODD_BLANK = re.compile(r"[^\S \t]")  # a no-break space, U+3000, U+2028, ...
_LIST = re.compile(r".+[,;]($|[^0-9].*)")  # a,AH or a; but not 1,000 or CMUdict's ;SEMI-COLON
_NUMBERS = (0, 1, 4, 5)
_KALDI_FILES = ("lexiconp.txt", "lexicon.txt", "lexiconp_silprob.txt")
_FORMATS = "give lines `WORD PH PH`, or `WORD PROBABILITY PH PH`, parted by blanks or tabs"


class Row(NamedTuple):
    """A pronunciation as it stands in line `number`; `numbers` are those before its phones, and `tabs` says that they
    are parted from the word by a tab, as in MFA's dictionaries."""

    number: int
    word: str
    phones: Tuple[str, ...]
    numbers: Tuple[float, ...] = ()
    tabs: bool = False

    @property
    def prob(self) -> float:
        """The probability that the file gives, 1.0 where it gives none, and at least LEAST in MFA's formats."""
        if not self.numbers:
            return 1.0
        return max(self.numbers[0], LEAST) if self.tabs or len(self.numbers) > 1 else self.numbers[0]


def read_rows(path: PathLike) -> Tuple[List[Row], List[str]]:
    """Return the pronunciations of a file, or of Kaldi's folder `dict`, and what is worth knowing about them.

    Lines that are empty or start with `;;;` are skipped. Raises DataError naming file, line and word for what cannot be
    opened, is not UTF-8, has no phones, or has as a phone what is a number, a comment or a part of a list with commas.
    """
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in _KALDI_FILES if (path / name).exists()), path)
    return _Reader(path).read()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.comments: List[str] = []
        self.rows: List[Row] = []
        self.checked_phones: Set[str] = set()  # phones that have been looked at
        self.joined: List[Tuple[int, str, List[str]]] = []  # number, first column, what would be phones in it

    def read(self) -> Tuple[List[Row], List[str]]:
        lines = read_lines(self.path, "give the path of the pronunciations", what="lexicon")
        for number, line in enumerate(lines, 1):
            self.number = number
            if not line.startswith(";;;"):
                self._line(line)
        self._check_probabilities()
        self._check_hashes()
        self._check_joined()
        notices = []
        if self.comments:
            notices.append(f"{len(self.comments)} comments behind # are not read (the first: {self.comments[0]})")
        if any(len(row.numbers) > 1 for row in self.rows):
            notices.append("the probabilities of silence are not used")
        return self.rows, notices

    def _fail(self, what: str, remedy: str, number: Optional[int] = None) -> NoReturn:
        raise DataError(f"line {number or self.number}: {what}", file=self.path, remedy=remedy)

    def _line(self, line: str) -> None:
        line = line.strip()
        comment = _COMMENT.search(line) if "#" in line else None
        if comment:
            self.comments.append(f"line {self.number}: {line[comment.start() :].strip()}")
            line = line[: comment.start()].strip()
        fields = line.split() if _ODD_BLANK.search(line) is None else self._fields(line)
        if not fields:
            return
        word, rest = fields[0], fields[1:]
        if not word.strip("#"):
            self._doubt(line, word, self.number)
        if _LIST.match(word):
            self._fail(f"{word!r} is a list with commas or semicolons, no word", _FORMATS)
        variant = VARIANT.match(word)
        if variant:
            word = variant["word"]
        count = 0
        while count < len(rest) and NUMBER.match(rest[count]):
            count += 1
        phones = tuple(rest[count:])
        self._check(word, rest[:count], phones)
        before_tab = line.split("\t", 1)[0].split() if "\t" in line else []
        if len(before_tab) > 1 + count:
            self._fail(
                f"{' '.join(before_tab)!r} before the first tab is not one word",
                "part all columns by blanks or all by tabs, and write a word without blanks",
            )
        numbers = tuple(float(text) for text in rest[:count])
        self.rows.append(Row(self.number, word, phones, numbers, tabs=len(before_tab) == 1))

    def _fields(self, line: str) -> List[str]:
        """Odd blanks part columns as others do. Where the word is parted from its first phone by one, and these phones
        by others, it may as well stand within the word (`ice cream AY S`): what the other lines have decides."""
        columns = [column for column in (column.strip() for column in re.split(r"[ \t]+", line)) if column]
        first = columns[0].split() if columns else []
        if len(columns) > 1 and len(first) > 1:
            self.joined.append((self.number, columns[0], [part for part in first[1:] if not NUMBER.match(part)]))
        return line.split()

    def _check(self, word: str, numbers: List[str], phones: Tuple[str, ...]) -> None:
        if not phones:
            self._fail(f"no phones for the word {word!r}", "give its phones, or leave the word out")
        if len(numbers) not in _NUMBERS:
            self._fail(
                f"{len(numbers)} numbers before the phones of {word!r}: {' '.join(numbers)}",
                "give none, a probability, or four or five numbers as Kaldi's lexiconp_silprob.txt and MFA have",
            )
        for index, phone in enumerate(phones):
            if phone in self.checked_phones:
                continue
            if _STRANGE_NUMBER.match(phone):
                where = "where a probability or the first phone" if index == 0 else "among the phones"
                self._fail(
                    f"the number {phone} {where} of {word!r}" + (" should stand" if index == 0 else ""),
                    "give a probability above 0 and at most 1, no logarithm, with a point, before the phones; a phone "
                    "needs a name with a letter",
                )
            if phone.startswith("#") and not NUMBER.match(phone[1:]) or "," in phone:  # #1: a symbol of graphs
                self._fail(
                    f"{phone!r} among the phones of {word!r} is no phone",
                    "comments stand behind a # with blanks around it, or in lines that begin with ;;;",
                )
            self.checked_phones.add(phone)

    def _check_probabilities(self) -> None:
        """In lexiconp.txt all lines have a probability: a number that only some have may be something else."""
        row_with_prob = next((row for row in self.rows if len(row.numbers) == 1 and not row.tabs), None)
        row_without = next((row for row in self.rows if not row.numbers), None)
        if row_with_prob is not None and row_without is not None:
            prob = row_with_prob.numbers[0]
            self._fail(
                f"no probability for {row_without.word!r}, though line {row_with_prob.number} has one ({prob:g})",
                "give every line `WORD PROBABILITY PHONES`, or none",
                row_without.number,
            )

    def _check_hashes(self) -> None:
        """`#HASH-MARK HH AE SH` is a word of CMUdict, `# my lexicon` a comment: its phones are found nowhere else."""
        hash_rows = [row for row in self.rows if row.word.startswith("#") and not row.word[1:].isdigit()]
        if not hash_rows:
            return
        counts: Dict[str, int] = {}
        for row in self.rows:
            for phone in set(row.phones):
                counts[phone] = counts.get(phone, 0) + 1
        for row in hash_rows:
            if any(counts[phone] == 1 for phone in row.phones):
                self._doubt(" ".join((row.word, *row.phones)), row.word, row.number)

    def _check_joined(self) -> None:
        if not self.joined:
            return
        joined_phones = {number: set(parts) for number, _, parts in self.joined}
        known_phones = {phone for row in self.rows for phone in set(row.phones) - joined_phones.get(row.number, set())}
        for number, column, parts in self.joined:
            if not known_phones.issuperset(parts):
                odd_blanks = [f"U+{ord(character):04X}" for character in column if _ODD_BLANK.match(character)]
                self._fail(
                    f"{column!r}: one word, or a word and a phone? It holds the blank {odd_blanks[0]}",
                    "put an ordinary blank or a tab where columns are parted, and none into a word",
                    number,
                )

    def _doubt(self, line: str, word: str, number: int) -> NoReturn:
        self._fail(
            f"{line[:60]!r}: a comment, or the word {word}?",
            "begin comments with ;;; or take the line out; a word of # alone needs another name",
            number,
        )


def read_saved(path: PathLike) -> List[Row]:
    """Return the rows of a file that Lexicon.save wrote, whatever its phones are called.

    A number before the phones of the first line says that every line has one. Raises DataError as read_rows.
    """
    rows: List[Row] = []
    with_probs = False
    for number, line in enumerate(read_lines(path, "run the stage that writes it"), 1):
        word, *rest = line.split(" ")
        if number == 1:
            with_probs = len(rest) > 1 and NUMBER.match(rest[0]) is not None
        if len(rest) < 1 + with_probs or (with_probs and not NUMBER.match(rest[0])):
            raise DataError(f"line {number}: not as it was written", file=path, remedy="run the stage that writes it")
        numbers = (float(rest[0]),) if with_probs else ()
        rows.append(Row(number, word, tuple(rest[with_probs:]), numbers))
    return rows
