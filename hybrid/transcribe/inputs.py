"""What is to be transcribed: files, folders of them, Kaldi data folders, Lhotse manifests; every loss named.

Lhotse, which takes seconds to load, is imported where there are manifests or folders, not for files.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from hybrid.corpus.listing import Skipped
from hybrid.corpus.text import plain_id
from hybrid.data.audio import inspect
from hybrid.data.containers import FOREIGN, READABLE
from hybrid.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.cut import Cut

_MANIFESTS = (".jsonl", ".jsonl.gz", ".json", ".yaml", ".yml")
ALL = -1  # in place of a channel: each by itself


class Item(NamedTuple):
    """One channel of a recording, or a part of it. start, seconds: of the part; whole: whether it is all of the
    recording; source: a file, or a cut; files: what it is read from."""

    id: str
    recording: str
    channel: int
    start: float
    seconds: float
    whole: bool
    source: Union[str, Cut]
    files: Tuple[str, ...]


@dataclass
class Speech:
    """speakers: id -> speaker, of items whose manifest names one; skipped: what cannot be transcribed, and why."""

    items: List[Item] = field(default_factory=list)
    speakers: Dict[str, str] = field(default_factory=dict)
    skipped: List[Skipped] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)


def list_speech(sources: Sequence[Path], cache: Optional[Path] = None, channel: Optional[int] = None) -> Speech:
    """Return what is in `sources`. cache: a folder for audio that ffmpeg converts; channel: of recordings with several,
    counted from 0; None: the first, or what a manifest says; ALL: each as an item of its own, `ID-0`, `ID-1` ...

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
    if errors and not speech.items:
        raise errors[0]
    seen = set()
    for item in speech.items:
        if item.id in seen:
            raise DataError(
                f"two recordings of the name {item.id!r}", file=item.files[0] if item.files else None,
                utterance=item.id,
                remedy="give the folder above them, whose names then tell them apart, or rename one",
            )  # fmt: skip
        seen.add(item.id)
    return speech


def _add(speech: Speech, source: Path, cache: Optional[Path], channel: Optional[int]) -> None:
    if source.suffix.lower() in {*READABLE, *FOREIGN} or (source.is_file() and not source.name.endswith(_MANIFESTS)):
        speech.items += _file(source, cache, channel, speech.notes)
        return
    from hybrid.corpus import Reading, read_corpus

    reading = Reading(transcripts=False, cache=cache, channel=None if channel == ALL else channel)
    corpus = read_corpus(source, reading)
    named = not corpus.form.startswith("folder of audio")  # whose folders are no speakers here
    for cut in corpus.cuts:
        items = _channels(cut) if channel == ALL else [_item(cut)]
        speaker = cut.supervisions[0].speaker if cut.supervisions else None
        if named and speaker:
            speech.speakers.update((item.id, speaker) for item in items)
        speech.items += items
    speech.skipped += corpus.skipped
    speech.notes += corpus.notes


def _file(path: Path, cache: Optional[Path], channel: Optional[int], notes: List[str]) -> List[Item]:
    if path.suffix.lower() in FOREIGN:
        from hybrid.corpus.convert import readable

        path_read = readable(path, cache)
    else:
        path_read = path
    info = inspect(path_read)
    name = plain_id(path.stem)
    if info.channels > 1 and channel is None:
        notes.append(f"{path} has {info.channels} channels: the first is transcribed (--channel chooses, or all)")
    chosen = 0 if channel is None or channel == ALL else channel
    if chosen >= info.channels:
        raise DataError(f"no channel {chosen}: there are {info.channels}", file=path, remedy="give another --channel")
    one = Item(name, name, chosen, 0.0, info.duration, True, str(path_read), (str(path_read),))
    if channel != ALL or info.channels < 2:
        return [one]
    return [one._replace(id=f"{name}-{number}", channel=number) for number in range(info.channels)]


def _item(cut: MonoCut) -> Item:
    assert cut.recording is not None
    files = tuple(str(source.source) for source in cut.recording.sources if source.type == "file")
    whole = cut.duration >= cut.recording.duration - 0.1
    return Item(cut.id, cut.recording_id, int(cut.channel), cut.start, cut.duration, whole, cut, files)


def _channels(cut: MonoCut) -> List[Item]:
    if cut.recording is None or cut.recording.num_channels < 2:
        return [_item(cut)]
    return [
        _item(replace(
            cut, id=f"{cut.id}-{channel}", channel=channel,
            supervisions=[replace(one, channel=channel) for one in cut.supervisions],
        ))
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
