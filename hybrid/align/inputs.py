"""A corpus to be aligned, whatever form it has: a folder of audio and transcripts, a Kaldi data folder, Lhotse's.

All become Lhotse cuts with one supervision each (text and speaker), the same as the recipes use. Whatever cannot be
used is kept beside them with its reason: nothing stops the reading but a corpus that is none at all.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.cut import Cut

from hybrid.data.audio import AudioInfo, inspect
from hybrid.errors import DataError
from hybrid.io import PathLike, read_json, read_jsonl

MIN_DURATION = 0.05  # s; two frames fit no word
MIN_RATE = 8000  # Hz; below, half of the speech is missing
SLACK = 0.1  # s that a segment may reach beyond its recording: rounded times of other programs


class Left(NamedTuple):
    """An utterance that is not aligned, and why."""

    utterance: str
    reason: str
    file: Optional[str] = None


@dataclass
class Corpus:
    """`durations` of the recordings in seconds, also of those with no usable utterance; `notes`: worth knowing."""

    form: str
    cuts: List[MonoCut] = field(default_factory=list)
    left: List[Left] = field(default_factory=list)
    durations: Dict[str, float] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.cuts) + len({row.utterance for row in self.left})

    def leave(self, utterance: str, reason: str, file: Optional[PathLike] = None) -> None:
        self.left.append(Left(utterance, reason, None if file is None else str(file)))

    def open(self, path: PathLike, recording: str, utterance: Optional[str] = None) -> Optional[Recording]:
        """The recording of an audio file whose header is sound; else None, and it is among those left."""
        try:
            info = inspect(path)
            if info.sampling_rate < MIN_RATE:
                raise DataError(f"audio at {info.sampling_rate} Hz; at least {MIN_RATE} Hz are needed", file=path)
        except DataError as error:
            self.leave(utterance or recording, error.what, error.file)
            return None
        self._note(info)
        self.durations[recording] = info.duration
        return info.recording(recording)

    def add(
        self, identifier: str, recording: Recording, start: float, end: Optional[float], speaker: str, text: str
    ) -> None:
        """One utterance from `start` to `end` (None: to the end) seconds of the recording."""
        file = recording.sources[0].source if recording.sources else None
        stop = recording.duration if end is None else end
        if not text.strip():
            self.leave(identifier, "the transcript is empty", file)
        elif start < 0 or stop > recording.duration + SLACK or start >= recording.duration:
            self.leave(
                identifier, f"{start:g} s to {stop:g} s lie outside the audio of {recording.duration:g} s", file
            )
        elif min(stop, recording.duration) - start < MIN_DURATION:
            self.leave(identifier, f"it lasts {stop - start:.3f} s, less than {MIN_DURATION:g} s", file)
        else:
            self.cuts.append(_cut(identifier, recording, start, min(stop, recording.duration), speaker, text))

    def _note(self, info: AudioInfo) -> None:
        if info.channels > 1:
            self.notes.append(f"{info.path} has {info.channels} channels: the first is taken")


def _cut(identifier: str, recording: Recording, start: float, end: float, speaker: str, text: str) -> MonoCut:
    duration = round(end - start, 8)
    channel = recording.channel_ids[0] if recording.channel_ids else 0
    supervision = SupervisionSegment(identifier, recording.id, 0.0, duration, channel, text.strip(), speaker=speaker)
    return MonoCut(identifier, start, duration, channel, supervisions=[supervision], recording=recording)


def plain_id(name: str) -> str:
    """A name without blanks, which part the columns of a CTM."""
    return re.sub(r"\s+", "_", name.strip())


def read_corpus(path: PathLike, *, speaker_characters: int = 0) -> Corpus:
    """Reads any of the three forms; `speaker_characters`: the speaker is so much of a file's name (folders only).

    Raises DataError where there is nothing of the kind, or a file that all depends on cannot be read.
    """
    from hybrid.align.folder import read_folder
    from hybrid.align.kaldi import read_kaldi

    path = Path(path)
    if not path.exists():
        raise DataError("no such corpus", file=path, remedy="give a folder, a Kaldi data folder or a Lhotse manifest")
    if path.is_file():
        corpus = _read_manifest(path)
    elif (path / "wav.scp").is_file():
        corpus = read_kaldi(path)
    else:
        manifests = _manifests(path)
        corpus = _read_manifest(manifests) if manifests else read_folder(path, speaker_characters=speaker_characters)
    if not corpus.total:
        raise DataError(
            "no utterance in the corpus",
            file=path,
            remedy="give a folder with audio files and a .lab, .txt or .TextGrid beside each",
        )
    _one_of_each(corpus)
    return corpus


def _one_of_each(corpus: Corpus) -> None:
    """Ids given more than once are left out: nobody can say which one is meant."""
    counts = Counter(cut.id for cut in corpus.cuts)
    for identifier, count in counts.items():
        if count > 1:
            corpus.leave(identifier, f"the id is given {count} times")
    corpus.cuts = sorted((cut for cut in corpus.cuts if counts[cut.id] == 1), key=lambda cut: cut.id)


# ------------------------------------------------------------------ Lhotse


def _manifests(folder: Path) -> Optional[Path]:
    """The manifest of cuts, else of recordings, in a folder made by lhotse."""
    for kind in ("cuts", "recordings"):
        found = sorted(folder.glob(f"*{kind}*.jsonl*"))
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise DataError(f"several manifests of {kind}: {names}", file=folder, remedy="give one of them as CORPUS")
        if found:
            return found[0]
    return None


def _rows(path: Path) -> List[Dict[str, Any]]:
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".json")):
        remedy = "give a folder, or a manifest of Lhotse named *.jsonl or *.jsonl.gz"
        raise DataError("a file that is no manifest", file=path, remedy=remedy)
    try:
        rows = read_json(path) if path.suffix == ".json" else read_jsonl(path)
    except DataError as error:
        raise DataError(error.what, file=path, remedy="write the manifest again with lhotse") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise DataError("not a list of Lhotse's manifests", file=path, remedy="write the manifest again with lhotse")
    return rows


def _read_manifest(path: Path) -> Corpus:
    rows = _rows(path)
    corpus = Corpus(f"Lhotse manifest {path.name}")
    if "sources" in rows[0]:
        other = path.with_name(path.name.replace("recordings", "supervisions"))
        if other == path or not other.is_file():
            raise DataError(
                "recordings without supervisions",
                file=path,
                remedy="put the supervisions beside them under the same name (recordings -> supervisions), or give "
                "cuts",
            )
        _read_supervisions(corpus, rows, _rows(other), path)
    else:
        _read_cuts(corpus, rows, path)
    return corpus


def _read_supervisions(
    corpus: Corpus, recordings: List[Dict[str, Any]], rows: List[Dict[str, Any]], path: Path
) -> None:
    known: Dict[str, Optional[Recording]] = {}
    for row in recordings:
        try:
            recording = Recording.from_dict(row)
        except (KeyError, TypeError, ValueError) as error:
            what = f"not a recording: {row.get('id')}: {error!r}"
            raise DataError(what, file=path, remedy="mend the manifest") from None
        known[recording.id] = _checked(corpus, recording)
    used = set()
    for row in rows:
        try:
            one = SupervisionSegment.from_dict(row)
        except (KeyError, TypeError, ValueError) as error:
            corpus.leave(str(row.get("id")), f"not a supervision: {error!r}", path)
            continue
        used.add(one.recording_id)
        if one.recording_id not in known:
            corpus.leave(one.id, f"no recording {one.recording_id} among the recordings", path)
        elif (found := known[one.recording_id]) is None:
            reason = next(row.reason for row in corpus.left if row.utterance == one.recording_id)
            corpus.leave(one.id, reason)
        else:
            corpus.add(one.id, found, one.start, one.end, one.speaker or one.id, one.text or "")
    bad = {identifier for identifier in used if known.get(identifier) is None}
    corpus.left = [row for row in corpus.left if row.utterance not in bad]  # said for each of their utterances
    for identifier in sorted(set(known) - used):
        if known[identifier] is not None:
            corpus.leave(identifier, "audio without transcript")


def _checked(corpus: Corpus, recording: Recording) -> Optional[Recording]:
    """The same where its file is as the manifest says; else None, and it is among those left."""
    try:
        for source in recording.sources if not recording.transforms else []:
            if source.type != "file":
                continue
            info = inspect(source.source)
            said = (recording.sampling_rate, recording.num_samples)
            if info.sampling_rate != said[0] or info.num_samples < said[1]:
                raise DataError(
                    f"the manifest says {said[1]} samples at {said[0]} Hz, the file has {info.num_samples} at "
                    f"{info.sampling_rate} Hz",
                    file=source.source,
                )
    except DataError as error:
        corpus.leave(recording.id, error.what, error.file)
        return None
    corpus.durations[recording.id] = recording.duration
    return recording


def _read_cuts(corpus: Corpus, rows: List[Dict[str, Any]], path: Path) -> None:
    try:
        cuts: List[Cut] = list(CutSet.from_dicts(rows))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not cuts: {error!r}", file=path, remedy="write the manifest again with lhotse") from None
    for cut in cuts:
        if not isinstance(cut, MonoCut) or cut.recording is None:
            kind = "no audio" if isinstance(cut, MonoCut) else f"a {type(cut).__name__}"
            corpus.leave(cut.id, f"{kind}: only cuts of one recording are aligned", path)
            continue
        if cut.recording.id not in corpus.durations:
            before = len(corpus.left)
            if _checked(corpus, cut.recording) is None:
                corpus.left[before:] = [Left(cut.id, row.reason, row.file) for row in corpus.left[before:]]
                continue
        if not cut.supervisions:
            corpus.leave(cut.id, "a cut without transcript", path)
        for one in cut.supervisions:
            identifier = one.id if len(cut.supervisions) > 1 else cut.id
            start = max(cut.start + one.start, 0.0)
            corpus.add(identifier, cut.recording, start, cut.start + one.end, one.speaker or identifier, one.text or "")
