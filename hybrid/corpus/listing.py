"""What a corpus says that it holds, before any audio is opened: every form of corpus is read into a Listing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Set, Tuple, Union

from hybrid.errors import DataError
from hybrid.io import PathLike

if TYPE_CHECKING:
    from lhotse import Recording


class Skipped(NamedTuple):
    """An utterance that is not used, why, where, and what to do."""

    utterance: str
    reason: str
    file: Optional[str] = None
    remedy: Optional[str] = None


@dataclass(frozen=True)
class Utterance:
    """One utterance as the corpus has it: seconds `start` to `end` (None: the end) of a recording's channel.

    recording: an id of Listing.recordings, or None where there is no audio. text: None where there is none. wrong: why
    the transcript could not be read, where that is so. speaker, gender, channel: None where nothing says it. file: what
    to look at when it is skipped; None: the audio. tier: the place of its tier in a TextGrid, from 0, and their number.
    """

    id: str
    recording: Optional[str]
    text: Optional[str] = None
    speaker: Optional[str] = None
    start: float = 0.0
    end: Optional[float] = None
    channel: Optional[int] = None
    gender: Optional[str] = None
    wrong: Optional[str] = None
    file: Optional[Path] = None
    tier: Optional[Tuple[int, int]] = None


@dataclass
class Listing:
    """recordings: a file, Lhotse's manifest of it, or the DataError that says why it cannot be used.

    durations: what the corpus says they last, in seconds, where it does: a note is made of those that differ.
    spoken_of: recordings that utterances speak of which are among `skipped`; others without utterance are skipped too.
    untranscribed: utterances whose transcripts are not looked at, though others' are.
    keep_order: the cuts come in the order of `utterances`; else sorted by id.
    """

    form: str
    recordings: Dict[str, Union[Path, Recording, DataError]] = field(default_factory=dict)
    utterances: List[Utterance] = field(default_factory=list)
    skipped: List[Skipped] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
    durations: Dict[str, float] = field(default_factory=dict)
    spoken_of: Set[str] = field(default_factory=set)
    untranscribed: Set[str] = field(default_factory=set)
    keep_order: bool = False

    def skip(
        self, utterance: str, reason: str, file: Optional[PathLike] = None, remedy: Optional[str] = None
    ) -> None:
        self.skipped.append(Skipped(utterance, reason, None if file is None else str(file), remedy))


def find_file(name: str, beside: Path) -> Path:
    """Return the absolute path of a file that a table or manifest in the folder `beside` names.

    A relative path is taken from the folder you work in where there is such a file, else from `beside` where there is.
    """
    path = Path(name)
    # os.path.exists: what can be no name of a file (too long, a NUL in it) does not exist.
    if not path.is_absolute() and not os.path.exists(path) and os.path.exists(beside / path):
        path = beside / path
    return Path(os.path.abspath(path))


def gender_of(said: Optional[str]) -> Optional[str]:
    """Return "m" or "f" for the usual words, other words in small letters, None for none."""
    word = (said if isinstance(said, str) else "").strip().lower()
    if word in ("m", "male", "man"):
        return "m"
    if word in ("f", "w", "female", "woman"):
        return "f"
    return word or None
