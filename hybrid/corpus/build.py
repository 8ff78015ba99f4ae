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
from hybrid.data.audio import inspect, read_sphere_with_libsndfile, scan
from hybrid.data.cut_bounds import SLACK
from hybrid.errors import DataError
from hybrid.io import PathLike
from hybrid.parallel import ordered_map

MIN_RATE = 8000  # Hz; below, half of the speech is missing
Source = Union[Path, Recording, DataError]
Progress = Callable[..., Iterable[Any]]

read_sphere_with_libsndfile()


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
        """The number of utterances, used or skipped."""
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
    untranscribed = {utterance.id for utterance in utterances} if not reading.transcripts else listing.untranscribed
    utterances = [_untranscribed(utterance) if utterance.id in untranscribed else utterance for utterance in utterances]
    _without_utterance(corpus, listing)
    examined = _examine_all(corpus, listing, reading, executor, progress)
    channels = Channels(utterances, reading)
    num_unknown = 0
    for utterance in utterances:
        audio = None if utterance.recording is None else examined[utterance.recording]
        try:
            recording, path = _usable(utterance, audio, utterance.id not in untranscribed)
            channel = channels.of(utterance, recording, path)
            if isinstance(audio, _Examined) and channel in audio.faults:
                raise audio.faults[channel]
            cut = _cut(utterance, recording, channel, reading)
        except DataError as error:
            corpus.skip(utterance.id, error.what, error.file or utterance.file or _path(audio), error.remedy)
            continue
        num_unknown += utterance.speaker is None
        corpus.cuts.append(cut)
    if not listing.keep_order:
        corpus.cuts.sort(key=lambda cut: cut.id)
    corpus.notes += channels.notes
    if num_unknown:
        corpus.notes.append(
            f"{num_unknown} of {len(corpus.cuts)} utterances have no speaker: each counts as a speaker of its own"
        )
    return corpus


def _untranscribed(utterance: Utterance) -> Utterance:
    return replace(utterance, text=None, wrong=None)


def _once_each(corpus: Corpus, listing: Listing) -> List[Utterance]:
    """Skip ids that are given more than once: nobody can say which transcript or audio is the right one."""
    counts = Counter(utterance.id for utterance in listing.utterances)
    for identifier, count in counts.items():
        if count > 1:
            duplicates = [utterance for utterance in listing.utterances if utterance.id == identifier]
            examples = "; ".join(
                f"{utterance.file or utterance.recording}: {utterance.text}" for utterance in duplicates[:3]
            )
            corpus.skip(identifier, f"the id is given {count} times ({examples})", None, "give each an id of its own")
    return [utterance for utterance in listing.utterances if counts[utterance.id] == 1]


def _without_utterance(corpus: Corpus, listing: Listing) -> None:
    """Skip recordings that no utterance speaks of; what speaks of them and is skipped has been named."""
    recording_names = {utterance.recording for utterance in listing.utterances} | listing.spoken_of
    recording_names |= {row.utterance for row in corpus.skipped}
    for name, source in listing.recordings.items():
        if name in recording_names:
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
    sources = list(listing.recordings.items())
    examine = partial(_examine, decode=reading.decode, cache=reading.cache)
    results: Iterable[Union[_Examined, DataError]]
    results = map(examine, sources) if executor is None else ordered_map(executor, examine, sources)
    if progress is not None:
        results = progress(results, total=len(sources), desc="checking audio")
    examined: Dict[str, Union[_Examined, DataError]] = {}
    differences: List[str] = []
    for (name, _), result in zip(sources, results, strict=True):
        examined[name] = result
        if isinstance(result, _Examined):
            seconds = result.recording.duration
            corpus.durations[name] = seconds
            stated_seconds = listing.durations.get(name, seconds)
            if abs(stated_seconds - seconds) > SLACK:
                differences.append(f"{name}: {stated_seconds:g} s where the audio has {seconds:g} s")
    if differences:
        corpus.notes.append(
            f"{len(differences)} recordings do not last what the corpus says of them (the first: {differences[0]})"
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
        info, channel_faults = scan(source.source) if decode else (inspect(source.source), {})
        faults.update(
            {source.channels[index]: fault for index, fault in channel_faults.items() if index < len(source.channels)}
        )
        stated_size = (recording.sampling_rate, recording.num_samples)
        if recording.transforms:
            continue
        if info.sampling_rate != stated_size[0] or info.num_samples < stated_size[1]:
            raise DataError(
                f"the manifest says {stated_size[1]} samples at {stated_size[0]} Hz, the file has "
                f"{info.num_samples} at {info.sampling_rate} Hz",
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


def _path(audio: Union[_Examined, DataError, None]) -> Optional[str]:
    return audio.path if isinstance(audio, _Examined) else None if audio is None else audio.file


# ------------------------------------------------------------------ utterances


def _usable(
    utterance: Utterance, audio: Union[_Examined, DataError, None], transcribed: bool
) -> Tuple[Recording, str]:
    """Raise DataError for what is wrong with transcript or audio; else return the recording and its file."""
    if utterance.wrong is not None:
        raise DataError(utterance.wrong, remedy="mend the transcript")
    if audio is None:
        what = "no audio" if not transcribed else "neither audio nor transcript"
        what = what if utterance.text is None else "transcript without audio"
        raise DataError(what, file=utterance.file, remedy="restore the audio, or take it out of the corpus")
    if transcribed and utterance.text is None:
        raise DataError("audio without transcript", remedy="transcribe it, or take it out of the corpus")
    if transcribed and not one_line(utterance.text or ""):
        raise DataError("the transcript is empty", remedy="transcribe it, or take it out of the corpus")
    if isinstance(audio, DataError):
        raise audio
    return audio.recording, audio.path


def _cut(utterance: Utterance, recording: Recording, channel: int, reading: Reading) -> MonoCut:
    """Raise DataError where start and end are no part of the recording."""
    total = recording.duration
    end = total if utterance.end is None else utterance.end
    remedy = "mend its times"
    if not (math.isfinite(utterance.start) and math.isfinite(end)):
        raise DataError(f"from {utterance.start} to {end}: these are no times", remedy=remedy)
    if utterance.start < -SLACK or end > total + SLACK or utterance.start >= total:
        raise DataError(f"{utterance.start:g} s to {end:g} s lie outside the audio of {total:g} s", remedy=remedy)
    if end < utterance.start:
        raise DataError(f"it ends, at {end:g} s, before it starts, at {utterance.start:g} s", remedy=remedy)
    start = max(utterance.start, 0.0)
    half = 0.5 / recording.sampling_rate
    if start < half and abs(end - total) < half:
        start, end = 0.0, total  # the whole recording, whatever times have been rounded to
    end = min(end, total)
    duration = end if start == 0.0 else round(end - start, 8)
    if duration < reading.min_duration:
        raise DataError(
            f"it lasts {duration:.3f} s, less than {reading.min_duration:g} s", remedy="take it out of the corpus"
        )
    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=recording.id,
        start=0.0,
        duration=duration,
        channel=channel,
        text=None if utterance.text is None else one_line(utterance.text),
        speaker=utterance.speaker or utterance.id,
        gender=utterance.gender,
    )
    return MonoCut(utterance.id, start, duration, channel, supervisions=[supervision], recording=recording)
