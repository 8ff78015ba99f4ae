"""Which channel of a recording an utterance is on."""

from __future__ import annotations

from collections import defaultdict
from typing import Dict, Iterable, List, Mapping, Optional, Set

from lhotse import Recording

from hybrid.corpus.listing import Utterance
from hybrid.corpus.reading import Reading
from hybrid.errors import DataError

FIRST = "have several channels: the first is taken"
TIERS = "have several channels: the tiers of their TextGrids are shared out over them in order, as MFA does"


class Channels:
    """The channel of each utterance, and `notes` of how it was chosen where nobody said it."""

    def __init__(self, utterances: Iterable[Utterance], reading: Reading) -> None:
        self.chosen = reading.channel
        self._talkers = _talkers(utterances)
        self._unsaid: Dict[str, Dict[str, str]] = {FIRST: {}, TIERS: {}}

    def of(self, one: Utterance, recording: Recording, path: str) -> int:
        """Return the utterance's channel, counted from 0.

        Raises DataError for a channel that the recording lacks, for an utterance of another channel than was chosen,
        and for tiers that cannot be shared out.
        """
        channels = sorted(recording.channel_ids or [0])
        channel = self._wanted(one, recording, channels)
        if channel is None:
            channel = self._unsaid_channel(one, recording, channels, path)
        if channel in channels:
            return channel
        if channel == 0 and len(channels) == 1:
            return channels[0]  # manifests say 0 where they mean "the one that there is"
        raise DataError(
            f"there is no channel {channel}: the audio has {', '.join(map(str, channels))} (counted from 0)",
            remedy="mend the channel, or choose one that is there",
        )

    def _wanted(self, utterance: Utterance, recording: Recording, channels: List[int]) -> Optional[int]:
        if self.chosen is None or len(channels) == 1:
            return utterance.channel
        if recording.id in self._talkers and utterance.channel is not None and utterance.channel != self.chosen:
            raise DataError(
                f"it is on channel {utterance.channel}, and channel {self.chosen} was chosen",
                remedy="choose no channel, and each utterance is read from its own",
            )
        return self.chosen

    def _unsaid_channel(self, utterance: Utterance, recording: Recording, channels: List[int], path: str) -> int:
        if len(channels) == 1:
            return channels[0]
        place, tiers = utterance.tier or (0, 1)
        if tiers > 1 and tiers % len(channels):
            raise DataError(
                f"nobody can say which of {len(channels)} channels each of the {tiers} tiers of its TextGrid is on",
                remedy=f"make the tiers {len(channels)}, or a multiple, in the order of the channels; or choose a "
                "channel for all",
            )
        self._unsaid[TIERS if tiers > 1 else FIRST].setdefault(recording.id, path)
        return channels[place * len(channels) // tiers]

    @property
    def notes(self) -> List[str]:
        return [
            f"{len(files)} recordings {what} (the first: {next(iter(files.values()))})"
            for what, files in self._unsaid.items()
            if files
        ]


def _talkers(utterances: Iterable[Utterance]) -> Mapping[str, Set[int]]:
    """The channels that the utterances of a recording name, of recordings where those are several.

    A manifest that names one channel throughout may only mean "the first"; one that names two tells talkers apart.
    """
    channels: Dict[str, Set[int]] = defaultdict(set)
    for utterance in utterances:
        if utterance.recording is not None and utterance.channel is not None:
            channels[utterance.recording].add(utterance.channel)
    return {recording: numbers for recording, numbers in channels.items() if len(numbers) > 1}
