"""Settings of the section [corpus]: what is read, and how."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Union

from hybrid.errors import ConfigError
from hybrid.typed import above, at_least, build, one_of

UNITS = {
    "auto": "words where there is a lexicon, else graphemes",
    "words": "of the lexicon",
    "graphemes": "the words of the training transcripts, spelled in letters",
    "pieces": "sentencepiece's of the training transcripts, spelled in letters",
    "phone_pieces": "the same pieces with the lexicon's phones",
}
PYTHON = "python"  # as the value of train, dev, lexicon ...: what the recipe's Python file gives
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


@dataclass(frozen=True, kw_only=True)
class TestSource:
    """One of [corpus.test]: where it is read from, and the condition it was recorded in.

    by: a table `speaker value` as Kaldi's spk2gender; the set is of the speakers whose value is `value`, or a number
    from `least` to `most`.
    """

    path: str
    condition: str = "clean"
    by: str = ""
    value: str = ""
    least: float = -math.inf
    most: float = math.inf

    def takes(self, value: str) -> bool:
        """Return whether the set has the speakers of this value. Raises ValueError for one that is no number."""
        return value == self.value if self.value else self.least <= float(value) <= self.most


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    python: str
    train: List[str]
    unlabelled: List[str]
    dev: str
    test: Dict[str, Any]
    lexicon: Union[str, List[str]]
    stress: bool
    lm: Union[str, List[str]]
    noise: str
    rooms: str
    check_audio: bool
    fold: bool
    speaker: str
    dev_speakers: int = at_least(0)
    test_speakers: int = at_least(0)
    labelled: float = above(0, 1)
    rate: int = at_least(0)
    channel: int = at_least(-1)
    units: str = one_of(*UNITS)
    oov: str = one_of("error", "leave", "unk", "g2p")

    def __post_init__(self) -> None:
        for name in ("lexicon", "lm"):
            sources = listed(getattr(self, name))
            twice = next((source for source in sources if not source or sources.count(source) > 1), None)
            if twice is not None:
                raise ConfigError(f"corpus.{name} has {twice!r} in it", remedy="give each source once, by its name")
        if self.test and self.test_speakers:
            raise ConfigError("corpus.test_speakers, and test sets of their own", remedy="leave one of them out")
        for name in self.test:
            if not NAME.fullmatch(name) or name in ("dev", "train", "unlabelled"):
                raise ConfigError(
                    f"corpus.test has a set named {name!r}",
                    remedy="name test sets in letters, digits, - and . alone, and not dev, train or unlabelled",
                )
        for test in test_sources(self.test).values():
            if not NAME.fullmatch(test.condition):
                raise ConfigError(f"the condition {test.condition!r} in corpus.test", remedy="one word, such as clean")
        if self.rate and not 4000 <= self.rate <= 192000:
            raise ConfigError(f"corpus.rate is {self.rate}", remedy="Hz, such as 8000 or 16000; 0: that of the speech")
        if isinstance(speaker_of(self.speaker), str):
            remedy = 'folder; how many letters of the file\'s name, as "4"; or a regular expression with a group'
            try:
                groups = re.compile(self.speaker).groups
            except re.error as error:
                raise ConfigError(f"corpus.speaker is no regular expression: {error}", remedy=remedy) from None
            if not groups:
                raise ConfigError(f"corpus.speaker is {self.speaker!r}", remedy=remedy)


def test_sources(test: Mapping[str, Any]) -> Dict[str, TestSource]:
    """Return the sources of [corpus.test] by name, in the order of the file. Raises ConfigError for one that does not
    say where it is."""
    return {
        name: build(TestSource, {"path": value} if isinstance(value, str) else value, f"corpus.test.{name}")
        for name, value in test.items()
    }


def speaker_of(text: str) -> Union[int, str]:
    """Return corpus.speaker as hybrid.corpus.Reading takes it: "folder" is 0, digits are so many letters, else a
    pattern."""
    return 0 if text == "folder" else int(text) if text.isdigit() else text


def listed(sources: Union[str, Sequence[str]]) -> List[str]:
    """Return the sources of a setting that names one or several; "" names none."""
    return [source for source in [sources] if source] if isinstance(sources, str) else list(sources)


def units_of(corpus: CorpusSettings) -> str:
    """Return corpus.units, with "auto" made out."""
    return corpus.units if corpus.units != "auto" else "words" if corpus.lexicon else "graphemes"
