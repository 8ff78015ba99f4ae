"""From what a corpus says that it holds (Listing) to cuts that can be used (Corpus), with every loss named.

The bounds are the same for every form of corpus and for all who read it: recipes, aligner, labelling.
"""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

from lhotse import MonoCut, Recording, SupervisionSegment

from hybrid.corpus.channels import Channels
from hybrid.corpus.convert import readable
from hybrid.corpus.listing import Listing, Skipped, Utterance
from hybrid.corpus.reading import Reading
from hybrid.corpus.text import one_line
from hybrid.data.audio import inspect, scan
from hybrid.data.cut_bounds import SLACK
from hybrid.errors import DataError
from hybrid.io import PathLike
from hybrid.parallel import ordered_map

MIN_RATE = 8000  # Hz; below, half of the speech is missing
Source = Union[Path, Recording, DataError]
Progress = Callable[..., Iterable[Any]]


@dataclass
class Corpus:
    """cuts: one supervision each, with id, text, speaker, and gender where it is known.

    skipped: what cannot be used; durations: seconds of all recordings whose header is sound; notes: worth knowing;
    form: which of the forms of a corpus it has.
    """

    form: str
    cuts: List[MonoCut] = field(default_factory=list)
    skipped: List[Skipped] = field(default_factory=list)
    durations: Dict[str, float] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Utterances, used or skipped."""
        return len(self.cuts) + len({row.utterance for row in self.skipped})

    def skip(
        self, utterance: str, reason: str, file: Optional[PathLike] = None, remedy: Optional[str] = None
    ) -> None:
        self.skipped.append(Skipped(utterance, reason, None if file is None else str(file), remedy))

    def drop_skipped(self) -> None:
        """Take the cuts of utterances that have been skipped since out of `cuts`."""
        skipped = {row.utterance for row in self.skipped}
        self.cuts = [cut for cut in self.cuts if cut.id not in skipped]


@dataclass(frozen=True)
class _Examined:
    """A recording that was looked at; faults: of channels that are useless, only found by decoding."""

    recording: Recording
    path: str
    faults: Dict[int, DataError] = field(default_factory=dict)


def build_corpus(
    listing: Listing,
    reading: Reading,
    *,
    executor: Optional[Executor] = None,
    progress: Optional[Progress] = None,
) -> Corpus:
    """Return the utterances that can be used as cuts, and all others by name.

    Audio is looked at by `executor`, a recording once however many utterances it has; of that, `progress` tells.
    """
    corpus = Corpus(listing.form, skipped=list(listing.skipped), notes=list(listing.notes))
    utterances = _once_each(corpus, listing)
    untranscribed = {one.id for one in utterances} if not reading.transcripts else listing.untranscribed
    utterances = [_untranscribed(one) if one.id in untranscribed else one for one in utterances]
    _without_utterance(corpus, listing)
    examined = _examine_all(corpus, listing, reading, executor, progress)
    channels = Channels(utterances, reading)
    unknown = 0
    for one in utterances:
        found = None if one.recording is None else examined[one.recording]
        try:
            recording, path = _usable(one, found, one.id not in untranscribed)
            channel = channels.of(one, recording, path)
            if isinstance(found, _Examined) and channel in found.faults:
                raise found.faults[channel]
            cut = _cut(one, recording, channel, reading)
        except DataError as error:
            corpus.skip(one.id, error.what, error.file or one.file or _path(found), error.remedy)
            continue
        unknown += one.speaker is None
        corpus.cuts.append(cut)
    if not listing.keep_order:
        corpus.cuts.sort(key=lambda cut: cut.id)
    corpus.notes += channels.notes
    if unknown:
        corpus.notes.append(
            f"{unknown} of {len(corpus.cuts)} utterances have no speaker: each counts as a speaker of its own"
        )
    return corpus


def _untranscribed(one: Utterance) -> Utterance:
    return replace(one, text=None, wrong=None)


def _once_each(corpus: Corpus, listing: Listing) -> List[Utterance]:
    """Skip ids that are given more than once: nobody can say which transcript or audio is the right one."""
    counts = Counter(one.id for one in listing.utterances)
    for identifier, count in counts.items():
        if count > 1:
            same = [one for one in listing.utterances if one.id == identifier]
            shown = "; ".join(f"{one.file or one.recording}: {one.text}" for one in same[:3])
            corpus.skip(identifier, f"the id is given {count} times ({shown})", None, "give each an id of its own")
    return [one for one in listing.utterances if counts[one.id] == 1]


def _without_utterance(corpus: Corpus, listing: Listing) -> None:
    """Skip recordings that no utterance speaks of; what speaks of them and is skipped has been named."""
    named = {one.recording for one in listing.utterances} | listing.spoken_of
    named |= {row.utterance for row in corpus.skipped}
    for name, source in listing.recordings.items():
        if name in named:
            continue
        file = source.file if isinstance(source, DataError) else _path_of(source)
        corpus.skip(name, "audio without transcript", file, "transcribe it, or take it out of the corpus")


# ------------------------------------------------------------------ audio


def _examine_all(
    corpus: Corpus,
    listing: Listing,
    reading: Reading,
    executor: Optional[Executor],
    progress: Optional[Progress],
) -> Dict[str, Union[_Examined, DataError]]:
    todo = list(listing.recordings.items())
    work = partial(_examine, decode=reading.decode, cache=reading.cache)
    results: Iterable[Union[_Examined, DataError]]
    results = map(work, todo) if executor is None else ordered_map(executor, work, todo)
    if progress is not None:
        results = progress(results, total=len(todo), desc="checking audio")
    examined: Dict[str, Union[_Examined, DataError]] = {}
    differ: List[str] = []
    for (name, _), result in zip(todo, results, strict=True):
        examined[name] = result
        if isinstance(result, _Examined):
            seconds = result.recording.duration
            corpus.durations[name] = seconds
            said = listing.durations.get(name, seconds)
            if abs(said - seconds) > SLACK:
                differ.append(f"{name}: {said:g} s where the audio has {seconds:g} s")
    if differ:
        corpus.notes.append(
            f"{len(differ)} recordings do not last what the corpus says of them (the first: {differ[0]})"
        )
    return examined


def _examine(item: Tuple[str, Source], decode: bool, cache: Optional[Path]) -> Union[_Examined, DataError]:
    name, source = item
    try:
        if isinstance(source, DataError):
            return source
        if isinstance(source, Recording):
            return _examine_manifest(source, decode)
        path = readable(source, cache)
        info, faults = scan(path) if decode else (inspect(path), {})
        _check_rate(info.sampling_rate, info.path)
        return _Examined(info.recording(name), info.path, faults)
    except DataError as error:
        return error


def _examine_manifest(recording: Recording, decode: bool) -> _Examined:
    """Compare what Lhotse's manifest says with the files. Transforms (other speeds, rates) change what it says."""
    path = _path_of(recording) or recording.id
    faults: Dict[int, DataError] = {}
    for source in recording.sources:
        if source.type != "file":
            continue
        info, found = scan(source.source) if decode else (inspect(source.source), {})
        faults.update({source.channels[index]: fault for index, fault in found.items() if index < len(source.channels)})
        said = (recording.sampling_rate, recording.num_samples)
        if recording.transforms:
            continue
        if info.sampling_rate != said[0] or info.num_samples < said[1]:
            raise DataError(
                f"the manifest says {said[1]} samples at {said[0]} Hz, the file has {info.num_samples} at "
                f"{info.sampling_rate} Hz",
                file=info.path,
                remedy="make the manifest again, or copy the file again",
            )
        if max(source.channels, default=0) >= info.channels and len(source.channels) > info.channels:
            raise DataError(
                f"the manifest says {len(source.channels)} channels, the file has {info.channels}",
                file=info.path,
                remedy="make the manifest again, or copy the file again",
            )
    _check_rate(recording.sampling_rate, path)
    return _Examined(recording, path, faults)


