"""How a corpus is to be read: what its files do not say themselves."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from hybrid.errors import ConfigError


@dataclass(frozen=True)
class Reading:
    """data: the unpacked corpus of `lhotse:NAME`.

    speaker, of audio folders: 0, the folder is the speaker; N, the first N letters of the file's name; a str, a regular
    expression whose first group, searched in the file's name without its ending, is the speaker.
    channel: of recordings with several, counted from 0; None: what manifest or TextGrid says, else the first (a note).
    decode: read every audio file to its end, else headers only (what they hide, later stages find).
    min_duration: seconds; shorter utterances are skipped. Two frames fit no word.
    transcripts: False for untranscribed speech: those that are there are not looked at, and every text is None.
    cache: a folder for what reading makes: audio converted by ffmpeg or unpacked from Shar, manifests of Lhotse's
    recipes. None: a temporary folder that is deleted when the process ends, and no conversion.
    """

    data: Optional[Path] = None
    speaker: Union[int, str] = 0
    channel: Optional[int] = None
    decode: bool = False
    min_duration: float = 0.05
    transcripts: bool = True
    cache: Optional[Path] = None

    def __post_init__(self) -> None:
        """Raises ConfigError for what cannot be meant."""
        if isinstance(self.speaker, str):
            try:
                groups = re.compile(self.speaker).groups
            except re.error as error:
                raise ConfigError(
                    f"the speaker's pattern {self.speaker!r} is no regular expression: {error}",
                    remedy=r"for example ^(\w+?)- for the letters before the first hyphen",
                ) from None
            if not groups:
                raise ConfigError(
                    f"the speaker's pattern {self.speaker!r} has no group",
                    remedy=r"put what names the speaker into ( ), for example ^(\w+?)-",
                )
        elif isinstance(self.speaker, bool) or not isinstance(self.speaker, int) or self.speaker < 0:
            raise ConfigError(f"speaker is {self.speaker!r}", remedy="a number of letters from 0, or a pattern")
        if self.channel is not None and (
            isinstance(self.channel, bool) or not isinstance(self.channel, int) or self.channel < 0
        ):
            raise ConfigError(f"channel is {self.channel!r}", remedy="a number; the first channel is 0")
        if not (math.isfinite(self.min_duration) and self.min_duration > 0):
            raise ConfigError(f"min_duration is {self.min_duration!r}", remedy="seconds, above 0")
