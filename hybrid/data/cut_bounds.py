"""What of a cut lies in its recording: a cut of another place is a problem by name, never filled up with made-up audio.

Lhotse asserts some of this and mends the rest in silence: it fills a cut that ends up to half a second after its
recording with the mirror image of the speech before.
"""

from __future__ import annotations

import math
from typing import Any, Optional

from lhotse.cut import Cut, MixedCut, PaddingCut
from lhotse.utils import fastcopy

from hybrid.errors import DataError

SLACK = 0.1  # s that a cut or utterance may reach beyond its recording: rounded times of other programs


def within_recording(cut: Cut) -> Cut:
    """Returns the cut, or where it ends after its recording by up to SLACK a copy that ends with it.

    Of a mixed cut all tracks are looked at. Raises DataError that names the cut and its recording's file: no recording,
    no such channel, times that are no times, an end or a start beyond the recording.
    """
    if not isinstance(cut, MixedCut):
        return _within(cut, cut.id)
    tracks = [
        track if isinstance(track.cut, PaddingCut) else fastcopy(track, cut=_within(track.cut, cut.id))
        for track in cut.tracks
    ]
    return cut if all(new.cut is old.cut for new, old in zip(tracks, cut.tracks)) else fastcopy(cut, tracks=tracks)


def _within(cut: Any, identifier: str) -> Any:
    recording = getattr(cut, "recording", None)
    if recording is None:
        raise DataError(
            "the cut has no recording", utterance=identifier,
            remedy="give cuts with recordings, such as lhotse cut simple -r RECORDINGS makes",
        )  # fmt: skip
    file = next((str(source.source) for source in recording.sources if source.type == "file"), None)
    _check_channels(cut, identifier, file)
    start, duration, recording_duration = float(cut.start), float(cut.duration), float(recording.duration)
    if not (math.isfinite(start) and math.isfinite(duration) and start >= 0 and duration > 0):
        raise DataError(
            f"the cut starts at {start:g} s and is {duration:g} s long", file=file, utterance=identifier,
            remedy="mend its times: a start of 0 or more, a duration above 0",
        )  # fmt: skip
    beyond = start + duration - recording_duration
    if beyond <= 0.5 / recording.sampling_rate:  # times are rounded to samples
        return cut
    if beyond > SLACK + 1e-9 or start >= recording_duration:
        position = f"starts at {start:g} s" if start >= recording_duration else f"ends at {start + duration:g} s"
        raise DataError(
            f"the cut {position}, its recording is {recording_duration:g} s long", file=file, utterance=identifier,
            remedy="mend its times: they do not belong to this recording",
        )  # fmt: skip
    return fastcopy(cut, duration=recording_duration - start)


def _check_channels(cut: Any, identifier: str, file: Optional[str]) -> None:
    channels = cut.channel if isinstance(cut.channel, (list, tuple, set)) else [cut.channel]
    available = list(cut.recording.channel_ids)
    missing = [channel for channel in channels if channel not in available]
    if missing:
        raise DataError(
            f"no channel {', '.join(map(str, missing))}: the recording has {', '.join(map(str, available))}", file=file,
            utterance=identifier, remedy="give the cut one of these channels",
        )  # fmt: skip
