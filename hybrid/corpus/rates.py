"""Sampling rates: a set of cuts has one, the corpus's own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Dict, List, Sequence, Tuple

from lhotse import MonoCut, Recording

from hybrid.errors import DataError


def common_rate(cuts: Sequence[MonoCut]) -> int:
    """Return the sampling rate in Hz that most of the speech has, by seconds; of two with as much the lower.

    Raises DataError where there is no cut.
    """
    seconds: Dict[int, float] = defaultdict(float)
    for cut in cuts:
        seconds[cut.sampling_rate] += cut.duration
    if not seconds:
        raise DataError("no cut, and so no sampling rate", remedy="read problems.jsonl and mend the corpus")
    return min(seconds, key=lambda rate: (-round(seconds[rate], 3), rate))


def at_rate(cuts: Sequence[MonoCut], rate: int) -> Tuple[List[MonoCut], List[str]]:
    """Return the cuts at `rate` Hz, and a line about each other rate that there was.

    Audio of another rate is resampled when it is read. A cut of a whole recording stays that of the whole.
    """
    new_cuts: List[MonoCut] = []
    resampled: Dict[Tuple[str, ...], Recording] = {}
    rates: Dict[int, Dict[str, None]] = defaultdict(dict)
    for cut in cuts:
        if cut.sampling_rate == rate:
            new_cuts.append(cut)
            continue
        # Two corpora may have recordings of the same id.
        key = (cut.recording.id, *(str(source.source) for source in cut.recording.sources))
        recording = resampled.get(key)
        if recording is None:
            recording = resampled[key] = cut.recording.resample(rate)
            rates[cut.sampling_rate][key[1]] = None
        whole = cut.start == 0.0 and cut.duration == cut.recording.duration
        duration = recording.duration if whole else min(cut.duration, round(recording.duration - cut.start, 8))
        supervisions = [
            replace(supervision, duration=duration) if supervision.duration == cut.duration else supervision
            for supervision in cut.supervisions
        ]
        new_cuts.append(replace(cut, recording=recording, duration=duration, supervisions=supervisions))
    notes = [
        f"{len(names)} recordings at {other_rate} Hz are resampled to {rate} Hz (the first: {next(iter(names))})"
        for other_rate, names in sorted(rates.items())
    ]
    return new_cuts, notes
