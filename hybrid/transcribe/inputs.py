"""What is to be transcribed: files, folders of them, Kaldi data folders, Lhotse manifests; every loss named."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from lhotse import MonoCut, SupervisionSegment

from hybrid.corpus import read_corpus
from hybrid.corpus.convert import readable
from hybrid.corpus.listing import Skipped
from hybrid.corpus.reading import Reading
from hybrid.corpus.text import plain_id
from hybrid.data.audio import inspect
from hybrid.data.containers import FOREIGN, READABLE
from hybrid.errors import ConfigError, DataError

_MANIFESTS = (".jsonl", ".jsonl.gz", ".json", ".yaml", ".yml")
ALL = -1  # in place of a channel: each by itself


@dataclass
class Speech:
    """cuts: each with a supervision that names it; speakers: id -> speaker, of cuts whose manifest names one; skipped:
    what cannot be transcribed, and why."""

    cuts: List[MonoCut] = field(default_factory=list)
    speakers: Dict[str, str] = field(default_factory=dict)
    skipped: List[Skipped] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)


def list_speech(sources: Sequence[Path], cache: Optional[Path] = None, channel: Optional[int] = None) -> Speech:
    """Return what is in `sources`. cache: a folder for audio that ffmpeg converts; channel: of recordings with several,
    counted from 0; None: the first, or what a manifest says; ALL: each as a cut of its own, `ID-0`, `ID-1` ...

    Raises DataError where two sources name their speech alike, and where none can be read.
    """
    speech = Speech()
    errors: List[DataError] = []
    for source in sources:
        try:
            _add(speech, source, cache, channel)
        except DataError as error:
            errors.append(error)
            file = None if error.file is None else str(error.file)
            speech.skipped.append(Skipped(plain_id(source.stem), error.what, file, error.remedy))
    if errors and not speech.cuts:
        raise errors[0]
    if channel == ALL:
        speech.cuts = [one for cut in speech.cuts for one in _channels(cut)]
    seen: Dict[str, MonoCut] = {}
    for cut in speech.cuts:
        if cut.id in seen:
            raise DataError(
                f"two recordings of the name {cut.id!r}", file=cut.recording.sources[0].source, utterance=cut.id,
                remedy="give the folder above them, whose names then tell them apart, or rename one",
            )  # fmt: skip
        seen[cut.id] = cut
    return speech


def _add(speech: Speech, source: Path, cache: Optional[Path], channel: Optional[int]) -> None:
    if source.suffix.lower() in {*READABLE, *FOREIGN} or (source.is_file() and not source.name.endswith(_MANIFESTS)):
        speech.cuts.append(_file(source, cache, channel, speech.notes))
        return
    reading = Reading(transcripts=False, cache=cache, channel=None if channel == ALL else channel)
    corpus = read_corpus(source, reading)
    named = not corpus.form.startswith("folder of audio")  # whose folders are no speakers here
    for cut in corpus.cuts:
        speaker = cut.supervisions[0].speaker if cut.supervisions else None
        if named and speaker:
            speech.speakers[cut.id] = speaker
    speech.cuts += corpus.cuts
    speech.skipped += corpus.skipped
    speech.notes += corpus.notes


def _file(path: Path, cache: Optional[Path], channel: Optional[int], notes: List[str]) -> MonoCut:
    info = inspect(readable(path, cache))
    name = plain_id(path.stem)
    if info.channels > 1 and channel is None:
        notes.append(f"{path} has {info.channels} channels: the first is transcribed (--channel chooses, or all)")
    chosen = 0 if channel is None or channel == ALL else channel
    if chosen >= info.channels:
        raise DataError(f"no channel {chosen}: there are {info.channels}", file=path, remedy="give another --channel")
    recording = info.recording(name)
    supervision = SupervisionSegment(name, name, 0.0, recording.duration, channel=chosen)
    return MonoCut(name, 0.0, recording.duration, chosen, [supervision], recording=recording)


def _channels(cut: MonoCut) -> List[MonoCut]:
    if cut.recording is None or cut.recording.num_channels < 2:
        return [cut]
    return [
        replace(
            cut, id=f"{cut.id}-{channel}", channel=channel,
            supervisions=[replace(one, channel=channel) for one in cut.supervisions],
        )
        for channel in sorted(cut.recording.channel_ids or range(cut.recording.num_channels))
    ]  # fmt: skip


def parse_channel(text: Optional[str]) -> Optional[int]:
    """Return the channel that `--channel` names: a number from 0, or `all`. Raises ConfigError."""
    if text is None:
        return None
    if text == "all":
        return ALL
    if not text.isdecimal():
        raise ConfigError(f"channel {text!r}", remedy="a number, from 0, or all")
    return int(text)
