"""Spelling: words that are written in several ways, brought to one in references and hypotheses alike.

A rule is a phrase and what stands in its place, applied from left to right, the longest that fits first, once: what a
rule has written is not read again. A file of rules has one a line, `phrase -> phrase`; # begins a remark.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from hybrid.errors import DataError
from hybrid.io import PathLike, read_lines
from hybrid.rescore.nbest import NbestList, make_list

Phrase = Tuple[str, ...]

_ORDINALS = {
    "onest": "first", "twond": "second", "threerd": "third", "fiveth": "fifth", "eightth": "eighth", "nineth": "ninth",
    "twelveth": "twelfth", "twentyth": "twentieth", "thirtyth": "thirtieth",
}  # fmt: skip
_MINUTES = {
    "one five": "fifteen", "two five": "twenty five", "three five": "thirty five", "four five": "forty five",
    "five five": "fifty five", "one": "ten", "two": "twenty", "three": "thirty", "four": "forty", "five": "fifty",
}  # fmt: skip
_CODES = (
    "us dc twa ua dl dfw bwi sfo mco jfk lga ewr iah ord atl bos den phl pit lax oak stl mia dtw msp slc sea yyz mke "
    "ap la aa co hp nw qx yn ff ea tw sa ac am pm kw qo qw bh mu eq fn vn cp hpn cvg"
).split()

# Those of the ATIS lists, whose recogniser wrote numbers as digits, which were then written out.
ATIS: Dict[str, str] = {
    "non stop": "nonstop",
    "non-stop": "nonstop",
    "roundtrip": "round trip",
    "after noon": "afternoon",
    "alright": "all right",
    "faircode": "fair code",
    "farecode": "fare code",
    "lovefield": "love field",
    "airflights": "air flights",
    "dollars": "",  # $five for five dollars
    "dollar": "",
    "hundred and": "",  # seven hundred and forty-seven for the plane that is called seven forty seven
    **_ORDINALS,
    **{f"point {digits}": minutes for digits, minutes in _MINUTES.items()},  # seven point three, for 7.30
    **{code: " ".join(code) for code in _CODES},  # as letters
}
_JOINED = re.compile(r"^([a-z]{3,})(am|pm)$")  # fivepm


class Spelling:
    """Makes one spelling of many. characters: True also takes hyphens for blanks, and $ and commas away, and parts
    `fivepm`."""

    def __init__(self, rules: Mapping[str, str], *, characters: bool = False) -> None:
        self.rules: Dict[Phrase, Phrase] = {tuple(old.split()): tuple(new.split()) for old, new in rules.items()}
        self.longest = max(map(len, self.rules), default=0)
        self.characters = characters

    def __call__(self, words: Sequence[str]) -> Phrase:
        """Return the words in the one spelling."""
        if self.characters:
            words = _plain(words)
        found: List[str] = []
        place = 0
        while place < len(words):
            for size in range(min(self.longest, len(words) - place), 0, -1):
                new = self.rules.get(tuple(words[place : place + size]))
                if new is not None:
                    found += new
                    place += size
                    break
            else:
                found.append(words[place])
                place += 1
        return tuple(found)

    def of_list(self, item: NbestList) -> NbestList:
        """Return the list in the one spelling, doubles merged."""
        scores = None if item.ranked else item.scores.tolist()
        reference = None if item.reference is None else self(item.reference)
        parts = {name: values.tolist() for name, values in item.parts.items()}
        return make_list(item.id, [self(words) for words in item.hypotheses], scores, reference, item.speaker, parts)

    def of_lists(self, lists: Iterable[NbestList]) -> List[NbestList]:
        return [self.of_list(item) for item in lists]


def atis_spelling() -> Spelling:
    return Spelling(ATIS, characters=True)


def _plain(words: Sequence[str]) -> List[str]:
    found: List[str] = []
    for word in " ".join(words).replace("-", " ").replace("$", "").replace(",", "").split():
        joined = _JOINED.match(word)
        found += joined.groups() if joined else [word]
    return found


def read_rules(path: PathLike) -> Spelling:
    """Read a file of rules. Raises DataError that names the line."""
    rules: Dict[str, str] = {}
    for number, line in enumerate(read_lines(path, "give a file of spelling rules"), 1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        old, arrow, new = (part.strip() for part in text.partition("->"))
        problem: Optional[str] = None
        if not arrow or not old:
            problem = "no rule"
        elif " ".join(old.split()) in rules:
            problem = f"a second rule for {old}"
        if problem:
            raise DataError(f"line {number}: {problem}: {line.strip()}", file=path, remedy="write `phrase -> phrase`")
        rules[" ".join(old.split())] = new
    return Spelling(rules)
