"""A Kaldi data folder: wav.scp and text; segments, utt2spk, spk2gender and reco2dur where there are any."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Dict, List, Optional, Union

from hybrid.corpus.listing import Listing, Utterance, find_file, gender_of
from hybrid.corpus.reading import Reading
from hybrid.corpus.text import text_lines
from hybrid.errors import DataError

_ARCHIVE = re.compile(r":\d+(\[[\d:,]*\])?$")  # PATH:OFFSET, a matrix or a file in an archive
_TWICE = "keep one of the lines"


def list_kaldi(folder: Path, reading: Reading) -> Listing:
    """List a folder. Without segments an utterance is a whole recording.

    Relative paths in wav.scp are from the folder you work in, as Kaldi has it, else from the data folder. Raises
    DataError for a missing file, a line of wav.scp that cannot be read, and a command in it.
    """
    listing = Listing("Kaldi data folder")
    for name, path in _paths(folder / "wav.scp").items():
        listing.recordings[name] = path
    texts = _table(listing, folder / "text", needed=True) if reading.transcripts else {}
    speakers = _table(listing, folder / "utt2spk", needed=False)
    genders = _genders(listing, folder / "spk2gender")
    _durations(listing, folder / "reco2dur")
    segments = _segments(listing, folder / "segments")
    table_name, file = "wav.scp" if segments is None else "segments", folder / "text"
    if segments is None:
        segments = {name: Utterance(name, name) for name in listing.recordings}
    else:
        listing.spoken_of.update(str(utterance.recording) for utterance in segments.values())
    skipped = {row.utterance for row in listing.skipped}
    for identifier in sorted({*segments, *texts} - skipped):
        if identifier not in segments:
            listing.skip(identifier, f"transcript without audio: not in {table_name}", file, f"add it to {table_name}")
            continue
        utterance = segments[identifier]
        if reading.transcripts and identifier not in texts:
            listing.skip(identifier, "audio without transcript: not in text", file, "add its line to text")
            continue
        if utterance.recording not in listing.recordings:
            reason = f"its recording {utterance.recording} is not in wav.scp"
            listing.skip(identifier, reason, folder / "segments", "add the recording to wav.scp")
            continue
        speaker = speakers.get(identifier) or None
        listing.utterances.append(
            Utterance(
                identifier, utterance.recording, texts.get(identifier), speaker, utterance.start, utterance.end,
                utterance.channel, genders.get(speaker or ""),
            )
        )  # fmt: skip
    return listing


def _paths(path: Path) -> Dict[str, Union[Path, DataError]]:
    paths: Dict[str, Union[Path, DataError]] = {}
    for number, line, wrong in text_lines(path):
        name, *rest = line.split(None, 1)
        if wrong or not rest:
            raise DataError(wrong or f"line {number} is not `recording path`", file=path, remedy="mend that line")
        if rest[0].endswith("|") or rest[0].startswith("|"):
            raise DataError(
                f"line {number}: the audio of {name} is a command, `{rest[0][:60]}`: commands are not run, because a "
                "data folder from elsewhere could then do anything on your machine",
                file=path,
                remedy="write the audio to files once (for example `sph2pipe -f wav in.sph out.wav`; 16-bit SPHERE, "
                "FLAC and WAV are read as they are) and put their paths into wav.scp",
            )
        if name in paths:
            raise DataError(f"line {number}: {name} is there twice", file=path, remedy=_TWICE)
        audio = find_file(rest[0], path.parent)
        if _ARCHIVE.search(rest[0]) and not audio.exists():
            paths[name] = DataError(
                f"the audio lies in an archive of Kaldi, {rest[0]}: archives are not read",
                file=path,
                remedy="write the audio to files once (wav-copy ark:... scp,t:...) and put their paths into wav.scp",
            )
        else:
            paths[name] = audio
    return paths


def _table(listing: Listing, path: Path, needed: bool) -> Dict[str, str]:
    """First column -> the rest of the line; utterances given twice or with bad bytes are skipped by name."""
    if not needed and not path.exists():
        return {}
    table: Dict[str, str] = {}
    faults: Dict[str, str] = {}
    for number, line, wrong in text_lines(path):
        name, *rest = line.split(None, 1)
        if wrong or name in table:
            faults[name] = wrong or f"the id is there twice in {path.name} (line {number})"
        table[name] = rest[0] if rest else ""
    for name, reason in faults.items():
        listing.skip(name, reason, path, _TWICE if "twice" in reason else "convert the file to UTF-8")
        del table[name]
    return table


def _genders(listing: Listing, path: Path) -> Dict[str, str]:
    """Speaker -> m or f; what is neither, or is given in two ways, is unknown, and a note says so."""
    genders: Dict[str, str] = {}
    odd_lines: List[str] = []
    for number, line, wrong in text_lines(path) if path.exists() else ():
        fields = line.split()
        gender = gender_of(fields[1]) if len(fields) == 2 else None
        if wrong or gender not in ("m", "f"):
            odd_lines.append(f"line {number}")
        elif genders.setdefault(fields[0], gender) != gender:
            odd_lines.append(f"line {number}")
            genders[fields[0]] = ""
    if odd_lines:
        listing.notes.append(
            f"{path}: {len(odd_lines)} lines are not `speaker m|f`, once each (the first: {odd_lines[0]})"
        )
    return {speaker: gender for speaker, gender in genders.items() if gender}


def _segments(listing: Listing, path: Path) -> Optional[Dict[str, Utterance]]:
    """`utterance recording start end [channel]`; an end of -1 is the end, a channel of -1 any, as in Kaldi."""
    if not path.exists():
        return None
    segments: Dict[str, Utterance] = {}
    lines: Dict[str, List[int]] = {}
    for number, line, wrong in text_lines(path):
        name = line.split(None, 1)[0]
        lines.setdefault(name, []).append(number)
        try:
            if wrong:
                raise ValueError(wrong)
            segments[name] = _segment(line.split())
        except ValueError as error:
            what = f"line {number} is not `utterance recording start end [channel]`: {error}"
            listing.skip(name, what, path, "mend that line")
    for name, numbers in lines.items():
        if len(numbers) > 1:
            places = ", ".join(map(str, numbers))
            listing.skip(name, f"the id is there {len(numbers)} times in {path.name} (lines {places})", path, _TWICE)
    for name in {row.utterance for row in listing.skipped} & set(segments):
        listing.spoken_of.add(str(segments.pop(name).recording))
    return segments


def _segment(fields: List[str]) -> Utterance:
    if len(fields) not in (4, 5):
        raise ValueError(f"{len(fields)} columns")
    start, end = _seconds(fields[2]), _seconds(fields[3])
    channel = int(fields[4]) if len(fields) == 5 else -1
    if channel < -1:
        raise ValueError(f"channel {channel}")
    return Utterance(
        fields[0], fields[1], start=start, end=None if end == -1 else end, channel=None if channel == -1 else channel
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no time")
    return value


def _durations(listing: Listing, path: Path) -> None:
    odd_lines: List[str] = []
    for number, line, wrong in text_lines(path) if path.exists() else ():
        try:
            name, text = line.split()
            listing.durations[name] = _seconds(text)
        except ValueError as error:
            odd_lines.append(wrong or f"line {number}: {error}")
    if odd_lines:
        listing.notes.append(f"{path}: {len(odd_lines)} lines are not `recording seconds` (the first: {odd_lines[0]})")