def _check_rate(rate: int, path: str) -> None:
    if rate < MIN_RATE:
        raise DataError(
            f"audio at {rate} Hz; at least {MIN_RATE} Hz are needed",
            file=path,
            remedy="take it out of the corpus, or get a better copy",
        )


def _path_of(source: Union[Path, Recording]) -> Optional[str]:
    if isinstance(source, Path):
        return str(source)
    files = [part.source for part in source.sources if part.type == "file"]
    return str(files[0]) if files else None


def _path(found: Union[_Examined, DataError, None]) -> Optional[str]:
    return found.path if isinstance(found, _Examined) else None if found is None else found.file


# ------------------------------------------------------------------ utterances


def _usable(
    one: Utterance, found: Union[_Examined, DataError, None], transcribed: bool
) -> Tuple[Recording, str]:
    """Raise DataError for what is wrong with transcript or audio; else return the recording and its file."""
    if one.wrong is not None:
        raise DataError(one.wrong, remedy="mend the transcript")
    if found is None:
        what = "no audio" if not transcribed else "neither audio nor transcript"
        what = what if one.text is None else "transcript without audio"
        raise DataError(what, file=one.file, remedy="restore the audio, or take it out of the corpus")
    if transcribed and one.text is None:
        raise DataError("audio without transcript", remedy="transcribe it, or take it out of the corpus")
    if transcribed and not one_line(one.text or ""):
        raise DataError("the transcript is empty", remedy="transcribe it, or take it out of the corpus")
    if isinstance(found, DataError):
        raise found
    return found.recording, found.path


def _cut(one: Utterance, recording: Recording, channel: int, reading: Reading) -> MonoCut:
    """Raise DataError where start and end are no part of the recording."""
    total = recording.duration
    stop = total if one.end is None else one.end
    mend = "mend its times"
    if not (math.isfinite(one.start) and math.isfinite(stop)):
        raise DataError(f"from {one.start} to {stop}: these are no times", remedy=mend)
    if one.start < -SLACK or stop > total + SLACK or one.start >= total:
        raise DataError(f"{one.start:g} s to {stop:g} s lie outside the audio of {total:g} s", remedy=mend)
    if stop < one.start:
        raise DataError(f"it ends, at {stop:g} s, before it starts, at {one.start:g} s", remedy=mend)
    start = max(one.start, 0.0)
    half = 0.5 / recording.sampling_rate
    if start < half and abs(stop - total) < half:
        start, stop = 0.0, total  # the whole recording, whatever times have been rounded to
    stop = min(stop, total)
    duration = stop if start == 0.0 else round(stop - start, 8)
    if duration < reading.min_duration:
        raise DataError(
            f"it lasts {duration:.3f} s, less than {reading.min_duration:g} s", remedy="take it out of the corpus"
        )
    supervision = SupervisionSegment(
        id=one.id,
        recording_id=recording.id,
        start=0.0,
        duration=duration,
        channel=channel,
        text=None if one.text is None else one_line(one.text),
        speaker=one.speaker or one.id,
        gender=one.gender,
    )
    return MonoCut(one.id, start, duration, channel, supervisions=[supervision], recording=recording)
