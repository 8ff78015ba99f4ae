"""Which channel of a recording an utterance is on."""

from __future__ import annotations

from collections import defaultdict
from typing import Dict, Iterable, Mapping, Set, Tuple

from lhotse import Recording

from hybrid.corpus.listing import Utterance
from hybrid.corpus.reading import Reading
from hybrid.errors import DataError


def talkers(utterances: Iterable[Utterance]) -> Dict[str, Set[int]]:
    """Return the channels that the utterances of each recording name, of recordings where those are several.

    A manifest that names one channel throughout may only mean "the first"; one that names two tells talkers apart.
    """
    named: Dict[str, Set[int]] = defaultdict(set)
    for one in utterances:
        if one.recording is not None and one.channel is not None:
            named[one.recording].add(one.channel)
    return {recording: channels for recording, channels in named.items() if len(channels) > 1}


def choose_channel(
    one: Utterance, recording: Recording, reading: Reading, sides: Mapping[str, Set[int]]
) -> Tuple[int, bool]:
    """Return (channel, whether it is a guess).

    Raises DataError for a channel that the recording lacks, and for an utterance of another channel than was chosen.
    """
    there = sorted(recording.channel_ids or [0])
    wanted = one.channel
    if reading.channel is not None and len(there) > 1:
        if recording.id in sides and wanted is not None and wanted != reading.channel:
            raise DataError(
                f"it is on channel {wanted}, and channel {reading.channel} was chosen",
                remedy="choose no channel, and each utterance is read from its own",
            )
        wanted = reading.channel
    if wanted is None:
        return there[0], len(there) > 1
    if wanted in there:
        return wanted, False
    if wanted == 0 and len(there) == 1:
        return there[0], False  # manifests say 0 where they mean "the one that there is"
    shown = ", ".join(map(str, there))
    raise DataError(
        f"there is no channel {wanted}: the audio has {shown} (counted from 0)",
        remedy="mend the channel, or choose one that is there",
    )
